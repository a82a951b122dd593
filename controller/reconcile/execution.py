"""The verdict on a session's Job: waiting, running, ended with a report, or dead.

Pure. The pod's own status is believed before the Job's: it comes first, and it holds the report.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from controller.api.objects import Obj, dig, is_deleting, meta, name_of, status
from controller.api.report import MAX_TEXT, RunReport, parse_report
from controller.api.text import format_seconds, parse_time
from controller.reconcile.observed import Executor, Limits

OOM_EXIT_CODE = 137


@dataclass(frozen=True, slots=True)
class Waiting:
    """The Job exists, no container of it runs yet. `words` say what it waits for, if known."""

    requeue_after_s: float
    words: str = ""


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


def verdict(executor: Executor, *, now: datetime, limits: Limits) -> Verdict:
    """Return what is known about a Job that was created."""
    job, pod = executor.job, executor.pod
    if pod is not None:
        found = _pod_verdict(pod, job)
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
    return _not_started(job, executor, now=now, limits=limits)


def _job_condition(job: Obj | None, kind: str) -> Obj | None:
    for condition in dig(job, "status", "conditions") or ():
        if condition.get("type") == kind and condition.get("status") == "True":
            found: Obj = condition
            return found
    return None


def _pod_verdict(pod: Obj, job: Obj | None) -> Verdict | None:
    """Return the verdict that the pod alone allows, None when the Job has to be asked."""
    disrupted = any(
        c.get("type") == "DisruptionTarget" and c.get("status") == "True"
        for c in status(pod).get("conditions") or ()
    )
    ended = status(pod).get("phase") in ("Succeeded", "Failed")
    main = _main_container(pod)
    terminated = dig(main, "state", "terminated")
    if disrupted and ended and job is not None and not _job_condition(job, "Failed"):
        # The Job ignores disruptions and starts another pod: podFailurePolicy (D9).
        return Waiting(60.0, "the pod was disrupted, its Job starts another")
    if terminated:
        return _from_terminated(pod, main or {}, terminated)
    if ended:
        return _died_without_report(pod)
    if _is_running(pod) or (is_deleting(pod) and dig(main, "state", "running")):
        return Running()
    return None


def _main_container(pod: Obj) -> Obj | None:
    found: Obj | None = dig(pod, "status", "containerStatuses", 0)
    return found


def _is_running(pod: Obj) -> bool:
    statuses = (
        *(status(pod).get("initContainerStatuses") or ()),
        *(status(pod).get("containerStatuses") or ()),
    )
    return any(dig(s, "state", "running") for s in statuses)


def _from_terminated(pod: Obj, container: Obj, terminated: Obj) -> Verdict:
    message = str(terminated.get("message") or "")
    try:
        return Ended(parse_report(message))
    except ValueError as err:
        if terminated.get("exitCode") == 0 and terminated.get("reason") != "OOMKilled":
            detail = f"container {container.get('name')} ended without a usable report: {err}"
            return Died("ReportLost", detail)
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
    return Died(reason or _reason(text), text[:MAX_TEXT], release_lock=True)


def _reason(text: str) -> str:
    return "OOMKilled" if "OOMKilled" in text else "PodFailed"


def _container_failure(pod: Obj) -> str:
    for container in (
        *(status(pod).get("initContainerStatuses") or ()),
        *(status(pod).get("containerStatuses") or ()),
    ):
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
    return Died(
        reason,
        f"its Job failed: {failure.get('message') or reason}{words}",
        release_lock=True,
        deadline=reason == "DeadlineExceeded",
    )


def _not_started(job: Obj, executor: Executor, *, now: datetime, limits: Limits) -> Verdict:
    age_s = (now - parse_time(meta(job)["creationTimestamp"])).total_seconds()
    words = "; ".join(_waiting_words(executor))
    if age_s >= limits.start_s:
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


def _waiting_words(executor: Executor) -> Iterable[str]:
    pod = executor.pod
    if pod is not None:
        for condition in status(pod).get("conditions") or ():
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                yield f"{condition.get('reason')}: {condition.get('message')}"
        for container in (
            *(status(pod).get("initContainerStatuses") or ()),
            *(status(pod).get("containerStatuses") or ()),
        ):
            waiting = dig(container, "state", "waiting") or {}
            if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
                said = waiting.get("message") or ""
                yield f"container {container.get('name')}: {waiting['reason']} {said}".strip()
    yield from executor.words
