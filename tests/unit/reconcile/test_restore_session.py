"""RestoreSession: what is observed, and the plan that follows, arm by arm."""

import json
from dataclasses import replace
from typing import Any

import pytest

from controller.api.job_input import ENVIRONMENT_VARIABLE, JobInput
from controller.api.objects import Uid, name_of, uid_of
from controller.api.report import RunReport, StepReport, StepState
from controller.api.report_encoding import encode
from controller.api.resources import JOB, RESTORE_SESSION, ROLE_BINDING
from controller.plan import CreateOnce, Delete, Finalizer, Plan, Ref, Refusal, SetStatus
from controller.reconcile.observed import Executor, PvcUse, References
from controller.reconcile.restore_session import plan
from tests.support.builders import (
    DISRUPTED,
    NOW,
    TARGET_TEXT,
    before,
    condition,
    failed_host,
    host,
    job,
    job_complete,
    pod,
    pvc,
    report,
    reported,
    repository,
    restore,
    restore_observed,
    restore_references,
    restore_spec,
    running,
    secret,
    terminated,
    waiting,
)

ENSURED = {
    "phase": "Running",
    "totalHosts": 1,
    "conditions": [condition("RestoreExecutorEnsured")],
}
RUNNING = restore(status=ENSURED, age_s=17)


def status_in(planned: Plan) -> dict[str, Any]:
    """Return the status that a plan writes, which is its last write."""
    last = planned.writes[-1]
    assert isinstance(last, SetStatus)
    assert last.ref.resource == RESTORE_SESSION
    return dict(last.status)


def conditions_in(planned: Plan) -> dict[str, tuple[str, str, str]]:
    """Return status, reason and message by type."""
    return {
        entry["type"]: (entry["status"], entry["reason"], entry["message"])
        for entry in status_in(planned)["conditions"]
    }


def verbs(planned: Plan) -> list[str]:
    """Return verb and name of each write."""
    return [
        f"{type(w).__name__} {name_of(w.body) if isinstance(w, CreateOnce) else w.ref.name}"  # type: ignore[union-attr] # no Apply here
        for w in planned.writes
    ]


def test_a_restore_starts_when_all_is_found() -> None:
    """Job, then status: Running, every condition of stash.md 1.5."""
    planned = plan(restore_observed(), NOW)
    assert verbs(planned) == ["CreateOnce stash-restore-bring-back-0", "SetStatus bring-back"]
    assert status_in(planned)["phase"] == "Running"
    assert status_in(planned)["totalHosts"] == 1
    found = conditions_in(planned)
    assert {kind: entry[0] for kind, entry in found.items()} == {
        "RepositoryFound": "True",
        "BackendSecretFound": "True",
        "ValidationPassed": "True",
        "RestoreTargetFound": "True",
        "RestoreExecutorEnsured": "True",
    }
    assert found["RestoreExecutorEnsured"][2] == (
        f"Restorer job/init-container has been ensured successfully for {TARGET_TEXT}."
    )


@pytest.mark.parametrize(
    ("seen", "phase", "kind"),
    [
        (restore_references(repository=None, secret=None), "Pending", "RepositoryFound"),
        (restore_references(secret=secret(found=False)), "Pending", "BackendSecretFound"),
        (restore_references(pvc=None), "Pending", "RestoreTargetFound"),
        (restore_references(task=None), "Invalid", "ValidationPassed"),
    ],
)
def test_what_is_missing_is_waited_for(seen: References, phase: str, kind: str) -> None:
    """Not final: mending it is all that is needed; a second look writes nothing."""
    planned = plan(restore_observed(references=seen), NOW)
    assert verbs(planned) == ["SetStatus bring-back"]
    assert status_in(planned)["phase"] == phase
    assert conditions_in(planned)[kind][0] == "False"
    assert planned.requeue_after_s == 5.0
    assert planned.notes[0].component == "RestoreSession Controller"
    again = plan(restore_observed(restore(status=status_in(planned)), references=seen), NOW)
    assert (again.writes, again.notes) == ((), ())
    mended = plan(restore_observed(restore(status=status_in(planned))), NOW)
    assert status_in(mended)["phase"] == "Running"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"repository": {"name": "repo", "namespace": "x"}},
            "spec.repository.namespace: a Repository of another namespace (x)",
        ),
        ({"target": None}, "spec.target: name the target"),
        ({"timeOut": "-1m"}, "spec.timeOut: give a positive duration"),
        ({"driver": "Tape"}, "spec.driver: Input should be 'Restic' or 'VolumeSnapshotter'"),
    ],
)
def test_a_wrong_spec_is_invalid(changes: dict[str, Any], said: str) -> None:
    """Nothing is created until it is valid; the path and the fix."""
    planned = plan(restore_observed(restore(spec=restore_spec(**changes))), NOW)
    assert verbs(planned) == ["SetStatus bring-back"]
    assert status_in(planned)["phase"] == "Invalid"
    assert conditions_in(planned)["ValidationPassed"][2].startswith(said)


def test_restoring_under_a_running_workload_warns() -> None:
    """A condition and an Event; it is allowed (D15)."""
    use = PvcUse(pods=("app-0", "app-1"), nodes=("node-1",))
    planned = plan(restore_observed(use=use), NOW)
    message = (
        f"{TARGET_TEXT} is in use by app-0, app-1 while it is restored: "
        "what these pods write meanwhile may be overwritten."
    )
    assert conditions_in(planned)["TargetInUse"] == ("True", "TargetMounted", message)
    assert [(n.type, n.reason, n.message) for n in planned.notes] == [
        ("Warning", "TargetInUse", message)
    ]


def test_a_claim_that_no_second_pod_can_mount_is_refused() -> None:
    """ReadWriteOncePod in use: said at once, instead of a pod that never starts (D18)."""
    seen = restore_references(pvc=pvc(modes=("ReadWriteOncePod",)))
    planned = plan(restore_observed(references=seen, use=PvcUse(("app-0",), ("n",))), NOW)
    assert status_in(planned)["phase"] == "Failed"
    state, reason, message = conditions_in(planned)["RestoreExecutorEnsured"]
    assert (state, reason) == ("False", "FailedToEnsureRestoreExecutor")
    assert "is in use by pod app-0" in message


def test_a_refused_job_is_the_error() -> None:
    """The API server's words end the restore."""
    refusal = Refusal(CreateOnce(JOB, job(restore())), "Forbidden", "exceeded quota")
    planned = plan(restore_observed(refusal=refusal), NOW)
    assert status_in(planned)["phase"] == "Failed"
    assert planned.notes[0].message == ('restore failed for host "host-0". Reason: exceeded quota')


def test_a_job_that_a_crash_left_behind_is_recorded_and_nothing_else_decided() -> None:
    """Our own pod may hold the claim by now: it is no reason to fail."""
    seen = restore_references(pvc=pvc(modes=("ReadWriteOncePod",)))
    planned = plan(
        restore_observed(
            references=seen,
            use=PvcUse(("stash-restore-bring-back-0-abc",), ("n",)),
            executor=Executor(job(restore())),
        ),
        NOW,
    )
    assert verbs(planned) == ["SetStatus bring-back"]
    assert status_in(planned)["phase"] == "Running"


def test_a_timeout_gives_a_deadline() -> None:
    """SessionDeadline is the creation plus timeOut."""
    planned = plan(restore_observed(restore(spec=restore_spec(timeOut="5m"), age_s=30)), NOW)
    assert status_in(planned)["sessionDeadline"] == before(30 - 300)


def test_a_success_is_reported() -> None:
    """Stats, MetricsPushed, Event and duration in Stash's shape; needs no snapshot of its own."""
    said = report(host(snapshots=()), retention=None, verification=None)
    planned = plan(restore_observed(RUNNING, executor=Executor(job(RUNNING), reported(said))), NOW)
    status = status_in(planned)
    assert (status["phase"], status["sessionDuration"]) == ("Succeeded", "17s")
    assert status["stats"] == [{"hostname": "host-0", "phase": "Succeeded", "duration": "3.5s"}]
    assert conditions_in(planned).keys() == {"RestoreExecutorEnsured", "MetricsPushed"}
    assert [(n.reason, n.message) for n in planned.notes] == [
        ("Host Restore Succeeded", 'restore succeeded for host "host-0"')
    ]
    after = restore(status=status)
    assert plan(restore_observed(after), NOW) == Plan()


@pytest.mark.parametrize(
    ("said", "reason", "error"),
    [
        (
            report(failed_host("SnapshotNotFound", "no 12ab")),
            "SnapshotNotFound",
            "SnapshotNotFound: no 12ab",
        ),
        (RunReport(hosts=()), "HostFailed", "the report names no host"),
    ],
)
def test_a_failure_is_reported(said: RunReport, reason: str, error: str) -> None:
    """The reason of the report, everywhere."""
    executor = Executor(job(RUNNING), reported(said, code=1))
    planned = plan(restore_observed(RUNNING, executor=executor), NOW)
    assert status_in(planned)["phase"] == "Failed"
    assert planned.facts["error"] == error
    assert planned.notes[0].message == f'restore failed for host "host-0". Reason: {error}'
    words = f"Failed to complete restore. Reason: {error}"
    assert conditions_in(planned)["RestoreFailed"] == ("True", reason, words)


WARNING = "Snapshot 12ab of /stash-data is incomplete; the newest complete one is 34cd."


def test_a_restore_of_an_incomplete_snapshot_says_so() -> None:
    """It succeeds with what there was; a condition and the Event name the better one."""
    said = report(host(snapshots=(), incomplete=WARNING))
    planned = plan(restore_observed(RUNNING, executor=Executor(job(RUNNING), reported(said))), NOW)
    assert status_in(planned)["phase"] == "Succeeded"
    told = conditions_in(planned)["SnapshotIncomplete"]
    assert told == ("True", "IncompleteSnapshotChosen", WARNING)
    (note,) = planned.notes
    assert note.message == f'restore succeeded for host "host-0". {WARNING}'


def test_a_failed_restore_of_an_incomplete_snapshot_says_so_as_well() -> None:
    """What it wrote until then is there, and may be all that somebody looks at."""
    failed = replace(failed_host("RestoreIncomplete", "1 file"), incomplete=WARNING)
    executor = Executor(job(RUNNING), reported(report(failed), code=1))
    planned = plan(restore_observed(RUNNING, executor=executor), NOW)
    assert status_in(planned)["phase"] == "Failed"
    assert conditions_in(planned)["SnapshotIncomplete"][2] == WARNING
    assert conditions_in(planned)["RestoreFailed"][1] == "RestoreIncomplete"


@pytest.mark.parametrize("annotation", [None, {"demo/nightly": ["ab" * 32], "x/y": ["cd" * 32]}])
def test_the_runner_learns_which_snapshots_lack_their_tag(annotation: Any) -> None:
    """Of all users of the Repository: any of their snapshots may be restored."""
    raw = repository()
    if annotation:
        text = json.dumps(annotation)
        raw["metadata"]["annotations"] = {"drey.dev/untagged-incomplete": text}
    planned = plan(restore_observed(references=restore_references(repository=raw)), NOW)
    (made,) = (w.body for w in planned.writes if isinstance(w, CreateOnce))
    (container,) = made["spec"]["template"]["spec"]["containers"]
    (text,) = (v["value"] for v in container["env"] if v["name"] == ENVIRONMENT_VARIABLE)
    plan_of_runner = JobInput.decode(text).restore
    assert plan_of_runner is not None
    assert plan_of_runner.known_incomplete == (("ab" * 32, "cd" * 32) if annotation else ())


def test_failed_metrics_are_a_condition() -> None:
    """They never decide (rule 5)."""
    said = report(metrics=StepReport(StepState.FAILED, "no route"))
    executor = Executor(job(RUNNING), reported(said))
    planned = plan(restore_observed(RUNNING, executor=executor), NOW)
    assert status_in(planned)["phase"] == "Succeeded"
    assert conditions_in(planned)["MetricsPushed"][0] == "False"


def test_a_deadline_that_the_runner_kept_is_told() -> None:
    """With the words of a restore."""
    raw = restore(status=ENSURED, spec=restore_spec(timeOut="90s"))
    executor = Executor(job(raw), reported(report(failed_host("DeadlineExceeded", "")), code=1))
    planned = plan(restore_observed(raw, executor=executor), NOW)
    assert conditions_in(planned)["DeadlineExceeded"][2] == (
        "Failed to complete restore within 1m30s."
    )


@pytest.mark.parametrize(
    ("executor", "error"),
    [
        (Executor(job_gone=True), "JobDeleted: "),
        (Executor(job(RUNNING), pod(terminated(137, reason="OOMKilled"), phase="Failed")), "OOM"),
        (Executor(job(RUNNING, conditions=job_complete()), pods_gone=True), "ReportLost: "),
    ],
)
def test_a_dead_restore_says_that_the_target_may_be_half_written(
    executor: Executor, error: str
) -> None:
    """Failed with a reason; what was restored so far stays."""
    planned = plan(restore_observed(RUNNING, executor=executor), NOW)
    assert status_in(planned)["phase"] == "Failed"
    assert planned.facts["error"].startswith(error)
    assert conditions_in(planned)["RestoreDisrupted"][2].endswith(
        "The target may be restored in part."
    )


def test_a_pod_that_never_started_ends_with_its_job() -> None:
    """The Job goes first."""
    stuck = pod(waiting("ImagePullBackOff", "no"), phase="Pending", age_s=700)
    executor = Executor(job(RUNNING, age_s=700), stuck)
    planned = plan(restore_observed(RUNNING, executor=executor), NOW)
    assert verbs(planned)[0] == "Delete stash-restore-bring-back-0"
    assert verbs(planned)[-1] == "SetStatus bring-back"
    assert planned.facts["error"].startswith("PodNotStarted: ")


def test_a_restore_says_why_its_pod_does_not_start() -> None:
    """As a backup does, until it runs or ends."""
    executor = Executor(job(RUNNING, age_s=17), words=("exceeded quota: small",))
    planned = plan(restore_observed(RUNNING, executor=executor), NOW)
    assert conditions_in(planned)["RestoreWaiting"] == (
        "True",
        "PodNotStarted",
        "Waiting for a pod to start: exceeded quota: small",
    )
    waits = restore(status=status_in(planned))
    done = restore_observed(waits, executor=Executor(job(RUNNING), reported()))
    assert "RestoreWaiting" not in conditions_in(plan(done, NOW))


def test_a_refused_delete_of_a_job_does_not_keep_the_restore_from_ending() -> None:
    """It is left out of the second plan, so that the status is written."""
    stuck = pod(waiting("ImagePullBackOff", "no"), phase="Pending", age_s=700)
    seen = restore_observed(RUNNING, executor=Executor(job(RUNNING, age_s=700), stuck))
    refusal = Refusal(plan(seen, NOW).writes[0], "Forbidden", "a webhook says no")
    planned = plan(replace(seen, refusal=refusal), NOW)
    assert verbs(planned) == ["SetStatus bring-back"]
    assert planned.facts["error"].startswith("PodNotStarted: ")


def test_a_lost_pod_ends_its_restore() -> None:
    """A pod whose node is dead says for ever that it runs; the right to the Secret ends too."""
    stuck = pod(running())
    stuck["metadata"]["deletionTimestamp"] = before(300)
    ref = Ref(ROLE_BINDING, "demo", "stash-restore-bring-back-0", Uid("u"))
    seen = restore_observed(RUNNING, executor=Executor(job(RUNNING), stuck), access=(ref,))
    planned = plan(seen, NOW)
    assert verbs(planned) == [
        "Delete stash-restore-bring-back-0",
        "Delete stash-restore-bring-back-0",
        "SetStatus bring-back",
    ]
    assert planned.facts["error"].startswith("PodLost: ")


def test_a_disruption_is_remembered_until_the_next_pod_runs() -> None:
    """As for backups, in a condition of its own."""
    lost = pod(terminated(137), phase="Failed", conditions=(DISRUPTED,))
    planned = plan(restore_observed(RUNNING, executor=Executor(job(RUNNING), lost)), NOW)
    assert conditions_in(planned)["RestoreWaiting"][:2] == ("True", "PodDisrupted")
    waits = restore(status=status_in(planned))
    back = restore_observed(waits, executor=Executor(job(RUNNING), pod(running())))
    planned = plan(back, NOW)
    assert conditions_in(planned)["RestoreWaiting"][:2] == ("False", "PodStarted1")
    again = restore(status=status_in(planned))
    for well in (report(), report(failed_host())):
        done = restore_observed(again, executor=Executor(job(RUNNING), reported(well)))
        assert verbs(plan(done, NOW)) == [
            "CreateOnce stash-unlock-restore-bring-back-0",
            "SetStatus bring-back",
        ]


def test_a_restore_that_is_disrupted_again_and_again_ends() -> None:
    """As a backup does."""
    lost = pod(terminated(137), phase="Failed", conditions=(DISRUPTED,))
    entry = {**condition("RestoreWaiting"), "status": "False", "reason": "PodStarted4"}
    told = [condition("RestoreExecutorEnsured"), entry]
    waits = restore(status={**ENSURED, "conditions": told})
    planned = plan(restore_observed(waits, executor=Executor(job(RUNNING), lost)), NOW)
    assert verbs(planned) == ["Delete stash-restore-bring-back-0", "SetStatus bring-back"]
    assert planned.facts["error"].startswith("PodDisrupted: 5 pods of its Job")


def test_a_restore_that_an_injected_container_outlives_ends_with_its_job() -> None:
    """The report is recorded before the Job goes, and its pod with it."""
    alive = pod(running("a-proxy"), terminated(0, encode(report(), 12_288)))
    planned = plan(restore_observed(RUNNING, executor=Executor(job(RUNNING), alive)), NOW)
    assert verbs(planned) == ["SetStatus bring-back", "Delete stash-restore-bring-back-0"]
    gone = planned.writes[-1]
    assert isinstance(gone, Delete)
    assert gone.ref.uid == uid_of(job(RUNNING))
    alone = plan(restore_observed(RUNNING, executor=Executor(job(RUNNING), reported())), NOW)
    assert verbs(alone) == ["SetStatus bring-back"]


def test_a_running_pod_costs_nothing() -> None:
    """No write and no timer while a restore runs."""
    executor = Executor(job(RUNNING), pod(running()))
    planned = plan(restore_observed(RUNNING, executor=executor), NOW)
    assert (planned.writes, planned.requeue_after_s) == ((), None)


def test_deletion_takes_only_the_finalizer_of_stash() -> None:
    """The Job goes with its owner."""
    held = restore(metadata={"deletionTimestamp": "x", "finalizers": ["stash.appscode.com"]})
    (write,) = plan(restore_observed(held), NOW).writes
    assert isinstance(write, Finalizer)
    assert not write.present
    assert plan(restore_observed(restore(metadata={"deletionTimestamp": "x"})), NOW) == Plan()


def test_a_killed_restore_has_its_lock_removed() -> None:
    """A lock that stays would keep retention from working (D8)."""
    killed = pod(terminated(137, reason="OOMKilled"), phase="Failed")
    planned = plan(restore_observed(RUNNING, executor=Executor(job(RUNNING), killed)), NOW)
    assert verbs(planned) == [
        "CreateOnce stash-unlock-restore-bring-back-0",
        "SetStatus bring-back",
    ]
    unlock = planned.writes[0]
    assert isinstance(unlock, CreateOnce)
    assert unlock.body["spec"]["template"]["spec"]["hostname"] == killed["spec"]["hostname"]
