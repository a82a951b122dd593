"""The Job that runs one hook of a session (D17)."""

from collections.abc import Mapping
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
from controller.build.input import named_environment_variable
from controller.build.installation import Installation

Hook = Literal["pre", "post"]

HOOK_VERB = "hook"
POST_HOOK = "drey.dev/post-hook"
"""Annotation of a preBackup Job: the complete postBackup Job, as JSON, which has to run even when
the configuration is gone by then. Finalizer of its session, until that Job has ended."""
FOREGROUND = "foregroundDeletion"
"""Finalizer of Kubernetes: the object goes when its dependents are gone."""
BACKSTOP_S = 120
"""How much longer than its timeout a hook's Job may last: the runner keeps the time itself."""
MAX_ANNOTATION_BYTES = 240 * 1024
"""Longest annotations of ours: Kubernetes allows 256 KiB for all of an object together."""


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


def hook_job(
    order: HookOrder, *, annotations: Mapping[str, str] | None = None
) -> Obj | tuple[Problem, ...]:
    """Return the Job, or everything that keeps it from being built.

    It is tried once: a hook whose pod was lost may have run, and must not run again.
    """
    variable = named_environment_variable(ENVIRONMENT_VARIABLE, order.document.encode())
    sizes = {
        MAX_BYTES: len(variable["value"]),
        MAX_ANNOTATION_BYTES: sum(len(value.encode()) for value in (annotations or {}).values()),
    }
    problems = tuple(
        Problem(
            f"{subject_of(order)} spec.hooks.{order.hook}{_work(order)}",
            f"the Job would be told {size} bytes of at most {most}: put a long script or body "
            "into the application's image or a ConfigMap, and name it in the hook",
        )
        for most, size in sizes.items()
        if size > most
    )
    return problems or api_job(
        order,
        job_of_hook(order.session_resource, name_of(order.session), order.hook),
        job_container(order, HOOK_VERB, variable),
        policy={"backoffLimit": 0, "podReplacementPolicy": "Failed"},
        deadline_s=order.document.timeout_s + BACKSTOP_S,
        annotations=annotations,
    )


def job_of_hook(session_resource: Resource, session: str, hook: str) -> str:
    """Return the name of a hook's Job; sessions of both kinds may have one name."""
    return hook_job_name(session, hook, is_restore=session_resource == RESTORE_SESSION)


def _work(order: HookOrder) -> str:
    return "Backup" if order.invoker_resource == BACKUP_CONFIGURATION else "Restore"
