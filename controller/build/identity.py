"""As whom the Jobs of flow B talk to the API server, and what lets them.

A ServiceAccount that the user names is only bound. Bindings are to ClusterRoles that come with the
installation, in the one namespace.
"""

from typing import Any

from controller.api.backup import BackupConfigurationSpec, RuntimeSettings
from controller.api.names import hook_job_name, job_identity_name
from controller.api.objects import Obj, name_of
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    RESTORE_SESSION,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    Resource,
)
from controller.api.restore import RestoreSessionSpec
from controller.build.api_pod import component_of
from controller.build.labels import child_labels
from controller.build.rbac import cluster_role, given_account, role_binding, service_account

SNAPSHOT_CLUSTER_ROLE = "drey-snapshot"
RESTORE_CLUSTER_ROLE = "drey-restore"
HOOK_CLUSTER_ROLE = "drey-hook"


def snapshot_account(configuration: Obj, spec: BackupConfigurationSpec) -> str:
    """Return as whom VolumeSnapshots are created: the user's ServiceAccount, else one of ours."""
    return given_account(spec.runtime_settings.pod) or snapshot_identity(configuration)


def snapshot_identity(configuration: Obj) -> str:
    """Return the name of a configuration's own ServiceAccount for Jobs, and of its binding."""
    return job_identity_name(BACKUP_CONFIGURATION.kind, name_of(configuration))


def snapshot_rbac(configuration: Obj, spec: BackupConfigurationSpec) -> tuple[Obj, ...]:
    """Return what lets a configuration's Jobs create VolumeSnapshots: children of it."""
    return tuple(
        obj
        for _, obj in _identity(
            snapshot_identity(configuration),
            (BACKUP_CONFIGURATION, configuration),
            invoker=(BACKUP_CONFIGURATION, configuration),
            settings=spec.runtime_settings,
            role=SNAPSHOT_CLUSTER_ROLE,
        )
    )


def claim_account(session: Obj, spec: RestoreSessionSpec) -> str:
    """Return as whom claims are created: the user's ServiceAccount, else one of ours."""
    return given_account(spec.runtime_settings.pod) or _claim_identity(session)


def claim_rbac(session: Obj, spec: RestoreSessionSpec) -> tuple[tuple[Resource, Obj], ...]:
    """Return what lets a RestoreSession's Job create claims: children of it."""
    owner = (RESTORE_SESSION, session)
    return _identity(
        _claim_identity(session),
        owner,
        invoker=owner,
        settings=spec.runtime_settings,
        role=RESTORE_CLUSTER_ROLE,
    )


def hook_account(
    session_resource: Resource,
    session: Obj,
    invoker: Obj,
    invoker_resource: Resource,
    runtime_settings: RuntimeSettings,
) -> str:
    """Return as whom the hooks of a session run: the user's ServiceAccount, else one of ours."""
    del invoker, invoker_resource  # the same for all: the identity is the session's
    name = hook_identity(session_resource, name_of(session))
    return given_account(runtime_settings.pod) or name


def hook_rbac(
    session_resource: Resource,
    session: Obj,
    invoker: Obj,
    invoker_resource: Resource,
    runtime_settings: RuntimeSettings,
) -> tuple[tuple[Resource, Obj], ...]:
    """Return what lets the hooks of a session run commands in pods: children of the session.

    A postBackup hook may have to run when the configuration is gone.
    """
    return _identity(
        hook_identity(session_resource, name_of(session)),
        (session_resource, session),
        invoker=(invoker_resource, invoker),
        settings=runtime_settings,
        role=HOOK_CLUSTER_ROLE,
    )


def hook_identity(session_resource: Resource, session: str) -> str:
    """Return the name of the ServiceAccount of a session's hooks, and of its binding."""
    return hook_job_name(session, "identity", is_restore=session_resource == RESTORE_SESSION)


def _claim_identity(session: Obj) -> str:
    return job_identity_name(RESTORE_SESSION.kind, name_of(session))


def _identity(
    name: str,
    owner: tuple[Resource, Obj],
    *,
    invoker: tuple[Resource, Obj],
    settings: RuntimeSettings,
    role: str,
) -> tuple[tuple[Resource, Obj], ...]:
    labels = child_labels(component_of(invoker[0]), invoker[0].kind, invoker[1])
    pod: dict[str, Any] = settings.pod
    given = given_account(pod)
    binding = role_binding(
        name, owner, labels=labels, account=given or name, role=cluster_role(role)
    )
    if given:
        return ((ROLE_BINDING, binding),)
    annotations = pod.get("serviceAccountAnnotations") or {}
    account = service_account(name, owner, labels=labels, annotations=annotations)
    return (SERVICE_ACCOUNT, account), (ROLE_BINDING, binding)
