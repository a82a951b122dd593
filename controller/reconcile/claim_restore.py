"""RestoreSession with driver VolumeSnapshotter: checks everything, runs one Job, watches claims."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from controller.api.conditions import (
    FINAL_PHASES,
    MAX_MESSAGE,
    Condition,
    Phase,
    Type,
    restore_executor_ensured,
    status_of,
    validation,
)
from controller.api.model import Problem
from controller.api.names import snapshot_job_name
from controller.api.objects import dig, is_deleting, name_of, namespace_of, status
from controller.api.report import MAX_TEXT, Reason
from controller.api.resources import JOB, RESTORE_SESSION
from controller.api.restore import restore_session_problems
from controller.api.text import format_seconds, parse_time
from controller.build.claims import TARGET_HASH, Claim, claim_input, claims_of, target_hash
from controller.build.creation import CreationOrder, creation_job
from controller.build.identity import claim_account, claim_rbac
from controller.plan import CreateOnce, Plan, Write
from controller.reconcile.claim_checks import (
    awaited,
    deadline,
    leaving,
    refusals,
    sources_since,
    timed_out_at,
)
from controller.reconcile.claim_end import claims_text, end
from controller.reconcile.claim_observed import ClaimRestoreObserved
from controller.reconcile.claim_outcome import Host
from controller.reconcile.claim_wait import deadline_condition, follow, overtaken
from controller.reconcile.references import LATEST_S, SOONEST_S
from controller.reconcile.restore_status import (
    held_notes,
    held_status,
    released,
    running_status,
)
from controller.reconcile.session_status import job_created, status_writes
from controller.reconcile.snapshot_target import served_condition

NOT_READY, NAME_TAKEN = "VolumeSnapshotsNotReady", "ClaimsBeingDeleted"
"""Reasons of ClaimsWaiting before the Job exists."""


def plan(seen: ClaimRestoreObserved, now: datetime) -> Plan:
    """Return what a restore from VolumeSnapshots needs now."""
    session = seen.session
    if is_deleting(session):
        return released(session)
    if status(session).get("phase") in FINAL_PHASES:
        return Plan()
    now = seen.looked_at or now
    if problems := problems_of(seen):
        return _refuse(seen, problems, now)
    claims = claims_of(seen.spec)
    if executor_recorded(seen):
        return follow(seen, claims, now)
    if seen.executor.job is not None:
        # The Job was created, the write that says so was not: nothing else is left to decide.
        facts = {"step": "job_found", "job": name_of(seen.executor.job)}
        return Plan(writes=_running(seen, claims, [validation(())], now), facts=facts)
    return _begin(seen, claims, now)


def problems_of(seen: ClaimRestoreObserved) -> tuple[Problem, ...]:
    """Return what is wrong with the spec: of one that has problems the claims are not known."""
    return restore_session_problems(seen.spec, namespace=namespace_of(seen.session))


def _refuse(seen: ClaimRestoreObserved, problems: Sequence[Problem], now: datetime) -> Plan:
    """Wait for a spec that is valid; of one that became invalid nobody knows the claims."""
    conditions = [validation(problems)]
    if executor_recorded(seen) or seen.executor.job is not None:
        said = "; ".join(str(problem) for problem in problems)
        return overtaken(seen, f"spec was changed: {said}", now, conditions=conditions)
    return _hold(seen, conditions, Phase.INVALID, now, look_s=None)


def executor_recorded(seen: ClaimRestoreObserved) -> bool:
    """Tell whether the status says that the Job was created."""
    conditions = status(seen.session).get("conditions") or ()
    return status_of(conditions, Type.RESTORE_EXECUTOR_ENSURED) == "True"


def job_name(session: str) -> str:
    """Return the name of the Job of a RestoreSession."""
    return snapshot_job_name(session, is_restore=True)


def _begin(seen: ClaimRestoreObserved, claims: Sequence[Claim], now: datetime) -> Plan:
    conditions = [validation(())]
    served = served_condition(served=seen.snapshots_served)
    old = status(seen.session).get("conditions") or ()
    if not seen.snapshots_served or status_of(old, served.type) is not None:
        conditions.append(served)
    missing = awaited(claims, seen.storage, namespace_of(seen.session))
    if missing or not seen.snapshots_served:
        return _await(seen, claims, conditions, missing, now, waits=NOT_READY)
    if seen.refusal is not None:
        return _fail(seen, claims, conditions, {}, now, error=seen.refusal.message)
    if refused := refusals(claims, seen):
        return _fail(seen, claims, conditions, refused, now)
    if taken := leaving(claims, seen):
        return _await(seen, claims, conditions, taken, now, waits=NAME_TAKEN)
    until = timed_out_at(seen.session, seen.spec, now)
    if until is not None and now >= until:
        why = f"{Reason.DEADLINE_EXCEEDED}: spec.timeOut is {seen.spec.time_out}"
        return _fail(seen, claims, [*conditions, deadline_condition(seen)], {}, now, error=why)
    return _start(seen, claims, conditions, now)


def _await(
    seen: ClaimRestoreObserved,
    claims: Sequence[Claim],
    conditions: list[Condition],
    missing: Mapping[str, str],
    now: datetime,
    *,
    waits: str,
) -> Plan:
    """Wait for snapshots, or for names to be free, until the deadline; `waits` says for which."""
    since = sources_since(seen.session, seen.storage.snapshots.values(), now)
    until, is_time_out = deadline(seen.session, seen.spec, seen.limits, since, now)
    if now < until:
        text = "; ".join(dict.fromkeys(missing.values()))
        said = f"No claim is created yet: {text or 'the cluster does not serve VolumeSnapshots'}."
        waiting = Condition(Type.CLAIMS_WAITING, True, waits, said)
        look_s = (until - now).total_seconds()
        return _hold(seen, [*conditions, waiting], Phase.PENDING, now, look_s=look_s)
    if is_time_out:
        conditions = [*conditions, deadline_condition(seen)]
        why = f"spec.timeOut is {seen.spec.time_out}"
    else:
        why = f"nothing has changed for {format_seconds(seen.limits.snapshot_s)}"
    reason = Reason.SNAPSHOT_NOT_READY if waits == NOT_READY else Reason.ALREADY_EXISTS
    failed = {name: (reason, f"{problem}; {why}") for name, problem in missing.items()}
    return _fail(seen, claims, conditions, failed, now)


def _hold(
    seen: ClaimRestoreObserved,
    conditions: list[Condition],
    phase: Phase,
    now: datetime,
    *,
    look_s: float | None,
) -> Plan:
    """Say what is missing or wrong, and look again: mending it is all that is needed."""
    new = held_status(seen.session, conditions, phase, now)
    said = next(
        (
            condition.message
            for condition in reversed(conditions)
            if condition.status is not True or condition.type is Type.CLAIMS_WAITING
        ),
        "",
    )
    return Plan(
        writes=status_writes(RESTORE_SESSION, seen.session, new),
        notes=held_notes(seen.session, conditions),
        requeue_after_s=None if look_s is None else min(look_s, _interval(seen, now)),
        facts={"step": "waiting", "phase": phase.value, "waits_for": said[:MAX_MESSAGE]},
    )


def _interval(seen: ClaimRestoreObserved, now: datetime) -> float:
    """Return when to look again at what is not ours, and so not watched (D14)."""
    ages = [
        (now - parse_time(entry["lastTransitionTime"])).total_seconds()
        for entry in status(seen.session).get("conditions") or ()
        if entry.get("type") == Type.CLAIMS_WAITING.value
    ]
    return min(LATEST_S, max(SOONEST_S, min(ages, default=0.0) / 2))


def _fail(
    seen: ClaimRestoreObserved,
    claims: Sequence[Claim],
    conditions: list[Condition],
    failed: Mapping[str, tuple[Reason, str]],
    now: datetime,
    *,
    error: str = "",
) -> Plan:
    """End a restore that created nothing."""
    first = next(iter(failed.values()), None)
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    why = (error or (f"{first[0]}: {first[1]}" if first else ""))[: MAX_TEXT - len(more)]
    other = (Reason.NOT_CREATED, error or "nothing was created, because not all claims can be")
    hosts = [Host(claim.name, Phase.FAILED, *failed.get(claim.name, other)) for claim in claims]
    target = claims_text(claims, namespace_of(seen.session))
    ensured = restore_executor_ensured(target, failure=why + more)
    return end(seen, hosts, now, conditions=[*conditions, ensured], error=why + more)


def _start(
    seen: ClaimRestoreObserved,
    claims: Sequence[Claim],
    conditions: list[Condition],
    now: datetime,
) -> Plan:
    session, spec = seen.session, seen.spec
    sizes = {
        name: str(dig(snapshot, "status", "restoreSize") or "")
        for name, snapshot in seen.storage.snapshots.items()
    }
    job = creation_job(
        CreationOrder(
            session=session,
            session_resource=RESTORE_SESSION,
            invoker=session,
            invoker_resource=RESTORE_SESSION,
            runtime_settings=spec.runtime_settings,
            installation=seen.installation,
            document=claim_input(session, claims, sizes, timed_out_at(session, spec, now)),
            job_name=job_name(name_of(session)),
            service_account=claim_account(session, spec),
            time_out=spec.time_out,
            annotations={TARGET_HASH: target_hash(session)},
        )
    )
    if isinstance(job, tuple):
        said = "; ".join(str(problem) for problem in job)
        return _fail(seen, claims, conditions, {}, now, error=said)
    writes: tuple[Write, ...] = (
        *(CreateOnce(resource, body) for resource, body in claim_rbac(session, spec)),
        CreateOnce(JOB, job),
        *_running(seen, claims, conditions, now),
    )
    return Plan(writes=writes, facts=job_created(session, job))


def _running(
    seen: ClaimRestoreObserved,
    claims: Sequence[Claim],
    conditions: list[Condition],
    now: datetime,
) -> tuple[Write, ...]:
    target = claims_text(claims, namespace_of(seen.session))
    new = running_status(
        seen.session,
        [*conditions, restore_executor_ensured(target, failure=None)],
        hosts=len(claims),
        deadline=timed_out_at(seen.session, seen.spec, now),
        now=now,
    )
    return status_writes(RESTORE_SESSION, seen.session, new)
