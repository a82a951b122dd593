"""The verdict on a session's Job: waiting, running, ended with a report, or dead.

Pure. The pod's own status is believed before the Job's: it comes first, and it holds the report.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from controller.api.objects import Obj, dig, meta, name_of, status
from controller.api.report import MAX_TEXT, RunReport, parse_report
from controller.api.text import format_seconds, parse_time
from controller.reconcile.observed import Executor, Limits

REPLACED = "its pod is gone, its Job starts another"


@dataclass(frozen=True, slots=True)
class Waiting:
    """The Job exists, no container of it runs. `words` say what it waits for, if known.

    `replaced` says that a pod was lost to a disruption: the time in which the next one has to
    start begins now, and the caller remembers it (`awaited_since` of `verdict`).
    """

    requeue_after_s: float
    words: str = ""
    replaced: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """A container runs. Its pod tells when it ends: nothing is to be asked meanwhile."""


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
    executor: Executor, *, now: datetime, limits: Limits, awaited_since: datetime | None = None
) -> Verdict:
    """Return what is known about a Job that was created.

    `awaited_since` is when its pod was found lost to a disruption, None when it never was.
    """
    job, pod = executor.job, executor.pod
    if pod is not None:
        found = _pod_verdict(pod, job, awaited=awaited_since is not None)
        if found is not None:
            return found
    if failure := _job_condition(job, "Failed"):
        return _job_failed(failure, executor)
    if job is None:
        if executor.job_gone and pod is None:
            return Died("JobDeleted", "its Job was deleted before it reported", release_lock=True)
        return Waiting(limits.quiet_pod_s)
    if pod is None and executor.pods_gone and _job_condition(job, "Complete"):
        return Died("ReportLost", "its pod was removed before its report could be read")
    return _not_started(job, executor, now=now, limits=limits, awaited_since=awaited_since)


def _job_condition(job: Obj | None, kind: str) -> Obj | None:
    for condition in dig(job, "status", "conditions") or ():
        if condition.get("type") == kind and condition.get("status") == "True":
            found: Obj = condition
            return found
    return None


def _pod_verdict(pod: Obj, job: Obj | None, *, awaited: bool) -> Verdict | None:
    """Return the verdict that the pod alone allows, None when the Job has to be asked."""
    disrupted = any(
        c.get("type") == "DisruptionTarget" and c.get("status") == "True"
        for c in status(pod).get("conditions") or ()
    )
    main = _main_container(pod)
    terminated = dig(main, "state", "terminated")
    phase = status(pod).get("phase")
    failed = phase == "Failed" or bool(dig(terminated, "exitCode"))
    if disrupted and failed and job is not None and not _job_condition(job, "Failed"):
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
        return Died("ReportLost", "its pod failed and was removed before its report could be read")
    return Died(
        reason,
        f"its Job failed: {failure.get('message') or reason}{words}",
        release_lock=True,
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
    # A pod that exists is watched. One that cannot even be created shows only in Events (D9).
    return Waiting(left_s if executor.pod is not None else min(left_s, 30.0), words)


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
