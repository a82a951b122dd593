"""What a Job waits for of which no container runs, and when that has lasted too long."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from controller.api.objects import Obj, dig, meta, status
from controller.api.text import format_seconds, parse_time
from controller.reconcile.observed import Executor, Limits
from controller.reconcile.pod_end import containers
from controller.reconcile.verdicts import Died, Verdict, Waiting

REPLACED = "its pod is gone, its Job starts another"


def not_started(
    job: Obj,
    executor: Executor,
    *,
    now: datetime,
    limits: Limits,
    awaited_since: datetime | None,
) -> Verdict:
    """Return how long a Job of which no container runs is waited for yet, or that it was too long.

    `awaited_since` is when its pod was found lost to a disruption, None when it never was.
    """
    age_s = (now - max(_begins(job, executor.pod, awaited_since))).total_seconds()
    words = "; ".join(_waiting_words(executor))
    if age_s >= limits.start_s:
        if executor.pod is None and awaited_since is None and not words:
            # Its Job could create one, and has none now: one that ran was lost meanwhile.
            return Waiting(30.0, REPLACED, replaced=True)
        return Died(
            "PodNotStarted",
            f"its pod did not start within {format_seconds(limits.start_s)}"
            + (f": {words}" if words else ""),
            end_job=True,
        )
    left_s = limits.start_s - age_s
    if executor.pod is None and age_s < limits.quiet_pod_s:
        return Waiting(limits.quiet_pod_s - age_s + 0.1)
    if executor.pod is None:
        # One that cannot even be created shows only in Events (D9).
        return Waiting(min(left_s, 30.0), words, lasting=bool(words))
    # A pod that exists is watched.
    if words and age_s < limits.pending_s:
        return Waiting(limits.pending_s - age_s, words)
    return Waiting(left_s, words, lasting=bool(words))


def _begins(job: Obj, pod: Obj | None, awaited_since: datetime | None) -> Iterator[datetime]:
    """Yield the moments from which on the next container may take its time to start.

    A Job may have run for hours before its pod is replaced, an init container before the next one
    starts: the age of the Job alone says nothing.
    """
    yield parse_time(meta(job)["creationTimestamp"])
    if awaited_since is not None:
        yield awaited_since
    if pod is None:
        return
    if created := meta(pod).get("creationTimestamp"):
        yield parse_time(created)
    for container in containers(pod):
        if finished := dig(container, "state", "terminated", "finishedAt"):
            yield parse_time(finished)


def _waiting_words(executor: Executor) -> Iterable[str]:
    pod = executor.pod
    if pod is not None:
        for condition in status(pod).get("conditions") or ():
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                yield f"{condition.get('reason')}: {condition.get('message')}"
        for container in containers(pod):
            waiting = dig(container, "state", "waiting") or {}
            if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
                said = waiting.get("message") or ""
                yield f"container {container.get('name')}: {waiting['reason']} {said}".strip()
    yield from executor.words
