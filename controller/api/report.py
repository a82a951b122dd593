"""What a Job tells the controller: one JSON document as its container's termination message.

The report is untrusted input: a container of a third party may write anything. It is parsed
strictly, and its texts are shown, never interpolated. Standard library only (D31).

Budget (D11): `report_bytes` of the JobInput for the whole document. `encode` cuts detail first
(paths that could not be read, messages, counts, paths of snapshots), then snapshots and hosts. A
report that is never written is worse than a short one: the session would fail as ReportLost.
"""

import json
import re
from collections.abc import Iterator, Mapping
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

    `id` is empty or has 64 hex digits. `snapshots_kept` counts the snapshots of this configuration,
    `snapshot_count` all of them.

    `snapshots_ahead` tells whether this configuration has a snapshot whose time is later than this
    run's own: made by a node whose clock was ahead, it counts as the newest for every keep rule.
    While it is True the next `BackupInput` should be `careful`.

    `untagged_incomplete` are the ids (64 hex digits) of all incomplete snapshots that are known to
    lack their tag, from this run and from `BackupInput.known_incomplete`: the whole list each time,
    also from runs that failed. It is to be recorded and handed to the next run as
    `known_incomplete`; an empty one clears the record. A run without a report changes nothing.
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

    def encode(self, limit_bytes: int) -> str:
        """Return the document in at most `limit_bytes` bytes of UTF-8.

        Any report fits into SMALLEST_BYTES. What is left out is in the order of `_CUTS`; of a
        report that is too long even then one host is left, the first that failed, and a condition
        says so.

        Raises:
            ValueError: `limit_bytes` is less than that, and too little.
        """
        for candidate in self._candidates():
            document = json.dumps(_brief(asdict(candidate)), separators=(",", ":"))
            if len(document.encode()) <= limit_bytes:
                return document
        raise ValueError(f"the report does not fit into {limit_bytes} bytes")

    def _candidates(self) -> Iterator["RunReport"]:
        for cut in _CUTS:
            yield self._cut(cut)
        bare = replace(self._cut(_CUTS[-1]), conditions=())
        yield bare
        # A foreign output.json may name more hosts and snapshots than any message can hold.
        count = sum(len(host.snapshots) for host in self.hosts)
        for most in (32, 16, 8, 4, 1):
            repository = bare.repository
            if not _is_id(repository.id):
                repository = replace(repository, id="")
            yield replace(_essence(bare, most, count), repository=repository)
        # Numbers only: what else is learned protects snapshots, and a part of it would not.
        learned = replace(
            self.repository,
            id="",
            size_bytes=None,
            snapshot_count=None,
            snapshots_kept=None,
            snapshots_removed=None,
        )
        yield replace(_essence(bare, 1, count), repository=learned)

    def _cut(self, cut: "_Cut") -> "RunReport":
        def step(report: StepReport | None) -> StepReport | None:
            return report and replace(report, message=report.message[: cut.text])

        return replace(
            self,
            hosts=tuple(
                replace(
                    host,
                    reason=host.reason[: cut.word],
                    error=host.error[: cut.text],
                    snapshots=tuple(_cut_snapshot(item, cut) for item in host.snapshots),
                    unreadable=tuple(path[:256] for path in host.unreadable[: cut.unreadable]),
                )
                for host in self.hosts
            ),
            retention=step(self.retention),
            verification=step(self.verification),
            metrics=step(self.metrics),
            conditions=tuple(
                ConditionReport(
                    condition.type[: cut.word],
                    condition.status[: cut.word],
                    condition.reason[: cut.word],
                    condition.message[: cut.text],
                )
                for condition in self.conditions
            ),
        )


@dataclass(frozen=True, slots=True)
class _Cut:
    """How much of each kind of detail is left: a number of items, or of characters.

    `word` is for reasons and types, `path` for a snapshot's path.
    """

    unreadable: int
    text: int
    word: int = MAX_TEXT
    path: int = MAX_TEXT
    has_counts: bool = True
    has_sizes: bool = True


_ID_LENGTH = 64
_WORD = 64
REPORT_CUT = "ReportCut"
SMALLEST_BYTES = 1024
_CUTS = (
    _Cut(unreadable=20, text=MAX_TEXT),
    _Cut(unreadable=5, text=MAX_TEXT),
    _Cut(unreadable=3, text=512),
    _Cut(unreadable=1, text=256),
    _Cut(unreadable=0, text=128),
    _Cut(unreadable=0, text=0),
    _Cut(unreadable=0, text=0, word=_WORD, path=128, has_counts=False),
    _Cut(unreadable=0, text=0, word=_WORD, path=32, has_counts=False),
    _Cut(unreadable=0, text=0, word=_WORD, path=32, has_counts=False, has_sizes=False),
    _Cut(unreadable=0, text=0, word=_WORD, path=0, has_counts=False, has_sizes=False),
)


def _essence(report: RunReport, most: int, count: int) -> RunReport:
    """Return the first host that failed, else the first, with at most some snapshots."""
    failed = [host for host in report.hosts if not host.succeeded]
    hosts = tuple(
        replace(
            host,
            hostname=_plain(host.hostname),
            reason=_plain(host.reason),
            error=f"{len(failed)} of {len(report.hosts)} hosts failed" if failed else "",
            snapshots=tuple(item for item in host.snapshots if _is_id(item.id))[:most],
        )
        for host in (failed or report.hosts)[:1]
    )
    text = f"the report of {len(report.hosts)} hosts and {count} snapshots was too long"
    return RunReport(hosts, conditions=(ConditionReport(REPORT_CUT, "True", "TooLong", text),))


def _plain(text: str) -> str:
    """Return at most _WORD characters that need no escape in JSON."""
    return "".join(
        char if " " <= char <= "~" and char not in '"\\' else "?" for char in text[:_WORD]
    )


def _is_id(text: str) -> bool:
    return len(text) == _ID_LENGTH and text.isascii() and text.isalnum()


def _cut_snapshot(snapshot: SnapshotReport, cut: _Cut) -> SnapshotReport:
    """Return a snapshot with less detail; of a path the end is left, where paths differ."""
    path = snapshot.path
    if len(path) > cut.path:
        path = f"...{path[len(path) - cut.path + 3 :]}" if cut.path else ""
    return SnapshotReport(
        id=snapshot.id,
        path=path,
        total_bytes=snapshot.total_bytes if cut.has_sizes else 0,
        uploaded_bytes=snapshot.uploaded_bytes if cut.has_sizes else 0,
        processing_s=snapshot.processing_s if cut.has_counts else 0.0,
        files_total=snapshot.files_total if cut.has_counts else 0,
        files_new=snapshot.files_new if cut.has_counts else 0,
        files_modified=snapshot.files_modified if cut.has_counts else 0,
        files_unmodified=snapshot.files_unmodified if cut.has_counts else 0,
    )


_CORE_BYTES = 896
_SNAPSHOT_BYTES = 96


def snapshots_that_fit(limit_bytes: int) -> int:
    """Return how many snapshots of one host a report holds with their whole ids, at least."""
    return max(1, (limit_bytes - _CORE_BYTES) // _SNAPSHOT_BYTES)


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


def _id(value: Any) -> str:
    text = _text(value)
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise TypeError("an id of 64 hex digits is wanted")
    return text


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

    def flag(key: str) -> bool | None:
        return None if raw.get(key) is None else _flag(raw[key])

    return RepositoryReport(
        id=_id(raw["id"]) if raw.get("id") else "",
        initialised=_flag(raw.get("initialised", False)),
        integrity=flag("integrity"),
        size_bytes=count("size_bytes"),
        snapshot_count=count("snapshot_count"),
        snapshots_kept=count("snapshots_kept"),
        snapshots_removed=count("snapshots_removed"),
        snapshots_ahead=flag("snapshots_ahead"),
        untagged_incomplete=tuple(_id(item) for item in _list(raw, "untagged_incomplete")),
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
