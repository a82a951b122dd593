"""Says in a condition of the session what it waits for: a pod that does not start, or another.

Of a pod that was lost to a disruption nothing else would say since when the next one is awaited:
the Job may have run for hours. How many were lost so says the number that the reason ends with. One
write for each distinct text and one when a pod runs; none when it starts as it should.
"""

from collections.abc import Iterable
from datetime import datetime

from controller.api.conditions import Condition, Type, merged, status_of
from controller.api.objects import Obj, name_of, status
from controller.api.resources import Resource
from controller.api.text import parse_time
from controller.plan import Plan, Ref, SetStatus
from controller.reconcile.verdicts import Running, Waiting

DISRUPTED = "PodDisrupted"
NOT_STARTED = "PodNotStarted"
STARTED = "PodStarted"


def disruptions(conditions: Iterable[Obj], kind: Type) -> int:
    """Return how many pods of a session were lost to disruptions, as its condition has it."""
    entry = next((c for c in conditions if c.get("type") == kind.value), {})
    reason = str(entry.get("reason") or "")
    base = reason.rstrip("0123456789")
    return int(reason[len(base) :] or base == DISRUPTED)


def _reason(base: str, count: int) -> str:
    return f"{base}{count}" if count > (base == DISRUPTED) else base


def awaited_since(conditions: Iterable[Obj], kind: Type) -> datetime | None:
    """Return when a pod was found lost whose successor has not started, None when none was."""
    for entry in conditions:
        is_true = (entry.get("type"), entry.get("status")) == (kind.value, "True")
        if is_true and str(entry.get("reason")).startswith(DISRUPTED):
            return parse_time(entry["lastTransitionTime"])
    return None


def interruption(
    conditions: Iterable[Obj], kind: Type, found: Waiting | Running, now: datetime
) -> list[Obj] | None:
    """Return the conditions with the change that a verdict brings about, None when it has none."""
    entries = list(conditions)
    awaited = awaited_since(entries, kind) is not None
    count = disruptions(entries, kind)
    match found:
        case Waiting(words=words, replaced=True) if not awaited:
            reason = _reason(DISRUPTED, count + 1)
            condition = Condition(kind, True, reason, f"Waiting for a pod: {words}.")
        case Waiting(words=words, lasting=True):
            reason = _reason(DISRUPTED if awaited else NOT_STARTED, count)
            condition = Condition(kind, True, reason, f"Waiting for a pod to start: {words}")
        case Running() if status_of(entries, kind) == "True":
            lost = f" Lost to disruptions before it: {count}." if count else ""
            text = f"A pod of its Job runs.{lost}"
            condition = Condition(kind, False, _reason(STARTED, count), text)
        case _:
            return None
    return merged(entries, [condition], now)


def plan_to_wait(
    session: Obj,
    resource: Resource,
    kind: Type,
    found: Waiting | Running,
    *,
    pod: Obj | None,
    now: datetime,
) -> Plan:
    """Return the plan of a session whose Job has not ended: what it waits for, and until when."""
    old = status(session)
    entries = interruption(old.get("conditions") or (), kind, found, now)
    new = old if entries is None else {**old, "conditions": entries}
    writes = () if new == old else (SetStatus(Ref.to(resource, session), new),)
    match found:
        case Waiting(words=words):
            facts = {"step": "waiting_for_pod", "words": words} if words else {}
        case Running():
            facts = {"step": "started", "pod": name_of(pod or {})}
    return Plan(writes=writes, requeue_after_s=found.requeue_after_s, facts=facts)
