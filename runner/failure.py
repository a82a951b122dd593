"""From restic's outcome to a reason and a text that a person can act on (D32). Pure."""

from controller.api.job_input import JobInput, RepositoryInput
from controller.api.report import Reason
from runner.restic import backend
from runner.restic.exits import Exit
from runner.restic.outcome import Outcome
from runner.restic.process import Stop

_KEYS_WITHOUT_CONFIG = "already contains keys"
"""What `restic init` says of a backend that has keys and no config: it writes the keys first."""


class RunError(Exception):
    """The run cannot go on. `reason` is for programs, the text for people."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text


def secret_name(repository: RepositoryInput) -> str:
    """Return how a text names the storage Secret."""
    if repository.secret_name:
        return f"Secret {repository.namespace}/{repository.secret_name}"
    return f"the storage Secret of Repository {repository.namespace}/{repository.name}"


def repository_name(repository: RepositoryInput) -> str:
    """Return how a text names the Repository and its place."""
    return f"Repository {repository.namespace}/{repository.name} ({repository.url})"


def failure_of(outcome: Outcome, job: JobInput, verb: str) -> RunError:
    """Return why restic's command failed, with the remedy."""
    stopped = _stopped(outcome, job, verb)
    if stopped is not None:
        return stopped
    repository = job.repository
    name = repository_name(repository)
    last = outcome.last_words()
    match outcome.exit:
        case Exit.OK:
            return RunError(
                Reason.NO_SUMMARY,
                f"restic {verb} ended well but printed no summary, so nothing is proven: {last}",
            )
        case Exit.NO_REPOSITORY:
            return vanished(job, f"there is no repository any more: {last}")
        case Exit.LOCKED:
            return RunError(
                Reason.REPOSITORY_LOCKED,
                f"{name} stayed locked: {last}; a lock that nobody holds any more is removed by the"
                " first run that it keeps out 30 minutes after it was written; at once by `restic"
                " unlock --remove-all`, if no process uses the repository",
            )
        case Exit.WRONG_PASSWORD:
            return RunError(
                Reason.WRONG_PASSWORD,
                f"{name} does not open with RESTIC_PASSWORD of {secret_name(repository)}; put the"
                " password there that the repository was made with (a trailing newline counts)",
            )
    return _unnamed(outcome, job, verb)


def vanished(job: JobInput, what: str) -> RunError:
    """Return the failure for a repository that is gone or another one (D2)."""
    known = f" with id {job.repository.id}" if job.repository.id else ""
    return RunError(
        Reason.REPOSITORY_VANISHED,
        f"{repository_name(job.repository)} was in use{known}, but {what}. It is not made anew:"
        " mend bucket, prefix, endpoint or mount, or restore the backend's content. To begin anew,"
        " create a Repository with another name",
    )


def _stopped(outcome: Outcome, job: JobInput, verb: str) -> RunError | None:
    killed = "; restic did not stop and was killed: its lock may remain" if outcome.killed else ""
    last = f"; the backend's last error: {outcome.backend_error}" if outcome.backend_error else ""
    match outcome.stop:
        case Stop.SIGNAL:
            text = f"the pod was told to stop during restic {verb}{killed}"
            return RunError(Reason.INTERRUPTED, text)
        case Stop.DEADLINE:
            text = f"restic {verb} was not done by {job.deadline}{killed}; raise timeOut{last}"
            return RunError(Reason.DEADLINE_EXCEEDED, text)
        case Stop.PATIENCE:
            return _unusable(job, outcome)
    return None


def _unusable(job: JobInput, outcome: Outcome) -> RunError:
    """Return the failure of a backend that cannot be used: refused, or not reached."""
    name = repository_name(job.repository)
    last = outcome.last_words()
    if backend.is_denied(f"{last} {outcome.backend_error}"):
        return RunError(
            Reason.BACKEND_DENIED,
            f"{name} refuses access: {last}; check the keys in {secret_name(job.repository)} and"
            " their rights (for a local backend: owner and mode of the folder)",
        )
    return RunError(
        Reason.BACKEND_UNREACHABLE,
        f"{name} cannot be reached: {last}; check the endpoint, DNS, network policies and"
        " certificates (an own CA: CA_CERT_DATA in the Secret)",
    )


def _unnamed(outcome: Outcome, job: JobInput, verb: str) -> RunError:
    last = outcome.last_words()
    if outcome.code < 0:
        return RunError(
            Reason.RESTIC_FAILED,
            f"restic {verb} was killed by signal {-outcome.code}; if that is 9, memory may have run"
            f" out: raise spec.runtimeSettings.container.resources.limits.memory: {last}",
        )
    away = backend.is_denied(last) or backend.is_unreachable(last)
    if outcome.backend_error or outcome.outage or away:
        return _unusable(job, outcome)
    text = f"restic {verb} failed with {outcome.code}: {last}"
    if _KEYS_WITHOUT_CONFIG in last:
        text += (
            ". Either the first backup was ended while it made the repository: then remove its"
            " folder keys/ from the backend; or its file config is lost: then bring that back, the"
            " data needs it"
        )
    return RunError(Reason.RESTIC_FAILED, text)
