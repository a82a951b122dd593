"""BackupConfiguration: what is observed, and the plan that follows."""

from typing import Any

import pytest

from controller.api.objects import Obj, meta, name_of
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    CRON_JOB,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
)
from controller.build.cronjob import trigger_digest
from controller.plan import Apply, Delete, Finalizer, Plan, Refusal, SetStatus, Write
from controller.reconcile.backup_configuration import plan
from controller.reconcile.observed import References
from tests.support.builders import (
    NOW,
    configuration,
    configuration_observed,
    configuration_spec,
    pvc,
    references,
    repository,
    secret,
)

NAME = "stash-trigger-nightly"
TRIGGER = ("CronJob", NAME)


def status_in(planned: Plan) -> dict[str, Any]:
    """Return the status that a plan writes, which is its last write."""
    last = planned.writes[-1]
    assert isinstance(last, SetStatus)
    return dict(last.status)


def conditions_in(planned: Plan) -> dict[str, tuple[str, str, str]]:
    """Return status, reason and message of the conditions that a plan writes, by type."""
    return {
        entry["type"]: (entry["status"], entry["reason"], entry["message"])
        for entry in status_in(planned)["conditions"]
    }


def kinds_of(writes: tuple[Write, ...]) -> list[str]:
    """Return verb and kind of each write."""
    return [
        f"{type(w).__name__} {w.resource if isinstance(w, Apply) else w.ref.resource}"  # type: ignore[union-attr] # no CreateOnce here
        for w in writes
    ]


def applied(planned: Plan, raw: Obj) -> tuple[Obj, dict[tuple[str, str], Any]]:
    """Return the configuration and its children as they are after a plan."""
    children: dict[tuple[str, str], Any] = {
        (w.resource.kind, name_of(w.body)): {**w.body, "metadata": dict(w.body["metadata"])}
        for w in planned.writes
        if isinstance(w, Apply)
    }
    if cron_job := children.get(TRIGGER):
        cron_job["spec"] = {"digest": trigger_digest(cron_job)}
    return {**raw, "status": status_in(planned)}, children


def test_a_new_configuration_gets_its_trigger_and_is_ready() -> None:
    """Everything found: ServiceAccount, RoleBinding, CronJob, then the status that says so."""
    planned = plan(configuration_observed(), NOW)
    assert kinds_of(planned.writes) == [
        "Apply ServiceAccount",
        "Apply RoleBinding",
        "Apply CronJob",
        "SetStatus BackupConfiguration",
    ]
    assert status_in(planned)["phase"] == "Ready"
    assert status_in(planned)["observedGeneration"] == 1
    assert conditions_in(planned) == {
        "RepositoryFound": ("True", "RepositoryAvailable", "Repository demo/repo exist."),
        "BackendSecretFound": (
            "True",
            "BackendSecretAvailable",
            "Backend Secret demo/s3-secret exist.",
        ),
        "ValidationPassed": ("True", "ResourceValidationPassed", "Successfully validated."),
        "BackupTargetFound": (
            "True",
            "TargetAvailable",
            "Backup target PersistentVolumeClaim demo/data found.",
        ),
        "CronJobCreated": (
            "True",
            "CronJobCreationSucceeded",
            "Successfully created backup triggering CronJob.",
        ),
    }
    assert planned.requeue_after_s is None
    assert planned.notes == ()


def test_a_plan_that_was_carried_out_has_no_more_writes() -> None:
    """plan(apply(plan(x))) is empty, for a Ready configuration and for one that waits."""
    for seen in (references(), references(secret=secret(found=False)), References()):
        first = configuration_observed(seen=seen)
        raw, children = applied(plan(first, NOW), first.configuration)
        again = plan(configuration_observed(raw, seen=seen, children=children), NOW)
        assert again.writes == ()
        assert again.notes == ()


@pytest.mark.parametrize(
    ("seen", "phase", "kind", "expected"),
    [
        (
            references(repository=None, secret=None),
            "NotReady",
            "RepositoryFound",
            ("False", "RepositoryNotAvailable", "Repository demo/repo does not exist."),
        ),
        (
            references(repository=repository(metadata={"deletionTimestamp": "x"})),
            "NotReady",
            "RepositoryFound",
            ("False", "RepositoryNotAvailable", "Repository demo/repo does not exist."),
        ),
        (
            references(secret=secret(found=False)),
            "NotReady",
            "BackendSecretFound",
            (
                "False",
                "BackendSecretNotAvailable",
                "Backend Secret demo/s3-secret does not exist.",
            ),
        ),
        (
            references(secret=secret(keys=frozenset({"AWS_ACCESS_KEY_ID"}))),
            "NotReady",
            "BackendSecretFound",
            (
                "False",
                "BackendSecretNotUsable",
                (
                    "Backend Secret demo/s3-secret has no key RESTIC_PASSWORD: "
                    "add the password of the restic repository"
                ),
            ),
        ),
        (
            references(secret=secret(empty_keys=frozenset({"RESTIC_PASSWORD"}))),
            "NotReady",
            "BackendSecretFound",
            (
                "False",
                "BackendSecretNotUsable",
                "Backend Secret demo/s3-secret has an empty RESTIC_PASSWORD: set the password",
            ),
        ),
        (
            references(pvc=None),
            "NotReady",
            "BackupTargetFound",
            (
                "False",
                "TargetNotAvailable",
                "Backup target PersistentVolumeClaim demo/data does not exist.",
            ),
        ),
        (
            references(pvc=pvc(phase="Pending")),
            "NotReady",
            "BackupTargetFound",
            (
                "False",
                "TargetNotUsable",
                "PersistentVolumeClaim demo/data is Pending, not Bound: start a pod that uses it",
            ),
        ),
        (
            references(pvc=pvc(volumeMode="Block")),
            "NotReady",
            "BackupTargetFound",
            (
                "False",
                "TargetNotUsable",
                (
                    "PersistentVolumeClaim demo/data has volumeMode Block: "
                    "only file systems can be backed up with restic"
                ),
            ),
        ),
        (
            references(task=None, functions={}),
            "Invalid",
            "ValidationPassed",
            (
                "False",
                "ResourceValidationFailed",
                "spec.task.name: Task pvc-backup does not exist: see kubectl get tasks",
            ),
        ),
        (
            references(functions={}),
            "Invalid",
            "ValidationPassed",
            (
                "False",
                "ResourceValidationFailed",
                (
                    "Task pvc-backup spec.steps[0].name: Function pvc-backup does not exist: "
                    "see kubectl get functions"
                ),
            ),
        ),
        (
            references(repository=repository(spec={"backend": {"storageSecretName": "x"}})),
            "Invalid",
            "ValidationPassed",
            (
                "False",
                "ResourceValidationFailed",
                "Repository repo spec.backend: set one of local, s3, gcs, azure, swift, b2, rest",
            ),
        ),
    ],
    ids=[
        "no-repository",
        "repository-being-deleted",
        "no-secret",
        "no-password",
        "empty-password",
        "no-claim",
        "claim-pending",
        "claim-block",
        "no-task",
        "no-function",
        "no-backend",
    ],
)
def test_what_is_missing_is_named_and_looked_for_again(
    seen: References, phase: str, kind: str, expected: tuple[str, str, str]
) -> None:
    """No CronJob, the phase of stash.md 1.3, the object by name, one Warning, another look."""
    planned = plan(configuration_observed(seen=seen), NOW)
    assert kinds_of(planned.writes) == ["SetStatus BackupConfiguration"]
    assert status_in(planned)["phase"] == phase
    *state, message = conditions_in(planned)[kind]
    assert tuple(state) == expected[:2]
    assert message == expected[2] or message.startswith(f"{expected[2]} Create it")
    assert "CronJobCreated" not in conditions_in(planned)
    assert planned.requeue_after_s == 5.0
    assert (planned.notes[0].type, planned.notes[0].message) == ("Warning", message)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"repository": {"name": "repo", "namespace": "other"}},
            (
                "spec.repository.namespace: a Repository of another namespace (other) "
                "is not supported yet: create one in demo"
            ),
        ),
        ({"repository": None}, "spec.repository: name the Repository to back up to"),
        ({"task": {}}, "spec.task.name: name the Task, for example pvc-backup"),
        ({"target": None}, "spec.target: name the target, for example a PVC"),
        (
            {"timeOut": "soon"},
            "spec.timeOut: give a positive duration such as 30m or 1h30m, not 'soon'",
        ),
        (
            {"driver": "VolumeSnapshotter", "target": None},
            "spec.target: name the target, for example a StatefulSet",
        ),
        ({"paused": "yes"}, "spec.paused: Input should be a valid boolean"),
    ],
)
def test_a_wrong_spec_is_invalid_and_stops_the_schedule(changes: dict[str, Any], said: str) -> None:
    """The path and the fix; the CronJob of better days goes, so that nothing fires."""
    raw = configuration(spec=configuration_spec(**changes))
    cron_job = {
        "metadata": {
            "name": "stash-trigger-nightly",
            "namespace": "demo",
            "uid": "uid-of-cron",
            "ownerReferences": [{"uid": "uid-of-nightly", "controller": True}],
        }
    }
    planned = plan(configuration_observed(raw, children={TRIGGER: cron_job}), NOW)
    assert kinds_of(planned.writes) == ["Delete CronJob", "SetStatus BackupConfiguration"]
    assert status_in(planned)["phase"] == "Invalid"
    assert conditions_in(planned)["ValidationPassed"] == (
        "False",
        "ResourceValidationFailed",
        said,
    )


MISSING = {
    "no-repository": references(repository=None, secret=None),
    "no-secret": references(secret=secret(found=False)),
    "no-claim": references(pvc=None),
    "no-task": references(task=None),
    "no-function": references(functions={}),
    "wrong-repository": references(repository=repository(spec={"backend": {}})),
}


@pytest.mark.parametrize("seen", MISSING.values(), ids=MISSING)
def test_what_another_object_mends_does_not_stop_the_schedule(seen: References) -> None:
    """The CronJob stays; pausing has its effect at once; CronJobCreated does not make it Ready."""
    first = configuration_observed()
    raw, children = applied(plan(first, NOW), first.configuration)
    planned = plan(configuration_observed(raw, seen=seen, children=children), NOW)
    assert kinds_of(planned.writes) == ["SetStatus BackupConfiguration"]
    assert status_in(planned)["phase"] in ("NotReady", "Invalid")
    assert "CronJobCreated" not in conditions_in(planned)
    paused = {**raw, "spec": {**raw["spec"], "paused": True}}
    planned = plan(configuration_observed(paused, seen=seen, children=children), NOW)
    (cron_job, _) = planned.writes
    assert isinstance(cron_job, Apply)
    assert cron_job.body["spec"]["suspend"] is True


def test_a_schedule_that_is_refused_while_something_is_missing_is_told() -> None:
    """Both that the Secret is missing, and what is wrong with the schedule."""
    first = configuration_observed()
    raw, children = applied(plan(first, NOW), first.configuration)
    raw = {**raw, "spec": {**raw["spec"], "schedule": "soon"}}
    seen = MISSING["no-secret"]
    (write, _) = plan(configuration_observed(raw, seen=seen, children=children), NOW).writes
    refusal = Refusal(write, "Invalid", "expected 5 fields")
    planned = plan(configuration_observed(raw, seen=seen, children=children, refusal=refusal), NOW)
    assert kinds_of(planned.writes) == ["SetStatus BackupConfiguration"]
    assert conditions_in(planned)["BackendSecretFound"][0] == "False"
    assert "expected 5 fields" in conditions_in(planned)["CronJobCreated"][2]


def test_a_cron_job_that_cannot_be_deleted_does_not_hide_why_it_should() -> None:
    """The refused Delete is not tried again before the status is written, which says so."""
    first = configuration_observed()
    raw, children = applied(plan(first, NOW), first.configuration)
    children[TRIGGER]["metadata"]["uid"] = "uid-of-cron"
    raw = {**raw, "spec": configuration_spec(target=None)}
    (write, _) = plan(configuration_observed(raw, children=children), NOW).writes
    assert isinstance(write, Delete)
    refusal = Refusal(write, "Forbidden", "a webhook says no")
    planned = plan(configuration_observed(raw, children=children, refusal=refusal), NOW)
    assert kinds_of(planned.writes) == ["SetStatus BackupConfiguration"]
    assert conditions_in(planned)["ValidationPassed"][0] == "False"
    assert conditions_in(planned)["CronJobCreated"] == (
        "False",
        "CronJobDeletionFailed",
        (
            "Failed to delete CronJob stash-trigger-nightly of a wrong spec: "
            "its sessions are skipped. Reason: a webhook says no"
        ),
    )
    assert planned.notes[-1].reason == "CronJobDeletionFailed"


def test_a_foreign_cron_job_is_not_deleted() -> None:
    """A namesake that somebody else owns is none of our business."""
    raw = configuration(spec=configuration_spec(target=None))
    foreign = {"metadata": {"name": "stash-trigger-nightly", "namespace": "demo", "uid": "u"}}
    planned = plan(configuration_observed(raw, children={TRIGGER: foreign}), NOW)
    assert not any(isinstance(write, Delete) for write in planned.writes)


def test_a_refused_schedule_becomes_a_condition_with_the_schedule() -> None:
    """The API server checks the cron expression: its words, our path, Stash's Event."""
    first = plan(configuration_observed(), NOW)
    write = next(w for w in first.writes if isinstance(w, Apply) and w.resource == CRON_JOB)
    refusal = Refusal(write, "Invalid", "spec.schedule: expected exactly 5 fields")
    planned = plan(configuration_observed(refusal=refusal), NOW)
    said = (
        "Failed to create backup triggering CronJob. Reason: "
        "spec.schedule: expected exactly 5 fields (spec.schedule is '*/5 * * * *')"
    )
    assert kinds_of(planned.writes) == ["SetStatus BackupConfiguration"]
    assert conditions_in(planned)["CronJobCreated"] == ("False", "CronJobCreationFailed", said)
    assert status_in(planned)["phase"] == "NotReady"
    assert [(n.reason, n.component) for n in planned.notes] == [
        ("CronJob Creation Failed", "BackupConfiguration Controller")
    ]


def test_an_edit_changes_the_cron_job_in_place() -> None:
    """Pausing applies the CronJob, and nothing of what stayed the same."""
    first = configuration_observed()
    raw, children = applied(plan(first, NOW), first.configuration)
    paused = {
        **raw,
        "spec": {**raw["spec"], "paused": True},
        "metadata": {**meta(raw), "generation": 2},
    }
    planned = plan(configuration_observed(paused, children=children), NOW)
    assert kinds_of(planned.writes) == ["Apply CronJob", "SetStatus BackupConfiguration"]
    (cron_job, _) = planned.writes
    assert isinstance(cron_job, Apply)
    assert cron_job.body["spec"]["suspend"] is True
    assert status_in(planned)["observedGeneration"] == 2


def test_a_child_that_was_deleted_or_taken_over_is_applied_again() -> None:
    """Our uid and our hash make a child current; the executor refuses what is foreign."""
    first = configuration_observed()
    raw, children = applied(plan(first, NOW), first.configuration)
    del children["ServiceAccount", NAME]
    binding = children["RoleBinding", NAME]
    children["RoleBinding", NAME] = {
        **binding,
        "metadata": {**meta(binding), "ownerReferences": []},
    }
    planned = plan(configuration_observed(raw, children=children), NOW)
    assert [w.resource for w in planned.writes if isinstance(w, Apply)] == [
        SERVICE_ACCOUNT,
        ROLE_BINDING,
    ]


def test_waiting_gets_slower_but_never_slow() -> None:
    """5 s at first, at most a minute, by the age of the youngest condition (D14)."""
    seen = references(pvc=None)
    first = configuration_observed(seen=seen)
    raw, _ = applied(plan(first, NOW), first.configuration)
    waits = [
        plan(configuration_observed(raw, seen=seen), NOW.replace(minute=minute)).requeue_after_s
        for minute in (0, 1, 30)
    ]
    assert waits == [5.0, 30.0, 60.0]


def test_what_another_writer_left_stays() -> None:
    """Conditions that we do not know survive; a mended cause clears ours."""
    foreign = {"type": "Foreign", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    bad = plan(configuration_observed(seen=references(repository=None, secret=None)), NOW)
    raw = configuration(
        status={**status_in(bad), "conditions": [foreign, *status_in(bad)["conditions"]]}
    )
    mended = plan(configuration_observed(raw), NOW)
    assert status_in(mended)["conditions"][0] == foreign
    assert status_in(mended)["phase"] == "Ready"


def test_deletion_takes_only_the_finalizer_of_stash() -> None:
    """Children go with their owner; nobody but us would take Stash's finalizer off."""
    bare = configuration(metadata={"deletionTimestamp": "x"})
    assert plan(configuration_observed(bare), NOW) == Plan()
    held = configuration(
        metadata={"deletionTimestamp": "x", "finalizers": ["foreign", "stash.appscode.com"]}
    )
    (write,) = plan(configuration_observed(held), NOW).writes
    assert isinstance(write, Finalizer)
    assert (write.ref.resource, write.name, write.present) == (
        BACKUP_CONFIGURATION,
        "stash.appscode.com",
        False,
    )


def test_the_status_write_carries_what_was_seen() -> None:
    """Every status write is bound to the uid and resourceVersion that were seen (D12)."""
    write = plan(configuration_observed(), NOW).writes[-1]
    assert isinstance(write, SetStatus)
    assert (write.ref.uid, write.ref.resource_version) == ("uid-of-nightly", "7")


def test_a_cron_job_that_was_changed_by_hand_is_put_right() -> None:
    """The hash of our intent stays on it: what it does by now is compared as well."""
    first = configuration_observed()
    raw, children = applied(plan(first, NOW), first.configuration)
    changed = {**children[TRIGGER], "spec": {"digest": "another"}}
    seen = configuration_observed(raw, children={**children, TRIGGER: changed})
    assert kinds_of(plan(seen, NOW).writes) == ["Apply CronJob"]
