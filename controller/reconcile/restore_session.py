"""RestoreSession: checks what it names, runs one Job, and says what came of it."""

from datetime import datetime
from typing import Any, assert_never

from controller.api.backup import host_of
from controller.api.conditions import (
    FINAL_PHASES,
    Condition,
    Phase,
    Type,
    deadline_exceeded,
    restore_executor_ensured,
    status_of,
    validation,
)
from controller.api.model import Problem
from controller.api.objects import (
    Key,
    dig,
    is_deleting,
    name_of,
    namespace_of,
    status,
)
from controller.api.report import Reason, RunReport
from controller.api.resources import JOB, RESTORE_SESSION
from controller.api.restore import (
    RestoreSessionSpec,
    restore_session_problems,
    rule_for,
)
from controller.api.text import format_duration, format_seconds, parse_go_duration_s
from controller.build.job import JobOrder, job_rbac, restore_job
from controller.plan import CreateOnce, Note, Plan, Ref, Write
from controller.reconcile.closing import closing_writes, removals
from controller.reconcile.execution import Died, Ended, Running, Waiting, verdict
from controller.reconcile.interruption import awaited_since, plan_to_wait
from controller.reconcile.lost_metrics import pushes_for
from controller.reconcile.observed import RestoreObserved
from controller.reconcile.order import node_for, parts_of, use_problem
from controller.reconcile.references import (
    repository_condition,
    repository_spec_problems,
    retry_in_s,
    secret_condition,
    target_condition,
    target_text,
    task_problems,
)
from controller.reconcile.repository_record import recorded_id
from controller.reconcile.restore_status import (
    CONTROLLER,
    UPDATER,
    final_status,
    held_notes,
    held_status,
    released,
    running_status,
    status_writes,
)
from controller.reconcile.session_status import (
    Outcome,
    error_text,
    metrics_conditions,
    outcome_of,
)

WAITED_FOR = (
    Type.REPOSITORY_FOUND,
    Type.BACKEND_SECRET_FOUND,
    Type.VALIDATION_PASSED,
    Type.RESTORE_TARGET_FOUND,
)


def plan(seen: RestoreObserved, now: datetime) -> Plan:
    """Return what a RestoreSession needs now."""
    session = seen.session
    if is_deleting(session):
        return released(session)
    if status(session).get("phase") in FINAL_PHASES:
        return Plan()
    ensured = status_of(status(session).get("conditions") or (), Type.RESTORE_EXECUTOR_ENSURED)
    if ensured == "True":
        return _follow(seen, now)
    if seen.executor.job is not None and isinstance(seen.spec, RestoreSessionSpec):
        # The Job was created, the write that says so was not: nothing else is left to decide.
        new = _running_status(seen, seen.spec, [], now)
        facts = {"step": "job_found", "job": name_of(seen.executor.job)}
        return Plan(writes=status_writes(session, new), facts=facts)
    return _begin(seen, now)


def _begin(seen: RestoreObserved, now: datetime) -> Plan:
    spec = seen.spec
    problems = (
        spec
        if isinstance(spec, tuple)
        else restore_session_problems(spec, namespace=namespace_of(seen.session))
    )
    if problems or isinstance(spec, tuple) or spec.target is None:
        return _hold(seen, [validation(problems)], Phase.INVALID, now)
    conditions = _reference_conditions(seen, spec)
    invalid = any(c.type is Type.VALIDATION_PASSED and c.status is not True for c in conditions)
    if any(condition.status is not True for condition in conditions):
        return _hold(seen, conditions, Phase.INVALID if invalid else Phase.PENDING, now)
    if seen.refusal is not None:
        return _fail_to_start(seen, conditions, seen.refusal.message, now)
    target = target_text(spec.target.ref, namespace_of(seen.session))
    if problem := use_problem(seen.references.pvc or {}, seen.use.pods, target):
        return _fail_to_start(seen, conditions, problem, now)
    return _start(seen, spec, conditions, now)


def _reference_conditions(seen: RestoreObserved, spec: RestoreSessionSpec) -> list[Condition]:
    namespace = namespace_of(seen.session)
    problems: tuple[Problem, ...] = ()
    conditions: list[Condition] = []
    if spec.repository is not None:
        key = Key(namespace, spec.repository.name)
        conditions.append(repository_condition(seen.references, key))
        if seen.references.repository is not None:
            problems += repository_spec_problems(seen.references.repository)
        if secret := secret_condition(seen.references):
            conditions.append(secret)
    conditions.append(validation((*problems, *task_problems(seen.references, spec.task.name))))
    if spec.target is not None:
        target = target_text(spec.target.ref, namespace)
        conditions.append(target_condition(Type.RESTORE_TARGET_FOUND, seen.references, target))
    return conditions


def _hold(seen: RestoreObserved, conditions: list[Condition], phase: Phase, now: datetime) -> Plan:
    """Say what is missing or wrong, and look again: mending it is all that is needed."""
    new = held_status(seen.session, conditions, phase, now)
    said = next((c.message for c in conditions if c.status is not True), "")
    return Plan(
        writes=status_writes(seen.session, new),
        notes=held_notes(seen.session, conditions),
        requeue_after_s=retry_in_s(new["conditions"], WAITED_FOR, now),
        facts={"step": "waiting", "phase": phase.value, "waits_for": said},
    )


def _fail_to_start(
    seen: RestoreObserved, conditions: list[Condition], problem: str, now: datetime
) -> Plan:
    spec = seen.spec
    target = (
        target_text(spec.target.ref, namespace_of(seen.session))
        if isinstance(spec, RestoreSessionSpec) and spec.target
        else ""
    )
    failed = restore_executor_ensured(target, failure=problem)
    return _end(seen, Outcome(Phase.FAILED, problem), [*conditions, failed], {}, now)


def _start(
    seen: RestoreObserved, spec: RestoreSessionSpec, conditions: list[Condition], now: datetime
) -> Plan:
    order = _order(seen, spec)
    job = order if isinstance(order, str) else restore_job(order)
    if isinstance(order, str) or isinstance(job, str | tuple):
        problem = job if isinstance(job, str) else "; ".join(str(p) for p in job)
        return _fail_to_start(seen, conditions, problem, now)
    notes: tuple[Note, ...] = ()
    if seen.use.pods and spec.target:
        target = target_text(spec.target.ref, namespace_of(seen.session))
        message = (
            f"{target} is in use by {', '.join(seen.use.pods[:5])} while it is restored: "
            "what these pods write meanwhile may be overwritten."
        )
        conditions = [*conditions, Condition(Type.TARGET_IN_USE, True, "TargetMounted", message)]
        ref = Ref.to(RESTORE_SESSION, seen.session)
        notes = (Note(ref, "Warning", "TargetInUse", message, CONTROLLER),)
    writes: tuple[Write, ...] = (
        *(CreateOnce(resource, body) for resource, body in job_rbac(order)),
        CreateOnce(JOB, job),
        *status_writes(seen.session, _running_status(seen, spec, conditions, now)),
    )
    return Plan(writes=writes, notes=notes, facts={"step": "job_created", "job": name_of(job)})


def _running_status(
    seen: RestoreObserved, spec: RestoreSessionSpec, conditions: list[Condition], now: datetime
) -> dict[str, Any]:
    target = target_text(spec.target.ref, namespace_of(seen.session)) if spec.target else ""
    wanted = [*conditions, restore_executor_ensured(target, failure=None)]
    return running_status(seen.session, wanted, hosts=1, time_out=spec.time_out, now=now)


def _order(seen: RestoreObserved, spec: RestoreSessionSpec) -> JobOrder | str:
    parts = parts_of(seen.references)
    if isinstance(parts, str):
        return parts
    host = host_of(spec.target.alias if spec.target else "")
    rule = rule_for(spec, host)
    if rule is None:
        return f"no rule is for {host}: nothing would be restored"
    return JobOrder(
        session=seen.session,
        invoker=seen.session,
        spec=spec,
        repository=parts.repository,
        repository_spec=parts.repository_spec,
        task=parts.task,
        functions=parts.functions,
        installation=seen.installation,
        node_name=node_for(seen.references.pvc, seen.use.nodes),
        repository_id=recorded_id(parts.repository),
        rule=rule,
    )


def _follow(seen: RestoreObserved, now: datetime) -> Plan:
    conditions = status(seen.session).get("conditions") or ()
    since = awaited_since(conditions, Type.RESTORE_WAITING)
    found = verdict(
        seen.executor,
        now=now,
        limits=seen.limits,
        awaited_since=since,
        time_out_s=parse_go_duration_s(_time_out(seen)),
    )
    match found:
        case Waiting() | Running():
            pod = seen.executor.pod
            return plan_to_wait(
                seen.session, RESTORE_SESSION, Type.RESTORE_WAITING, found, pod=pod, now=now
            )
        case Ended(report):
            return _report(seen, report, now)
        case Died():
            return _bury(seen, found, now)
        case _:
            assert_never(found)


def _report(seen: RestoreObserved, report: RunReport, now: datetime) -> Plan:
    conditions = metrics_conditions(report.metrics, repository=False)
    if any(host.reason == Reason.DEADLINE_EXCEEDED for host in report.hosts):
        conditions.append(_deadline_condition(seen))
    stats = [
        {
            "hostname": host.hostname,
            "phase": (Phase.SUCCEEDED if host.succeeded else Phase.FAILED).value,
            "duration": format_duration(host.duration_s),
            **({} if host.succeeded else {"error": error_text(host)}),
        }
        for host in report.hosts
    ]
    facts = {
        "snapshots": [s.id for host in report.hosts for s in host.snapshots],
        "restore_s": round(sum(host.duration_s for host in report.hosts), 3),
    }
    return _end(
        seen,
        outcome_of(report),
        conditions,
        {"totalHosts": len(stats) or 1, "stats": stats},
        now,
        report=report,
        facts=facts,
    )


def _deadline_condition(seen: RestoreObserved) -> Condition:
    seconds = parse_go_duration_s(_time_out(seen)) or 0.0
    return deadline_exceeded(format_seconds(seconds), restore=True)


def _time_out(seen: RestoreObserved) -> str:
    return seen.spec.time_out if isinstance(seen.spec, RestoreSessionSpec) else ""


def _bury(seen: RestoreObserved, died: Died, now: datetime) -> Plan:
    message = f"{died.reason}: {died.message}"
    disrupted = Condition(
        Type.RESTORE_DISRUPTED,
        True,
        "FailedToCompleteDueToDisruption",
        f"Failed to complete restore. Reason: {message}. The target may be restored in part.",
    )
    conditions = [disrupted, _deadline_condition(seen)] if died.deadline else [disrupted]
    alias = (
        seen.spec.target.alias
        if isinstance(seen.spec, RestoreSessionSpec) and seen.spec.target
        else ""
    )
    stats = [{"hostname": host_of(alias), "phase": Phase.FAILED.value, "error": message}]
    result = Outcome(Phase.FAILED, message)
    return _end(seen, result, conditions, {"stats": stats}, now, died=died)


def _end(
    seen: RestoreObserved,
    result: Outcome,
    conditions: list[Condition],
    changes: dict[str, Any],
    now: datetime,
    *,
    report: RunReport | None = None,
    facts: dict[str, Any] | None = None,
    died: Died | None = None,
) -> Plan:
    session = seen.session
    new = final_status(session, result, conditions, changes, now)
    story = {"step": "finished", **(facts or {}), "phase": result.phase.value}
    if result.error:
        story["error"] = result.error
    hosts = dig(new, "stats", 0, "hostname") or host_of("")
    ref = Ref.to(RESTORE_SESSION, session)
    if result.phase is Phase.SUCCEEDED:
        text = f'restore succeeded for host "{hosts}"'
        note = Note(ref, "Normal", "Host Restore Succeeded", text, UPDATER)
    else:
        text = f'restore failed for host "{hosts}". Reason: {result.error}'
        note = Note(ref, "Warning", "Host Restore Failed", text, UPDATER)
    spec = seen.spec if isinstance(seen.spec, RestoreSessionSpec) else None
    order = _order(seen, spec) if spec else "its spec is malformed"
    return Plan(
        writes=closing_writes(
            removals(seen.executor, seen.access, died, order),
            status_writes(session, new),
            seen.refusal,
        ),
        notes=(note,),
        pushes=pushes_for(result, report, session, spec),
        facts=story,
    )
