"""What can be known of a session's Job."""

from dataclasses import dataclass

from controller.api.report import RunReport


@dataclass(frozen=True, slots=True)
class Waiting:
    """The Job exists, no container of it runs. `words` say what it waits for, if known.

    `lasting` says that it waits for longer than the usual moment: the words belong in the status.
    `replaced` says that a pod was lost to a disruption: the time in which the next one has to
    start begins now, and the caller remembers it (`awaited_since` of `verdict`).
    """

    requeue_after_s: float
    words: str = ""
    replaced: bool = False
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """A container runs. Its pod tells when it ends: nothing is to be asked meanwhile.

    `requeue_after_s` is when the pod is given up should it never tell, None for never.
    """

    requeue_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The Job reported.

    `end_job` says that it goes on all the same: a container that was injected keeps its pod alive.
    """

    report: RunReport
    end_job: bool = False


@dataclass(frozen=True, slots=True)
class Died:
    """The Job cannot report any more.

    `release_lock` says that a process of ours was running and is proven gone, so that its lock may
    be removed (D8). `end_job` says that the Job still exists and has to be stopped.
    """

    reason: str
    message: str
    release_lock: bool = False
    end_job: bool = False
    deadline: bool = False


Verdict = Waiting | Running | Ended | Died
