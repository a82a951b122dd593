"""The verdict on a session's Job: waiting, running, ended with a report, or dead.

Pure. The pod's own status is believed before the Job's: it comes first, and it holds the report.
"""

from datetime import datetime, timedelta

from controller.api.objects import Obj, dig, job_condition, meta, name_of, status
from controller.api.report import MAX_TEXT, ExitCode
from controller.api.text import format_seconds, parse_time
from controller.build.job import BACKSTOP_S
from controller.reconcile.observed import Executor, Limits
from controller.reconcile.pod_end import (
    containers,
    died_without_report,
    from_terminated,
    main_container,
    was_started,
)
from controller.reconcile.pod_start import REPLACED, not_started
from controller.reconcile.verdicts import Died, Running, Verdict, Waiting

ORPHANED = "its Job was deleted, a pod of it may still run"
ORPHAN_S = 3900.0
"""How long such a pod may run without end in sight: the runner's own patience, and its start."""
UNREADABLE_S = 10.0
"""How soon an API server that did not say what there is gets asked again."""
LOST_S = 300
"""How long after its end was due a pod, or a Job, is still believed to come to it."""
MAX_DISRUPTIONS = 5
"""The Job of a run with a repository starts a new pod for each that is disrupted, without end. One
that is drained from node to node while all of them are renewed loses fewer; one that is evicted for
its memory loses them for ever, and its session keeps all later ones from running."""


def verdict(
    executor: Executor,
    *,
    now: datetime,
    limits: Limits,
    awaited_since: datetime | None = None,
    disruptions: int = 0,
    time_out_s: float | None = None,
    replaces: bool = False,
) -> Verdict:
    """Return what is known about a Job that was created.

    `awaited_since` is when its pod was found lost to a disruption, None when it never was, or
    another has run since. `disruptions` is how many were found lost so. `time_out_s` is how long
    the run may take, None for without end. `replaces` says that the Job creates objects: it starts
    another pod for each one that was killed, until it is Failed, as it is by its deadline at the
    latest; it holds no lock, and a pod that outlives it may still create what is missing.
    """
    found = _verdict(
        executor,
        now=now,
        limits=limits,
        awaited_since=awaited_since,
        time_out_s=time_out_s,
        replaces=replaces,
    )
    if replaces or not isinstance(found, Waiting):
        return found
    if found.replaced and disruptions + 1 >= MAX_DISRUPTIONS:
        return _worn_out(
            executor.pod, f"{disruptions + 1} pods of its Job were lost to disruptions"
        )
    longest_s = MAX_DISRUPTIONS * limits.start_s
    if awaited_since is not None and (now - awaited_since).total_seconds() >= longest_s:
        # Each was lost before it ran: so they are not counted.
        text = f"for {format_seconds(longest_s)} its pods were lost before any of them ran"
        return _worn_out(executor.pod, text)
    return found


def _worn_out(pod: Obj | None, text: str) -> Died:
    """Return the death of a Job that may have another pod by now: so no lock is removed (D8)."""
    said = status(pod or {}).get("message")
    text += f"; the last one: {said}" if said else ""
    return Died(
        "PodDisrupted",
        f"{text[: MAX_TEXT // 2]}. Set requests.memory to what it needs, in spec.runtimeSettings."
        "container.resources, so that it is not the first to be evicted; spec.timeOut limits a run",
        end_job=True,
    )


def _verdict(
    executor: Executor,
    *,
    now: datetime,
    limits: Limits,
    awaited_since: datetime | None,
    time_out_s: float | None,
    replaces: bool,
) -> Verdict:
    job, pod = executor.job, executor.pod
    if executor.unreadable:  # neither that it lives nor that it is dead
        words = f"what became of its pod cannot be read: {executor.unreadable}"
        return Waiting(UNREADABLE_S, words)
    if pod is not None:
        found = _pod_verdict(pod, job, awaited=awaited_since is not None, replaces=replaces)
        if isinstance(found, Running):
            found = _given_up(pod, job, now, time_out_s, locks=not replaces) or found
        if found is not None:
            return found
    if died := _job_ended(executor):
        return died
    if job is None:
        left_s = _survivor_left_s(executor, now, time_out_s) if replaces else 0.0
        if executor.job_gone and pod is None and left_s <= 0:
            # A pod that is still there was told to stop, and releases its lock itself.
            text = "its Job was deleted before it reported"
            return Died("JobDeleted", text, release_lock=executor.pods_gone)
        # Nothing wakes a session for a pod whose Job is gone.
        words = ORPHANED if left_s > 0 else ""
        return Waiting(min(left_s or limits.quiet_pod_s, limits.quiet_pod_s), words)
    return not_started(job, executor, now=now, limits=limits, awaited_since=awaited_since)


def _pod_verdict(pod: Obj, job: Obj | None, *, awaited: bool, replaces: bool) -> Verdict | None:
    """Return the verdict that the pod alone allows, None when the Job has to be asked."""
    disrupted = any(
        c.get("type") == "DisruptionTarget" and c.get("status") == "True"
        for c in status(pod).get("conditions") or ()
    )
    main = main_container(pod)
    terminated = dig(main, "state", "terminated")
    phase = status(pod).get("phase")
    code = dig(terminated, "exitCode")
    failed = phase == "Failed" or bool(code)
    # One that ended as it wanted to has reported: such a Job fails with it (podFailurePolicy).
    killed = disrupted or (replaces and code != ExitCode.FAILED)
    if killed and failed and job is not None and not job_condition(job, "Failed"):
        # The Job ignores disruptions and starts another pod: podFailurePolicy (D9). What this one
        # says of its interruption is not the end. A disrupted pod that ended well counts, though.
        return None if awaited else Waiting(60.0, REPLACED, replaced=True)
    if terminated:
        return from_terminated(pod, main or {}, terminated)
    if phase in ("Succeeded", "Failed"):
        return died_without_report(pod)
    if any(dig(container, "state", "running") is not None for container in containers(pod)):
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
        advice += "; a lock that it left goes 30 minutes after its last sign of life, by the "
        advice += "first run that it keeps out"
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


def _job_ended(executor: Executor) -> Died | None:
    """Return the end of a Job whose pod says nothing of it, None when it has not ended."""
    failure = job_condition(executor.job, "Failed")
    if not failure:
        if executor.pod is None and executor.pods_gone and job_condition(executor.job, "Complete"):
            return Died("ReportLost", "its pod was removed before its report could be read")
        return None
    reason = str(failure.get("reason") or "JobFailed")
    words = f" ({'; '.join(executor.words)})" if executor.words else ""
    if executor.pods_gone and reason == "BackoffLimitExceeded":
        text = "its pod failed and was removed before its report could be read"
        return Died("ReportLost", text, release_lock=True)
    return Died(
        reason,
        f"its Job failed: {failure.get('message') or reason}{words}",
        # A Job fails when its pods have ended, not before (JobPodReplacementPolicy).
        release_lock=executor.pod is None or was_started(executor.pod),
        deadline=reason == "DeadlineExceeded",
    )
