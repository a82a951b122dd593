"""restic's `--json` output, line by line. Pure; nothing that restic or a backend prints may raise.

restic writes progress and the summary to stdout, errors to stderr, and plain text to either.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

LONGEST_LINE_BYTES = 1 << 20
"""Longer lines are cut: they are no messages of ours, and memory stays constant."""
LARGEST = 1 << 63


@dataclass(frozen=True, slots=True)
class Status:
    """How far a running backup or restore is. `done` is a part of 1."""

    done: float
    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int
    remaining_s: int


@dataclass(frozen=True, slots=True)
class Summary:
    """The last message of `backup`, `restore` or `check`; 0 where the verb has no such field.

    `added_bytes` counts new data before compression. `snapshot_id` is empty when nothing was
    written. `errors` is the number that `check` found.
    """

    snapshot_id: str = ""
    files_new: int = 0
    files_changed: int = 0
    files_unmodified: int = 0
    files_total: int = 0
    bytes_total: int = 0
    added_bytes: int = 0
    duration_s: float = 0.0
    files_restored: int = 0
    files_skipped: int = 0
    bytes_restored: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True)
class ItemError:
    """One file that could not be read or written."""

    item: str
    message: str


@dataclass(frozen=True, slots=True)
class ExitError:
    """restic's last word before a non-zero exit code."""

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Initialized:
    """A new repository was made."""

    id: str


@dataclass(frozen=True, slots=True)
class Changed:
    """`tag` replaced a snapshot by one with another id."""

    old_id: str
    new_id: str


@dataclass(frozen=True, slots=True)
class Item:
    """One file or folder that a rehearsed restore would write, as an absolute path."""

    path: str


@dataclass(frozen=True, slots=True)
class Text:
    """Anything else: plain text, or JSON of an unknown type."""

    text: str


Message = Status | Summary | ItemError | ExitError | Initialized | Changed | Item | Text


class LineSplitter:
    """Cuts a byte stream into lines, however the stream is split into chunks."""

    def __init__(self, longest_bytes: int = LONGEST_LINE_BYTES) -> None:
        self._longest = longest_bytes
        self._line = bytearray()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield each line that the chunk completes, without its end, cut at the longest."""
        *complete, rest = chunk.split(b"\n")
        for part in complete:
            self._append(part)
            yield self._take()
        self._append(rest)

    def finish(self) -> Iterator[bytes]:
        """Yield the last line if the stream ended without a newline."""
        if self._line:
            yield self._take()

    def _append(self, part: bytes) -> None:
        self._line += part[: self._longest - len(self._line)]

    def _take(self) -> bytes:
        line = bytes(self._line)
        self._line.clear()
        return line


def parse_line(line: bytes) -> Message:
    """Return what a line says; unreadable ones are `Text`."""
    text = line.decode("utf-8", "replace").rstrip("\r")
    raw = None
    if text.startswith("{"):
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError):
            raw = None
    return (_message(raw) if isinstance(raw, dict) else None) or Text(text)


def _message(raw: dict[str, Any]) -> Message | None:
    parsed: Message | None = None
    match raw.get("message_type"):
        case "status":
            parsed = _status(raw)
        case "summary":
            parsed = _summary(raw)
        case "error":
            parsed = _error(raw)
        case "exit_error":
            parsed = ExitError(_count(raw.get("code")), _text(raw.get("message")))
        case "initialized":
            parsed = Initialized(_text(raw.get("id")))
        case "changed":
            old, new = raw.get("old_snapshot_id"), raw.get("new_snapshot_id")
            parsed = Changed(_text(old), _text(new))
        case "verbose_status" if raw.get("item"):
            parsed = Item(_text(raw.get("item")))
    return parsed


def _status(raw: dict[str, Any]) -> Status:
    restored = _count(raw.get("files_restored")) + _count(raw.get("files_skipped"))
    written = _count(raw.get("bytes_restored")) + _count(raw.get("bytes_skipped"))
    return Status(
        done=min(_number(raw.get("percent_done")), 1.0),
        files_done=_count(raw.get("files_done")) or restored,
        files_total=_count(raw.get("total_files")),
        bytes_done=_count(raw.get("bytes_done")) or written,
        bytes_total=_count(raw.get("total_bytes")),
        remaining_s=_count(raw.get("seconds_remaining")),
    )


def _summary(raw: dict[str, Any]) -> Summary:
    return Summary(
        snapshot_id=_text(raw.get("snapshot_id")),
        files_new=_count(raw.get("files_new")),
        files_changed=_count(raw.get("files_changed")),
        files_unmodified=_count(raw.get("files_unmodified")),
        files_total=_count(raw.get("total_files_processed")),
        bytes_total=_count(raw.get("total_bytes_processed")),
        added_bytes=_count(raw.get("data_added")),
        duration_s=_number(raw.get("total_duration")),
        files_restored=_count(raw.get("files_restored")),
        files_skipped=_count(raw.get("files_skipped")),
        bytes_restored=_count(raw.get("bytes_restored")),
        errors=_count(raw.get("num_errors")),
    )


def _error(raw: dict[str, Any]) -> ItemError | Text:
    """Return what `backup` and `restore` say of a file, or what `check` says of the repository."""
    error = raw.get("error")
    if not isinstance(error, dict) and (text := _text(raw.get("message"))):
        return Text(text.strip())
    message = _text(error.get("message")) if isinstance(error, dict) else ""
    return ItemError(item=_text(raw.get("item")), message=message)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _count(value: Any) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < LARGEST else 0


def _number(value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0 <= value < LARGEST else 0.0
