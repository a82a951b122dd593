"""Folds a report into the status of a BackupSession and of its Repository."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from controller.api.conditions import Condition, Phase, Type, merged, outcome
from controller.api.objects import Obj, meta, name_of, status
from controller.api.proof import error_text, failure_of
from controller.api.report import HostReport, Reason, RunReport, StepReport, StepState
from controller.api.resources import Resource
from controller.api.text import (
    format_duration,
    format_processing_time,
    format_seconds,
    format_size,
    parse_go_duration_s,
    parse_time,
)
from controller.plan import Ref, SetStatus, Write

_INITIALISING = (Reason.REPOSITORY_INIT_FAILED, Reason.REPOSITORY_VANISHED)
_REASONS = frozenset(Reason)
ACCEPT_INCOMPLETE = "drey.dev/accept-incomplete"
"""Annotation of a BackupConfiguration: `"true"` lets an incomplete backup succeed (D5)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a session ends with. `error` is empty when it succeeded."""

    phase: Phase
    error: str = ""


def status_writes(resource: Resource, session: Obj, new: Obj) -> tuple[Write, ...]:
    """Return the status write, or nothing when it would change nothing."""
    return () if new == status(session) else (SetStatus(Ref.to(resource, session), new),)


def host_stats(host: HostReport) -> dict[str, Any]:
    """Return one entry of `status.targets[].stats` in Stash's shape."""
    stats: dict[str, Any] = {
        "hostname": host.hostname,
        "phase": (Phase.SUCCEEDED if host.succeeded else Phase.FAILED).value,
        "duration": format_duration(host.duration_s),
    }
    if not host.succeeded:
        stats["error"] = error_text(host)
    if host.snapshots:
        stats["snapshots"] = [
            {
                "name": snapshot.id,
                "path": snapshot.path,
                "totalSize": format_size(snapshot.total_bytes),
                "uploaded": format_size(snapshot.uploaded_bytes),
                "processingTime": format_processing_time(snapshot.processing_s),
                "fileStats": {
                    "totalFiles": snapshot.files_total,
                    "newFiles": snapshot.files_new,
                    "modifiedFiles": snapshot.files_modified,
                    "unmodifiedFiles": snapshot.files_unmodified,
                },
            }
            for snapshot in host.snapshots
        ]
    return stats


def outcome_of(report: RunReport) -> Outcome:
    """Return the phase that a report proves."""
    failure = failure_of(report)
    return Outcome(Phase.SUCCEEDED) if failure is None else Outcome(Phase.FAILED, failure)


def report_conditions(report: RunReport) -> list[Condition]:
    """Return the conditions of a BackupSession that a report gives rise to."""
    conditions: list[Condition] = []
    failed = next((host for host in report.hosts if not host.succeeded), None)
    if report.repository.id:
        conditions.append(outcome(Type.BACKEND_REPOSITORY_INITIALIZED, failure=None))
    elif failed is not None and failed.reason in _INITIALISING:
        conditions.append(outcome(Type.BACKEND_REPOSITORY_INITIALIZED, failure=error_text(failed)))
    conditions += _step(Type.RETENTION_POLICY_APPLIED, report.retention)
    conditions += _integrity(report)
    incomplete = [host for host in report.hosts if host.reason == Reason.BACKUP_INCOMPLETE]
    for host in incomplete:
        paths = ", ".join(host.unreadable)
        conditions.append(
            Condition(
                Type.BACKUP_INCOMPLETE,
                True,
                Reason.BACKUP_INCOMPLETE.value,
                f"Some files could not be read: {paths}. The snapshot was kept. {host.error}",
            )
        )
    told = (Reason.BACKUP_INCOMPLETE, *(_INITIALISING if not report.repository.id else ()))
    return [*conditions, *failure_conditions(Type.BACKUP_FAILED, report, told)]


def failure_conditions(
    kind: Type, report: RunReport, told: Collection[str] = ()
) -> list[Condition]:
    """Return the condition of a run that failed, unless another condition tells why.

    `told` are the reasons of which others tell; a deadline that has passed always has its own.
    """
    what = "backup" if kind is Type.BACKUP_FAILED else "restore"
    error = outcome_of(report).error
    failed = [host for host in report.hosts if not host.succeeded]
    untold = [host for host in failed if host.reason not in (*told, Reason.DEADLINE_EXCEEDED)]
    if not error or (failed and not untold):
        return []
    reason = "HostFailed" if failed or not report.hosts else "RepositoryDamaged"
    if untold:
        host = next((host for host in untold if host.reason in _REASONS), untold[0])
        reason = host.reason if host.reason in _REASONS else reason
        error = error_text(host)
    return [Condition(kind, True, reason, f"Failed to complete {what}. Reason: {error}")]


def _step(kind: Type, step: StepReport | None) -> list[Condition]:
    if step is None:
        return []
    if step.state is StepState.SKIPPED:
        good = outcome(kind, failure=None)
        return [Condition(kind, True, "Skipped", step.message or good.message)]
    return [outcome(kind, failure=step.message if step.state is StepState.FAILED else None)]


def _integrity(report: RunReport) -> list[Condition]:
    """Stash has True wherever the command ran: with us it is not true of a damaged repository."""
    kind, step = Type.REPOSITORY_INTEGRITY_VERIFIED, report.verification
    if step is not None and report.repository.integrity is False:
        return [outcome(kind, failure=step.message or "the repository is damaged")]
    return _step(kind, step)


def metrics_conditions(metrics: StepReport | None, *, repository: bool) -> list[Condition]:
    """Return MetricsPushed, and RepositoryMetricsPushed for backups."""
    kinds = (Type.REPOSITORY_METRICS_PUSHED,) if repository else ()
    return [
        condition for kind in (*kinds, Type.METRICS_PUSHED) for condition in _step(kind, metrics)
    ]


def repository_status(repository: Obj, session: Obj, report: RunReport) -> dict[str, Any]:
    """Return the status of the Repository after a session.

    `lastBackupTime` is the creation of the session, as Stash has it; it never goes back.
    """
    learned = report.repository
    new = dict(status(repository))
    created = str(meta(session).get("creationTimestamp") or "")
    if any(host.snapshots for host in report.hosts) and created > str(
        new.get("lastBackupTime") or ""
    ):
        new["lastBackupTime"] = created
    if learned.integrity is not None:
        new["integrity"] = learned.integrity
    if learned.size_bytes is not None:
        new["totalSize"] = format_size(learned.size_bytes)
    count = learned.snapshot_count if learned.snapshot_count is not None else None
    if count is None and len(new.get("references") or ()) <= 1:
        count = learned.snapshots_kept
    if count is not None:
        new["snapshotCount"] = count
    if learned.snapshots_removed is not None:
        new["snapshotsRemovedOnLastCleanup"] = learned.snapshots_removed
    return new


def job_created(session: Obj, job: Obj) -> dict[str, Any]:
    """Return the facts of the turn that saw a session and created its Job: how long that took.

    The line's own time is when; the session's has whole seconds.
    """
    created = str(meta(session)["creationTimestamp"])
    return {"step": "job_created", "job": name_of(job), "session_created": created}


def session_duration(session: Obj, now: datetime) -> str:
    """Return the time since a session's creation, rounded to seconds."""
    created = parse_time(meta(session)["creationTimestamp"])
    return format_seconds((now - created).total_seconds())


def waiting_status(session: Obj, reason: str, message: str, now: datetime) -> dict[str, Any]:
    """Return the status of a BackupSession that has to wait for another one before it starts."""
    old = status(session)
    waiting = Condition(Type.BACKUP_WAITING, True, reason, message)
    return {
        **old,
        "phase": Phase.PENDING.value,
        "conditions": merged(old.get("conditions") or (), [waiting], now),
    }


def deadline_of(session: Obj, time_out: str) -> datetime | None:
    """Return the creation of a session plus `timeOut`, None without one."""
    seconds = parse_go_duration_s(time_out) if time_out else None
    if not seconds:
        return None
    return parse_time(meta(session)["creationTimestamp"]) + timedelta(seconds=seconds)
