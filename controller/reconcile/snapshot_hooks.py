"""The Jobs of a backup session's hooks: what they are built from, and when the second one is due.

The preBackup Job carries the whole postBackup Job: whatever becomes of the configuration, an
application that was quiesced is set going again.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from controller.api.backup import BackupConfigurationSpec, RuntimeSettings
from controller.api.conditions import Condition, Phase, Type, status_of, target_found
from controller.api.hooks import ExecutionPolicy, Handler, hook_input
from controller.api.names import hook_job_name
from controller.api.objects import (
    Obj,
    annotations_of,
    controller_uid,
    dig,
    finalizers_of,
    is_deleting,
    name_of,
    namespace_of,
    uid_of,
)
from controller.api.resources import BACKUP_CONFIGURATION, BACKUP_SESSION, JOB, PVC
from controller.api.workload import selector_of
from controller.build.hook import FOREGROUND, POST_HOOK, HookOrder, hook_job
from controller.build.hook import Hook as When
from controller.build.identity import hook_account, hook_identity, hook_rbac
from controller.plan import CreateOnce, Write
from controller.reconcile.hook_execution import (
    POST_BACKUP,
    POST_HOOK_POLICY,
    Busy,
    Idle,
    Lost,
    Over,
    ended,
    hook_timeout_s,
    is_allowed,
    progress,
    refused,
    skipped,
    started,
)
from controller.reconcile.references import target_text
from controller.reconcile.snapshot_observed import SnapshotSessionObserved

REFUSED_S = 10.0
"""How soon a postBackup Job that was refused is tried again: an application may be waiting."""
TERMINATING = "because it is being terminated"
"""What the API server says of a namespace in which nothing can be created any more."""
DATA_IS_SAFE = ". The backup itself may have succeeded: see the hosts"


@dataclass(frozen=True, slots=True)
class PostHook:
    """The postBackup hook of a session. `job` is a text when none can be built."""

    policy: ExecutionPolicy
    job: Obj | str
    access: tuple[Write, ...] = ()

    @property
    def writes(self) -> tuple[Write, ...]:
        """Return what creates its Job, and before it what lets it run commands in pods."""
        return () if isinstance(self.job, str) else (*self.access, CreateOnce(JOB, self.job))


@dataclass(frozen=True, slots=True)
class Step:
    """What the postBackup hook needs now. `failure` is that of one that has ended badly."""

    is_done: bool
    condition: Condition | None = None
    writes: tuple[Write, ...] = ()
    requeue_after_s: float | None = None
    failure: str = ""


def carries_post_hook(seen: SnapshotSessionObserved) -> bool:
    """Tell whether the preBackup Job has the postBackup Job with it."""
    return POST_HOOK in annotations_of(seen.pre.job or {})


def pre_hook_writes(
    seen: SnapshotSessionObserved, configuration: Obj, spec: BackupConfigurationSpec
) -> tuple[Write, ...] | str:
    """Return what creates the preBackup Job, or what is wrong with one of the hooks."""
    hooks = spec.hooks
    if hooks is None or hooks.pre_backup is None:
        return "it has no preBackup hook"
    annotations = {}
    if hooks.post_backup is not None:
        # Built now: a problem with it must be known before anything is quiesced.
        post = _job(seen, (configuration, spec), hooks.post_backup, "post")
        if isinstance(post, str):
            return post
        annotations = {
            POST_HOOK: json.dumps(post, separators=(",", ":")),
            POST_HOOK_POLICY: hooks.post_backup.execution_policy,
        }
    job = _job(seen, (configuration, spec), hooks.pre_backup, "pre", annotations)
    if isinstance(job, str):
        return job
    return (*_access(seen, configuration, spec), CreateOnce(JOB, job))


def post_step(
    seen: SnapshotSessionObserved, phase: Phase | None, now: datetime, *, are_cut: bool
) -> Step:
    """Return what the postBackup hook needs now.

    `phase` is the outcome, None while it is open. `are_cut` says that no VolumeSnapshot of the
    session will be cut any more: an application may go on although none is ready.
    """
    timeout_s = hook_timeout_s(seen.configuration)
    state = progress(
        POST_BACKUP,
        dig(seen.session, "status", "targets", 0, "conditions") or (),
        seen.post,
        now=now,
        limits=seen.limits,
        timeout_s=timeout_s,
    )
    match state:
        case Over(failure, is_recorded):
            new = None if is_recorded else ended(POST_BACKUP, failure, hint=DATA_IS_SAFE)
            return Step(is_done=True, condition=new, failure=failure)
        case Busy(requeue_after_s):
            return Step(is_done=False, requeue_after_s=requeue_after_s)
        case Idle() | Lost():
            return _begin(seen, state, phase, now, are_cut=are_cut)


def _begin(
    seen: SnapshotSessionObserved,
    state: Idle | Lost,
    phase: Phase | None,
    now: datetime,
    *,
    are_cut: bool,
) -> Step:
    hook = post_hook_of(seen)
    if hook is None:
        unclear = _failed("its Job is gone, and nothing says any more what it was to do")
        return Step(is_done=True) if state == Idle() and not _is_owed(seen) else unclear
    is_last = not dig(seen.session, "spec", "retryLeft") or _is_abandoned(seen)
    allowed = is_allowed(hook.policy, phase, is_last_try=is_last)
    if allowed is None or (phase is None and not are_cut):
        return Step(is_done=False)
    if not allowed and phase is not None:
        return Step(is_done=True, condition=skipped(POST_BACKUP, hook.policy, phase))
    if isinstance(hook.job, str):
        return _failed(hook.job)
    if seen.refusal is not None and seen.refusal.write in hook.writes:
        return _refused(seen, seen.refusal.message, state, now)
    condition = started(POST_BACKUP, again=isinstance(state, Lost))
    return Step(is_done=False, condition=condition, writes=hook.writes)


def _is_owed(seen: SnapshotSessionObserved) -> bool:
    """Tell whether something was begun that the postBackup hook is to undo."""
    conditions = dig(seen.session, "status", "targets", 0, "conditions") or ()
    is_held = POST_HOOK in finalizers_of(seen.session)
    return is_held and status_of(conditions, Type.PRE_BACKUP_HOOK) is not None


def _refused(seen: SnapshotSessionObserved, said: str, state: Idle | Lost, now: datetime) -> Step:
    """Try again for as long as the hook might take: what refuses may be full for a moment."""
    since = state.refused_since if isinstance(state, Idle) else None
    waited_s = (now - since).total_seconds() if since else 0.0
    if TERMINATING in said or waited_s >= hook_timeout_s(seen.configuration):
        return _failed(said)
    condition = refused(POST_BACKUP, said)
    return Step(is_done=False, condition=condition, requeue_after_s=REFUSED_S)


def _failed(failure: str) -> Step:
    condition = ended(POST_BACKUP, failure, hint=DATA_IS_SAFE)
    return Step(is_done=True, condition=condition, failure=failure)


def post_hook_of(seen: SnapshotSessionObserved) -> PostHook | None:
    """Return the postBackup hook, None when there is none or nothing tells of it any more."""
    if carries_post_hook(seen):
        return _carried(seen, annotations_of(seen.pre.job or {}))
    configuration, spec = seen.configuration, seen.spec
    if configuration is None or spec is None or spec.hooks is None:
        return None
    if (handler := spec.hooks.post_backup) is None:
        return None
    job = _job(seen, (configuration, spec), handler, "post")
    return PostHook(handler.execution_policy, job, _access(seen, configuration, spec))


def _carried(seen: SnapshotSessionObserved, annotations: Obj) -> PostHook:
    """Return the hook that the preBackup Job has with it. Whoever may edit Jobs may edit that."""
    given = annotations.get(POST_HOOK_POLICY)
    policies: tuple[ExecutionPolicy, ...] = get_args(ExecutionPolicy)
    policy = next((known for known in policies if known == given), policies[0])
    try:
        job = json.loads(annotations[POST_HOOK])
        session = seen.session
        is_ours = (
            namespace_of(job) == namespace_of(session)
            and name_of(job) == hook_job_name(name_of(session), "post")
            and controller_uid(job) == uid_of(session)
        )
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        is_ours = False
    if not is_ours:
        return PostHook(policy, f"annotation {POST_HOOK} of its preBackup Job was changed")
    return PostHook(policy, job, _access_of(seen, job))


def _access_of(seen: SnapshotSessionObserved, job: Obj) -> tuple[Write, ...]:
    """Return what lets a carried Job run commands, nothing where that is there.

    Of a session that is deleted in the foreground the garbage collector may have taken it.
    """
    session = seen.session
    is_there = bool(seen.access) and FOREGROUND not in finalizers_of(session)
    if is_there or not is_deleting(session):
        return ()
    account = str(dig(job, "spec", "template", "spec", "serviceAccountName") or "")
    given = "" if account == hook_identity(BACKUP_SESSION, name_of(session)) else account
    objects = hook_rbac(
        BACKUP_SESSION,
        session,
        {"metadata": {"name": str(dig(session, "spec", "invoker", "name") or "")}},
        BACKUP_CONFIGURATION,
        RuntimeSettings(pod={"serviceAccountName": given} if given else {}),
    )
    return tuple(CreateOnce(resource, body) for resource, body in objects)


def _job(
    seen: SnapshotSessionObserved,
    invoker: tuple[Obj, BackupConfigurationSpec],
    handler: Handler,
    when: When,
    annotations: dict[str, str] | None = None,
) -> Obj | str:
    configuration, spec = invoker
    target = seen.reading.target if seen.reading else None
    if spec.target is None:
        return "its BackupConfiguration names no target"
    ref = spec.target.ref
    if target is None:
        where = target_text(ref, namespace_of(seen.session))
        return target_found(Type.BACKUP_TARGET_FOUND, where, found=False, problem=None).message
    document = hook_input(
        handler,
        hostname=ref.name,
        namespace=namespace_of(seen.session),
        label_selector=selector_of(ref.kind, target),
        claim=ref.name if ref.kind == PVC.kind else "",
        timeout_s=hook_timeout_s(configuration),
    )
    settings = spec.runtime_settings
    account = hook_account(
        BACKUP_SESSION, seen.session, configuration, BACKUP_CONFIGURATION, settings
    )
    order = HookOrder(
        session=seen.session,
        session_resource=BACKUP_SESSION,
        invoker=configuration,
        invoker_resource=BACKUP_CONFIGURATION,
        runtime_settings=settings,
        installation=seen.installation,
        document=document,
        hook=when,
        service_account=account,
    )
    job = hook_job(order, annotations=annotations)
    return "; ".join(str(problem) for problem in job) if isinstance(job, tuple) else job


def _access(
    seen: SnapshotSessionObserved, configuration: Obj, spec: BackupConfigurationSpec
) -> tuple[Write, ...]:
    objects = hook_rbac(
        BACKUP_SESSION, seen.session, configuration, BACKUP_CONFIGURATION, spec.runtime_settings
    )
    return tuple(CreateOnce(resource, body) for resource, body in objects)


def _is_abandoned(seen: SnapshotSessionObserved) -> bool:
    configuration = seen.configuration
    return is_deleting(seen.session) or configuration is None or is_deleting(configuration)
