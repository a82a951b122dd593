"""Which VolumeSnapshots can be restored together: those of one session are of one moment. Pure.

An application with several volumes is restored from such a set; retention works claim by claim, and
after a session of which a part failed it could take the last whole one apart.
"""

from collections.abc import Collection, Iterable

from controller.api.creation import QUIESCED_UNTIL, SESSION_UID
from controller.api.objects import Obj, annotations_of, labels_of, meta, name_of, status, uid_of
from controller.api.text import parse_time
from controller.reconcile.snapshot_wait import claim_of, is_ready


def set_of(snapshot: Obj) -> str:
    """Return what the VolumeSnapshots of one session have in common.

    Those that Stash made have no label; their names end in the time of their session.
    """
    uid = labels_of(snapshot).get(SESSION_UID)
    return uid or name_of(snapshot).removeprefix(f"{claim_of(snapshot)}-")


def is_good(snapshot: Obj) -> bool:
    """Tell whether a VolumeSnapshot is as its session was to make it: ready, and quiesced."""
    return is_ready(snapshot) and not _is_late(snapshot)


def spared(good: Iterable[Obj], wanted: Collection[str], made: Collection[str]) -> frozenset[str]:
    """Return the uids of those that must stay because a session made only a part of its own.

    `good` are the good ones of other sessions, `wanted` the claims of this session, `made` those of
    which it has a good one. They are the set with the most of the wanted claims, of equals the
    newest. A set that has nothing that this session lacks gives way to it: so a claim that was
    never snapshotted, as after a workload was scaled, keeps nothing, and neither does anything
    after a session in which all went well.
    """
    sets: dict[str, list[Obj]] = {}
    for snapshot in good:
        if claim_of(snapshot) in wanted:
            sets.setdefault(set_of(snapshot), []).append(snapshot)
    made = frozenset(made)
    richer = [members for members in sets.values() if _claims(members) - made]
    best = max(richer, key=lambda members: (len(_claims(members)), _age(members)), default=())
    return frozenset(uid_of(snapshot) for snapshot in best)


def _claims(members: Iterable[Obj]) -> frozenset[str]:
    return frozenset(claim_of(snapshot) for snapshot in members)


def _age(members: Iterable[Obj]) -> tuple[str, str]:
    return max((str(meta(one)["creationTimestamp"]), name_of(one)) for one in members)


def _is_late(snapshot: Obj) -> bool:
    """Tell whether it was cut when its application may have gone on already.

    `creationTime` is by the driver's clock, which may be wrong; the status is not older than that.
    """
    until, cut = annotations_of(snapshot).get(QUIESCED_UNTIL), status(snapshot).get("creationTime")
    if not (until and cut):
        return False
    try:
        cut_at = min(parse_time(str(text)) for text in (cut, snapshot.get("changedAt")) if text)
        return cut_at > parse_time(until)
    except ValueError:  # anybody may edit an annotation
        return False
