"""A BackupConfiguration of the driver VolumeSnapshotter: conditions, rights of its Jobs, phase."""

from typing import Any

import pytest

from controller.api.backup import BackupConfigurationSpec
from controller.api.model import parse_spec
from controller.api.objects import Obj, name_of
from controller.build.cronjob import trigger_digest
from controller.plan import Apply, Delete, Plan, Refusal, SetStatus
from controller.reconcile.backup_configuration import plan
from controller.reconcile.observed import ConfigurationObserved, References
from tests.support.builders import (
    INSTALLATION,
    NOW,
    configuration,
    configuration_observed,
    configuration_spec,
)
from tests.support.snapshot_orders import claim, snapshot_spec, stateful_set

JOBS = "backupconfiguration-nightly-0"
CLAIMS = {name: claim(name) for name in ("data-db-0", "data-db-1")}
SERVED = (
    "VolumeSnapshotsServed",
    "True",
    "VolumeSnapshotsServed",
    "The cluster serves VolumeSnapshots of snapshot.storage.k8s.io/v1.",
)
FOUND = (
    "BackupTargetFound",
    "True",
    "TargetAvailable",
    "Backup target StatefulSet demo/db found.",
)
VALID = (
    "ValidationPassed",
    "True",
    "ResourceValidationPassed",
    "Successfully validated.",
)
CREATED = (
    "CronJobCreated",
    "True",
    "CronJobCreationSucceeded",
    "Successfully created backup triggering CronJob.",
)


def observed(raw: Obj | None = None, **fields: Any) -> ConfigurationObserved:
    """Return a new configuration of the StatefulSet `db`, with everything in order."""
    raw = raw or configuration(spec=snapshot_spec(), status={})
    usual: dict[str, Any] = {
        "references": References(),
        "children": {},
        "installation": INSTALLATION,
        "target": stateful_set(),
        "claims_found": CLAIMS,
        "snapshots_served": True,
    }
    return ConfigurationObserved(raw, parse_spec(BackupConfigurationSpec, raw), **usual | fields)


def status_in(planned: Plan) -> dict[str, Any]:
    """Return the status that a plan writes, which is its last write."""
    last = planned.writes[-1]
    assert isinstance(last, SetStatus)
    return dict(last.status)


def conditions_in(planned: Plan) -> list[tuple[str, str, str, str]]:
    """Return type, status, reason and message of the conditions that a plan writes."""
    return [
        (entry["type"], entry["status"], entry["reason"], entry["message"])
        for entry in status_in(planned)["conditions"]
    ]


def of_type(planned: Plan, kind: str) -> tuple[str, ...]:
    """Return status, reason and message of one condition."""
    (found,) = (entry[1:] for entry in conditions_in(planned) if entry[0] == kind)
    return found


def writes_of(planned: Plan) -> list[str]:
    """Return what a plan does but for the status."""
    return [
        f"Apply {w.resource} {name_of(w.body)}" if isinstance(w, Apply) else f"Delete {w.ref}"
        for w in planned.writes
        if isinstance(w, Apply | Delete)
    ]


def applied(planned: Plan, raw: Obj) -> tuple[Obj, dict[tuple[str, str], Any]]:
    """Return the configuration and its children as they are after a plan."""
    children: dict[tuple[str, str], Any] = {}
    for write in planned.writes:
        if isinstance(write, Apply):
            body: dict[str, Any] = {**write.body, "metadata": {**write.body["metadata"]}}
            if write.resource.kind == "CronJob":
                body["spec"] = {"digest": trigger_digest(body)}
            children[write.resource.kind, name_of(body)] = body
    return {**raw, "status": status_in(planned)}, children


def test_a_new_configuration_is_ready_with_the_rights_of_its_jobs() -> None:
    """No Repository and no Secret; sessions find ServiceAccount and binding in place."""
    planned = plan(observed(), NOW)
    assert writes_of(planned) == [
        "Apply ServiceAccount stash-trigger-nightly",
        "Apply RoleBinding stash-trigger-nightly",
        f"Apply ServiceAccount {JOBS}",
        f"Apply RoleBinding {JOBS}",
        "Apply CronJob stash-trigger-nightly",
    ]
    assert status_in(planned)["phase"] == "Ready"
    assert conditions_in(planned) == [VALID, SERVED, FOUND, CREATED]
    assert (planned.requeue_after_s, planned.notes) == (None, ())


def test_a_plan_that_was_carried_out_has_no_more_writes() -> None:
    """plan(apply(plan(x))) is empty, for one that is Ready and for those that wait."""
    worlds: tuple[dict[str, Any], ...] = (
        {},
        {"target": None, "claims_found": None},
        {"snapshots_served": False},
        {"claims_found": {}},
        {"target": stateful_set(volumes=({"name": "tmp", "emptyDir": {}},))},
    )
    for fields in worlds:
        first = observed(**fields)
        raw, children = applied(plan(first, NOW), first.configuration)
        again = plan(observed(raw, children=children, **fields), NOW)
        assert (again.writes, again.notes) == ((), ())


def test_a_users_service_account_is_bound_twice_and_not_made() -> None:
    """To sessions and to VolumeSnapshots."""
    spec = snapshot_spec(runtimeSettings={"pod": {"serviceAccountName": "mine"}})
    planned = plan(observed(configuration(spec=spec, status={})), NOW)
    assert writes_of(planned) == [
        "Apply RoleBinding stash-trigger-nightly",
        f"Apply RoleBinding {JOBS}",
        "Apply CronJob stash-trigger-nightly",
    ]


@pytest.mark.parametrize("lost", ["ServiceAccount", "RoleBinding"])
def test_a_right_that_was_taken_away_is_given_again(lost: str) -> None:
    """Two of a kind are told apart by name; only the one that is missing is applied."""
    first = observed()
    raw, children = applied(plan(first, NOW), first.configuration)
    del children[lost, JOBS]
    planned = plan(observed(raw, children=children), NOW)
    assert writes_of(planned) == [f"Apply {lost} {JOBS}"]


def test_without_the_definitions_it_is_not_ready_and_says_how_to_install_them() -> None:
    """No CronJob; a Warning; it looks again by itself, and is Ready once they are there."""
    planned = plan(observed(snapshots_served=False), NOW)
    assert writes_of(planned) == []
    assert status_in(planned)["phase"] == "NotReady"
    status, reason, message = of_type(planned, "VolumeSnapshotsServed")
    assert (status, reason) == ("False", "VolumeSnapshotsNotServed")
    assert (
        'kubectl apply -k "https://github.com/kubernetes-csi/external-snapshotter/client/config/crd"'
        in message
    )
    assert [(n.type, n.reason) for n in planned.notes] == [("Warning", "VolumeSnapshotsNotServed")]
    assert planned.requeue_after_s == 5.0
    raw = {**observed().configuration, "status": status_in(planned)}
    mended = plan(observed(raw), NOW)
    assert status_in(mended)["phase"] == "Ready"
    assert "Apply CronJob stash-trigger-nightly" in writes_of(mended)


EMPTY_DIR = {"name": "tmp", "emptyDir": {}}
CONFIG_MAP = {"name": "conf", "configMap": {"name": "c"}}
BARE = {
    **stateful_set(),
    "spec": {"template": {"spec": {"volumes": [EMPTY_DIR, CONFIG_MAP]}}},
}
NONE_USABLE = {"data-db-0": claim("data-db-0", phase="Pending")}


@pytest.mark.parametrize(
    ("fields", "reason", "message"),
    [
        (
            {"target": None, "claims_found": None},
            "TargetNotAvailable",
            (
                "Backup target StatefulSet demo/db does not exist. "
                "Create it, or correct spec.target.ref."
            ),
        ),
        (
            {"target": BARE, "claims_found": {}},
            "TargetNotUsable",
            (
                "StatefulSet demo/db has no PersistentVolumeClaim, only tmp (emptyDir), "
                "conf (configMap): VolumeSnapshots can be taken of claims alone. "
                "Name another target."
            ),
        ),
        (
            {"target": {**BARE, "spec": {}}, "claims_found": {}},
            "TargetNotUsable",
            (
                "StatefulSet demo/db has no PersistentVolumeClaim: "
                "VolumeSnapshots can be taken of claims alone. Name another target."
            ),
        ),
        (
            {"target": stateful_set(replicas=0), "claims_found": {}},
            "TargetNotUsable",
            (
                "StatefulSet demo/db has 0 replicas: say in spec.target.replicas of how many to "
                "take snapshots"
            ),
        ),
        (
            {"target": stateful_set(replicas=2_000_000_000), "claims_found": {}},
            "TargetNotUsable",
            "StatefulSet demo/db has more than 1000 volumes: lower spec.target.replicas",
        ),
        (
            {"claims_found": NONE_USABLE},
            "TargetNotUsable",
            (
                "PersistentVolumeClaim demo/data-db-0 is Pending, not Bound: start a pod that "
                "uses it; PersistentVolumeClaim demo/data-db-1 does not exist"
            ),
        ),
    ],
    ids=["gone", "no-claims", "no-volumes", "no-replicas", "too-many", "none-usable"],
)
def test_a_target_that_cannot_be_snapshotted_is_not_ready(
    fields: dict[str, Any], reason: str, message: str
) -> None:
    """The reason, no CronJob, one Warning, another look (stash.md 1.3)."""
    planned = plan(observed(**fields), NOW)
    assert writes_of(planned) == []
    assert status_in(planned)["phase"] == "NotReady"
    assert of_type(planned, "BackupTargetFound") == ("False", reason, message)
    assert [(n.type, n.message) for n in planned.notes] == [("Warning", message)]
    assert planned.requeue_after_s == 5.0


def test_one_claim_that_is_missing_does_not_stop_the_backup_of_the_others() -> None:
    """It is named, and fails in each session; the others are backed up."""
    planned = plan(observed(claims_found={"data-db-0": claim("data-db-0")}), NOW)
    assert status_in(planned)["phase"] == "Ready"
    assert of_type(planned, "BackupTargetFound") == (
        "True",
        "TargetAvailable",
        (
            "Backup target StatefulSet demo/db found. Not all of its volumes are usable: "
            "PersistentVolumeClaim demo/data-db-1 does not exist"
        ),
    )


@pytest.mark.parametrize("mode", ["Block", "Filesystem"])
def test_a_claim_is_a_target_itself(mode: str) -> None:
    """Also one without a file system, which restic could not read."""
    target = {"ref": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "a"}}
    raw = configuration(spec=snapshot_spec(target=target), status={})
    found = {**claim("a"), "spec": {"volumeMode": mode}}
    planned = plan(observed(raw, target=found, claims_found={"a": found}), NOW)
    assert status_in(planned)["phase"] == "Ready"
    lost = claim("a", phase="Lost")
    planned = plan(observed(raw, target=lost, claims_found={"a": lost}), NOW)
    assert of_type(planned, "BackupTargetFound") == (
        "False",
        "TargetNotUsable",
        "PersistentVolumeClaim demo/a is Lost: its PersistentVolume does not exist any more",
    )


def test_volumes_that_are_no_claims_are_named_until_they_are_gone() -> None:
    """True, and no fault: the configuration is Ready, and nobody is warned."""
    target = stateful_set(volumes=(EMPTY_DIR, CONFIG_MAP))
    planned = plan(observed(target=target), NOW)
    assert status_in(planned)["phase"] == "Ready"
    assert of_type(planned, "VolumesLeftOut") == (
        "True",
        "NoPersistentVolumeClaim",
        (
            "Not backed up, for they are no PersistentVolumeClaims: tmp (emptyDir), "
            "conf (configMap)."
        ),
    )
    assert planned.notes == ()
    raw, children = applied(planned, observed().configuration)
    mended = plan(observed(raw, children=children), NOW)
    assert conditions_in(mended) == [VALID, SERVED, FOUND, CREATED]


def test_what_becomes_missing_does_not_stop_the_schedule() -> None:
    """It is NotReady, its sessions are skipped; the CronJob stays for when it comes back."""
    first = observed()
    raw, children = applied(plan(first, NOW), first.configuration)
    worlds: tuple[dict[str, Any], ...] = ({"snapshots_served": False}, {"target": None})
    for fields in worlds:
        planned = plan(observed(raw, children=children, **fields), NOW)
        assert writes_of(planned) == []
        assert status_in(planned)["phase"] == "NotReady"


def test_to_the_other_driver_and_back() -> None:
    """Conditions and rights of the driver that it had are taken back, those of others stay."""
    foreign = {"type": "Foreign", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    first = observed(configuration(spec=snapshot_spec(), status={"conditions": [foreign]}))
    raw, children = applied(plan(first, NOW), first.configuration)
    raw = {**raw, "spec": configuration_spec()}
    planned = plan(configuration_observed(raw, children=children), NOW)
    assert [entry["type"] for entry in status_in(planned)["conditions"]] == [
        "Foreign",
        "ValidationPassed",
        "BackupTargetFound",
        "CronJobCreated",
        "RepositoryFound",
        "BackendSecretFound",
    ]
    assert status_in(planned)["phase"] == "Ready"
    assert writes_of(planned) == [
        "Apply CronJob stash-trigger-nightly",  # it labels sessions with their target
        f"Delete RoleBinding demo/{JOBS}",
    ]
    del children["RoleBinding", JOBS]
    raw, changed = applied(planned, raw)
    children |= changed
    assert plan(configuration_observed(raw, children=children), NOW).writes == ()
    back = {**raw, "spec": snapshot_spec()}
    planned = plan(observed(back, children=children), NOW)
    assert [entry["type"] for entry in status_in(planned)["conditions"]] == [
        "Foreign",
        "ValidationPassed",
        "BackupTargetFound",
        "CronJobCreated",
        "VolumeSnapshotsServed",
    ]
    assert writes_of(planned) == [
        f"Apply RoleBinding {JOBS}",
        "Apply CronJob stash-trigger-nightly",
    ]


def test_a_binding_that_is_not_ours_or_cannot_be_deleted_stops_no_backup() -> None:
    """A namesake is left alone; a refused Delete is not tried again in the same turn."""
    first = observed()
    raw, children = applied(plan(first, NOW), first.configuration)
    raw = {**raw, "spec": configuration_spec()}
    _, write, _ = plan(configuration_observed(raw, children=children), NOW).writes
    assert isinstance(write, Delete)
    assert write.ref.resource_version == ""
    refusal = Refusal(write, "Forbidden", "a webhook says no")
    planned = plan(configuration_observed(raw, children=children, refusal=refusal), NOW)
    assert writes_of(planned) == ["Apply CronJob stash-trigger-nightly"]
    assert status_in(planned)["phase"] == "Ready"
    binding = children["RoleBinding", JOBS]
    children["RoleBinding", JOBS] = {
        **binding,
        "metadata": {**binding["metadata"], "ownerReferences": []},
    }
    planned = plan(configuration_observed(raw, children=children), NOW)
    assert writes_of(planned) == ["Apply CronJob stash-trigger-nightly"]


def test_a_right_that_cannot_be_given_is_told() -> None:
    """Without it no VolumeSnapshot could be made: no CronJob, the API server's words."""
    write = next(
        w
        for w in plan(observed(), NOW).writes
        if isinstance(w, Apply) and name_of(w.body) == JOBS and w.resource.kind == "RoleBinding"
    )
    refusal = Refusal(write, "Forbidden", "rolebindings are not allowed here")
    planned = plan(observed(refusal=refusal), NOW)
    assert writes_of(planned) == []
    assert status_in(planned)["phase"] == "NotReady"
    assert of_type(planned, "CronJobCreated") == (
        "False",
        "CronJobCreationFailed",
        ("Failed to create backup triggering CronJob. Reason: rolebindings are not allowed here"),
    )
