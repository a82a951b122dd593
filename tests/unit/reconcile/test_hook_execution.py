"""How far a hook is, by its condition and its Job; and when one runs afterwards."""

from dataclasses import replace
from typing import Any

import pytest

from controller.api.conditions import Phase
from controller.api.hooks import ExecutionPolicy
from controller.api.objects import Obj
from controller.reconcile.hook_execution import (
    POST_BACKUP,
    PRE_BACKUP,
    Busy,
    Idle,
    Lost,
    Over,
    Progress,
    ended,
    hook_timeout_s,
    is_allowed,
    progress,
    refused,
    skipped,
    started,
)
from controller.reconcile.observed import Executor, Limits
from tests.support.builders import (
    DISRUPTED,
    NOW,
    UNSCHEDULABLE,
    configuration,
    job_failed,
    pod,
    running,
    terminated,
)
from tests.support.snapshot_sessions import begun, ended_job, hook_entry, hook_of, hook_report

SESSION = begun()
JOB = hook_of(SESSION)


def found(executor: Executor, entry: Obj | None = None, **fields: Any) -> Progress:
    """Return how far the preBackup hook is."""
    entries = [hook_entry("Pre", "Unknown")] if entry is None else [entry]
    usual = {"now": NOW, "limits": Limits(), "timeout_s": 300, **fields}
    return progress(PRE_BACKUP, entries, executor, **usual)


def test_without_a_condition_it_has_not_begun() -> None:
    """Whatever Jobs there are."""
    state = progress(POST_BACKUP, [], Executor(JOB), now=NOW, limits=Limits(), timeout_s=300)
    assert state == Idle()


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        (hook_entry("Pre"), Over()),
        (hook_entry("Pre", "False"), Over("it broke")),
    ],
)
def test_what_is_recorded_is_never_asked_again(entry: Obj, wanted: Over) -> None:
    """Its Job may be gone, or say anything."""
    assert found(ended_job(JOB, hook_report("no"), code=1), entry) == wanted
    assert found(Executor(job_gone=True, pods_gone=True), entry) == wanted


def test_a_refused_job_is_to_be_tried_again() -> None:
    """The condition says since when."""
    state = found(Executor(), hook_entry("Pre", "Unknown", reason="HookRefused", age_s=7))
    assert isinstance(state, Idle)
    assert state.refused_since is not None
    assert (NOW - state.refused_since).total_seconds() == 7


ENDS: list[tuple[str, Executor, str]] = [
    ("well", ended_job(JOB, hook_report()), ""),
    ("badly", ended_job(JOB, hook_report("exit code 3"), code=1), "HookFailed: exit code 3"),
    ("without a host", ended_job(JOB, '{"schema":1,"hosts":[]}'), "names no host"),
    ("without a report", ended_job(JOB, "", code=137), "exited with code 137"),
    ("failed", Executor({**JOB, "status": {"conditions": job_failed("DeadlineExceeded")}}), "its"),
    (
        "disrupted",
        Executor(
            {**JOB, "status": {"conditions": job_failed()}},
            pod(terminated(137), phase="Failed", conditions=(DISRUPTED,), of=JOB),
        ),
        "137",
    ),
]


@pytest.mark.parametrize(("executor", "text"), [e[1:] for e in ENDS], ids=[e[0] for e in ENDS])
def test_the_end_of_its_job_is_its_end(executor: Executor, text: str) -> None:
    """The report says how it went; no report is a failure."""
    state = found(executor)
    assert isinstance(state, Over)
    assert not state.is_recorded
    assert text in state.failure
    assert bool(text) == bool(state.failure)


def test_a_running_hook_is_waited_for_until_it_is_given_up() -> None:
    """Its own time, its Job's, and then some: 300 + 120 + 300 s."""
    runs = Executor(hook_of(SESSION, age_s=30), pod(running(), of=JOB))
    assert found(runs) == Busy(300 + 120 + 300 - 30)
    state = found(runs, hook_entry("Pre", "Unknown", age_s=721))
    assert state == Over("HookTimedOut: its Job did not end in time (5m0s)", is_recorded=False)


def test_a_job_says_itself_how_long_it_may_take() -> None:
    """Its configuration is gone, or allows less by now: its hook runs all the same."""
    made = {**hook_of(SESSION, age_s=2000), "spec": {"activeDeadlineSeconds": 3600 + 120}}
    runs, entry = Executor(made, pod(running(), of=made)), hook_entry("Pre", "Unknown", age_s=2000)
    assert found(runs, entry) == Busy(3600 + 120 + 300 - 2000)
    endless = {**made, "spec": {"activeDeadlineSeconds": 10**9}}
    state = found(Executor(endless), hook_entry("Pre", "Unknown", age_s=6 * 3600 + 421))
    assert isinstance(state, Over)
    assert "6h0m0s" in state.failure


def test_a_pod_that_does_not_start_is_left_to_the_jobs_own_deadline() -> None:
    """To delete the Job would delete the postBackup Job that it carries."""
    job = hook_of(SESSION, age_s=650)
    pending = pod(phase="Pending", conditions=(UNSCHEDULABLE,), of=job, age_s=650)
    state = found(Executor(job, pending), hook_entry("Pre", "Unknown", age_s=650))
    assert isinstance(state, Busy)
    assert "Insufficient memory" in state.words


def test_a_job_that_somebody_deleted_is_lost_once() -> None:
    """The second time it is a failure."""
    gone = Executor(job_gone=True, pods_gone=True)
    assert found(gone) == Lost()
    state = found(gone, hook_entry("Pre", "Unknown", reason="HookStartedAgain"))
    assert isinstance(state, Over)
    assert "JobDeleted" in state.failure


def test_what_the_pod_of_a_deleted_job_says_is_not_the_end() -> None:
    """It was told to stop: the hook runs again, once its Job is gone and the name is free."""
    told = ended_job(JOB, hook_report("told to stop"), code=1)
    assert told.job is not None
    metadata = {**told.job["metadata"], "deletionTimestamp": "2024-01-01T00:00:00Z"}
    deleting = replace(told, job={**told.job, "metadata": metadata})
    entry = hook_entry("Pre", "Unknown", age_s=20)
    assert found(deleting, entry) == Busy(300, "its Job is being deleted")
    assert isinstance(found(deleting, hook_entry("Pre", "Unknown", age_s=721)), Over)
    assert found(Executor(pod=told.pod, job_gone=True), entry) == Lost()
    again = hook_entry("Pre", "Unknown", reason="HookStartedAgain")
    assert isinstance(found(deleting, again), Over)
    well = ended_job(JOB, hook_report())
    assert found(Executor(pod=well.pod, job_gone=True), entry) == Over(is_recorded=False)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 300),
        ("90s", 90),
        ("10m", 600),
        ("soon", 300),
        ("-5s", 300),
        ("0s", 300),
        ("99h", 21600),
    ],
)
def test_the_timeout_is_an_annotation(text: str, seconds: int) -> None:
    """One that is none, or out of bounds, is not taken."""
    made = configuration(metadata={"annotations": {"drey.dev/hook-timeout": text}})
    assert hook_timeout_s(made) == seconds
    assert hook_timeout_s(None) == 300


POLICIES: list[tuple[ExecutionPolicy, Phase | None, bool, bool | None]] = [
    ("Always", None, False, True),
    ("Always", Phase.FAILED, False, True),
    ("OnSuccess", None, False, None),
    ("OnSuccess", Phase.SUCCEEDED, False, True),
    ("OnSuccess", Phase.FAILED, True, False),
    ("OnFailure", None, True, None),
    ("OnFailure", Phase.FAILED, False, True),
    ("OnFailure", Phase.SUCCEEDED, False, False),
    ("OnFinalRetryFailure", Phase.FAILED, False, False),
    ("OnFinalRetryFailure", Phase.FAILED, True, True),
    ("OnFinalRetryFailure", Phase.SUCCEEDED, True, False),
]


@pytest.mark.parametrize(("policy", "phase", "is_last", "wanted"), POLICIES)
def test_the_policy_decides_by_the_outcome(
    policy: ExecutionPolicy,
    phase: Phase | None,
    is_last: bool,  # noqa: FBT001 - a column of the table
    wanted: bool | None,  # noqa: FBT001 - a column of the table
) -> None:
    """Only Always does not wait for it."""
    assert is_allowed(policy, phase, is_last_try=is_last) is wanted


def test_conditions_have_the_words_of_stash() -> None:
    """Type, reason and text; Unknown while it runs."""
    assert started(PRE_BACKUP).status is None
    assert started(PRE_BACKUP, again=True).reason == "HookStartedAgain"
    assert refused(POST_BACKUP, "full").status is None
    good, bad = ended(PRE_BACKUP, ""), ended(POST_BACKUP, "no", hint=". Data is safe")
    assert (good.type, good.status) == ("PreBackupHookExecutionSucceeded", True)
    assert good.reason == "SuccessfullyExecutedPreBackupHook"
    assert good.message == "Successfully executed preBackup hook."
    assert (bad.status, bad.reason) == (False, "FailedToExecutePostBackupHook")
    assert bad.message == "Failed to execute postBackup hook. Reason: no. Data is safe"
    left_out = skipped(POST_BACKUP, "OnFailure", Phase.SUCCEEDED)
    assert left_out.status is True
    assert left_out.message == (
        'Skipping executing postBackup. Reason: executionPolicy is "OnFailure" but phase is '
        '"Succeeded".'
    )
