"""The last writes of a BackupSession: Repository, history, status. The status is the last one.

A crash between any two of them is harmless: the next turn finds the same report and plans the
same, less what is done already.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from controller.api.backup import host_of
from controller.api.conditions import Condition, Phase, Type, merged, outcome, without
from controller.api.objects import (
    Key,
    dig,
    is_deleting,
    meta,
    namespace_of,
    status,
)
from controller.api.report import RunReport
from controller.api.resources import BACKUP_SESSION, REPOSITORY, Resource
from controller.api.text import parse_time
from controller.plan import Apply, CreateOnce, Delete, Note, Plan, Ref, Refusal, SetStatus, Write
from controller.reconcile.backup_start import order_for
from controller.reconcile.closing import closing_writes, removals, stopped_after
from controller.reconcile.history import outdated
from controller.reconcile.interruption import disruptions
from controller.reconcile.invoked import Invoked
from controller.reconcile.lost_metrics import pushes_for
from controller.reconcile.observed import SessionObserved
from controller.reconcile.repository_record import differs, record
from controller.reconcile.session_status import (
    Outcome,
    repository_status,
    session_duration,
    status_writes,
)
from controller.reconcile.verdicts import Died, Ended

UPDATER = "Status Updater"


def end(
    seen: SessionObserved,
    result: Outcome,
    now: datetime,
    *,
    conditions: list[Condition],
    target: Mapping[str, Any],
    report: RunReport | None = None,
    facts: Mapping[str, Any] | None = None,
    died: Died | None = None,
    ended: Ended | None = None,
) -> Plan:
    """Return the plan that ends a session. `target` is what changes in `status.targets[0]`."""
    session = seen.session
    cleaned, deletes = history_writes(seen, result.phase)
    old = status(session)
    new: dict[str, Any] = {
        **old,
        "phase": result.phase.value,
        "sessionDuration": session_duration(session, now),
        "conditions": merged(
            without(old.get("conditions") or (), Type.BACKUP_WAITING),
            [*conditions, *cleaned],
            now,
        ),
    }
    if target:
        new["targets"] = [{**(dig(old, "targets", 0) or {}), **target}]
    age_s = (now - parse_time(meta(session)["creationTimestamp"])).total_seconds()
    story = {
        "step": "finished",
        **(facts or {}),
        "phase": result.phase.value,
        "session_s": round(age_s, 1),
    }
    if result.error:
        story["error"] = result.error
    return Plan(
        writes=closing_writes(
            (
                *removals(
                    seen.executor,
                    seen.access,
                    died,
                    order_for(seen, now),
                    replaced=disruptions(old.get("conditions") or (), Type.BACKUP_WAITING) > 0,
                ),
                *_repository_writes(seen, report, now),
                *deletes,
            ),
            status_writes(BACKUP_SESSION, session, new),
            seen.refusal,
            after=stopped_after(seen.executor, ended),
        ),
        notes=_notes(seen, result),
        pushes=pushes_for(result, report, seen.configuration, seen.spec),
        facts=story,
    )


def _repository_writes(
    seen: SessionObserved, report: RunReport | None, now: datetime
) -> tuple[Write, ...]:
    repository = seen.repository
    if report is None or repository is None or is_deleting(repository):
        return ()
    if seen.refusal is not None and _resource_of(seen.refusal.write) == REPOSITORY:
        # As with the history: what the API server will not have does not hold up the result.
        return ()
    writes: list[Write] = []
    ref = Ref.to(REPOSITORY, repository)
    new = repository_status(repository, seen.session, report)
    if new != status(repository):
        writes.append(SetStatus(ref, new))
    invoker = str(dig(seen.session, "spec", "invoker", "name") or "")
    ours = record(repository, Key(namespace_of(seen.session), invoker), report.repository, now)
    if differs(repository, ours):
        # After the status: an apply moves the resourceVersion, which is the status' precondition.
        # It is the apply's too: a neighbour's entry that was not seen must not get lost.
        writes.append(
            Apply(
                REPOSITORY,
                {
                    "apiVersion": REPOSITORY.api_version,
                    "kind": REPOSITORY.kind,
                    "metadata": {
                        "name": ref.name,
                        "namespace": ref.namespace,
                        "uid": ref.uid,
                        "resourceVersion": ref.resource_version,
                        "annotations": dict(ours),
                    },
                },
            )
        )
    return tuple(writes)


def history_writes(seen: Invoked, phase: Phase) -> tuple[tuple[Condition, ...], tuple[Write, ...]]:
    """Return BackupHistoryCleaned, and what deletes the sessions beyond the limit."""
    if seen.spec is None:
        return (), ()
    if seen.refusal is not None and _is_history_delete(seen.refusal):
        # The limit is kept another time; the result of this session must not wait for it (D13).
        failed = outcome(Type.BACKUP_HISTORY_CLEANED, failure=seen.refusal.message)
        return (failed,), ()
    retries = seen.spec.retry_config is not None
    limit = seen.spec.history_limit
    gone = outdated(seen.session, phase, seen.siblings, limit, retries=retries)
    deletes = tuple(Delete(Ref.by_uid(BACKUP_SESSION, old)) for old in gone)
    return (outcome(Type.BACKUP_HISTORY_CLEANED, failure=None),), deletes


def _resource_of(write: Write) -> Resource:
    return write.resource if isinstance(write, Apply | CreateOnce) else write.ref.resource


def _is_history_delete(refusal: Refusal) -> bool:
    return isinstance(refusal.write, Delete) and refusal.write.ref.resource == BACKUP_SESSION


def _notes(seen: SessionObserved, result: Outcome) -> tuple[Note, ...]:
    """Return the one Event of a session (stash.md 9.1)."""
    ref = Ref.to(BACKUP_SESSION, seen.session)
    if result.phase is Phase.SKIPPED:
        return (Note(ref, "Normal", "BackupSessionSkipped", result.error, UPDATER),)
    target = seen.spec.target if seen.spec else None
    what = f'"{target.ref.kind}"/"{target.ref.name}"' if target else "the target"
    host = host_of(target.alias if target else "")
    if result.phase is Phase.SUCCEEDED:
        text = f"backup succeeded for host {host} of {what}."
        return (Note(ref, "Normal", "Host Backup Succeeded", text, UPDATER),)
    text = f'backup failed for host "{host}" of {what}. Reason: {result.error}'
    return (Note(ref, "Warning", "Host Backup Failed", text, UPDATER),)


def invoker_tag(seen: SessionObserved) -> str:
    """Return the tag that every snapshot of the session's configuration carries (D1)."""
    name = dig(seen.session, "spec", "invoker", "name") or ""
    return f"drey:config={namespace_of(seen.session)}/{name}"
