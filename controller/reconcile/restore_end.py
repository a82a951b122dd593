"""How a restore with restic ends: its Job is stopped, its lock removed, then the status says so."""

from datetime import datetime
from typing import Any

from controller.api.backup import host_of
from controller.api.conditions import (
    Condition,
    Phase,
    Type,
    deadline_exceeded,
    restore_executor_ensured,
)
from controller.api.objects import dig, namespace_of, status
from controller.api.proof import error_text
from controller.api.report import Reason, RunReport
from controller.api.resources import RESTORE_SESSION
from controller.api.restore import RestoreSessionSpec, rule_for
from controller.api.text import format_duration, format_seconds, parse_go_duration_s
from controller.build.job import JobOrder
from controller.plan import Note, Plan, Ref
from controller.reconcile.closing import closing_writes, removals, stopped_after
from controller.reconcile.interruption import disruptions
from controller.reconcile.lost_metrics import pushes_for
from controller.reconcile.observed import RestoreObserved
from controller.reconcile.order import node_for, parts_of
from controller.reconcile.references import target_text
from controller.reconcile.repository_record import all_untagged_incomplete, recorded_id
from controller.reconcile.restore_status import UPDATER, final_status
from controller.reconcile.session_status import (
    Outcome,
    failure_conditions,
    metrics_conditions,
    outcome_of,
    status_writes,
)
from controller.reconcile.verdicts import Died, Ended


def fail_to_start(
    seen: RestoreObserved, conditions: list[Condition], problem: str, now: datetime
) -> Plan:
    """Return the plan of a restore whose Job cannot be created."""
    spec = seen.spec
    target = (
        target_text(spec.target.ref, namespace_of(seen.session))
        if isinstance(spec, RestoreSessionSpec) and spec.target
        else ""
    )
    failed = restore_executor_ensured(target, failure=problem)
    return _end(seen, Outcome(Phase.FAILED, problem), [*conditions, failed], {}, now)


def report_end(seen: RestoreObserved, ended: Ended, now: datetime) -> Plan:
    """Return the plan of a restore whose Job reported."""
    report = ended.report
    conditions = [
        *failure_conditions(Type.RESTORE_FAILED, report),
        *metrics_conditions(report.metrics, repository=False),
    ]
    incomplete = " ".join(host.incomplete for host in report.hosts if host.incomplete)
    if incomplete:
        conditions.append(
            Condition(Type.SNAPSHOT_INCOMPLETE, True, "IncompleteSnapshotChosen", incomplete)
        )
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
        warning=incomplete,
        ended=ended,
    )


def _deadline_condition(seen: RestoreObserved) -> Condition:
    seconds = parse_go_duration_s(time_out_of(seen)) or 0.0
    return deadline_exceeded(format_seconds(seconds), restore=True)


def time_out_of(seen: RestoreObserved) -> str:
    """Return `timeOut`, empty without one."""
    return seen.spec.time_out if isinstance(seen.spec, RestoreSessionSpec) else ""


def bury(seen: RestoreObserved, died: Died, now: datetime) -> Plan:
    """Return the plan of a restore whose Job cannot report."""
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
    warning: str = "",
    ended: Ended | None = None,
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
        text = f"{text}. {warning}" if warning else text
        note = Note(ref, "Normal", "Host Restore Succeeded", text, UPDATER)
    else:
        text = f'restore failed for host "{hosts}". Reason: {result.error}'
        note = Note(ref, "Warning", "Host Restore Failed", text, UPDATER)
    spec = seen.spec if isinstance(seen.spec, RestoreSessionSpec) else None
    order = order_for(seen, spec) if spec else "its spec is malformed"
    known = status(session).get("conditions") or ()
    replaced = disruptions(known, Type.RESTORE_WAITING) > 0
    return Plan(
        writes=closing_writes(
            removals(seen.executor, seen.access, died, order, replaced=replaced),
            status_writes(RESTORE_SESSION, session, new),
            seen.refusal,
            after=stopped_after(seen.executor, ended),
        ),
        notes=(note,),
        pushes=pushes_for(result, report, session, spec),
        facts=story,
    )


def order_for(seen: RestoreObserved, spec: RestoreSessionSpec) -> JobOrder | str:
    """Return what the Job is built from, or why it cannot be."""
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
        known_incomplete=all_untagged_incomplete(parts.repository),
        rule=rule,
    )
