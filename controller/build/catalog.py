"""The Functions and Tasks that come with the operator, with its own image.

Our Tasks need one step only: one container that does the work, applies retention and reports. The
Functions also work in a user's Task of two steps, with `outputDir` and `update-status` (D16).
"""

from typing import Any

from controller.api.job_input import RESTORE_ROOT
from controller.api.names import PVC_BACKUP, PVC_RESTORE
from controller.api.objects import Obj
from controller.api.resources import FUNCTION, TASK
from controller.build.child import with_hash
from controller.build.installation import Installation
from controller.build.labels import CREATED_BY, CREATED_BY_VALUE
from controller.build.task import BACKUP_VERB, RESTORE_VERB

UPDATE_STATUS = "update-status"
_VOLUME = "stash-volume"
_OUTPUT = "--output-dir=${outputDir:=}"


def catalogue(installation: Installation) -> tuple[Obj, ...]:
    """Return the Functions and Tasks, in the order in which they are to be applied."""
    backup_mount = {
        "name": "${targetVolume}",
        "mountPath": "${TARGET_MOUNT_PATH}",
        "readOnly": True,
    }
    restore_mount = {
        "name": "${targetVolume}",
        "mountPath": f"{RESTORE_ROOT}${{TARGET_MOUNT_PATH}}",
    }
    return (
        _function(PVC_BACKUP, installation, [BACKUP_VERB, _OUTPUT], [backup_mount]),
        _function(PVC_RESTORE, installation, [RESTORE_VERB, _OUTPUT], [restore_mount]),
        _function(UPDATE_STATUS, installation, [UPDATE_STATUS, _OUTPUT], []),
        _task(PVC_BACKUP),
        _task(PVC_RESTORE),
    )


def _function(
    name: str, installation: Installation, args: list[str], mounts: list[dict[str, Any]]
) -> Obj:
    spec: dict[str, Any] = {"image": installation.image, "args": args}
    if mounts:
        spec["volumeMounts"] = mounts
    return _object(FUNCTION.api_version, FUNCTION.kind, name, spec)


def _task(name: str) -> Obj:
    spec = {
        "steps": [{"name": name, "params": [{"name": "targetVolume", "value": _VOLUME}]}],
        "volumes": [
            {"name": _VOLUME, "persistentVolumeClaim": {"claimName": "${TARGET_NAME}"}},
        ],
    }
    return _object(TASK.api_version, TASK.kind, name, spec)


def _object(api_version: str, kind: str, name: str, spec: Obj) -> Obj:
    metadata = {"name": name, "labels": {CREATED_BY: CREATED_BY_VALUE}}
    return with_hash({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec})
