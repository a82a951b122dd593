"""What of a session's target can be snapshotted, as the target is when the session starts."""

from dataclasses import dataclass
from typing import Any

from controller.api.backup import BackupConfigurationSpec
from controller.api.conditions import Condition, Type, target_found
from controller.api.objects import Obj, is_deleting
from controller.api.report import Reason
from controller.api.workload import volumes_of
from controller.reconcile.references import target_text, unbound_problem
from controller.reconcile.snapshot_observed import Reading
from controller.reconcile.snapshot_status import entry_of
from controller.reconcile.snapshot_target import left_out_condition, volumes_problem
from controller.reconcile.snapshot_wait import Host


@dataclass(frozen=True, slots=True)
class Sources:
    """The claims of a target: those that can be snapshotted, and the others with the reason.

    `left_out` are the volumes that are no claims.
    """

    claims: tuple[str, ...]
    failed: tuple[Host, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def entries(self) -> list[dict[str, Any]]:
        """Return the first `stats`: a host without a phase is one that is waited for."""
        return [*({"hostname": claim} for claim in self.claims), *map(entry_of, self.failed)]

    @property
    def conditions(self) -> list[Condition]:
        """Return what the session says of volumes that are no claims."""
        return list(left_out_condition(self.left_out))

    def as_told(self, told: tuple[str, ...]) -> "Sources":
        """Return these claims as a Job has them that was created before they were read.

        What came too late for it, or became usable too late, is no success of this session.
        """
        late = "the session's Job had been created before it could be snapshotted"
        others = (
            *(host for host in self.failed if host.name not in told),
            *(
                Host(claim).failed(Reason.NOT_CREATED.value, f"{late}: the next session does so")
                for claim in self.claims
                if claim not in told
            ),
        )
        return Sources(told, others, self.left_out)


def sources_of(spec: BackupConfigurationSpec, reading: Reading, namespace: str) -> Sources | str:
    """Return the claims of the target as it is now, or why there is nothing to snapshot."""
    if spec.target is None:
        return "its BackupConfiguration names no target"
    ref = spec.target.ref
    where = target_text(ref, namespace)
    if reading.target is None:
        return target_found(Type.BACKUP_TARGET_FOUND, where, found=False, problem=None).message
    volumes = volumes_of(ref.kind, reading.target, spec.target.replicas)
    if problem := volumes_problem(spec.target, where, reading.target, volumes):
        return problem
    good: list[str] = []
    failed: list[Host] = []
    for claim in volumes.claims:
        unfit = _problem(f"{namespace}/{claim}", reading.claims.get(claim))
        if unfit is None:
            good.append(claim)
        else:
            failed.append(Host(claim).failed(*unfit))
    return Sources(tuple(good), tuple(failed), volumes.left_out)


def unreadable_text(spec: BackupConfigurationSpec, reading: Reading, namespace: str) -> str:
    """Return that the target, or a claim of it, cannot be read: no word on whether it exists."""
    where = target_text(spec.target.ref, namespace) if spec.target else "its target"
    return f"{where}, or a claim of it, cannot be read: {reading.unreadable}"


def _problem(key: str, claim: Obj | None) -> tuple[str, str] | None:
    name = f"PersistentVolumeClaim {key}"
    if claim is None:
        return Reason.CLAIM_MISSING.value, f"{name} does not exist"
    if is_deleting(claim):
        return Reason.CLAIM_MISSING.value, f"{name} is being deleted"
    problem = unbound_problem(claim)
    return (Reason.CLAIM_NOT_BOUND.value, problem) if problem else None
