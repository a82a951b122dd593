"""What became of each claim of a restore: computed from the claims, not from what was reported.

A claim that exists says itself how it is; the report only says why another does not exist (D11).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from controller.api.conditions import Phase
from controller.api.objects import Obj, annotations_of, dig, is_deleting, meta, namespace_of, status
from controller.api.report import HostReport, Reason, RunReport
from controller.api.report_encoding import REPORT_CUT
from controller.api.text import format_duration, parse_time
from controller.build.claims import Claim
from controller.reconcile.claim_checks import is_own, snapshot_gone, waits_for_consumer
from controller.reconcile.claim_observed import ClaimRestoreObserved
from controller.reconcile.execution import Died
from controller.reconcile.session_status import error_text

PROVISIONERS = (
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
)
"""Annotations of a claim for which a provisioner was asked to make a volume."""


@dataclass(frozen=True, slots=True)
class Host:
    """One claim: Running while it is waited for, then Succeeded, Failed or Unknown.

    `said` is what is known of why it is not bound, `certain` that it never will be.
    """

    name: str
    phase: Phase
    reason: str = ""
    error: str = ""
    duration_s: float = 0.0
    said: str = ""
    certain: bool = False

    @property
    def text(self) -> str:
        """Return `Reason: text` of what is wrong, empty when nothing is."""
        return f"{self.reason}: {self.error}" if self.reason else self.error


@dataclass(frozen=True, slots=True)
class Told:
    """What is known about claims that do not exist: by name, and what is true of any other.

    `settled` are the claims that a status has called Unknown already.
    """

    failures: Mapping[str, str] = field(default_factory=dict)
    missing: str = ""
    settled: frozenset[str] = frozenset()


def told_by(said: RunReport | Died) -> Told:
    """Return what the Job that has just ended says, or how it died."""
    if isinstance(said, Died):
        return Told(missing=f"{Reason.NOT_CREATED}: {said.reason}: {said.message}")
    cut = any(condition.type == REPORT_CUT for condition in said.conditions)
    return Told(
        failures={host.hostname: error_text(host) for host in said.hosts if not host.succeeded},
        missing=f"{Reason.NOT_CREATED}: the report had no room to say why" if cut else "",
    )


def told_before(stats: Iterable[Obj]) -> Told:
    """Return what the status says since the Job ended: nobody looks at that any more."""
    entries = tuple(stats)
    return Told(
        failures={
            str(entry.get("hostname")): str(entry.get("error") or "")
            for entry in entries
            if entry.get("phase") == Phase.FAILED
        },
        settled=frozenset(
            str(entry.get("hostname")) for entry in entries if entry.get("phase") == Phase.UNKNOWN
        ),
    )


def hosts_of(
    claims: Iterable[Claim], seen: ClaimRestoreObserved, told: Told, now: datetime
) -> tuple[Host, ...]:
    """Return how each claim is, in their order."""
    return tuple(_host(claim, seen, told, now) for claim in claims)


def _host(claim: Claim, seen: ClaimRestoreObserved, told: Told, now: datetime) -> Host:
    found = seen.storage.claims.get(claim.name)
    name = f"PersistentVolumeClaim {namespace_of(seen.session)}/{claim.name}"

    def failed(reason: Reason, text: str) -> Host:
        return Host(claim.name, Phase.FAILED, reason.value, text)

    if found is None or not is_own(found, seen.session):
        if said := told.failures.get(claim.name, told.missing):
            return Host(claim.name, Phase.FAILED, error=said)
        text = f"{name} was deleted before the restore ended"
        return failed(
            Reason.CLAIM_MISSING, text if found is None else f"{text}, and another has its name"
        )
    if is_deleting(found):
        return failed(Reason.CLAIM_MISSING, f"{name} is being deleted")
    match status(found).get("phase"):
        case "Bound":
            return _bound(claim, found, name, now)
        case "Lost":
            text = f"{name} is Lost: its PersistentVolume does not exist any more"
            return failed(Reason.CLAIM_NOT_BOUND, text)
        case _:
            return _unbound(claim, found, name, seen, told)


def _bound(claim: Claim, found: Obj, name: str, now: datetime) -> Host:
    """Return a success, if a volume was made for the claim.

    Kubernetes may bind it to a volume that was there before, whatever its dataSource says
    (kubernetes/kubernetes#101878): what is in that one did not come from the snapshot.
    """
    if not any(annotations_of(found).get(key) for key in PROVISIONERS):
        text = (
            f"{name} was bound to PersistentVolume {dig(found, 'spec', 'volumeName')}, which was "
            "there before: it does not hold what is in the snapshot. Delete that volume, or name "
            "a StorageClass of its own"
        )
        return Host(claim.name, Phase.FAILED, Reason.CLAIM_NOT_BOUND.value, text)
    changed = found.get("changedAt")
    ended = parse_time(str(changed)) if changed else now
    seconds = (ended - parse_time(meta(found)["creationTimestamp"])).total_seconds()
    return Host(claim.name, Phase.SUCCEEDED, duration_s=max(0.0, seconds))


def _unbound(claim: Claim, found: Obj, name: str, seen: ClaimRestoreObserved, told: Told) -> Host:
    storage = seen.storage
    words = "; ".join(storage.words.get(claim.name, ()))
    gone = (
        snapshot_gone(claim, storage, namespace_of(seen.session))
        if claim.snapshot in storage.snapshots
        else None
    )
    class_name = str(dig(found, "spec", "storageClassName") or "")
    waits = claim.name in told.settled or waits_for_consumer(storage.classes.get(class_name))
    said = f"{gone} ({words})" if gone and words else gone or words
    if waits and not gone:
        text = (
            f"{name} is not bound: StorageClass {class_name} waits for a pod that uses it "
            "(WaitForFirstConsumer), so that nothing proves yet that it can be restored"
        )
        return Host(claim.name, Phase.UNKNOWN, error=text)
    return Host(
        claim.name,
        Phase.FAILED if waits else Phase.RUNNING,
        Reason.CLAIM_NOT_BOUND.value,
        f"{name} is not bound: {said}" if said else f"{name} is not bound",
        said=said,
        certain=gone is not None,
    )


def stats_of(hosts: Iterable[Host]) -> list[dict[str, str]]:
    """Return `status.stats` in Stash's shape."""
    return [
        {
            "hostname": host.name,
            "phase": host.phase.value,
            **(
                {"duration": format_duration(host.duration_s)}
                if host.phase is Phase.SUCCEEDED
                else {}
            ),
            **({"error": host.text} if host.phase in (Phase.FAILED, Phase.UNKNOWN) else {}),
        }
        for host in hosts
    ]


def reports_of(hosts: Sequence[Host]) -> tuple[HostReport, ...]:
    """Return the hosts as metrics take them: what is not proven is no success."""
    return tuple(
        HostReport(
            host.name,
            succeeded=host.phase is Phase.SUCCEEDED,
            reason=host.reason,
            error=host.error,
            duration_s=host.duration_s,
        )
        for host in hosts
    )
