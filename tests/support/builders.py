"""Observed worlds for tests of the planners: one volume, one configuration, everything in order.

Every builder takes what differs. Objects have the shapes that a real API server, kubelet and Job
controller give them, as far as the planners read them.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from controller.api.backup import BackupConfigurationSpec
from controller.api.model import Problem, parse_spec
from controller.api.names import backup_job_name, pod_hostname, restore_job_name
from controller.api.objects import Key, Obj, name_of, namespace_of, uid_of
from controller.api.report import (
    HostReport,
    RepositoryReport,
    RunReport,
    SnapshotReport,
    StepReport,
    StepState,
)
from controller.api.report_encoding import encode
from controller.api.restore import RestoreSessionSpec
from controller.api.text import format_time
from controller.build.catalog import catalogue
from controller.build.installation import Installation
from controller.build.labels import REPOSITORY_NAME, REPOSITORY_UID
from controller.reconcile.observed import (
    PASSWORD_KEY,
    ConfigurationObserved,
    Executor,
    Limits,
    References,
    RestoreObserved,
    Secret,
    SessionObserved,
)

NOW = datetime(2026, 11, 22, 3, 0, 0, tzinfo=UTC)
NAMESPACE = "demo"
SNAPSHOT_ID = "5f" * 32
REPOSITORY_ID = "drey.dev/repository-id"
VERIFIED_AT = "drey.dev/verified-at"
INSTALLATION = Installation(
    image="registry.example/drey:1.2.3",
    namespace="drey-system",
    pushgateway_url="http://drey.drey-system.svc:9091",
)
TARGET_TEXT = "PersistentVolumeClaim demo/data"


def before(seconds: float) -> str:
    """Return the time so many seconds before NOW, as Kubernetes writes it."""
    return format_time(NOW - timedelta(seconds=seconds))


def obj(kind: str, name: str, *, age_s: float = 3600, **fields: Any) -> dict[str, Any]:
    """Return an object of ours; `metadata` in `fields` is merged into the usual one."""
    metadata = {
        "name": name,
        "namespace": NAMESPACE,
        "uid": f"uid-of-{name}",
        "resourceVersion": "7",
        "generation": 1,
        "creationTimestamp": before(age_s),
        **fields.pop("metadata", {}),
    }
    version = "v1alpha1" if kind == "Repository" else "v1beta1"
    return {
        "apiVersion": f"stash.appscode.com/{version}",
        "kind": kind,
        "metadata": metadata,
        **fields,
    }


def condition(
    kind: str, status: str = "True", *, age_s: float = 0, reason: str = "R", message: str = ""
) -> dict[str, Any]:
    """Return one entry of a condition list."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": before(age_s),
    }


def configuration_spec(**changes: Any) -> dict[str, Any]:
    """Return the spec of a BackupConfiguration of the claim `data`; None leaves a field out."""
    spec: dict[str, Any] = {
        "schedule": "*/5 * * * *",
        "task": {"name": "pvc-backup"},
        "repository": {"name": "repo"},
        "target": {"ref": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "data"}},
        "retentionPolicy": {"name": "keep-last-5", "keepLast": 5, "prune": True},
        **changes,
    }
    return {key: value for key, value in spec.items() if value is not None}


def configuration(
    name: str = "nightly",
    *,
    spec: Obj | None = None,
    status: Obj | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Return a BackupConfiguration that is Ready."""
    ready = {"phase": "Ready", "observedGeneration": 1, "conditions": []}
    return obj(
        "BackupConfiguration",
        name,
        spec=spec or configuration_spec(),
        status=ready if status is None else status,
        **fields,
    )


def session(
    name: str = "nightly-1", *, of: str = "nightly", age_s: float = 0, **fields: Any
) -> dict[str, Any]:
    """Return a BackupSession that has not started."""
    invoker = {"apiGroup": "stash.appscode.com", "kind": "BackupConfiguration", "name": of}
    return obj("BackupSession", name, age_s=age_s, spec={"invoker": invoker}, **fields)


def running_status(*, age_s: float = 0) -> dict[str, Any]:
    """Return the status of a BackupSession whose Job was created."""
    ensured = condition(
        "BackupExecutorEnsured",
        age_s=age_s,
        reason="SuccessfullyEnsuredBackupExecutor",
        message="Successfully ensured backup executor.",
    )
    ref = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": NAMESPACE,
        "name": "data",
    }
    target = {"ref": ref, "phase": "Running", "totalHosts": 1, "conditions": [ensured]}
    return {"phase": "Running", "targets": [target]}


def repository(name: str = "repo", *, used: bool = True, **fields: Any) -> dict[str, Any]:
    """Return a Repository in S3; one that was used carries our two annotations."""
    annotations = {REPOSITORY_ID: "ab" * 32, VERIFIED_AT: before(60)} if used else {}
    s3 = {"endpoint": "https://s3.example", "bucket": "backups", "prefix": name}
    backend = {"storageSecretName": "s3-secret", "s3": s3}
    metadata = {"annotations": annotations, **fields.pop("metadata", {})}
    return obj("Repository", name, metadata=metadata, **{"spec": {"backend": backend}, **fields})


def pvc(*, phase: str = "Bound", modes: tuple[str, ...] = ("ReadWriteOnce",), **spec: Any) -> Obj:
    """Return the claim `data`."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": NAMESPACE, "uid": "uid-of-data"},
        "spec": {"accessModes": list(modes), **spec},
        "status": {"phase": phase},
    }


def secret(**changes: Any) -> Secret:
    """Return the storage Secret as it is observed: the names of its keys."""
    usual = Secret(
        Key(NAMESPACE, "s3-secret"),
        found=True,
        keys=frozenset({PASSWORD_KEY, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}),
    )
    return replace(usual, **changes)


def catalog(kind: str) -> dict[str, Obj]:
    """Return the Functions or Tasks of the catalogue by name, as an informer has them."""
    return {
        item["metadata"]["name"]: {
            **item,
            "metadata": {**item["metadata"], "uid": f"uid-of-{kind}-{item['metadata']['name']}"},
        }
        for item in catalogue(INSTALLATION)
        if item["kind"] == kind
    }


def references(**changes: Any) -> References:
    """Return what the configuration names, all of it there."""
    usual = References(
        repository=repository(),
        secret=secret(),
        pvc=pvc(),
        task=catalog("Task")["pvc-backup"],
        functions={"pvc-backup": catalog("Function")["pvc-backup"]},
    )
    return replace(usual, **changes)


def configuration_observed(
    raw: Obj | None = None, *, seen: References | None = None, **fields: Any
) -> ConfigurationObserved:
    """Return the input of `backup_configuration.plan`; by default the object is brand new."""
    raw = raw or configuration(status={})
    return ConfigurationObserved(
        raw,
        parse_spec(BackupConfigurationSpec, raw),
        seen or references(),
        fields.pop("children", {}),
        INSTALLATION,
        **fields,
    )


def session_observed(raw: Obj | None = None, **fields: Any) -> SessionObserved:
    """Return the input of `backup_session.plan`; by default the session can start."""
    invoker = fields.pop("configuration", configuration())
    parsed = parse_spec(BackupConfigurationSpec, invoker) if invoker is not None else None
    named = fields.pop("references", references())
    return SessionObserved(
        raw or session(),
        invoker,
        None if isinstance(parsed, tuple) else parsed,
        named,
        fields.pop("executor", Executor()),
        INSTALLATION,
        fields.pop("limits", Limits()),
        **{"repository": named.repository, **fields},
    )


def restore_spec(**changes: Any) -> dict[str, Any]:
    """Return the spec of a RestoreSession into the claim `data`."""
    target = {
        "ref": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "data"},
        "rules": [{"snapshots": ["latest"]}],
    }
    spec: dict[str, Any] = {
        "task": {"name": "pvc-restore"},
        "repository": {"name": "repo"},
        "target": target,
        **changes,
    }
    return {key: value for key, value in spec.items() if value is not None}


def restore(name: str = "bring-back", *, spec: Obj | None = None, **fields: Any) -> dict[str, Any]:
    """Return a RestoreSession."""
    return obj("RestoreSession", name, **{"age_s": 0, "spec": spec or restore_spec(), **fields})


def restore_references(**changes: Any) -> References:
    """Return what the RestoreSession names, all of it there."""
    usual = references(
        task=catalog("Task")["pvc-restore"],
        functions={"pvc-restore": catalog("Function")["pvc-restore"]},
    )
    return replace(usual, **changes)


def restore_observed(raw: Obj | None = None, **fields: Any) -> RestoreObserved:
    """Return the input of `restore_session.plan`; by default the restore can start."""
    raw = raw or restore()
    parsed: RestoreSessionSpec | tuple[Problem, ...] = parse_spec(RestoreSessionSpec, raw)
    return RestoreObserved(
        raw,
        parsed,
        fields.pop("references", restore_references()),
        fields.pop("executor", Executor()),
        INSTALLATION,
        fields.pop("limits", Limits()),
        **fields,
    )


def job(of: Obj, *, age_s: float = 2, **status: Any) -> dict[str, Any]:
    """Return the Job of a session."""
    kind = str(of["kind"])
    name = (backup_job_name if kind == "BackupSession" else restore_job_name)(name_of(of))
    owner = {"kind": kind, "name": name_of(of), "uid": uid_of(of), "controller": True}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": namespace_of(of),
            "uid": f"uid-of-{name}",
            "creationTimestamp": before(age_s),
            "ownerReferences": [owner],
            "annotations": {REPOSITORY_NAME: "repo", REPOSITORY_UID: "uid-of-repo"},
        },
        "status": status,
    }


def job_failed(reason: str = "BackoffLimitExceeded", message: str = "it failed") -> list[Obj]:
    """Return the conditions of a Job that failed, as Kubernetes 1.33 sets them."""
    return [
        {"type": kind, "status": "True", "reason": reason, "message": message}
        for kind in ("FailureTarget", "Failed")
    ]


def job_complete() -> list[Obj]:
    """Return the conditions of a Job that is complete."""
    return [{"type": kind, "status": "True"} for kind in ("SuccessCriteriaMet", "Complete")]


def pod(
    *containers: Obj,
    phase: str = "Running",
    init: tuple[Obj, ...] = (),
    conditions: tuple[Obj, ...] = (),
    age_s: float = 1,
    of: Obj | None = None,
    **status: Any,
) -> dict[str, Any]:
    """Return a Job's pod with these container statuses."""
    owner = of or job(session())
    name = name_of(owner)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-x7k2p",
            "namespace": NAMESPACE,
            "uid": f"uid-of-{name}-pod",
            "creationTimestamp": before(age_s),
            "ownerReferences": [
                {"kind": "Job", "name": name, "uid": uid_of(owner), "controller": True}
            ],
        },
        "spec": {"hostname": pod_hostname(name, "uid"), "nodeName": "node-1"},
        "status": {
            "phase": phase,
            "conditions": list(conditions),
            **({"containerStatuses": list(containers)} if containers else {}),
            **({"initContainerStatuses": list(init)} if init else {}),
            **status,
        },
    }


DISRUPTED = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient memory.",
}


def running(name: str = "pvc-backup-0") -> Obj:
    """Return the status of a container that runs."""
    return {"name": name, "state": {"running": {"startedAt": before(1)}}}


def waiting(reason: str, message: str = "", name: str = "pvc-backup-0") -> Obj:
    """Return the status of a container that does not run yet."""
    state = {"reason": reason, **({"message": message} if message else {})}
    return {"name": name, "state": {"waiting": state}}


def terminated(
    code: int = 0,
    message: str = "",
    *,
    reason: str = "",
    name: str = "pvc-backup-0",
    ago_s: float = 0,
) -> Obj:
    """Return the status of a container that ended."""
    state: dict[str, Any] = {
        "exitCode": code,
        "reason": reason or ("Completed" if code == 0 else "Error"),
        "startedAt": before(ago_s + 1),
        "finishedAt": before(ago_s),
    }
    if message:
        state["message"] = message
    return {"name": name, "state": {"terminated": state}}


def snapshot(**changes: Any) -> SnapshotReport:
    """Return the report of one snapshot."""
    usual = SnapshotReport(
        id=SNAPSHOT_ID,
        path="/stash-data",
        total_bytes=2629,
        uploaded_bytes=410,
        processing_s=1.2,
        files_total=3,
        files_new=2,
        files_modified=1,
    )
    return replace(usual, **changes)


def host(**changes: Any) -> HostReport:
    """Return the report of one host, a success."""
    return replace(
        HostReport("host-0", succeeded=True, duration_s=3.5, snapshots=(snapshot(),)), **changes
    )


def failed_host(reason: str = "WrongPassword", error: str = "wrong password") -> HostReport:
    """Return the report of one host, a failure."""
    return HostReport("host-0", succeeded=False, reason=reason, error=error, duration_s=0.5)


DONE = StepReport(StepState.DONE)


def report(*hosts: HostReport, **changes: Any) -> RunReport:
    """Return a report; without hosts that of a backup in which everything went well."""
    usual = RunReport(
        hosts=hosts or (host(),),
        repository=RepositoryReport(id="ab" * 32, snapshots_kept=4, snapshots_removed=1),
        retention=DONE,
        verification=DONE,
        metrics=DONE,
    )
    return replace(usual, **changes)


def reported(of: RunReport | None = None, *, code: int = 0) -> Obj:
    """Return the pod of a Job that reported."""
    text = encode(of or report(), 12_288)
    return pod(terminated(code, text), phase="Failed" if code else "Succeeded")
