"""VolumeSnapshots and claims of sessions, as the Jobs of flow B create them."""

from typing import Any

from controller.api.creation import SESSION_NAME, SESSION_UID
from controller.api.objects import Obj, dig, name_of, uid_of
from controller.api.resources import PVC, VOLUME_SNAPSHOT
from controller.build.labels import BACKUP, RESTORE, own_labels
from tests.support.builders import before, configuration, obj, restore, session


def snapshot(
    name: str,
    *,
    claim: str = "data",
    of: Obj | None = None,
    ready: bool = False,
    error: str = "",
    age_s: float = 60,
    changed_s: float = 30,
    **fields: Any,
) -> dict[str, Any]:
    """Return a VolumeSnapshot of a BackupSession, as the cache holds it.

    Its status was last changed `changed_s` ago.
    """
    of = of or session()
    status: dict[str, Any] = {}
    if ready:
        status = {"readyToUse": True, "creationTime": before(changed_s), "restoreSize": "1Gi"}
    if error:
        status |= {"readyToUse": False, "error": {"message": error}}
    invoker = configuration(str(dig(of, "spec", "invoker", "name")))
    return {
        **obj(
            "VolumeSnapshot",
            name,
            age_s=age_s,
            spec={"source": {"persistentVolumeClaimName": claim}},
            status=status,
            metadata=_metadata(BACKUP, invoker, of),
        ),
        "apiVersion": VOLUME_SNAPSHOT.api_version,
        "changedAt": before(changed_s) if status else "",
        **fields,
    }


def claim(
    name: str,
    *,
    of: Obj | None = None,
    phase: str = "Pending",
    spec: Obj | None = None,
    age_s: float = 60,
) -> dict[str, Any]:
    """Return a claim that a RestoreSession made."""
    of = of or restore()
    made = obj(
        PVC.kind,
        name,
        age_s=age_s,
        spec=dict(spec or {}),
        status={"phase": phase},
        metadata=_metadata(RESTORE, of, of),
    )
    return {**made, "apiVersion": PVC.api_version}


def _metadata(component: str, invoker: Obj, of: Obj) -> dict[str, Any]:
    labels = own_labels(component, str(invoker["kind"]), invoker)
    return {
        "labels": {**labels, SESSION_UID: uid_of(of)},
        "annotations": {SESSION_NAME: name_of(of)},
    }
