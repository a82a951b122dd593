"""Which snapshot a restore takes (D1). Pure."""

from collections.abc import Collection, Sequence
from datetime import UTC
from pathlib import PurePosixPath

from controller.api import restic_id
from controller.api.report import Reason
from runner.failure import RunError
from runner.restic.documents import Snapshot, is_complete

LATEST = "latest"
CANDIDATES = 10
MOST_TOLD = 2
"""Incomplete snapshots that a warning names: with the ids of complete ones it is a text of D32."""
_LONGEST_PATH = 40
_TARGET = "drey:target="


def check_id(snapshot: str) -> None:
    """Raise `RunError` unless it is an id of 8 to 64 hex digits."""
    if not restic_id.is_snapshot(snapshot):
        raise RunError(
            Reason.SNAPSHOT_NOT_FOUND,
            f"snapshot {snapshot!r} is no id; give 8 or 64 hexadecimal digits, or {LATEST}",
        )


def by_id(snapshots: Sequence[Snapshot], wanted: str, repository: str) -> Snapshot:
    """Return the snapshot with this id.

    Raises:
        RunError: there is none, or more than one begins so.
    """
    found = [snapshot for snapshot in snapshots if snapshot.id.startswith(wanted)]
    if not found:
        raise RunError(
            Reason.SNAPSHOT_NOT_FOUND,
            f"{repository} has no snapshot {wanted}; it may have been removed by retention",
        )
    if len(found) > 1:
        raise RunError(
            Reason.SNAPSHOT_AMBIGUOUS,
            f"more than one snapshot begins with {wanted}; give all 64 digits: {_listed(found)}",
        )
    return found[0]


def newest(
    snapshots: Sequence[Snapshot], *, host: str, path: str, target_tag: str, repository: str
) -> Snapshot:
    """Return the newest snapshot of this host and path.

    Those with the target's own tag come first. Among the others only those of one target, or only
    untagged ones, may be in question: a neighbour's data is never restored by guess.

    Raises:
        RunError: none is found, or those of more than one target are in question.
    """
    found = [snapshot for snapshot in snapshots if snapshot.host == host and path in snapshot.paths]
    own = [snapshot for snapshot in found if target_tag in snapshot.tags]
    found = own or found
    if not found:
        raise RunError(
            Reason.SNAPSHOT_NOT_FOUND,
            f"{repository} has no snapshot of host {host} and path {path}; check sourceHost and"
            " paths of the rule",
        )
    targets = {_target(snapshot) for snapshot in found}
    if len(targets) > 1:
        latest = [
            max((item for item in found if _target(item) == target), key=lambda item: item.time)
            for target in targets
        ]
        raise RunError(
            Reason.SNAPSHOT_AMBIGUOUS,
            f"{repository} has snapshots of host {host} and path {path} of several targets, none"
            f" of them this one; name one in the rule's snapshots: {_listed(latest)}",
        )
    return max(found, key=lambda snapshot: snapshot.time)


def newest_complete(
    snapshots: Sequence[Snapshot], like: Snapshot, untagged: Collection[str]
) -> Snapshot | None:
    """Return the newest complete snapshot of the host, the paths and the target of another one.

    `untagged` are ids of incomplete ones without their tag.
    """
    found = [
        snapshot
        for snapshot in snapshots
        if snapshot.host == like.host
        and set(snapshot.paths) == set(like.paths)
        and _target(snapshot) == _target(like)
        and is_complete(snapshot, untagged)
    ]
    return max(found, key=lambda snapshot: snapshot.time, default=None)


def warning_of(
    incomplete: Sequence[Snapshot], known: Sequence[Snapshot] | None, untagged: Collection[str]
) -> str:
    """Return what to say of incomplete snapshots that are restored, and what to do about them.

    `known` are the snapshots of the repository, None when they could not be listed.
    """
    said = []
    advice = False
    for snapshot in incomplete[:MOST_TOLD]:
        text = f"Snapshot {_named(snapshot)} is incomplete"
        if known is not None:
            complete = newest_complete(known, snapshot, untagged)
            of = "complete one of its host, path and target"
            advice |= complete is not None
            text += f"; the newest {of} is {_named(complete)}" if complete else f"; no {of} exists"
        said.append(text)
    if (more := len(incomplete) - MOST_TOLD) > 0:
        said.append(f"{more} more of the chosen snapshots are incomplete as well")
    said.append("What could not be read when such a snapshot was made is not in it")
    if advice:
        said.append(
            "To restore a complete one, name it in spec.target.rules[].snapshots of another"
            " RestoreSession"
        )
    return f"{'. '.join(said)}."


def check_inside(snapshot: Snapshot, mount_path: str) -> None:
    """Raise `RunError` unless all of the snapshot lies in the volume's mount (D4)."""
    mount = PurePosixPath(mount_path)
    for path in snapshot.paths:
        pure = PurePosixPath(path)
        if ".." in pure.parts or not pure.is_relative_to(mount):
            raise RunError(
                Reason.SNAPSHOT_OUTSIDE_MOUNT,
                f"snapshot {snapshot.id} holds {path}, which lies outside of the volume's mount"
                f" {mount_path}; set target.volumeMounts[].mountPath so that it is inside",
            )


def _target(snapshot: Snapshot) -> str:
    return next((tag for tag in snapshot.tags if tag.startswith(_TARGET)), "")


def _named(snapshot: Snapshot) -> str:
    path = snapshot.paths[0] if snapshot.paths else "no path"
    if len(path) > _LONGEST_PATH:
        path = f"...{path[3 - _LONGEST_PATH :]}"
    return f"{snapshot.id} of {path} ({snapshot.time.astimezone(UTC):%Y-%m-%d %H:%M} UTC)"


def _listed(snapshots: Sequence[Snapshot]) -> str:
    newest_first = sorted(snapshots, key=lambda snapshot: snapshot.time, reverse=True)
    return ", ".join(
        f"{item.id} ({_target(item).removeprefix(_TARGET) or 'no target tag'},"
        f" {item.time:%Y-%m-%d %H:%M})"
        for item in newest_first[:CANDIDATES]
    )
