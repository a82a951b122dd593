"""What the planner of a restore from VolumeSnapshots sees (flow B)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from controller.api.objects import Obj
from controller.api.restore import RestoreSessionSpec
from controller.build.installation import Installation
from controller.plan import Ref, Refusal
from controller.reconcile.observed import Executor, Limits


@dataclass(frozen=True, slots=True)
class Storage:
    """What the claims of a restore depend on. What is not in a map was not looked at.

    None stands for what does not exist; of claims, snapshots and classes a live read said so (D10).
    `claims` are by name whoever made them. `classes` are by the name that a claim gives, empty for
    the default one, `contents` by the name that a snapshot's status gives.
    """

    claims: Mapping[str, Obj | None] = field(default_factory=dict)
    snapshots: Mapping[str, Obj | None] = field(default_factory=dict)
    classes: Mapping[str, Obj | None] = field(default_factory=dict)
    contents: Mapping[str, Obj | None] = field(default_factory=dict)
    volumes: Mapping[str, Obj | None] = field(default_factory=dict)
    """PersistentVolumes by name, where the name alone does not say that one was made anew."""
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Texts of Events, by claim."""
    unreadable: str = ""
    """Why something could not be read: what should be in a map and is not may exist."""


@dataclass(frozen=True, slots=True)
class ClaimRestoreObserved:
    """Input of `claim_restore.plan`: a RestoreSession with driver VolumeSnapshotter.

    `executor` is the Job that creates the claims, from the cache alone once the status says that it
    ended. `access` is the binding that lets it create claims, as long as it exists. `looked_at` is
    when it was decided what to look at: judged is as of then, so that nothing is said of what was
    left out because its time had not come.
    """

    session: Obj
    spec: RestoreSessionSpec
    executor: Executor
    installation: Installation
    limits: Limits
    snapshots_served: bool = True
    storage: Storage = Storage()
    access: tuple[Ref, ...] = ()
    refusal: Refusal | None = None
    looked_at: datetime | None = None
