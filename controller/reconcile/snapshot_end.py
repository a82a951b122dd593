"""The last writes of a session with VolumeSnapshots: retention, history, then the status.

A crash between any two of them is harmless: the next turn finds the same and plans what is left.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from controller.api.conditions import FINAL_PHASES, Condition, Phase, Type, merged, outcome, without
from controller.api.job_input import Invoker, Target
from controller.api.metrics import SNAPSHOTTER, Subject, session_samples
from controller.api.objects import (
    Obj,
    annotations_of,
    dig,
    finalizers_of,
    is_deleting,
    labels_of,
    meta,
    name_of,
    namespace_of,
    status,
    uid_of,
)
from controller.api.resources import BACKUP_CONFIGURATION, BACKUP_SESSION, VOLUME_SNAPSHOT
from controller.api.text import parse_time
from controller.build.hook import HELD_BY_DELETION, POST_HOOK
from controller.build.input import metrics_group
from controller.plan import Delete, Finalizer, Note, Plan, Push, Ref, SetStatus, Write
from controller.reconcile.backup_end import UPDATER, history_writes
from controller.reconcile.closing import closing_writes
from controller.reconcile.owed_hook import release
from controller.reconcile.session_status import Outcome, session_duration
from controller.reconcile.snapshot_observed import SnapshotSessionObserved
from controller.reconcile.snapshot_retention import has_rule, removable
from controller.reconcile.snapshot_sets import is_good, spared
from controller.reconcile.snapshot_status import SHOWN, hosts_text
from controller.reconcile.snapshot_wait import Host, claim_of, is_ready


def end(
    seen: SnapshotSessionObserved,
    result: Outcome,
    now: datetime,
    *,
    target: Mapping[str, Any],
    hosts: Sequence[Host] = (),
    conditions: Iterable[Condition] = (),
    before: tuple[Write, ...] = (),
) -> Plan:
    """Return the plan that ends a session. `target` is what changes in `status.targets[0]`."""
    session = seen.session
    retained, removed = _retention(seen, hosts)
    cleaned, deletes = history_writes(seen, result.phase)
    pushes = _pushes(seen, result, hosts, now)
    pushed = [_handed_over()] if pushes else []
    old = status(session)
    new: dict[str, Any] = {
        **old,
        "phase": result.phase.value,
        "sessionDuration": session_duration(session, now),
        "conditions": merged(
            without(old.get("conditions") or (), *_PASSING),
            [*conditions, *retained, *cleaned, *pushed],
            now,
        ),
    }
    if target:
        new["targets"] = [{**(dig(old, "targets", 0) or {}), **target}]
    age_s = (now - parse_time(meta(session)["creationTimestamp"])).total_seconds()
    story: dict[str, Any] = {"step": "finished", "phase": result.phase.value}
    if hosts:
        story |= {"hosts": hosts_text(hosts), "removed": len(removed)}
    story["session_s"] = round(age_s, 1)
    if result.error:
        story["error"] = result.error
    writes: tuple[Write, ...] = (*before, *(Delete(ref) for ref in seen.access), *removed, *deletes)
    ref = Ref.to(BACKUP_SESSION, session)
    last = (() if new == old else (SetStatus(ref, new),)) + release(session)
    return Plan(
        writes=closing_writes(writes, last, seen.refusal),
        notes=(_note(seen, result, hosts),),
        pushes=pushes,
        facts=story,
    )


_PASSING = (Type.BACKUP_WAITING, Type.SNAPSHOTS_WAITING, Type.POST_HOOK_OWED)
ADOPT = "drey.dev/adopt-stash-snapshots"
"""Annotation of a BackupConfiguration: `"true"` lets its retention count, and delete, the
VolumeSnapshots that Stash made of its claims: unlabelled ones that are named `<claim>-<digits>`."""


def adopts(seen: SnapshotSessionObserved) -> bool:
    """Tell whether retention counts VolumeSnapshots that Stash made."""
    return annotations_of(seen.configuration or {}).get(ADOPT) == "true"


def is_of_stash(snapshot: Obj) -> bool:
    """Tell whether a VolumeSnapshot looks like one that Stash made."""
    claim, name = claim_of(snapshot), name_of(snapshot)
    suffix = name.removeprefix(f"{claim}-")
    is_named = suffix != name and suffix.isascii() and suffix.isdigit()
    return bool(claim) and is_named and not labels_of(snapshot)


def background(seen: SnapshotSessionObserved) -> tuple[Write, ...]:
    """Return what turns any other deletion into one in the background.

    In the foreground the garbage collector deletes the Jobs of a session that is held, also the one
    that is to set the application going again. With `--cascade=orphan` that one would find what
    lets it run commands without an owner. Whoever deletes so still waits for the session.
    """
    session = seen.session
    finalizers = finalizers_of(session)
    if status(session).get("phase") in FINAL_PHASES or POST_HOOK not in finalizers:
        return ()
    ref = Ref.by_uid(BACKUP_SESSION, session)
    writes = [
        Finalizer(ref, name, present=False) for name in HELD_BY_DELETION if name in finalizers
    ]
    refused = None if seen.refusal is None else seen.refusal.write
    return tuple(write for write in writes if write != refused)


def _retention(
    seen: SnapshotSessionObserved, hosts: Sequence[Host]
) -> tuple[tuple[Condition, ...], tuple[Write, ...]]:
    """Return RetentionPolicyApplied, and what deletes the VolumeSnapshots that go.

    Of a claim whose VolumeSnapshot of this session is not ready nothing goes; nor does anything
    where nobody knows which claims there were.
    """
    kind = Type.RETENTION_POLICY_APPLIED
    ready = {host.name for host in hosts if host.phase is Phase.SUCCEEDED}
    is_known = bool(dig(seen.session, "status", "targets", 0, "stats"))
    if seen.spec is None or seen.configuration is None or not (ready and is_known):
        return (), ()
    policy = seen.spec.retention_policy
    if not has_rule(policy):
        text = "The retention policy has no keep rule for VolumeSnapshots: all are kept."
        return (Condition(kind, True, "Skipped", text),), ()
    # One of this very session stays whatever the clocks say: its report would be a lie.
    own = {uid_of(snapshot): snapshot for snapshot in seen.snapshots}
    others = {uid_of(one): one for one in seen.kept if uid_of(one) not in own}
    gone: list[Obj] = []
    for claim in sorted(ready):
        # What is ready of this session is good: the session said so.
        good = [one for one in own.values() if claim_of(one) == claim and is_ready(one)]
        bad = [one for one in own.values() if claim_of(one) == claim and not is_ready(one)]
        for one in others.values():
            if claim_of(one) == claim:
                (good if is_good(one) else bad).append(one)
        gone += (one for one in removable(good, bad, policy) if uid_of(one) in others)
    whole = spared(filter(is_good, others.values()), {host.name for host in hosts}, ready)
    used = [one for one in gone if name_of(one) in seen.in_use]
    needed = [one for one in gone if uid_of(one) in whole and one not in used]
    gone = [one for one in gone if one not in used and one not in needed]
    left = _left(used, needed, [host.name for host in hosts if host.name not in ready])
    if policy.dry_run:
        names = f": {_names(gone)}" if gone else ""
        text = f"dryRun: {len(gone)} would be deleted{names}.{left}"
        return (Condition(kind, True, "DryRun", text),), ()
    deletes = tuple(Delete(Ref.by_uid(VOLUME_SNAPSHOT, one)) for one in gone)
    no = seen.refusal
    refused = next((one for one in deletes if no is not None and one == no.write), None)
    if no is None or refused is None:
        done = outcome(kind, failure=None)
        return (replace(done, message=done.message + left),), deletes
    # The result must not wait for it, and what may be deleted does not wait either.
    text = f"{refused.ref}: {no.message}; the next session tries to delete it again{left}"
    return (outcome(kind, failure=text),), tuple(one for one in deletes if one != refused)


def _left(used: Sequence[Obj], needed: Sequence[Obj], failed: Sequence[str]) -> str:
    """Return which VolumeSnapshots the rules do not keep and that stay all the same."""
    text = f" Left until they are restored: {_names(used)}." if used else ""
    if not needed:
        return text
    more = f" and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
    return (
        f"{text} Left because this session has none of {', '.join(failed[:SHOWN])}{more}, so that "
        f"the last that belong together are older: {_names(needed)}."
    )


def _names(snapshots: Iterable[Obj]) -> str:
    return ", ".join(name_of(snapshot) for snapshot in snapshots)


def _pushes(
    seen: SnapshotSessionObserved, result: Outcome, hosts: Sequence[Host], now: datetime
) -> tuple[Push, ...]:
    """Return the samples of a session that backed something up, or should have.

    None while the configuration is being deleted: its group goes with it, and would come back.
    """
    configuration, spec = seen.configuration, seen.spec
    if result.phase is Phase.SKIPPED or configuration is None or is_deleting(configuration):
        return ()
    if spec is None or spec.target is None:
        return ()
    ref, namespace, name = spec.target.ref, namespace_of(configuration), name_of(configuration)
    kind = BACKUP_CONFIGURATION.kind
    subject = Subject(
        Invoker(kind, namespace, name),
        Target(ref.api_version, ref.kind, ref.namespace or namespace, ref.name),
        "",
        is_restore=False,
        driver=SNAPSHOTTER,
    )
    created = parse_time(meta(seen.session)["creationTimestamp"])
    samples = session_samples(
        subject,
        tuple(host.report() for host in hosts),
        duration_s=(now - created).total_seconds(),
        ended_s=now.timestamp(),
        succeeded=result.phase is Phase.SUCCEEDED,
    )
    return (Push(metrics_group(kind, namespace, name), tuple(samples)),)


def _handed_over() -> Condition:
    text = "Metrics are served by the operator, and handed to its Pushgateway."
    return Condition(Type.METRICS_PUSHED, True, "MetricsHandedOver", text)


def _note(seen: SnapshotSessionObserved, result: Outcome, hosts: Sequence[Host]) -> Note:
    """Return the one Event of a session (stash.md 9.1): how many of how many, and why not all."""
    ref = Ref.to(BACKUP_SESSION, seen.session)
    if result.phase is Phase.SKIPPED:
        return Note(ref, "Normal", "BackupSessionSkipped", result.error, UPDATER)
    target = seen.spec.target if seen.spec else None
    what = f'"{target.ref.kind}"/"{target.ref.name}"' if target else "the target"
    of = f"{hosts_text(hosts)} of {what}" if hosts else what
    if result.phase is Phase.SUCCEEDED:
        text = f"backup succeeded for {of}."
        return Note(ref, "Normal", "Host Backup Succeeded", text, UPDATER)
    failed = [host for host in hosts if host.phase is Phase.FAILED]
    if failed:
        names = ", ".join(f'"{host.name}"' for host in failed[:SHOWN])
        more = f" and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
        of = f"{len(failed)} of {len(hosts)} hosts ({names}{more}) of {what}"
    text = f"backup failed for {of}. Reason: {result.error}"
    return Note(ref, "Warning", "Host Backup Failed", text, UPDATER)
