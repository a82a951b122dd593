"""The verdict on a Job: each shape that a kubelet and a Job controller produce."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controller.api.objects import Obj
from controller.api.report_encoding import encode
from controller.reconcile.execution import MAX_DISRUPTIONS, ORPHANED, verdict
from controller.reconcile.observed import Executor, Limits
from controller.reconcile.pod_start import REPLACED
from controller.reconcile.verdicts import Died, Ended, Running, Verdict, Waiting
from tests.support.builders import (
    DISRUPTED,
    NOW,
    UNSCHEDULABLE,
    before,
    failed_host,
    job,
    job_complete,
    job_failed,
    pod,
    report,
    reported,
    running,
    session,
    terminated,
    waiting,
)

LIMITS = Limits(start_s=600, quiet_pod_s=5)
JOB = job(session())
OLD_JOB = job(session(), age_s=7200)
FAILED_JOB = job(session(), conditions=job_failed())


def see(
    pod_: Obj | None = None,
    job_: Obj | None = JOB,
    *,
    awaited_s: float | None = None,
    disruptions: int = 0,
    time_out_s: float | None = None,
    **fields: object,
) -> Verdict:
    """Return the verdict on an executor."""
    seen = replace(Executor(job_, pod_), **fields)  # type: ignore[arg-type] # its own fields
    since = None if awaited_s is None else NOW - timedelta(seconds=awaited_s)
    return verdict(
        seen,
        now=NOW,
        limits=LIMITS,
        awaited_since=since,
        disruptions=disruptions,
        time_out_s=time_out_s,
    )


def died(found: Verdict) -> Died:
    """Return the verdict as the death that it has to be."""
    assert isinstance(found, Died), found
    return found


def test_a_job_without_a_pod_is_left_alone_at_first() -> None:
    """Within 5 s nothing is asked: the pod is about to appear."""
    found = see(job_=job(session(), age_s=1))
    assert isinstance(found, Waiting)
    assert 0 < found.requeue_after_s <= 4.2
    assert not found.replaced


def test_a_quota_that_refuses_the_pod_is_quoted() -> None:
    """A pod that cannot even be created shows only in Events: their words are passed on."""
    words = ('Error creating: pods "x" is forbidden: exceeded quota: small',)
    found = see(job_=job(session(), age_s=20), words=words)
    assert found == Waiting(30.0, words[0], lasting=True)
    late = died(see(job_=job(session(), age_s=600), words=words))
    assert late.reason == "PodNotStarted"
    assert late.message == f"its pod did not start within 10m0s: {words[0]}"
    assert (late.end_job, late.release_lock) == (True, False)


@pytest.mark.parametrize(
    ("waits", "said"),
    [
        (
            pod(phase="Pending", conditions=(UNSCHEDULABLE,), age_s=700),
            "Unschedulable: 0/3 nodes are available: 3 Insufficient memory.",
        ),
        (
            pod(
                waiting("ImagePullBackOff", 'Back-off pulling image "drey:9"'),
                phase="Pending",
                age_s=700,
            ),
            'container pvc-backup-0: ImagePullBackOff Back-off pulling image "drey:9"',
        ),
        (
            pod(
                waiting("CreateContainerConfigError", 'secret "s3-secret" not found'),
                phase="Pending",
                age_s=700,
            ),
            'container pvc-backup-0: CreateContainerConfigError secret "s3-secret" not found',
        ),
        (
            pod(
                waiting("PodInitializing"),
                init=(waiting("ErrImagePull", "no such host", name="dump-0"),),
                phase="Pending",
                age_s=700,
            ),
            "container dump-0: ErrImagePull no such host",
        ),
    ],
    ids=["unschedulable", "image", "config", "init-image"],
)
def test_a_pod_that_does_not_start_fails_in_the_words_of_who_refuses_it(
    waits: Obj, said: str
) -> None:
    """After 10 min the scheduler's or kubelet's own words end the session, and the Job goes."""
    late = died(see(waits, job(session(), age_s=701)))
    assert (late.reason, late.end_job, late.release_lock) == ("PodNotStarted", True, False)
    assert late.message == f"its pod did not start within 10m0s: {said}"


@pytest.mark.parametrize(("age_s", "requeue_s", "lasting"), [(3, 7.0, False), (10, 590.0, True)])
def test_a_young_pod_is_waited_for_with_words(
    age_s: float, requeue_s: float, *, lasting: bool
) -> None:
    """What a pod waits for is logged at once; after 10 s it is worth a write."""
    young = pod(waiting("ErrImagePull", "no such host"), phase="Pending", age_s=age_s)
    assert see(young, job(session(), age_s=20)) == Waiting(
        requeue_s, "container pvc-backup-0: ErrImagePull no such host", lasting=lasting
    )


@pytest.mark.parametrize(
    ("late_s", "verdict_"),
    [(-200, Running(500.0)), (0, Running(300.0)), (299, Running(1.0)), (300, "PodLost")],
)
def test_a_pod_that_nobody_ends_is_lost_in_the_end(late_s: float, verdict_: object) -> None:
    """The kubelet of a dead node confirms nothing: 5 min after the pod was to be gone it is lost.

    The lock stays: the pod may be alive behind a broken network.
    """
    stuck = pod(running(), conditions=(DISRUPTED,))
    stuck["metadata"]["deletionTimestamp"] = before(late_s)
    found = see(stuck, OLD_JOB)
    if isinstance(verdict_, Running):
        assert found == verdict_
        return
    lost = died(found)
    assert (lost.reason, lost.end_job, lost.release_lock, lost.deadline) == (
        verdict_,
        True,
        False,
        False,
    )
    assert "if node node-1 is dead, delete its Node object" in lost.message
    assert "30 minutes after its last sign of life" in lost.message


@pytest.mark.parametrize(
    ("age_s", "verdict_"),
    [(60, Running(1740.0)), (1799, Running(1.0)), (1800, "DeadlineExceeded")],
)
def test_a_run_ends_20_min_after_its_time(age_s: float, verdict_: object) -> None:
    """Its runner keeps the time, then activeDeadlineSeconds does; neither can on a dead node."""
    found = see(pod(running()), job(session(), age_s=age_s), time_out_s=600.0)
    if isinstance(verdict_, Running):
        assert found == verdict_
        return
    lost = died(found)
    assert (lost.reason, lost.end_job, lost.release_lock, lost.deadline) == (
        verdict_,
        True,
        False,
        True,
    )


def test_the_earlier_end_counts() -> None:
    """A pod that is deleted in the middle of a long run."""
    stuck = pod(running())
    stuck["metadata"]["deletionTimestamp"] = before(0)
    assert see(stuck, JOB, time_out_s=36_000.0) == Running(300.0)


def test_the_lock_of_a_deleted_job_goes_only_with_its_pod() -> None:
    """Deleting a Job stops its pod, which releases its lock itself, if it still can (D8)."""
    for gone in (False, True):
        assert died(see(None, None, job_gone=True, pods_gone=gone)).release_lock is gone


def test_the_lock_of_a_pod_that_was_removed_goes() -> None:
    """It failed, so it may have left one; a Job that ended has no live pod."""
    assert died(see(None, FAILED_JOB, pods_gone=True)).release_lock
    complete = job(session(), conditions=job_complete())
    assert not died(see(None, complete, pods_gone=True)).release_lock
    never = pod(waiting("ErrImagePull"), phase="Pending")
    assert not died(see(never, FAILED_JOB)).release_lock


def test_creating_containers_needs_no_words() -> None:
    """The usual way to a start is no news."""
    assert see(pod(waiting("ContainerCreating"), phase="Pending", age_s=1)) == Waiting(599.0)


@pytest.mark.parametrize(
    "alive",
    [
        pod(running()),
        pod(waiting("PodInitializing"), init=(running("dump-0"),), phase="Pending"),
        pod(running(), conditions=(DISRUPTED,)),
        pod({"name": "pvc-backup-0", "state": {"running": {}}}),
    ],
    ids=["main", "init", "being-evicted", "no-start-time"],
)
@pytest.mark.parametrize("owner", [JOB, OLD_JOB])
def test_a_running_container_is_waited_for_without_end(alive: Obj, owner: Obj) -> None:
    """While a container runs there is nothing to ask, however long it takes."""
    assert see(alive, owner) == Running()


def test_between_two_steps_the_time_to_start_begins_anew() -> None:
    """A step of two hours does not make its successor late: it has 10 min of its own."""
    between = pod(
        waiting("PodInitializing"),
        init=(terminated(name="dump-0", ago_s=3),),
        phase="Pending",
        age_s=7200,
    )
    assert see(between, OLD_JOB) == Waiting(597.0)
    stuck = pod(
        waiting("ImagePullBackOff", "no"),
        init=(terminated(name="dump-0", ago_s=601),),
        phase="Pending",
        age_s=7200,
    )
    assert died(see(stuck, OLD_JOB)).reason == "PodNotStarted"


def test_a_report_is_believed_as_soon_as_the_container_ended() -> None:
    """The pod says it first: neither its phase nor the Job has to follow."""
    text = encode(report(), 12_288)
    assert see(pod(terminated(0, text))) == Ended(report())
    assert see(reported(), FAILED_JOB) == Ended(report())
    assert see(reported(), None, job_gone=True) == Ended(report())


def test_a_report_with_an_exit_code_is_the_report() -> None:
    """The runner exits 1 when it reports a failure: the reason in the report counts."""
    sad = report(failed_host())
    assert see(reported(sad, code=1), FAILED_JOB) == Ended(sad)


def test_an_injected_proxy_does_not_hide_the_report() -> None:
    """Statuses are sorted by name: a sidecar may come first, and may never end."""
    text = encode(report(), 12_288)
    found = see(pod(running("a-proxy"), terminated(0, text), running("zz")))
    assert found == Ended(report(), end_job=True)


def with_steps(found: Obj, *steps: str) -> Obj:
    """Return a pod that tells which of its containers are ours."""
    metadata = {**found["metadata"], "annotations": {"drey.dev/steps": ",".join(steps)}}
    return {**found, "metadata": metadata}


def test_what_was_injected_does_not_hide_a_death() -> None:
    """A proxy runs on, and the pod with it: it is stopped, or nothing would ever end."""
    dead = terminated(137, reason="OOMKilled")
    found = died(see(with_steps(pod(running("a-proxy"), dead), "pvc-backup-0")))
    assert found.reason == "OOMKilled"
    assert (found.end_job, found.release_lock) == (True, True)
    alone = died(see(with_steps(pod(dead, phase="Failed"), "pvc-backup-0")))
    assert (alone.end_job, alone.release_lock) == (False, True)
    lost = died(see(with_steps(pod(running("a-proxy"), terminated()), "pvc-backup-0")))
    assert (lost.reason, lost.end_job) == ("ReportLost", True)


def test_what_was_injected_is_no_run_of_ours() -> None:
    """A native sidecar runs before us; ten minutes are what our own container has to start."""
    stuck = pod(
        waiting("ImagePullBackOff", "no such image"),
        init=(running("a-sidecar"),),
        phase="Pending",
        age_s=700,
    )
    found = died(see(with_steps(stuck, "pvc-backup-0"), OLD_JOB))
    assert (found.reason, found.end_job, found.release_lock) == ("PodNotStarted", True, False)
    assert "ImagePullBackOff" in found.message


def test_what_was_injected_and_has_ended_is_not_our_end() -> None:
    """We run on."""
    early = pod(terminated(0, name="a-check"), running("pvc-backup-0"))
    assert isinstance(see(with_steps(early, "dump-0", "pvc-backup-0")), Running)


def test_oom_names_the_limit_to_raise() -> None:
    """A container killed for its memory leaves no report: say so, with the remedy."""
    killed = pod(terminated(137, reason="OOMKilled"), phase="Failed")
    for owner in (JOB, FAILED_JOB):
        found = died(see(killed, owner))
        assert found.reason == "OOMKilled"
        assert "container pvc-backup-0 was OOMKilled (exit code 137)" in found.message
        assert "spec.runtimeSettings.container.resources.limits.memory" in found.message
        assert found.release_lock
        assert not found.end_job


def test_an_exit_without_a_report_shows_what_was_said() -> None:
    """Exit code and termination message, or where to look for more."""
    said = died(see(pod(terminated(2, "usage: runner"), phase="Failed"), FAILED_JOB))
    assert (said.reason, said.message) == (
        "PodFailed",
        "container pvc-backup-0 exited with code 2: usage: runner",
    )
    mute = died(see(pod(terminated(2), phase="Failed"), FAILED_JOB))
    assert "see kubectl logs stash-backup-nightly-1-0-x7k2p" in mute.message


def test_a_failing_init_container_is_named() -> None:
    """A third party's step that fails ends the session with its name, code and words."""
    broken = pod(
        waiting("PodInitializing"),
        init=(terminated(3, "cannot dump", name="dump-0"), waiting("PodInitializing", name="b-1")),
        phase="Failed",
    )
    found = died(see(broken, FAILED_JOB))
    assert found.message == "container dump-0 exited with code 3: cannot dump"
    assert found.release_lock


def test_exit_0_without_a_report_is_no_success() -> None:
    """Success is proven by a report: a container that says nothing has lost it."""
    for text in ("", "all done", '{"schema":2}', '{"schema":1,"hosts":7}'):
        found = died(see(pod(terminated(0, text), phase="Succeeded")))
        assert found.reason == "ReportLost"
        assert "container pvc-backup-0 ended without a usable report" in found.message


def test_a_pod_that_the_kubelet_refused_has_its_words() -> None:
    """OutOfcpu and its like leave no container: reason and message are the pod's own."""
    refused = pod(phase="Failed", reason="OutOfcpu", message="Node didn't have enough cpu")
    found = died(see(refused, FAILED_JOB))
    assert (found.reason, found.message) == ("OutOfcpu", "Node didn't have enough cpu")
    assert not found.release_lock, "no process of ours ran: there is no lock"


def test_an_active_deadline_is_a_deadline() -> None:
    """ActiveDeadlineSeconds of the pod or of the Job is told as such."""
    expired = pod(terminated(137), phase="Failed", reason="DeadlineExceeded")
    for found in (
        died(see(expired)),
        died(see(None, job(session(), conditions=job_failed("DeadlineExceeded")))),
    ):
        assert (found.reason, found.deadline) == ("DeadlineExceeded", True)


EVICTED = pod(
    terminated(137),
    phase="Failed",
    reason="Evicted",
    message="low on memory",
    conditions=(DISRUPTED,),
)


def test_a_disrupted_pod_is_replaced() -> None:
    """The Job ignores disruptions: the session waits for the next pod, however old the Job is."""
    assert see(EVICTED, OLD_JOB) == Waiting(60.0, REPLACED, replaced=True)
    mid_way = pod(
        terminated(130, encode(report(failed_host("Interrupted")), 12_288)), conditions=(DISRUPTED,)
    )
    assert see(mid_way, OLD_JOB) == Waiting(60.0, REPLACED, replaced=True)


def test_a_disrupted_pod_that_ended_well_counts() -> None:
    """A pod that finished while it was being evicted is counted by its Job: so is its report."""
    text = encode(report(), 12_288)
    done = pod(terminated(0, text), phase="Succeeded", conditions=(DISRUPTED,))
    assert see(done) == Ended(report())


def test_a_disruption_that_the_job_counted_is_the_end() -> None:
    """When the Job failed all the same, the session does too."""
    assert died(see(EVICTED, FAILED_JOB)).reason == "Evicted"
    assert died(see(EVICTED, None, job_gone=True)).reason == "Evicted"


def test_the_successor_of_a_disrupted_pod_has_its_own_time() -> None:
    """A replacement is late 10 min after its own start, not after the Job's."""
    fresh = pod(waiting("ContainerCreating"), phase="Pending", age_s=30)
    assert see(fresh, OLD_JOB, awaited_s=60) == Waiting(570.0)
    assert see(None, OLD_JOB) == Waiting(30.0, REPLACED, replaced=True)
    assert see(None, OLD_JOB, awaited_s=60) == Waiting(30.0)
    assert see(EVICTED, OLD_JOB, awaited_s=60) == Waiting(600.0)


def test_a_successor_that_never_comes_is_missed_in_the_end() -> None:
    """Every wait has a deadline, also the one for a replacement."""
    found = died(see(None, OLD_JOB, awaited_s=600))
    assert (found.reason, found.end_job) == ("PodNotStarted", True)


@pytest.mark.parametrize("lost", [EVICTED, None], ids=["evicted", "gone"])
def test_a_job_does_not_go_on_through_disruptions_without_end(lost: Obj | None) -> None:
    """One that is evicted each time runs for ever, and keeps all later sessions from running.

    Its Job may have another pod by now, which is stopped and releases its lock itself.
    """
    last = MAX_DISRUPTIONS - 1
    assert see(lost, OLD_JOB, disruptions=last - 1) == see(lost, OLD_JOB)
    found = died(see(lost, OLD_JOB, disruptions=last))
    assert (found.reason, found.end_job, found.release_lock) == ("PodDisrupted", True, False)
    assert found.message.startswith("5 pods of its Job were lost to disruptions")
    assert "requests.memory" in found.message
    assert ("low on memory" in found.message) is (lost is not None)
    # a pod that runs, and one that reports, are no disruptions
    assert see(pod(running()), OLD_JOB, disruptions=last) == Running()
    assert see(reported(), OLD_JOB, disruptions=last) == Ended(report())


def test_pods_that_are_lost_before_they_run_are_not_awaited_for_ever() -> None:
    """Each of them would have its own time to start."""
    fresh = pod(waiting("ContainerCreating"), phase="Pending", age_s=30)
    assert see(fresh, OLD_JOB, awaited_s=2999) == Waiting(570.0)
    found = died(see(fresh, OLD_JOB, awaited_s=3000))
    assert (found.reason, found.end_job) == ("PodDisrupted", True)
    assert found.message.startswith("for 50m0s its pods were lost before any of them ran")


def test_a_job_that_creates_is_ended_by_its_own_deadline() -> None:
    """What it is killed by are not disruptions alone."""
    found = verdict(
        Executor(JOB, EVICTED), now=NOW, limits=LIMITS, replaces=True, disruptions=MAX_DISRUPTIONS
    )
    assert found == Waiting(60.0, REPLACED, replaced=True)


def test_a_deleted_job_is_the_end() -> None:
    """A Job deleted by hand cannot report; that it is gone was read live."""
    found = died(see(None, None, job_gone=True))
    assert (found.reason, found.message) == (
        "JobDeleted",
        "its Job was deleted before it reported",
    )


@pytest.mark.parametrize(
    ("deleted_s", "age_s", "time_out_s", "waits_s"),
    [
        (None, 60, None, 5.0),
        (None, 3897, None, 3.0),
        (None, 3900, None, None),
        (None, 1499, 600.0, 1.0),
        (None, 1500, 600.0, None),
        (-30, 60, None, 5.0),
        (299, 5000, None, 1.0),
        (300, 60, None, None),
    ],
)
def test_a_pod_that_outlives_a_job_that_creates_is_waited_for(
    deleted_s: float | None, age_s: float, time_out_s: float | None, waits_s: float | None
) -> None:
    """It may still create what would be said not to exist; but not for ever.

    One that was told to stop has its grace, and the time after which a node is given up.
    """
    alive = pod(running(), age_s=age_s)
    if deleted_s is not None:
        alive["metadata"]["deletionTimestamp"] = before(deleted_s)
    left = Executor(job_gone=True, survivor=alive)
    found = verdict(left, now=NOW, limits=LIMITS, time_out_s=time_out_s, replaces=True)
    if waits_s is None:
        assert died(found).reason == "JobDeleted"
    else:
        assert found == Waiting(waits_s, ORPHANED)
    # one with a repository is dead at once: nothing that it still does is believed
    assert died(see(None, None, job_gone=True, survivor=alive)).reason == "JobDeleted"


def test_only_what_locks_speaks_of_a_lock() -> None:
    """Nobody has to look for a repository that a restore from VolumeSnapshots does not have."""
    stuck = pod(running())
    stuck["metadata"]["deletionTimestamp"] = before(300)
    for replaces in (False, True):
        found = verdict(Executor(JOB, stuck), now=NOW, limits=LIMITS, replaces=replaces)
        assert ("lock" in died(found).message) is not replaces


def test_nothing_is_concluded_from_a_cache_that_may_lag() -> None:
    """Without a live answer that it is gone, a missing Job is waited for."""
    assert isinstance(see(None, None), Waiting)


@pytest.mark.parametrize(
    ("job_", "fields"),
    [
        (None, {"job_gone": True}),
        (None, {}),
        (JOB, {}),
        (OLD_JOB, {}),
        (OLD_JOB, {"words": ("exceeded quota",)}),
        (job(session(), conditions=job_complete()), {}),
        (FAILED_JOB, {}),
    ],
    ids=["gone", "unknown", "young", "old", "old, with words", "complete", "failed"],
)
def test_nothing_is_concluded_from_what_cannot_be_read(
    job_: Obj | None, fields: dict[str, Any]
) -> None:
    """Neither that a Job is dead nor that its pod is lost; it is asked again soon."""
    found = see(None, job_, unreadable="Forbidden: no right", **fields)
    words = "what became of its pod cannot be read: Forbidden: no right"
    assert found == Waiting(10.0, words)


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        (job_complete(), "its pod was removed before its report could be read"),
        (job_failed(), "its pod failed and was removed before its report could be read"),
    ],
)
def test_a_pod_that_was_removed_took_its_report_along(conditions: list[Obj], said: str) -> None:
    """A Job that ended, with its pod gone by a live read, has lost the report."""
    found = died(see(None, job(session(), conditions=conditions), pods_gone=True))
    assert (found.reason, found.message) == ("ReportLost", said)


def test_a_complete_job_whose_pod_is_still_cached_as_running_waits_for_its_event() -> None:
    """The caches of Jobs and pods are not ordered: the pod's own end comes with its report."""
    assert see(pod(running()), job(session(), conditions=job_complete())) == Running()


def test_texts_from_pods_are_cut() -> None:
    """A third party's message cannot blow up the status."""
    found = died(see(pod(terminated(1, "x" * 4000), phase="Failed")))
    assert len(found.message) == 1024


@pytest.mark.parametrize(("code", "text"), [(137, ""), (130, "interrupted"), (2, ""), (255, "")])
def test_a_job_that_replaces_killed_pods_is_waited_for(code: int, text: str) -> None:
    """Whatever the pod says of its own end, until the Job is Failed."""
    said = encode(report(failed_host("Interrupted", text)), 12_288) if text else ""
    killed = pod(terminated(code, said), phase="Failed")
    found = verdict(Executor(JOB, killed), now=NOW, limits=LIMITS, replaces=True)
    assert found == Waiting(60.0, REPLACED, replaced=True)
    assert not isinstance(see(killed), Waiting)
    over = verdict(Executor(FAILED_JOB, killed), now=NOW, limits=LIMITS, replaces=True)
    assert isinstance(over, Ended if text else Died)


def test_a_pod_that_reported_is_not_replaced() -> None:
    """Exit code 1: the Job fails with it."""
    said = reported(report(failed_host()), code=1)
    found = verdict(Executor(JOB, said), now=NOW, limits=LIMITS, replaces=True)
    assert isinstance(found, Ended)
    well = verdict(Executor(JOB, reported()), now=NOW, limits=LIMITS, replaces=True)
    assert isinstance(well, Ended)
