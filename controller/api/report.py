"""What a Job tells the controller: one JSON document as its container's termination message.

Here is what it may hold; `report_encoding` writes the document and `report_parsing` reads it.
Standard library only (D31).
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

SCHEMA = 1
MAX_TEXT = 1024
"""Characters of one error text (D32)."""
MAX_UNTAGGED = 48
"""Ids of `RepositoryReport.untagged_incomplete` in a document: the last ones, fewer where even
these do not fit. The oldest incomplete snapshots then count as complete ones for retention.
"""
LONGEST_S = 1e10
"""No duration of ours is longer; also refuses the infinity that JSON parsers accept."""
LARGEST = 2**63 - 1
"""What an int64 of a status can hold: a larger number would make the API server refuse it."""


class Reason(StrEnum):
    """Why a host failed. Fixed: dashboards and people search for these words (D32)."""

    INPUT_INVALID = "InputInvalid"
    SECRET_INVALID = "SecretInvalid"  # noqa: S105 - a reason, not a password
    WRONG_PASSWORD = "WrongPassword"  # noqa: S105 - a reason, not a password
    REPOSITORY_VANISHED = "RepositoryVanished"
    REPOSITORY_INIT_FAILED = "RepositoryInitFailed"
    REPOSITORY_LOCKED = "RepositoryLocked"
    BACKEND_UNREACHABLE = "BackendUnreachable"
    BACKEND_DENIED = "BackendDenied"
    SOURCE_MISSING = "SourceMissing"
    SOURCE_UNREADABLE = "SourceUnreadable"
    BACKUP_INCOMPLETE = "BackupIncomplete"
    NO_SUMMARY = "NoSummary"
    FLAG_REFUSED = "FlagRefused"
    SNAPSHOT_NOT_FOUND = "SnapshotNotFound"
    SNAPSHOT_AMBIGUOUS = "SnapshotAmbiguous"
    SNAPSHOT_OUTSIDE_MOUNT = "SnapshotOutsideMount"
    SNAPSHOT_REMOVED = "SnapshotRemoved"
    LINK_IN_THE_WAY = "LinkInTheWay"
    RESTORE_INCOMPLETE = "RestoreIncomplete"
    NOTHING_TO_RESTORE = "NothingToRestore"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    INTERRUPTED = "Interrupted"
    OUTPUT_INVALID = "OutputInvalid"
    STEP_FAILED = "StepFailed"
    RESTIC_FAILED = "ResticFailed"
    # flow B
    CREATION_REFUSED = "CreationRefused"
    ALREADY_EXISTS = "AlreadyExists"
    NOT_CREATED = "NotCreated"
    HOOK_FAILED = "HookFailed"
    HOOK_LOST = "HookLost"
    HOOK_TIMED_OUT = "HookTimedOut"
    NO_READY_POD = "NoReadyPod"
    SNAPSHOT_NOT_READY = "SnapshotNotReady"
    SNAPSHOT_DELETED = "SnapshotDeleted"
    CLAIM_NOT_BOUND = "ClaimNotBound"
    CLAIM_MISSING = "ClaimMissing"


class ExitCode(IntEnum):
    """Exit codes of the runner. The report decides; the code is for people and for kubectl."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130


class StepState(StrEnum):
    """What became of a step that never decides whether the data is safe."""

    DONE = "Done"
    FAILED = "Failed"
    SKIPPED = "Skipped"


@dataclass(frozen=True, slots=True)
class SnapshotReport:
    """One restic snapshot, of one path. `id` has 64 hex digits."""

    id: str
    path: str
    total_bytes: int = 0
    uploaded_bytes: int = 0
    processing_s: float = 0.0
    files_total: int = 0
    files_new: int = 0
    files_modified: int = 0
    files_unmodified: int = 0


@dataclass(frozen=True, slots=True)
class HostReport:
    """The outcome of one host. `succeeded` needs exit code 0 and a snapshot id for each path.

    An incomplete backup (restic's exit code 3) has snapshots *and* reason BACKUP_INCOMPLETE;
    `unreadable` holds the first paths (D5). `incomplete` is of a restore: which snapshots that it
    took are incomplete, and which to take instead.
    """

    hostname: str
    succeeded: bool
    reason: str = ""
    error: str = ""
    duration_s: float = 0.0
    snapshots: tuple[SnapshotReport, ...] = ()
    unreadable: tuple[str, ...] = ()
    incomplete: str = ""


@dataclass(frozen=True, slots=True)
class StepReport:
    """Retention, verification or metrics: a condition, never the phase."""

    state: StepState
    message: str = ""


@dataclass(frozen=True, slots=True)
class RepositoryReport:
    """What was learned about the repository; None where nothing was learned.

    `id` is empty or has 64 hex digits. `snapshots_kept` counts the snapshots of this configuration,
    `snapshot_count` all of them.

    `snapshots_ahead` tells whether this configuration has a snapshot whose time is later than this
    run's own: made by a node whose clock was ahead, it counts as the newest for every keep rule.
    While it is True the next `BackupInput` should be `careful`.

    `untagged_incomplete` are the ids (64 hex digits) of all incomplete snapshots that are known to
    lack their tag, from this run and from `BackupInput.known_incomplete`: the whole list each time,
    also from runs that failed, the newest last, and at most MAX_UNTAGGED. It is to be recorded and
    handed to the next run as `known_incomplete`; an empty one clears the record. A run without a
    report changes nothing.
    """

    id: str = ""
    initialised: bool = False
    integrity: bool | None = None
    size_bytes: int | None = None
    snapshot_count: int | None = None
    snapshots_kept: int | None = None
    snapshots_removed: int | None = None
    snapshots_ahead: bool | None = None
    untagged_incomplete: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConditionReport:
    """A condition that a third party's step put into its `output.json`."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class RunReport:
    """Everything that one Job reports."""

    hosts: tuple[HostReport, ...]
    repository: RepositoryReport = RepositoryReport()
    retention: StepReport | None = None
    verification: StepReport | None = None
    metrics: StepReport | None = None
    conditions: tuple[ConditionReport, ...] = ()
    schema: int = SCHEMA
