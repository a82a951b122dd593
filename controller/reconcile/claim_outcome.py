"""What became of each claim of a restore: computed from the claims, not from what was reported.

A claim that exists says itself how it is; the report only says why another does not exist (D11).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from controller.api.claim_templates import source_of
from controller.api.conditions import Phase
from controller.api.objects import (
    Obj,
    annotations_of,
    dig,
    is_deleting,
    meta,
    namespace_of,
    status,
    uid_of,
)
from controller.api.proof import error_text
from controller.api.report import MAX_TEXT, HostReport, Reason, RunReport
from controller.api.report_encoding import REPORT_CUT
from controller.api.text import format_duration, parse_time
from controller.build.claims import Claim
from controller.reconcile.claim_checks import WORDS, is_own, snapshot_gone, waits_for_consumer
from controller.reconcile.claim_observed import ClaimRestoreObserved
from controller.reconcile.verdicts import Died

PROVISIONERS = (
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
)
"""Annotations of a claim for which a provisioner was asked to make a volume."""
_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
_STATS_BYTES = 512 * 1024
"""So much of a status its errors may take together: etcd takes 1.5 MiB, and no more ever."""
_SHORTEST_END = 4
"""An end of a volume's name that is shorter may be like the start of a uid by chance."""


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
        """Return `Reason: text` of what is wrong, empty when nothing is (D32)."""
        return (f"{self.reason}: {self.error}" if self.reason else self.error)[:MAX_TEXT]


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
    failures = {host.hostname: error_text(host) for host in said.hosts if not host.succeeded}
    if all(condition.type != REPORT_CUT for condition in said.conditions):
        return Told(failures)
    # What refused one object of many mostly refused the others too.
    known = next((f"; of {name}: {text}" for name, text in failures.items()), "")
    return Told(failures, f"{Reason.NOT_CREATED}: the report had no room to say why{known}")


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
    return tuple(
        _unread_claim(claim, seen, told) or _host(claim, seen, told, now) for claim in claims
    )


def _unread_claim(claim: Claim, seen: ClaimRestoreObserved, told: Told) -> Host | None:
    """Return a claim that may exist and cannot be read; not one that the Job could not create."""
    if claim.name in told.failures or not _is_unread(claim.name, seen.storage.claims, seen):
        return None
    return _unread(claim, f"PersistentVolumeClaim {namespace_of(seen.session)}/{claim.name}", seen)


def _host(claim: Claim, seen: ClaimRestoreObserved, told: Told, now: datetime) -> Host:
    found = seen.storage.claims.get(claim.name)
    name = f"PersistentVolumeClaim {namespace_of(seen.session)}/{claim.name}"

    def failed(reason: Reason, text: str) -> Host:
        return Host(claim.name, Phase.FAILED, reason.value, text)

    if found is None or not is_own(found, seen.session):
        text = f"{name} was deleted before the restore ended"
        text = text if found is None else f"{text}, and another has its name"
        said = told.failures.get(claim.name, told.missing)
        return Host(claim.name, Phase.FAILED, error=said or f"{Reason.CLAIM_MISSING}: {text}")
    if is_deleting(found):
        return failed(Reason.CLAIM_MISSING, f"{name} is being deleted")
    source = source_of(found).get("name")
    if source != claim.snapshot:
        text = (
            f"{name} was made from VolumeSnapshot {source}, and {claim.path}.spec.dataSource names "
            f"{claim.snapshot} by now: spec was changed while the restore ran. The claim stays"
        )
        return failed(Reason.INPUT_INVALID, text)
    match status(found).get("phase"):
        case "Bound":
            return _bound(claim, found, name, seen, now)
        case "Lost":
            text = f"{name} is Lost: its PersistentVolume does not exist any more"
            return failed(Reason.CLAIM_NOT_BOUND, text)
        case _:
            return _unbound(claim, found, name, seen, told)


def unclear_volume(claim: Obj | None, session: Obj) -> str:
    """Return the volume that has to be looked at to know whether it was made for a claim."""
    if claim is None or not is_own(claim, session) or status(claim).get("phase") != "Bound":
        return ""
    if not _was_asked(claim) or _is_named_after(claim):
        return ""
    return str(dig(claim, "spec", "volumeName") or "")


def _was_asked(claim: Obj) -> bool:
    return any(annotations_of(claim).get(key) for key in PROVISIONERS)


def _is_named_after(claim: Obj) -> bool:
    """Tell whether the name of a claim's volume says for whom it was made.

    The external-provisioner ends it with the claim's uid, or with as much of the uid without its
    dashes as it is told to take.
    """
    uid, volume = str(uid_of(claim)), str(dig(claim, "spec", "volumeName") or "")
    end = volume.rpartition("-")[2]
    is_start = len(end) >= _SHORTEST_END and uid.replace("-", "").startswith(end)
    return bool(uid) and (volume.endswith(f"-{uid}") or is_start)


def _was_made_for(claim: Obj, volume: Obj | None) -> bool:
    """Tell whether a provisioner made a volume since there is the claim that it is bound to."""
    if volume is None or not annotations_of(volume).get(_PROVISIONED_BY):
        return False
    made, wanted = (parse_time(meta(obj)["creationTimestamp"]) for obj in (volume, claim))
    return made >= wanted


def _bound(claim: Claim, found: Obj, name: str, seen: ClaimRestoreObserved, now: datetime) -> Host:
    """Return a success, if a volume was made for the claim.

    Kubernetes may bind it to any other that fits, whatever its dataSource says
    (kubernetes/kubernetes#101878), also after a provisioner was asked and had not made one yet:
    what is in that one did not come from the snapshot.
    """
    volume = str(dig(found, "spec", "volumeName") or "")
    if unclear_volume(found, seen.session) and _is_unread(volume, seen.storage.volumes, seen):
        return _unread(claim, f"whether PersistentVolume {volume} was made for {name}", seen)
    is_new = _is_named_after(found) or _was_made_for(found, seen.storage.volumes.get(volume))
    if not (_was_asked(found) and is_new):
        text = (
            f"{name} was bound to PersistentVolume {volume}, which was not made for it: it does "
            "not hold what is in the snapshot. Delete that volume, or name a StorageClass of its "
            "own"
        )
        return Host(claim.name, Phase.FAILED, Reason.CLAIM_NOT_BOUND.value, text)
    changed = found.get("changedAt")
    ended = parse_time(str(changed)) if changed else now
    seconds = (ended - parse_time(meta(found)["creationTimestamp"])).total_seconds()
    return Host(claim.name, Phase.SUCCEEDED, duration_s=max(0.0, seconds))


def _is_unread(name: str, found: Mapping[str, Obj | None], seen: ClaimRestoreObserved) -> bool:
    """Tell whether something could not be read: nobody knows whether it exists."""
    return bool(seen.storage.unreadable) and name not in found


def _unread(claim: Claim, what: str, seen: ClaimRestoreObserved) -> Host:
    said = f"{what} cannot be read: {seen.storage.unreadable}"
    return Host(claim.name, Phase.RUNNING, Reason.CLAIM_NOT_BOUND.value, said, said=said)


def _unbound(claim: Claim, found: Obj, name: str, seen: ClaimRestoreObserved, told: Told) -> Host:
    storage = seen.storage
    words = "; ".join(storage.words.get(claim.name, ()))[:WORDS]
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
    """Return `status.stats` in Stash's shape. Of very many errors each has less room."""
    hosts = tuple(hosts)
    most = _STATS_BYTES // max(1, len(hosts))
    return [
        {
            "hostname": host.name,
            "phase": host.phase.value,
            **(
                {"duration": format_duration(host.duration_s)}
                if host.phase is Phase.SUCCEEDED
                else {}
            ),
            **(
                {"error": host.text.encode()[:most].decode(errors="ignore")}
                if host.phase in (Phase.FAILED, Phase.UNKNOWN)
                else {}
            ),
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
