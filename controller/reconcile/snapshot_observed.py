"""What the planner of a BackupSession with VolumeSnapshots sees (flow B)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.api.backup import BackupConfigurationSpec
from controller.api.objects import Obj, Uid
from controller.build.installation import Installation
from controller.plan import Ref, Refusal
from controller.reconcile.observed import Executor, Limits

NO_JOB = Executor()


@dataclass(frozen=True, slots=True)
class Reading:
    """The target as it was read live, None when it does not exist, and those claims that exist.

    `told` are the claims that a Job is told to snapshot which no status speaks of yet. `unreadable`
    says why nothing could be read: nothing is known then, also not that the target is gone.
    """

    target: Obj | None = None
    claims: Mapping[str, Obj] = field(default_factory=dict)
    told: tuple[str, ...] | None = None
    unreadable: str = ""


@dataclass(frozen=True, slots=True)
class Other:
    """A session of another configuration in the same namespace, and what that configuration says.

    It has begun, `is_started`, or is held and so about to.
    """

    session: Obj
    spec: BackupConfigurationSpec | None
    is_started: bool


@dataclass(frozen=True, slots=True)
class SnapshotSessionObserved:
    """Input of `snapshot_session.plan`.

    `session`, `configuration`, `spec`, `siblings` and `started` are those of SessionObserved.
    `executor` is the Job that creates the VolumeSnapshots, `pre` and `post` those of the hooks.
    `others` are those whose hooks may act on the same application, while this one has not begun.
    `reading` is None where nothing is decided by it: a session that runs is seen without a request.
    `snapshots` are the VolumeSnapshots with the session's uid; `looked` says that they were read
    live, `unlistable` why they could not be. `kept` are all of the configuration, `in_use` the
    names of those from which something is being restored, or is to be. `access` is what lets hooks
    run commands in pods, as long as it exists.
    """

    session: Obj
    configuration: Obj | None
    spec: BackupConfigurationSpec | None
    executor: Executor
    installation: Installation
    limits: Limits
    pre: Executor = NO_JOB
    post: Executor = NO_JOB
    reading: Reading | None = None
    snapshots: tuple[Obj, ...] = ()
    looked: bool = False
    unlistable: str = ""
    kept: tuple[Obj, ...] = ()
    in_use: frozenset[str] = frozenset()
    siblings: tuple[Obj, ...] = ()
    started: frozenset[Uid] = frozenset()
    others: tuple[Other, ...] = ()
    access: tuple[Ref, ...] = ()
    refusal: Refusal | None = None
