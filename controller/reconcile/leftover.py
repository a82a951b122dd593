"""A Job that creates objects and outlives its session: it has nothing more to create (D10).

A session ends by its VolumeSnapshots, whatever became of the pod that created them. When that pod
was lost before it could report, its Job starts another one, hours later where there is no room: it
would create again, under the old name, what retention or somebody has deleted since.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from controller.api.objects import dig, is_deleting, is_finished, meta, name_of, status
from controller.api.report import ExitCode
from controller.api.resources import JOB
from controller.api.text import parse_go_duration_s, parse_time
from controller.plan import Delete, Plan, Ref
from controller.reconcile.observed import Executor
from controller.reconcile.pod_end import main_container
from controller.reconcile.snapshot_observed import SnapshotSessionObserved

SETTLE_S = 10.0
"""How long after the end of its session a pod may seem to wait, or not to be there: a driver may be
quicker than the kubelet, and so than the cache."""


def with_leftover(found: Plan, seen: SnapshotSessionObserved, now: datetime) -> Plan:
    """Return the plan of a session that has ended, and with it the deletion of its Job, if due."""
    job = seen.executor.job
    if job is None or is_finished(job) or is_deleting(job) or _ends_by_itself(seen.executor):
        return found
    left_s = (_ended_at(seen) + timedelta(seconds=SETTLE_S) - now).total_seconds()
    if left_s > 0 and not _is_lost(seen.executor):
        waits = [s for s in (found.requeue_after_s, left_s) if s is not None]
        return replace(found, requeue_after_s=min(waits))
    delete = Delete(Ref.by_uid(JOB, job))
    if seen.refusal is not None and seen.refusal.write == delete:
        return found
    facts = found.facts or {"step": "leftover_job_deleted", "job": name_of(job)}
    return replace(found, writes=(*found.writes, delete), facts=facts)


def _ends_by_itself(executor: Executor) -> bool:
    """Tell whether the pod runs, or has ended the Job with it: its next event wakes the session."""
    pod = executor.pod
    if pod is None:
        return False
    main = main_container(pod)
    code = dig(main, "state", "terminated", "exitCode")
    if code is not None:
        return bool(code in (ExitCode.OK, ExitCode.FAILED))
    return dig(main, "state", "running") is not None and not is_deleting(pod)


def _is_lost(executor: Executor) -> bool:
    """Tell whether a pod that has not ended the Job will not do so any more."""
    pod = executor.pod or {}
    terminated = dig(main_container(pod), "state", "terminated")
    return is_deleting(pod) or terminated is not None or status(pod).get("phase") == "Failed"


def _ended_at(seen: SnapshotSessionObserved) -> datetime:
    """Return when the session ended, to the second."""
    took_s = parse_go_duration_s(str(status(seen.session).get("sessionDuration") or "")) or 0.0
    created = parse_time(meta(seen.session)["creationTimestamp"])
    return created + timedelta(seconds=took_s)
