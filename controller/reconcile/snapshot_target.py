"""Conditions about what VolumeSnapshots are taken of, and whether the cluster has such a thing."""

from collections.abc import Iterable, Iterator, Mapping

from controller.api.backup import BackupTarget
from controller.api.conditions import Condition, Type, target_found
from controller.api.objects import Key, Obj, spec
from controller.api.resources import STATEFUL_SET
from controller.api.workload import MAX_CLAIMS, Volumes, volumes_of
from controller.reconcile.references import target_text, unbound_problem

INSTALL_SNAPSHOTS = (
    'kubectl apply -k "https://github.com/kubernetes-csi/external-snapshotter/client/config/crd"'
)


def served_condition(*, served: bool) -> Condition:
    """Return VolumeSnapshotsServed."""
    if served:
        text = "The cluster serves VolumeSnapshots of snapshot.storage.k8s.io/v1."
        return Condition(Type.SNAPSHOTS_SERVED, True, "VolumeSnapshotsServed", text)
    return Condition(
        Type.SNAPSHOTS_SERVED,
        False,
        "VolumeSnapshotsNotServed",
        "The cluster does not serve VolumeSnapshots of snapshot.storage.k8s.io/v1. "
        f"Install their definitions with {INSTALL_SNAPSHOTS}, and the snapshot-controller of the "
        "same project.",
    )


def snapshot_target_conditions(
    wanted: BackupTarget, namespace: str, target: Obj | None, claims: Mapping[str, Obj]
) -> list[Condition]:
    """Return BackupTargetFound and, when there are such volumes, VolumesLeftOut.

    `claims` are those of the target that exist. As long as one of them can be snapshotted the
    target is usable: the others fail by themselves, and each in every session.
    """
    kind, text = Type.BACKUP_TARGET_FOUND, target_text(wanted.ref, namespace)
    if target is None:
        return [target_found(kind, text, found=False, problem=None)]
    volumes = volumes_of(wanted.ref.kind, target, wanted.replicas)
    left_out = left_out_condition(volumes.left_out)
    problem = volumes_problem(wanted, text, target, volumes)
    problems = tuple(claim_problems(namespace, volumes.claims, claims))
    if problem is None and len(problems) == len(volumes.claims):
        problem = "; ".join(problems)
    found = target_found(kind, text, found=True, problem=problem)
    if problem is None and problems:
        message = f"{found.message} Not all of its volumes are usable: {'; '.join(problems)}"
        found = Condition(kind, True, found.reason, message)
    return [found, *left_out]


def volumes_problem(wanted: BackupTarget, text: str, target: Obj, volumes: Volumes) -> str | None:
    """Say why the volumes of a target, which `text` names, are no source as a whole."""
    if len(volumes.claims) > MAX_CLAIMS:
        return f"{text} has more than {MAX_CLAIMS} volumes: lower spec.target.replicas"
    if volumes.claims:
        return None
    if wanted.ref.kind == STATEFUL_SET.kind and spec(target).get("volumeClaimTemplates"):
        return f"{text} has 0 replicas: say in spec.target.replicas of how many to take snapshots"
    others = f", only {', '.join(volumes.left_out)}" if volumes.left_out else ""
    return (
        f"{text} has no PersistentVolumeClaim{others}: "
        "VolumeSnapshots can be taken of claims alone. Name another target."
    )


def claim_problems(
    namespace: str, names: Iterable[str], claims: Mapping[str, Obj]
) -> Iterator[str]:
    """Yield why no VolumeSnapshot can be taken of a claim, for each one of which that is so."""
    for name in names:
        claim = claims.get(name)
        if claim is None:
            yield f"PersistentVolumeClaim {Key(namespace, name)} does not exist"
        elif problem := unbound_problem(claim):
            yield problem


def left_out_condition(left_out: tuple[str, ...]) -> tuple[Condition, ...]:
    """Return VolumesLeftOut when there are volumes that are no claims: True is no fault."""
    if not left_out:
        return ()
    message = f"Not backed up, for they are no PersistentVolumeClaims: {', '.join(left_out)}."
    return (Condition(Type.VOLUMES_LEFT_OUT, True, "NoPersistentVolumeClaim", message),)
