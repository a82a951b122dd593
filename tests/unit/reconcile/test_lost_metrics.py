"""What is pushed for a session whose Job could not push: zeros, once, and only then."""

from dataclasses import replace
from typing import Any

import pytest

from controller.api.objects import Obj
from controller.api.report import Reason, StepReport, StepState
from controller.plan import Push, SetStatus
from controller.reconcile import backup_session, restore_session
from controller.reconcile.observed import Executor
from tests.support.builders import (
    NOW,
    condition,
    configuration,
    configuration_spec,
    failed_host,
    job,
    job_failed,
    pod,
    references,
    report,
    reported,
    restore,
    restore_observed,
    restore_spec,
    running_status,
    session,
    session_observed,
    terminated,
)

SESSION = {
    "invoker_kind": "BackupConfiguration", "invoker_name": "nightly", "namespace": "demo",
    "driver": "Restic", "repository": "repo",
}  # fmt: skip
TARGET = {**SESSION, "kind": "PersistentVolumeClaim", "group": "", "name": "data"}
HOST = {**TARGET, "hostname": "host-0"}
RUNNING = session(status=running_status())
KILLED = pod(terminated(137, reason="OOMKilled"), phase="Failed")
DEAD = Executor(job(RUNNING, conditions=job_failed()), KILLED)
RESTORING = restore(
    status={"phase": "Running", "conditions": [condition("RestoreExecutorEnsured")]}
)


def pushes(raw: Obj = RUNNING, **fields: Any) -> tuple[Push, ...]:
    """Return what is pushed for a backup."""
    return backup_session.plan(session_observed(raw, **fields), NOW).pushes


def test_a_dead_backup_pushes_zeros_of_every_level() -> None:
    """Session, target and host get 0 under both names, with the labels of the runner's."""
    (push,) = pushes(executor=DEAD)
    assert push.group == "backupconfiguration-demo-nightly"
    assert list(push.samples) == [
        ("stash_appscode_com_backupsession_success", SESSION, 0),
        ("stash_backup_session_success", SESSION, 0),
        ("stash_appscode_com_backupsession_target_success", TARGET, 0),
        ("stash_backup_target_success", TARGET, 0),
        ("stash_appscode_com_backupsession_host_backup_success", HOST, 0),
        ("stash_backup_host_backup_success", HOST, 0),
    ]


def test_the_alias_is_the_host() -> None:
    """The host's label is restic's host name."""
    target = {**configuration_spec()["target"], "alias": "db"}
    other = configuration(spec=configuration_spec(target=target))
    (push,) = pushes(executor=DEAD, configuration=other)
    assert push.samples[-1][1]["hostname"] == "db"


def test_a_backup_that_could_not_start_pushes_zeros() -> None:
    """Nothing ran, so nobody else can say that the backup failed."""
    (push,) = pushes(session(), references=references(pvc=None))
    assert push.samples[0][2] == 0


@pytest.mark.parametrize(
    "metrics", [StepReport(StepState.DONE), StepReport(StepState.FAILED, "refused")]
)
def test_a_failed_backup_that_reports_its_push_pushes_nothing(metrics: StepReport) -> None:
    """The Job has tried; its condition says how that went."""
    said = reported(report(failed_host(), metrics=metrics), code=1)
    assert pushes(executor=Executor(job(RUNNING), said)) == ()


def test_an_interrupted_backup_is_pushed_for() -> None:
    """A pod that was told to end reports, but leaves the metrics to the controller."""
    said = report(failed_host(Reason.INTERRUPTED, "told to end"), metrics=None)
    assert len(pushes(executor=Executor(job(RUNNING), reported(said, code=130)))) == 1


def test_success_without_a_push_is_no_failure() -> None:
    """Without a Pushgateway no Job pushes: that is nothing to make good."""
    said = reported(replace(report(), metrics=None))
    assert pushes(executor=Executor(job(RUNNING), said)) == ()


def test_a_skipped_backup_pushes_nothing() -> None:
    """Skipped is not failed: the earlier values stay."""
    assert pushes(session(), configuration=configuration(status={"observedGeneration": 1})) == ()


def test_a_configuration_that_goes_gets_no_push() -> None:
    """Its group is deleted with it: a later push would bring it back."""
    gone = configuration(metadata={"deletionTimestamp": "2026-11-22T03:00:00Z"})
    assert pushes(executor=DEAD, configuration=gone) == ()
    assert pushes(executor=DEAD, configuration=None) == ()


def test_a_dead_restore_pushes_zeros() -> None:
    """The same for restores, in a group of their own."""
    executor = Executor(job(RESTORING, conditions=job_failed()), KILLED)
    plan = restore_session.plan(restore_observed(RESTORING, executor=executor), NOW)
    (push,) = plan.pushes
    assert push.group == "restoresession-demo-bring-back"
    assert {(name, value) for name, _, value in push.samples} == {
        (prefix + name, 0)
        for prefix, names in (
            ("stash_appscode_com_restoresession_", ("success",)),
            ("stash_restore_", ("session_success",)),
        )
        for name in (*names, "target_success", "host_restore_success")
    }
    assert any(isinstance(write, SetStatus) for write in plan.writes)


def test_a_restore_that_is_being_deleted_gets_no_push() -> None:
    """Nothing is decided about an object that goes."""
    going = restore(
        metadata={"deletionTimestamp": "2026-11-22T03:00:00Z"}, spec=restore_spec(),
        status=RESTORING["status"],
    )  # fmt: skip
    executor = Executor(job(going, conditions=job_failed()), KILLED)
    assert restore_session.plan(restore_observed(going, executor=executor), NOW).pushes == ()


def test_no_condition_claims_a_push_that_was_not() -> None:
    """Without a URL the runner reports no push, and no condition speaks of one."""
    said = reported(replace(report(), metrics=None))
    plan = backup_session.plan(
        session_observed(RUNNING, executor=Executor(job(RUNNING), said)), NOW
    )
    status = next(
        write.status
        for write in plan.writes
        if isinstance(write, SetStatus) and write.ref.resource.kind == "BackupSession"
    )
    types = {entry["type"] for entry in status["conditions"]}
    assert status["phase"] == "Succeeded"
    assert types & {"MetricsPushed", "RepositoryMetricsPushed"} == set()
