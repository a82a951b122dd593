"""The Job that created the VolumeSnapshots, once its session has ended."""

from dataclasses import replace
from typing import Any

import pytest

from controller.api.objects import Obj, uid_of
from controller.api.resources import JOB
from controller.plan import Delete, Refusal
from controller.reconcile.observed import Executor
from controller.reconcile.snapshot_session import plan
from tests.support.builders import (
    DISRUPTED,
    NOW,
    before,
    job_complete,
    job_failed,
    pod,
    running,
    terminated,
)
from tests.support.snapshot_sessions import (
    NO_HOSTS,
    begun,
    created,
    creation_job,
    observed,
    snapshot_spec,
)

OVER = begun(age_s=90)
OVER["status"] = {**OVER["status"], "phase": "Succeeded", "sessionDuration": "1m15s"}
"""It ended 15 seconds ago."""
JUST = {**OVER, "status": {**OVER["status"], "sessionDuration": "1m26s"}}
LEFT = creation_job(OVER)
LEAVING = {"deletionTimestamp": before(1)}


def of_job(*containers: Obj, **fields: Any) -> dict[str, Any]:
    """Return a pod of the Job."""
    metadata = fields.pop("metadata", {})
    made = pod(*containers, of=LEFT, **fields)
    return {**made, "metadata": {**made["metadata"], **metadata}}


def ended(status: Any) -> dict[str, Any]:
    """Return the Job as finished."""
    return {**LEFT, "status": {"conditions": status}}


@pytest.mark.parametrize(
    ("executor", "goes"),
    [
        (Executor(), False),
        # its pod was lost, and the next one is not there, or waits for a node
        (Executor(LEFT), True),
        (Executor(LEFT, of_job(phase="Pending")), True),
        (Executor(LEFT, of_job(terminated(137), phase="Failed")), True),
        (Executor(LEFT, of_job(phase="Failed", conditions=(DISRUPTED,))), True),
        (Executor(LEFT, of_job(running(), metadata=LEAVING)), True),
        # it runs, or has ended: the Job ends with it
        (Executor(LEFT, of_job(running())), False),
        (Executor(LEFT, of_job(terminated(0, NO_HOSTS), phase="Succeeded")), False),
        (Executor(LEFT, of_job(terminated(1, NO_HOSTS), phase="Failed")), False),
        (Executor(LEFT, of_job(terminated(0, NO_HOSTS), running("proxy"))), False),
        # it has ended, or is about to be gone
        (Executor(ended(job_complete())), False),
        (Executor(ended(job_failed("BackoffLimitExceeded"))), False),
        (Executor({**LEFT, "metadata": {**LEFT["metadata"], **LEAVING}}), False),
    ],
)
def test_a_job_that_would_start_another_pod_is_stopped(
    executor: Executor,
    goes: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """It would create again what was deleted since, with the data of then."""
    made = plan(observed(OVER, executor=executor), NOW)
    assert bool(made.writes) is goes
    for write in made.writes:
        assert isinstance(write, Delete)
        assert (write.ref.resource, write.ref.uid) == (JOB, uid_of(LEFT))


def test_right_after_the_end_no_cache_is_believed() -> None:
    """A driver may be quicker than the kubelet: a pod that has done its work seems to wait."""
    seen = observed(JUST, executor=Executor(LEFT, of_job(phase="Pending")))
    made = plan(seen, NOW)
    assert made.writes == ()
    assert made.requeue_after_s == pytest.approx(6)
    assert plan(replace(seen, executor=Executor()), NOW).requeue_after_s is None
    for lost in (
        of_job(terminated(137), phase="Failed"),
        of_job(phase="Failed", conditions=(DISRUPTED,)),
        of_job(running(), metadata=LEAVING),
    ):
        assert plan(replace(seen, executor=Executor(LEFT, lost)), NOW).writes


def test_the_next_try_does_not_wait_for_it() -> None:
    """Nor for a deletion that is refused."""
    failed = {**OVER, "status": {**OVER["status"], "phase": "Failed"}}
    failed["spec"] = {**failed["spec"], "retryLeft": 1}
    spec = snapshot_spec(retryConfig={"maxRetry": 2})
    made = plan(observed(failed, executor=Executor(LEFT), spec=spec), NOW)
    assert created(made) == ["nightly-1-retry-0"]
    delete = made.writes[-1]
    assert isinstance(delete, Delete)
    refused = Refusal(delete, "Forbidden", "no")
    assert plan(observed(OVER, executor=Executor(LEFT), refusal=refused), NOW).writes == ()
