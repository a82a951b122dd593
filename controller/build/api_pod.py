"""Jobs whose pod talks to the API server: one container of ours, a token, nothing mounted.

They run as an ordinary user whatever the invoker is, and get no capability: they touch no file.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from controller.api.backup import RuntimeSettings
from controller.api.model import Problem
from controller.api.names import pod_hostname
from controller.api.objects import Obj, name_of, namespace_of, uid_of
from controller.api.resources import BACKUP_CONFIGURATION, JOB, Resource
from controller.build.child import child
from controller.build.container import (
    command_problems,
    is_refused,
    main_fields,
    merged_settings,
    pinned_environment,
    security_context,
    shared_fields,
    variable_problems,
)
from controller.build.installation import Installation
from controller.build.labels import BACKUP, RESTORE, child_labels, own_labels
from controller.build.pod import pod_security_context, pod_template

GRACE_S = 10
"""Nothing has to be released: what was begun is judged by what exists."""
# The pod needs no right on any file: what the user grants a backup is not handed on.
_NOT_HANDED_ON = ("capabilities", "privileged", "allowPrivilegeEscalation", "procMount")

# What the kubelet sets itself is overridden by an `envFrom`, and is not known here: by this name
# every cluster has its API server, and every API server's certificate has this name.
_PINNED = {
    "KUBECONFIG": "",
    "KUBERNETES_SERVICE_HOST": "kubernetes.default.svc",
    "KUBERNETES_SERVICE_PORT": "443",
}
_REFUSED = dict.fromkeys(_PINNED, "decides which server gets the pod's token")


class ApiOrder(Protocol):
    """What all Jobs of this kind are built from."""

    @property
    def session(self) -> Obj:
        """Return the session, which owns the Job."""

    @property
    def session_resource(self) -> Resource:
        """Return the session's kind."""

    @property
    def invoker(self) -> Obj:
        """Return the BackupConfiguration, or the RestoreSession itself."""

    @property
    def invoker_resource(self) -> Resource:
        """Return the invoker's kind."""

    @property
    def runtime_settings(self) -> RuntimeSettings:
        """Return the invoker's settings."""

    @property
    def installation(self) -> Installation:
        """Return what all Jobs have in common."""

    @property
    def service_account(self) -> str:
        """Return as whom the pod talks to the API server."""


def component_of(invoker_resource: Resource) -> str:
    """Return the value of the component label."""
    return BACKUP if invoker_resource == BACKUP_CONFIGURATION else RESTORE


def subject_of(order: ApiOrder) -> str:
    """Return the invoker as it stands in front of the path of a problem."""
    return f"{order.invoker_resource} {namespace_of(order.invoker)}/{name_of(order.invoker)}"


def api_job(
    order: ApiOrder,
    name: str,
    container: Obj,
    *,
    policy: Obj,
    deadline_s: int,
    annotations: Obj | None = None,
) -> Obj | tuple[Problem, ...]:
    """Return the Job, or what is wrong with its runtime settings."""
    places = [(f"{subject_of(order)} spec.runtimeSettings.container", _settings(order))]
    problems = [
        *variable_problems(places, _REFUSED),
        *command_problems(places, beside="the pod's token"),
    ]
    if problems:
        return tuple(problems)
    component = component_of(order.invoker_resource)
    kind = order.invoker_resource.kind
    return child(
        JOB,
        name,
        (order.session_resource, order.session),
        labels=child_labels(component, kind, order.invoker),
        annotations=annotations,
        body={
            "spec": {
                **policy,
                "activeDeadlineSeconds": deadline_s,
                "template": api_pod_template(
                    order.installation,
                    order.runtime_settings,
                    labels=own_labels(component, kind, order.invoker),
                    container={**container, **main_fields(_settings(order))},
                    service_account=order.service_account,
                    hostname=pod_hostname(name, uid_of(order.session)),
                ),
            }
        },
    )


def job_container(order: ApiOrder, verb: str, document: Obj) -> dict[str, Any]:
    """Return the container that runs one verb of the runner, and bears its name."""
    return api_container(
        verb,
        verb,
        installation=order.installation,
        settings=order.runtime_settings,
        environment=[document],
    )


def api_pod_template(
    installation: Installation,
    settings: RuntimeSettings,
    *,
    labels: Obj,
    container: Obj,
    service_account: str,
    hostname: str = "",
) -> dict[str, Any]:
    """Return the template of a pod with a token: `automountServiceAccountToken` is not asked."""
    template = pod_template(
        installation,
        settings,
        labels=labels,
        containers=[container],
        volumes=(),
        security_context=pod_security_context(settings, is_backup=True),
        needs_token=True,
        service_account=service_account,
        hostname=hostname,
    )
    template["spec"]["automountServiceAccountToken"] = True
    template["spec"]["terminationGracePeriodSeconds"] = GRACE_S
    return template


def api_container(
    name: str,
    verb: str,
    *,
    installation: Installation,
    settings: RuntimeSettings,
    environment: Sequence[Obj],
) -> dict[str, Any]:
    """Return the container; `environment` is ours, and stands last."""
    given = {
        key: value
        for key, value in (settings.container.get("securityContext") or {}).items()
        if key not in _NOT_HANDED_ON
    }
    pod = pod_security_context(settings, is_backup=True)
    context = security_context(given, own=True, is_backup=True, pod_uid=pod.get("runAsUser"))
    context["capabilities"] = {"drop": ["ALL"]}
    return {
        "name": name,
        "image": installation.image,
        "imagePullPolicy": installation.image_pull_policy,
        "args": [verb],
        "env": [
            *(v for v in settings.container.get("env") or () if not is_refused(v, _REFUSED)),
            *pinned_environment(settings.container, _PINNED),
            *environment,
        ],
        **shared_fields(installation, settings.container),
        "securityContext": context,
    }


def _settings(order: ApiOrder) -> dict[str, Any]:
    return merged_settings({}, order.runtime_settings.container)
