"""The wait for VolumeSnapshots: what is said meanwhile, when it is over, and how a session ends.

The postBackup hook runs as soon as it may; a run that nobody wants any more is cancelled (D15).
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from controller.api.conditions import Phase, Type, merged
from controller.api.objects import (
    Obj,
    dig,
    is_deleting,
    namespace_of,
    status,
)
from controller.api.resources import BACKUP_SESSION, JOB
from controller.plan import Delete, Plan, Ref, Write
from controller.reconcile.closing import closing_writes
from controller.reconcile.interruption import interruption
from controller.reconcile.quiescence import given_up, quiesce_limit_s, quiesced_left_s
from controller.reconcile.session_status import status_writes
from controller.reconcile.snapshot_end import end
from controller.reconcile.snapshot_hooks import Step, post_step
from controller.reconcile.snapshot_observed import SnapshotSessionObserved
from controller.reconcile.snapshot_status import (
    changed_status,
    deadline_condition,
    entry_of,
    incomplete_condition,
    outcome_of,
    recorded_failure,
    target_conditions,
    waiting_condition,
)
from controller.reconcile.snapshot_wait import Hosts
from controller.reconcile.verdicts import Died, Running, Waiting


@dataclass(frozen=True, slots=True)
class _Stage:
    """How far the run is: its claims, its Job to be stopped, its postBackup hook.

    `left_s` is how long the application may still stand still.
    """

    hosts: Hosts
    stopped: tuple[Write, ...]
    post: Step
    left_s: float | None


def settle(seen: SnapshotSessionObserved, hosts: Hosts, now: datetime) -> Plan:
    """Wait for the VolumeSnapshots, run the postBackup hook as soon as it may, then end."""
    gone = "" if hosts.are_decided else abandoned(seen)
    stopped = _stopped(seen, hosts, is_abandoned=bool(gone))
    if gone:
        hosts = _cancelled(hosts, gone)
    left_s = quiesced_left_s(seen, hosts, now)
    if left_s is not None and left_s <= 0:
        return _stand_still_no_longer(seen, hosts, now)
    earlier = _earlier(seen.session)
    is_decided = hosts.are_decided
    unknown = not hosts.is_known
    open_result = outcome_of(hosts.hosts, earlier=earlier, unknown=unknown)
    phase = open_result.phase if is_decided else None
    post = post_step(seen, phase, now, are_cut=hosts.are_cut)
    stage = _Stage(hosts, stopped, post, left_s)
    if not is_decided or not post.is_done:
        return _wait(seen, stage, now)
    result = outcome_of(hosts.hosts, earlier=earlier, after=post.failure, unknown=unknown)
    conditions = incomplete_condition(hosts.hosts)
    if hosts.is_overdue:
        conditions.append(deadline_condition(seen.session))
    is_good = result.phase is Phase.SUCCEEDED
    target: dict[str, Any] = {
        "phase": (Phase.SUCCEEDED if is_good else Phase.FAILED).value,
        "stats": [entry_of(host) for host in hosts.hosts],
        "totalHosts": len(hosts.hosts),
    }
    if post.condition is not None:
        old = target_conditions(seen.session)
        target["conditions"] = merged(old, [post.condition], now)
    return end(
        seen,
        result,
        now,
        target=target,
        hosts=hosts.hosts,
        conditions=conditions,
        before=stopped,
    )


def _stand_still_no_longer(seen: SnapshotSessionObserved, hosts: Hosts, now: datetime) -> Plan:
    """Record which claims failed, before the application goes on: a crash must not forget it."""
    failed = given_up(hosts, quiesce_limit_s(seen))
    new = changed_status(seen.session, now, hosts=failed)
    stopped = _stopped(seen, replace(hosts, hosts=failed), is_abandoned=True)
    return Plan(
        writes=closing_writes(
            stopped, status_writes(BACKUP_SESSION, seen.session, new), seen.refusal
        ),
        facts={"step": "stands_still_too_long"},
    )


def _wait(seen: SnapshotSessionObserved, stage: _Stage, now: datetime) -> Plan:
    """Say what is new, and what is waited for."""
    hosts, post = stage.hosts, stage.post
    old = status(seen.session).get("conditions") or ()
    conditions = waiting_condition(hosts.hosts, old)
    if hosts.is_overdue:
        conditions.append(deadline_condition(seen.session))
    target = [post.condition] if post.condition is not None else []
    new = changed_status(seen.session, now, target=target, hosts=hosts.hosts, conditions=conditions)
    creation = hosts.creation
    if isinstance(creation, Waiting | Running):
        entries = interruption(new.get("conditions") or (), Type.BACKUP_WAITING, creation, now)
        new = new if entries is None else {**new, "conditions": entries}
    given = (hosts.requeue_after_s, post.requeue_after_s, stage.left_s)
    waits = [s for s in given if s is not None]
    return Plan(
        writes=closing_writes(
            (*stage.stopped, *post.writes),
            status_writes(BACKUP_SESSION, seen.session, new),
            seen.refusal,
        ),
        requeue_after_s=min(waits, default=None),
        facts=_story(stage, seen.unlistable),
    )


def _story(stage: _Stage, unlistable: str) -> dict[str, Any]:
    hosts, post = stage.hosts, stage.post
    if post.writes:
        step = "post_hook_started" if post.condition is not None else "post_hook_lost"
        return {"step": step}
    if unlistable:
        return {"step": "waiting_for_list", "words": unlistable}
    if hosts.are_decided:
        return {"step": "waiting_for_hook"}
    if isinstance(hosts.creation, Waiting):
        words = hosts.creation.words
        return {"step": "waiting_for_pod", "words": words} if words else {}
    if hosts.creation is not None:
        return {"step": "creating"}
    words = "; ".join(f"{host.name}: {host.words}" for host in hosts.hosts if host.words)
    return {"step": "waiting_for_driver", **({"words": words} if words else {})}


def _stopped(
    seen: SnapshotSessionObserved, hosts: Hosts, *, is_abandoned: bool
) -> tuple[Write, ...]:
    """Return what stops the Job: nobody wants it, or it would never end."""
    job, creation = seen.executor.job, hosts.creation
    if job is None or creation is None:
        return ()
    is_alive = isinstance(creation, Waiting | Running)
    is_given_up = is_abandoned or (hosts.is_late and hosts.are_decided)
    hangs = isinstance(creation, Died) and creation.end_job
    if not (hangs or (is_alive and is_given_up)):
        return ()
    return (Delete(Ref.by_uid(JOB, job)),)


def _cancelled(hosts: Hosts, reason: str) -> Hosts:
    """Return the claims of a run that nobody wants any more: what exists stays."""
    ended_hosts = tuple(
        host
        if host.is_decided
        else host.failed(
            "Cancelled",
            f"{reason}; VolumeSnapshot {host.snapshot} stays, and was not ready"
            if host.snapshot
            else reason,
        )
        for host in hosts.hosts
    )
    return replace(hosts, hosts=ended_hosts, creation=None, requeue_after_s=None)


def abandoned(seen: SnapshotSessionObserved) -> str:
    """Say why nobody wants the backup any more, nothing when somebody does (D15)."""
    if is_deleting(seen.session):
        return "the session was deleted during the backup: it was ended"
    if seen.configuration is None or is_deleting(seen.configuration):
        invoker = dig(seen.session, "spec", "invoker") or {}
        name = f"{invoker.get('kind')} {namespace_of(seen.session)}/{invoker.get('name')}"
        return f"{name} was deleted during the backup: it was ended"
    return ""


def _earlier(session: Obj) -> str:
    """Return why nothing was snapshotted at all."""
    kinds = (Type.PRE_BACKUP_HOOK, Type.BACKUP_EXECUTOR_ENSURED)
    return next((said for kind in kinds if (said := recorded_failure(session, kind))), "")
