"""BackupSessions with VolumeSnapshots: each step, and each fault that concerns the planner."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from controller.api.creation import QUIESCED_UNTIL, CreationInput
from controller.api.job_input import ENVIRONMENT_VARIABLE
from controller.api.objects import Obj, annotations_of, name_of
from controller.api.report import HostReport
from controller.api.resources import BACKUP_SESSION, JOB, ROLE_BINDING, SERVICE_ACCOUNT
from controller.plan import CreateOnce, Delete, Finalizer, Plan, Ref, Refusal, SetStatus
from controller.reconcile import session as dispatch
from controller.reconcile.observed import Executor
from controller.reconcile.owed_hook import owed_hook, release
from controller.reconcile.snapshot_observed import Reading, SnapshotSessionObserved
from controller.reconcile.snapshot_session import needs_reading, plan
from tests.support.builders import (
    NOW,
    UNSCHEDULABLE,
    before,
    configuration,
    job_failed,
    pod,
    running,
    session,
    session_observed,
    terminated,
)
from tests.support.snapshot_sessions import (
    CLAIMS,
    ENSURED,
    all_ready,
    begun,
    bound_claim,
    conditions_in,
    created,
    creation_job,
    ended_job,
    failed_entry,
    hook_entry,
    hook_of,
    hook_report,
    hooks,
    observed,
    owing,
    post_job,
    reading,
    refused,
    snapshot_spec,
    status_in,
    target_in,
    volume_snapshot,
    workload,
)

HELD = {"finalizers": ["drey.dev/post-hook"]}
HOOKED = snapshot_spec(hooks=hooks())
RUN = begun()
GOOD = ended_job(creation_job(RUN))
FORBIDDEN = "exceeded quota: count/jobs.batch"


def planned(raw: Obj | None = None, **fields: Any) -> Plan:
    """Return the plan for a session."""
    return plan(observed(raw, **fields), NOW)


def run(**fields: Any) -> Plan:
    """Return the plan for a session whose Job was created."""
    return planned(RUN, **{"executor": GOOD, "snapshots": all_ready(), "reading": None, **fields})


def deleted(plan: Plan) -> list[str]:
    """Return what a plan deletes."""
    return [f"{w.ref.resource} {w.ref.name}" for w in plan.writes if isinstance(w, Delete)]


def errors(plan: Plan) -> dict[str, str]:
    """Return the error of each host that failed, by name."""
    return {e["hostname"]: e["error"] for e in target_in(plan)["stats"] if e.get("error")}


# the start


def test_a_session_gets_its_job_and_says_so() -> None:
    """Two writes, in that order; the claims are hosts that are waited for."""
    made = planned()
    assert [type(write) for write in made.writes] == [CreateOnce, SetStatus]
    assert created(made) == ["stash-vs-nightly-1"]
    target = target_in(made)
    assert status_in(made)["phase"] == target["phase"] == "Running"
    assert target["totalHosts"] == 3
    assert target["stats"] == [{"hostname": claim} for claim in CLAIMS]
    assert "preBackupActions" not in target
    assert conditions_in(target["conditions"])["BackupExecutorEnsured"][0] == "True"
    assert made.facts == {
        "step": "job_created",
        "job": "stash-vs-nightly-1",
        "claims": 3,
        "session_created": "2026-11-22T03:00:00Z",
    }


@pytest.mark.parametrize(("time_out", "lasts_s"), [("10m", 600 + 900), ("", 7200)])
def test_its_job_lasts_as_long_as_the_session_may(time_out: str, lasts_s: int) -> None:
    """A backstop: 15 min more than `timeOut`; also of the one that comes after a hook."""
    spec = snapshot_spec(**({"timeOut": time_out} if time_out else {}))
    hooked = {**spec, "hooks": hooks()}
    for made in (planned(spec=spec), planned(FROZEN, spec=hooked)):
        (job,) = (w.body for w in made.writes if isinstance(w, CreateOnce))
        assert name_of(job) == "stash-vs-nightly-1"
        assert job["spec"]["activeDeadlineSeconds"] == lasts_s


def test_volumes_that_are_no_claims_are_named() -> None:
    """They are left alone."""
    target = workload({"name": "cache", "emptyDir": {}}, {"name": "cm", "configMap": {}})
    made = planned(reading=reading(target=target))
    text = conditions_in(status_in(made)["conditions"])["VolumesLeftOut"][2]
    assert "cache (emptyDir), cm (configMap)" in text


@pytest.mark.parametrize(
    ("claim", "error"),
    [
        (None, "ClaimMissing: PersistentVolumeClaim demo/data-db-1 does not exist"),
        (bound_claim(CLAIMS[1], "Pending"), "ClaimNotBound: PersistentVolumeClaim demo/data-db-1"),
        (bound_claim(CLAIMS[1], "Lost"), "is Lost"),
        (bound_claim(CLAIMS[1], deletionTimestamp=before(1)), "ClaimMissing: "),
    ],
)
def test_a_claim_that_is_no_source_fails_alone(claim: Obj | None, error: str) -> None:
    """The others are snapshotted; it stays a host."""
    claims = {name: found for name, found in reading().claims.items() if name != CLAIMS[1]}
    if claim is not None:
        claims[CLAIMS[1]] = claim
    made = planned(reading=reading(claims=claims))
    assert created(made) == ["stash-vs-nightly-1"]
    (job,) = (w.body for w in made.writes if isinstance(w, CreateOnce))
    assert f"{CLAIMS[1]}-" not in str(job)
    assert target_in(made)["totalHosts"] == 3
    assert list(errors(made)) == [CLAIMS[1]]
    assert error in errors(made)[CLAIMS[1]]


START_FAILS: list[tuple[str, Reading, str]] = [
    ("no target", Reading(), "Backup target StatefulSet demo/db does not exist"),
    ("no claims", reading(target=workload(replicas=0)), "StatefulSet demo/db has 0 replicas"),
    ("no claim exists", reading(claims={}), "none of its claims can be snapshotted"),
]


@pytest.mark.parametrize(("seen", "text"), [s[1:] for s in START_FAILS], ids=lambda s: str(s)[:20])
def test_nothing_to_snapshot_is_a_failure_that_says_so(seen: Reading, text: str) -> None:
    """No Job, no hook; the error is in the condition, in the Event and in the log."""
    for spec in (snapshot_spec(), HOOKED):
        made = planned(reading=seen, spec=spec)
        assert created(made) == []
        assert status_in(made)["phase"] == "Failed"
        ensured = conditions_in(target_in(made)["conditions"])["BackupExecutorEnsured"]
        assert ensured[0] == "False"
        assert text in ensured[2]
        assert text in made.notes[0].message
        assert text in made.facts["error"]


def test_a_workload_without_any_claim_says_so() -> None:
    """A Deployment with an emptyDir only."""
    target = workload({"name": "cache", "emptyDir": {}})
    target["spec"]["volumeClaimTemplates"] = []
    made = planned(reading=reading(target=target))
    assert "StatefulSet demo/db has no PersistentVolumeClaim" in made.facts["error"]


@pytest.mark.parametrize(
    ("fields", "phase"),
    [
        ({"configuration": None}, "Skipped"),
        ({"configuration": configuration(spec=snapshot_spec(), status={"phase": "NotReady"})}, ""),
        ({"siblings": (session("nightly-0", age_s=9, status={"phase": "Running"}),)}, "Skipped"),
    ],
)
def test_the_start_checks_are_those_of_every_session(fields: dict[str, Any], phase: str) -> None:
    """Skipped like one with restic; a configuration that is not reconciled yet is waited for."""
    made = planned(**fields)
    if not phase:
        assert (made.writes, made.requeue_after_s) == ((), 60.0)
        return
    assert status_in(made)["phase"] == phase
    assert [note.reason for note in made.notes] == ["BackupSessionSkipped"]
    assert made.pushes == ()


@pytest.mark.parametrize(
    ("finalizers", "phase"), [(["drey.dev/post-hook"], "Skipped"), (["other.io/x"], "Running")]
)
def test_one_that_still_owes_a_post_hook_comes_first(finalizers: list[str], phase: str) -> None:
    """It is being deleted; its hook would thaw what this one snapshots."""
    metadata = {"finalizers": finalizers, "deletionTimestamp": before(1)}
    other = session("nightly-0", age_s=9, status={"phase": "Running"}, metadata=metadata)
    assert status_in(planned(siblings=(other,)))["phase"] == phase


def test_a_refused_job_fails_the_session() -> None:
    """With the words of who refused it."""
    (write, _) = planned().writes
    made = planned(refusal=Refusal(write, "Forbidden", FORBIDDEN))
    assert status_in(made)["phase"] == "Failed"
    assert FORBIDDEN in made.facts["error"]
    assert created(made) == []


def test_a_job_that_a_crash_hid_is_recorded() -> None:
    """It is not created again; its claims are read again."""
    new = session(age_s=5)
    made = planned(new, executor=Executor(creation_job(new)))
    assert [type(write) for write in made.writes] == [SetStatus]
    assert target_in(made)["stats"] == [{"hostname": claim} for claim in CLAIMS]
    gone = planned(new, executor=Executor(creation_job(new)), configuration=None, reading=None)
    assert status_in(gone)["phase"] == "Running"


def test_the_claims_of_a_job_that_a_crash_hid_are_those_that_it_was_told() -> None:
    """The target may have changed since: nothing is missed for which nobody was told."""
    new = session(age_s=5)
    executor = Executor(creation_job(new))
    told = CLAIMS[:2]
    grown = planned(new, executor=executor, reading=reading(told=told))
    assert [e["hostname"] for e in target_in(grown)["stats"]] == list(CLAIMS)
    assert list(errors(grown)) == [CLAIMS[2]]
    assert errors(grown)[CLAIMS[2]].startswith("NotCreated: the session's Job had been created")
    shrunk = planned(new, executor=executor, reading=reading(claims={}, told=told))
    assert target_in(shrunk)["stats"][:2] == [{"hostname": claim} for claim in told]
    assert errors(shrunk)[CLAIMS[2]].startswith("ClaimMissing: ")
    gone = planned(new, executor=executor, reading=Reading(told=told))
    assert target_in(gone)["stats"] == [{"hostname": claim} for claim in told]


# the wait


def test_all_ready_is_a_success() -> None:
    """Each host with its own duration; one Event for all; no request is needed."""
    made = run()
    new = status_in(made)
    assert new["phase"] == "Succeeded"
    assert target_in(made)["phase"] == "Succeeded"
    assert target_in(made)["stats"] == [
        {"hostname": claim, "phase": "Succeeded", "duration": "10s"} for claim in CLAIMS
    ]
    assert list(conditions_in(new["conditions"])) == [
        "RetentionPolicyApplied", "BackupHistoryCleaned", "MetricsPushed",
    ]  # fmt: skip
    (note,) = made.notes
    assert (note.type, note.reason) == ("Normal", "Host Backup Succeeded")
    assert note.message == 'backup succeeded for 3 of 3 hosts of "StatefulSet"/"db".'
    assert made.facts["hosts"] == "3 of 3 hosts"


def test_the_wait_for_a_driver_costs_no_write_and_asks_nobody() -> None:
    """Until 2 h have passed without progress."""
    slow = (*all_ready()[:2], volume_snapshot(CLAIMS[2], ready=False, age_s=40))
    made = run(snapshots=slow)
    assert made.writes == ()
    assert made.facts == {"step": "waiting_for_driver"}
    # the last that became ready did so 20 s ago
    assert made.requeue_after_s == pytest.approx(7200 - 20)
    assert not needs_reading(observed(RUN, executor=GOOD, snapshots=slow), NOW)


def test_the_drivers_words_are_told_at_once_and_once() -> None:
    """One write for each distinct text, and the wait goes on; it may end well."""
    words = volume_snapshot(CLAIMS[1], ready=False, error="pool is full", cut=False)
    seen = (*all_ready()[:1], words, volume_snapshot(CLAIMS[2], ready=False))
    first = run(snapshots=seen)
    entries = status_in(first)["conditions"]
    status, _, message = conditions_in(entries)["VolumeSnapshotsWaiting"]
    assert status == "True"
    assert message.startswith("data-db-1: pool is full. ")
    assert status_in(first)["phase"] == "Running"
    told = begun(conditions=entries)
    assert planned(told, executor=GOOD, snapshots=seen).writes == ()
    calm = planned(told, executor=GOOD, snapshots=(*all_ready()[:2], seen[2]))
    assert conditions_in(status_in(calm)["conditions"])["VolumeSnapshotsWaiting"][0] == "False"
    done = planned(told, executor=GOOD, snapshots=all_ready())
    assert status_in(done)["phase"] == "Succeeded"
    assert "VolumeSnapshotsWaiting" not in conditions_in(status_in(done)["conditions"])


def test_an_error_is_terminal_only_at_the_deadline() -> None:
    """Then the host fails with the driver's message; what exists stays, and is named."""
    old = [volume_snapshot(c, age_s=8000, took_s=5) for c in CLAIMS[:2]]
    bad = volume_snapshot(CLAIMS[2], ready=False, error="pool is full", age_s=8000, took_s=7999)
    made = planned(begun({**ENSURED, "lastTransitionTime": before(8001)}, age_s=8001),
                   executor=GOOD, snapshots=(*old, bad))  # fmt: skip
    new = status_in(made)
    assert new["phase"] == "Failed"
    error = errors(made)[CLAIMS[2]]
    assert error.startswith("SnapshotNotReady: there was no progress for 2h0m0s")
    assert "VolumeSnapshot data-db-2-1700000000, which stays, is not ready: pool is full. " in error
    text = conditions_in(new["conditions"])["BackupIncomplete"][2]
    assert "2 of 3 claims have a VolumeSnapshot that is ready: data-db-0-1700000000" in text
    assert "not ready: data-db-2-1700000000" in text
    assert deleted(made) == []
    assert "DeadlineExceeded" not in conditions_in(new["conditions"])
    assert 'failed for 1 of 3 hosts ("data-db-2") of "StatefulSet"/"db"' in made.notes[0].message


def test_the_timeout_ends_the_wait() -> None:
    """It is counted from the session's creation, and has a condition."""
    late = begun(age_s=601, sessionDeadline=before(1))
    slow = (*all_ready()[:2], volume_snapshot(CLAIMS[2], ready=False))
    made = planned(late, spec=snapshot_spec(timeOut="10m"), executor=GOOD, snapshots=slow)
    assert status_in(made)["phase"] == "Failed"
    text = conditions_in(status_in(made)["conditions"])["DeadlineExceeded"][2]
    assert text == (
        "Failed to complete backup within 10m0s. That is spec.timeOut of BackupConfiguration "
        "demo/nightly: raise it, or mend what each host of status.targets[0].stats says."
    )
    assert errors(made)[CLAIMS[2]].startswith("SnapshotNotReady: timeOut (10m0s) has passed")
    soon = begun(age_s=590, sessionDeadline=before(-10))
    assert planned(soon, executor=GOOD, snapshots=slow).requeue_after_s == pytest.approx(10)
    good = planned(late, executor=GOOD, snapshots=all_ready())
    assert status_in(good)["phase"] == "Succeeded"


NO_CLASS = "Failed to get snapshot class: volumesnapshotclass fast not found"
CHECK = "check spec.target.snapshotClassName: VolumeSnapshotClass fast must exist and be of the"
TWO_DEFAULTS = "cannot find default snapshot class: 2 are"
BOUND = {"boundVolumeSnapshotContentName": "content"}
FIXES: list[tuple[str, str, dict[str, Any], str, bool]] = [
    ("fast", NO_CLASS, {}, CHECK, False),
    ("", TWO_DEFAULTS, {}, "exactly one of the claim's driver is the default", False),
    ("fast", "", BOUND, CHECK, False),
    ("fast", "disk on fire", BOUND, "mend what its driver reports", False),
    ("fast", "", BOUND, "raise spec.timeOut", True),
    ("", "", {}, "check that the snapshot-controller runs", False),
]


@pytest.mark.parametrize(("used", "words", "more", "fix", "cut"), FIXES)
def test_what_is_not_ready_names_object_path_and_fix(
    used: str,
    words: str,
    more: dict[str, Any],
    fix: str,
    cut: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """While it is waited for, where there are words, and at the end: cut before the fix (D32)."""
    for said in (words, words * 60):
        slow = volume_snapshot(CLAIMS[2], ready=False, error=said, cut=cut)
        slow["status"] |= more
        slow["spec"] |= {"volumeSnapshotClassName": used} if used else {}
        seen = (*all_ready()[:2], slow)
        describe = "see kubectl describe volumesnapshot -n demo data-db-2-1700000000"
        wanted = {fix, describe, *([words] if words else [])}
        late = begun(age_s=601, sessionDeadline=before(1))
        made = planned(late, spec=snapshot_spec(timeOut="10m"), executor=GOOD, snapshots=seen)
        error = errors(made)[CLAIMS[2]]
        assert all(text in error for text in wanted), error
        assert len(error) <= 1024
        if said:
            told = conditions_in(status_in(run(snapshots=seen))["conditions"])
            message = told["VolumeSnapshotsWaiting"][2]
            assert all(text in message for text in wanted), message


def test_what_a_report_refuses_is_that_hosts_failure() -> None:
    """Written at once; the others are waited for, and nothing of theirs is deleted."""
    no = HostReport(CLAIMS[0], succeeded=False, reason="CreationRefused", error="quota")
    executor = ended_job(creation_job(RUN), refused(no), code=1)
    others = tuple(volume_snapshot(claim, ready=False) for claim in CLAIMS[1:])
    made = run(executor=executor, snapshots=others)
    assert errors(made) == {CLAIMS[0]: "CreationRefused: quota"}
    assert target_in(made)["stats"][1:] == [{"hostname": claim} for claim in CLAIMS[1:]]
    assert status_in(made)["phase"] == "Running"
    told = begun(stats=tuple(target_in(made)["stats"]))
    assert planned(told, executor=Executor(), snapshots=others).writes == ()
    done = planned(told, executor=Executor(), snapshots=all_ready()[1:])
    assert status_in(done)["phase"] == "Failed"
    assert deleted(done) == []
    assert [e["phase"] for e in target_in(done)["stats"]] == ["Failed", "Succeeded", "Succeeded"]


@pytest.mark.parametrize("count", [20, 1000])
def test_many_refusals_say_why(count: int) -> None:
    """Each claim has the cause or the name of one that has it, also of a report without room."""
    names = [f"data-db-{number}" for number in range(count)]
    words = (
        "is forbidden: exceeded quota: few; raise the ResourceQuota, or delete what is not needed"
    )
    no = [HostReport(name, False, "CreationRefused", f'"{name}-1" {words}') for name in names]
    executor = ended_job(creation_job(RUN), refused(*no), code=1)
    raw = begun(stats=tuple({"hostname": name} for name in names))
    said = errors(planned(raw, executor=executor, looked=True))
    assert list(said) == names
    assert said["data-db-0"] == f'CreationRefused: "data-db-0-1" {words}'
    for error in said.values():
        assert words in error or error == "CreationRefused: same as data-db-0"


def test_a_killed_pod_is_replaced() -> None:
    """Its Job is not Failed: another pod creates what is missing. Nothing is Failed before."""
    job = creation_job(RUN)
    for code, text in ((137, ""), (130, refused())):
        killed = pod(terminated(code, text), phase="Failed", of=job)
        made = run(executor=Executor(job, killed), snapshots=all_ready()[:1])
        assert made.requeue_after_s is not None
        assert status_in(made)["phase"] == "Running"
        assert conditions_in(status_in(made)["conditions"])["BackupWaiting"][1] == "PodDisrupted"
        assert errors(made) == {}


def test_a_dead_job_is_no_verdict_on_what_it_created() -> None:
    """All VolumeSnapshots are there: it is not asked at all."""
    dead = Executor(creation_job(RUN, conditions=job_failed()), pods_gone=True)
    assert status_in(run(executor=dead))["phase"] == "Succeeded"
    assert status_in(run(executor=Executor(job_gone=True)))["phase"] == "Succeeded"


def test_what_is_missing_is_looked_for_before_it_failed() -> None:
    """The caches of Jobs and VolumeSnapshots are not ordered (D10)."""
    made = run(snapshots=all_ready()[:2])
    assert (made.writes, made.requeue_after_s) == ((), 2.0)
    looked = run(snapshots=all_ready()[:2], looked=True)
    assert errors(looked)[CLAIMS[2]].startswith("SnapshotDeleted: ")
    dead = Executor(creation_job(RUN, conditions=job_failed()), pods_gone=True)
    assert run(executor=dead, snapshots=all_ready()[:2]).writes == ()
    lost = run(executor=dead, snapshots=all_ready()[:2], looked=True)
    assert errors(lost)[CLAIMS[2]].startswith("NotCreated: no VolumeSnapshot of it was created.")
    assert status_in(lost)["phase"] == "Failed"


def test_a_vanishing_volume_snapshot_is_no_success() -> None:
    """Ready or not."""
    going = volume_snapshot(CLAIMS[2], deletionTimestamp=before(1))
    made = run(snapshots=(*all_ready()[:2], going))
    assert errors(made)[CLAIMS[2]].startswith("SnapshotDeleted: ")
    assert status_in(made)["phase"] == "Failed"


def test_a_pod_that_does_not_start_says_why_and_ends() -> None:
    """First in a condition, then as a failure; its Job is stopped."""
    job = creation_job(RUN, age_s=15)
    pending = pod(phase="Pending", conditions=(UNSCHEDULABLE,), of=job, age_s=15)
    made = run(executor=Executor(job, pending), snapshots=())
    assert "Insufficient memory" in conditions_in(status_in(made)["conditions"])["BackupWaiting"][2]
    old = creation_job(RUN, age_s=700)
    pending = pod(phase="Pending", conditions=(UNSCHEDULABLE,), of=old, age_s=700)
    made = run(executor=Executor(old, pending), snapshots=(), looked=True)
    assert status_in(made)["phase"] == "Failed"
    assert deleted(made) == ["Job stash-vs-nightly-1"]
    assert "PodNotStarted" in errors(made)[CLAIMS[0]]


def test_a_job_that_hangs_is_stopped_at_the_deadline() -> None:
    """What it created is waited for no longer either."""
    job = creation_job(RUN, age_s=600)
    late = begun(age_s=601, sessionDeadline=before(1))
    hangs = Executor(job, pod(running(), of=job))
    made = planned(late, executor=hangs, snapshots=all_ready()[:2], looked=True)
    assert deleted(made)[0] == "Job stash-vs-nightly-1"
    assert errors(made)[CLAIMS[2]].startswith("NotCreated: timeOut")
    unlooked = planned(late, executor=hangs, snapshots=all_ready()[:2])
    assert deleted(unlooked) == []
    assert unlooked.requeue_after_s == 2.0


@pytest.mark.parametrize(
    "invoker",
    [
        None,
        configuration(spec=snapshot_spec(), metadata={"deletionTimestamp": before(1)}),
    ],
)
def test_a_deleted_configuration_cancels(invoker: Obj | None) -> None:
    """The Job is stopped, what was created stays (D15)."""
    job = creation_job(RUN)
    made = run(
        configuration=invoker,
        executor=Executor(job, pod(running(), of=job)),
        snapshots=(volume_snapshot(CLAIMS[0], ready=False),),
    )
    assert deleted(made)[:1] == ["Job stash-vs-nightly-1"]
    assert not any("VolumeSnapshot" in what for what in deleted(made))
    assert status_in(made)["phase"] == "Failed"
    assert "was deleted during the backup" in made.facts["error"]
    assert "data-db-0-1700000000 stays" in errors(made)[CLAIMS[0]]
    assert made.pushes == ()


def test_a_finished_backup_does_not_mind_that_its_configuration_goes() -> None:
    """It has succeeded."""
    assert status_in(run(configuration=None))["phase"] == "Succeeded"


def test_claims_that_nobody_recorded_are_no_success() -> None:
    """The controller ended before the status, and the target was deleted before it came back."""
    unknown = begun(stats=())
    job = creation_job(unknown)
    waits = planned(unknown, executor=Executor(job, pod(running(), of=job)), snapshots=all_ready())
    assert waits.writes == ()
    made = planned(unknown, executor=ended_job(job), snapshots=all_ready())
    assert status_in(made)["phase"] == "Failed"


def test_a_final_session_is_left_alone() -> None:
    """But for its next try."""
    done = session(status={"phase": "Failed"})
    assert planned(done).writes == ()
    spec = snapshot_spec(retryConfig={"maxRetry": 2})
    done["spec"] = {**done["spec"], "retryLeft": 1}
    assert created(planned(done, spec=spec)) == ["nightly-1-retry-0"]


# hooks


def test_before_anything_is_frozen_the_session_is_held() -> None:
    """By a turn of its own, with the whole postBackup Job; what vouches for that comes first."""
    new = session(age_s=0)
    made = planned(new, spec=snapshot_spec(hooks=hooks("OnFailure")))
    vouch, write = made.writes
    assert isinstance(vouch, SetStatus)
    assert "phase" not in vouch.status
    assert isinstance(write, Finalizer)
    assert (write.name, write.present) == ("drey.dev/post-hook", True)
    assert not write.ref.resource_version
    assert "stash-hook-post-nightly-1" in write.annotations["drey.dev/post-hook"]
    assert write.annotations["drey.dev/post-hook-policy"] == "OnFailure"
    job, policy = write.annotations["drey.dev/post-hook"], "OnFailure"
    held = owing(new, json.loads(job), policy=policy)
    assert held["status"] == vouch.status
    alone = planned(spec=snapshot_spec(hooks=hooks(post=False)))
    assert created(alone)[-1] == "stash-hook-pre-nightly-1"


def held_by(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a session that was held for a configuration."""
    new = session(age_s=0)
    vouch, write = planned(new, spec=spec).writes
    assert isinstance(vouch, SetStatus)
    assert isinstance(write, Finalizer)
    metadata = {**new["metadata"], **HELD, "annotations": dict(write.annotations)}
    return {**new, "metadata": metadata, "status": vouch.status}


def test_the_pre_hook_comes_when_the_session_has_the_post_hook_with_it() -> None:
    """As it is by now: a configuration that changed in between is taken over first."""
    spec = snapshot_spec(hooks=hooks("OnFailure"))
    made = planned(held_by(spec), spec=spec)
    kinds = [w.resource for w in made.writes if isinstance(w, CreateOnce)]
    assert kinds == [SERVICE_ACCOUNT, ROLE_BINDING, JOB]
    (job,) = (w.body for w in made.writes if isinstance(w, CreateOnce) and w.resource == JOB)
    assert list(annotations_of(job)) == ["drey.dev/spec-hash"]
    pre = conditions_in(target_in(made)["conditions"])["PreBackupHookExecutionSucceeded"]
    assert pre[:2] == ("Unknown", "HookStarted")
    assert "BackupExecutorEnsured" not in conditions_in(target_in(made)["conditions"])
    assert "stash-vs" not in str(created(made))
    changed = planned(held_by(spec), spec=HOOKED)
    assert [type(write) for write in changed.writes] == [SetStatus, Finalizer]
    half = held_by(spec)
    half["metadata"] = {**half["metadata"], "annotations": {}}
    assert [type(write) for write in planned(half, spec=spec).writes] == [Finalizer]


def test_a_post_hook_that_does_not_fit_is_told_before_anything_is_frozen() -> None:
    """Kubernetes limits the annotations of an object, all together."""
    crowded = session(age_s=0, metadata={"annotations": {"mine": "x" * 255_000}})
    made = planned(crowded, spec=HOOKED)
    assert status_in(made)["phase"] == "Failed"
    assert "does not fit into its annotations" in made.facts["error"]


FREEZING = owing(begun(hook_entry("Pre", "Unknown")))
FROZEN = owing(begun(hook_entry("Pre")))
CUTTING = owing(begun(hook_entry("Pre"), ENSURED))
THAWING = owing(begun(hook_entry("Pre"), ENSURED, hook_entry("Post", "Unknown")))
LOST = Executor(job_gone=True, pods_gone=True)


def test_a_pre_hook_that_ran_is_recorded_then_followed_by_the_snapshots() -> None:
    """The target is read again: minutes may have passed."""
    made = planned(FREEZING, spec=HOOKED, pre=ended_job(hook_of(FREEZING), hook_report()))
    pre = conditions_in(target_in(made)["conditions"])["PreBackupHookExecutionSucceeded"]
    assert pre[0] == "True"
    assert created(made) == []
    assert needs_reading(observed(FROZEN, spec=HOOKED), NOW)
    after = planned(FROZEN, spec=HOOKED)
    assert created(after) == ["stash-vs-nightly-1"]


def told(plan: Plan) -> dict[str, str]:
    """Return the annotations that a plan's Job is told to give VolumeSnapshots."""
    (job,) = (w.body for w in plan.writes if isinstance(w, CreateOnce) and w.resource == JOB)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    values = {one["name"]: one.get("value") or "" for one in container["env"]}
    common = CreationInput.decode(values[ENVIRONMENT_VARIABLE]).common
    return dict(common["metadata"]["annotations"])


@pytest.mark.parametrize(
    ("policy", "limit", "deadline", "left_s"),
    [
        ("Always", "", None, 570),
        ("Always", "30m", None, 1770),
        ("Always", "", 60, 60),
        ("Always", "30s", 60, 0),
        ("OnSuccess", "", 60, 60),
        ("OnSuccess", "", None, None),
    ],
)
def test_what_is_created_says_until_when_it_is_quiesced(
    policy: str, limit: str, deadline: int | None, left_s: int | None
) -> None:
    """The preBackup hook ended 30 seconds ago: retention has no other way to know later."""
    raw = owing(begun(hook_entry("Pre", age_s=30)), policy=policy)
    if deadline is not None:
        raw["status"] = {**raw["status"], "sessionDeadline": before(-deadline)}
    annotations = {"drey.dev/quiesce-limit": limit} if limit else {}
    invoker = configuration(spec=HOOKED, metadata={"annotations": annotations})
    wanted = {} if left_s is None else {QUIESCED_UNTIL: before(-left_s)}
    expected = {"drey.dev/session": "nightly-1", **wanted}
    assert told(planned(raw, configuration=invoker)) == expected


def test_without_a_hook_nothing_says_that_something_was_quiesced() -> None:
    """There is no moment at which it goes on."""
    assert told(planned()) == {"drey.dev/session": "nightly-1"}


def test_the_claims_of_a_job_that_a_crash_hid_after_a_hook_are_those_that_it_was_told() -> None:
    """The hook had been started for the claims that the target had then."""
    executor = Executor(creation_job(FROZEN))
    claims = (*CLAIMS, "data-db-3")
    found = reading(claims={claim: bound_claim(claim) for claim in claims}, told=claims)
    made = planned(FROZEN, spec=HOOKED, executor=executor, reading=found)
    assert made.facts["step"] == "job_found"
    assert [entry["hostname"] for entry in target_in(made)["stats"]] == list(claims)
    entries = conditions_in(target_in(made)["conditions"])
    assert entries["BackupExecutorEnsured"][0] == "True"
    assert entries["PreBackupHookExecutionSucceeded"][0] == "True"
    unread = planned(FROZEN, spec=HOOKED, executor=executor, reading=reading())
    assert [entry["hostname"] for entry in target_in(unread)["stats"]] == list(CLAIMS)


def test_a_pre_hook_that_fails_means_no_snapshot() -> None:
    """And the postBackup hook runs all the same: it may have frozen something."""
    bad = ended_job(hook_of(FREEZING), hook_report("boom"), code=1)
    made = planned(FREEZING, spec=HOOKED, pre=bad)
    entries = conditions_in(target_in(made)["conditions"])
    assert entries["PreBackupHookExecutionSucceeded"][0] == "False"
    assert set(errors(made)) == set(CLAIMS)
    assert status_in(made)["phase"] == "Running"
    failed = owing(begun(hook_entry("Pre", "False"), stats=tuple(target_in(made)["stats"])))
    after = planned(failed, spec=HOOKED, pre=bad)
    assert created(after) == ["stash-hook-post-nightly-1"]


def test_a_pre_hook_that_hangs_is_waited_for_and_then_failed() -> None:
    """Also while nobody wants the backup any more: it must be over before the other begins."""
    job = hook_of(FREEZING)
    hangs = Executor(job, pod(running(), of=job))
    for invoker in (configuration(spec=HOOKED), None):
        made = planned(FREEZING, configuration=invoker, pre=hangs)
        assert made.writes == ()
        assert made.facts["step"] == "waiting_for_hook"
    timed = hook_report("took longer than 300 s")
    made = planned(FREEZING, spec=HOOKED, pre=ended_job(job, timed, code=1))
    assert "took longer" in errors(made)[CLAIMS[0]]


def test_the_application_goes_on_as_soon_as_everything_is_cut() -> None:
    """Not when it is ready: that may take hours."""
    uncut = (*all_ready()[:2], volume_snapshot(CLAIMS[2], ready=False, cut=False))
    made = planned(CUTTING, spec=HOOKED, snapshots=uncut)
    assert created(made) == []
    cut = (*all_ready()[:2], volume_snapshot(CLAIMS[2], ready=False))
    made = planned(CUTTING, spec=HOOKED, snapshots=cut)
    assert created(made) == ["stash-hook-post-nightly-1"]
    post = conditions_in(target_in(made)["conditions"])["PostBackupHookExecutionSucceeded"]
    assert post[:2] == ("Unknown", "HookStarted")
    thawed = ended_job(hook_of(THAWING, "post"), hook_report())
    waits = planned(THAWING, spec=HOOKED, post=thawed, snapshots=cut)
    assert status_in(waits)["phase"] == "Running"
    done = planned(THAWING, spec=HOOKED, post=thawed, snapshots=all_ready())
    assert status_in(done)["phase"] == "Succeeded"
    last = done.writes[-1]
    assert isinstance(last, Finalizer)
    assert (last.present, last.ref.resource_version) == (False, "")


def ready_or_not(*, good: bool) -> dict[str, Any]:
    """Return a session in which all snapshots are ready, or one failed."""
    stats = None if good else (failed_entry(CLAIMS[0]), *({"hostname": c} for c in CLAIMS[1:]))
    raw = begun(hook_entry("Pre"), ENSURED, metadata=HELD, stats=stats)
    return {"raw": raw, "snapshots": all_ready() if good else all_ready()[1:]}


@pytest.mark.parametrize(
    ("policy", "good", "left", "runs"),
    [
        ("Always", True, 0, True), ("Always", False, 1, True),
        ("OnSuccess", True, 0, True), ("OnSuccess", False, 0, False),
        ("OnFailure", True, 0, False), ("OnFailure", False, 1, True),
        ("OnFinalRetryFailure", False, 1, False), ("OnFinalRetryFailure", False, 0, True),
    ],
)  # fmt: skip
def test_the_execution_policy_decides(policy: str, good: bool, left: int, runs: bool) -> None:  # noqa: FBT001 - a table
    """Not allowed: the condition is True, with the words of Stash."""
    fields = ready_or_not(good=good)
    raw = {**fields["raw"], "spec": {**fields["raw"]["spec"], "retryLeft": left}}
    spec = snapshot_spec(hooks=hooks(policy), retryConfig={"maxRetry": 2})
    made = planned(raw, spec=spec, snapshots=fields["snapshots"])
    assert ("stash-hook-post-nightly-1" in created(made)) is runs
    if runs:
        return
    status, _, text = conditions_in(target_in(made)["conditions"])[
        "PostBackupHookExecutionSucceeded"
    ]
    phase = "Succeeded" if good else "Failed"
    assert status == "True"
    assert text == (
        f'Skipping executing postBackup. Reason: executionPolicy is "{policy}" '
        f'but phase is "{phase}".'
    )
    assert status_in(made)["phase"] == phase


def test_without_retries_every_failure_is_the_last() -> None:
    """`retryLeft` alone brings no other session: its configuration says by now that none is."""
    fields = ready_or_not(good=False)
    raw = {**fields["raw"], "spec": {**fields["raw"]["spec"], "retryLeft": 1}}
    spec = snapshot_spec(hooks=hooks("OnFinalRetryFailure"))
    made = planned(raw, spec=spec, snapshots=fields["snapshots"])
    assert created(made)[-1] == "stash-hook-post-nightly-1"


def test_a_post_hook_that_fails_fails_the_session_and_says_that_the_data_is_safe() -> None:
    """The VolumeSnapshots are counted as ready, and retention is applied."""
    post = ended_job(hook_of(THAWING, "post"), hook_report("no Ready pod"), code=1)
    made = planned(THAWING, spec=HOOKED, post=post, snapshots=all_ready())
    assert status_in(made)["phase"] == "Failed"
    text = conditions_in(target_in(made)["conditions"])["PostBackupHookExecutionSucceeded"][2]
    assert "The backup itself may have succeeded" in text
    assert errors(made) == {}
    assert "All VolumeSnapshots are ready" in made.facts["error"]


@pytest.mark.parametrize("raw", [FROZEN, CUTTING], ids=["before", "while cutting"])
def test_the_application_goes_on_when_the_configuration_is_gone(raw: Obj) -> None:
    """The Job that the first one carried is created; the finalizer goes when it ended."""
    job = creation_job(raw)
    executor = Executor() if raw is FROZEN else Executor(job, pod(running(), of=job))
    fields: dict[str, Any] = {"configuration": None, "reading": None}
    made = planned(raw, executor=executor, **fields)
    if raw is FROZEN:  # first that there will be no VolumeSnapshot
        assert created(made) == []
        target = target_in(made)
        given_up = owing(begun(*target["conditions"], stats=tuple(target["stats"])))
        made = planned(given_up, **fields)
    else:
        assert deleted(made) == ["Job stash-vs-nightly-1"]
    assert created(made) == ["stash-hook-post-nightly-1"]


def test_a_deleted_session_is_held_until_the_application_goes_on() -> None:
    """Then it is let go; without a hook it goes at once."""
    metadata = {**HELD, "deletionTimestamp": before(5)}
    raw = owing(begun(hook_entry("Pre"), ENSURED, metadata=metadata))
    job = creation_job(raw)
    made = planned(raw, spec=HOOKED, executor=Executor(job, pod(of=job)))
    assert created(made)[-1] == "stash-hook-post-nightly-1"
    assert deleted(made) == ["Job stash-vs-nightly-1"]
    stats = tuple(target_in(made)["stats"])
    after = begun(
        hook_entry("Pre"), ENSURED, hook_entry("Post", "Unknown"), stats=stats, metadata=metadata
    )
    thawed = ended_job(hook_of(after, "post"), hook_report())
    done = planned(after, spec=HOOKED, post=thawed)
    assert isinstance(done.writes[-1], Finalizer)
    assert planned(begun(metadata={"deletionTimestamp": before(5)})).writes == ()
    unstarted = planned(session(metadata=metadata), spec=HOOKED)
    assert [type(write) for write in unstarted.writes] == [Finalizer]


def test_a_final_session_that_is_still_held_is_let_go() -> None:
    """The controller ended between its last two writes."""
    done = session(metadata=HELD, status={"phase": "Succeeded"})
    (write,) = planned(done).writes
    assert isinstance(write, Finalizer)
    assert not write.present


def test_a_refused_post_hook_is_tried_again_for_hours() -> None:
    """Then it failed; in a namespace that goes away at once."""
    fields: dict[str, Any] = {
        "spec": HOOKED, "snapshots": all_ready(),
    }  # fmt: skip
    (write, _) = planned(CUTTING, **fields).writes
    no = Refusal(write, "Forbidden", FORBIDDEN)
    made = planned(CUTTING, refusal=no, **fields)
    assert created(made) == []
    assert made.requeue_after_s == 10
    post = conditions_in(target_in(made)["conditions"])["PostBackupHookExecutionSucceeded"]
    assert post[:2] == ("Unknown", "HookRefused")
    waiting = hook_entry("Post", "Unknown", reason="HookRefused", age_s=7201)
    late = owing(begun(hook_entry("Pre"), ENSURED, waiting))
    assert created(planned(late, **fields)) == ["stash-hook-post-nightly-1"]
    soon = hook_entry("Post", "Unknown", reason="HookRefused", age_s=7199)
    waits = planned(owing(begun(hook_entry("Pre"), ENSURED, soon)), refusal=no, **fields)
    assert waits.requeue_after_s == 10
    over = planned(late, refusal=no, **fields)
    assert status_in(over)["phase"] == "Failed"
    assert over.notes[0].type == "Warning"
    longer = {**late, "status": {**late["status"], "sessionDeadline": before(-1)}}
    assert planned(longer, refusal=no, **fields).requeue_after_s == 10
    gone = Refusal(write, "Forbidden", "… because it is being terminated")
    assert status_in(planned(CUTTING, refusal=gone, **fields))["phase"] == "Failed"


def test_a_post_hook_whose_job_was_deleted_runs_once_more() -> None:
    """It may not have run."""
    made = planned(THAWING, spec=HOOKED, post=LOST, snapshots=all_ready())
    assert created(made) == [
        "stash-hook-identity-nightly-1",  # who took the Job may have taken its identity
        "stash-hook-identity-nightly-1",
        "stash-hook-post-nightly-1",
    ]
    post = conditions_in(target_in(made)["conditions"])["PostBackupHookExecutionSucceeded"]
    assert post[1:] == (
        "HookStartedAgain2",
        "Executing postBackup hook. Its Job ended without a report or is gone: this is try 2.",
    )


def test_a_refusal_is_timed_by_itself() -> None:
    """It comes hours after the first Job; that one is counted all the same."""
    entry = hook_entry("Post", "Unknown", age_s=9000)
    raw = owing(begun(hook_entry("Pre"), ENSURED, entry))
    fields: dict[str, Any] = {"spec": HOOKED, "post": LOST, "snapshots": all_ready()}
    (*_, write, _) = planned(raw, **fields).writes
    no = Refusal(write, "Forbidden", FORBIDDEN)
    told = {**raw, "status": status_in(planned(raw, refusal=no, **fields))}
    waits = planned(told, refusal=no, **{**fields, "post": Executor()})
    assert waits.requeue_after_s == 10
    again = target_in(planned(told, **{**fields, "post": Executor()}))["conditions"]
    reason = conditions_in(again)["PostBackupHookExecutionSucceeded"][1]
    assert reason == "HookStartedAgain2"


def test_a_post_hook_that_told_nothing_runs_again_under_its_name() -> None:
    """Its Job has failed, its pod never started: first it goes, then there is another one."""
    dead = hook_of(THAWING, "post", conditions=job_failed("DeadlineExceeded"))
    fields: dict[str, Any] = {"spec": HOOKED, "snapshots": all_ready()}
    post = Executor(dead, pods_gone=True)
    made = planned(THAWING, post=post, **fields)
    (delete,) = made.writes
    assert deleted(made) == ["Job stash-hook-post-nightly-1"]
    assert made.requeue_after_s == 10
    no = Refusal(delete, "Forbidden", "a webhook says no")
    assert status_in(planned(THAWING, post=post, refusal=no, **fields))["phase"] == "Failed"
    assert created(planned(THAWING, post=LOST, **fields))[-1] == "stash-hook-post-nightly-1"


def test_a_post_hook_is_tried_five_times() -> None:
    """Whatever takes its Jobs away has the last word, and is said."""
    entry = hook_entry("Post", "Unknown", reason="HookStartedAgain5")
    made = planned(
        owing(begun(hook_entry("Pre"), ENSURED, entry)),
        spec=HOOKED,
        post=LOST,
        snapshots=all_ready(),
    )
    assert created(made) == []
    assert status_in(made)["phase"] == "Failed"
    assert "of 5 Jobs none reported" in str(target_in(made)["conditions"])


def tampered() -> Iterator[Any]:
    """Yield sessions that have something else with them than what they owe."""
    annotations = annotations_of(CUTTING)
    for text in (json.dumps({**post_job(CUTTING), "metadata": {}}), "{", "[]"):
        yield {**annotations, "drey.dev/post-hook": text}
    yield {**annotations, "drey.dev/post-hook-policy": "OnFailure"}
    yield {}


@pytest.mark.parametrize("annotations", list(tampered()))
def test_a_tampered_post_hook_is_not_created(annotations: dict[str, str]) -> None:
    """Else who may only create sessions could have any Job created; its configuration tells."""
    raw = {**CUTTING, "metadata": {**CUTTING["metadata"], "annotations": annotations}}
    seen = observed(raw, spec=HOOKED, snapshots=all_ready())
    assert needs_reading(seen, NOW)
    job = next(w.body for w in reversed(plan(seen, NOW).writes) if isinstance(w, CreateOnce))
    assert "thaw" in str(job)
    assert job["spec"]["backoffLimit"] == 3
    gone = planned(raw, configuration=None, snapshots=all_ready(), reading=None)
    assert created(gone) == []
    assert status_in(gone)["phase"] == "Failed"


def test_a_session_that_only_claims_to_owe_something_owes_nothing() -> None:
    """Annotations and finalizer were there when it was created: its status says nothing of them."""
    forged = {**owing(session(age_s=0)), "status": {}}
    made = planned(forged, spec=snapshot_spec())
    assert created(made) == ["stash-vs-nightly-1"]
    assert planned(forged, configuration=None).writes[-1] == release(forged)[0]


@pytest.mark.parametrize("conditions", [(), (ENSURED,)], ids=["not recorded", "while cutting"])
def test_what_a_copied_session_has_with_it_is_not_its_own(conditions: tuple[Obj, ...]) -> None:
    """Its status was restored with it."""
    copied = owing(begun(hook_entry("Pre"), *conditions))
    copied["metadata"] = {**copied["metadata"], "uid": "uid-of-another"}
    assert owed_hook(copied) is None


def test_a_pre_hook_whose_job_is_deleted_is_followed_by_the_post_hook() -> None:
    """Once its pod has ended; with the configuration and without it (D17)."""
    ends = Executor(job_gone=True)
    for fields in ({"spec": HOOKED}, {"configuration": None, "reading": None}):
        waits = planned(FREEZING, pre=ends, **fields)
        assert (waits.writes, waits.requeue_after_s) == ((), 10.0)
        made = planned(FREEZING, pre=LOST, **fields)
        pre = conditions_in(target_in(made)["conditions"])["PreBackupHookExecutionSucceeded"]
        assert pre[0] == "False"
        assert "JobDeleted" in pre[2]
        target = target_in(made)
        after = owing(begun(*target["conditions"], stats=tuple(target["stats"])))
        assert created(planned(after, **fields)) == ["stash-hook-post-nightly-1"]


def test_without_anything_that_tells_of_it_the_post_hook_is_built_from_the_configuration() -> None:
    """Its target is read for that also when nothing was ever snapshotted."""
    stats = tuple(failed_entry(claim) for claim in CLAIMS)
    failed = begun(hook_entry("Pre", "False"), stats=stats, metadata=HELD)
    assert needs_reading(observed(failed, spec=HOOKED), NOW)
    assert created(planned(failed, spec=HOOKED))[-1] == "stash-hook-post-nightly-1"


@pytest.mark.parametrize(
    "fields",
    [
        {"raw": owing(session(metadata={"deletionTimestamp": before(5)})), "spec": HOOKED},
        {"raw": owing(session()), "configuration": None, "reading": None},
    ],
    ids=["session deleted", "configuration deleted"],
)
def test_a_pre_hook_that_nobody_recorded_may_have_run(fields: dict[str, Any]) -> None:
    """The controller ended right after it created the Job, and the Job is gone by now.

    Not so its pod, perhaps: that may still freeze something.
    """
    made = planned(**fields)
    pre = conditions_in(target_in(made)["conditions"])["PreBackupHookExecutionSucceeded"]
    assert pre[0] == "Unknown"
    rest = {key: value for key, value in fields.items() if key != "raw"}
    after = {**fields["raw"], "status": status_in(made)}
    assert planned(after, pre=Executor(job_gone=True), **rest).writes == ()
    then = planned(after, pre=LOST, **rest)
    assert created(then) == []
    after = {**after, "status": status_in(then)}
    assert created(planned(after, pre=LOST, **rest))[-1] == "stash-hook-post-nightly-1"


def test_what_keeps_a_session_from_starting_does_not_keep_its_post_hook() -> None:
    """The preBackup hook may have run already, unless its Job was just refused."""
    raw = owing(session())
    made = planned(raw, spec=HOOKED, reading=Reading())
    assert made.facts["step"] == "pre_hook_unknown"
    entries = conditions_in(target_in(made)["conditions"])
    assert "does not exist" in entries["BackupExecutorEnsured"][2]
    after = {**raw, "status": status_in(made)}
    then = planned(after, spec=HOOKED, pre=LOST, reading=Reading())
    after = {**after, "status": status_in(then)}
    last = planned(after, spec=HOOKED, pre=LOST, reading=Reading())
    assert created(last)[-1] == "stash-hook-post-nightly-1"
    no = Refusal(SetStatus(Ref.to(BACKUP_SESSION, raw), {}), "Forbidden", "exceeded quota")
    refused = planned(raw, spec=HOOKED, refusal=no)
    assert (created(refused), status_in(refused)["phase"]) == ([], "Failed")


def test_a_pre_hook_that_was_given_up_is_stopped_first() -> None:
    """A Job that nobody began, or that is suspended, has no deadline; it could freeze later."""
    job = hook_of(FREEZING, age_s=100000)
    made = planned(FREEZING, spec=HOOKED, pre=Executor(job))
    assert deleted(made) == ["Job stash-hook-pre-nightly-1"]
    assert [type(write) for write in made.writes] == [Delete, SetStatus]
    no = Refusal(made.writes[0], "Forbidden", "a webhook says no")
    assert [type(w) for w in planned(FREEZING, pre=Executor(job), refusal=no).writes] == [SetStatus]
    failed = {**job, "status": {"conditions": list(job_failed("DeadlineExceeded"))}}
    assert deleted(planned(FREEZING, spec=HOOKED, pre=Executor(failed, pods_gone=True))) == []


@pytest.mark.parametrize("gone", ["session", "configuration"])
def test_nobody_waits_for_a_cut_once_a_session_is_abandoned(gone: str) -> None:
    """Without a Job that is vouched for the hook is built anew, for which its target is read."""
    metadata = {**HELD, **({"deletionTimestamp": before(5)} if gone == "session" else {})}
    raw = begun(hook_entry("Pre"), ENSURED, metadata=metadata)
    fields: dict[str, Any] = {"spec": HOOKED}
    if gone == "configuration":
        deleting = {"deletionTimestamp": before(5)}
        fields["configuration"] = configuration(spec=HOOKED, metadata=deleting)
    assert needs_reading(observed(raw, **fields), NOW)
    assert created(planned(raw, **fields))[-1] == "stash-hook-post-nightly-1"


def test_what_the_pod_of_a_hook_waits_for_is_told_once() -> None:
    """The scheduler's words, in the condition of the hook; they go when it runs."""
    for raw, kind, when in ((FREEZING, "Pre", "pre"), (THAWING, "Post", "post")):
        job = hook_of(raw, when, age_s=15)
        pending = pod(phase="Pending", conditions=(UNSCHEDULABLE,), of=job, age_s=15)
        fields: dict[str, Any] = {"spec": HOOKED, "snapshots": all_ready()}
        made = planned(raw, **fields, **{when: Executor(job, pending)})
        entry = conditions_in(target_in(made)["conditions"])[f"{kind}BackupHookExecutionSucceeded"]
        assert entry[:2] == ("Unknown", "HookStarted")
        assert "Insufficient memory" in entry[2]
        told = {**raw, "status": status_in(made)}
        assert planned(told, **fields, **{when: Executor(job, pending)}).writes == ()
        runs = planned(told, **fields, **{when: Executor(job, pod(running(), of=job))})
        entry = conditions_in(target_in(runs)["conditions"])[f"{kind}BackupHookExecutionSucceeded"]
        assert "Insufficient" not in entry[2]


UNCUT = (*all_ready()[:2], volume_snapshot(CLAIMS[2], ready=False, cut=False))


def still(age_s: float, **fields: Any) -> SnapshotSessionObserved:
    """Return a session whose preBackup hook ended so long ago, and one claim is not cut."""
    raw = fields.pop("raw", None) or owing(begun(hook_entry("Pre", age_s=age_s), ENSURED))
    return observed(raw, **{"spec": HOOKED, "executor": GOOD, "snapshots": UNCUT, **fields})


def test_an_application_does_not_stand_still_for_hours() -> None:
    """A VolumeSnapshot that is not cut in ten minutes has failed, then the application goes on."""
    assert plan(still(590), NOW).requeue_after_s == pytest.approx(10)
    made = plan(still(600), NOW)
    assert created(made) == []
    assert list(errors(made)) == [CLAIMS[2]]
    assert "was not cut within 10m0s" in errors(made)[CLAIMS[2]]
    after = {**owing(begun(hook_entry("Pre", age_s=600), ENSURED)), "status": status_in(made)}
    assert created(plan(still(600, raw=after), NOW)) == ["stash-hook-post-nightly-1"]
    # what is cut later is no success
    thawed = hook_entry("Post")
    done = owing(begun(hook_entry("Pre"), ENSURED, thawed, stats=tuple(target_in(made)["stats"])))
    ended = plan(still(600, raw=done, snapshots=all_ready()), NOW)
    assert status_in(ended)["phase"] == "Failed"
    assert list(errors(ended)) == [CLAIMS[2]]


def test_a_job_that_has_not_created_anything_is_stopped_before_the_application_goes_on() -> None:
    """What it creates later would not be quiesced."""
    job = creation_job(CUTTING)
    made = plan(still(601, snapshots=(), executor=Executor(job, pod(running(), of=job))), NOW)
    assert [type(write) for write in made.writes] == [Delete, SetStatus]
    assert set(errors(made)) == set(CLAIMS)


def test_who_wants_it_may_let_the_application_stand_still_for_longer() -> None:
    """By an annotation; with a policy that waits for the outcome there is no limit."""
    longer = configuration(spec=HOOKED, metadata={"annotations": {"drey.dev/quiesce-limit": "30m"}})
    assert plan(still(601, configuration=longer), NOW).requeue_after_s == pytest.approx(1199)
    wrong = configuration(spec=HOOKED, metadata={"annotations": {"drey.dev/quiesce-limit": "-10m"}})
    assert plan(still(500, configuration=wrong), NOW).requeue_after_s == pytest.approx(100)
    entries = begun(hook_entry("Pre", age_s=601), ENSURED)
    raw = owing(entries, policy="OnSuccess")
    assert plan(still(601, raw=raw), NOW).writes == ()
    cut = (*all_ready()[:2], volume_snapshot(CLAIMS[2], ready=False))
    assert created(plan(still(601, snapshots=cut), NOW)) == ["stash-hook-post-nightly-1"]


def test_after_the_pre_hook_a_refused_job_still_lets_the_application_go_on() -> None:
    """Quota refuses the Job of the VolumeSnapshots."""
    (write, _) = planned(FROZEN, spec=HOOKED).writes
    no = Refusal(write, "Forbidden", FORBIDDEN)
    made = planned(FROZEN, spec=HOOKED, refusal=no)
    assert created(made) == []
    assert FORBIDDEN in errors(made)[CLAIMS[0]]
    target = target_in(made)
    failed = owing(begun(*target["conditions"], stats=tuple(target["stats"])))
    assert created(planned(failed, spec=HOOKED)) == ["stash-hook-post-nightly-1"]


def test_a_post_hook_alone_is_built_when_it_is_due() -> None:
    """Its target is read then; without it the hook failed, and says so."""
    spec = snapshot_spec(hooks=hooks(pre=False))
    assert needs_reading(observed(RUN, spec=spec, executor=GOOD, snapshots=all_ready()), NOW)
    uncut = (volume_snapshot(CLAIMS[0], ready=False, cut=False),)
    assert not needs_reading(observed(RUN, spec=spec, executor=GOOD, snapshots=uncut), NOW)
    made = run(spec=spec, reading=reading())
    assert created(made)[-1] == "stash-hook-post-nightly-1"
    for entry, wanted in (
        (hook_entry("Post", "Unknown"), False),
        (hook_entry("Post", "Unknown", reason="HookRefused"), True),
    ):
        raw = begun(ENSURED, entry)
        made_job = Executor(hook_of(raw, "post"))
        seen = observed(raw, spec=spec, executor=GOOD, snapshots=all_ready(), post=made_job)
        assert needs_reading(seen, NOW) is wanted
    gone = run(spec=spec, reading=Reading())
    assert status_in(gone)["phase"] == "Failed"
    assert "does not exist" in str(target_in(gone)["conditions"])


def test_a_post_hook_whose_target_cannot_be_read_is_tried_again_for_hours() -> None:
    """Only its pods are not known: that is no word on whether it exists."""
    spec = snapshot_spec(hooks=hooks(pre=False))
    unread = Reading(unreadable="Forbidden: no right")
    made = run(spec=spec, reading=unread)
    assert created(made) == []
    assert made.requeue_after_s == 10.0
    entries_now = conditions_in(target_in(made)["conditions"])
    state, reason, text = entries_now["PostBackupHookExecutionSucceeded"]
    assert (state, reason) == ("Unknown", "HookRefused")
    assert "cannot be read: Forbidden: no right" in text
    entries = (ENSURED, hook_entry("Post", "Unknown", reason="HookRefused", age_s=7199))
    raw = begun(*entries, age_s=7500)
    waits = planned(raw, spec=spec, executor=GOOD, snapshots=all_ready(), reading=unread)
    assert status_in(waits)["phase"] == "Running"
    again = planned(raw, spec=spec, executor=GOOD, snapshots=all_ready(), reading=reading())
    assert created(again)[-1] == "stash-hook-post-nightly-1"
    entries = (ENSURED, hook_entry("Post", "Unknown", reason="HookRefused", age_s=7201))
    late = begun(*entries, age_s=7500)
    given_up = planned(late, spec=spec, executor=GOOD, snapshots=all_ready(), reading=unread)
    assert status_in(given_up)["phase"] == "Failed"
    assert "cannot be read: Forbidden: no right" in str(status_in(given_up))


def test_a_job_of_a_hook_that_a_crash_hid_is_recorded() -> None:
    """Its condition was not written."""
    new = owing(session(age_s=5))
    made = planned(new, spec=HOOKED, pre=Executor(hook_of(new)))
    assert created(made) == []
    pre = conditions_in(target_in(made)["conditions"])["PreBackupHookExecutionSucceeded"]
    assert pre[0] == "Unknown"


# which planner


def test_what_was_observed_says_which_planner_is_asked() -> None:
    """Both are reachable by one function."""
    both = (observed(), session_observed())
    names = [
        [name_of(w.body) for w in dispatch.plan(seen, NOW).writes if isinstance(w, CreateOnce)]
        for seen in both
    ]
    assert names == [["stash-vs-nightly-1"], ["stash-backup-nightly-1-0"]]
    assert isinstance(both[0], SnapshotSessionObserved)
