"""The hooks of a session: when each runs, and what became of it (D17, stash.md 3.9).

Pure. How far a hook is stands in its condition: none before it, Unknown while its Job runs, then
True or False, once for all. The Job is created before the condition says so, under a fixed name.
How often it was created says the condition's reason.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from controller.api.conditions import Condition, Phase, Type
from controller.api.hooks import ExecutionPolicy
from controller.api.objects import Obj, annotations_of, is_deleting, meta, spec
from controller.api.proof import error_text
from controller.api.report import Reason
from controller.api.text import format_seconds, parse_go_duration_s, parse_time
from controller.build.hook import longest_s
from controller.reconcile.execution import LOST_S, verdict
from controller.reconcile.observed import Executor, Limits
from controller.reconcile.verdicts import Died, Ended, Running, Verdict, Waiting

HOOK_TIMEOUT = "drey.dev/hook-timeout"
"""Annotation of an invoker: how long one hook may take, a Go duration."""
HOOK_TIMEOUT_S = 300
MAX_HOOK_TIMEOUT_S = 6 * 3600
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
    """It does not run. `refused_since` is since when its Job could not be created.

    `tries` is how many Jobs there were before.
    """

    refused_since: datetime | None = None
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Busy:
    """Its Job has not ended, and is looked at again then. `words` say what it waits for.

    `told` are those that belong in its condition, None while what that says need not change.
    """

    requeue_after_s: float
    words: str = ""
    told: str | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """Its Job ended, or is gone, and nobody says what the hook did: one that may run again does.

    `tries` is how many Jobs there were.
    """

    failure: str
    tries: int


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
    repeats: bool = False,
) -> Progress:
    """Return how far a hook is. `executor` is its Job, which need not be looked for before it runs.

    Its Job ends by itself; should it not, because its node is dead, it is given up. How long it may
    take its Job says: the invoker may be gone by now, or say something else. `repeats` says that
    the hook may run again when it is not known what it did.
    """
    entry = next((c for c in conditions if c.get("type") == hook.type.value), None)
    if entry is None:
        return Idle()
    if entry.get("status") != "Unknown":
        failed = entry.get("status") == "False"
        return Over(str(entry.get("message") or "it failed") if failed else "")
    if str(entry.get("reason")).startswith(REFUSED):
        return Idle(parse_time(entry["lastTransitionTime"]), tries_of(entry))
    job = executor.job
    began = parse_time(entry["lastTransitionTime"] if job is None else meta(job)[_CREATED])
    given_s = spec(job or {}).get("activeDeadlineSeconds") or longest_s(timeout_s, limits.start_s)
    job_s = min(given_s, longest_s(MAX_HOOK_TIMEOUT_S, limits.start_s))
    left_s = job_s + LOST_S - (now - began).total_seconds()
    # Its Job's own deadline comes before that of a pod that does not start.
    patient = replace(limits, start_s=max(limits.start_s, job_s + LOST_S))
    found = verdict(executor, now=now, limits=patient, replaces=repeats)
    if executor.job_gone and executor.pod is None and not executor.pods_gone:
        # What its pod still does must be over before anything follows.
        found = Waiting(limits.pending_s, "its Job was deleted, its pod has not ended")
    is_stopping = repeats and job is not None and is_deleting(job)
    if is_stopping and _is_lost(found):
        # Its pod was told to stop, and says so. The next Job has to wait for the name.
        found = Waiting(LOST_S, "its Job is being deleted")
    if isinstance(found, Waiting | Running):
        if left_s > 0:
            return _busy(found, left_s)
        text = f"its Job did not end in time ({format_seconds(job_s)})"
        if executor.unreadable:
            text += f"; what became of its pod cannot be read: {executor.unreadable}"
        found = Died(Reason.HOOK_TIMED_OUT, text)
    if repeats and not is_stopping and _is_lost(found):
        return Lost(_failure(found), tries_of(entry))
    return Over(_failure(found), is_recorded=False)


_CREATED = "creationTimestamp"


def _busy(found: Waiting | Running, left_s: float) -> Busy:
    soon_s = left_s if found.requeue_after_s is None else min(left_s, found.requeue_after_s)
    match found:
        case Running():
            return Busy(soon_s, told="")
        case Waiting(words=words, lasting=lasting):
            return Busy(soon_s, words, words if lasting else None)


def _is_lost(found: Verdict) -> bool:
    """Tell whether a Job ended without its hook's own word on how it went."""
    if isinstance(found, Ended):
        lost = (Reason.INTERRUPTED, Reason.HOOK_LOST)
        return any(host.reason in lost for host in found.report.hosts)
    return isinstance(found, Died)


def _failure(found: Ended | Died) -> str:
    """Return what a report says went wrong, empty when all is well."""
    if isinstance(found, Died):
        return f"{found.reason}: {found.message}"
    if not found.report.hosts:
        return "its report names no host"
    return next((error_text(h) for h in found.report.hosts if not h.succeeded), "")


def is_started(conditions: Iterable[Obj], hook: Hook) -> bool:
    """Tell whether the condition of a hook says that its Job was created, and no more."""
    entry = next((c for c in conditions if c.get("type") == hook.type.value), {})
    return entry.get("status") == "Unknown" and not str(entry.get("reason")).startswith(REFUSED)


def tries_of(entry: Obj) -> int:
    """Return how many Jobs of a hook there were, as its condition has it."""
    reason = str(entry.get("reason") or "")
    count = reason.removeprefix(AGAIN).removeprefix(REFUSED)
    return int(count) if count.isdecimal() else int(reason != REFUSED)


def started(hook: Hook, *, tries: int = 1, words: str = "") -> Condition:
    """Return the condition of a hook whose Job was created; `words` say what its pod waits for."""
    text = f"Executing {hook.name} hook."
    if tries > 1:
        text += f" Its Job ended without a report or is gone: this is try {tries}."
    if words:
        text += f" Waiting for its pod to start: {words}"
    return Condition(hook.type, None, STARTED if tries == 1 else f"{AGAIN}{tries}", text)


def retold(hook: Hook, conditions: Iterable[Obj], state: Busy) -> tuple[Condition, ...]:
    """Return the condition of a hook that is waited for, with what its pod waits for by now."""
    if state.told is None:
        return ()
    entry = next(c for c in conditions if c.get("type") == hook.type.value)
    return (started(hook, tries=tries_of(entry), words=state.told),)


def refused(hook: Hook, message: str, *, tries: int = 0) -> Condition:
    """Return the condition of a hook whose Job could not be created, which is tried again."""
    text = f"The Job of the {hook.name} hook was refused: {message}"
    return Condition(hook.type, None, f"{REFUSED}{tries or ''}", text)


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
