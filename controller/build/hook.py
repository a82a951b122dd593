"""The Job that runs one hook of a session (D17)."""

from dataclasses import dataclass
from typing import Literal

from controller.api.backup import RuntimeSettings
from controller.api.creation import MAX_BYTES
from controller.api.hook_input import HookInput
from controller.api.job_input import ENVIRONMENT_VARIABLE
from controller.api.model import Problem
from controller.api.names import hook_job_name
from controller.api.objects import Obj, name_of
from controller.api.resources import BACKUP_CONFIGURATION, RESTORE_SESSION, Resource
from controller.build.api_pod import api_job, job_container, subject_of
from controller.build.creation import kill_policy
from controller.build.input import named_environment_variable
from controller.build.installation import Installation

Hook = Literal["pre", "post"]

HOOK_VERB = "hook"
POST_HOOK = "drey.dev/post-hook"
"""Finalizer of a session until its postBackup hook has ended. Annotation of it: the complete
postBackup Job, as JSON, which has to run even when all else is gone by then."""
HELD_BY_DELETION = ("foregroundDeletion", "orphan")
"""Finalizers of Kubernetes: for an object that has one the garbage collector deletes what belongs
to it, or makes it belong to nobody, before the object itself is gone."""
BACKSTOP_S = 120
"""How much longer than its pod's start and its timeout a hook's Job may last: the runner keeps the
time itself."""


@dataclass(frozen=True, slots=True)
class HookOrder:
    """Everything that the Job of a hook depends on.

    For a restore `session` and `invoker` are the same RestoreSession.
    """

    session: Obj
    session_resource: Resource
    invoker: Obj
    invoker_resource: Resource
    runtime_settings: RuntimeSettings
    installation: Installation
    document: HookInput
    hook: Hook
    service_account: str
    start_s: float
    """How long its pod may take to start."""


def hook_job(order: HookOrder) -> Obj | tuple[Problem, ...]:
    """Return the Job, or everything that keeps it from being built.

    A first hook is tried once: its pod was lost, but it may have run, and must not run again. What
    sets an application going again is tried until it says itself how it went.
    """
    variable = named_environment_variable(ENVIRONMENT_VARIABLE, order.document.encode())
    if (size := len(variable["value"])) > MAX_BYTES:
        problem = Problem(
            f"{subject_of(order)} spec.hooks.{order.hook}{_work(order)}",
            f"the Job would be told {size} bytes of at most {MAX_BYTES}: put a long script or body "
            "into the application's image or a ConfigMap, and name it in the hook",
        )
        return (problem,)
    container = job_container(order, HOOK_VERB, variable)
    once = {"backoffLimit": 0, "podReplacementPolicy": "Failed"}
    return api_job(
        order,
        job_of_hook(order.session_resource, name_of(order.session), order.hook),
        container,
        policy=once if order.hook == "pre" else kill_policy(container["name"]),
        deadline_s=longest_s(order.document.timeout_s, order.start_s),
    )


def longest_s(timeout_s: float, start_s: float) -> int:
    """Return how long the Job of a hook may last, from its creation."""
    return int(start_s + timeout_s) + BACKSTOP_S


def job_of_hook(session_resource: Resource, session: str, hook: str) -> str:
    """Return the name of a hook's Job; sessions of both kinds may have one name."""
    return hook_job_name(session, hook, is_restore=session_resource == RESTORE_SESSION)


def _work(order: HookOrder) -> str:
    return "Backup" if order.invoker_resource == BACKUP_CONFIGURATION else "Restore"
