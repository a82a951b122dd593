"""From containers to the pod of a Job: identity, placement, volumes, opt-outs."""

from collections.abc import Mapping, Sequence
from typing import Any

from controller.api.backup import RuntimeSettings
from controller.api.objects import Obj, dig
from controller.build.installation import Installation
from controller.build.labels import INJECTION_ANNOTATIONS, INJECTION_LABELS, STAY_ANNOTATIONS, STEPS

GRACE_S = 120
"""restic needs time to release its lock after SIGINT."""
BACKUP_UID = 65535

_COPIED = (
    "nodeSelector",
    "nodeName",
    "schedulerName",
    "tolerations",
    "priorityClassName",
    "priority",
    "readinessGates",
    "runtimeClassName",
    "topologySpreadConstraints",
)


def job_policy() -> dict[str, Any]:
    """Return how a Job of ours counts failures: one try, but a drained node is no failure (D9).

    `Failed` makes the next pod wait until the last one is gone: they share a host name (D8).
    """
    return {
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "Ignore",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                }
            ]
        },
    }


def pod_template(
    installation: Installation,
    settings: RuntimeSettings,
    *,
    labels: Mapping[str, str],
    containers: Sequence[Obj],
    volumes: Sequence[Obj],
    security_context: Obj,
    needs_token: bool,
    service_account: str = "",
    hostname: str = "",
    node_name: str = "",
    annotations: Obj | None = None,
) -> dict[str, Any]:
    """Return a pod template: all containers but the last are init containers.

    Labels of ours win over the user's, and so do `annotations`; opt-outs of the user's win over
    ours.
    """
    pod = settings.pod
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_S,
        "enableServiceLinks": bool(pod.get("enableServiceLinks", False)),
        "automountServiceAccountToken": bool(pod.get("automountServiceAccountToken", needs_token)),
        "securityContext": dict(security_context),
        "containers": [containers[-1]],
    }
    affinity = affinity_to(node_name, pod.get("affinity") or {})
    pull_secrets = [{"name": name} for name in installation.image_pull_secrets]
    pull_secrets += [item for item in pod.get("imagePullSecrets") or () if item not in pull_secrets]
    optional: Mapping[str, Any] = {
        "hostname": hostname,
        "serviceAccountName": service_account,
        "initContainers": list(containers[:-1]),
        "volumes": list(volumes),
        "imagePullSecrets": pull_secrets,
        "affinity": affinity,
        **{key: pod.get(key) for key in _COPIED if key != "priority"},
    }
    spec |= {key: value for key, value in optional.items() if value}
    if pod.get("priority") is not None:
        spec["priority"] = pod["priority"]
    return {
        "metadata": {
            "labels": INJECTION_LABELS | dict(pod.get("podLabels") or {}) | dict(labels),
            "annotations": INJECTION_ANNOTATIONS
            | STAY_ANNOTATIONS
            | dict(pod.get("podAnnotations") or {})
            | dict(annotations or {})
            | {STEPS: ",".join(str(container["name"]) for container in containers)},
        },
        "spec": spec,
    }


def pod_security_context(settings: RuntimeSettings, *, is_backup: bool) -> dict[str, Any]:
    """Return the pod's security context: the default identity, the user's fields over it (D19).

    A backup runs as an ordinary user, a restore as root, because only root can give files back to
    their owners. `fsGroup` is never set by us: it would change the source's files (D18).
    """
    given = settings.pod.get("securityContext") or {}
    context: dict[str, Any] = {"seccompProfile": {"type": "RuntimeDefault"}}
    if is_backup or given.get("runAsNonRoot"):
        context["runAsUser"] = BACKUP_UID
    else:
        context |= {"runAsUser": 0, "runAsGroup": 0}
    return context | dict(given)


def affinity_to(node_name: str, given: Obj) -> dict[str, Any]:
    """Return the user's affinity, narrowed to one node when a name is given (D18).

    Terms are alternatives, so each of them is narrowed.
    """
    affinity = dict(given)
    if not node_name:
        return affinity
    here = {"key": "metadata.name", "operator": "In", "values": [node_name]}
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    terms = dig(given, "nodeAffinity", required, "nodeSelectorTerms") or [{}]
    narrowed = [{**term, "matchFields": [*(term.get("matchFields") or ()), here]} for term in terms]
    affinity["nodeAffinity"] = {
        **(given.get("nodeAffinity") or {}),
        required: {"nodeSelectorTerms": narrowed},
    }
    return affinity
