"""RestoreSession: checks what it names, runs one Job, and says what came of it."""

from datetime import datetime
from typing import Any, assert_never

from controller.api.conditions import (
    FINAL_PHASES,
    Condition,
    Phase,
    Type,
    restore_executor_ensured,
    status_of,
    validation,
)
from controller.api.model import Problem
from controller.api.objects import (
    Key,
    is_deleting,
    name_of,
    namespace_of,
    status,
)
from controller.api.resources import JOB, RESTORE_SESSION
from controller.api.restore import (
    RestoreSessionSpec,
    restore_session_problems,
)
from controller.api.text import parse_go_duration_s
from controller.build.job import job_rbac, restore_job
from controller.plan import CreateOnce, Note, Plan, Ref, Write
from controller.reconcile.execution import verdict
from controller.reconcile.interruption import awaited_since, disruptions, plan_to_wait
from controller.reconcile.observed import RestoreObserved
from controller.reconcile.order import use_problem
from controller.reconcile.references import (
    repository_condition,
    repository_spec_problems,
    retry_in_s,
    secret_condition,
    target_condition,
    target_text,
    task_problems,
)
from controller.reconcile.restore_end import (
    bury,
    fail_to_start,
    order_for,
    report_end,
    time_out_of,
)
from controller.reconcile.restore_status import (
    CONTROLLER,
    held_notes,
    held_status,
    released,
    running_status,
)
from controller.reconcile.session_status import deadline_of, job_created, status_writes
from controller.reconcile.verdicts import Died, Ended, Running, Waiting

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
        return Plan(writes=status_writes(RESTORE_SESSION, session, new), facts=facts)
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
        return fail_to_start(seen, conditions, seen.refusal.message, now)
    target = target_text(spec.target.ref, namespace_of(seen.session))
    if problem := use_problem(seen.references.pvc or {}, seen.use.pods, target):
        return fail_to_start(seen, conditions, problem, now)
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
        writes=status_writes(RESTORE_SESSION, seen.session, new),
        notes=held_notes(seen.session, conditions),
        requeue_after_s=retry_in_s(new["conditions"], WAITED_FOR, now),
        facts={"step": "waiting", "phase": phase.value, "waits_for": said},
    )


def _start(
    seen: RestoreObserved, spec: RestoreSessionSpec, conditions: list[Condition], now: datetime
) -> Plan:
    order = order_for(seen, spec)
    job = order if isinstance(order, str) else restore_job(order)
    if isinstance(order, str) or isinstance(job, str | tuple):
        problem = job if isinstance(job, str) else "; ".join(str(p) for p in job)
        return fail_to_start(seen, conditions, problem, now)
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
        *status_writes(RESTORE_SESSION, seen.session, _running_status(seen, spec, conditions, now)),
    )
    return Plan(writes=writes, notes=notes, facts=job_created(seen.session, job))


def _running_status(
    seen: RestoreObserved, spec: RestoreSessionSpec, conditions: list[Condition], now: datetime
) -> dict[str, Any]:
    target = target_text(spec.target.ref, namespace_of(seen.session)) if spec.target else ""
    wanted = [*conditions, restore_executor_ensured(target, failure=None)]
    deadline = deadline_of(seen.session, spec.time_out)
    return running_status(seen.session, wanted, hosts=1, deadline=deadline, now=now)


def _follow(seen: RestoreObserved, now: datetime) -> Plan:
    conditions = status(seen.session).get("conditions") or ()
    since = awaited_since(conditions, Type.RESTORE_WAITING)
    found = verdict(
        seen.executor,
        now=now,
        limits=seen.limits,
        awaited_since=since,
        disruptions=disruptions(conditions, Type.RESTORE_WAITING),
        time_out_s=parse_go_duration_s(time_out_of(seen)),
    )
    match found:
        case Waiting() | Running():
            pod = seen.executor.pod
            return plan_to_wait(
                seen.session, RESTORE_SESSION, Type.RESTORE_WAITING, found, pod=pod, now=now
            )
        case Ended():
            return report_end(seen, found, now)
        case Died():
            return bury(seen, found, now)
        case _:
            assert_never(found)
