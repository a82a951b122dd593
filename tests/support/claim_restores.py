"""Observed worlds of restores from VolumeSnapshots: two replicas of one claim, all in order."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from controller.api.creation import SESSION_NAME, SESSION_UID
from controller.api.model import parse_spec
from controller.api.objects import Obj, name_of, uid_of
from controller.api.report import HostReport, RunReport
from controller.api.report_encoding import encode
from controller.api.restore import RestoreSessionSpec
from controller.build.labels import CREATED_BY, CREATED_BY_VALUE, INVOKER_NAME, INVOKER_TYPE
from controller.reconcile.claim_observed import ClaimRestoreObserved, Storage
from controller.reconcile.observed import Executor, Limits
from tests.support.builders import INSTALLATION, NAMESPACE, before, job, pod, restore, terminated

DRIVER = "csi.example"
NAMES = ("data-0", "data-1")
PROVISIONER = "volume.kubernetes.io/storage-provisioner"


def template(name: str = "data-${POD_ORDINAL}", **spec: Any) -> dict[str, Any]:
    """Return a template that restores `snap-<ordinal>`; None leaves a field out."""
    source = {
        "apiGroup": "snapshot.storage.k8s.io",
        "kind": "VolumeSnapshot",
        "name": "snap-${POD_ORDINAL}",
    }
    wanted = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "fast",
        "dataSource": source,
        **spec,
    }
    return {
        "metadata": {"name": name},
        "spec": {key: value for key, value in wanted.items() if value is not None},
    }


def claim_spec(*templates: Obj, replicas: int | None = 2, **changes: Any) -> dict[str, Any]:
    """Return the spec of a RestoreSession from VolumeSnapshots."""
    target = {"volumeClaimTemplates": list(templates or (template(),)), "replicas": replicas}
    target = {key: value for key, value in target.items() if value is not None}
    return {"driver": "VolumeSnapshotter", "target": target, **changes}


def claim_restore(*, spec: Obj | None = None, **fields: Any) -> dict[str, Any]:
    """Return a RestoreSession from VolumeSnapshots that has not started."""
    return restore(spec=spec or claim_spec(), **fields)


def snapshot(name: str = "snap-0", *, ready: bool = True, **fields: Any) -> dict[str, Any]:
    """Return a VolumeSnapshot as the API server has it."""
    status: dict[str, Any] = {
        "readyToUse": ready,
        "boundVolumeSnapshotContentName": f"content-of-{name}",
        "restoreSize": "10Gi",
        **fields.pop("status", {}),
    }
    metadata = {
        "name": name,
        "namespace": NAMESPACE,
        "uid": f"uid-of-{name}",
        "creationTimestamp": before(fields.pop("age_s", 3600)),
        **fields.pop("metadata", {}),
    }
    return {"metadata": metadata, "spec": {}, "status": status, **fields}


def content(name: str = "content-of-snap-0", **changes: Any) -> dict[str, Any]:
    """Return the VolumeSnapshotContent of the snapshot after which it is named."""
    of = name.removeprefix("content-of-")
    spec = {
        "driver": DRIVER,
        "sourceVolumeMode": "Filesystem",
        "volumeSnapshotRef": {"name": of, "namespace": NAMESPACE, "uid": f"uid-of-{of}"},
        **changes.pop("spec", {}),
    }
    metadata = {"name": name, "uid": f"uid-of-{name}"}
    status = {"snapshotHandle": f"handle-of-{of}"}
    return {"metadata": metadata, "spec": spec, "status": status, **changes}


def storage_class(name: str = "fast", *, waits: bool = False, **changes: Any) -> dict[str, Any]:
    """Return a StorageClass."""
    mode = "WaitForFirstConsumer" if waits else "Immediate"
    metadata = {"name": name, "uid": f"uid-of-{name}"}
    return {"metadata": metadata, "provisioner": DRIVER, "volumeBindingMode": mode, **changes}


def claim(
    name: str = "data-0",
    *,
    of: Obj | None = None,
    phase: str = "Pending",
    age_s: float = 3,
    source: str = "",
    **metadata: Any,
) -> dict[str, Any]:
    """Return a claim that a session made; one that is bound was bound a second ago.

    Its source is the snapshot that `template` names for its ordinal.
    """
    session = of or claim_restore()
    annotations = {SESSION_NAME: name_of(session)}
    if phase == "Bound":
        annotations[PROVISIONER] = DRIVER
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": f"uid-of-{name}",
            "creationTimestamp": before(age_s),
            "labels": {
                CREATED_BY: CREATED_BY_VALUE,
                SESSION_UID: uid_of(session),
                INVOKER_TYPE: "RestoreSession",
                INVOKER_NAME: name_of(session),
            },
            "annotations": annotations,
            **metadata,
        },
        "spec": {
            "storageClassName": "fast",
            "volumeName": f"pvc-uid-of-{name}" if phase == "Bound" else "",
            "dataSource": {
                "apiGroup": "snapshot.storage.k8s.io",
                "kind": "VolumeSnapshot",
                "name": source or f"snap-{name.rpartition('-')[2]}",
            },
        },
        "status": {"phase": phase},
        "changedAt": before(1) if phase == "Bound" else "",
    }


def stored(**changes: Any) -> Storage:
    """Return what a restore of two claims needs, all of it there, and no claim yet."""
    usual = Storage(
        claims=dict.fromkeys(NAMES),
        snapshots={name: snapshot(name) for name in ("snap-0", "snap-1")},
        classes={"fast": storage_class()},
        contents={name: content(name) for name in ("content-of-snap-0", "content-of-snap-1")},
    )
    return replace(usual, **changes)


def claims(*found: Obj) -> dict[str, Obj | None]:
    """Return the claims by name; of the two that are wanted the others do not exist."""
    return {**dict.fromkeys(NAMES), **{name_of(one): one for one in found}}


def claim_observed(raw: Obj | None = None, **fields: Any) -> ClaimRestoreObserved:
    """Return the input of `claim_restore.plan`; by default the restore can start."""
    raw = raw or claim_restore()
    spec = parse_spec(RestoreSessionSpec, raw)
    assert isinstance(spec, RestoreSessionSpec)
    return ClaimRestoreObserved(
        raw,
        spec,
        fields.pop("executor", Executor()),
        INSTALLATION,
        fields.pop("limits", Limits()),
        storage=fields.pop("storage", stored()),
        **fields,
    )


def creation_job(of: Obj, **status: Any) -> dict[str, Any]:
    """Return the Job that creates the claims of a session."""
    made = job(of, **status)
    name = f"stash-vs-restore-{name_of(of)}"
    return {**made, "metadata": {**made["metadata"], "name": name, "uid": f"uid-of-{name}"}}


def creation_reported(of: Obj, failed: Iterable[HostReport] = ()) -> Executor:
    """Return a Job that ended with a report of what it could not create."""
    hosts = tuple(failed)
    text = encode(RunReport(hosts=hosts), 4096)
    owner = creation_job(of)
    code = 1 if hosts else 0
    ended = pod(terminated(code, text), phase="Failed" if code else "Succeeded", of=owner)
    return Executor(owner, ended)
