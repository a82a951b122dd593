"""What a Job tells the controller: one JSON document as its container's termination message.

The report is untrusted input: a container of a third party may write anything. It is parsed
strictly, and its texts are shown, never interpolated. Standard library only (D31).

Budget (D11): `report_bytes` of the JobInput for the whole document. `encode` cuts detail first
(paths that could not be read, then messages), never a phase, a reason or a snapshot id.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import IntEnum, StrEnum
from typing import Any

SCHEMA = 1
MAX_TEXT = 1024
"""Characters of one error text (D32)."""


_ALWAYS = frozenset({
    "schema", "hosts", "hostname", "id", "path", "type", "status", "state",
    # A measured zero differs from "nothing was learned".
    "size_bytes", "snapshot_count", "snapshots_kept", "snapshots_removed",
})  # fmt: skip
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
    BACKUP_INCOMPLETE = "BackupIncomplete"
    NO_SUMMARY = "NoSummary"
    FLAG_REFUSED = "FlagRefused"
    SNAPSHOT_NOT_FOUND = "SnapshotNotFound"
    SNAPSHOT_AMBIGUOUS = "SnapshotAmbiguous"
    SNAPSHOT_OUTSIDE_MOUNT = "SnapshotOutsideMount"
    RESTORE_INCOMPLETE = "RestoreIncomplete"
    NOTHING_TO_RESTORE = "NothingToRestore"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    INTERRUPTED = "Interrupted"
    OUTPUT_INVALID = "OutputInvalid"
    STEP_FAILED = "StepFailed"
    RESTIC_FAILED = "ResticFailed"


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
    `unreadable` holds the first paths (D5).
    """

    hostname: str
    succeeded: bool
    reason: str = ""
    error: str = ""
    duration_s: float = 0.0
    snapshots: tuple[SnapshotReport, ...] = ()
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StepReport:
    """Retention, verification or metrics: a condition, never the phase."""

    state: StepState
    message: str = ""


@dataclass(frozen=True, slots=True)
class RepositoryReport:
    """What was learned about the repository; None where nothing was learned.

    `snapshots_kept` counts the snapshots of this configuration, `snapshot_count` all of them.
    """

    id: str = ""
    initialised: bool = False
    integrity: bool | None = None
    size_bytes: int | None = None
    snapshot_count: int | None = None
    snapshots_kept: int | None = None
    snapshots_removed: int | None = None


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

    def encode(self, limit_bytes: int) -> str:
        """Return the document in at most `limit_bytes` bytes of UTF-8.

        Raises:
            ValueError: even the fixed core does not fit.
        """
        for paths, text in ((20, MAX_TEXT), (5, MAX_TEXT), (3, 512), (1, 256), (0, 128), (0, 0)):
            document = json.dumps(_brief(asdict(self._cut(paths, text))), separators=(",", ":"))
            if len(document.encode()) <= limit_bytes:
                return document
        raise ValueError(f"the report does not fit into {limit_bytes} bytes")

    def _cut(self, paths: int, text: int) -> "RunReport":
        def step(report: StepReport | None) -> StepReport | None:
            return report and replace(report, message=report.message[:text])

        return replace(
            self,
            hosts=tuple(
                replace(
                    host,
                    error=host.error[:text],
                    unreadable=tuple(path[:256] for path in host.unreadable[:paths]),
                )
                for host in self.hosts
            ),
            retention=step(self.retention),
            verification=step(self.verification),
            metrics=step(self.metrics),
            conditions=tuple(
                replace(condition, message=condition.message[:text])
                for condition in self.conditions
            ),
        )


def _brief(value: Any) -> Any:
    """Drop what the parser fills in by itself: nulls, empty texts and lists, zeros."""
    if isinstance(value, dict):
        items = ((key, _brief(item)) for key, item in value.items())
        return {key: item for key, item in items if item or item is False or key in _ALWAYS}
    return [_brief(item) for item in value] if isinstance(value, list | tuple) else value


def parse_report(text: str) -> RunReport:
    """Parse a termination message.

    Raises:
        ValueError: it is not a report of ours; the text says what is wrong with it.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise ValueError("the termination message is no JSON") from err
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        raise ValueError(f"the termination message is no report of schema {SCHEMA}")
    try:
        return RunReport(
            hosts=tuple(_host(item) for item in _list(raw, "hosts")),
            repository=_repository(raw.get("repository") or {}),
            retention=_step(raw.get("retention")),
            verification=_step(raw.get("verification")),
            metrics=_step(raw.get("metrics")),
            conditions=tuple(_condition(item) for item in _list(raw, "conditions")),
        )
    except (KeyError, TypeError, AttributeError) as err:
        raise ValueError(f"the report is malformed: {type(err).__name__} {err}") from err


def _list(raw: Mapping[str, Any], key: str) -> list[Any]:
    value = raw.get(key) or []
    if not isinstance(value, list):
        raise TypeError(f"{key} is no list")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a string is wanted")
    return value[:MAX_TEXT]


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST:
        raise TypeError("a whole number is wanted")
    return value


def _seconds(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < LONGEST_S:
        raise TypeError("seconds are wanted")
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("true or false is wanted")
    return value


def _host(raw: Mapping[str, Any]) -> HostReport:
    return HostReport(
        hostname=_text(raw["hostname"]),
        succeeded=_flag(raw["succeeded"]),
        reason=_text(raw.get("reason", "")),
        error=_text(raw.get("error", "")),
        duration_s=_seconds(raw.get("duration_s", 0)),
        snapshots=tuple(_snapshot(item) for item in _list(raw, "snapshots")),
        unreadable=tuple(_text(item) for item in _list(raw, "unreadable")),
    )


def _snapshot(raw: Mapping[str, Any]) -> SnapshotReport:
    return SnapshotReport(
        id=_text(raw["id"]),
        path=_text(raw["path"]),
        total_bytes=_whole(raw.get("total_bytes", 0)),
        uploaded_bytes=_whole(raw.get("uploaded_bytes", 0)),
        processing_s=_seconds(raw.get("processing_s", 0)),
        files_total=_whole(raw.get("files_total", 0)),
        files_new=_whole(raw.get("files_new", 0)),
        files_modified=_whole(raw.get("files_modified", 0)),
        files_unmodified=_whole(raw.get("files_unmodified", 0)),
    )


def _repository(raw: Mapping[str, Any]) -> RepositoryReport:
    def count(key: str) -> int | None:
        return None if raw.get(key) is None else _whole(raw[key])

    integrity = raw.get("integrity")
    return RepositoryReport(
        id=_text(raw.get("id", "")),
        initialised=_flag(raw.get("initialised", False)),
        integrity=None if integrity is None else _flag(integrity),
        size_bytes=count("size_bytes"),
        snapshot_count=count("snapshot_count"),
        snapshots_kept=count("snapshots_kept"),
        snapshots_removed=count("snapshots_removed"),
    )


def _step(raw: Mapping[str, Any] | None) -> StepReport | None:
    if raw is None:
        return None
    return StepReport(state=StepState(_text(raw["state"])), message=_text(raw.get("message", "")))


def _condition(raw: Mapping[str, Any]) -> ConditionReport:
    return ConditionReport(
        type=_text(raw["type"]),
        status=_text(raw["status"]),
        reason=_text(raw.get("reason", "")),
        message=_text(raw.get("message", "")),
    )
