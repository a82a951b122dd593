"""The status of a RestoreSession as it waits, runs and ends, whatever its driver."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from controller.api.conditions import Condition, Phase, Type, merged, status_of, without
from controller.api.objects import Obj, finalizers_of, status
from controller.api.resources import RESTORE_SESSION
from controller.api.text import format_time
from controller.plan import Finalizer, Note, Plan, Ref
from controller.reconcile.backup_configuration import STASH_FINALIZER
from controller.reconcile.session_status import Outcome, session_duration

CONTROLLER = "RestoreSession Controller"
UPDATER = "Status Updater"


def released(session: Obj) -> Plan:
    """Return the plan for a session that is being deleted: what it owns goes with it."""
    if STASH_FINALIZER not in finalizers_of(session):
        return Plan()
    ref = Ref.to(RESTORE_SESSION, session)
    return Plan(writes=(Finalizer(ref, STASH_FINALIZER, present=False),))


def held_status(
    session: Obj, conditions: Iterable[Condition], phase: Phase, now: datetime
) -> dict[str, Any]:
    """Return the status of a session that cannot start yet."""
    old = status(session)
    return {
        **old,
        "phase": phase.value,
        "conditions": merged(old.get("conditions") or (), conditions, now),
    }


def held_notes(session: Obj, conditions: Iterable[Condition]) -> tuple[Note, ...]:
    """Return an Event for each condition that has just become other than True."""
    ref = Ref.to(RESTORE_SESSION, session)
    old = status(session).get("conditions") or ()
    return tuple(
        Note(ref, "Warning", c.reason, c.message, CONTROLLER)
        for c in conditions
        if c.status is not True and status_of(old, c.type) != c.status_text
    )


def running_status(
    session: Obj,
    conditions: Iterable[Condition],
    *,
    hosts: int,
    deadline: datetime | None,
    now: datetime,
) -> dict[str, Any]:
    """Return the status of a session whose Job was created."""
    old = status(session)
    waits = without(old.get("conditions") or (), Type.CLAIMS_WAITING)
    new: dict[str, Any] = {
        **old,
        "phase": Phase.RUNNING.value,
        "totalHosts": hosts,
        "conditions": merged(waits, conditions, now),
    }
    if deadline is not None:
        new["sessionDeadline"] = format_time(deadline)
    return new


def final_status(
    session: Obj,
    result: Outcome,
    conditions: Iterable[Condition],
    changes: Obj,
    now: datetime,
) -> dict[str, Any]:
    """Return the status that a session ends with; it waits for nothing any more."""
    old = status(session)
    waits = without(old.get("conditions") or (), Type.RESTORE_WAITING, Type.CLAIMS_WAITING)
    return {
        **old,
        **changes,
        "phase": result.phase.value,
        "sessionDuration": session_duration(session, now),
        "conditions": merged(waits, conditions, now),
    }
