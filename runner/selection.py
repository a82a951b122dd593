"""Which snapshot a restore takes (D1). Pure."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from controller.api import restic_id
from controller.api.report import Reason
from runner.failure import RunError
from runner.restic.documents import Snapshot

LATEST = "latest"
CANDIDATES = 10
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


def _listed(snapshots: Sequence[Snapshot]) -> str:
    newest_first = sorted(snapshots, key=lambda snapshot: snapshot.time, reverse=True)
    return ", ".join(
        f"{item.id} ({_target(item).removeprefix(_TARGET) or 'no target tag'},"
        f" {item.time:%Y-%m-%d %H:%M})"
        for item in newest_first[:CANDIDATES]
    )
