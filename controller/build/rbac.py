"""ServiceAccounts of Jobs and CronJobs, and what they may do."""

from collections.abc import Mapping
from typing import Any

from controller.api.backup import BackupConfigurationSpec
from controller.api.names import backup_job_name, job_identity_name, restore_job_name, trigger_name
from controller.api.objects import Obj, name_of, namespace_of
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    ROLE,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    Resource,
)
from controller.build.child import child
from controller.build.labels import BACKUP, child_labels
from controller.build.order import JobOrder
from controller.build.task import has_third_party, uses_secret_name

TRIGGER_CLUSTER_ROLE = "drey-trigger"
"""May create BackupSessions; it comes with the installation."""
_API_GROUP = "rbac.authorization.k8s.io"


def trigger_service_account(configuration: Obj, spec: BackupConfigurationSpec) -> str:
    """Return the ServiceAccount of the CronJob's pods: the user's, else one of ours."""
    return given_account(spec.runtime_settings.pod) or trigger_name(name_of(configuration))


def trigger_rbac(configuration: Obj, spec: BackupConfigurationSpec) -> tuple[Obj, ...]:
    """Return what lets the CronJob's pods create sessions: ServiceAccount and RoleBinding."""
    name = trigger_name(name_of(configuration))
    account = trigger_service_account(configuration, spec)
    owner = (BACKUP_CONFIGURATION, configuration)
    labels = child_labels(BACKUP, BACKUP_CONFIGURATION.kind, configuration)
    binding = role_binding(
        name,
        owner,
        labels=labels,
        account=account,
        role=cluster_role(TRIGGER_CLUSTER_ROLE),
    )
    if given_account(spec.runtime_settings.pod):
        return (binding,)
    return service_account(name, owner, labels=labels), binding


def needs_api_access(order: JobOrder) -> bool:
    """Tell whether the Job's pod gets a token: only steps of third parties talk to the API.

    They do when they ask for the storage Secret by name, or when the user gives the
    ServiceAccount. Our own programs never do.
    """
    given = bool(given_account(order.spec.runtime_settings.pod))
    return uses_secret_name(order) or (given and has_third_party(order))


def job_service_account(order: JobOrder) -> str:
    """Return the ServiceAccount of the Job's pod, empty for the namespace's default one.

    A generated one has the invoker's name, so that identities of clouds can be bound to it
    (`serviceAccountAnnotations`).
    """
    pod = order.spec.runtime_settings.pod
    if given := given_account(pod):
        return given
    if pod.get("serviceAccountAnnotations") or uses_secret_name(order):
        return job_identity_name(order.invoker_resource.kind, name_of(order.invoker))
    return ""


def job_rbac(order: JobOrder) -> tuple[tuple[Resource, Obj], ...]:
    """Return what must exist before the Job's pod, nothing for our own Tasks.

    The ServiceAccount belongs to the invoker. The right to read the one storage Secret belongs to
    the session and has the Job's name: it ends with it (D26).
    """
    kind = order.invoker_resource.kind
    labels = child_labels(order.component, kind, order.invoker)
    account = job_service_account(order)
    objects: list[tuple[Resource, Obj]] = []
    pod = order.spec.runtime_settings.pod
    if account and not given_account(pod):
        invoker = (order.invoker_resource, order.invoker)
        annotations = pod.get("serviceAccountAnnotations") or {}
        objects.append(
            (
                SERVICE_ACCOUNT,
                service_account(account, invoker, labels=labels, annotations=annotations),
            )
        )
    if uses_secret_name(order):
        session = (order.session_resource, order.session)
        job = backup_job_name if order.is_backup else restore_job_name
        name = job(name_of(order.session))
        rule = {
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": [order.repository_spec.backend.storage_secret_name],
            "verbs": ["get"],
        }
        objects += [
            (ROLE, child(ROLE, name, session, labels=labels, body={"rules": [rule]})),
            (
                ROLE_BINDING,
                role_binding(
                    name,
                    session,
                    labels=labels,
                    account=account,
                    role={"apiGroup": _API_GROUP, "kind": "Role", "name": name},
                ),
            ),
        ]
    return tuple(objects)


def cluster_role(name: str) -> dict[str, str]:
    """Return the `roleRef` to a ClusterRole that comes with the installation."""
    return {"apiGroup": _API_GROUP, "kind": "ClusterRole", "name": name}


def service_account(
    name: str,
    owner: tuple[Resource, Obj],
    *,
    labels: Mapping[str, str],
    annotations: Mapping[str, str] | None = None,
) -> Obj:
    """Return a ServiceAccount in its owner's namespace."""
    body = {"automountServiceAccountToken": False}  # the pods that need a token ask for it
    return child(SERVICE_ACCOUNT, name, owner, labels=labels, annotations=annotations, body=body)


def role_binding(
    name: str,
    owner: tuple[Resource, Obj],
    *,
    labels: Mapping[str, str],
    account: str,
    role: Obj,
) -> Obj:
    """Return what gives one role to one ServiceAccount in the owner's namespace."""
    subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace_of(owner[1])}
    body = {"roleRef": dict(role), "subjects": [subject]}
    return child(ROLE_BINDING, name, owner, labels=labels, body=body)


def given_account(pod: Mapping[str, Any]) -> str:
    """Return the ServiceAccount that the user's pod settings name, empty for none."""
    return str(pod.get("serviceAccountName") or "")
