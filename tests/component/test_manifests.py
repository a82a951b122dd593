"""Every manifest that we build, against a real API server: strictly validated, nothing stored."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from controller.api.backup import BackupConfigurationSpec
from controller.api.catalog import TaskSpec
from controller.api.names import snapshot_job_name
from controller.api.objects import Obj, name_of, namespace_of
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    CRON_JOB,
    FUNCTION,
    JOB,
    NAMESPACE,
    ROLE,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    TASK,
)
from controller.api.restore import RestoreSessionSpec
from controller.build.catalog import catalogue
from controller.build.creation import CreationOrder, creation_job
from controller.build.cronjob import trigger_cron_job
from controller.build.hook import HookOrder, hook_job
from controller.build.identity import claim_rbac, hook_rbac, snapshot_rbac
from controller.build.job import backup_job, job_rbac, restore_job, unlock_job
from controller.build.order import JobOrder
from controller.build.rbac import trigger_rbac
from tests.support.apiserver import ApiServer
from tests.support.orders import (
    INSTALLATION,
    TARGET,
    backup_order,
    functions,
    parsed,
    restore_order,
)
from tests.support.snapshot_orders import (
    claim_order,
    hook_order,
    settings,
    snapshot_order,
    snapshot_spec,
)

RESOURCES = {
    resource.kind: resource
    for resource in (CRON_JOB, FUNCTION, JOB, ROLE, ROLE_BINDING, SERVICE_ACCOUNT, TASK)
}
DRY = "dryRun=All&fieldValidation=Strict"
# everything that the published API offers for pods and containers and that a Job can have
SETTINGS: dict[str, Any] = {
    "container": {
        "resources": {"limits": {"memory": "64Mi", "cpu": 1}},
        "livenessProbe": {"tcpSocket": {"port": 8080}},
        "readinessProbe": {"tcpSocket": {"port": 8080}},
        "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
        "securityContext": {"runAsUser": 0, "capabilities": {"add": ["DAC_READ_SEARCH"]}},
        "nice": {"adjustment": 5},
        "ionice": {"class": 2, "classData": 4},
        "env": [{"name": "HTTPS_PROXY", "value": "http://proxy"}],
        "envFrom": [{"configMapRef": {"name": "proxy", "optional": True}}],
    },
    "pod": {
        "podLabels": {"mine": "x"},
        "podAnnotations": {"mine": "x"},
        "nodeSelector": {"disk": "ssd"},
        "serviceAccountAnnotations": {"eks.amazonaws.com/role-arn": "arn"},
        "securityContext": {"fsGroup": 65534, "seLinuxOptions": {"level": "s0"}},
        "imagePullSecrets": [{"name": "pull"}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}
                    ]
                }
            }
        },
        "schedulerName": "default-scheduler",
        "tolerations": [{"key": "backup", "operator": "Exists", "effect": "NoSchedule"}],
        "readinessGates": [{"conditionType": "example.com/ready"}],
        "enableServiceLinks": True,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "zone",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"mine": "x"}},
            }
        ],
    },
}
LOCAL = {
    "storageSecretName": "s",
    "local": {
        "persistentVolumeClaim": {"claimName": "repo"},
        "mountPath": "/safe",
        "subPath": "a/b",
    },
}
STEPS = {
    "steps": [
        {"name": "prepare"},
        {"name": "pvc-backup", "params": [{"name": "targetVolume", "value": "v"}]},
        {"name": "update-status"},
    ],
    "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "${TARGET_NAME}"}}],
}
PREPARE = {
    "image": "busybox:1.36",
    "command": ["sh", "-c"],
    "args": ["echo ${REPOSITORY_SECRET_NAME}"],
    "workingDir": "/data",
    "ports": [{"containerPort": 8080}],
    "volumeMounts": [{"name": "v", "mountPath": "/data"}],
    "runtimeSettings": {"resources": {"requests": {"cpu": "1m"}}},
}


def third_party() -> JobOrder:
    """Return an order whose Task has a step of somebody else, who asks for the Secret."""
    return backup_order(
        task=parsed(TaskSpec, STEPS), functions=functions({"prepare": PREPARE}), node_name="n"
    )


def everything() -> JobOrder:
    """Return an order with all runtime settings and a local backend."""
    return backup_order(
        spec={
            "runtimeSettings": SETTINGS,
            "timeOut": "1h",
            "tempDir": {"medium": "Memory", "sizeLimit": "1Gi"},
            "target": {**TARGET, "volumeMounts": [{"name": "x", "mountPath": "/a/b"}]},
        },
        backend=LOCAL,
        node_name="node-1",
    )


def long_names() -> JobOrder:
    """Return an order of a session and a configuration with the longest possible names."""
    name = "a.b-" * 63 + "c"
    order = backup_order()
    changes: dict[str, Any] = {}
    for field in ("session", "invoker"):
        found = getattr(order, field)
        changes[field] = {**found, "metadata": {**found["metadata"], "name": name}}
    return dataclasses.replace(order, **changes)


def snapshot_orders() -> Iterator[tuple[str, CreationOrder | HookOrder]]:
    """Yield orders of the driver VolumeSnapshotter: plain, with all settings, with long names."""
    usual = (
        ("snapshot", snapshot_order()),
        ("claim", claim_order()),
        ("pre", hook_order()),
        ("post", hook_order(hook="post")),
    )
    wanted = settings(**SETTINGS)
    for name, order in usual:
        yield f"{name}-plain", order
        yield f"{name}-everything", dataclasses.replace(order, runtime_settings=wanted)
    name = "a.b-" * 63 + "c"
    for kind, order in (usual[0], usual[2]):
        long: dict[str, Any] = {
            field: {**found, "metadata": {**found["metadata"], "name": name}}
            for field in ("session", "invoker")
            for found in (getattr(order, field),)
        }
        if isinstance(order, CreationOrder):
            long["job_name"] = snapshot_job_name(name)
        yield f"{kind}-long-names", dataclasses.replace(order, **long)


def snapshot_manifests() -> Iterator[tuple[str, Obj]]:
    """Yield every object of the driver VolumeSnapshotter that we build, with a name."""
    for name, order in snapshot_orders():
        if isinstance(order, HookOrder):
            yield f"hook-{name}", job(hook_job(order))
            yield f"hook-post-{name}", job(hook_job(dataclasses.replace(order, hook="post")))
            of = (order.session_resource, order.session, order.invoker, order.invoker_resource)
            objects: Iterable[Obj] = (body for _, body in hook_rbac(*of, order.runtime_settings))
        else:
            yield f"creation-{name}", job(creation_job(order))
            raw = {"runtimeSettings": order.runtime_settings.model_dump()}
            if order.invoker_resource == BACKUP_CONFIGURATION:
                spec = parsed(BackupConfigurationSpec, snapshot_spec(**raw))
                objects = snapshot_rbac(order.invoker, spec)
            else:
                restore = parsed(RestoreSessionSpec, raw)
                objects = (body for _, body in claim_rbac(order.invoker, restore))
        for body in objects:
            yield f"{name}-{body['kind']}", body


def job(found: Obj | tuple[Any, ...]) -> Obj:
    """Return a Job that must have been built."""
    assert not isinstance(found, tuple), [str(problem) for problem in found]
    return found


def manifests() -> Iterator[tuple[str, Obj]]:
    """Yield every kind of object that we build, with a name for the test."""
    for item in catalogue(INSTALLATION):
        yield f"{item['kind']}-{name_of(item)}", item
    orders = {
        "plain": backup_order(),
        "third-party": third_party(),
        "everything": everything(),
        "long-names": long_names(),
    }
    for name, order in orders.items():
        yield f"backup-{name}", job(backup_job(order))
        yield f"unlock-{name}", job(unlock_job(order))
        spec = order.spec
        yield f"cronjob-{name}", trigger_cron_job(order.invoker, spec, INSTALLATION)  # type: ignore[arg-type]  # a backup's
        for item in trigger_rbac(order.invoker, spec):  # type: ignore[arg-type]  # as above
            yield f"trigger-{item['kind']}-{name}", item
        for _, item in job_rbac(order):
            yield f"job-{item['kind']}-{name}", item
    yield "restore-plain", job(restore_job(restore_order()))
    everywhere = {"runtimeSettings": SETTINGS, "timeOut": "1h"}
    yield "restore-everything", job(restore_job(restore_order(spec=everywhere, backend=LOCAL)))
    yield "restore-unlock", job(unlock_job(restore_order()))
    yield from snapshot_manifests()


MANIFESTS = dict(manifests())


@pytest.fixture(scope="module")
def server(crds: ApiServer) -> ApiServer:
    """Make the namespaces: one without rules, and one for each level of pod security."""
    levels = {"demo": "privileged", "baseline": "baseline", "restricted": "restricted"}
    for name, level in levels.items():
        labels = {"pod-security.kubernetes.io/enforce": level}
        body = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": labels},
        }
        answer = crds.apply(NAMESPACE.path(name=name), body)
        assert answer.status in (200, 201), answer.text
    return crds


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest_is_accepted_strictly(server: ApiServer, name: str) -> None:
    """No field is unknown, doubled or of a wrong type, and admission and validation agree."""
    body = MANIFESTS[name]
    resource = RESOURCES[body["kind"]]
    path = resource.path(namespace_of(body), name_of(body))
    answer = server.apply(f"{path}?{DRY}", body)
    assert answer.status == 201, answer.text
    assert answer.warnings == ()


def pod(manifest: Obj, namespace: str) -> dict[str, Any]:
    """Return the pod that a Job or CronJob would create in a namespace."""
    spec = manifest["spec"]
    template = spec.get("jobTemplate", manifest)["spec"]["template"]
    metadata = {**template["metadata"], "name": "p", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("backup-plain", "restricted"),
        ("backup-third-party", "restricted"),
        ("unlock-plain", "restricted"),
        ("cronjob-plain", "restricted"),
        ("creation-snapshot-plain", "restricted"),
        ("creation-claim-plain", "restricted"),
        ("hook-pre-plain", "restricted"),
        ("restore-plain", "baseline"),
        ("restore-unlock", "baseline"),
    ],
)
def test_pod_fits_the_pod_security_level(server: ApiServer, name: str, level: str) -> None:
    """By default a backup runs in restricted namespaces, a restore in baseline ones (D19)."""
    body = pod(MANIFESTS[name], level)
    answer = server.request("POST", f"/api/v1/namespaces/{level}/pods?{DRY}", body)
    assert answer.status == 201, answer.text


def test_a_restore_as_root_is_refused_where_pods_are_restricted(server: ApiServer) -> None:
    """The level of the fixture's namespace is really enforced."""
    body = pod(MANIFESTS["restore-plain"], "restricted")
    answer = server.request("POST", f"/api/v1/namespaces/restricted/pods?{DRY}", body)
    assert answer.status == 403
    assert "violates PodSecurity" in answer.text


def test_a_restore_as_another_user_fits_restricted(server: ApiServer) -> None:
    """Whoever gives up the owners of files can restore in a restricted namespace (D19)."""
    settings = {"pod": {"securityContext": {"runAsNonRoot": True}}}
    order = restore_order(spec={"runtimeSettings": settings})
    body = pod(job(restore_job(order)), "restricted")
    answer = server.request("POST", f"/api/v1/namespaces/restricted/pods?{DRY}", body)
    assert answer.status == 201, answer.text
