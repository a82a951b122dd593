"""Locks, signals, deadlines and dead backends, with a real restic."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from controller.api.job_input import JobInput, Retention
from controller.api.report import Reason, StepState
from runner import repository as repository_module
from runner.backup import Backup
from runner.log import Log, rfc3339
from runner.redaction import Redactor
from runner.repository import Repository
from runner.restic.process import Interruption
from runner.settings import Settings
from tests.support.runner import PASSWORD, Place, restic_program

SHORT_RETRY = """
for a; do shift; [ "$a" = --retry-lock=5m ] && a=--retry-lock=1s; set -- "$@" "$a"; done
exec "$REAL" "$@"
"""


def until(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    """Wait for a condition in the file system."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.002)


def locks(place: Place) -> list[str]:
    """Return the names of the repository's complete lock files."""
    return sorted(
        path.name for path in (place.repository / "locks").glob("*") if len(path.name) == 64
    )


def is_held(place: Place, process: "subprocess.Popen[bytes]", *, stop: bool) -> bool:
    """Wait for the lock of a restic, and stop it if wanted; tell whether it holds the lock then."""
    until(lambda: bool(locks(place)) or process.poll() is not None)
    if process.returncode is not None:
        return False
    if stop:
        os.kill(process.pid, signal.SIGSTOP)  # `send_signal` would take its end from `waitid`
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    return bool(locks(place))


@contextmanager
def holding(place: Place, *arguments: str, stop: bool = False) -> Iterator[None]:
    """Hold a live lock with a real restic that waits, or that is stopped while it has one.

    The lock of `check` is there for 200 ms, which a busy machine may miss: then once more.
    """
    for _ in range(20):
        process = subprocess.Popen(
            [str(restic_program()), "--no-cache", *arguments],
            env={
                "RESTIC_REPOSITORY": str(place.repository),
                "RESTIC_PASSWORD": PASSWORD.decode(),
                "HOME": str(place.root),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            if is_held(place, process, stop=stop):
                yield
                return
        finally:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()
    raise AssertionError(f"restic {' '.join(arguments)} was never seen to hold a lock")


def slow(place: Place) -> JobInput:
    """Return a backup that takes a minute, by restic's own limit of its upload."""
    (place.source / "large").write_bytes(os.urandom(64 << 20))
    job = place.job()
    assert job.backup is not None
    return replace(job, backup=replace(job.backup, args=("--limit-upload=1000", "--pack-size=4")))


def test_forget_locked_out_is_no_failed_backup(place: Place) -> None:
    """A neighbour's shared lock stops forget, not the backup (D7)."""
    place.run("backup", job=place.job())
    place.shim(SHORT_RETRY)
    job = place.job()
    assert job.backup is not None
    job = replace(job, backup=replace(job.backup, retention=Retention(keep_last=1)))
    with holding(place, "backup", "--stdin"):
        run = place.run("backup", job=job)
    assert (run.code, run.host.succeeded) == (0, True)
    assert run.report is not None
    assert run.report.retention is not None
    assert run.report.retention.state is StepState.FAILED
    assert "RepositoryLocked" in run.report.retention.message


def test_backup_locked_out(place: Place) -> None:
    """A live exclusive lock fails the backup as RepositoryLocked and stays in place."""
    place.run("backup", job=place.job())
    place.shim(SHORT_RETRY)
    with holding(place, "check", stop=True):
        held = locks(place)
        run = place.run("backup", job=place.job())
        assert locks(place) == held
    assert (run.code, run.host.reason) == (1, Reason.REPOSITORY_LOCKED)
    assert "unlock" in run.host.error


def test_sigterm_releases_the_lock(place: Place) -> None:
    """SIGTERM becomes SIGINT: restic ends, its lock is gone, and the report says Interrupted."""
    place.run("backup", job=place.job())
    process = place.start("backup", job=slow(place))
    until(lambda: bool(locks(place)))
    process.send_signal(signal.SIGTERM)
    run = place.finish(process, timeout_s=50)
    assert (run.code, run.host.reason) == (130, Reason.INTERRUPTED)
    assert locks(place) == []


def test_deadline(place: Place) -> None:
    """At its deadline the run ends by itself as DeadlineExceeded, with the lock released."""
    place.run("backup", job=place.job())
    job = replace(slow(place), deadline=rfc3339(time.time() + 4))
    run = place.run("backup", job=job, timeout_s=50)
    assert (run.code, run.host.reason) == (1, Reason.DEADLINE_EXCEEDED)
    assert "timeOut" in run.host.error
    assert locks(place) == []


def pod(host: str) -> tuple[str, ...]:
    """Return a wrapper that gives a process its own process numbers and host name, as a pod has."""
    script = f'hostname {host}; exec "$@"'
    options = ("--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
    return ("unshare", *options, "sh", "-c", script, "sh")


def test_lock_of_a_killed_pod_is_healed(place: Place) -> None:
    """SIGKILL leaves a lock; only an unlock under the same host name removes it (D8).

    Process numbers start anew in each pod, so that restic's would be the lock's: the reason why
    they are used up first.
    """
    place.run("backup", job=place.job())
    process = place.start("backup", job=slow(place), wrap=pod("pod-a"))
    until(lambda: bool(locks(place)))
    time.sleep(0.5)
    process.kill()
    process.communicate()
    (left,) = locks(place)
    other = place.finish(place.start("unlock", job=place.job(), wrap=pod("pod-b")))
    assert (other.code, locks(place)) == (0, [left])
    run = place.finish(place.start("unlock", job=place.job(), wrap=pod("pod-a")))
    assert (run.code, locks(place)) == (0, [])
    assert run.host.succeeded


def test_unlock_leaves_live_locks_alone(place: Place) -> None:
    """A lock whose process lives stays, also under its own host name (D8)."""
    place.run("backup", job=place.job())
    with holding(place, "backup", "--stdin"):
        held = locks(place)
        run = place.run("unlock", job=place.job())
        assert (run.code, locks(place)) == (0, held)


@pytest.fixture
def dead_endpoint(request: pytest.FixtureRequest) -> Iterator[int]:
    """Return a port that refuses connections, or one that accepts and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "silent":
            listener.listen(64)
        yield listener.getsockname()[1]


@pytest.mark.parametrize("dead_endpoint", ["refusing", "silent"], indirect=True)
@pytest.mark.parametrize("provider", ["s3", "rest"])
@pytest.mark.parametrize("cache", [True, False])
def test_unreachable_endpoint(
    place: Place,
    dead_endpoint: int,
    provider: str,
    cache: bool,  # noqa: FBT001 - a parameter of the test
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A backend that never answers ends the run at our own limit, not at restic's 15 minutes."""
    monkeypatch.setattr(repository_module, "PATIENCE_S", 3.0)
    monkeypatch.setattr(repository_module, "SILENCE_S", 4.0)
    folder = place.root / "secret"
    folder.mkdir()
    url = f"http://127.0.0.1:{dead_endpoint}/bucket"
    job = place.job(cache=cache)
    target = replace(job.repository, provider=provider, url=f"{provider}:{url}")
    job = replace(job, repository=target)
    secret = {"RESTIC_PASSWORD": PASSWORD, "AWS_ACCESS_KEY_ID": b"k", "AWS_SECRET_ACCESS_KEY": b"s"}
    environ = {"DREY_SCRATCH_DIR": str(place.root), "DREY_RESTIC": str(restic_program())}
    settings = Settings.read(environ)
    log = Log(Redactor({}), write=lambda _: None)
    started = time.monotonic()
    assert job.backup is not None
    backend = Repository(job, settings, secret, log, Interruption())
    host = Backup(backend, job.backup).run()
    assert host.reason == Reason.BACKEND_UNREACHABLE
    assert url in host.error
    assert 2.5 < time.monotonic() - started < 60


def test_limits_keep_the_promise_of_two_minutes() -> None:
    """The limits of production leave time to stop restic and to report within two minutes."""
    assert max(repository_module.PATIENCE_S, repository_module.SILENCE_S) <= 100


def test_full_scratch_folder_is_reported(place: Place) -> None:
    """An error that nobody foresaw still gives a report, and a traceback in the log."""
    (place.root / "scratch").write_text("a file where a folder should be")
    run = place.run("backup", job=place.job())
    assert (run.code, run.host.reason) == (1, Reason.STEP_FAILED)
    assert "Error" in run.host.error
    assert any("Traceback" in line.get("traceback", "") for line in run.log)


def test_restic_killed_by_the_kernel(place: Place) -> None:
    """A signal that ended restic is named, with memory as its likely cause."""
    place.shim('[ "$1" = backup ] && kill -9 $$')
    run = place.run("backup", job=place.job())
    assert run.host.reason == Reason.RESTIC_FAILED
    assert "signal 9" in run.host.error
    assert "memory" in run.host.error


def test_lock_of_a_killed_restic_is_released(place: Place) -> None:
    """Its own runner outlives a restic that ran out of memory, and removes the lock it left."""
    place.run("backup", job=place.job())
    process = place.start("backup", job=slow(place))
    until(lambda: bool(locks(place)))
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    run = place.finish(process)
    assert run.host.reason == Reason.RESTIC_FAILED
    assert run.verbs() == ["backup", "unlock"]
    assert locks(place) == []


@pytest.mark.parametrize("why", ["interrupted", "deadline"])
def test_lock_of_a_restic_that_we_killed(
    place: Place, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """A restic that hangs when told to end is killed; its lock goes although we must end too."""
    monkeypatch.setattr(Repository._run, "__kwdefaults__", {"grace_s": 0.5})
    place.run("backup", job=place.job())
    job = slow(place)
    if why == "deadline":
        job = replace(job, deadline=rfc3339(time.time() + 25))
    settings = Settings.read(
        {"DREY_SCRATCH_DIR": str(place.root / "own"), "DREY_RESTIC": str(restic_program())}
    )
    interruption = Interruption()
    log = Log(Redactor({}), write=lambda _: None)
    backend = Repository(job, settings, place.secret, log, interruption)

    def hang() -> None:
        until(lambda: bool(locks(place)))
        children = Path(f"/proc/{os.getpid()}/task/{main}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGSTOP)
        if why == "interrupted":
            interruption.request()

    main = threading.get_native_id()
    thread = threading.Thread(target=hang)
    thread.start()
    assert job.backup is not None
    host = Backup(backend, job.backup).run()
    thread.join()
    wanted = Reason.INTERRUPTED if why == "interrupted" else Reason.DEADLINE_EXCEEDED
    assert host.reason == wanted
    assert locks(place) == []
    backend.close()
    assert [path.name for path in (place.root / "own").iterdir()] == ["restic-cache"]


def test_credentials_do_not_stay(place: Place) -> None:
    """CA and key files are readable by the runner alone while it works, and gone afterwards."""
    name = place.root / "tls"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x"]
    subprocess.run(
        [*make, "-keyout", f"{name}.key", "-out", f"{name}.crt"], check=True, capture_output=True
    )
    place.secret["CA_CERT_DATA"] = Path(f"{name}.crt").read_bytes()
    seen = place.root / "seen"
    listing = f"stat -c '%a %n' {place.root}/scratch/restic-*"
    place.shim(f'{listing} > {seen}; ls "$TMPDIR" >> {seen}\nexec "$REAL" "$@"')
    assert place.run("backup", job=place.job()).code == 0
    assert "ca.crt" in seen.read_text()
    modes = {line.split()[0] for line in seen.read_text().splitlines() if "/restic-" in line}
    assert modes == {"700"}
    assert [path.name for path in (place.root / "scratch").iterdir()] == ["restic-cache"]


def test_no_secret_in_anything_that_leaves(place: Path | Place) -> None:
    """Whatever restic prints, log and report hold no value of the Secret (D32)."""
    assert isinstance(place, Place)
    place.secret = {"RESTIC_PASSWORD": b"open sesame\n", "AWS_SECRET_ACCESS_KEY": b"abc/def+xyz"}
    place.shim('echo "said $RESTIC_PASSWORD and abc/def+xyz and abc%2Fdef%2Bxyz" >&2; exit 1')
    run = place.run("backup", job=place.job())
    everything = run.text + place.message.read_text()
    assert "said ***" in run.host.error
    assert "sesame" not in everything
    assert "def" not in run.host.error


def test_password_is_in_no_argv(place: Place) -> None:
    """The password reaches restic by its environment only, which holds nothing unknown (D25)."""
    seen = place.root / "seen"
    place.shim(f'echo "$@" >> {seen}.argv\nenv > {seen}.env\nexec "$REAL" "$@"')
    place.environment = {"STRANGE": "1", "LD_PRELOAD": ""}
    assert place.run("backup", job=place.job()).code == 0
    assert PASSWORD.decode() not in Path(f"{seen}.argv").read_text()
    names = {line.partition("=")[0] for line in Path(f"{seen}.env").read_text().splitlines()}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {
        "HOME", "TMPDIR", "TZ", "XDG_CACHE_HOME", "RESTIC_REPOSITORY", "RESTIC_PASSWORD",
        "RESTIC_PROGRESS_FPS",
    }  # fmt: skip
