"""The verdict on a session's Job: waiting, running, ended with a report, or dead.

Pure. The pod's own status is believed before the Job's: it comes first, and it holds the report.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.api.objects import Obj, dig, meta, name_of, status
from controller.api.report import MAX_TEXT, ExitCode, RunReport
from controller.api.report_parsing import parse_report
from controller.api.text import format_seconds, parse_time
from controller.build.job import BACKSTOP_S
from controller.reconcile.observed import Executor, Limits

REPLACED = "its pod is gone, its Job starts another"
ORPHANED = "its Job was deleted, a pod of it may still run"
ORPHAN_S = 3900.0
"""How long such a pod may run without end in sight: the runner's own patience, and its start."""
LOST_S = 300
"""How long after its end was due a pod, or a Job, is still believed to come to it."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The Job exists, no container of it runs. `words` say what it waits for, if known.

    `lasting` says that it waits for longer than the usual moment: the words belong in the status.
    `replaced` says that a pod was lost to a disruption: the time in which the next one has to
    start begins now, and the caller remembers it (`awaited_since` of `verdict`).
    """

    requeue_after_s: float
    words: str = ""
    replaced: bool = False
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """A container runs. Its pod tells when it ends: nothing is to be asked meanwhile.

    `requeue_after_s` is when the pod is given up should it never tell, None for never.
    """

    requeue_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The Job reported."""

    report: RunReport


@dataclass(frozen=True, slots=True)
class Died:
    """The Job cannot report any more.

    `release_lock` says that a process of ours was running and is proven gone, so that its lock may
    be removed (D8). `end_job` says that the Job still exists and has to be stopped.
    """

    reason: str
    message: str
    release_lock: bool = False
    end_job: bool = False
    deadline: bool = False


Verdict = Waiting | Running | Ended | Died


def verdict(
    executor: Executor,
    *,
    now: datetime,
    limits: Limits,
    awaited_since: datetime | None = None,
    time_out_s: float | None = None,
    replaces: bool = False,
) -> Verdict:
    """Return what is known about a Job that was created.

    `awaited_since` is when its pod was found lost to a disruption, None when it never was.
    `time_out_s` is how long the run may take, None for without end. `replaces` says that the Job
    creates objects: it starts another pod for each one that was killed, until it is Failed, holds
    no lock, and a pod that outlives it may still create what is missing.
    """
    job, pod = executor.job, executor.pod
    if pod is not None:
        found = _pod_verdict(pod, job, awaited=awaited_since is not None, replaces=replaces)
        if isinstance(found, Running):
            found = _given_up(pod, job, now, time_out_s, locks=not replaces) or found
        if found is not None:
            return found
    if failure := _job_condition(job, "Failed"):
        return _job_failed(failure, executor)
    if job is None:
        left_s = _survivor_left_s(executor, now, time_out_s) if replaces else 0.0
        if executor.job_gone and pod is None and left_s <= 0:
            # A pod that is still there was told to stop, and releases its lock itself.
            text = "its Job was deleted before it reported"
            return Died("JobDeleted", text, release_lock=executor.pods_gone)
        # Nothing wakes a session for a pod whose Job is gone.
        words = ORPHANED if left_s > 0 else ""
        return Waiting(min(left_s or limits.quiet_pod_s, limits.quiet_pod_s), words)
    if pod is None and executor.pods_gone and _job_condition(job, "Complete"):
        return Died("ReportLost", "its pod was removed before its report could be read")
    return _not_started(job, executor, now=now, limits=limits, awaited_since=awaited_since)


def _job_condition(job: Obj | None, kind: str) -> Obj | None:
    for condition in dig(job, "status", "conditions") or ():
        if condition.get("type") == kind and condition.get("status") == "True":
            found: Obj = condition
            return found
    return None


def _pod_verdict(pod: Obj, job: Obj | None, *, awaited: bool, replaces: bool) -> Verdict | None:
    """Return the verdict that the pod alone allows, None when the Job has to be asked."""
    disrupted = any(
        c.get("type") == "DisruptionTarget" and c.get("status") == "True"
        for c in status(pod).get("conditions") or ()
    )
    main = _main_container(pod)
    terminated = dig(main, "state", "terminated")
    phase = status(pod).get("phase")
    code = dig(terminated, "exitCode")
    failed = phase == "Failed" or bool(code)
    # One that ended as it wanted to has reported: such a Job fails with it (podFailurePolicy).
    killed = disrupted or (replaces and code != ExitCode.FAILED)
    if killed and failed and job is not None and not _job_condition(job, "Failed"):
        # The Job ignores disruptions and starts another pod: podFailurePolicy (D9). What this one
        # says of its interruption is not the end. A disrupted pod that ended well counts, though.
        return None if awaited else Waiting(60.0, REPLACED, replaced=True)
    if terminated:
        return _from_terminated(pod, main or {}, terminated)
    if phase in ("Succeeded", "Failed"):
        return _died_without_report(pod)
    if any(dig(container, "state", "running") is not None for container in _containers(pod)):
        return Running()
    return None


def _survivor_left_s(executor: Executor, now: datetime, time_out_s: float | None) -> float:
    """Return for how long a pod is believed to be at work whose Job is gone; 0 without one."""
    if executor.survivor is None:
        return 0.0
    if gone_at := meta(executor.survivor).get("deletionTimestamp"):
        due = parse_time(gone_at) + timedelta(seconds=LOST_S)
    else:
        longest_s = time_out_s + BACKSTOP_S if time_out_s else ORPHAN_S
        created = meta(executor.survivor)["creationTimestamp"]
        due = parse_time(created) + timedelta(seconds=longest_s)
    return max(0.0, (due - now).total_seconds())


def _given_up(
    pod: Obj, job: Obj | None, now: datetime, time_out_s: float | None, *, locks: bool
) -> Running | Died | None:
    """Return until when a pod is believed that says it runs, or that it was lost; None for ever.

    The kubelet of a dead node says nothing more. After 300 s the taint-eviction-controller deletes
    the pod, but only its kubelet can confirm that: the phase stays Running, and the object stays,
    until the node is back or its Node object is deleted (kubernetes.io, "Nodes", "Taint-based
    evictions"). `deletionTimestamp` is when the pod is expected to be gone: it includes the grace
    period. Neither does the Job become Failed before its pod has, so that activeDeadlineSeconds
    ends nothing either.
    """
    ends: list[tuple[datetime, Died]] = []
    node = dig(pod, "spec", "nodeName") or ""
    advice = f"if node {node} is dead, delete its Node object: until then the pod may be alive"
    if locks:
        advice += ", and its lock stays in the repository"
    if gone_at := meta(pod).get("deletionTimestamp"):
        text = f"pod {name_of(pod)} was to be gone by {gone_at} and still is said to run; {advice}"
        due = parse_time(gone_at) + timedelta(seconds=LOST_S)
        ends.append((due, Died("PodLost", text, end_job=True)))
    if time_out_s and job is not None:
        # Counted from the Job as activeDeadlineSeconds is, which has to come first.
        due = parse_time(meta(job)["creationTimestamp"])
        due += timedelta(seconds=time_out_s + BACKSTOP_S + LOST_S)
        text = f"pod {name_of(pod)} outlived its Job's activeDeadlineSeconds; {advice}"
        ends.append((due, Died("DeadlineExceeded", text, end_job=True, deadline=True)))
    if not ends:
        return None
    due, died = min(ends, key=lambda end: end[0])
    left_s = (due - now).total_seconds()
    return Running(left_s) if left_s > 0 else died


def is_live(pod: Obj) -> bool:
    """Tell whether a process of a pod may run."""
    return status(pod).get("phase") not in ("Succeeded", "Failed")


def _containers(pod: Obj) -> Iterator[Obj]:
    """Yield the statuses of all containers, in the order in which they start."""
    yield from status(pod).get("initContainerStatuses") or ()
    yield from status(pod).get("containerStatuses") or ()


def _main_container(pod: Obj) -> Obj | None:
    """Return the container that reports: the one that did, else the first.

    The kubelet sorts by name, so that an injected proxy may come before the only one of ours.
    """
    statuses = status(pod).get("containerStatuses") or ()
    for container in statuses:
        try:
            parse_report(str(dig(container, "state", "terminated", "message") or ""))
        except ValueError:
            continue
        found: Obj = container
        return found
    return statuses[0] if statuses else None


def _was_started(pod: Obj) -> bool:
    """Tell whether a process of the pod ever ran: only then may it have left a lock."""
    return any(
        dig(container, state, kind) is not None
        for container in _containers(pod)
        for state in ("state", "lastState")
        for kind in ("running", "terminated")
    )


def _from_terminated(pod: Obj, container: Obj, terminated: Obj) -> Verdict:
    message = str(terminated.get("message") or "")
    try:
        return Ended(parse_report(message))
    except ValueError as err:
        if terminated.get("exitCode") == 0 and terminated.get("reason") != "OOMKilled":
            detail = f"container {container.get('name')} ended without a usable report: {err}"
            return Died("ReportLost", detail[:MAX_TEXT])
        return _died_without_report(pod)


def _died_without_report(pod: Obj) -> Died:
    said = _container_failure(pod)
    if status(pod).get("reason") == "DeadlineExceeded":
        return Died(
            "DeadlineExceeded",
            "its pod ran into activeDeadlineSeconds",
            release_lock=True,
            deadline=True,
        )
    reason = str(status(pod).get("reason") or "")
    text = said or str(status(pod).get("message") or "") or "its pod ended without a report"
    return Died(reason or _reason(text), text[:MAX_TEXT], release_lock=_was_started(pod))


def _reason(text: str) -> str:
    return "OOMKilled" if "OOMKilled" in text else "PodFailed"


def _container_failure(pod: Obj) -> str:
    for container in _containers(pod):
        terminated = dig(container, "state", "terminated") or {}
        code = terminated.get("exitCode", 0)
        if terminated.get("reason") == "OOMKilled":
            return (
                f"container {container.get('name')} was OOMKilled (exit code {code}): raise "
                "spec.runtimeSettings.container.resources.limits.memory"
            )
        if code:
            said = str(terminated.get("message") or "").strip()
            hint = f": {said}" if said else f", see kubectl logs {name_of(pod)}"
            return f"container {container.get('name')} exited with code {code}{hint}"
    return ""


def _job_failed(failure: Obj, executor: Executor) -> Died:
    reason = str(failure.get("reason") or "JobFailed")
    words = f" ({'; '.join(executor.words)})" if executor.words else ""
    if executor.pods_gone and reason == "BackoffLimitExceeded":
        text = "its pod failed and was removed before its report could be read"
        return Died("ReportLost", text, release_lock=True)
    return Died(
        reason,
        f"its Job failed: {failure.get('message') or reason}{words}",
        # A Job fails when its pods have ended, not before (JobPodReplacementPolicy).
        release_lock=executor.pod is None or _was_started(executor.pod),
        deadline=reason == "DeadlineExceeded",
    )


def _not_started(
    job: Obj,
    executor: Executor,
    *,
    now: datetime,
    limits: Limits,
    awaited_since: datetime | None,
) -> Verdict:
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
    for container in _containers(pod):
        if finished := dig(container, "state", "terminated", "finishedAt"):
            yield parse_time(finished)


def _waiting_words(executor: Executor) -> Iterable[str]:
    pod = executor.pod
    if pod is not None:
        for condition in status(pod).get("conditions") or ():
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                yield f"{condition.get('reason')}: {condition.get('message')}"
        for container in _containers(pod):
            waiting = dig(container, "state", "waiting") or {}
            if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
                said = waiting.get("message") or ""
                yield f"container {container.get('name')}: {waiting['reason']} {said}".strip()
    yield from executor.words
