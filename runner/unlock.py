"""Healing after a process that died without releasing its lock (D8).

restic takes a lock for stale when it is of the same host name and its process is gone. The pod of
an unlock Job has the dead one's host name. But process numbers are small in a fresh container:
restic would often find its own number in the lock and take the lock for alive. So the numbers up
to those in the locks are used up first.

restic also takes a lock for stale that is older than 30 minutes, by the clocks of two nodes: the
one that wrote it, and the one that reads it. Whoever is locked out does not rely on them alone.
"""

import json
import math
import os
import threading
from dataclasses import dataclass
from time import monotonic

from controller.api.report import HostReport, Reason
from runner.failure import RunError, failure_of
from runner.log import now_s
from runner.repository import Repository, parse_unix_s
from runner.restic import command
from runner.restic.outcome import Outcome

USING_UP_S = 60.0
WATCH_S = 420.0
"""A process that lives replaces its lock every 5 minutes; the rest is for a slow backend."""
OLD_S = 1800.0 - WATCH_S - 60.0
"""From this age on restic may call a lock stale by the time at which it was watched."""


@dataclass(frozen=True, slots=True)
class _Lock:
    """`pid` is 0 unless it is of this host name. `is_old`: see `OLD_S`."""

    pid: int = 0
    is_old: bool = False


def unlock(repository: Repository) -> HostReport:
    """Remove the stale locks of this host name, and those older than 30 minutes."""
    started = monotonic()
    reason = error = ""
    try:
        _heal(repository)
    except RunError as err:
        reason, error = err.reason, err.text
    return HostReport(
        hostname=repository.job.host,
        succeeded=not reason,
        reason=reason,
        error=error,
        duration_s=round(monotonic() - started, 6),
    )


def heal(repository: Repository) -> bool:
    """Remove what nobody holds any more of the locks that kept a command out.

    Tell whether it is to be tried again.
    """
    try:
        return _heal(repository)
    except RunError as err:
        repository.log.warning("locks_left", reason=err.reason, error=err.text)
        # Then the command itself says so, at once.
        return err.reason in (Reason.INTERRUPTED, Reason.DEADLINE_EXCEEDED)


def _heal(repository: Repository) -> bool:
    """Remove stale locks; tell whether there are fewer now, or told to end meanwhile."""
    locks = _locks(repository)
    old = {lock_id for lock_id, lock in locks.items() if lock.is_old}
    if old:
        repository.log.info("old_locks", ids=sorted(old), watched_s=WATCH_S)
        if not repository.wait(WATCH_S):
            return True
        earlier, locks = locks, _locks(repository)
        if any(lock.is_old for lock_id, lock in locks.items() if lock_id not in earlier):
            # Just made, and old all the same. What a live backup without its lock has uploaded, a
            # neighbour's prune removes.
            text = "a lock that is in use looks old: the clocks of the nodes differ"
            repository.log.warning("locks_left", error=text)
            return False
        if not old & locks.keys():
            return True
    if locks and not old and not any(lock.pid for lock in locks.values()):
        return False
    removed = _remove_stale(repository, locks) if locks else 0
    repository.log.info("unlocked", removed=removed)
    return removed > 0 or not locks


def _remove_stale(repository: Repository, locks: dict[str, _Lock]) -> int:
    """Return how many are gone afterwards."""
    highest = max(lock.pid for lock in locks.values())
    if not _use_up(highest):
        raise RunError(
            Reason.STEP_FAILED,
            f"process number {highest} of a lock could not be passed in {USING_UP_S:.0f} s",
        )
    _checked(repository, repository.run(command.unlock()), "unlock")
    return len(locks.keys() - _ids(repository))


def _locks(repository: Repository) -> dict[str, _Lock]:
    return {lock_id: _lock(repository, lock_id) for lock_id in _ids(repository)}


def _ids(repository: Repository) -> list[str]:
    outcome = repository.run(command.list_locks(), keep_document=True)
    _checked(repository, outcome, "list locks")
    repository.identify()
    return outcome.document.decode("ascii", "replace").split()


def _lock(repository: Repository, lock_id: str) -> _Lock:
    outcome = repository.run(command.cat_lock(lock_id), keep_document=True)
    if not outcome.succeeded:
        # Released between the listing and now.
        return _Lock()
    try:
        raw = json.loads(outcome.document)
    except (ValueError, RecursionError):
        return _Lock()
    if not isinstance(raw, dict):
        return _Lock()
    pid = raw.get("pid") if raw.get("hostname") == os.uname().nodename else 0
    return _Lock(pid if isinstance(pid, int) else 0, now_s() - _time_s(raw.get("time")) > OLD_S)


def _time_s(moment: object) -> float:
    try:
        return parse_unix_s(str(moment))
    except RunError:
        return math.inf


def _use_up(highest: int) -> bool:
    """Start and end threads, which take process numbers too, until they are above `highest`."""
    until = monotonic() + USING_UP_S
    last = [0]

    def note() -> None:
        last[0] = threading.get_native_id()

    while last[0] <= highest:
        if monotonic() > until:
            return False
        thread = threading.Thread(target=note)
        thread.start()
        thread.join()
    return True


def _checked(repository: Repository, outcome: Outcome, verb: str) -> None:
    if not outcome.succeeded:
        raise failure_of(outcome, repository.job, verb)
