"""The Jobs of a backup session's hooks: what they are built from, and when the second one is due.

The postBackup Job is built before the preBackup Job is created, and the session keeps it: whatever
becomes of the configuration, an application that was quiesced is set going again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.api.backup import BackupConfigurationSpec, RuntimeSettings
from controller.api.conditions import Condition, Phase, Type, status_of, target_found
from controller.api.hooks import ExecutionPolicy, Handler, hook_input
from controller.api.objects import (
    Obj,
    dig,
    finalizers_of,
    is_deleting,
    name_of,
    namespace_of,
    status,
)
from controller.api.resources import BACKUP_CONFIGURATION, BACKUP_SESSION, JOB, PVC
from controller.api.text import parse_time
from controller.api.workload import selector_of
from controller.build.hook import POST_HOOK, HookOrder, hook_job
from controller.build.hook import Hook as When
from controller.build.identity import hook_account, hook_identity, hook_rbac
from controller.plan import FOREIGN_NAMESAKE, CreateOnce, Delete, Ref, Write
from controller.reconcile.hook_execution import (
    POST_BACKUP,
    Busy,
    Idle,
    Lost,
    Over,
    ended,
    hook_timeout_s,
    is_allowed,
    progress,
    refused,
    retold,
    skipped,
    started,
    tries_of,
)
from controller.reconcile.owed_hook import owed_annotations, owed_hook
from controller.reconcile.references import target_text
from controller.reconcile.snapshot_observed import SnapshotSessionObserved
from controller.reconcile.snapshot_sources import unreadable_text
from controller.reconcile.snapshot_status import target_conditions

REFUSED_S = 10.0
"""How soon a postBackup Job that was refused is tried again: an application may be waiting."""
MOST_REFUSED_S = 7200
"""For so long at least a refused postBackup Job is tried again: quotas are full for an hour."""
MOST_TRIES = 5
"""How many postBackup Jobs there are at most of which none says how the hook went."""
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


def owed_by(
    seen: SnapshotSessionObserved, configuration: Obj, spec: BackupConfigurationSpec
) -> Mapping[str, str] | str:
    """Return the postBackup hook as the session is to have it with it, or what is wrong with it."""
    if spec.hooks is None or spec.hooks.post_backup is None:
        return {}
    post = _job(seen, (configuration, spec), spec.hooks.post_backup, "post")
    if isinstance(post, str):
        return post
    return owed_annotations(seen.session, post, spec.hooks.post_backup.execution_policy)


def pre_hook_writes(
    seen: SnapshotSessionObserved, configuration: Obj, spec: BackupConfigurationSpec
) -> tuple[Write, ...] | str:
    """Return what creates the preBackup Job, or what is wrong with it."""
    if spec.hooks is None or spec.hooks.pre_backup is None:
        return "it has no preBackup hook"
    job = _job(seen, (configuration, spec), spec.hooks.pre_backup, "pre")
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
    conditions = dig(seen.session, "status", "targets", 0, "conditions") or ()
    state = progress(
        POST_BACKUP,
        conditions,
        seen.post,
        now=now,
        limits=seen.limits,
        timeout_s=hook_timeout_s(seen.configuration),
        repeats=True,
    )
    match state:
        case Over(failure, is_recorded):
            new = None if is_recorded else ended(POST_BACKUP, failure, hint=DATA_IS_SAFE)
            return Step(is_done=True, condition=new, failure=failure)
        case Busy(requeue_after_s):
            told = next(iter(retold(POST_BACKUP, conditions, state)), None)
            return Step(is_done=False, condition=told, requeue_after_s=requeue_after_s)
        case Lost(failure, tries) if tries >= MOST_TRIES:
            return _failed(f"{failure} (of {tries} Jobs none reported)")
        case Lost() if seen.post.job is not None:
            return _removed(seen, seen.post.job)
        case Idle() | Lost():
            return _begin(seen, state, phase, now, are_cut=are_cut)


def _removed(seen: SnapshotSessionObserved, job: Obj) -> Step:
    """Make room for the next Job, which has the same name."""
    delete = Delete(Ref.by_uid(JOB, job))
    if seen.refusal is not None and seen.refusal.write == delete:
        return _failed(f"its Job cannot be deleted to be created again: {seen.refusal.message}")
    return Step(is_done=False, writes=(delete,), requeue_after_s=REFUSED_S)


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
        return Step(is_done=True) if state == Idle() and not _may_be_frozen(seen) else unclear
    allowed = is_allowed(hook.policy, phase, is_last_try=_is_last(seen))
    if allowed is None or (phase is None and not are_cut):
        return Step(is_done=False)
    if not allowed and phase is not None:
        return Step(is_done=True, condition=skipped(POST_BACKUP, hook.policy, phase))
    if isinstance(hook.job, str):
        is_unread = seen.reading is not None and seen.reading.unreadable
        return _refused(seen, hook.job, state, now) if is_unread else _failed(hook.job)
    writes, refusal = hook.writes, seen.refusal
    if refusal is not None and refusal.write in writes:
        if refusal.reason != FOREIGN_NAMESAKE or refusal.write == writes[-1]:
            return _refused(seen, refusal.message, state, now)
        # Deleted with `--cascade=orphan`, a session owns its identity no more; that it has one, and
        # may use it, was so before the first hook.
        writes = writes[-1:]
    condition = started(POST_BACKUP, tries=state.tries + 1)
    return Step(is_done=False, condition=condition, writes=writes)


def _is_last(seen: SnapshotSessionObserved) -> bool:
    """Tell whether no other session follows when this one fails."""
    configuration, left = seen.configuration, dig(seen.session, "spec", "retryLeft")
    if not left or seen.spec is None or seen.spec.retry_config is None:
        return True
    return is_deleting(seen.session) or configuration is None or is_deleting(configuration)


def _may_be_frozen(seen: SnapshotSessionObserved) -> bool:
    """Tell whether the preBackup hook was begun, which the postBackup hook is to undo."""
    conditions = dig(seen.session, "status", "targets", 0, "conditions") or ()
    is_held = POST_HOOK in finalizers_of(seen.session)
    return is_held and status_of(conditions, Type.PRE_BACKUP_HOOK) is not None


def _refused(seen: SnapshotSessionObserved, said: str, state: Idle | Lost, now: datetime) -> Step:
    """Try again: what refuses may be full for a while, and an application may be waiting."""
    since = (state.refused_since if isinstance(state, Idle) else None) or now
    ends = since + timedelta(seconds=MOST_REFUSED_S)
    if deadline := status(seen.session).get("sessionDeadline"):
        ends = max(ends, parse_time(deadline))
    if TERMINATING in said or now >= ends:
        return _failed(said)
    condition = refused(POST_BACKUP, said, tries=state.tries)
    return Step(is_done=False, condition=condition, requeue_after_s=REFUSED_S)


def _failed(failure: str) -> Step:
    condition = ended(POST_BACKUP, failure, hint=DATA_IS_SAFE)
    return Step(is_done=True, condition=condition, failure=failure)


def post_hook_of(seen: SnapshotSessionObserved) -> PostHook | None:
    """Return the postBackup hook, None when there is none or nothing tells of it any more."""
    if (owed := owed_hook(seen.session)) is not None:
        policy, carried = owed
        return PostHook(policy, carried, _access_of(seen, carried))
    configuration, spec = seen.configuration, seen.spec
    if configuration is None or spec is None or spec.hooks is None:
        return None
    if (handler := spec.hooks.post_backup) is None:
        return None
    job = _job(seen, (configuration, spec), handler, "post")
    return PostHook(handler.execution_policy, job, _access(seen, configuration, spec))


def _access_of(seen: SnapshotSessionObserved, job: Obj) -> tuple[Write, ...]:
    """Return what lets an owed Job run commands, nothing where that is surely there.

    Of a session that is being deleted the garbage collector may have taken either half of it, and
    a Job that came to nothing may have lacked it.
    """
    session = seen.session
    kind = Type.POST_BACKUP_HOOK.value
    entry = next((c for c in target_conditions(session) if c.get("type") == kind), None)
    is_first = entry is None or tries_of(entry) == 0
    if seen.access and is_first and not is_deleting(session):
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
) -> Obj | str:
    configuration, spec = invoker
    target = seen.reading.target if seen.reading else None
    if spec.target is None:
        return "its BackupConfiguration names no target"
    ref = spec.target.ref
    if seen.reading is not None and seen.reading.unreadable:
        return unreadable_text(spec, seen.reading, namespace_of(seen.session))
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
        start_s=seen.limits.start_s,
    )
    job = hook_job(order)
    return "; ".join(str(problem) for problem in job) if isinstance(job, tuple) else job


def _access(
    seen: SnapshotSessionObserved, configuration: Obj, spec: BackupConfigurationSpec
) -> tuple[Write, ...]:
    objects = hook_rbac(
        BACKUP_SESSION, seen.session, configuration, BACKUP_CONFIGURATION, spec.runtime_settings
    )
    return tuple(CreateOnce(resource, body) for resource, body in objects)
