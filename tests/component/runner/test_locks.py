"""Locks that nobody holds any more, and those that only look so, with a real restic."""

import hashlib
import json
import os
import subprocess
import threading
import time
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from controller.api.job_input import JobInput, Retention
from controller.api.report import HostReport, Reason, StepState
from runner import unlock
from runner.backup import Backup
from runner.log import Log, rfc3339
from runner.redaction import Redactor
from runner.repository import Repository
from runner.restic.process import Interruption
from runner.settings import Settings
from tests.component.runner.test_faults import SHORT_RETRY, holding, locks
from tests.support.runner import Place

HEALED = ["list", "cat", "unlock", "list"]


def openssl(cipher: str, key: bytes, text: bytes, *options: str) -> bytes:
    """Encrypt."""
    argv = ["openssl", "enc", f"-{cipher}", "-K", key.hex(), *options]
    return subprocess.run(argv, input=text, capture_output=True, check=True).stdout


def poly1305(text: bytes, r: bytes, s: bytes) -> bytes:
    """Return the code that authenticates a text."""
    factor = int.from_bytes(r, "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for start in range(0, len(text), 16):
        block = int.from_bytes(text[start : start + 16] + b"\x01", "little")
        total = (total + block) * factor % ((1 << 130) - 5)
    return ((total + int.from_bytes(s, "little")) % (1 << 128)).to_bytes(16, "little")


def write_lock(place: Place, *, age_s: float, host: str = "another-host") -> str:
    """Write a lock as restic does (its design document, "Keys, Encryption and MAC")."""
    key = json.loads(place.restic("cat", "masterkey", "--no-lock"))
    secret, k, r = (b64decode(text) for text in (key["encrypt"], key["mac"]["k"], key["mac"]["r"]))
    moment = rfc3339(time.time() - age_s)
    lock = {"time": moment, "exclusive": True, "hostname": host, "username": "x", "pid": 7}
    nonce = os.urandom(16)
    sealed = openssl("aes-256-ctr", secret, json.dumps(lock).encode(), "-iv", nonce.hex())
    code = poly1305(sealed, r, openssl("aes-128-ecb", k, nonce, "-nopad"))
    content = nonce + sealed + code
    name = hashlib.sha256(content).hexdigest()
    (place.repository / "locks" / name).write_bytes(content)
    return name


def retaining(place: Place, **changes: Any) -> JobInput:
    """Return a backup with retention."""
    job = place.job()
    assert job.backup is not None
    return replace(job, backup=replace(job.backup, retention=Retention(keep_last=1), **changes))


@pytest.mark.parametrize("verb", ["backup", "restore"])
def test_a_lock_that_nobody_holds_is_removed_by_the_run_that_it_keeps_out(
    place: Place, verb: str
) -> None:
    """Here its process was on this host; the command is tried again, and nobody has to act."""
    place.run("backup", job=place.job())
    with holding(place, "check", stop=True):
        pass
    assert len(locks(place)) == 1
    place.shim(SHORT_RETRY)
    run = place.run(verb, job=place.job() if verb == "backup" else place.restore_job())
    assert (run.code, run.host.succeeded) == (0, True)
    before = ["snapshots"] if verb == "restore" else []
    assert run.verbs() == [*before, verb, *HEALED, verb]
    assert locks(place) == []


def test_a_shared_lock_that_nobody_holds_does_not_stop_retention_for_ever(place: Place) -> None:
    """It keeps no backup out, so that nobody would notice."""
    place.run("backup", job=place.job())
    with holding(place, "backup", "--stdin"):
        pass
    place.shim(SHORT_RETRY)
    run = place.run("backup", job=retaining(place))
    assert run.verbs() == ["backup", "forget", *HEALED, "forget"]
    assert run.report is not None
    assert run.report.retention is not None
    assert run.report.retention.state is StepState.DONE
    assert locks(place) == []


def test_locks_are_looked_at_once_in_a_run(place: Place) -> None:
    """A neighbour that works is waited for by each step, and asked after by the first only."""
    place.run("backup", job=place.job())
    place.shim(SHORT_RETRY)
    with holding(place, "backup", "--stdin"):
        held = locks(place)
        run = place.run("backup", job=retaining(place, verify=True))
        assert locks(place) == held
    assert run.verbs() == ["backup", "check", *HEALED, "forget", "stats"]
    assert run.report is not None
    assert run.report.verification is not None
    assert run.report.verification.state is StepState.FAILED
    assert "RepositoryLocked" in run.report.verification.message
    assert run.report.repository.integrity is None, "a check that was locked out found no damage"


def backed_up(place: Place, job: JobInput) -> tuple[HostReport, list[str]]:
    """Run a backup in this process; return its report and the restic commands."""
    place.shim(SHORT_RETRY)
    lines: list[str] = []
    settings = Settings.read(
        {"DREY_SCRATCH_DIR": str(place.root / "own"), "DREY_RESTIC": str(place.program)}
    )
    log = Log(Redactor({}), write=lines.append)
    backend = Repository(job, settings, place.secret, log, Interruption())
    assert job.backup is not None
    host = Backup(backend, job.backup).run()
    backend.close()
    told = [json.loads(line) for line in lines]
    return host, [line["verb"] for line in told if line["event"] == "restic_ended"]


def job_now(place: Place, **changes: Any) -> JobInput:
    """Return a backup whose session was created just now."""
    return place.job(session_created=rfc3339(time.time()), **changes)


def test_a_lock_of_another_host_goes_once_it_is_old(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a pod that died with its node: nobody else comes to remove it."""
    monkeypatch.setattr(unlock, "WATCH_S", 0.1)
    place.run("backup", job=place.job())
    write_lock(place, age_s=1900)
    host, verbs = backed_up(place, job_now(place))
    assert host.succeeded
    assert verbs == ["backup", "list", "cat", "list", "cat", "unlock", "list", "backup"]
    assert locks(place) == []


def test_a_young_lock_of_another_host_stays(place: Place) -> None:
    """Its process may live. Nothing is waited for but restic's own patience."""
    place.run("backup", job=place.job())
    left = write_lock(place, age_s=600)
    host, verbs = backed_up(place, job_now(place))
    assert host.reason == Reason.REPOSITORY_LOCKED
    assert "unlock --remove-all" in host.error
    assert verbs == ["backup", "list", "cat"]
    assert locks(place) == [left]


def test_a_lock_in_use_stays_though_a_clock_is_wrong(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who holds it replaces it, and the new one looks as old: restic would remove it (D8).

    Then a neighbour's prune would remove what a backup that runs has uploaded. restic removes all
    old locks or none, so that also one stays that nobody holds.
    """
    place.run("backup", job=place.job())
    left = write_lock(place, age_s=3600)
    held = [write_lock(place, age_s=3600)]

    def replaced(backend: Repository, seconds: float) -> bool:
        del backend
        assert seconds >= 360
        (place.repository / "locks" / held.pop()).unlink()
        held.append(write_lock(place, age_s=3600))
        return True

    monkeypatch.setattr(Repository, "wait", replaced)
    host, verbs = backed_up(place, job_now(place))
    assert host.reason == Reason.REPOSITORY_LOCKED
    assert "unlock" not in verbs
    assert locks(place) == sorted([left, *held])


def test_a_lock_that_went_meanwhile_is_no_obstacle(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else removed it."""
    place.run("backup", job=place.job())
    left = write_lock(place, age_s=3600)

    def removed(backend: Repository, seconds: float) -> bool:
        del backend, seconds
        (place.repository / "locks" / left).unlink()
        return True

    monkeypatch.setattr(Repository, "wait", removed)
    host, verbs = backed_up(place, job_now(place))
    assert host.succeeded
    assert "unlock" not in verbs


def interrupt(backend: Repository) -> None:
    """Tell a run to end soon."""
    threading.Timer(0.5, backend._interruption.request).start()


def time_out(backend: Repository) -> None:
    """Let the time of a run be over soon."""
    backend._deadline_s = time.monotonic() + 0.5


@pytest.mark.parametrize(
    ("end", "reason"), [(interrupt, Reason.INTERRUPTED), (time_out, Reason.DEADLINE_EXCEEDED)]
)
def test_watching_a_lock_ends_with_the_run(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    end: Callable[[Repository], None],
    reason: Reason,
) -> None:
    """Neither a signal nor timeOut waits for it."""
    place.run("backup", job=place.job())
    left = write_lock(place, age_s=3600)
    wait = Repository.wait

    def watched(backend: Repository, seconds: float) -> bool:
        end(backend)
        return wait(backend, seconds)

    monkeypatch.setattr(Repository, "wait", watched)
    started = time.monotonic()
    host, verbs = backed_up(place, job_now(place))
    assert host.reason == reason
    assert time.monotonic() - started < unlock.WATCH_S / 4
    assert verbs[:3] == ["backup", "list", "cat"]
    assert locks(place) == [left]
