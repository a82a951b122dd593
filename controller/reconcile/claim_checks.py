"""What a restore from VolumeSnapshots waits for, and what is known to keep its claims from it.

Both by claim, all at once: nothing is created while anything is known to go wrong, and whoever
mends it learns of everything in one go.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

from controller.api.conditions import Type, status_of
from controller.api.creation import SESSION_UID
from controller.api.objects import (
    Obj,
    annotations_of,
    dig,
    is_deleting,
    labels_of,
    meta,
    name_of,
    namespace_of,
    status,
    uid_of,
)
from controller.api.quantity import parse_quantity
from controller.api.report import Reason
from controller.api.restore import RestoreSessionSpec
from controller.api.text import parse_go_duration_s, parse_time
from controller.build.claims import Claim
from controller.reconcile.claim_observed import ClaimRestoreObserved, Storage
from controller.reconcile.observed import Limits
from controller.reconcile.snapshot_wait import progress_of

WAITS_FOR_CONSUMER = "WaitForFirstConsumer"
WORDS = 640
"""So many characters of a driver's words are told: what is said around them has room as well."""
_MODE_CHANGE_ALLOWED = "snapshot.storage.kubernetes.io/allow-volume-mode-change"
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
"""What the external-provisioner takes for true: Go's strconv.ParseBool."""
_Check = Callable[[Claim, ClaimRestoreObserved], str | None]


def awaited(claims: Iterable[Claim], storage: Storage, namespace: str) -> Mapping[str, str]:
    """Return by claim why its VolumeSnapshot cannot be restored yet."""
    found = ((claim.name, snapshot_problem(claim, storage, namespace)) for claim in claims)
    return {name: problem for name, problem in found if problem is not None}


def snapshot_problem(claim: Claim, storage: Storage, namespace: str) -> str | None:
    """Say why the VolumeSnapshot of a claim is no source, None when it is one."""
    if storage.unreadable and claim.snapshot not in storage.snapshots:
        name = f"VolumeSnapshot {namespace}/{claim.snapshot}"
        return f"{name}, or what it is to be restored with, cannot be read: {storage.unreadable}"
    if gone := snapshot_gone(claim, storage, namespace):
        return gone
    snapshot = storage.snapshots[claim.snapshot]
    if dig(snapshot, "status", "readyToUse") is True:
        return None
    said = dig(snapshot, "status", "error", "message")
    text = f"VolumeSnapshot {namespace}/{claim.snapshot} is not ready to use"
    return f"{text}: {str(said)[:WORDS]}" if said else text


def snapshot_gone(claim: Claim, storage: Storage, namespace: str) -> str | None:
    """Say that the VolumeSnapshot of a claim does not exist any more, or soon will not.

    One that is being deleted is kept by Kubernetes while a claim is made from it, but no
    provisioner takes it any more.
    """
    name = f"VolumeSnapshot {namespace}/{claim.snapshot}"
    snapshot = storage.snapshots.get(claim.snapshot)
    if snapshot is None:
        return f"{name} does not exist"
    return f"{name} is being deleted" if is_deleting(snapshot) else None


def leaving(claims: Iterable[Claim], seen: ClaimRestoreObserved) -> Mapping[str, str]:
    """Return by claim that one of its name is being deleted: nothing is wrong once it is gone.

    Kubernetes keeps it while a pod uses it.
    """
    return {
        claim.name: f"PersistentVolumeClaim {namespace_of(seen.session)}/{claim.name} exists and "
        "is being deleted: it goes when no pod uses it any more"
        for claim in claims
        if (found := seen.storage.claims.get(claim.name)) is not None and is_deleting(found)
    }


def refusals(
    claims: Iterable[Claim], seen: ClaimRestoreObserved
) -> Mapping[str, tuple[Reason, str]]:
    """Return by claim why it cannot be created, or why no provisioner would fill it.

    All VolumeSnapshots are ready. A claim with the session's uid is its own: the controller ended
    before it could say that it had started.
    """
    found: dict[str, tuple[Reason, str]] = {}
    for claim in claims:
        if text := _foreign(claim, seen):
            found[claim.name] = (Reason.ALREADY_EXISTS, text)
        elif texts := tuple(text for check in _CHECKS if (text := check(claim, seen))):
            found[claim.name] = (Reason.INPUT_INVALID, "; ".join(texts))
    return found


def is_own(claim: Obj, session: Obj) -> bool:
    """Tell whether a claim was made by this session (D21)."""
    return labels_of(claim).get(SESSION_UID) == uid_of(session)


def waits_for_consumer(storage_class: Obj | None) -> bool:
    """Tell whether claims of a class are bound only when a pod uses them (D23)."""
    return bool(dig(storage_class, "volumeBindingMode") == WAITS_FOR_CONSUMER)


def began_at(session: Obj, now: datetime) -> datetime:
    """Return from when on the time of a restore counts: its creation, or when it became valid.

    One that is mended after hours has all of its time. While it is not valid none has passed.
    """
    created = parse_time(meta(session)["creationTimestamp"])
    conditions = status(session).get("conditions") or ()
    passed = status_of(conditions, Type.VALIDATION_PASSED)
    if passed != "True":
        return created if passed is None else max(created, now)
    entry = next(c for c in conditions if c.get("type") == Type.VALIDATION_PASSED.value)
    return max(created, parse_time(entry["lastTransitionTime"]))


def sources_since(session: Obj, snapshots: Iterable[Obj | None], now: datetime) -> datetime:
    """Return when the VolumeSnapshots of a session last came nearer to being ready."""
    found = (snapshot for snapshot in snapshots if snapshot is not None)
    times = (moment for snapshot in found for moment in progress_of(snapshot))
    return max((began_at(session, now), *times))


def timed_out_at(session: Obj, spec: RestoreSessionSpec, now: datetime) -> datetime | None:
    """Return when `timeOut` has passed, None without one."""
    seconds = parse_go_duration_s(spec.time_out) if spec.time_out else None
    return began_at(session, now) + timedelta(seconds=seconds) if seconds else None


def deadline(
    session: Obj, spec: RestoreSessionSpec, limits: Limits, since: datetime, now: datetime
) -> tuple[datetime, bool]:
    """Return until when is waited, and whether that is the end of `timeOut`.

    Without it the end comes when nothing has changed for long: `since` is the last progress.
    """
    stalled = since + timedelta(seconds=limits.snapshot_s)
    timed_out = timed_out_at(session, spec, now)
    if timed_out is not None and timed_out <= stalled:
        return timed_out, True
    return stalled, False


def _foreign(claim: Claim, seen: ClaimRestoreObserved) -> str | None:
    found = seen.storage.claims.get(claim.name)
    if found is None or is_own(found, seen.session) or is_deleting(found):
        return None
    return (
        f"PersistentVolumeClaim {namespace_of(seen.session)}/{claim.name} exists already and is "
        "not this session's own, so it is not touched. Delete it, or give another name in "
        f"{claim.path}.metadata.name"
    )


def _class_problem(claim: Claim, seen: ClaimRestoreObserved) -> str | None:
    if seen.storage.classes.get(claim.storage_class) is not None:
        return None
    path = f"{claim.path}.spec.storageClassName"
    if claim.storage_class:
        return f"StorageClass {claim.storage_class} not found: create it, or correct {path}"
    return f"no StorageClass is the default one: name one in {path}"


def _size_problem(claim: Claim, seen: ClaimRestoreObserved) -> str | None:
    name = f"VolumeSnapshot {namespace_of(seen.session)}/{claim.snapshot}"
    path = f"{claim.path}.spec.resources.requests.storage"
    least = str(dig(seen.storage.snapshots.get(claim.snapshot), "status", "restoreSize") or "")
    needed = parse_quantity(least)
    if not claim.size:
        # Of a driver that does not tell it is 0.
        return None if needed else f"{name} has no restoreSize: give a size in {path}"
    wanted = parse_quantity(claim.size)
    if wanted is None or needed is None or wanted >= needed:
        return None
    return f"{path} is {claim.size}, less than restoreSize {least} of {name}: give {least} or more"


def _content_of(claim: Claim, storage: Storage) -> tuple[str, Obj | None, bool]:
    """Return the name of the snapshot's content, the content, and whether it was looked at."""
    snapshot = storage.snapshots.get(claim.snapshot)
    name = str(dig(snapshot, "status", "boundVolumeSnapshotContentName") or "")
    return name, storage.contents.get(name), name in storage.contents


def _content_problem(claim: Claim, seen: ClaimRestoreObserved) -> str | None:
    name, content, looked = _content_of(claim, seen.storage)
    if not looked:
        return None
    snapshot = seen.storage.snapshots[claim.snapshot] or {}
    where = f"VolumeSnapshot {namespace_of(seen.session)}/{claim.snapshot}"
    if content is None:
        return f"VolumeSnapshotContent {name} of {where} does not exist: its data is gone"
    ref = dig(content, "spec", "volumeSnapshotRef") or {}
    own = (uid_of(snapshot), namespace_of(seen.session), name_of(snapshot))
    if (ref.get("uid"), ref.get("namespace"), ref.get("name")) != own:
        return (
            f"VolumeSnapshotContent {name} is not of {where} (uid {own[0]}): its "
            f"spec.volumeSnapshotRef names {ref.get('namespace')}/{ref.get('name')} "
            f"(uid {ref.get('uid')}), so that no provisioner takes it"
        )
    if not dig(content, "status", "snapshotHandle"):
        return (
            f"VolumeSnapshotContent {name} of {where} has no status.snapshotHandle: the CSI driver "
            "cannot be told which snapshot it is"
        )
    return None


def _driver_problem(claim: Claim, seen: ClaimRestoreObserved) -> str | None:
    _, content, _ = _content_of(claim, seen.storage)
    storage_class = seen.storage.classes.get(claim.storage_class)
    driver, provisioner = dig(content, "spec", "driver"), dig(storage_class, "provisioner")
    if not driver or not provisioner or driver == provisioner:
        return None
    name = dig(storage_class, "metadata", "name")
    return (
        f"StorageClass {name} is of provisioner {provisioner}, VolumeSnapshot "
        f"{namespace_of(seen.session)}/{claim.snapshot} of CSI driver {driver}: name a "
        f"StorageClass of {driver} in {claim.path}.spec.storageClassName"
    )


def _mode_problem(claim: Claim, seen: ClaimRestoreObserved) -> str | None:
    _, content, _ = _content_of(claim, seen.storage)
    source = dig(content, "spec", "sourceVolumeMode")
    allowed = annotations_of(content or {}).get(_MODE_CHANGE_ALLOWED) in _TRUE
    if not source or source == claim.volume_mode or allowed:
        return None
    return (
        f"{claim.path}.spec.volumeMode is {claim.volume_mode}, but VolumeSnapshot "
        f"{namespace_of(seen.session)}/{claim.snapshot} is of a volume with {source}: "
        f"give {source}"
    )


_CHECKS: tuple[_Check, ...] = (
    _class_problem,
    _size_problem,
    _content_problem,
    _driver_problem,
    _mode_problem,
)
