"""restic's `--json` documents: what `snapshots` and `forget` print as one array."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from runner.restic.command import INCOMPLETE_TAG


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot as restic lists it. `files` is None where it was made by restic < 0.17."""

    id: str
    time: datetime
    host: str
    paths: tuple[str, ...]
    tags: tuple[str, ...]
    files: int | None = None


def is_complete(snapshot: Snapshot, untagged: Collection[str]) -> bool:
    """Tell whether the snapshot is known to hold everything.

    `untagged` are ids of incomplete ones without their tag.
    """
    return INCOMPLETE_TAG not in snapshot.tags and snapshot.id not in untagged


@dataclass(frozen=True, slots=True)
class ForgetGroup:
    """What `forget` keeps and removes of one host and path."""

    keep: tuple[Snapshot, ...]
    remove: tuple[Snapshot, ...]


def parse_snapshots(document: bytes) -> tuple[Snapshot, ...]:
    """Parse what `restic snapshots --json` printed.

    Raises:
        ValueError: it is something else.
    """
    return tuple(_snapshot(item) for item in _array(document))


def parse_forget(document: bytes) -> tuple[ForgetGroup, ...]:
    """Parse what `restic forget --json` printed; nothing at all means that nothing matched.

    With `--prune` more lines may follow the first.

    Raises:
        ValueError: it is something else.
    """
    first = document.strip().partition(b"\n")[0]
    groups = _array(first) if first else []
    try:
        return tuple(
            ForgetGroup(
                keep=tuple(_snapshot(item) for item in group.get("keep") or ()),
                remove=tuple(_snapshot(item) for item in group.get("remove") or ()),
            )
            for group in groups
        )
    except (AttributeError, TypeError) as err:
        raise ValueError("restic's list of groups is malformed") from err


def _array(document: bytes) -> list[Any]:
    try:
        raw = json.loads(document)
    except RecursionError as err:
        raise ValueError("restic's output is nested too deeply") from err
    if raw is None:
        return []
    if not isinstance(raw, list):
        raise ValueError("restic printed no JSON array")  # noqa: TRY004 - one kind of error for all
    return raw


def _snapshot(raw: Any) -> Snapshot:
    if not isinstance(raw, Mapping):
        raise ValueError("restic listed no snapshot")  # noqa: TRY004 - one kind of error for all
    summary = raw.get("summary")
    try:
        return Snapshot(
            id=str(raw["id"]),
            time=datetime.fromisoformat(raw["time"]),
            host=str(raw.get("hostname", "")),
            paths=tuple(str(path) for path in raw.get("paths") or ()),
            tags=tuple(str(tag) for tag in raw.get("tags") or ()),
            files=summary.get("total_files_processed") if isinstance(summary, Mapping) else None,
        )
    except (KeyError, TypeError) as err:
        raise ValueError("restic listed a snapshot without id or time") from err
