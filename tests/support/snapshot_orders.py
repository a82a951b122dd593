"""Orders for the Jobs of the driver VolumeSnapshotter, and its targets, for tests."""

from dataclasses import replace
from typing import Any

from controller.api.backup import BackupConfigurationSpec, RuntimeSettings
from controller.api.creation import CreationInput, NewObject
from controller.api.hook_input import HookInput
from controller.api.names import snapshot_job_name
from controller.api.objects import Obj, name_of
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    BACKUP_SESSION,
    PVC,
    RESTORE_SESSION,
)
from controller.build.creation import CreationOrder, snapshot_input
from controller.build.hook import HookOrder
from tests.support.orders import INSTALLATION, obj, parsed

SESSION = obj("BackupSession", "nightly-1767323045")
CONFIGURATION = obj("BackupConfiguration", "nightly")
RESTORE = obj("RestoreSession", "bring-back")


def snapshot_spec(**changes: Any) -> dict[str, Any]:
    """Return the spec of a BackupConfiguration of a StatefulSet; None leaves a field out."""
    spec: dict[str, Any] = {
        "schedule": "*/5 * * * *",
        "driver": "VolumeSnapshotter",
        "target": {"ref": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db"}},
        "retentionPolicy": {"name": "keep-last-5", "keepLast": 5, "prune": True},
        **changes,
    }
    return {key: value for key, value in spec.items() if value is not None}


def snapshot_document(*claims: str, **spec: Any) -> CreationInput:
    """Return what the Job of SESSION is told, by default of the claims `a` and `b`."""
    model = parsed(BackupConfigurationSpec, snapshot_spec(**spec))
    return snapshot_input(SESSION, CONFIGURATION, model, claims or ("a", "b"))


def settings(**fields: Any) -> RuntimeSettings:
    """Return runtime settings."""
    return RuntimeSettings.model_validate(fields)


def snapshot_order(**changes: Any) -> CreationOrder:
    """Return the order for the Job that creates the VolumeSnapshots of SESSION."""
    usual = CreationOrder(
        session=SESSION,
        session_resource=BACKUP_SESSION,
        invoker=CONFIGURATION,
        invoker_resource=BACKUP_CONFIGURATION,
        runtime_settings=RuntimeSettings(),
        installation=INSTALLATION,
        document=snapshot_document(),
        job_name=snapshot_job_name(name_of(SESSION)),
        service_account="backupconfiguration-nightly-0",
        time_out="",
    )
    return replace(usual, **changes)


def claim_order(**changes: Any) -> CreationOrder:
    """Return the order for the Job that creates the claims of a RestoreSession."""
    document = CreationInput(
        group=PVC.group,
        version=PVC.version,
        kind=PVC.kind,
        plural=PVC.plural,
        namespace="demo",
        session_uid="uid-of-bring-back",
        common={"apiVersion": "v1", "kind": "PersistentVolumeClaim"},
        objects=(NewObject("a", {"metadata": {"name": "a"}}),),
    )
    return snapshot_order(
        session=RESTORE,
        session_resource=RESTORE_SESSION,
        invoker=RESTORE,
        invoker_resource=RESTORE_SESSION,
        document=document,
        job_name=snapshot_job_name("bring-back", is_restore=True),
        service_account="restoresession-bring-back-0",
        **changes,
    )


def hook_order(**changes: Any) -> HookOrder:
    """Return the order for the Job of SESSION's first hook."""
    usual = HookOrder(
        session=SESSION,
        session_resource=BACKUP_SESSION,
        invoker=CONFIGURATION,
        invoker_resource=BACKUP_CONFIGURATION,
        runtime_settings=RuntimeSettings(),
        installation=INSTALLATION,
        document=HookInput("preBackup", "demo", label_selector="app=db", command=("sync",)),
        hook="pre",
        service_account="stash-hook-identity-nightly-1767323045",
        start_s=600.0,
    )
    return replace(usual, **changes)


def claim(name: str, *, phase: str = "Bound", namespace: str = "demo", **metadata: Any) -> Obj:
    """Return a PersistentVolumeClaim."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-of-{name}", **metadata},
        "spec": {"accessModes": ["ReadWriteOnce"]},
        "status": {"phase": phase},
    }


def stateful_set(*, replicas: int = 2, volumes: tuple[Obj, ...] = ()) -> Obj:
    """Return the StatefulSet `db`, whose claims are `data-db-0` and so on."""
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db", "namespace": "demo", "uid": "uid-of-db"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "db"}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
            "template": {"spec": {"volumes": list(volumes)}},
        },
    }
