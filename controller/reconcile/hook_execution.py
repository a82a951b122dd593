"""The hooks of a session: when each runs, and what became of it (D17, stash.md 3.9).

Pure. How far a hook is stands in its condition: none before it, Unknown while its Job runs, then
True or False, once for all. The Job is created before the condition says so, under a fixed name.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controller.api.conditions import Condition, Phase, Type
from controller.api.hooks import ExecutionPolicy
from controller.api.objects import Obj, annotations_of, is_deleting, spec
from controller.api.text import format_seconds, parse_go_duration_s, parse_time
from controller.build.hook import BACKSTOP_S
from controller.reconcile.execution import LOST_S, Died, Ended, Running, Waiting, verdict
from controller.reconcile.observed import Executor, Limits
from controller.reconcile.session_status import error_text

HOOK_TIMEOUT = "drey.dev/hook-timeout"
"""Annotation of an invoker: how long one hook may take, a Go duration."""
HOOK_TIMEOUT_S = 300
MAX_HOOK_TIMEOUT_S = 6 * 3600
POST_HOOK_POLICY = "drey.dev/post-hook-policy"
"""Annotation of a preBackup Job: the executionPolicy of the postBackup Job that it carries."""
STARTED, AGAIN, REFUSED = "HookStarted", "HookStartedAgain", "HookRefused"


@dataclass(frozen=True, slots=True)
class Hook:
    """One kind of hook: its name in the spec, and the condition that tells of it."""

    name: str
    type: Type

    @property
    def title(self) -> str:
        """Return the name as reasons have it: `PreBackup`."""
        return self.name[0].upper() + self.name[1:]


PRE_BACKUP = Hook("preBackup", Type.PRE_BACKUP_HOOK)
POST_BACKUP = Hook("postBackup", Type.POST_BACKUP_HOOK)
PRE_RESTORE = Hook("preRestore", Type.PRE_RESTORE_HOOK)
POST_RESTORE = Hook("postRestore", Type.POST_RESTORE_HOOK)


@dataclass(frozen=True, slots=True)
class Idle:
    """It has not run. `refused_since` is since when its Job could not be created."""

    refused_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Busy:
    """Its Job has not ended, and is looked at again then. `words` say what it waits for."""

    requeue_after_s: float
    words: str = ""


@dataclass(frozen=True, slots=True)
class Lost:
    """Its Job was deleted before it ended well, for the first time: what it did is not known."""


@dataclass(frozen=True, slots=True)
class Over:
    """It ran, or will not run. `failure` is empty when that is well; else what went wrong."""

    failure: str = ""
    is_recorded: bool = True


Progress = Idle | Busy | Lost | Over


def hook_timeout_s(invoker: Obj | None) -> int:
    """Return how long one hook of an invoker may take."""
    text = annotations_of(invoker or {}).get(HOOK_TIMEOUT, "")
    seconds = parse_go_duration_s(text) or 0.0
    return min(MAX_HOOK_TIMEOUT_S, max(1, int(seconds))) if seconds > 0 else HOOK_TIMEOUT_S


def progress(
    hook: Hook,
    conditions: Iterable[Obj],
    executor: Executor,
    *,
    now: datetime,
    limits: Limits,
    timeout_s: int,
) -> Progress:
    """Return how far a hook is. `executor` is its Job, which need not be looked for before it runs.

    Its Job ends by itself; should it not, because its node is dead, it is given up. How long it may
    take its Job says: the invoker may be gone by now, or say something else.
    """
    entry = next((c for c in conditions if c.get("type") == hook.type.value), None)
    if entry is None:
        return Idle()
    since = parse_time(entry["lastTransitionTime"])
    if entry.get("status") != "Unknown":
        failed = entry.get("status") == "False"
        return Over(str(entry.get("message") or "it failed") if failed else "")
    if entry.get("reason") == REFUSED:
        return Idle(refused_since=since)
    if own_s := spec(executor.job or {}).get("activeDeadlineSeconds"):
        timeout_s = min(MAX_HOOK_TIMEOUT_S, own_s - BACKSTOP_S)
    # Its Job's own deadline comes before that of a pod that does not start.
    longest_s = timeout_s + BACKSTOP_S + LOST_S
    found = verdict(
        executor, now=now, limits=replace(limits, start_s=max(limits.start_s, longest_s))
    )
    left_s = (since + timedelta(seconds=longest_s) - now).total_seconds()
    if entry["reason"] == STARTED and isinstance(found, Ended | Died) and _failure(found):
        if executor.job is None:
            return Lost()
        if is_deleting(executor.job):
            # Its pod was told to stop, and says so. The next Job has to wait for the name.
            found = Waiting(LOST_S, "its Job is being deleted")
    if isinstance(found, Waiting | Running):
        return _waiting(found, left_s, timeout_s)
    return Over(_failure(found), is_recorded=False)


def _waiting(found: Waiting | Running, left_s: float, timeout_s: int) -> Busy | Over:
    if left_s <= 0:
        limit = format_seconds(timeout_s)
        return Over(f"HookTimedOut: its Job did not end in time ({limit})", is_recorded=False)
    soon_s = left_s if found.requeue_after_s is None else min(left_s, found.requeue_after_s)
    return Busy(soon_s, found.words if isinstance(found, Waiting) else "")


def _failure(found: Ended | Died) -> str:
    """Return what a report says went wrong, empty when all is well."""
    if isinstance(found, Died):
        return f"{found.reason}: {found.message}"
    if not found.report.hosts:
        return "its report names no host"
    return next((error_text(h) for h in found.report.hosts if not h.succeeded), "")


def started(hook: Hook, *, again: bool = False) -> Condition:
    """Return the condition of a hook whose Job was just created."""
    message = f"Executing {hook.name} hook."
    return Condition(hook.type, None, AGAIN if again else STARTED, message)


def refused(hook: Hook, message: str) -> Condition:
    """Return the condition of a hook whose Job could not be created, which is tried again."""
    return Condition(
        hook.type, None, REFUSED, f"The Job of the {hook.name} hook was refused: {message}"
    )


def ended(hook: Hook, failure: str, *, hint: str = "") -> Condition:
    """Return the condition of a hook that ran, or could not."""
    if not failure:
        text = f"Successfully executed {hook.name} hook."
        return Condition(hook.type, True, f"SuccessfullyExecuted{hook.title}Hook", text)
    text = f"Failed to execute {hook.name} hook. Reason: {failure}{hint}"
    return Condition(hook.type, False, f"FailedToExecute{hook.title}Hook", text)


def skipped(hook: Hook, policy: ExecutionPolicy, phase: Phase) -> Condition:
    """Return the condition of a hook that its executionPolicy does not allow."""
    text = (
        f'Skipping executing {hook.name}. Reason: executionPolicy is "{policy}" '
        f'but phase is "{phase.value}".'
    )
    return Condition(hook.type, True, f"SuccessfullyExecuted{hook.title}Hook", text)


def is_allowed(policy: ExecutionPolicy, phase: Phase | None, *, is_last_try: bool) -> bool | None:
    """Tell whether a hook runs afterwards; None while that depends on an unknown outcome."""
    if policy == "Always":
        return True
    if phase is None:
        return None
    if policy == "OnSuccess":
        return phase is Phase.SUCCEEDED
    return phase is not Phase.SUCCEEDED and (policy == "OnFailure" or is_last_try)
