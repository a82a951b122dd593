"""What is kept about a restic repository in annotations of its Repository, from run to run.

Annotations can be edited, and other operators write some: what is not in order counts as absent.
Configurations share a Repository: what concerns the snapshots of one is filed under its name, so
that no run of a neighbour clears it.
"""

import json
from collections.abc import Mapping
from datetime import datetime

from controller.api import restic_id
from controller.api.objects import Key, Obj, annotations_of, status
from controller.api.report import MAX_UNTAGGED, RepositoryReport
from controller.api.text import format_time, parse_time

REPOSITORY_ID = "drey.dev/repository-id"
"""The id of the restic repository, once it was used (D2): 64 hex digits."""
VERIFIED_AT = "drey.dev/verified-at"
"""When integrity and size were last determined."""
SNAPSHOTS_AHEAD = "drey.dev/snapshots-ahead"
"""JSON list of the configurations (`namespace/name`) with a snapshot from the future."""
UNTAGGED_INCOMPLETE = "drey.dev/untagged-incomplete"
"""JSON object: configuration (`namespace/name`) -> ids of incomplete snapshots without a tag."""
MAX_CONFIGURATIONS = 100
"""How many configurations each of the two names: with the longest names 32 KiB."""
MAX_IDS_OF_ALL = 480
"""How many ids are kept in all, 32 KiB: those of the configuration that just ran come first."""


def record(
    repository: Obj, configuration: Key, learned: RepositoryReport, now: datetime
) -> Mapping[str, str]:
    """Return the annotations of ours that a Repository has after a run, all of them."""
    old = annotations_of(repository)
    ours = {key: old[key] for key in (VERIFIED_AT,) if key in old}
    if known := recorded_id(repository) or (learned.id if restic_id.is_full(learned.id) else ""):
        ours[REPOSITORY_ID] = known
    elif REPOSITORY_ID in old:
        ours[REPOSITORY_ID] = old[REPOSITORY_ID]  # garbled, and still a sign of use
    if learned.integrity is not None:
        ours[VERIFIED_AT] = format_time(now)
    ahead = _ahead_after(repository, str(configuration), learned)
    if ahead:
        ours[SNAPSHOTS_AHEAD] = json.dumps(ahead, separators=(",", ":"))
    untagged = _untagged_after(repository, str(configuration), learned)
    if untagged:
        ours[UNTAGGED_INCOMPLETE] = json.dumps(untagged, separators=(",", ":"))
    return ours


def differs(repository: Obj, ours: Mapping[str, str]) -> bool:
    """Tell whether a Repository has other annotations of ours than it should have."""
    have = annotations_of(repository)
    known = (REPOSITORY_ID, VERIFIED_AT, SNAPSHOTS_AHEAD, UNTAGGED_INCOMPLETE)
    return any(have.get(key) != ours.get(key) for key in known)


def recorded_id(repository: Obj) -> str:
    """Return the id of the restic repository, empty when none is known for sure."""
    text = annotations_of(repository).get(REPOSITORY_ID, "")
    return text if restic_id.is_full(text) else ""


def was_used(repository: Obj) -> bool:
    """Tell whether a Repository was ever backed up to: then nothing is initialised (D2).

    An id that is garbled does not say which repository it was, but that there was one.
    """
    return REPOSITORY_ID in annotations_of(repository) or bool(
        status(repository).get("lastBackupTime")
    )


def is_damaged(repository: Obj) -> bool:
    """Tell whether the last check found damage."""
    return status(repository).get("integrity") is False


def verification_due(repository: Obj, now: datetime, interval_s: float) -> bool:
    """Tell whether integrity and size are to be determined with this backup.

    With each one while the repository is damaged: a run that does not look would succeed.
    """
    last = annotations_of(repository).get(VERIFIED_AT)
    if not last or is_damaged(repository):
        return True
    try:
        return (now - parse_time(last)).total_seconds() >= interval_s
    except ValueError:
        return True


def has_snapshots_ahead(repository: Obj, configuration: Key) -> bool:
    """Tell whether a configuration has snapshots that are later than its last run."""
    return str(configuration) in _ahead(repository)


def untagged_incomplete(repository: Obj, configuration: Key) -> tuple[str, ...]:
    """Return the ids of the incomplete snapshots of a configuration that lack their tag (D5)."""
    return tuple(_untagged(repository).get(str(configuration), ()))


def all_untagged_incomplete(repository: Obj) -> tuple[str, ...]:
    """Return the ids of all known incomplete snapshots that lack their tag, of whichever user."""
    ids = (item for kept in _untagged(repository).values() for item in kept)
    return tuple(dict.fromkeys(ids))[-MAX_IDS_OF_ALL:]


def _ahead(repository: Obj) -> list[str]:
    found = _json(annotations_of(repository).get(SNAPSHOTS_AHEAD))
    return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []


def _untagged(repository: Obj) -> dict[str, list[str]]:
    found = _json(annotations_of(repository).get(UNTAGGED_INCOMPLETE))
    return {
        key: kept
        for key, ids in (found.items() if isinstance(found, dict) else ())
        if isinstance(ids, list)
        and (kept := [item for item in ids if isinstance(item, str) and restic_id.is_full(item)])
    }


def _json(text: str | None) -> object:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None


def _ahead_after(repository: Obj, mine: str, learned: RepositoryReport) -> list[str]:
    if learned.snapshots_ahead is None:
        return _ahead(repository)
    others = [key for key in _ahead(repository) if key != mine]
    return [*others, *([mine] if learned.snapshots_ahead else [])][-MAX_CONFIGURATIONS:]


def _untagged_after(repository: Obj, mine: str, learned: RepositoryReport) -> dict[str, list[str]]:
    """Return the ids after a run.

    The whole list is in each report, save in one of a run that never found the repository or was
    cut to its bones: neither has an id. It clears nothing.
    """
    old = _untagged(repository)
    ids = [item for item in learned.untagged_incomplete if restic_id.is_full(item)][-MAX_UNTAGGED:]
    if not ids and not learned.id:
        return old
    others = {key: kept for key, kept in old.items() if key != mine}
    room = MAX_IDS_OF_ALL - len(ids)
    kept: dict[str, list[str]] = {}
    for key in reversed(others):
        if len(kept) < MAX_CONFIGURATIONS - 1 and len(others[key]) <= room:
            kept[key] = others[key]
            room -= len(others[key])
    found = {key: kept[key] for key in others if key in kept}
    return {**found, mine: ids} if ids else found
