"""Indexes and projections: what is found again, and what is kept."""

from controller.api.objects import Key, Obj
from controller.observe.caches import (
    BY_PENDING,
    by_invoker,
    by_owner,
    by_pending,
    by_repository,
    by_task,
    invoker_index,
    newest,
    project_child,
    project_cron_job,
    project_job,
    project_pod,
)
from tests.support.builders import configuration, job, obj, pod, restore, running, session


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
    """Its spec is large and never read again."""
    full = {**job(session(), active=1, conditions=[], uncountedTerminatedPods={}), "spec": {"x": 1}}
    kept = project_job(full)
    assert "spec" not in kept
    assert kept["status"] == {"active": 1, "conditions": []}
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
