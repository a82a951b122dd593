"""BackupSession: one run of a backup, from Pending to its final phase."""

from datetime import datetime
from typing import Any, assert_never

from controller.api.backup import host_of
from controller.api.conditions import (
    FINAL_PHASES,
    Condition,
    Phase,
    Type,
    deadline_exceeded,
    merged,
    outcome,
    without,
)
from controller.api.objects import dig, is_deleting, meta, name_of, namespace_of, status
from controller.api.proof import proven
from controller.api.report import Reason
from controller.api.resources import BACKUP_SESSION, JOB
from controller.api.text import format_seconds, format_time, parse_go_duration_s
from controller.build.job import JobOrder, backup_job, job_rbac
from controller.plan import CreateOnce, Plan
from controller.reconcile import retry
from controller.reconcile.backup_end import end, invoker_tag
from controller.reconcile.backup_start import (
    Impossible,
    Skip,
    Wait,
    executor_recorded,
    start_of,
)
from controller.reconcile.execution import verdict
from controller.reconcile.interruption import awaited_since, disruptions, plan_to_wait
from controller.reconcile.observed import SessionObserved
from controller.reconcile.session_status import (
    Outcome,
    deadline_of,
    host_stats,
    job_created,
    metrics_conditions,
    outcome_of,
    report_conditions,
    status_writes,
    waiting_status,
)
from controller.reconcile.verdicts import Died, Ended, Running, Waiting

WAIT_S = 60.0
"""What a session waits for is an event of a watch; this is only how long to go without one."""


def plan(seen: SessionObserved, now: datetime) -> Plan:
    """Return what a BackupSession needs now."""
    session = seen.session
    if is_deleting(session):
        return Plan()
    if status(session).get("phase") in FINAL_PHASES:
        return retry.plan(seen, now)
    if executor_recorded(session):
        return _follow(seen, now)
    if seen.executor.job is not None:
        # The Job was created, the write that says so was not: nothing else is left to decide.
        writes = status_writes(BACKUP_SESSION, session, _running_status(seen, now))
        return Plan(writes=writes, facts={"step": "job_found", "job": name_of(seen.executor.job)})
    return _begin(seen, now)


def _begin(seen: SessionObserved, now: datetime) -> Plan:
    start = start_of(seen, now)
    match start:
        case Skip(message):
            skipped = Condition(Type.BACKUP_SKIPPED, True, "SkippedTakingNewBackup", message)
            result = Outcome(Phase.SKIPPED, message)
            return end(seen, result, now, conditions=[skipped], target={})
        case Impossible(message):
            return _fail_to_start(seen, message, now)
        case Wait(message):
            return _wait(seen, message, now)
        case JobOrder():
            return _start(seen, start, now)
        case _:
            assert_never(start)


def _wait(seen: SessionObserved, message: str, now: datetime) -> Plan:
    if not message:
        return Plan(requeue_after_s=WAIT_S)
    new = waiting_status(seen.session, "RepositoryNotInitialized", message, now)
    return Plan(
        writes=status_writes(BACKUP_SESSION, seen.session, new),
        requeue_after_s=WAIT_S,
        facts={"step": "waiting", "words": message},
    )


def _fail_to_start(seen: SessionObserved, problem: str, now: datetime) -> Plan:
    failed = outcome(Type.BACKUP_EXECUTOR_ENSURED, failure=problem)
    target = {
        "ref": _target_ref(seen),
        "phase": Phase.FAILED.value,
        "conditions": merged((), [failed], now),
    }
    return end(seen, Outcome(Phase.FAILED, problem), now, conditions=[], target=target)


def _start(seen: SessionObserved, order: JobOrder, now: datetime) -> Plan:
    """Create the Job, then record that it was created: a crash in between creates nothing twice."""
    job = backup_job(order)
    if isinstance(job, tuple):
        return _fail_to_start(seen, "; ".join(str(problem) for problem in job), now)
    writes = (
        *(CreateOnce(resource, body) for resource, body in job_rbac(order)),
        CreateOnce(JOB, job),
        *status_writes(BACKUP_SESSION, seen.session, _running_status(seen, now)),
    )
    facts = job_created(seen.session, job)
    if order.node_name:
        facts["node"] = order.node_name
    return Plan(writes=writes, facts=facts)


def _running_status(seen: SessionObserved, now: datetime) -> dict[str, Any]:
    target: dict[str, Any] = {
        "ref": _target_ref(seen),
        "phase": Phase.RUNNING.value,
        "totalHosts": 1,
        "preBackupActions": ["InitializeBackendRepository"],
        "postBackupActions": [
            "ApplyRetentionPolicy",
            "VerifyRepositoryIntegrity",
            "SendRepositoryMetrics",
        ],
        "conditions": merged((), [outcome(Type.BACKUP_EXECUTOR_ENSURED, failure=None)], now),
    }
    old = status(seen.session)
    new: dict[str, Any] = {**old, "phase": Phase.RUNNING.value, "targets": [target]}
    if "conditions" in old:
        new["conditions"] = without(old["conditions"] or (), Type.BACKUP_WAITING)
    if deadline := deadline_of(seen.session, seen.spec.time_out if seen.spec else ""):
        new["sessionDeadline"] = format_time(deadline)
    return new


def _target_ref(seen: SessionObserved) -> dict[str, str]:
    if seen.spec is None or seen.spec.target is None:
        return {}
    ref = seen.spec.target.ref
    return {
        "apiVersion": ref.api_version or "v1",
        "kind": ref.kind,
        "namespace": ref.namespace or namespace_of(seen.session),
        "name": ref.name,
    }


def _follow(seen: SessionObserved, now: datetime) -> Plan:
    """Wait for the Job, or end the session by what became of it."""
    conditions = status(seen.session).get("conditions") or ()
    since = awaited_since(conditions, Type.BACKUP_WAITING)
    found = verdict(
        seen.executor,
        now=now,
        limits=seen.limits,
        awaited_since=since,
        disruptions=disruptions(conditions, Type.BACKUP_WAITING),
        time_out_s=parse_go_duration_s(seen.spec.time_out) if seen.spec else None,
    )
    if isinstance(found, Waiting | Running) and _is_abandoned(seen):
        return _bury(seen, _cancelled(seen), now)
    match found:
        case Waiting() | Running():
            pod = seen.executor.pod
            return plan_to_wait(
                seen.session, BACKUP_SESSION, Type.BACKUP_WAITING, found, pod=pod, now=now
            )
        case Ended():
            return _report(seen, found, now)
        case Died():
            return _bury(seen, found, now)
        case _:
            assert_never(found)


def _is_abandoned(seen: SessionObserved) -> bool:
    """Tell whether nobody wants the backup any more (D15)."""
    return seen.configuration is None or is_deleting(seen.configuration)


def _cancelled(seen: SessionObserved) -> Died:
    """Return the end of a run whose configuration was deleted: the pod releases its own lock.

    Sessions of a trigger go with their configuration by garbage collection; those that a user made
    have no owner.
    """
    invoker = dig(seen.session, "spec", "invoker") or {}
    name = f"{invoker.get('kind')} {namespace_of(seen.session)}/{invoker.get('name')}"
    return Died(
        "ConfigurationDeleted", f"{name} was deleted during the backup: it was ended", end_job=True
    )


def _report(seen: SessionObserved, ended: Ended, now: datetime) -> Plan:
    report = proven(ended.report)
    result = outcome_of(report)
    conditions = [
        *report_conditions(report),
        *metrics_conditions(report.metrics, repository=True),
    ]
    if any(host.reason == Reason.DEADLINE_EXCEEDED for host in report.hosts):
        conditions.append(_deadline_condition(seen))
    all_good = bool(report.hosts) and all(host.succeeded for host in report.hosts)
    old_target = dig(seen.session, "status", "targets", 0) or {}
    target: dict[str, Any] = {
        "phase": (Phase.SUCCEEDED if all_good else Phase.FAILED).value,
        "stats": [host_stats(host) for host in report.hosts],
    }
    if report.conditions:
        # What a third party's step says about itself: shown, never believed.
        target["conditions"] = [
            *(old_target.get("conditions") or ()),
            *(
                {
                    "type": c.type,
                    "status": c.status,
                    "reason": c.reason,
                    "message": c.message,
                    "lastTransitionTime": format_time(now),
                }
                for c in report.conditions
                if c.type not in {str(kind) for kind in Type}
            ),
        ]
    snapshots = [snapshot for host in report.hosts for snapshot in host.snapshots]
    facts: dict[str, Any] = {
        "snapshots": [snapshot.id for snapshot in snapshots],
        "total_bytes": sum(snapshot.total_bytes for snapshot in snapshots),
        "uploaded_bytes": sum(snapshot.uploaded_bytes for snapshot in snapshots),
        "backup_s": round(sum(host.duration_s for host in report.hosts), 3),
    }
    return end(
        seen,
        result,
        now,
        conditions=conditions,
        target=target,
        report=report,
        facts=facts,
        ended=ended,
    )


def _deadline_condition(seen: SessionObserved) -> Condition:
    seconds = parse_go_duration_s(seen.spec.time_out) if seen.spec else None
    return deadline_exceeded(format_seconds(seconds or 0.0), restore=False)


def _bury(seen: SessionObserved, died: Died, now: datetime) -> Plan:
    """End a session whose Job cannot report."""
    message = f"{died.reason}: {died.message}"
    if died.reason == "ReportLost":
        message += (
            f". If a snapshot was made, it is the one with the tag {invoker_tag(seen)} that is "
            f"not older than {meta(seen.session).get('creationTimestamp')}"
        )
    disrupted = Condition(
        Type.BACKUP_DISRUPTED,
        True,
        "FailedToCompleteDueToDisruption",
        f"Failed to complete backup. Reason: {message}.",
    )
    old_target = dig(seen.session, "status", "targets", 0) or {}
    alias = seen.spec.target.alias if seen.spec and seen.spec.target else ""
    target: dict[str, Any] = {
        "phase": Phase.FAILED.value,
        "stats": [{"hostname": host_of(alias), "phase": Phase.FAILED.value, "error": message}],
        "conditions": merged(old_target.get("conditions") or (), [disrupted], now),
    }
    conditions = [_deadline_condition(seen)] if died.deadline else []
    result = Outcome(Phase.FAILED, message)
    return end(seen, result, now, conditions=conditions, target=target, died=died)
