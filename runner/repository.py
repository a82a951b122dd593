"""One restic repository, as this run uses it: starts commands, knows the id, initialises (D2)."""

import json
import math
import os
import select
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

from controller.api import restic_id
from controller.api.job_input import JobInput
from controller.api.report import Reason
from runner.failure import RunError, failure_of, repository_name, secret_name, vanished
from runner.log import Log, now_s
from runner.restic import backend, command, process
from runner.restic.environment import CA_FILE, environment
from runner.restic.exits import Exit
from runner.restic.messages import Message
from runner.restic.outcome import Collector, Outcome
from runner.restic.process import Interruption, Stop
from runner.settings import IONICE, Settings, is_program

CACHE = "restic-cache"
PATIENCE_S = 90.0
"""How long the backend may only answer with errors before anything was read from it."""
LASTING_S = 20.0
"""The same for errors that no waiting mends."""
SILENCE_S = 95.0
"""The same without any answer: opening reads a few small files, whatever the repository's size."""
UNLOCK_S = 20.0
"""What is left of the pod's 120 s (D9) after restic had its time to end by itself."""
UNLOCK_GRACE_S = 3.0
"""And of an `unlock` that does not end: both fit into those 120 s, and the report after them."""
_ASK_AGAIN_S = 1.0


class RepositoryMissing(RunError):
    """restic's exit code 10."""

    def __init__(self, outcome: Outcome, job: JobInput) -> None:
        failure = failure_of(outcome, job, "cat config")
        super().__init__(failure.reason, failure.text)
        self.outcome = outcome


def _ignore(message: Message) -> None:
    del message


class Repository:
    """Runs restic commands with one environment, one deadline and one way to be interrupted."""

    def __init__(
        self,
        job: JobInput,
        settings: Settings,
        secret: dict[str, bytes],
        log: Log,
        interruption: Interruption,
    ) -> None:
        self.job = job
        self.log = log
        self.initialised = False
        self._interruption = interruption
        self._tmp = settings.scratch_dir / f"restic-{os.urandom(8).hex()}"
        self._cache = settings.scratch_dir / CACHE
        self._id = ""
        self._opened = False
        self._healed = False
        self._deadline_s = _deadline(job.deadline)
        try:
            made = environment(
                job.repository,
                secret,
                home_dir=str(self._tmp),
                tmp_dir=str(self._tmp),
                outer=settings.outer,
            )
        except ValueError as err:
            raise RunError(Reason.SECRET_INVALID, f"{secret_name(job.repository)}: {err}") from err
        self._environment = made.variables
        self._prefix = _prefix(job, settings, log)
        self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Every container of the Job can write beside it: a new folder, which only we can read.
        self._tmp.mkdir(mode=0o700)
        for name, content in made.files.items():
            _write_private(self._tmp / name, content)
        self._connection = command.Connection(
            cache_dir=str(self._cache) if job.cache else "",
            ca_file=str(self._tmp / CA_FILE) if CA_FILE in made.files else "",
            insecure_tls=job.repository.insecure_tls,
            provider=job.repository.provider,
            max_connections=job.repository.max_connections,
        )

    def close(self) -> None:
        """Remove the credentials and restic's temporary files."""
        for folder, _, names in os.walk(self._tmp, topdown=False):
            for name in names:
                (Path(folder) / name).unlink(missing_ok=True)
            Path(folder).rmdir()

    def run(
        self,
        arguments: Sequence[str],
        *,
        on_message: Callable[[Message], None] = _ignore,
        keep_document: bool = False,
    ) -> Outcome:
        """Run one command to its end; once more where a dead process's lock kept it out.

        A lock that nobody holds any more is removed by no other command of restic's than `unlock`.
        The first command of a run that stays locked out looks for such locks, none after it.
        """

        def attempt() -> Outcome:
            return self._run(
                arguments,
                Collector(on_message, redact=self.log.redact, keep_document=keep_document),
                self._interruption,
                self._deadline_s,
            )

        outcome = attempt()
        if outcome.exit is not Exit.LOCKED or outcome.stop is not Stop.NO or self._healed:
            return outcome
        from runner.unlock import heal  # noqa: PLC0415 - not for a run that is not locked out (D31)

        self._healed = True
        return attempt() if heal(self) else outcome

    def wait(self, seconds: float) -> bool:
        """Let time pass. False: told to end, or at the deadline, before it has."""
        end_s = monotonic() + seconds
        left_s = max(0.0, min(end_s, self._deadline_s) - monotonic())
        told, _, _ = select.select((self._interruption,), (), (), left_s)
        return not told and end_s < self._deadline_s

    def _run(
        self,
        arguments: Sequence[str],
        collector: Collector,
        interruption: Interruption,
        deadline_s: float,
        *,
        grace_s: float = process.GRACE_S,
    ) -> Outcome:
        verb, *rest = arguments
        started = monotonic()
        ending = process.run(
            (*self._prefix, verb, *self._connection.flags(), *rest),
            self._environment,
            on_stdout=collector.stdout,
            on_stderr=collector.stderr,
            interruption=interruption,
            deadline_s=deadline_s,
            patience=lambda elapsed_s: self._patience(collector, elapsed_s),
            grace_s=grace_s,
        )
        outcome = collector.outcome(ending)
        if outcome.succeeded:
            self._opened = True
        self.log.info(
            "restic_ended",
            verb=verb,
            exit_code=ending.code,
            seconds=round(monotonic() - started, 3),
        )
        if ending.code == -signal.SIGKILL and verb in command.LOCKING:
            self._release_lock()
        return outcome

    def _release_lock(self) -> None:
        """Remove the lock of a restic that was killed: for want of memory, or because it hung.

        Its process is gone and was on this host: that is what plain `unlock` takes for stale (D8).
        Also after our own end was asked for, which must not keep this command from starting.
        """
        collector = Collector(_ignore, redact=self.log.redact, keep_document=False)
        outcome = self._run(
            command.unlock(),
            collector,
            Interruption(),
            monotonic() + UNLOCK_S,
            grace_s=UNLOCK_GRACE_S,
        )
        if not outcome.succeeded:
            self.log.warning("lock_left", error=outcome.last_words())

    def open(self) -> None:
        """With the cache off: learn the id before anything is written; initialise where allowed.

        With the cache on this costs nothing and does nothing: the first command tells.

        Raises:
            RunError: the repository cannot be opened, or is another one than recorded.
        """
        if self.job.cache:
            return
        try:
            self.confirm()
        except RepositoryMissing as missing:
            self.initialise(missing.outcome)

    def confirm(self) -> str:
        """Read the id from the repository itself, and return it.

        Raises:
            RepositoryMissing: there is none.
            RunError: the repository cannot be opened, or is another one than recorded (D2).
        """
        outcome = self.run(command.cat_config(), keep_document=True)
        if outcome.exit is Exit.NO_REPOSITORY and outcome.stop is Stop.NO:
            raise RepositoryMissing(outcome, self.job)
        if not outcome.succeeded:
            raise failure_of(outcome, self.job, "cat config")
        self._id = _id_of(outcome.document)
        if not self._id:
            name = repository_name(self.job.repository)
            raise RunError(Reason.RESTIC_FAILED, f"{name}: restic cat config printed no id")
        return self.known_id()

    def initialise(self, missing: Outcome) -> None:
        """Make the repository after exit 10, if it was never used (D2).

        Raises:
            RunError: it was used before, or restic cannot make it.
        """
        if not self.job.repository.may_initialise:
            raise failure_of(missing, self.job, "backup")
        outcome = self.run(command.init())
        if not outcome.succeeded:
            why = failure_of(outcome, self.job, "init")
            reason = (
                Reason.REPOSITORY_INIT_FAILED if why.reason is Reason.RESTIC_FAILED else why.reason
            )
            name = repository_name(self.job.repository)
            raise RunError(reason, f"{name} could not be initialised: {why.text}")
        self.initialised = True
        self._id = outcome.initialized_id
        self.log.info("repository_initialised", id=self._id)

    def identify(self) -> str:
        """Return the id of the repository that a command of this run has opened.

        restic names its cache folder after it, so that this costs no command. Where no folder or
        more than one is found, the repository is asked: an unknown id is never taken for right.

        Raises:
            RunError: it cannot be learned, or another id was recorded (D2).
        """
        return self.known_id() or self.confirm()

    def known_id(self) -> str:
        """Return what `identify` would, "" where it would have to ask the repository.

        Raises:
            RunError: another id was recorded (D2).
        """
        if not self._id and self.job.cache:
            folders = self._cached()
            self._id = folders[0] if len(folders) == 1 else ""
        recorded = self.job.repository.id
        if recorded and self._id and recorded != self._id:
            raise vanished(self.job, f"there is now another repository, with id {self._id}")
        return self._id

    def _cached(self) -> list[str]:
        return [entry.name for entry in self._cache.iterdir() if restic_id.is_full(entry.name)]

    def _patience(self, collector: Collector, elapsed_s: float) -> float:
        if self._opened or collector.spoke or (self.job.cache and self._cached()):
            self._opened = True
            return math.inf
        limit_s = PATIENCE_S if collector.backend_error else SILENCE_S
        if backend.is_lasting(collector.backend_error):
            limit_s = LASTING_S
        return 0.0 if elapsed_s >= limit_s else _ASK_AGAIN_S


def _deadline(deadline: str) -> float:
    """Return the moment on the monotonic clock."""
    return monotonic() + parse_unix_s(deadline) - now_s() if deadline else math.inf


def parse_unix_s(moment: str) -> float:
    """Return the Unix seconds of an RFC 3339 time.

    Raises:
        RunError: it is none.
    """
    from datetime import datetime  # noqa: PLC0415 - only where a time is given

    try:
        return datetime.fromisoformat(moment).timestamp()
    except ValueError as err:
        raise RunError(Reason.INPUT_INVALID, f"{moment!r} is no RFC 3339 time") from err


def _id_of(document: bytes) -> str:
    try:
        raw = json.loads(document)
    except (ValueError, RecursionError):
        return ""
    value = raw.get("id") if isinstance(raw, dict) else ""
    return value if isinstance(value, str) and restic_id.is_full(value) else ""


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _prefix(job: JobInput, settings: Settings, log: Log) -> tuple[str, ...]:
    restic = str(settings.restic)
    if not is_program(settings.restic):
        raise RunError(Reason.STEP_FAILED, f"the program {restic} is missing in this image")
    if job.ionice_class is None:
        return (restic,)
    if not is_program(Path(IONICE)):
        log.warning("ionice_missing", fix="add ionice to the image, or remove ionice settings")
        return (restic,)
    level = () if job.ionice_level is None else ("-n", str(job.ionice_level))
    return (IONICE, "-c", str(job.ionice_class), *level, restic)
