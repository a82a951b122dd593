"""Indexes and projections: what is found again, and what is kept."""

import itertools
from typing import Any

import pytest

from controller.api.creation import SESSION_UID
from controller.api.objects import Key, Obj
from controller.api.workload import MAX_CLAIMS
from controller.build.labels import BACKUP, own_labels
from controller.engine.store import Store
from controller.observe.caches import (
    BY_PENDING,
    by_invoker,
    by_invoker_labels,
    by_owner,
    by_pending,
    by_repository,
    by_session,
    by_source_of_claim,
    by_source_of_restore,
    by_task,
    invoker_index,
    newest,
    project_child,
    project_claim,
    project_cron_job,
    project_job,
    project_pod,
    project_snapshot,
)
from tests.support.builders import configuration, job, obj, pod, restore, running, session
from tests.support.claim_restores import claim as restored_claim
from tests.support.claim_restores import claim_restore, claim_spec, template
from tests.support.storage_objects import claim, snapshot


def test_sessions_are_filed_by_their_spec() -> None:
    """D15: a session without labels counts as well."""
    assert by_invoker(session()) == (invoker_index("BackupConfiguration", Key("demo", "nightly")),)
    assert by_invoker({**session(), "spec": {}}) == ()


def test_invokers_are_filed_by_what_they_name() -> None:
    """A Repository or Task that changes wakes those who name it; objects without a spec do not."""
    assert by_repository(configuration()) == by_repository(restore()) == ("demo/repo",)
    away = configuration(spec={"repository": {"name": "r", "namespace": "far"}})
    assert by_repository(away) == ("far/r",)
    odd_specs: list[Obj] = [{}, {"repository": "text"}, {"repository": {}}]
    for odd in odd_specs:
        assert by_repository({**configuration(), "spec": odd}) == ()
    assert by_task(configuration()) == ("pvc-backup",)
    assert by_task({**configuration(), "spec": {}}) == ()


def test_owners_are_those_that_control() -> None:
    """An owner that is no controller owns nothing here."""
    assert by_owner(job(session())) == ("uid-of-nightly-1",)
    loose = {"metadata": {"name": "x", "ownerReferences": [{"uid": "u"}]}}
    assert by_owner(loose) == ()


def test_what_has_not_started_is_pending() -> None:
    """Also a session without any status."""
    assert (
        by_pending(session()) == by_pending(session(status={"phase": "Pending"})) == (BY_PENDING,)
    )
    assert by_pending(session(status={"phase": "Running"})) == ()


def test_a_projected_pod_keeps_what_the_verdict_needs() -> None:
    """Host name, states, conditions and owner stay; the template's bulk does not (D30)."""
    full = pod(running())
    full["spec"] = {**full["spec"], "containers": [{"env": ["much"]}], "volumes": []}
    full["metadata"] = {**full["metadata"], "managedFields": [1], "labels": {"a": "b"}}
    kept = project_pod({**full, "status": {**full["status"], "podIPs": [1]}})
    assert kept["spec"] == {"hostname": full["spec"]["hostname"], "nodeName": "node-1"}
    assert kept["status"] == pod(running())["status"]
    assert by_owner(kept) == by_owner(full)
    assert not {"managedFields", "labels"} & kept["metadata"].keys()


def test_a_projected_job_keeps_identity_and_outcome() -> None:
    """Its spec is large and never read again, but for how long it may last."""
    full = {**job(session(), active=1, conditions=[], uncountedTerminatedPods={}), "spec": {"x": 1}}
    kept = project_job(full)
    assert "spec" not in kept
    assert kept["status"] == {"active": 1, "conditions": []}
    limited = {**full, "spec": {"activeDeadlineSeconds": 420, "x": 1}}
    assert project_job(limited)["spec"] == {"activeDeadlineSeconds": 420}
    assert kept["metadata"]["ownerReferences"] == full["metadata"]["ownerReferences"]


def test_a_projected_child_keeps_its_hash() -> None:
    """The annotation says whether it is current."""
    child = {"metadata": {"name": "c", "annotations": {"drey.dev/spec-hash": "1"}}, "spec": {}}
    assert project_child(child) == {"metadata": child["metadata"]}


def test_a_projected_cron_job_tells_what_it_does() -> None:
    """A digest takes the place of its spec; its status is not kept (D30)."""
    full = {"metadata": {"name": "c"}, "spec": {"schedule": "@daily"}, "status": {"active": [1]}}
    kept = project_cron_job(full)
    assert kept["metadata"] == {"name": "c"}
    assert kept["spec"].keys() == {"digest"}
    assert "status" not in kept
    assert project_cron_job({**full, "status": {}}) == kept
    assert project_cron_job({**full, "spec": {"schedule": "@hourly"}}) != kept
    project_cron_job({"metadata": {"name": "c"}})


def test_the_newest_is_found_in_any_order() -> None:
    """By creation, then by name: the same answer however the cache lists them."""
    objects: list[Obj] = [obj("X", "b"), obj("X", "a"), obj("X", "c", age_s=1)]
    assert newest(objects) is newest(objects[::-1]) is objects[2]
    assert newest(objects[:2]) is objects[0]
    assert newest([]) is None


def test_a_snapshot_tells_when_its_status_changed() -> None:
    """It has no such time of its own, but the server keeps who wrote it and when.

    Through a store: what is stored has no managedFields, and its projection still sees them.
    """
    made = snapshot("data-1", ready=True, changed_s=42)
    spoken = {**made, "metadata": {**made["metadata"]}}
    spoken["metadata"]["managedFields"] = [
        {"manager": "runner", "time": "2026-11-22T02:59:59Z"},
        {"manager": "csi", "subresource": "status", "time": "2026-11-22T02:59:01Z"},
        {"manager": "controller", "subresource": "status", "time": "2026-11-22T02:59:18Z"},
        {"manager": "odd", "subresource": "status"},
    ]
    store = Store(projection=project_snapshot)
    store.upsert(spoken)
    (kept,) = store.all()
    assert kept["changedAt"] == "2026-11-22T02:59:18Z"
    assert (kept["spec"], kept["status"]) == (made["spec"], made["status"])
    assert kept["metadata"]["labels"] == made["metadata"]["labels"]
    assert "managedFields" not in kept["metadata"]
    del spoken["metadata"]["managedFields"]
    assert project_snapshot(spoken)["changedAt"] == ""


def test_a_projected_claim_tells_whether_it_is_bound() -> None:
    """Labels stay, which say whose it is; access modes, conditions of others' and bulk go."""
    source = {"kind": "VolumeSnapshot", "name": "snap"}
    wanted = {"accessModes": ["ReadWriteOnce"], "volumeName": "v", "dataSource": source}
    full = claim("data-0", phase="Bound", spec=wanted)
    full["status"]["capacity"] = {"storage": "1Gi"}
    kept = project_claim(full)
    assert kept["spec"] == {"volumeName": "v", "dataSource": source}
    assert kept["status"] == {"phase": "Bound"}
    assert kept["metadata"]["labels"] == full["metadata"]["labels"]


def test_what_a_session_created_is_filed_by_its_uid() -> None:
    """It has no owner: it outlives session and configuration (D21)."""
    made = snapshot("data-1", of=session(), ready=True)
    assert by_session(made) == ("uid-of-nightly-1",)
    assert by_session({"metadata": {"name": "x", "labels": {SESSION_UID: ""}}}) == ()
    assert by_session({"metadata": {"name": "x"}}) == ()


def test_snapshots_are_filed_by_the_configuration_in_their_labels() -> None:
    """One that was deleted and made again finds them; names are cut as a label needs it."""
    assert by_invoker_labels(snapshot("data-1")) == (
        invoker_index("BackupConfiguration", Key("demo", "nightly")),
    )
    long = configuration("n" * 70)
    labels = own_labels(BACKUP, "BackupConfiguration", long)
    (found,) = by_invoker_labels({"metadata": {"name": "x", "namespace": "demo", "labels": labels}})
    assert len(found) == len("BackupConfiguration demo/") + 63
    assert by_invoker_labels({"metadata": {"name": "x", "namespace": "demo"}}) == ()


def test_restores_are_filed_by_the_snapshots_that_they_name_until_they_end() -> None:
    """One for each ordinal; of an invalid one what it names, without end of memory."""
    assert list(by_source_of_restore(claim_restore())) == ["demo/snap-0", "demo/snap-1"]
    waits = claim_restore(status={"phase": "Pending"}, spec=claim_spec(replicas=None))
    assert list(by_source_of_restore(waits)) == ["demo/snap-0"]
    one = claim_spec(template(dataSource={"kind": "VolumeSnapshot", "name": "one"}))
    assert list(by_source_of_restore(claim_restore(spec=one))) == ["demo/one"]
    assert not list(by_source_of_restore(claim_restore(status={"phase": "Unknown"})))
    assert not list(by_source_of_restore(restore()))
    endless = claim_restore(spec=claim_spec(replicas=10**9))
    assert len(list(by_source_of_restore(endless))) == 1000
    odd_specs: list[Obj] = [
        {"driver": "VolumeSnapshotter"},
        claim_spec({"metadata": {}}),
        claim_spec(template(dataSource=None)),
        claim_spec(replicas=-1),
        {"driver": "VolumeSnapshotter", "target": "text"},
        claim_spec(template(dataSource="text")),
        claim_spec(template(dataSource={"name": {}})),
        claim_spec({"metadata": {"name": "x"}, "spec": "text"}),
        claim_spec({"metadata": {"name": "x"}, "spec": ["text"]}),
    ]
    for odd in odd_specs:
        assert not list(by_source_of_restore(claim_restore(spec=odd)))


@pytest.mark.parametrize("templates", [1, 3, 400, 1000, 1001, 5000])
@pytest.mark.parametrize("replicas", [None, 1, 2, 10**9])
def test_what_is_filed_of_a_restore_has_an_end(templates: int, replicas: int | None) -> None:
    """Whoever may create one must not be able to fill our memory; a valid one is filed whole."""
    made = [
        template(f"c{n}-${{POD_ORDINAL}}", dataSource={"name": f"s{n}-${{POD_ORDINAL}}"})
        for n in range(templates)
    ]
    keys = list(by_source_of_restore(claim_restore(spec=claim_spec(*made, replicas=replicas))))
    assert len(keys) <= MAX_CLAIMS
    wanted = templates * (replicas or 1)
    if wanted <= MAX_CLAIMS:
        assert len(keys) == wanted


def test_a_text_that_holds_no_name_is_not_filed() -> None:
    """A long one a thousand times would be no smaller than many; one that may be a name is."""
    text = "${POD_ORDINAL}"
    for times, keys in ((253, 10), (254, 0)):
        spec = claim_spec(template(dataSource={"name": text * times}), replicas=10)
        assert len(list(by_source_of_restore(claim_restore(spec=spec)))) == keys


@pytest.mark.parametrize(
    "odd", ["text", ["text"], 5, {}, {"name": ["x"]}, {"name": {"a": 1}}, None]
)
def test_no_index_raises(odd: Any) -> None:
    """On the reflector's thread it would end the process, and so would the next one's list."""
    metadata = {"name": "x", "namespace": "demo"}
    flow = {"driver": "VolumeSnapshotter"}
    specs = [
        odd,
        flow | {"repository": odd, "task": odd, "invoker": odd, "dataSource": odd},
        flow | {"target": odd},
        flow | {"target": {"volumeClaimTemplates": odd}},
        flow | {"target": {"volumeClaimTemplates": [odd]}},
        flow | {"target": {"volumeClaimTemplates": [{"spec": odd}]}},
        flow | {"target": {"volumeClaimTemplates": [{"spec": {"dataSourceRef": odd}}]}},
    ]
    statuses = [odd, {"phase": odd}]
    indexes = (
        by_owner,
        by_repository,
        by_task,
        by_invoker,
        by_session,
        by_invoker_labels,
        by_source_of_restore,
        by_source_of_claim,
        by_pending,
    )
    for spec, status in itertools.product(specs, statuses):
        for index in indexes:
            values = list(index({"metadata": metadata, "spec": spec, "status": status}))
            assert all(isinstance(value, str) for value in values), index


def test_claims_are_filed_by_their_snapshot_until_they_are_filled() -> None:
    """One that waits for its first consumer may do so for long."""
    made = restored_claim("data-0")
    assert by_source_of_claim(made) == ("demo/snap-0",)
    assert by_source_of_claim(project_claim(made)) == ("demo/snap-0",)
    assert by_source_of_claim(restored_claim("data-0", phase="Bound")) == ()
    assert by_source_of_claim(restored_claim("data-0", deletionTimestamp="x")) == ()
    assert by_source_of_claim(claim("data-0")) == ()
