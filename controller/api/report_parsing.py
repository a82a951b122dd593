"""Reads the document of a report.

It is untrusted input: a container of a third party may write anything. It is parsed strictly, and
its texts are shown, never interpolated. Standard library only (D31).
"""

import json
from collections.abc import Mapping
from typing import Any

from controller.api import restic_id
from controller.api.report import (
    LARGEST,
    LONGEST_S,
    MAX_TEXT,
    SCHEMA,
    ConditionReport,
    HostReport,
    RepositoryReport,
    RunReport,
    SnapshotReport,
    StepReport,
    StepState,
)


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
    if not restic_id.is_full(text):
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
        incomplete=_text(raw.get("incomplete", "")),
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
