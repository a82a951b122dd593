"""Remembers that a Job's pod was lost to a disruption, in a condition of the session.

Without it nothing would say since when the next pod is awaited: the Job may have run for hours.
Two writes for each disruption, none without one.
"""

from collections.abc import Iterable
from datetime import datetime

from controller.api.conditions import Condition, Type, merged
from controller.api.objects import Obj
from controller.api.text import parse_time
from controller.reconcile.execution import Running, Waiting

DISRUPTED = "PodDisrupted"
STARTED = "PodStarted"


def awaited_since(conditions: Iterable[Obj], kind: Type) -> datetime | None:
    """Return when a pod was found lost whose successor has not started, None when none was."""
    for entry in conditions:
        if (entry.get("type"), entry.get("status"), entry.get("reason")) == (
            kind.value,
            "True",
            DISRUPTED,
        ):
            return parse_time(entry["lastTransitionTime"])
    return None


def interruption(
    conditions: Iterable[Obj], kind: Type, found: Waiting | Running, now: datetime
) -> list[Obj] | None:
    """Return the conditions with the change that a verdict brings about, None when it has none."""
    entries = list(conditions)
    awaited = awaited_since(entries, kind) is not None
    match found:
        case Waiting(words=words, replaced=True) if not awaited:
            condition = Condition(kind, True, DISRUPTED, f"Waiting for a pod: {words}.")
        case Running() if awaited:
            condition = Condition(kind, False, STARTED, "The next pod of its Job runs.")
        case _:
            return None
    return merged(entries, [condition], now)
