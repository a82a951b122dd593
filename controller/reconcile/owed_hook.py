"""The postBackup hook that a session owes: the session itself has its whole Job with it (D17).

Nothing else lives as long as the session, which its finalizer holds: the configuration may be
deleted, and the garbage collector may take Jobs. Of what stands in the annotations the status has a
digest: whoever may create sessions, as triggers may, can so not have any Job created.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import get_args

from controller.api.conditions import Condition, Type, merged, status_of
from controller.api.hooks import ExecutionPolicy
from controller.api.names import hook_job_name
from controller.api.objects import (
    Obj,
    annotations_of,
    controller_uid,
    finalizers_of,
    name_of,
    namespace_of,
    status,
    uid_of,
)
from controller.api.resources import BACKUP_SESSION
from controller.build.hook import POST_HOOK
from controller.plan import Finalizer, Ref, SetStatus, Write

POST_HOOK_POLICY = "drey.dev/post-hook-policy"
"""Annotation of a session: the executionPolicy of the postBackup Job that it owes."""
MAX_ANNOTATION_BYTES = 250 * 1024
"""Longest annotations: Kubernetes allows 256 KiB for all of an object together."""


def owed_annotations(session: Obj, job: Obj, policy: ExecutionPolicy) -> Mapping[str, str] | str:
    """Return what a session is to have with it, or why it cannot."""
    owed = {POST_HOOK: json.dumps(job, separators=(",", ":")), POST_HOOK_POLICY: policy}
    every = {**annotations_of(session), **owed}
    size = sum(len(key.encode()) + len(value.encode()) for key, value in every.items())
    if size <= MAX_ANNOTATION_BYTES:
        return owed
    return (
        f"the Job of its postBackup hook does not fit into its annotations ({size} bytes of at "
        f"most {MAX_ANNOTATION_BYTES}): shorten spec.runtimeSettings or the hook"
    )


def hold(session: Obj, owed: Mapping[str, str], now: datetime) -> tuple[Write, ...]:
    """Return what holds a session until the hook has run; nothing when it is held.

    First the digest, which nobody else may write; then finalizer and annotations in one request.
    """
    writes: list[Write] = []
    ref = Ref.to(BACKUP_SESSION, session)
    old = status(session)
    entries = merged(old.get("conditions") or (), [_condition(owed)], now)
    if entries != old.get("conditions"):
        writes.append(SetStatus(ref, {**old, "conditions": entries}))
        # Without resourceVersion: it follows a write of the status.
        ref = Ref.by_uid(BACKUP_SESSION, session)
    have = annotations_of(session)
    is_there = all(have.get(key) == value for key, value in owed.items())
    if POST_HOOK not in finalizers_of(session) or not is_there:
        writes.append(Finalizer(ref, POST_HOOK, present=True, annotations=owed))
    return tuple(writes)


def release(session: Obj) -> tuple[Write, ...]:
    """Return what lets go of a session whose hooks are done."""
    if POST_HOOK not in finalizers_of(session):
        return ()
    # Without resourceVersion: it follows a write of the status.
    ref = Ref.by_uid(BACKUP_SESSION, session)
    gone = {POST_HOOK: "", POST_HOOK_POLICY: ""}
    return (Finalizer(ref, POST_HOOK, present=False, annotations=gone),)


def is_owed(session: Obj) -> bool:
    """Tell whether a preBackup Job may have been created that a postBackup hook is to follow."""
    is_held = POST_HOOK in finalizers_of(session)
    conditions = status(session).get("conditions") or ()
    return is_held and status_of(conditions, Type.POST_HOOK_OWED) == "True"


def owed_hook(session: Obj) -> tuple[ExecutionPolicy, Obj] | None:
    """Return policy and Job of the hook that a session has with it; None when nothing vouches."""
    annotations = annotations_of(session)
    text, given = annotations.get(POST_HOOK, ""), annotations.get(POST_HOOK_POLICY, "")
    digest = _digest({POST_HOOK: text, POST_HOOK_POLICY: given})
    if not any(
        entry.get("type") == Type.POST_HOOK_OWED.value and digest in str(entry.get("message"))
        for entry in status(session).get("conditions") or ()
    ):
        return None
    policies: tuple[ExecutionPolicy, ...] = get_args(ExecutionPolicy)
    policy = next((known for known in policies if known == given), policies[0])
    try:
        job: Obj = json.loads(text)
    except (ValueError, RecursionError):
        return None
    name = hook_job_name(name_of(session), "post")
    # Of a session that was copied with its status all is vouched for, and nothing is its own.
    is_own = (namespace_of(job), name_of(job)) == (namespace_of(session), name)
    return (policy, job) if is_own and controller_uid(job) == uid_of(session) else None


def _condition(owed: Mapping[str, str]) -> Condition:
    text = (
        "The preBackup hook may run: the session is kept until its postBackup hook has. Job "
        f"sha256:{_digest(owed)}"
    )
    return Condition(Type.POST_HOOK_OWED, True, "PostBackupHookOwed", text)


def _digest(owed: Mapping[str, str]) -> str:
    text = f"{owed[POST_HOOK_POLICY]}\n{owed[POST_HOOK]}"
    return hashlib.sha256(text.encode()).hexdigest()
