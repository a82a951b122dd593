"""How far a hook is, by its condition and its Job; and when one runs afterwards."""

from dataclasses import replace
from typing import Any

import pytest

from controller.api.conditions import Phase
from controller.api.hooks import ExecutionPolicy
from controller.api.objects import Obj
from controller.api.report import HostReport, RunReport
from controller.api.report_encoding import encode
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
    before,
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
    assert state.tries == 0
    again = found(Executor(), hook_entry("Pre", "Unknown", reason="HookRefused3", age_s=7))
    assert again == Idle(state.refused_since, tries=3)


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
    """The start of its pod, its own time, its Job's, and then some: 600 + 300 + 120 + 300 s."""
    runs = Executor(hook_of(SESSION, age_s=30), pod(running(), of=JOB))
    assert found(runs) == Busy(600 + 300 + 120 + 300 - 30, told="")
    late = Executor(hook_of(SESSION, age_s=1321), pod(running(), of=JOB))
    state = found(late)
    assert state == Over("HookTimedOut: its Job did not end in time (17m0s)", is_recorded=False)
    assert found(late, repeats=True) == Lost(
        "HookTimedOut: its Job did not end in time (17m0s)", tries=1
    )


@pytest.mark.parametrize("job_gone", [False, True])
def test_a_hook_of_which_nothing_can_be_read_ends_with_its_time(*, job_gone: bool) -> None:
    """Not before: it may freeze yet. Then it is given up, in the words of who refused."""
    unread = Executor(hook_of(SESSION, age_s=1315), unreadable="Forbidden: no right")
    assert found(unread) == Busy(5, "what became of its pod cannot be read: Forbidden: no right")
    late = Executor(hook_of(SESSION, age_s=1321), unreadable="Forbidden: no right")
    text = (
        "HookTimedOut: its Job did not end in time (17m0s); what became of its pod cannot be read: "
        "Forbidden: no right"
    )
    assert found(late) == Over(text, is_recorded=False)
    assert found(late, repeats=True) == Lost(text, tries=1)
    lost = Executor(job_gone=job_gone, unreadable="Forbidden: no right")
    assert isinstance(found(lost), Busy)
    state = found(lost, hook_entry("Pre", "Unknown", age_s=1321))
    assert isinstance(state, Over)
    assert state.failure.startswith("HookTimedOut")


def test_time_is_counted_from_the_job_that_there_is() -> None:
    """The condition is Unknown since the first one was refused, or made: that may be hours ago."""
    entry = hook_entry("Post", "Unknown", reason="HookStartedAgain2", age_s=7000)
    fresh = Executor(hook_of(SESSION, "post", age_s=30), pod(running(), of=JOB))
    usual: dict[str, Any] = {"now": NOW, "limits": Limits(), "timeout_s": 300, "repeats": True}
    assert progress(POST_BACKUP, [entry], fresh, **usual) == Busy(1320 - 30, told="")


def test_a_job_says_itself_how_long_it_may_take() -> None:
    """Its configuration is gone, or allows less by now: its hook runs all the same."""
    made = {**hook_of(SESSION, age_s=2000), "spec": {"activeDeadlineSeconds": 3600 + 120}}
    runs, entry = Executor(made, pod(running(), of=made)), hook_entry("Pre", "Unknown", age_s=2000)
    assert found(runs, entry) == Busy(3600 + 120 + 300 - 2000, told="")
    old = hook_of(SESSION, age_s=6 * 3600 + 600 + 421)
    endless = {**old, "spec": {"activeDeadlineSeconds": 10**9}}
    state = found(Executor(endless))
    assert isinstance(state, Over)
    assert "6h12m0s" in state.failure


def test_a_pod_that_does_not_start_is_left_to_the_jobs_own_deadline() -> None:
    """It comes a while later, and what ends the Job for good keeps the hook from beginning late."""
    job = hook_of(SESSION, age_s=650)
    pending = pod(phase="Pending", conditions=(UNSCHEDULABLE,), of=job, age_s=650)
    state = found(Executor(job, pending), hook_entry("Pre", "Unknown", age_s=650))
    assert isinstance(state, Busy)
    assert "Insufficient memory" in state.words
    assert state.told == state.words


GONE = Executor(job_gone=True, pods_gone=True)
INTERRUPTED = encode(
    RunReport(hosts=(HostReport("db", succeeded=False, reason="Interrupted", error="stopped"),)),
    4096,
)
UNHEARD = encode(
    RunReport(hosts=(HostReport("db", succeeded=False, reason="HookLost", error="cut off"),)), 4096
)
REJECTED = {**pod(phase="Failed", of=JOB), "status": {"phase": "Failed", "reason": "OutOfcpu"}}
FAILED = {**JOB, "status": {"conditions": job_failed()}}
LOSSES: list[tuple[str, Executor, str]] = [
    ("deleted", GONE, "JobDeleted"),
    ("deleted, its pod ended", replace(ended_job(JOB, "", code=137), job=None), "137"),
    ("never started", replace(GONE, job={**JOB, "status": {"conditions": job_failed(
        "DeadlineExceeded")}}, job_gone=False), "DeadlineExceeded"),
    ("rejected by the kubelet", Executor(FAILED, REJECTED), "OutOfcpu"),
    ("told to stop", Executor(FAILED, pod(terminated(130, INTERRUPTED), phase="Failed", of=JOB)),
     "Interrupted: stopped"),
    ("without an answer of the application", ended_job(JOB, UNHEARD, code=1), "HookLost: cut off"),
    ("disrupted", Executor(FAILED, pod(
        terminated(137), phase="Failed", conditions=(DISRUPTED,), of=JOB)), "137"),
]  # fmt: skip


@pytest.mark.parametrize(("executor", "text"), [e[1:] for e in LOSSES], ids=[e[0] for e in LOSSES])
def test_what_a_lost_hook_did_is_not_known(executor: Executor, text: str) -> None:
    """One that may run again is lost; for the other one that is the end, and a failure."""
    state = found(executor)
    assert isinstance(state, Over)
    assert text in state.failure
    for reason, tries in (("HookStarted", 1), ("HookStartedAgain2", 2), ("HookStartedAgain", 1)):
        entry = hook_entry("Pre", "Unknown", reason=reason)
        assert found(executor, entry, repeats=True) == Lost(state.failure, tries)


def test_the_hooks_own_word_is_the_end() -> None:
    """It ran, and says how it went: it does not run again."""
    for executor in (ENDS[0][1], ENDS[1][1], ENDS[2][1]):
        assert found(executor, repeats=True) == found(executor)


def test_a_pod_that_its_job_replaces_is_no_end() -> None:
    """While its Job has not failed; a hook that must not run again has no such Job."""
    killed = Executor(JOB, pod(terminated(137), phase="Failed", of=JOB))
    assert isinstance(found(killed, repeats=True), Busy)
    assert isinstance(found(killed), Over)


def test_the_pod_of_a_deleted_job_must_have_ended() -> None:
    """It may still freeze what the other hook thawed; one that never ends is waited for a while."""
    lives = Executor(job_gone=True)
    for repeats in (False, True):
        assert found(lives, repeats=repeats) == Busy(
            10.0, "its Job was deleted, its pod has not ended"
        )
    late = hook_entry("Pre", "Unknown", age_s=1321)
    assert isinstance(found(lives, late), Over)
    assert isinstance(found(lives, late, repeats=True), Lost)


def test_what_the_pod_of_a_deleted_job_says_is_not_the_end() -> None:
    """It was told to stop: the hook runs again, once its Job is gone and the name is free."""
    told = ended_job(JOB, INTERRUPTED, code=130)
    assert told.job is not None
    metadata = {**told.job["metadata"], "deletionTimestamp": "2024-01-01T00:00:00Z"}
    deleting = replace(told, job={**told.job, "metadata": metadata})
    assert isinstance(found(deleting, repeats=True), Busy)
    failed = replace(told, job={**FAILED, "metadata": metadata})
    assert found(failed, repeats=True) == Busy(300, "its Job is being deleted")
    old = {**metadata, "creationTimestamp": before(1321)}
    stuck = replace(told, job={**told.job, "metadata": old})
    assert isinstance(found(stuck, repeats=True), Over)
    assert isinstance(found(Executor(pod=told.pod, job_gone=True), repeats=True), Lost)
    well = ended_job(JOB, hook_report())
    assert found(Executor(pod=well.pod, job_gone=True), repeats=True) == Over(is_recorded=False)


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
    assert started(PRE_BACKUP).message == "Executing preBackup hook."
    assert started(POST_BACKUP, tries=3).reason == "HookStartedAgain3"
    assert (refused(POST_BACKUP, "full").status, refused(POST_BACKUP, "full").reason) == (
        None,
        "HookRefused",
    )
    assert refused(POST_BACKUP, "full", tries=2).reason == "HookRefused2"
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
