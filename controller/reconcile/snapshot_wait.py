"""What became of each claim of a session: from its VolumeSnapshot, the Job and the clock.

Pure. The Job only creates: it is asked about claims alone that have no VolumeSnapshot.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controller.api.conditions import Phase, Type, status_of
from controller.api.objects import Obj, dig, is_deleting, meta, name_of, namespace_of, status
from controller.api.proof import error_text
from controller.api.report import MAX_TEXT, HostReport, Reason
from controller.api.text import format_seconds, parse_go_duration_s, parse_time
from controller.reconcile.execution import verdict
from controller.reconcile.interruption import awaited_since
from controller.reconcile.pod_end import containers
from controller.reconcile.snapshot_observed import SnapshotSessionObserved
from controller.reconcile.verdicts import Died, Ended, Running, Verdict, Waiting

LOOK_S = 2.0
"""How long after its Job's end a VolumeSnapshot may take to reach the cache. Then the API server is
asked (D10)."""


LOOK_AGAIN_S = 15.0
"""How soon an API server that could not say is asked again."""


@dataclass(frozen=True, slots=True)
class Host:
    """One claim. `phase` is Running while it is not decided.

    `snapshot` is the name of its VolumeSnapshot, empty while there is none. `is_cut` says that the
    application may go on. `words` are the driver's about one that is not ready, `fix` says what to
    do about it. `is_missed` says that there should be a VolumeSnapshot and the cache has none.
    """

    name: str
    phase: Phase = Phase.RUNNING
    error: str = ""
    duration_s: float = 0.0
    snapshot: str = ""
    is_cut: bool = False
    words: str = ""
    fix: str = ""
    is_missed: bool = False

    @property
    def is_decided(self) -> bool:
        """Tell whether it has ended."""
        return self.phase is not Phase.RUNNING

    def failed(self, reason: str, error: str) -> "Host":
        """Return it as Failed."""
        text = f"{reason}: {error}"[:MAX_TEXT]
        return replace(self, phase=Phase.FAILED, error=text, is_missed=False)

    def report(self) -> HostReport:
        """Return it as metrics have it."""
        good = self.phase is Phase.SUCCEEDED
        return HostReport(self.name, succeeded=good, error=self.error, duration_s=self.duration_s)


@dataclass(frozen=True, slots=True)
class Hosts:
    """All claims of a session; `is_known` says that they are indeed all.

    `creation` is the verdict on the Job, None where it is not needed. `is_late` says that the wait
    ends for want of progress, `is_overdue` that it does so for `timeOut`. `requeue_after_s` is when
    something is due that no watch tells.
    """

    hosts: tuple[Host, ...]
    creation: Verdict | None = None
    is_known: bool = True
    is_late: bool = False
    is_overdue: bool = False
    requeue_after_s: float | None = None

    @property
    def are_decided(self) -> bool:
        """Tell whether nothing is waited for; of a Job with unknown claims its end is."""
        if not self.is_known and isinstance(self.creation, Waiting | Running):
            return False
        return all(host.is_decided for host in self.hosts)

    @property
    def are_cut(self) -> bool:
        """Tell whether no VolumeSnapshot is to be cut any more."""
        if not self.is_known and isinstance(self.creation, Waiting | Running):
            return False
        return all(host.is_decided or host.is_cut for host in self.hosts)


def hosts_of(seen: SnapshotSessionObserved, now: datetime) -> Hosts:
    """Return what became of each claim that the session is to snapshot."""
    found = _by_claim(seen.snapshots)
    recorded = dig(seen.session, "status", "targets", 0, "stats") or ()
    # Of a session whose configuration went before its claims were recorded there is only this.
    entries = recorded or [{"hostname": claim} for claim in sorted(found)]
    hosts = [_known(entry, found.get(str(entry.get("hostname")))) for entry in entries]
    creation = None
    conditions = dig(seen.session, "status", "targets", 0, "conditions") or ()
    is_created = status_of(conditions, Type.BACKUP_EXECUTOR_ENSURED) == "True"
    is_asked = not recorded or any(not host.is_decided and not host.snapshot for host in hosts)
    if is_created and is_asked:
        creation = _creation(seen, now)
        hosts = [_created(host, creation, looked=seen.looked) for host in hosts]
    due, is_overdue = _due(seen)
    is_open = not all(host.is_decided for host in hosts)
    if is_late := is_open and now >= due:
        limit = _limit(seen, is_overdue=is_overdue)
        hosts = [_late(host, limit, seen) for host in hosts]
    waits = [] if is_late or not is_open else [(due - now).total_seconds()]
    if any(host.is_missed for host in hosts):
        waits.append(LOOK_AGAIN_S if seen.unlistable else LOOK_S)
    if isinstance(creation, Waiting | Running) and creation.requeue_after_s is not None:
        waits.append(creation.requeue_after_s)
    return Hosts(
        tuple(hosts),
        creation,
        is_known=bool(recorded),
        is_late=is_late,
        is_overdue=is_late and is_overdue,
        requeue_after_s=min(waits, default=None),
    )


def is_look_due(seen: SnapshotSessionObserved, now: datetime) -> bool:
    """Tell whether the VolumeSnapshots have to be read live: some may be missing (D10)."""
    if not any(host.is_missed for host in hosts_of(seen, now).hosts):
        return False
    ends = [
        parse_time(end)
        for container in containers(seen.executor.pod or {})
        if (end := dig(container, "state", "terminated", "finishedAt"))
    ]
    return all((now - end).total_seconds() >= LOOK_S for end in ends)


def progress_of(snapshot: Obj) -> Iterator[datetime]:
    """Yield when a VolumeSnapshot went on. An error that is said again is no progress."""
    yield parse_time(meta(snapshot)["creationTimestamp"])
    if changed := snapshot.get("changedAt"):
        if cut := status(snapshot).get("creationTime"):
            yield min(parse_time(cut), parse_time(str(changed)))  # the driver's clock
        if is_ready(snapshot):
            yield parse_time(str(changed))


def is_ready(snapshot: Obj) -> bool:
    """Tell whether a VolumeSnapshot can be restored from, and will stay."""
    return status(snapshot).get("readyToUse") is True and not is_deleting(snapshot)


def claim_of(snapshot: Obj) -> str:
    """Return the claim that a VolumeSnapshot is of."""
    return str(dig(snapshot, "spec", "source", "persistentVolumeClaimName") or "")


def _by_claim(snapshots: Iterable[Obj]) -> dict[str, Obj]:
    """Return one VolumeSnapshot of each claim; of two, which no Job makes, the usable one."""
    ordered = sorted(snapshots, key=lambda s: (is_ready(s), not is_deleting(s), name_of(s)))
    return {claim: snapshot for snapshot in ordered if (claim := claim_of(snapshot))}


def _known(entry: Obj, snapshot: Obj | None) -> Host:
    """Return what the status and the VolumeSnapshot say: a failure stays one."""
    name = name_of(snapshot) if snapshot is not None else ""
    host = Host(str(entry.get("hostname") or ""), snapshot=name)
    if entry.get("phase") == Phase.FAILED:
        return replace(host, phase=Phase.FAILED, error=str(entry.get("error") or ""))
    if snapshot is None:
        return host
    said = status(snapshot)
    if is_deleting(snapshot):
        text = f"VolumeSnapshot {name} is being deleted"
        return host.failed(Reason.SNAPSHOT_DELETED.value, text)
    if is_ready(snapshot):
        return replace(host, phase=Phase.SUCCEEDED, is_cut=True, duration_s=_duration_s(snapshot))
    words = str(dig(said, "error", "message") or "")
    return replace(
        host, is_cut=bool(said.get("creationTime")), words=words, fix=_fix(snapshot, words)
    )


def _fix(snapshot: Obj, words: str) -> str:
    """Return what to do about a VolumeSnapshot that is not ready: by how far it came."""
    said = status(snapshot)
    used = dig(snapshot, "spec", "volumeSnapshotClassName")
    is_taken = bool(said.get("boundVolumeSnapshotContentName"))
    if said.get("creationTime"):
        fix = "it was cut: if its driver only needs longer, raise spec.timeOut"
    elif is_taken and words:
        fix = "mend what its driver reports"
    elif not (is_taken or words):
        fix = "check that the snapshot-controller runs"
    elif used:
        fix = (
            f"check spec.target.snapshotClassName: VolumeSnapshotClass {used} must exist and be "
            "of the claim's driver"
        )
    else:
        fix = (
            "name a VolumeSnapshotClass in spec.target.snapshotClassName, or see to it that "
            "exactly one of the claim's driver is the default"
        )
    where = f"kubectl describe volumesnapshot -n {namespace_of(snapshot)} {name_of(snapshot)}"
    return f"{fix}; see {where}"


def with_fix(said: str, fix: str, limit: int) -> str:
    """Return a text and its fix: what is too long is cut before the fix (D32)."""
    return f"{said[: limit - len(fix) - 2]}. {fix}"


def _duration_s(snapshot: Obj) -> float:
    """Return the time from its creation to the last change of its status."""
    if not (changed := snapshot.get("changedAt")):
        return 0.0
    created = parse_time(meta(snapshot)["creationTimestamp"])
    return max(0.0, (parse_time(str(changed)) - created).total_seconds())


def _creation(seen: SnapshotSessionObserved, now: datetime) -> Verdict:
    conditions = status(seen.session).get("conditions") or ()
    return verdict(
        seen.executor,
        now=now,
        limits=seen.limits,
        awaited_since=awaited_since(conditions, Type.BACKUP_WAITING),
        time_out_s=parse_go_duration_s(seen.spec.time_out) if seen.spec else None,
        replaces=True,
    )


def _created(host: Host, creation: Verdict, *, looked: bool) -> Host:
    """Return a claim without VolumeSnapshot as the Job has it."""
    if host.is_decided or host.snapshot:
        return host
    if isinstance(creation, Waiting | Running):
        return host
    if isinstance(creation, Ended):
        said = next((h for h in creation.report.hosts if h.hostname == host.name), None)
        if said is not None and not said.succeeded:
            return replace(host, phase=Phase.FAILED, error=error_text(said))
    return _missing(host, creation) if looked else replace(host, is_missed=True)


def _missing(host: Host, creation: Ended | Died) -> Host:
    """Return a claim whose VolumeSnapshot does not exist although the Job has ended."""
    if isinstance(creation, Died):
        text = f"no VolumeSnapshot of it was created. {creation.reason}: {creation.message}"
        return host.failed(Reason.NOT_CREATED.value, text)
    bad = next((h for h in creation.report.hosts if not h.succeeded), None)
    if bad is not None:  # a report that would be too long names some only
        text = f"no VolumeSnapshot of it exists; of {bad.hostname} {error_text(bad)}"
        return host.failed(Reason.NOT_CREATED.value, text)
    text = "its VolumeSnapshot was created and does not exist any more"
    return host.failed(Reason.SNAPSHOT_DELETED.value, text)


def _due(seen: SnapshotSessionObserved) -> tuple[datetime, bool]:
    """Return until when is waited, and whether that is for `timeOut`."""
    stalled = max(_progress(seen)) + timedelta(seconds=seen.limits.snapshot_s)
    if deadline := status(seen.session).get("sessionDeadline"):
        return min((parse_time(deadline), True), (stalled, False))
    return stalled, False


def _progress(seen: SnapshotSessionObserved) -> Iterator[datetime]:
    """Yield when something went on."""
    yield parse_time(meta(seen.session)["creationTimestamp"])
    conditions = dig(seen.session, "status", "targets", 0, "conditions") or ()
    for entry in conditions:
        if entry.get("type") == Type.BACKUP_EXECUTOR_ENSURED.value:
            yield parse_time(entry["lastTransitionTime"])
    for snapshot in seen.snapshots:
        yield from progress_of(snapshot)


def _limit(seen: SnapshotSessionObserved, *, is_overdue: bool) -> str:
    if not is_overdue:
        return f"there was no progress for {format_seconds(seen.limits.snapshot_s)}"
    time_out_s = parse_go_duration_s(seen.spec.time_out) if seen.spec else None
    return f"timeOut ({format_seconds(time_out_s)}) has passed" if time_out_s else "timeOut passed"


def _late(host: Host, limit: str, seen: SnapshotSessionObserved) -> Host:
    """Return a claim at the end of the wait, with the driver's own message."""
    if host.is_decided:
        return host
    if not host.snapshot:
        if seen.unlistable:
            text = f"{limit}, and whether it has a VolumeSnapshot cannot be read: {seen.unlistable}"
            return host.failed(Reason.SNAPSHOT_NOT_READY.value, text)
        if not seen.looked:
            return replace(host, is_missed=True)
        text = f"{limit}, and no VolumeSnapshot of it was created"
        return host.failed(Reason.NOT_CREATED.value, text)
    said = f": {host.words}" if host.words else "; its driver says nothing"
    text = f"{limit}, and VolumeSnapshot {host.snapshot}, which stays, is not ready{said}"
    reason = Reason.SNAPSHOT_NOT_READY.value
    return host.failed(reason, with_fix(text, host.fix, MAX_TEXT - len(f"{reason}: ")))
