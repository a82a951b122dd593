"""BackupSession with VolumeSnapshots: one run, from Pending to its final phase (flow B).

The steps: preBackup hook, a Job that creates all VolumeSnapshots, the wait for their driver,
postBackup hook, the end. Each is told by what is observed; a write that a crash kept from being
recorded is found again by its name.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from controller.api.conditions import FINAL_PHASES, Condition, Phase, Type, merged, status_of
from controller.api.objects import (
    Obj,
    dig,
    finalizers_of,
    is_deleting,
    name_of,
    namespace_of,
    status,
)
from controller.api.report import Reason
from controller.api.resources import JOB
from controller.api.text import parse_time
from controller.build.hook import POST_HOOK
from controller.plan import Delete, Plan, Ref, Write
from controller.reconcile import retry
from controller.reconcile.backup_start import hindrance
from controller.reconcile.closing import closing_writes
from controller.reconcile.execution import Died, Running, Waiting
from controller.reconcile.hook_execution import (
    PRE_BACKUP,
    Busy,
    Lost,
    Over,
    ended,
    hook_timeout_s,
    progress,
)
from controller.reconcile.interruption import interruption
from controller.reconcile.snapshot_end import background, end, release
from controller.reconcile.snapshot_hooks import Step, carries_post_hook, post_step
from controller.reconcile.snapshot_observed import Reading, SnapshotSessionObserved
from controller.reconcile.snapshot_sources import Sources, sources_of
from controller.reconcile.snapshot_start import (
    begin,
    creation_writes,
    record,
    started_plan,
    started_status,
)
from controller.reconcile.snapshot_status import (
    changed_status,
    deadline_condition,
    entry_of,
    executor_ensured,
    incomplete_condition,
    outcome_of,
    recorded_failure,
    status_writes,
    target_conditions,
    waiting_condition,
)
from controller.reconcile.snapshot_wait import Host, Hosts, hosts_of

NO_HOOK = "the preBackup hook failed, so that no VolumeSnapshot was made"


def plan(seen: SnapshotSessionObserved, now: datetime) -> Plan:
    """Return what a BackupSession with VolumeSnapshots needs now."""
    found = _plan(seen, now)
    before = background(seen)
    return replace(found, writes=(*before, *found.writes)) if before else found


def _plan(seen: SnapshotSessionObserved, now: datetime) -> Plan:
    session = seen.session
    is_held = POST_HOOK in finalizers_of(session)
    if status(session).get("phase") in FINAL_PHASES and not is_held:
        return Plan() if is_deleting(session) else retry.plan(seen, now)
    if is_deleting(session) and not is_held:
        return Plan()
    if status(session).get("phase") not in FINAL_PHASES:
        if is_begun(session):
            return _follow(seen, now)
        if seen.executor.job is not None or seen.pre.job is not None:
            return record(seen, now)
        if not is_deleting(session):
            return begin(seen, now)
    return Plan(writes=release(session), facts={"step": "released"})


def is_begun(session: Obj) -> bool:
    """Tell whether the status says that a Job of the session was created: hook or executor."""
    conditions = target_conditions(session)
    kinds = (Type.PRE_BACKUP_HOOK, Type.BACKUP_EXECUTOR_ENSURED)
    return any(status_of(conditions, kind) is not None for kind in kinds)


def needs_reading(seen: SnapshotSessionObserved, now: datetime) -> bool:
    """Tell whether this turn may decide by the target and its claims as they are now."""
    session, spec = seen.session, seen.spec
    if status(session).get("phase") in FINAL_PHASES or spec is None:
        return False
    if not is_begun(session):
        is_hidden = seen.executor.job is not None or seen.pre.job is not None
        return is_hidden or (not is_deleting(session) and hindrance(seen) is None)
    conditions = target_conditions(session)
    if status_of(conditions, Type.BACKUP_EXECUTOR_ENSURED) is None:
        return status_of(conditions, Type.PRE_BACKUP_HOOK) == "True"
    post = status_of(conditions, Type.POST_BACKUP_HOOK)
    if post in ("True", "False") or carries_post_hook(seen):
        return False
    has_post = spec.hooks is not None and spec.hooks.post_backup is not None
    return has_post and hosts_of(seen, now).are_cut


def _follow(seen: SnapshotSessionObserved, now: datetime) -> Plan:
    session = seen.session
    state = progress(
        PRE_BACKUP,
        target_conditions(session),
        seen.pre,
        now=now,
        limits=seen.limits,
        timeout_s=hook_timeout_s(seen.configuration),
    )
    match state:
        case Busy(requeue_after_s, words):
            # Even if nobody wants the backup any more: what it began must be known to be over
            # before the application is set going again.
            facts = {"step": "waiting_for_hook", **({"words": words} if words else {})}
            return Plan(requeue_after_s=requeue_after_s, facts=facts)
        case Over(failure, is_recorded=False):
            return _record_pre_hook(seen, failure, now)
        case Lost():
            return _record_pre_hook(seen, "its Job was deleted before it ended", now)
    conditions = target_conditions(session)
    ensured = status_of(conditions, Type.BACKUP_EXECUTOR_ENSURED)
    if ensured is None and status_of(conditions, Type.PRE_BACKUP_HOOK) == "True":
        return _create_after_hook(seen, now)
    return _settle(seen, hosts_of(seen, now), now)


def _record_pre_hook(seen: SnapshotSessionObserved, failure: str, now: datetime) -> Plan:
    condition = ended(PRE_BACKUP, failure)
    facts: dict[str, Any] = {"step": "pre_hook_ended"}
    if failure:
        facts["error"] = failure
        return _give_up(seen, f"{NO_HOOK}: {failure}", [condition], now, facts=facts)
    new = changed_status(seen.session, now, target=[condition])
    return Plan(writes=status_writes(seen.session, new), facts=facts)


def _give_up(
    seen: SnapshotSessionObserved,
    problem: str,
    target: list[Condition],
    now: datetime,
    *,
    conditions: Iterable[Condition] = (),
    facts: dict[str, Any] | None = None,
) -> Plan:
    """Record that no VolumeSnapshot is made. Something ran, though: its hook comes next."""
    hosts = [
        Host(str(entry.get("hostname"))).failed(Reason.NOT_CREATED.value, problem)
        for entry in dig(seen.session, "status", "targets", 0, "stats") or ()
        if not entry.get("phase")
    ]
    new = changed_status(seen.session, now, target=target, hosts=hosts, conditions=conditions)
    story = facts or {"step": "given_up", "error": problem}
    return Plan(writes=status_writes(seen.session, new), facts=story)


def _create_after_hook(seen: SnapshotSessionObserved, now: datetime) -> Plan:
    """Create the VolumeSnapshots' Job now that the application is quiesced."""
    if seen.executor.job is not None:
        new = changed_status(seen.session, now, target=[executor_ensured(None)])
        facts = {"step": "job_found", "job": name_of(seen.executor.job)}
        return Plan(writes=status_writes(seen.session, new), facts=facts)
    if gone := _abandoned(seen):
        return _give_up(seen, gone, [executor_ensured(gone)], now)
    if (deadline := status(seen.session).get("sessionDeadline")) and now >= parse_time(deadline):
        late = "timeOut has passed while the preBackup hook ran"
        exceeded = [deadline_condition(seen.session)]
        return _give_up(seen, late, [executor_ensured(late)], now, conditions=exceeded)
    sources = _sources(seen)
    writes = sources if isinstance(sources, str) else creation_writes(seen, sources)
    if isinstance(sources, str) or isinstance(writes, str):
        said = str(writes)
        return _give_up(seen, said, [executor_ensured(said)], now)
    new = started_status(seen, sources, executor_ensured(None), now)
    return started_plan(seen, writes, new)


def _sources(seen: SnapshotSessionObserved) -> Sources | str:
    if seen.refusal is not None:
        return seen.refusal.message
    if seen.spec is None:
        return "its BackupConfiguration is malformed by now"
    sources = sources_of(seen.spec, seen.reading or Reading(), namespace_of(seen.session))
    if isinstance(sources, Sources) and not sources.claims:
        return f"none of its claims can be snapshotted. {outcome_of(sources.failed).error}"
    return sources


@dataclass(frozen=True, slots=True)
class _Stage:
    """How far the run is: its claims, its Job to be stopped, its postBackup hook."""

    hosts: Hosts
    stopped: tuple[Write, ...]
    post: Step


def _settle(seen: SnapshotSessionObserved, hosts: Hosts, now: datetime) -> Plan:
    """Wait for the VolumeSnapshots, run the postBackup hook as soon as it may, then end."""
    gone = "" if hosts.are_decided else _abandoned(seen)
    stopped = _stopped(seen, hosts, is_abandoned=bool(gone))
    if gone:
        hosts = _cancelled(hosts, gone)
    earlier = _earlier(seen.session)
    is_decided = hosts.are_decided
    unknown = not hosts.is_known
    open_result = outcome_of(hosts.hosts, earlier=earlier, unknown=unknown)
    phase = open_result.phase if is_decided else None
    post = post_step(seen, phase, now, are_cut=hosts.are_cut)
    stage = _Stage(hosts, stopped, post)
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
    waits = [s for s in (hosts.requeue_after_s, post.requeue_after_s) if s is not None]
    return Plan(
        writes=closing_writes(
            (*stage.stopped, *post.writes), status_writes(seen.session, new), seen.refusal
        ),
        requeue_after_s=min(waits, default=None),
        facts=_story(stage),
    )


def _story(stage: _Stage) -> dict[str, Any]:
    hosts, post = stage.hosts, stage.post
    if post.writes:
        return {"step": "post_hook_started"}
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
    ref = Ref.to(JOB, job)
    return (Delete(Ref(JOB, ref.namespace, ref.name, ref.uid)),)


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


def _abandoned(seen: SnapshotSessionObserved) -> str:
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
