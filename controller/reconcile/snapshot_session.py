"""BackupSession with VolumeSnapshots: one run, from Pending to its final phase (flow B).

The steps: preBackup hook, a Job that creates all VolumeSnapshots, the wait for their driver,
postBackup hook, the end. Each is told by what is observed; a write that a crash kept from being
recorded is found again by its name.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from controller.api.conditions import FINAL_PHASES, Condition, Type, status_of
from controller.api.objects import (
    Obj,
    dig,
    finalizers_of,
    is_deleting,
    is_finished,
    name_of,
    namespace_of,
    status,
)
from controller.api.report import Reason
from controller.api.resources import BACKUP_SESSION, JOB
from controller.api.text import parse_time
from controller.build.hook import POST_HOOK
from controller.plan import Delete, Plan, Ref, Write
from controller.reconcile import retry
from controller.reconcile.backup_start import hindrance
from controller.reconcile.closing import closing_writes
from controller.reconcile.execution import UNREADABLE_S
from controller.reconcile.hook_execution import (
    POST_BACKUP,
    PRE_BACKUP,
    Busy,
    Over,
    ended,
    hook_timeout_s,
    is_started,
    progress,
    retold,
)
from controller.reconcile.hook_rivals import rival_of
from controller.reconcile.leftover import with_leftover
from controller.reconcile.owed_hook import is_owed, owed_hook, release
from controller.reconcile.quiescence import unread_left_s
from controller.reconcile.session_status import status_writes
from controller.reconcile.snapshot_end import background
from controller.reconcile.snapshot_observed import Reading, SnapshotSessionObserved
from controller.reconcile.snapshot_settlement import abandoned, settle
from controller.reconcile.snapshot_sources import Sources, sources_of, unreadable_text
from controller.reconcile.snapshot_start import (
    begin,
    creation_writes,
    record,
    record_lost,
    started_plan,
    started_status,
)
from controller.reconcile.snapshot_status import (
    changed_status,
    deadline_condition,
    executor_ensured,
    outcome_of,
    target_conditions,
)
from controller.reconcile.snapshot_wait import Host, hosts_of

NO_HOOK = "the preBackup hook failed, so that no VolumeSnapshot was made"


def plan(seen: SnapshotSessionObserved, now: datetime) -> Plan:
    """Return what a BackupSession with VolumeSnapshots needs now."""
    found = _plan(seen, now)
    before = background(seen)
    return replace(found, writes=(*before, *found.writes)) if before else found


def _plan(seen: SnapshotSessionObserved, now: datetime) -> Plan:
    session = seen.session
    is_held = POST_HOOK in finalizers_of(session)
    is_over = status(session).get("phase") in FINAL_PHASES
    if not is_held and (is_over or is_deleting(session)):
        return Plan() if is_deleting(session) else with_leftover(retry.plan(seen, now), seen, now)
    if not is_over:
        if is_begun(session):
            return _follow(seen, now)
        if seen.executor.job is not None or seen.pre.job is not None:
            return _unread(seen, now) or record(seen, now)
        if not is_deleting(session):
            return begin(seen, now)
        if is_owed(session):
            return record_lost(seen, now)
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
        is_free = hindrance(seen) is None and rival_of(seen) is None
        return is_hidden or (not is_deleting(session) and is_free)
    conditions = target_conditions(session)
    pre = status_of(conditions, Type.PRE_BACKUP_HOOK)
    if status_of(conditions, Type.BACKUP_EXECUTOR_ENSURED) is None and pre != "False":
        return pre == "True"
    post = status_of(conditions, Type.POST_BACKUP_HOOK)
    is_running = seen.post.job is not None and is_started(conditions, POST_BACKUP)
    if is_running or post in ("True", "False") or owed_hook(session) is not None:
        return False
    has_post = spec.hooks is not None and spec.hooks.post_backup is not None
    return has_post and (hosts_of(seen, now).are_cut or bool(abandoned(seen)))


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
            told = retold(PRE_BACKUP, target_conditions(session), state)
            new = changed_status(session, now, target=told)
            facts = {"step": "waiting_for_hook", **({"words": words} if words else {})}
            writes = status_writes(BACKUP_SESSION, session, new)
            return Plan(writes=writes, requeue_after_s=requeue_after_s, facts=facts)
        case Over(failure, is_recorded=False):
            return _record_pre_hook(seen, failure, now)
    conditions = target_conditions(session)
    ensured = status_of(conditions, Type.BACKUP_EXECUTOR_ENSURED)
    if ensured is None and status_of(conditions, Type.PRE_BACKUP_HOOK) == "True":
        return _unread(seen, now) or _create_after_hook(seen, now)
    return settle(seen, hosts_of(seen, now), now)


def _record_pre_hook(seen: SnapshotSessionObserved, failure: str, now: datetime) -> Plan:
    condition = ended(PRE_BACKUP, failure)
    facts: dict[str, Any] = {"step": "pre_hook_ended"}
    if failure:
        facts["error"] = failure
        found = _give_up(seen, f"{NO_HOOK}: {failure}", [condition], now, facts=facts)
        return replace(found, writes=closing_writes(_stopped(seen), found.writes, seen.refusal))
    new = changed_status(seen.session, now, target=[condition])
    return Plan(writes=status_writes(BACKUP_SESSION, seen.session, new), facts=facts)


def _stopped(seen: SnapshotSessionObserved) -> tuple[Write, ...]:
    """Return what stops a preBackup Job that was given up: it could freeze after the thaw.

    One that was never begun, or is suspended, has no deadline of its own.
    """
    job = seen.pre.job
    if job is None or is_deleting(job) or is_finished(job):
        return ()
    return (Delete(Ref.by_uid(JOB, job)),)


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
    return Plan(writes=status_writes(BACKUP_SESSION, seen.session, new), facts=story)


def _create_after_hook(seen: SnapshotSessionObserved, now: datetime) -> Plan:
    """Create the VolumeSnapshots' Job now that the application is quiesced."""
    if seen.executor.job is not None:
        if seen.reading is not None and seen.reading.told is not None:
            return record(seen, now)  # the claims may be others than when the hook began
        new = changed_status(seen.session, now, target=[executor_ensured(None)])
        facts = {"step": "job_found", "job": name_of(seen.executor.job)}
        return Plan(writes=status_writes(BACKUP_SESSION, seen.session, new), facts=facts)
    if gone := abandoned(seen):
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


def _unread(seen: SnapshotSessionObserved, now: datetime) -> Plan | None:
    """Wait for a target that cannot be read; None when it can, or nobody may wait any longer."""
    if seen.reading is None or not seen.reading.unreadable or abandoned(seen):
        return None
    left_s = unread_left_s(seen, now)
    if left_s <= 0:
        return None
    facts = {"step": "waiting_for_target", "words": seen.reading.unreadable}
    return Plan(requeue_after_s=min(left_s, UNREADABLE_S), facts=facts)


def _sources(seen: SnapshotSessionObserved) -> Sources | str:
    if seen.refusal is not None:
        return seen.refusal.message
    if seen.spec is None:
        return "its BackupConfiguration is malformed by now"
    if seen.reading is not None and seen.reading.unreadable:
        return unreadable_text(seen.spec, seen.reading, namespace_of(seen.session))
    sources = sources_of(seen.spec, seen.reading or Reading(), namespace_of(seen.session))
    if isinstance(sources, Sources) and not sources.claims:
        return f"none of its claims can be snapshotted. {outcome_of(sources.failed).error}"
    return sources
