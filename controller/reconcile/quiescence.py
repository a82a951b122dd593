"""How long an application may stand still because its VolumeSnapshots are not cut (D17). Pure.

A driver may never cut one, and the wait for it lasts for hours. What is cut after the application
was set going again is not what the hooks are for: it is no success.
"""

from datetime import datetime, timedelta

from controller.api.conditions import Type, status_of
from controller.api.objects import annotations_of, meta, status
from controller.api.report import Reason
from controller.api.text import format_seconds, parse_go_duration_s, parse_time
from controller.reconcile.snapshot_hooks import post_hook_of
from controller.reconcile.snapshot_observed import SnapshotSessionObserved
from controller.reconcile.snapshot_status import target_conditions
from controller.reconcile.snapshot_wait import Host, Hosts

QUIESCE_LIMIT = "drey.dev/quiesce-limit"
"""Annotation of a BackupConfiguration: for how long after its preBackup hook VolumeSnapshots may
not be cut, a Go duration."""
QUIESCE_LIMIT_S = 600.0


def quiesced_left_s(seen: SnapshotSessionObserved, hosts: Hosts, now: datetime) -> float | None:
    """Return for how long an application may still stand still, None when nothing says so.

    With another policy than Always its author wants it to wait for the outcome.
    """
    conditions = target_conditions(seen.session)
    pre = next((c for c in conditions if c.get("type") == Type.PRE_BACKUP_HOOK.value), {})
    if hosts.are_cut or not hosts.is_known or pre.get("status") != "True":
        return None
    if status_of(conditions, Type.POST_BACKUP_HOOK) is not None:
        return None
    hook = post_hook_of(seen)
    if hook is None or hook.policy != "Always":
        return None
    return quiesce_limit_s(seen) - (now - parse_time(pre["lastTransitionTime"])).total_seconds()


def unread_left_s(seen: SnapshotSessionObserved, now: datetime) -> float:
    """Return for how long a target is waited for that cannot be read after the preBackup hook.

    Whatever the policy: nothing is being cut, and the outcome is what it waits for. The hook's own
    Job tells since when as long as the status does not.
    """
    conditions = target_conditions(seen.session)
    pre = next((c for c in conditions if c.get("type") == Type.PRE_BACKUP_HOOK.value), {})
    since = pre.get("lastTransitionTime") or meta(seen.pre.job or seen.session)["creationTimestamp"]
    left_s = quiesce_limit_s(seen) - (now - parse_time(since)).total_seconds()
    deadline = status(seen.session).get("sessionDeadline")
    return min(left_s, (parse_time(deadline) - now).total_seconds()) if deadline else left_s


def quiesced_until(seen: SnapshotSessionObserved) -> datetime | None:
    """Return when an application that stands still now goes on at the latest, None for no limit.

    It may go on earlier, when the session is deleted for one: nobody can know that beforehand.
    """
    conditions = target_conditions(seen.session)
    pre = next((c for c in conditions if c.get("type") == Type.PRE_BACKUP_HOOK.value), {})
    hook = post_hook_of(seen) if pre.get("status") == "True" else None
    if hook is None:
        return None
    deadline = status(seen.session).get("sessionDeadline")
    ends = [parse_time(deadline)] if deadline else []
    if hook.policy == "Always":
        limit = timedelta(seconds=quiesce_limit_s(seen))
        ends.append(parse_time(pre["lastTransitionTime"]) + limit)
    return min(ends, default=None)


def quiesce_limit_s(seen: SnapshotSessionObserved) -> float:
    """Return how long an application may stand still."""
    text = annotations_of(seen.configuration or {}).get(QUIESCE_LIMIT, "")
    seconds = parse_go_duration_s(text) or 0.0
    return seconds if seconds > 0 else QUIESCE_LIMIT_S


def given_up(hosts: Hosts, limit_s: float) -> tuple[Host, ...]:
    """Return the claims; those whose VolumeSnapshot is not cut have failed."""
    text = (
        f"it was not cut within {format_seconds(limit_s)} after the preBackup hook. The application"
        f" goes on, so that what is cut now is not quiesced; annotation {QUIESCE_LIMIT} of the "
        "BackupConfiguration allows more time"
    )
    return tuple(
        host
        if host.is_decided or host.is_cut
        else host.failed(Reason.SNAPSHOT_NOT_READY, f"VolumeSnapshot {host.snapshot}: {text}")
        if host.snapshot
        else host.failed(Reason.NOT_CREATED, text)
        for host in hosts.hosts
    )
