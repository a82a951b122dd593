"""BackupSession: what is observed, and the plan that follows, arm by arm."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given

from controller.api.job_input import Invoker, JobInput, RepositoryInput, Target
from controller.api.objects import Obj, Uid, dig, name_of, uid_of
from controller.api.objects import status as status_of
from controller.api.report import (
    MAX_TEXT,
    ConditionReport,
    RepositoryReport,
    RunReport,
    StepReport,
    StepState,
)
from controller.api.report_encoding import encode
from controller.api.resources import BACKUP_SESSION, JOB, REPOSITORY, ROLE, ROLE_BINDING
from controller.plan import Apply, CreateOnce, Delete, Plan, Ref, Refusal, SetStatus
from controller.reconcile.backup_session import plan
from controller.reconcile.observed import Executor, PvcUse, SessionObserved
from runner.metrics import samples
from tests.support.builders import (
    DISRUPTED,
    NAMESPACE,
    NOW,
    REPOSITORY_ID,
    SNAPSHOT_ID,
    UNSCHEDULABLE,
    VERIFIED_AT,
    before,
    condition,
    configuration,
    configuration_spec,
    failed_host,
    host,
    job,
    job_complete,
    job_failed,
    pod,
    pvc,
    references,
    report,
    reported,
    repository,
    running,
    running_status,
    secret,
    session,
    session_observed,
    snapshot,
    terminated,
    waiting,
)
from tests.support.strategies import reports

RUNNING = session(status=running_status(), age_s=17)


def verbs(planned: Plan) -> list[str]:
    """Return verb, kind and name of each write."""
    names = []
    for write in planned.writes:
        if isinstance(write, Apply | CreateOnce):
            names.append(f"{type(write).__name__} {write.resource} {name_of(write.body)}")
        else:
            names.append(f"{type(write).__name__} {write.ref.resource} {write.ref.name}")
    return names


def status_in(planned: Plan) -> dict[str, Any]:
    """Return the status of the session that a plan writes, which is its last write."""
    last = planned.writes[-1]
    assert isinstance(last, SetStatus)
    assert last.ref.resource == BACKUP_SESSION
    assert (last.ref.uid, last.ref.resource_version) == ("uid-of-nightly-1", "7")
    return dict(last.status)


def conditions_of(part: Any) -> dict[str, tuple[str, str, str]]:
    """Return status, reason and message by type."""
    return {
        entry["type"]: (entry["status"], entry["reason"], entry["message"])
        for entry in part.get("conditions") or ()
    }


def ended(pod_: Obj | None, job_: Obj | None = None, **fields: Any) -> SessionObserved:
    """Return a running session with what became of its Job."""
    executor = Executor(job_ or job(RUNNING), pod_)
    return session_observed(RUNNING, **{"executor": executor, **fields})


# start


def test_a_session_starts_with_its_job_and_then_says_so() -> None:
    """The Job first: a crash between the two writes repeats a CreateOnce, which is harmless."""
    planned = plan(session_observed(), NOW)
    assert verbs(planned) == [
        "CreateOnce Job stash-backup-nightly-1-0",
        "SetStatus BackupSession nightly-1",
    ]
    status = status_in(planned)
    assert status["phase"] == "Running"
    assert status["targets"] == [
        {
            "ref": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": "demo",
                "name": "data",
            },
            "phase": "Running",
            "totalHosts": 1,
            "preBackupActions": ["InitializeBackendRepository"],
            "postBackupActions": [
                "ApplyRetentionPolicy",
                "VerifyRepositoryIntegrity",
                "SendRepositoryMetrics",
            ],
            "conditions": [
                {
                    "type": "BackupExecutorEnsured",
                    "status": "True",
                    "reason": "SuccessfullyEnsuredBackupExecutor",
                    "message": "Successfully ensured backup executor.",
                    "lastTransitionTime": before(0),
                }
            ],
        }
    ]
    assert planned.facts == {
        "step": "job_created",
        "job": "stash-backup-nightly-1-0",
        "session_created": "2026-11-22T03:00:00Z",
    }


def test_a_timeout_gives_a_deadline() -> None:
    """SessionDeadline is the session's creation plus timeOut."""
    invoker = configuration(spec=configuration_spec(timeOut="30m"))
    planned = plan(session_observed(session(age_s=60), configuration=invoker), NOW)
    assert status_in(planned)["sessionDeadline"] == before(60 - 1800)


def test_a_job_that_a_crash_left_behind_is_recorded_and_nothing_else_decided() -> None:
    """Neither a missing Secret nor a rival undoes a Job that exists."""
    for seen in (
        session_observed(executor=Executor(job(session()))),
        session_observed(
            executor=Executor(job(session())),
            references=references(secret=secret(found=False)),
            siblings=(session("nightly-0", age_s=9),),
        ),
        session_observed(executor=Executor(job(session())), configuration=None),
    ):
        planned = plan(seen, NOW)
        assert verbs(planned) == ["SetStatus BackupSession nightly-1"]
        assert status_in(planned)["phase"] == "Running"


def input_of(planned: Plan) -> str:
    """Return the document that the Job is given."""
    create = planned.writes[0]
    assert isinstance(create, CreateOnce)
    (container,) = create.body["spec"]["template"]["spec"]["containers"]
    return next(str(v["value"]) for v in container["env"] if v["name"] == "DREY_INPUT")


def test_only_a_repository_that_was_never_used_is_initialised() -> None:
    """D2: an id or a last backup is enough never to initialise again."""
    fresh = plan(session_observed(references=references(repository=repository(used=False))), NOW)
    assert '"may_initialise":true' in input_of(fresh)
    for used in (repository(), repository(used=False, status={"lastBackupTime": before(9)})):
        planned = plan(session_observed(references=references(repository=used)), NOW)
        assert '"may_initialise":true' not in input_of(planned)


def test_integrity_is_verified_on_its_interval() -> None:
    """At the first backup and then once a day, not each time."""
    annotations = {REPOSITORY_ID: "ab" * 32}
    old = repository(metadata={"annotations": {**annotations, VERIFIED_AT: before(86_400)}})
    never = repository(metadata={"annotations": annotations})
    garbled = repository(metadata={"annotations": {**annotations, VERIFIED_AT: "tomorrow"}})
    for due in (old, never, garbled):
        planned = plan(session_observed(references=references(repository=due)), NOW)
        assert '"verify":true' in input_of(planned)
    assert '"verify":true' not in input_of(plan(session_observed(), NOW))


def test_known_damage_goes_with_the_run() -> None:
    """It is looked at with each backup, and a run that cannot look does not forget it."""
    annotations = {REPOSITORY_ID: "ab" * 32, VERIFIED_AT: before(60)}
    for integrity in (True, False):
        there = repository(metadata={"annotations": annotations}, status={"integrity": integrity})
        told = input_of(plan(session_observed(references=references(repository=there)), NOW))
        assert ('"verify":true' in told, '"damaged":true' in told) == (not integrity,) * 2


def test_untagged_snapshots_belong_to_a_lonely_configuration_only() -> None:
    """D1: with a neighbour nobody knows whose they are."""
    alone = plan(session_observed(), NOW)
    assert '"claim_untagged":true' in input_of(alone)
    together = plan(session_observed(neighbours=(configuration("weekly"),)), NOW)
    assert '"claim_untagged":true' not in input_of(together)


def test_a_volume_in_use_draws_the_pod_to_its_node() -> None:
    """D18: a ReadWriteOnce volume can be mounted on that node only, a shared one anywhere."""
    use = PvcUse(pods=("app-0",), nodes=("node-3",))
    planned = plan(session_observed(use=use), NOW)
    create = planned.writes[0]
    assert isinstance(create, CreateOnce)
    assert "node-3" in str(create.body["spec"]["template"]["spec"]["affinity"])
    shared = references(pvc=pvc(modes=("ReadWriteMany",)))
    create = plan(session_observed(use=use, references=shared), NOW).writes[0]
    assert isinstance(create, CreateOnce)
    assert "node-3" not in str(create.body)


# wait


def test_a_configuration_that_was_edited_a_moment_ago_comes_first() -> None:
    """Until its own reconcile has seen the edit, nothing is skipped for its old status."""
    edited = configuration(metadata={"generation": 2})
    planned = plan(session_observed(configuration=edited), NOW)
    assert (planned.writes, planned.requeue_after_s) == ((), 60.0)


def test_a_first_backup_waits_for_the_pod_of_a_session_that_has_ended() -> None:
    """D2: told to end it may take two minutes, in which it may still initialise."""
    unused = references(repository=repository(used=False))
    planned = plan(session_observed(references=unused, movers=(pod(running()),)), NOW)
    status = status_in(planned)
    assert status["phase"] == "Pending"
    assert conditions_of(status)["BackupWaiting"][2] == (
        "Waiting for Pod demo/stash-backup-nightly-1-0-x7k2p: it may initialize the repository, "
        "which only one may do at a time."
    )
    assert planned.requeue_after_s == 60.0
    begun = job(session("weekly-1", of="weekly"))
    planned = plan(session_observed(references=unused, movers=({**begun, "kind": "Job"},)), NOW)
    message = conditions_of(status_in(planned))["BackupWaiting"][2]
    assert message.startswith("Waiting for Job demo/stash-backup-weekly-1-0: it may initialize")


def test_first_backups_into_one_repository_take_turns() -> None:
    """D2: the oldest goes, or the one that has its Job; the others wait and say for whom."""
    unused = references(repository=repository(used=False))
    older = session("weekly-1", of="weekly", age_s=9)
    younger = session("aaa-1", of="aaa", age_s=-1)
    planned = plan(session_observed(references=unused, rivals=(older,)), NOW)
    status = status_in(planned)
    assert status["phase"] == "Pending"
    assert conditions_of(status)["BackupWaiting"] == (
        "True",
        "RepositoryNotInitialized",
        (
            "Waiting for BackupSession demo/weekly-1: it may initialize the repository, "
            "which only one may do at a time."
        ),
    )
    again = session(status=status)
    waits = plan(session_observed(again, references=unused, rivals=(older,)), NOW)
    assert (waits.writes, waits.requeue_after_s) == ((), 60.0)
    starts = plan(session_observed(again, references=unused, rivals=(younger,)), NOW)
    assert status_in(starts)["phase"] == "Running"
    assert status_in(starts)["conditions"] == []
    recorded = session("aaa-1", of="aaa", age_s=-1, status=running_status())
    for rivals, started in (((recorded,), frozenset()), ((younger,), {"uid-of-aaa-1"})):
        seen = session_observed(
            references=unused,
            rivals=rivals,
            started=frozenset(map(Uid, started)),
        )
        assert status_in(plan(seen, NOW))["phase"] == "Pending"
    assert status_in(plan(session_observed(rivals=(older,)), NOW))["phase"] == "Running"


# skip


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        (
            session_observed(configuration=None),
            "Skipped taking backup. Reason: BackupConfiguration demo/nightly does not exist.",
        ),
        (
            session_observed(
                configuration=configuration(
                    status={
                        "phase": "NotReady",
                        "observedGeneration": 1,
                        "conditions": [condition("RepositoryFound", "False", message="No repo.")],
                    }
                )
            ),
            (
                "Skipped taking backup. Reason: BackupConfiguration demo/nightly is not ready. "
                "No repo."
            ),
        ),
        (
            session_observed(
                configuration=configuration(metadata={"deletionTimestamp": "x", "generation": 2})
            ),
            "Skipped taking backup. Reason: BackupConfiguration demo/nightly is being deleted.",
        ),
        (
            session_observed(siblings=(session("nightly-2", status=running_status()),)),
            'Skipped taking new backup. Reason: Previous BackupSession: nightly-2 is "Running".',
        ),
        (
            session_observed(siblings=(session("nightly-0", age_s=5),)),
            'Skipped taking new backup. Reason: Previous BackupSession: nightly-0 is "Pending".',
        ),
        (
            session_observed(
                {
                    **session(),
                    "spec": {"invoker": {"kind": "BackupBatch", "name": "all"}},
                }
            ),
            (
                "Skipped taking backup. Reason: BackupBatch demo/all is of a kind that is not "
                "supported yet."
            ),
        ),
    ],
    ids=["gone", "not-ready", "being-deleted", "running", "older", "batch"],
)
def test_a_session_is_skipped_for_a_reason(seen: SessionObserved, message: str) -> None:
    """Phase, condition and message of stash.md 3.7; no Job."""
    planned = plan(seen, NOW)
    assert status_in(planned)["phase"] == "Skipped"
    assert conditions_of(status_in(planned))["BackupSkipped"] == (
        "True",
        "SkippedTakingNewBackup",
        message,
    )
    assert not any(isinstance(write, CreateOnce) for write in planned.writes)
    assert [(n.type, n.reason, n.message) for n in planned.notes] == [
        ("Normal", "BackupSessionSkipped", message)
    ]


def test_a_younger_or_ended_sibling_is_no_reason_to_skip() -> None:
    """Only a session that runs, or is due before, stands in the way."""
    younger = session("nightly-2", age_s=-5)
    done = session("nightly-0", age_s=50, status={"phase": "Failed"})
    planned = plan(session_observed(siblings=(younger, done)), NOW)
    assert status_in(planned)["phase"] == "Running"


def test_a_sibling_whose_job_exists_runs_whatever_its_status_says() -> None:
    """A crash kept its status from saying so; two pods would write at once."""
    younger = session("nightly-2", age_s=-5)
    seen = session_observed(siblings=(younger,), started=frozenset({Uid("uid-of-nightly-2")}))
    assert status_in(plan(seen, NOW))["phase"] == "Skipped"


# fail before the start


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"references": references(repository=None, secret=None)},
            "Repository demo/repo does not exist.",
        ),
        (
            {"references": references(secret=secret(found=False))},
            "Backend Secret demo/s3-secret does not exist.",
        ),
        (
            {"references": references(secret=secret(keys=frozenset()))},
            (
                "Backend Secret demo/s3-secret has no key RESTIC_PASSWORD: "
                "add the password of the restic repository"
            ),
        ),
        (
            {"references": references(pvc=None)},
            "Backup target PersistentVolumeClaim demo/data does not exist.",
        ),
        (
            {"references": references(pvc=pvc(phase="Lost"))},
            "PersistentVolumeClaim demo/data is Lost: its PersistentVolume does not exist any more",
        ),
        (
            {"references": references(task=None)},
            "spec.task.name: Task pvc-backup does not exist: see kubectl get tasks",
        ),
        (
            {
                "references": references(pvc=pvc(modes=("ReadWriteOncePod",))),
                "use": PvcUse(pods=("app-0",), nodes=("node-1",)),
            },
            (
                "PersistentVolumeClaim demo/data has accessMode ReadWriteOncePod and is in use by "
                "pod app-0: no second pod can mount it. Use ReadWriteOnce, or stop the pod"
            ),
        ),
        (
            {
                "refusal": Refusal(
                    CreateOnce(JOB, job(session())), "Forbidden", "exceeded quota: count/jobs.batch"
                )
            },
            "exceeded quota: count/jobs.batch",
        ),
    ],
)
def test_what_keeps_a_backup_from_starting_is_the_error(changes: dict[str, Any], said: str) -> None:
    """Failed at once, on the target too, with the object by name; one Event."""
    planned = plan(session_observed(**changes), NOW)
    status = status_in(planned)
    assert status["phase"] == status["targets"][0]["phase"] == "Failed"
    state, reason, message = conditions_of(status["targets"][0])["BackupExecutorEnsured"]
    assert (state, reason) == ("False", "FailedToEnsureBackupExecutor")
    assert message.startswith(f"Failed to ensure backup executor. Reason: {said}")
    assert [(n.type, n.reason) for n in planned.notes] == [("Warning", "Host Backup Failed")]
    assert not any(isinstance(write, CreateOnce) for write in planned.writes)


def test_a_job_that_cannot_be_built_is_no_start() -> None:
    """A forbidden flag or a variable without a value ends the session with path and fix."""
    invoker = configuration(
        spec=configuration_spec(
            task={"name": "pvc-backup", "params": [{"name": "TARGET_NAME", "value": "x"}]}
        )
    )
    planned = plan(session_observed(configuration=invoker), NOW)
    message = conditions_of(status_in(planned)["targets"][0])["BackupExecutorEnsured"][2]
    assert "spec.task.params[0].name: TARGET_NAME is set by the operator" in message


# follow


def test_a_running_pod_costs_nothing() -> None:
    """No write and no timer while a backup runs, but a line in the log."""
    planned = plan(ended(pod(running())), NOW)
    assert planned == Plan(facts={"step": "started", "pod": "stash-backup-nightly-1-0-x7k2p"})


def test_a_pod_that_waits_is_told() -> None:
    """What it waits for is in the log line; the session stays Running."""
    planned = plan(ended(pod(waiting("ErrImagePull", "no"), phase="Pending")), NOW)
    assert planned.writes == ()
    assert planned.facts["words"] == "container pvc-backup-0: ErrImagePull no"


@pytest.mark.parametrize(
    "executor",
    [
        Executor(job(RUNNING, age_s=17), words=("exceeded quota: small",)),
        Executor(
            job(RUNNING, age_s=17), pod(phase="Pending", conditions=(UNSCHEDULABLE,), age_s=10)
        ),
    ],
    ids=["no-pod", "pending"],
)
def test_a_session_says_why_its_pod_does_not_start(executor: Executor) -> None:
    """In its status, in the words of who holds it up; once for each text; until it runs."""
    said = "exceeded quota: small" if executor.words else "3 Insufficient memory."
    status = status_in(plan(session_observed(RUNNING, executor=executor), NOW))
    state, reason, message = conditions_of(status)["BackupWaiting"]
    assert (status["phase"], state, reason) == ("Running", "True", "PodNotStarted")
    assert message.startswith("Waiting for a pod to start: ")
    assert message.endswith(said)
    waits = {**RUNNING, "status": status}
    assert plan(session_observed(waits, executor=executor), NOW).writes == ()
    other = Executor(job(RUNNING, age_s=17), words=("another reason",))
    again = status_in(plan(session_observed(waits, executor=other), NOW))
    assert conditions_of(again)["BackupWaiting"][2].endswith("another reason")
    runs = session_observed(waits, executor=Executor(job(RUNNING), pod(running())))
    assert conditions_of(status_in(plan(runs, NOW)))["BackupWaiting"][:2] == ("False", "PodStarted")
    done = session_observed(waits, executor=Executor(job(RUNNING), reported()))
    assert "BackupWaiting" not in conditions_of(status_in(plan(done, NOW)))


def test_words_about_the_next_pod_do_not_hide_the_disruption() -> None:
    """The time in which it has to start is counted from the disruption."""
    lost = pod(terminated(137), phase="Failed", conditions=(DISRUPTED,))
    waits = {**RUNNING, "status": status_in(plan(ended(lost), NOW))}
    stuck = pod(phase="Pending", conditions=(UNSCHEDULABLE,), age_s=30)
    seen = session_observed(waits, executor=Executor(job(RUNNING), stuck))
    status = status_in(plan(seen, NOW + timedelta(seconds=20)))
    state, reason, message = conditions_of(status)["BackupWaiting"]
    assert (state, reason) == ("True", "PodDisrupted")
    assert "Insufficient memory" in message


def test_a_lost_pod_ends_its_session_without_the_help_of_its_node() -> None:
    """Within the timeOut and 20 min; the timer is set once, nothing is asked meanwhile."""
    invoker = configuration(spec=configuration_spec(timeOut="10m"))
    runs = pod(running())
    seen = session_observed(RUNNING, configuration=invoker, executor=Executor(job(RUNNING), runs))
    waits = plan(seen, NOW)
    assert (waits.writes, waits.requeue_after_s) == ((), 1798.0)
    late = Executor(job(RUNNING, age_s=1800), runs)
    planned = plan(session_observed(RUNNING, configuration=invoker, executor=late), NOW)
    assert verbs(planned) == [
        "Delete Job stash-backup-nightly-1-0",
        "SetStatus BackupSession nightly-1",
    ]
    assert planned.facts["error"].startswith("DeadlineExceeded: ")
    assert conditions_of(status_in(planned))["DeadlineExceeded"][0] == "True"


def test_a_disruption_is_remembered_until_the_next_pod_runs() -> None:
    """Since when the next pod is awaited stands in a condition, so that it is missed in the end."""
    lost = pod(terminated(137), phase="Failed", conditions=(DISRUPTED,))
    old_job = job(RUNNING, age_s=7200)
    planned = plan(ended(lost, old_job), NOW)
    status = status_in(planned)
    assert status["phase"] == "Running"
    assert conditions_of(status)["BackupWaiting"][:2] == ("True", "PodDisrupted")
    waits = {**RUNNING, "status": status}
    seen = session_observed(waits, executor=Executor(old_job, lost))
    assert plan(seen, NOW).writes == ()
    seen = session_observed(waits, executor=Executor(old_job, pod(running())))
    assert conditions_of(status_in(plan(seen, NOW)))["BackupWaiting"] == (
        "False",
        "PodStarted1",
        "A pod of its Job runs. Lost to disruptions before it: 1.",
    )


def after(seen: SessionObserved) -> Obj:
    """Return the session as its next plan leaves it: all that a controller remembers."""
    planned = plan(seen, NOW)
    return {**seen.session, "status": status_in(planned)} if planned.writes else seen.session


def test_disruptions_are_counted_to_an_end() -> None:
    """By the status alone, whatever a pod waits for between them."""
    lost = pod(terminated(137), phase="Failed", conditions=(DISRUPTED,))
    stuck = pod(phase="Pending", conditions=(UNSCHEDULABLE,), age_s=30)
    found: list[str] = []
    current: Obj = RUNNING
    while status_of(current)["phase"] == "Running":
        for one in (stuck, pod(running()), lost, lost):
            seen = session_observed(current, executor=Executor(job(RUNNING), one))
            current = after(seen)
        if "BackupWaiting" in (said := conditions_of(status_of(current))):
            found.append(said["BackupWaiting"][1])
    assert found == ["PodDisrupted", "PodDisrupted2", "PodDisrupted3", "PodDisrupted4"]
    assert status_of(current)["phase"] == "Failed"
    error = status_of(current)["targets"][0]["stats"][0]["error"]
    assert error.startswith("PodDisrupted: 5 pods of its Job were lost to disruptions")


@pytest.mark.parametrize("said", [report(), report(failed_host())], ids=["well", "badly"])
def test_the_lock_of_a_pod_that_was_replaced_goes_when_its_successor_has_reported(
    said: RunReport,
) -> None:
    """One that was killed outright has left it, and its successor may not have met it (D8)."""
    lost = pod(terminated(137), phase="Failed", conditions=(DISRUPTED,))
    waits = after(ended(lost))
    runs = after(session_observed(waits, executor=Executor(job(RUNNING), pod(running()))))
    for before_ in (waits, runs):
        executor = Executor(job(RUNNING), reported(said))
        planned = plan(session_observed(before_, executor=executor), NOW)
        assert verbs(planned)[0] == "CreateOnce Job stash-unlock-backup-nightly-1-0"
        unlock = planned.writes[0]
        assert isinstance(unlock, CreateOnce)
        assert unlock.body["spec"]["template"]["spec"]["hostname"] == lost["spec"]["hostname"]
    stuck = pod(waiting("ImagePullBackOff", "no"), phase="Pending", age_s=700)
    seen = session_observed(runs, executor=Executor(job(RUNNING, age_s=701), stuck))
    assert verbs(plan(seen, NOW)) == [
        "Delete Job stash-backup-nightly-1-0",
        "SetStatus BackupSession nightly-1",
    ], "a pod of that host name may live for a moment yet"


def test_a_job_that_an_injected_container_keeps_from_ending_goes_with_its_session() -> None:
    """After the status: before it, what keeps that from being written would cost the report."""
    text = encode(report(), 12_288)
    planned = plan(ended(pod(running("a-proxy"), terminated(0, text))), NOW)
    assert verbs(planned) == [
        "SetStatus Repository repo",
        "SetStatus BackupSession nightly-1",
        "Delete Job stash-backup-nightly-1-0",
    ]
    gone = planned.writes[-1]
    assert isinstance(gone, Delete)
    assert gone.ref.uid == uid_of(job(RUNNING))


# report


def test_a_success_is_reported_in_the_words_of_stash() -> None:
    """Repository first, the final phase last; stats, conditions and Event of stash.md 1.4."""
    planned = plan(ended(reported()), NOW)
    assert verbs(planned) == [
        "SetStatus Repository repo",
        "SetStatus BackupSession nightly-1",
    ]
    status = status_in(planned)
    assert (status["phase"], status["sessionDuration"]) == ("Succeeded", "17s")
    assert {kind: state for kind, (state, _, _) in conditions_of(status).items()} == {
        "BackendRepositoryInitialized": "True",
        "RetentionPolicyApplied": "True",
        "RepositoryIntegrityVerified": "True",
        "RepositoryMetricsPushed": "True",
        "MetricsPushed": "True",
        "BackupHistoryCleaned": "True",
    }
    (target,) = status["targets"]
    assert target["phase"] == "Succeeded"
    assert target["stats"] == [
        {
            "hostname": "host-0",
            "phase": "Succeeded",
            "duration": "3.5s",
            "snapshots": [
                {
                    "name": SNAPSHOT_ID,
                    "path": "/stash-data",
                    "totalSize": "2.567 KiB",
                    "uploaded": "410 B",
                    "processingTime": "0:01",
                    "fileStats": {
                        "totalFiles": 3,
                        "newFiles": 2,
                        "modifiedFiles": 1,
                        "unmodifiedFiles": 0,
                    },
                }
            ],
        }
    ]
    assert [(n.type, n.reason, n.message, n.component) for n in planned.notes] == [
        (
            "Normal",
            "Host Backup Succeeded",
            'backup succeeded for host host-0 of "PersistentVolumeClaim"/"data".',
            "Status Updater",
        )
    ]
    assert planned.facts["snapshots"] == [SNAPSHOT_ID]


def test_a_final_phase_is_never_left() -> None:
    """Whatever is seen later, an ended session has no plan."""
    for phase in ("Succeeded", "Failed", "Skipped", "Unknown"):
        done = session(status={**running_status(), "phase": phase})
        assert plan(session_observed(done, executor=Executor(job_gone=True)), NOW) == Plan()


def test_a_session_that_is_being_deleted_is_left_alone() -> None:
    """Its Job goes with it."""
    assert plan(session_observed(session(metadata={"deletionTimestamp": "x"})), NOW) == Plan()


def test_a_failure_is_reported_with_its_reason() -> None:
    """The reason of the report stands in stats, condition, Event and log line."""
    planned = plan(ended(reported(report(failed_host()), code=1)), NOW)
    status = status_in(planned)
    assert status["phase"] == status["targets"][0]["phase"] == "Failed"
    assert status["targets"][0]["stats"][0]["error"] == "WrongPassword: wrong password"
    assert conditions_of(status)["BackupFailed"] == (
        "True",
        "WrongPassword",
        "Failed to complete backup. Reason: WrongPassword: wrong password",
    )
    assert planned.notes[0].message == (
        'backup failed for host "host-0" of "PersistentVolumeClaim"/"data". '
        "Reason: WrongPassword: wrong password"
    )
    assert planned.facts["error"] == "WrongPassword: wrong password"


def test_reason_and_words_of_a_failure_are_those_of_one_host() -> None:
    """The first whose reason is known."""
    said = report(failed_host("what a third party says", "x"), failed_host("StepFailed", "y"))
    found = conditions_of(status_in(plan(ended(reported(said, code=1)), NOW)))
    words = "Failed to complete backup. Reason: StepFailed: y"
    assert found["BackupFailed"] == ("True", "StepFailed", words)


@pytest.mark.parametrize(
    ("said", "told_by", "reason"),
    [
        (report(failed_host("StepFailed", "exit 7")), "BackupFailed", "StepFailed"),
        (report(failed_host("what a third party says", "x")), "BackupFailed", "HostFailed"),
        (report(hosts=()), "BackupFailed", "HostFailed"),
        (
            report(failed_host("RepositoryVanished", "x"), repository=RepositoryReport()),
            "BackendRepositoryInitialized",
            "FailedToInitializeBackendRepository",
        ),
        (report(failed_host("DeadlineExceeded", "x")), "DeadlineExceeded", ""),
        (
            report(failed_host("DeadlineExceeded", "x"), failed_host("StepFailed", "y")),
            "BackupFailed",
            "StepFailed",
        ),
    ],
)
def test_one_condition_says_why_a_run_failed(said: Any, told_by: str, reason: str) -> None:
    """The one that exists for it already, else BackupFailed."""
    found = conditions_of(status_in(plan(ended(reported(said, code=1)), NOW)))
    assert told_by in found
    assert reason in ("", found[told_by][1])
    assert ("BackupFailed" in found) == (told_by == "BackupFailed")


def test_retention_and_metrics_never_decide() -> None:
    """What they did is a condition; the data is safe (rule 5)."""
    sad = StepReport(StepState.FAILED, "locked by a neighbour")
    planned = plan(ended(reported(report(retention=sad, metrics=sad))), NOW)
    status = status_in(planned)
    assert status["phase"] == "Succeeded"
    assert conditions_of(status)["RetentionPolicyApplied"] == (
        "False",
        "FailedToApplyRetentionPolicy",
        "Failed to apply retention policy. Reason: locked by a neighbour",
    )
    assert conditions_of(status)["MetricsPushed"][0] == "False"


def test_a_step_that_was_left_out_says_why() -> None:
    """Retention without any keep rule is skipped with a condition (D6)."""
    planned = plan(ended(reported(report(retention=StepReport(StepState.SKIPPED, "no rule")))), NOW)
    assert conditions_of(status_in(planned))["RetentionPolicyApplied"] == (
        "True",
        "Skipped",
        "no rule",
    )


def test_a_damaged_repository_is_no_success() -> None:
    """What lies in it may not be restorable."""
    # `restic check` ran, so that its step is done: as the runner reports it
    bad = report(
        repository=RepositoryReport(id="ab" * 32, integrity=False),
        verification=StepReport(StepState.DONE, "pack is missing"),
    )
    planned = plan(ended(reported(bad)), NOW)
    assert status_in(planned)["phase"] == "Failed"
    error = "the repository is damaged: pack is missing"
    assert planned.facts["error"] == error
    assert conditions_of(status_in(planned))["RepositoryIntegrityVerified"] == (
        "False",
        "FailedToVerifyRepositoryIntegrity",
        "Repository integrity verification failed. Reason: pack is missing",
    )
    assert conditions_of(status_in(planned))["BackupFailed"] == (
        "True",
        "RepositoryDamaged",
        f"Failed to complete backup. Reason: {error}",
    )


def test_an_incomplete_backup_is_failed_but_its_snapshot_is_shown() -> None:
    """D5: exit 3 has its own reason, the first paths and the snapshot's id."""
    partial = host(
        succeeded=False, reason="BackupIncomplete", error="2 files", unreadable=("/a", "/b")
    )
    planned = plan(ended(reported(report(partial), code=1)), NOW)
    status = status_in(planned)
    assert status["phase"] == "Failed"
    assert status["targets"][0]["stats"][0]["snapshots"][0]["name"] == SNAPSHOT_ID
    assert conditions_of(status)["BackupIncomplete"] == (
        "True",
        "BackupIncomplete",
        "Some files could not be read: /a, /b. The snapshot was kept. 2 files",
    )


def test_an_accepted_incomplete_backup_keeps_its_condition() -> None:
    """The annotation makes it succeed, not go unseen."""
    partial = host(reason="BackupIncomplete", error="2 files", unreadable=("/a",))
    status = status_in(plan(ended(reported(report(partial))), NOW))
    assert status["phase"] == "Succeeded"
    assert conditions_of(status)["BackupIncomplete"][0] == "True"


@pytest.mark.parametrize("snapshots", [(), (snapshot(id=""),), (snapshot(id="latest"),)])
def test_success_without_a_snapshot_is_not_believed(snapshots: Any) -> None:
    """Whoever wrote the report: a success needs a snapshot's id (rule 5)."""
    planned = plan(ended(reported(report(host(snapshots=snapshots)))), NOW)
    status = status_in(planned)
    assert status["phase"] == status["targets"][0]["phase"] == "Failed"
    assert status["targets"][0]["stats"][0]["error"].startswith("NoSummary: ")


def test_a_report_without_hosts_is_no_success() -> None:
    """Nothing was backed up."""
    empty = RunReport(hosts=())
    planned = plan(ended(reported(empty)), NOW)
    assert status_in(planned)["phase"] == "Failed"
    assert planned.facts["error"] == "the report names no host"


def test_a_deadline_that_the_runner_kept_is_told() -> None:
    """The runner ends restic at timeOut and reports; the condition is Stash's."""
    late = failed_host("DeadlineExceeded", "interrupted after 2m0s")
    invoker = configuration(spec=configuration_spec(timeOut="2m"))
    planned = plan(ended(reported(report(late), code=1), configuration=invoker), NOW)
    assert conditions_of(status_in(planned))["DeadlineExceeded"] == (
        "True",
        "FailedToCompleteWithinDeadline",
        "Failed to complete backup within 2m0s.",
    )


def test_a_third_party_may_say_something_but_not_in_our_words() -> None:
    """Conditions of a report are shown on the target; types of ours are dropped."""
    said = (
        ConditionReport("DumpTaken", "True", "Done", "ok"),
        ConditionReport("BackupExecutorEnsured", "False", "x", "y"),
    )
    status = status_in(plan(ended(reported(report(conditions=said))), NOW))
    assert conditions_of(status["targets"][0]) == {
        "BackupExecutorEnsured": (
            "True",
            "SuccessfullyEnsuredBackupExecutor",
            "Successfully ensured backup executor.",
        ),
        "DumpTaken": ("True", "Done", "ok"),
    }


JOB_INPUT = JobInput(
    "BackupSession", NAMESPACE, "s", "", Invoker("BackupConfiguration", NAMESPACE, "nightly"),
    Target("v1", "PersistentVolumeClaim", NAMESPACE, "data"), "host-0",
    RepositoryInput("repo", NAMESPACE, "s3", "s3:x"),
)  # fmt: skip


@given(reports)
def test_no_report_makes_a_success_that_is_not_proven(said: RunReport) -> None:
    """Any report at all: Succeeded implies hosts, each with a snapshot's id, and no damage.

    What the Job pushes about it says the same.
    """
    try:
        raw = reported(said)
    except ValueError:
        return  # too long for a termination message
    planned = plan(ended(raw), NOW)
    status = status_in(planned)
    assert status["phase"] in ("Succeeded", "Failed")
    good = bool(said.hosts) and all(
        h.succeeded and any(s.id == SNAPSHOT_ID for s in h.snapshots) for h in said.hosts
    )
    assert (status["phase"] == "Succeeded") <= (good and said.repository.integrity is not False)
    pushed = {name: value for name, _, value in samples(said, JOB_INPUT, now_s=2.0, created_s=1.0)}
    assert pushed["stash_backup_session_success"] == (status["phase"] == "Succeeded")


# the Repository


def repository_writes(planned: Plan) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the Repository's status and annotations that a plan writes."""
    status: dict[str, Any] = {}
    annotations: dict[str, str] = {}
    for write in planned.writes:
        if isinstance(write, SetStatus) and write.ref.resource == REPOSITORY:
            status = dict(write.status)
        if isinstance(write, Apply):
            assert write.body.keys() == {"apiVersion", "kind", "metadata"}
            assert dig(write.body, "metadata", "uid") == "uid-of-repo"
            assert dig(write.body, "metadata", "resourceVersion") == "7"
            annotations = dict(write.body["metadata"]["annotations"])
    return status, annotations


def test_the_repository_learns_from_a_backup() -> None:
    """LastBackupTime is the session's creation; id and time of the check are annotations."""
    learned = RepositoryReport(
        id="cd" * 32,
        initialised=True,
        integrity=True,
        size_bytes=2048,
        snapshot_count=9,
        snapshots_kept=4,
        snapshots_removed=1,
    )
    fresh = references(repository=repository(used=False))
    planned = plan(ended(reported(report(repository=learned)), references=fresh), NOW)
    status, annotations = repository_writes(planned)
    assert status == {
        "lastBackupTime": before(17),
        "integrity": True,
        "totalSize": "2.000 KiB",
        "snapshotCount": 9,
        "snapshotsRemovedOnLastCleanup": 1,
    }
    assert annotations == {REPOSITORY_ID: "cd" * 32, VERIFIED_AT: before(0)}


def test_the_id_of_a_repository_never_changes() -> None:
    """D2: another id is a vanished repository, not news."""
    other = RepositoryReport(id="cd" * 32)
    _, annotations = repository_writes(plan(ended(reported(report(repository=other))), NOW))
    assert annotations == {}


def test_a_failed_first_backup_still_records_the_id() -> None:
    """The repository was initialised: nobody may do it again."""
    made = report(failed_host(), repository=RepositoryReport(id="cd" * 32, initialised=True))
    fresh = references(repository=repository(used=False))
    status, annotations = repository_writes(
        plan(ended(reported(made, code=1), references=fresh), NOW)
    )
    assert annotations == {REPOSITORY_ID: "cd" * 32}
    assert "lastBackupTime" not in status


def test_the_last_backup_time_never_goes_back() -> None:
    """A session that ends late does not hide a younger one."""
    newer = repository(status={"lastBackupTime": before(1)})
    status, _ = repository_writes(
        plan(ended(reported(), references=references(repository=newer)), NOW)
    )
    assert status["lastBackupTime"] == before(1)


def test_the_count_of_one_of_several_users_is_not_the_count() -> None:
    """What this configuration keeps counts for all only while it is alone."""
    shared = repository(status={"references": [{"name": "a"}, {"name": "b"}], "snapshotCount": 7})
    status, _ = repository_writes(
        plan(ended(reported(), references=references(repository=shared)), NOW)
    )
    assert status["snapshotCount"] == 7


def test_a_repository_that_is_gone_or_refuses_does_not_hold_up_the_result() -> None:
    """The session ends, with or without its Repository (D13)."""
    refused = Refusal(
        SetStatus(Ref.to(REPOSITORY, repository()), {}), "Invalid", "status: something"
    )
    for fields in (
        {"references": references(repository=None)},
        {"references": references(repository=repository(metadata={"deletionTimestamp": "x"}))},
        {"refusal": refused},
    ):
        planned = plan(ended(reported(), **fields), NOW)
        assert verbs(planned) == ["SetStatus BackupSession nightly-1"]
        assert status_in(planned)["phase"] == "Succeeded"


# history


def test_old_sessions_go_before_the_final_status() -> None:
    """The default limit is 1; each delete has the uid as its precondition (D13)."""
    old = [session(f"nightly-0{n}", age_s=100 + n, status={"phase": "Succeeded"}) for n in range(2)]
    planned = plan(ended(reported(), siblings=tuple(old)), NOW)
    assert verbs(planned)[1:] == [
        "Delete BackupSession nightly-00",
        "Delete BackupSession nightly-01",
        "SetStatus BackupSession nightly-1",
    ]
    delete = planned.writes[1]
    assert isinstance(delete, Delete)
    assert (delete.ref.uid, delete.ref.resource_version) == ("uid-of-nightly-00", "")


def test_a_refused_delete_is_a_condition_and_no_obstacle() -> None:
    """The limit is kept another time."""
    old = session("nightly-0", age_s=100, status={"phase": "Succeeded"})
    refusal = Refusal(Delete(Ref.to(BACKUP_SESSION, old)), "Forbidden", "a webhook says no")
    planned = plan(ended(reported(), siblings=(old,), refusal=refusal), NOW)
    assert not any(isinstance(write, Delete) for write in planned.writes)
    status = status_in(Plan(planned.writes[:1]))
    assert status["phase"] == "Succeeded"
    assert conditions_of(status)["BackupHistoryCleaned"] == (
        "False",
        "FailedToCleanBackupHistory",
        "Failed to cleanup old BackupSessions. Reason: a webhook says no",
    )


# bury


def test_a_killed_pod_fails_its_session_and_has_its_lock_removed() -> None:
    """Reason and remedy, BackupDisrupted, and a Job with the dead pod's host name (D8)."""
    killed = pod(terminated(137, reason="OOMKilled"), phase="Failed")
    planned = plan(ended(killed), NOW)
    assert verbs(planned) == [
        "CreateOnce Job stash-unlock-backup-nightly-1-0",
        "SetStatus BackupSession nightly-1",
    ]
    unlock = planned.writes[0]
    assert isinstance(unlock, CreateOnce)
    assert unlock.body["spec"]["template"]["spec"]["hostname"] == killed["spec"]["hostname"]
    status = status_in(planned)
    (target,) = status["targets"]
    assert status["phase"] == target["phase"] == "Failed"
    assert target["stats"][0]["error"].startswith("OOMKilled: container pvc-backup-0 was OOMKilled")
    state, reason, message = conditions_of(target)["BackupDisrupted"]
    assert (state, reason) == ("True", "FailedToCompleteDueToDisruption")
    assert message.startswith("Failed to complete backup. Reason: OOMKilled: ")
    assert planned.notes[0].reason == "Host Backup Failed"


def test_a_refused_unlock_does_not_keep_the_session_from_ending() -> None:
    """A quota may refuse that Job as well."""
    killed = pod(terminated(137, reason="OOMKilled"), phase="Failed")
    refusal = Refusal(plan(ended(killed), NOW).writes[0], "Forbidden", "exceeded quota")
    planned = plan(ended(killed, refusal=refusal), NOW)
    assert verbs(planned) == ["SetStatus BackupSession nightly-1"]


def test_a_refused_delete_of_a_job_does_not_keep_the_session_from_ending() -> None:
    """It is not tried again before the status; what else may be refused comes after it."""
    stuck = pod(waiting("ImagePullBackOff", "no such image"), phase="Pending", age_s=700)
    old = session("nightly-0", age_s=100, status={"phase": "Succeeded"})
    seen = ended(stuck, job(RUNNING, age_s=700), siblings=(old,))
    refusal = Refusal(plan(seen, NOW).writes[0], "Forbidden", "a webhook says no")
    planned = plan(replace(seen, refusal=refusal), NOW)
    assert verbs(planned) == [
        "SetStatus BackupSession nightly-1",
        "Delete BackupSession nightly-0",
    ]
    assert planned.facts["error"].startswith("PodNotStarted: ")


def test_a_lock_is_removed_although_the_pod_is_gone_too() -> None:
    """Its host name is derived from the session, as its Job's was (D8)."""
    executor = Executor(job(RUNNING, conditions=job_failed()), pods_gone=True)
    unlock = plan(session_observed(RUNNING, executor=executor), NOW).writes[0]
    started = plan(session_observed(), NOW).writes[0]
    assert isinstance(unlock, CreateOnce)
    assert isinstance(started, CreateOnce)
    assert name_of(unlock.body) == "stash-unlock-backup-nightly-1-0"
    hostnames = {w.body["spec"]["template"]["spec"]["hostname"] for w in (unlock, started)}
    assert len(hostnames) == 1


ACCESS = tuple(
    Ref(kind, "demo", "stash-backup-nightly-1-0", Uid(f"uid-of-{kind}"))
    for kind in (ROLE, ROLE_BINDING)
)


@pytest.mark.parametrize(
    "executor",
    [
        Executor(job(RUNNING), reported()),
        Executor(job(RUNNING), pod(terminated(1), phase="Failed")),
        Executor(job_gone=True),
    ],
    ids=["reported", "died", "deleted"],
)
def test_the_right_to_read_the_secret_ends_with_the_session(executor: Executor) -> None:
    """D26: for the Job's life; nothing is written where there never was one."""
    planned = plan(session_observed(RUNNING, executor=executor, access=ACCESS), NOW)
    deleted = [w.ref for w in planned.writes if isinstance(w, Delete)]
    assert deleted == list(ACCESS)
    without = plan(session_observed(RUNNING, executor=executor), NOW)
    assert not any(isinstance(write, Delete) for write in without.writes)


def test_a_pod_that_never_started_ends_with_its_job() -> None:
    """The Job goes first: a crash in between must not leave one that starts later."""
    stuck = pod(waiting("ImagePullBackOff", "no such image"), phase="Pending", age_s=700)
    planned = plan(ended(stuck, job(RUNNING, age_s=700)), NOW)
    assert verbs(planned) == [
        "Delete Job stash-backup-nightly-1-0",
        "SetStatus BackupSession nightly-1",
    ]
    assert planned.facts["error"].startswith("PodNotStarted: ")
    assert "no such image" in planned.facts["error"]


@pytest.mark.parametrize(
    "executor",
    [
        Executor(job(RUNNING, conditions=job_complete()), pods_gone=True),
        Executor(job(RUNNING, conditions=job_failed()), pods_gone=True),
        Executor(job(RUNNING), pod(terminated(0, "done"), phase="Succeeded")),
    ],
)
def test_a_lost_report_says_how_to_find_the_snapshot(executor: Executor) -> None:
    """D11: never Succeeded; the configuration's tag and the session's time lead to it (D1)."""
    planned = plan(session_observed(RUNNING, executor=executor), NOW)
    error = status_in(planned)["targets"][0]["stats"][0]["error"]
    assert error.startswith("ReportLost: ")
    assert "drey:config=demo/nightly" in error
    assert before(17) in error


def test_a_deleted_job_fails_its_session_for_ever() -> None:
    """D10: recorded and gone is Failed, never created again."""
    planned = plan(session_observed(RUNNING, executor=Executor(job_gone=True)), NOW)
    assert verbs(planned) == ["SetStatus BackupSession nightly-1"]
    assert planned.facts["error"] == "JobDeleted: its Job was deleted before it reported"


@pytest.mark.parametrize("found", [None, configuration(metadata={"deletionTimestamp": "x"})])
def test_a_run_ends_with_its_configuration(found: Obj | None) -> None:
    """D15: the Job goes, and with it the pod, which releases its lock; the session says why."""
    runs = pod(running(), phase="Running")
    executor = Executor(job(RUNNING), runs)
    planned = plan(session_observed(RUNNING, executor=executor, configuration=found), NOW)
    assert verbs(planned) == [
        "Delete Job stash-backup-nightly-1-0",
        "SetStatus BackupSession nightly-1",
    ]
    assert status_in(planned)["phase"] == "Failed"
    assert planned.facts["error"] == (
        "ConfigurationDeleted: BackupConfiguration demo/nightly was deleted during the backup: "
        "it was ended"
    )


def test_a_run_that_reported_before_its_configuration_went_counts() -> None:
    """What was saved is saved."""
    planned = plan(ended(reported(report(host())), configuration=None), NOW)
    assert status_in(planned)["phase"] == "Succeeded"


def test_the_backstop_deadline_is_a_deadline() -> None:
    """ActiveDeadlineSeconds ends what the runner did not."""
    executor = Executor(job(RUNNING, conditions=job_failed("DeadlineExceeded", "too long")))
    invoker = configuration(spec=configuration_spec(timeOut="2m"))
    planned = plan(session_observed(RUNNING, executor=executor, configuration=invoker), NOW)
    assert conditions_of(status_in(planned))["DeadlineExceeded"][0] == "True"


def test_no_error_text_is_endless() -> None:
    """A container may say what it likes, up to a point (D32)."""
    loud = pod(terminated(1, "x" * 9000), phase="Failed")
    error = status_in(plan(ended(loud), NOW))["targets"][0]["stats"][0]["error"]
    assert len(error) < MAX_TEXT + 100
