"""Folds what became of a session's claims into its status, in Stash's shapes (stash.md 1.4)."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from controller.api.conditions import (
    MAX_MESSAGE,
    Condition,
    Phase,
    Type,
    deadline_exceeded,
    merged,
    outcome,
    without,
)
from controller.api.objects import Obj, dig, meta, namespace_of, status
from controller.api.report import Reason
from controller.api.text import format_duration, format_seconds, format_time, parse_time
from controller.reconcile.session_status import Outcome, deadline_of
from controller.reconcile.snapshot_observed import SnapshotSessionObserved
from controller.reconcile.snapshot_wait import Host, with_fix

SHOWN = 3
"""How many errors, or names, one sentence has."""


def entry_of(host: Host) -> dict[str, Any]:
    """Return one entry of `status.targets[].stats`."""
    if not host.is_decided:
        return {"hostname": host.name}
    entry = {"hostname": host.name, "phase": host.phase.value}
    if host.phase is Phase.SUCCEEDED:
        return {**entry, "duration": format_duration(host.duration_s)}
    return {**entry, "error": host.error}


def target_ref(seen: SnapshotSessionObserved) -> dict[str, str]:
    """Return `status.targets[].ref`."""
    if seen.spec is None or seen.spec.target is None:
        return {}
    ref = seen.spec.target.ref
    return {
        "apiVersion": ref.api_version or "v1",
        "kind": ref.kind,
        "namespace": ref.namespace or namespace_of(seen.session),
        "name": ref.name,
    }


def running_status(seen: SnapshotSessionObserved) -> dict[str, Any]:
    """Return the parts of the status of a session that runs which do not change."""
    new: dict[str, Any] = {**status(seen.session), "phase": Phase.RUNNING.value}
    if "conditions" in new:
        new["conditions"] = without(new["conditions"] or (), Type.BACKUP_WAITING)
    if deadline := deadline_of(seen.session, seen.spec.time_out if seen.spec else ""):
        new["sessionDeadline"] = format_time(deadline)
    return new


def waiting_condition(hosts: Sequence[Host], old: Iterable[Obj]) -> list[Condition]:
    """Return the driver's own words about what is not ready; as long as there were any.

    With what to do about the first one: mostly all have the same cause.
    """
    told = [host for host in hosts if not host.is_decided and host.words]
    if told:
        words = "; ".join(f"{host.name}: {host.words}" for host in told)
        text = with_fix(words, told[0].fix, MAX_MESSAGE)
        return [Condition(Type.SNAPSHOTS_WAITING, True, "DriverReportsErrors", text)]
    if any(entry.get("type") == Type.SNAPSHOTS_WAITING.value for entry in old):
        text = "The driver reports no error any more."
        return [Condition(Type.SNAPSHOTS_WAITING, False, "NoErrors", text)]
    return []


def deadline_condition(session: Obj) -> Condition:
    """Return DeadlineExceeded of a session whose `sessionDeadline` has passed."""
    end = status(session).get("sessionDeadline")
    created = parse_time(meta(session)["creationTimestamp"])
    seconds = (parse_time(end) - created).total_seconds() if end else 0.0
    found = deadline_exceeded(format_seconds(seconds), restore=False)
    invoker = dig(session, "spec", "invoker") or {}
    fix = (
        f"That is spec.timeOut of {invoker.get('kind')} {namespace_of(session)}/"
        f"{invoker.get('name')}: raise it, or mend what each host of status.targets[0].stats says."
    )
    return replace(found, message=f"{found.message} {fix}")


def incomplete_condition(hosts: Sequence[Host]) -> list[Condition]:
    """Return, of a session in which not every claim has its VolumeSnapshot, which ones exist."""
    ready = [host.snapshot for host in hosts if host.phase is Phase.SUCCEEDED]
    others = [host.snapshot for host in hosts if host.phase is Phase.FAILED and host.snapshot]
    if not (ready or others) or len(ready) == len(hosts):
        return []
    text = f"{len(ready)} of {len(hosts)} claims have a VolumeSnapshot that is ready"
    text += f": {', '.join(ready)}." if ready else "."
    if others:
        text += f" Created and not ready: {', '.join(others)}."
    reason = Reason.BACKUP_INCOMPLETE.value
    return [Condition(Type.BACKUP_INCOMPLETE, True, reason, f"{text} None was deleted.")]


def outcome_of(
    hosts: Sequence[Host], *, earlier: str = "", after: str = "", unknown: bool = False
) -> Outcome:
    """Return what a session ends with.

    `earlier` is why nothing was snapshotted at all, `after` the failure of the postBackup hook;
    `unknown` says that nobody knows which claims there were.
    """
    failed = [host for host in hosts if host.phase is not Phase.SUCCEEDED]
    if earlier:
        return Outcome(Phase.FAILED, earlier)
    if failed:
        errors = "; ".join(f"{host.name}: {host.error}" for host in failed[:SHOWN])
        more = f"; and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
        return Outcome(Phase.FAILED, errors + more)
    if unknown or not hosts:
        return Outcome(Phase.FAILED, "which claims its target had is not known any more")
    if after:
        return Outcome(Phase.FAILED, f"postBackup hook: {after}. All VolumeSnapshots are ready")
    return Outcome(Phase.SUCCEEDED)


def hosts_text(hosts: Sequence[Host]) -> str:
    """Return `2 of 3 hosts` for an Event."""
    good = sum(host.phase is Phase.SUCCEEDED for host in hosts)
    return f"{good} of {len(hosts)} hosts"


def executor_ensured(failure: str | None) -> Condition:
    """Return BackupExecutorEnsured."""
    return outcome(Type.BACKUP_EXECUTOR_ENSURED, failure=failure)


def recorded_failure(session: Obj, kind: Type) -> str:
    """Return the message of a condition of the target that is False, empty when it is not."""
    for entry in dig(session, "status", "targets", 0, "conditions") or ():
        if entry.get("type") == kind.value and entry.get("status") == "False":
            return str(entry.get("message") or entry.get("reason") or kind.value)
    return ""


def target_conditions(session: Obj) -> list[Obj]:
    """Return `status.targets[0].conditions`."""
    return list(dig(session, "status", "targets", 0, "conditions") or ())


def changed_status(
    session: Obj,
    now: datetime,
    *,
    target: Sequence[Condition] = (),
    hosts: Iterable[Host] = (),
    conditions: Iterable[Condition] = (),
) -> dict[str, Any]:
    """Return the status with new conditions and failures; a success is written at the end.

    What is Unknown for another reason than before is so from now on: hooks are timed by that.
    """
    old = status(session)
    old_target = dig(old, "targets", 0) or {}
    fresh = {condition.type.value: condition.reason for condition in target}
    kept = [
        entry
        for entry in target_conditions(session)
        if entry.get("status") != "Unknown"
        or fresh.get(str(entry.get("type")), entry.get("reason")) == entry.get("reason")
    ]
    new_target = {**old_target, "conditions": merged(kept, target, now)}
    failed = {host.name: host for host in hosts if host.phase is Phase.FAILED}
    if failed:
        entries = old_target.get("stats") or [{"hostname": name} for name in failed]
        new_target["stats"] = [
            entry_of(failed[name])
            if (name := str(entry.get("hostname"))) in failed and not entry.get("phase")
            else entry
            for entry in entries
        ]
    new = {**old, "targets": [new_target]}
    merged_conditions = merged(old.get("conditions") or (), conditions, now)
    return {**new, "conditions": merged_conditions} if merged_conditions else new
