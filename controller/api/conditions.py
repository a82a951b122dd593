"""Condition types, reasons and messages as Stash publishes them, and the rule of transition.

The published lists are atomic and unkeyed: we replace them as a whole and keep what we do not know
(D12). Types that Stash does not have are marked as ours.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from controller.api.objects import Obj
from controller.api.text import format_time

MAX_MESSAGE = 1024


class Phase(StrEnum):
    """Phases of sessions. `Unknown` and `Invalid` exist for RestoreSessions only."""

    PENDING = "Pending"
    SKIPPED = "Skipped"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    UNKNOWN = "Unknown"
    INVALID = "Invalid"


FINAL_PHASES = frozenset({Phase.SKIPPED, Phase.SUCCEEDED, Phase.FAILED, Phase.UNKNOWN})


class InvokerPhase(StrEnum):
    """Phases of a BackupConfiguration."""

    READY = "Ready"
    NOT_READY = "NotReady"
    INVALID = "Invalid"


class Type(StrEnum):
    """Condition types."""

    REPOSITORY_FOUND = "RepositoryFound"
    BACKEND_SECRET_FOUND = "BackendSecretFound"  # noqa: S105 - a condition, not a password
    VALIDATION_PASSED = "ValidationPassed"
    BACKUP_TARGET_FOUND = "BackupTargetFound"
    RESTORE_TARGET_FOUND = "RestoreTargetFound"
    CRON_JOB_CREATED = "CronJobCreated"
    BACKUP_SKIPPED = "BackupSkipped"
    BACKEND_REPOSITORY_INITIALIZED = "BackendRepositoryInitialized"
    RETENTION_POLICY_APPLIED = "RetentionPolicyApplied"
    REPOSITORY_INTEGRITY_VERIFIED = "RepositoryIntegrityVerified"
    REPOSITORY_METRICS_PUSHED = "RepositoryMetricsPushed"
    BACKUP_HISTORY_CLEANED = "BackupHistoryCleaned"
    METRICS_PUSHED = "MetricsPushed"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    BACKUP_EXECUTOR_ENSURED = "BackupExecutorEnsured"
    RESTORE_EXECUTOR_ENSURED = "RestoreExecutorEnsured"
    BACKUP_DISRUPTED = "BackupDisrupted"
    PRE_BACKUP_HOOK = "PreBackupHookExecutionSucceeded"
    POST_BACKUP_HOOK = "PostBackupHookExecutionSucceeded"
    PRE_RESTORE_HOOK = "PreRestoreHookExecutionSucceeded"
    POST_RESTORE_HOOK = "PostRestoreHookExecutionSucceeded"
    # ours
    SNAPSHOTS_SERVED = "VolumeSnapshotsServed"
    VOLUMES_LEFT_OUT = "VolumesLeftOut"
    POST_HOOK_OWED = "PostBackupHookOwed"
    SNAPSHOTS_WAITING = "VolumeSnapshotsWaiting"
    CLAIMS_WAITING = "ClaimsWaiting"
    CLAIMS_UNVERIFIED = "ClaimsUnverified"
    BACKUP_FAILED = "BackupFailed"
    BACKUP_INCOMPLETE = "BackupIncomplete"
    BACKUP_WAITING = "BackupWaiting"
    RESTORE_WAITING = "RestoreWaiting"
    RESTORE_DISRUPTED = "RestoreDisrupted"
    RESTORE_FAILED = "RestoreFailed"
    TARGET_IN_USE = "TargetInUse"
    SNAPSHOT_INCOMPLETE = "SnapshotIncomplete"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition as it should be; the time of its transition is added by `merged`."""

    type: Type
    status: bool | None
    reason: str
    message: str

    @property
    def status_text(self) -> str:
        """Return `True`, `False` or `Unknown`."""
        return "Unknown" if self.status is None else str(self.status)


def merged(old: Iterable[Obj], new: Iterable[Condition], now: datetime) -> list[Obj]:
    """Return a condition list with the new ones in the places of their old ones, or at the end.

    An entry changes only if status, reason or message differ, its `lastTransitionTime` only if
    status does, so that an unchanged world gives an unchanged status and no write. Entries of
    types that are not in `new` are kept as they are, also those that we do not know.
    """
    wanted = list(new)
    names = {condition.type.value for condition in wanted}
    result: list[Obj] = []
    places: dict[str, int] = {}
    for entry in old:
        name = str(entry.get("type"))
        if name in names and name in places:
            continue  # a list is no map: of two entries of one type the first is the one read
        places.setdefault(name, len(result))
        result.append(entry)
    for condition in wanted:
        message = condition.message[:MAX_MESSAGE]
        body: dict[str, Any] = {
            "type": condition.type.value,
            "status": condition.status_text,
            "reason": condition.reason,
            "message": message,
            "lastTransitionTime": format_time(now),
        }
        place = places.get(condition.type.value)
        if place is None:
            places[condition.type.value] = len(result)
            result.append(body)
            continue
        entry = result[place]
        if entry.get("status") == body["status"]:
            if (entry.get("reason"), entry.get("message")) == (condition.reason, message):
                continue
            body["lastTransitionTime"] = (
                entry.get("lastTransitionTime") or body["lastTransitionTime"]
            )
        result[place] = body
    return result


def without(conditions: Iterable[Obj], *types: Type) -> list[Obj]:
    """Return the conditions without those of the given types."""
    names = {kind.value for kind in types}
    return [entry for entry in conditions if entry.get("type") not in names]


def status_of(conditions: Iterable[Obj], kind: Type) -> str | None:
    """Return `True`, `False` or `Unknown` of a type, None when there is no such condition."""
    for entry in conditions:
        if entry.get("type") == kind.value:
            return str(entry.get("status"))
    return None


def repository_found(key: str, *, found: bool) -> Condition:
    """Return RepositoryFound."""
    if found:
        return Condition(
            Type.REPOSITORY_FOUND, True, "RepositoryAvailable", f"Repository {key} exist."
        )
    return Condition(
        Type.REPOSITORY_FOUND,
        False,
        "RepositoryNotAvailable",
        f"Repository {key} does not exist. Create it, or correct spec.repository.name.",
    )


def secret_found(key: str, *, problem: str | None, found: bool) -> Condition:
    """Return BackendSecretFound. `problem` says what is wrong with a Secret that exists."""
    if not found:
        return Condition(
            Type.BACKEND_SECRET_FOUND,
            False,
            "BackendSecretNotAvailable",
            f"Backend Secret {key} does not exist. Create it with RESTIC_PASSWORD and the "
            "backend's credentials, or correct spec.backend.storageSecretName of the Repository.",
        )
    if problem:
        return Condition(Type.BACKEND_SECRET_FOUND, False, "BackendSecretNotUsable", problem)
    return Condition(
        Type.BACKEND_SECRET_FOUND,
        True,
        "BackendSecretAvailable",
        f"Backend Secret {key} exist.",
    )


def validation(problems: Iterable[object]) -> Condition:
    """Return ValidationPassed; False with every problem when there is one."""
    text = "; ".join(str(problem) for problem in problems)
    if text:
        return Condition(Type.VALIDATION_PASSED, False, "ResourceValidationFailed", text)
    return Condition(
        Type.VALIDATION_PASSED, True, "ResourceValidationPassed", "Successfully validated."
    )


def target_found(kind: Type, target: str, *, problem: str | None, found: bool) -> Condition:
    """Return BackupTargetFound or RestoreTargetFound; `target` is `<Kind> <ns>/<name>`."""
    word = "Backup" if kind is Type.BACKUP_TARGET_FOUND else "Restore"
    if not found:
        return Condition(
            kind,
            False,
            "TargetNotAvailable",
            f"{word} target {target} does not exist. Create it, or correct spec.target.ref.",
        )
    if problem:
        return Condition(kind, False, "TargetNotUsable", problem)
    return Condition(kind, True, "TargetAvailable", f"{word} target {target} found.")


_CONTENTS: Mapping[Type, tuple[str, str, str, str]] = {
    Type.BACKEND_REPOSITORY_INITIALIZED: (
        "BackendRepositoryFound",
        "Repository exist in the backend.",
        "FailedToInitializeBackendRepository",
        "Failed to initialize backend repository.",
    ),
    Type.RETENTION_POLICY_APPLIED: (
        "SuccessfullyAppliedRetentionPolicy",
        "Successfully applied retention policy.",
        "FailedToApplyRetentionPolicy",
        "Failed to apply retention policy.",
    ),
    Type.REPOSITORY_INTEGRITY_VERIFIED: (
        "SuccessfullyVerifiedRepositoryIntegrity",
        "Repository integrity verification succeeded.",
        "FailedToVerifyRepositoryIntegrity",
        "Repository integrity verification failed.",
    ),
    Type.REPOSITORY_METRICS_PUSHED: (
        "SuccessfullyPushedRepositoryMetrics",
        "Successfully pushed repository metrics.",
        "FailedToPushRepositoryMetrics",
        "Failed to push repository metrics.",
    ),
    Type.BACKUP_HISTORY_CLEANED: (
        "SuccessfullyCleanedBackupHistory",
        "Successfully cleaned up backup history according to backupHistoryLimit.",
        "FailedToCleanBackupHistory",
        "Failed to cleanup old BackupSessions.",
    ),
    Type.METRICS_PUSHED: (
        "SuccessfullyPushedMetrics",
        "Successfully pushed metrics.",
        "FailedToPushMetrics",
        "Failed to push metrics.",
    ),
    Type.BACKUP_EXECUTOR_ENSURED: (
        "SuccessfullyEnsuredBackupExecutor",
        "Successfully ensured backup executor.",
        "FailedToEnsureBackupExecutor",
        "Failed to ensure backup executor.",
    ),
    Type.CRON_JOB_CREATED: (
        "CronJobCreationSucceeded",
        "Successfully created backup triggering CronJob.",
        "CronJobCreationFailed",
        "Failed to create backup triggering CronJob.",
    ),
}


def outcome(kind: Type, *, failure: str | None) -> Condition:
    """Return a condition of the types that either went well or failed for a reason."""
    good, good_text, bad, bad_text = _CONTENTS[kind]
    if failure is None:
        return Condition(kind, True, good, good_text)
    return Condition(kind, False, bad, f"{bad_text} Reason: {failure}")


def restore_executor_ensured(target: str, *, failure: str | None) -> Condition:
    """Return RestoreExecutorEnsured; `target` is `<Kind> <ns>/<name>`."""
    if failure is None:
        return Condition(
            Type.RESTORE_EXECUTOR_ENSURED,
            True,
            "SuccessfullyEnsuredRestoreExecutor",
            f"Restorer job/init-container has been ensured successfully for {target}.",
        )
    return Condition(
        Type.RESTORE_EXECUTOR_ENSURED,
        False,
        "FailedToEnsureRestoreExecutor",
        f"failed to ensure restore executor. Reason: {failure}",
    )


def deadline_exceeded(duration: str, *, restore: bool) -> Condition:
    """Return DeadlineExceeded; `duration` as Go prints it."""
    word = "restore" if restore else "backup"
    return Condition(
        Type.DEADLINE_EXCEEDED,
        True,
        "FailedToCompleteWithinDeadline",
        f"Failed to complete {word} within {duration}.",
    )
