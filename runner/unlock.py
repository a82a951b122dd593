"""Healing after a pod that died without releasing its lock (D8).

restic takes a lock for stale when it is of the same host name and its process is gone. This pod
has the dead one's host name. But process numbers are small in a fresh container: restic would
often find its own number in the lock and take the lock for alive. So the numbers up to those in
the locks are used up first.
"""

import json
import os
import threading
from time import monotonic

from controller.api.report import HostReport, Reason
from runner.failure import RunError, failure_of
from runner.repository import Repository
from runner.restic import command
from runner.restic.outcome import Outcome

USING_UP_S = 60.0


def unlock(repository: Repository) -> HostReport:
    """Remove the stale locks of this host name, and those older than 30 minutes."""
    started = monotonic()
    reason = error = ""
    try:
        removed = _unlock(repository)
        repository.log.info("unlocked", removed=removed)
    except RunError as err:
        reason, error = err.reason, err.text
    return HostReport(
        hostname=repository.job.host,
        succeeded=not reason,
        reason=reason,
        error=error,
        duration_s=round(monotonic() - started, 6),
    )


def _unlock(repository: Repository) -> int:
    before = _locks(repository)
    if not before:
        return 0
    own = os.uname().nodename
    numbers = [_pid(repository, lock, own) for lock in before]
    if not _use_up(max(numbers)):
        raise RunError(
            Reason.STEP_FAILED,
            f"process number {max(numbers)} of a lock could not be passed in {USING_UP_S:.0f} s",
        )
    _checked(repository, repository.run(command.unlock()), "unlock")
    return len(before) - len(_locks(repository))


def _locks(repository: Repository) -> list[str]:
    outcome = repository.run(command.list_locks(), keep_document=True)
    _checked(repository, outcome, "list locks")
    repository.identify()
    return outcome.document.decode("ascii", "replace").split()


def _pid(repository: Repository, lock: str, host: str) -> int:
    """Return the number of the lock's process if it was of this host name, else 0."""
    outcome = repository.run(command.cat_lock(lock), keep_document=True)
    if not outcome.succeeded:
        # Released between the listing and now.
        return 0
    try:
        raw = json.loads(outcome.document)
    except (ValueError, RecursionError):
        return 0
    if not isinstance(raw, dict) or raw.get("hostname") != host:
        return 0
    pid = raw.get("pid")
    return pid if isinstance(pid, int) else 0


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
