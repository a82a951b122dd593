"""What goes wrong while snapshots are taken: what is said, what exists, and how it recovers.

Each test shows that its fault happened by what others say: the driver's log, the API server's
audit log, the objects of the snapshot-controller.
"""

import os
import signal
from typing import Any

import pytest

from tests.support.audit import OPERATOR, Audit
from tests.support.cluster import Cluster, Space, condition
from tests.support.doorkeeper import Doorkeeper
from tests.support.evidence import answers, pods_of, says
from tests.support.operators import kill_leader
from tests.support.runners import kill_runner, runner_of
from tests.support.snapshots import (
    FINAL,
    Faults,
    bound,
    claims,
    configuration,
    events,
    hosts,
    named,
    names,
    phases,
    readiness,
    ready,
    snapshots,
    taken,
    workload,
)

THREE = ("a", "b", "c")
SHORT = "40s"
"""A `timeOut` for sessions that fail by it.

Of it a busy machine takes much until the Job has created anything; then the sidecar needs time for
more than one try.
"""
PROTECTION = "snapshot.storage.kubernetes.io/pvc-as-source-protection"
"""Finalizer of a claim that is being snapshotted."""
JOB = "stash-vs-first"


@pytest.fixture
def three(space: Space) -> Space:
    """A namespace with a Deployment of three bound claims, without pods, and a configuration."""
    space.apply(*claims(space, *THREE), workload(space, "Deployment", claims=THREE, replicas=0))
    bound(space, *THREE)
    ready(space, configuration(space, "Deployment", "app"))
    return space


def with_time_out(space: Space, **target: Any) -> None:
    """Give the configuration a short `timeOut`."""
    ready(space, configuration(space, "Deployment", "app", timeOut=SHORT, target=target))


def user_of(space: Space) -> str:
    """Return as whom the Job creates VolumeSnapshots."""
    return f"system:serviceaccount:{space.name}:backupconfiguration-backup-0"


def wait_words(space: Space, session: str, *words: str) -> None:
    """Wait until a session that runs says what the driver says."""

    def probe() -> bool:
        found = space.get("backupsession", session) or {}
        message = str(condition(found, "VolumeSnapshotsWaiting").get("message"))
        running = (found.get("status") or {}).get("phase") == "Running"
        return running and all(word in message for word in words)

    space.cluster.until(f"the session says {words}", probe)


def words_of(snapshot: dict[str, Any]) -> str:
    """Return what a VolumeSnapshot itself says of its failure."""
    error = (snapshot.get("status") or {}).get("error") or {}
    return str(error.get("message") or "")


def class_of(space: Space, name: str, **annotations: str) -> dict[str, Any]:
    """Return a VolumeSnapshotClass of the driver, for all namespaces."""
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshotClass",
        "metadata": {"name": name, "annotations": annotations},
        "driver": space.cluster.info["storage"]["driver"],
        "deletionPolicy": "Delete",
    }


def wait_created(space: Space, count: int = len(THREE)) -> list[dict[str, Any]]:
    """Return the VolumeSnapshots once there are so many."""

    def probe() -> list[dict[str, Any]]:
        found = snapshots(space)
        return found if len(found) == count else []

    found: list[dict[str, Any]] = space.cluster.until(f"{count} snapshots", probe)
    return found


# --- classes


def test_class_missing(three: Space) -> None:
    """The words of the snapshot-controller are shown at once; once there is such a class it works.

    The class is made while the session waits: nothing is created again.
    """
    name = f"{three.name}-class"
    ready(three, configuration(three, "Deployment", "app", target={"snapshotClassName": name}))
    three.apply(three.session("first"))
    fix = ("spec.target.snapshotClassName", f"VolumeSnapshotClass {name} must exist")
    wait_words(three, "first", "not found", *fix, "kubectl describe volumesnapshot")
    before = wait_created(three)
    told = [words_of(found) for found in before]
    assert any(name in text and "not found" in text for text in told), told
    three.apply(class_of(three, name))
    try:
        session = three.wait_phase("backupsession", "first", *FINAL)
        assert phases(session) == dict.fromkeys(THREE, "Succeeded"), session["status"]
        assert not condition(session, "VolumeSnapshotsWaiting")
        assert [s["metadata"]["uid"] for s in snapshots(three)] == [
            s["metadata"]["uid"] for s in before
        ]
    finally:
        three.cluster.kubectl("delete", "volumesnapshotclass", name)


def test_class_of_another_driver(three: Space) -> None:
    """Nobody takes such snapshots: Failed at the deadline; with the right class the next works."""
    other = three.cluster.info["storage"]["other_snapshot_class"]
    with_time_out(three, snapshotClassName=other)
    session = taken(three, "first")
    assert session["status"]["phase"] == "Failed"
    for claim in THREE:
        error = hosts(session)[claim]["error"]
        assert error.startswith("SnapshotNotReady"), error
        assert named(session, claim)[0] in error
        assert "its driver says nothing" in error
        assert "check spec.target.snapshotClassName" in error
        assert f"VolumeSnapshotClass {other} must exist and be of the claim's driver" in error
    says(session, "DeadlineExceeded", "True", (SHORT, "spec.timeOut", f"{three.name}/backup"))
    for found in snapshots(three, session):
        assert found["spec"]["volumeSnapshotClassName"] == other
        assert not found["status"].get("readyToUse")
        bound_to = found["status"]["boundVolumeSnapshotContentName"]
        content = three.cluster.get("volumesnapshotcontent", bound_to)
        assert content is not None
        assert content["spec"]["driver"] != three.cluster.info["storage"]["driver"]
    ready(three, configuration(three, "Deployment", "app"))
    assert taken(three, "second")["status"]["phase"] == "Succeeded"
    for found in snapshots(three, session):
        remove_without_driver(three, found)


def remove_without_driver(space: Space, snapshot: dict[str, Any]) -> None:
    """Remove a VolumeSnapshot whose driver is not there: it would keep its namespace for ever."""
    name = snapshot["metadata"]["name"]
    bound_to = snapshot["status"]["boundVolumeSnapshotContentName"]
    space.cluster.kubectl("delete", "volumesnapshot", name, "-n", space.name, "--wait=false")

    def is_going() -> bool:
        content = space.cluster.get("volumesnapshotcontent", bound_to) or {"metadata": {}}
        return "deletionTimestamp" in content["metadata"]

    space.cluster.until("its content is to be deleted", is_going)
    no_finalizers = '{"metadata": {"finalizers": null}}'
    space.cluster.kubectl(
        "patch", "volumesnapshotcontent", bound_to, "--type=merge", "-p", no_finalizers
    )


@pytest.mark.serial
def test_two_default_classes(three: Space) -> None:
    """Which one is meant is not known: the words say so; once one of them is gone it works."""
    name = f"{three.name}-default"
    marked = {"snapshot.storage.kubernetes.io/is-default-class": "true"}
    three.apply(class_of(three, name, **marked))
    try:
        three.apply(three.session("first"))
        two, fix = "default snapshot classes were found", "exactly one of the claim's driver"
        path = "spec.target.snapshotClassName"
        wait_words(three, "first", two, path, fix, "kubectl describe volumesnapshot")
        found = wait_created(three)
        told = [words_of(snapshot) for snapshot in found]
        assert any(two in text for text in told), told
        assert not any(s["spec"].get("volumeSnapshotClassName") for s in found)
    finally:
        three.cluster.kubectl("delete", "volumesnapshotclass", name)
    session = three.wait_phase("backupsession", "first", *FINAL)
    assert phases(session) == dict.fromkeys(THREE, "Succeeded"), session["status"]
    assert [s["metadata"]["uid"] for s in snapshots(three)] == [
        s["metadata"]["uid"] for s in found
    ], "nothing was created again"


# --- the driver


def test_driver_refuses_one_of_three(three: Space, faults: Faults) -> None:
    """The others are kept; the one fails at the deadline with the driver's message, shown before.

    Once the driver is good again the next session succeeds.
    """
    broken = {"call": "CreateSnapshot", "match": {"source_volume": "b"}}
    faults.set({**broken, "code": "INTERNAL", "message": "disk on fire"})
    with_time_out(three)
    three.apply(three.session("first"))
    wait_words(three, "first", "b: ", "disk on fire")
    session = three.wait_phase("backupsession", "first", *FINAL)
    assert phases(session) == {"a": "Succeeded", "b": "Failed", "c": "Succeeded"}
    error = hosts(session)["b"]["error"]
    assert error.startswith("SnapshotNotReady"), error
    assert "disk on fire" in error
    assert "mend what its driver reports" in error
    good = named(session, "a", "c")
    says(session, "BackupIncomplete", "True", (*good, "None was deleted"))
    assert names(snapshots(three, session)) == named(session, *THREE)
    assert [name for name, is_ready in readiness(three).items() if is_ready] == good
    (failed,) = [s for s in snapshots(three) if s["metadata"]["name"] in named(session, "b")]
    assert faults.answers(failed).count("INTERNAL: disk on fire") >= 2
    faults.clear()
    assert taken(three, "second")["status"]["phase"] == "Succeeded"
    # By now a second Event of the first session would be there.
    (event,) = three.cluster.until("the Event", lambda: events(three, session))
    assert (event["type"], event["reason"]) == ("Warning", "Host Backup Failed")
    assert 'failed for 1 of 3 hosts ("b")' in event["message"]
    assert "disk on fire" in event["message"]


def test_driver_refuses_twice(three: Space, faults: Faults) -> None:
    """Errors that pass end in success: what the driver said was shown, and decided nothing."""
    broken = {"call": "CreateSnapshot", "match": {"source_volume": "b"}, "times": 2}
    # Each answer takes long: so long are the words of the one before it to be seen.
    faults.set({**broken, "code": "INTERNAL", "message": "disk on fire", "delay_s": 8})
    three.apply(three.session("first"))
    wait_words(three, "first", "b: ", "disk on fire")
    session = three.wait_phase("backupsession", "first", *FINAL)
    assert phases(session) == dict.fromkeys(THREE, "Succeeded"), session["status"]
    assert not condition(session, "VolumeSnapshotsWaiting"), "what has passed is not said"
    (late,) = [s for s in snapshots(three) if s["metadata"]["name"] in named(session, "b")]
    assert faults.answers(late).count("INTERNAL: disk on fire") == 2


def test_driver_is_never_ready(three: Space, faults: Faults) -> None:
    """Cut, but never ready to use: Failed at the deadline, and the snapshots stay."""
    faults.set({"call": "CreateSnapshot", "not_ready": True})
    with_time_out(three)
    session = taken(three, "first")
    assert phases(session) == dict.fromkeys(THREE, "Failed")
    for claim in THREE:
        error = hosts(session)[claim]["error"]
        assert error.startswith("SnapshotNotReady"), error
        assert f"VolumeSnapshot {named(session, claim)[0]}, which stays, is not ready" in error
        assert "raise spec.timeOut" in error
    says(session, "DeadlineExceeded", "True", (SHORT, "spec.timeOut", f"{three.name}/backup"))
    assert readiness(three) == dict.fromkeys(named(session, *THREE), False)
    cut = [s["status"].get("creationTime") for s in snapshots(three)]
    assert all(cut), "the driver did take them"
    faults.clear()
    assert taken(three, "second")["status"]["phase"] == "Succeeded"


# --- claims


def test_claim_deleted_while_it_is_snapshotted(three: Space, faults: Faults) -> None:
    """Kubernetes keeps the claim until its snapshot is taken: nothing is lost."""
    slow = {"call": "CreateSnapshot", "match": {"source_volume": "b"}, "delay_s": 10.0}
    faults.set({**slow, "times": 1})
    three.apply(three.session("first"))

    def is_protected() -> bool:
        return PROTECTION in ((three.get("pvc", "b") or {})["metadata"].get("finalizers") or ())

    three.cluster.until("the protection of the claim", is_protected)
    three.cluster.kubectl("delete", "pvc", "b", "-n", three.name, "--wait=false")
    claim = three.get("pvc", "b")
    assert claim is not None
    assert claim["metadata"].get("deletionTimestamp"), "it is on its way out, and still there"
    assert PROTECTION in claim["metadata"]["finalizers"], "its snapshot is not taken yet"
    session = three.wait_phase("backupsession", "first", *FINAL)
    assert phases(session) == dict.fromkeys(THREE, "Succeeded"), session["status"]
    three.cluster.until("the end of the claim", lambda: three.get("pvc", "b") is None)
    assert readiness(three) == dict.fromkeys(named(session, *THREE), True)


def test_claim_deleted_before(three: Space) -> None:
    """A claim that is gone fails for itself, by name; the others are snapshotted."""
    three.cluster.kubectl("delete", "pvc", "b", "-n", three.name)
    session = taken(three, "first")
    assert phases(session) == {"a": "Succeeded", "b": "Failed", "c": "Succeeded"}
    error = hosts(session)["b"]["error"]
    assert error.startswith("ClaimMissing"), error
    assert f"{three.name}/b" in error
    assert names(snapshots(three)) == named(session, "a", "c")
    three.apply(*claims(three, "b"))
    bound(three, "b")
    assert taken(three, "second")["status"]["phase"] == "Succeeded"


def test_two_configurations_of_one_claim_in_one_second(space: Space) -> None:
    """Both want the same name: one gets a suffix, both have a snapshot of their own."""
    space.apply(*claims(space, "data"))
    bound(space, "data")
    ready(space, configuration(space, name="one"), configuration(space, name="two"))
    pairs = [(f"one-{i}", f"two-{i}") for i in range(5)]
    for one, two in pairs:
        space.apply(
            space.session(one, configuration="one"), space.session(two, configuration="two")
        )
        sessions = [space.wait_phase("backupsession", name, *FINAL) for name in (one, two)]
        if len({named(session, "data")[0] for session in sessions}) == 1:
            break
    assert [s["status"]["phase"] for s in sessions] == ["Succeeded", "Succeeded"]
    (name,) = named(sessions[0], "data")
    assert named(sessions[1], "data") == [name], "not once in five times the same second"
    plain, other = sorted(found for s in sessions for found in names(snapshots(space, s)))
    assert plain == name
    assert other.startswith(f"{name}-")
    assert len(other) == len(name) + len("-1a2b")


# --- the Job


@pytest.mark.parametrize("held", [THREE, ("b",)], ids=["before", "between"])
def test_job_killed(three: Space, held: tuple[str, ...]) -> None:
    """Killed before anything, or after two of three: the next pod makes exactly what is missing."""
    audit = Audit(three.cluster.info["audit_log"])
    passing = sorted(set(THREE) - set(held))
    with Doorkeeper(three, held) as door:
        three.apply(three.session("first"))
        three.cluster.until("the creation waits", lambda: len(door.waiting) >= len(held))
        before = wait_created(three, len(passing)) if passing else []
        pod, pid = runner_of(three, JOB)
        kill_runner(three, pod, pid)
        door.open()
        session = three.wait_phase("backupsession", "first", *FINAL)
    assert phases(session) == dict.fromkeys(THREE, "Succeeded"), session["status"]
    found = snapshots(three)
    assert names(found) == named(session, *THREE), "no duplicate, no loss"
    assert {s["metadata"]["uid"] for s in before} <= {s["metadata"]["uid"] for s in found}
    assert len(pods_of(three, JOB)) == 2
    codes = answers(audit, "create", "volumesnapshots", three, user=user_of(three))
    assert codes.count(201) == len(THREE)
    assert codes.count(409) == len(passing), "what was there already is taken for its own"


def test_job_killed_before_it_could_report(three: Space) -> None:
    """Killed after all were created: no other pod comes, which might do it again later."""
    audit = Audit(three.cluster.info["audit_log"])
    with Doorkeeper(three, THREE) as door:
        three.apply(three.session("first"))
        three.cluster.until("the creation waits", lambda: len(door.waiting) == len(THREE))
        pod, pid = runner_of(three, JOB)
        os.kill(pid, signal.SIGSTOP)  # it sees none of the answers
        door.open()
        before = wait_created(three)
        kill_runner(three, pod, pid)
        session = three.wait_phase("backupsession", "first", *FINAL)
    assert phases(session) == dict.fromkeys(THREE, "Succeeded"), session["status"]
    found = snapshots(three)
    assert names(found) == named(session, *THREE), "no duplicate, no loss"
    # The session needs no report of what it sees for itself, and its Job is not needed any more.
    three.cluster.until("the Job is gone", lambda: three.get("job", JOB) is None)
    three.cluster.until("its pods are gone", lambda: not pods_of(three, JOB))
    codes = answers(audit, "create", "volumesnapshots", three, user=user_of(three))
    assert codes == [201] * len(THREE)
    uids = [s["metadata"]["uid"] for s in before]
    assert uids == [s["metadata"]["uid"] for s in snapshots(three)]


def test_job_deleted_after_creation(three: Space, faults: Faults) -> None:
    """Once the snapshots are made the Job is not needed: it may go while they become ready."""
    faults.set({"call": "CreateSnapshot", "not_ready": True, "delay_s": 15})
    audit = Audit(three.cluster.info["audit_log"])
    three.apply(three.session("first"))
    wait_created(three)
    three.cluster.kubectl("delete", "job", JOB, "-n", three.name)
    assert not any(readiness(three).values()), "the driver is not done"
    found = three.get("backupsession", "first") or {}
    assert found["status"]["phase"] == "Running", found["status"]
    session = three.wait_phase("backupsession", "first", *FINAL)
    assert phases(session) == dict.fromkeys(THREE, "Succeeded"), session["status"]
    assert names(snapshots(three)) == named(session, *THREE)
    assert answers(audit, "create", "jobs", three, name=JOB) == [201], "not made again"


def test_job_deleted_before_creation(three: Space) -> None:
    """A Job that is deleted before it did anything fails the session within seconds."""
    audit = Audit(three.cluster.info["audit_log"])
    with Doorkeeper(three) as door:
        three.apply(three.session("first"))
        three.cluster.until("the creation waits", lambda: len(door.waiting) == len(THREE))
        three.wait_phase("backupsession", "first", "Running")
        three.cluster.kubectl(
            "delete", "job", JOB, "-n", three.name, "--cascade=foreground", "--grace-period=1",
            "--wait=false",
        )  # fmt: skip
        session = three.wait_phase("backupsession", "first", *FINAL, timeout_s=40.0)
        assert snapshots(three) == []
    assert phases(session) == dict.fromkeys(THREE, "Failed"), session["status"]
    for stat in hosts(session).values():
        assert stat["error"].startswith("NotCreated: no VolumeSnapshot of it was created."), stat
        assert "JobDeleted: its Job was deleted before it reported" in stat["error"], stat
    deletions = [r for r in audit.requests() if (r.verb, r.resource) == ("delete", "jobs")]
    assert [r.code for r in deletions if (r.namespace, r.name) == (three.name, JOB)][:1] == [200]
    assert 201 not in answers(audit, "create", "volumesnapshots", three, user=user_of(three))
    assert answers(audit, "create", "jobs", three, name=JOB) == [201], "not made again"
    assert taken(three, "second")["status"]["phase"] == "Succeeded"


# --- refusals of the API server


def test_quota_refuses_snapshots(three: Space) -> None:
    """What quota allows is made and kept; the others fail with its words. Without it all work."""
    audit = Audit(three.cluster.info["audit_log"])
    counted = "count/volumesnapshots.snapshot.storage.k8s.io"
    three.apply(three.object("v1", "ResourceQuota", "few", spec={"hard": {counted: "1"}}))

    def enforced() -> bool:
        found = three.cluster.get("resourcequota", "few", three.name) or {}
        return counted in ((found.get("status") or {}).get("used") or {})

    three.cluster.until("the quota", enforced, timeout_s=30.0)
    session = taken(three, "first")
    assert sorted(phases(session).values()) == ["Failed", "Failed", "Succeeded"]
    refused = [stat["error"] for stat in hosts(session).values() if stat["phase"] == "Failed"]
    for error in refused:
        assert error.startswith("CreationRefused"), error
        assert "exceeded quota: few" in error
    assert "raise the ResourceQuota, or delete what is not needed" in "; ".join(refused)
    (kept,) = snapshots(three)
    assert kept["metadata"]["name"] in condition(session, "BackupIncomplete")["message"]
    codes = answers(audit, "create", "volumesnapshots", three, user=user_of(three))
    assert sorted(set(codes)) == [201, 403]
    three.cluster.kubectl("delete", "resourcequota", "few", "-n", three.name)
    again = taken(three, "second")
    assert phases(again) == dict.fromkeys(THREE, "Succeeded"), again["status"]


def test_rights_missing(three: Space) -> None:
    """A Job that may create nothing says what is forbidden; a binding that is deleted comes back.

    The runner doubts such a refusal for 60 s: an API server that has just started gives it too.
    """
    binding = ("rolebinding", "backupconfiguration-backup-0", "-n", three.name)
    three.cluster.kubectl("patch", *binding, "--type=merge", "-p", '{"subjects": null}')
    audit = Audit(three.cluster.info["audit_log"])
    three.apply(three.session("first"))
    session = three.wait_phase("backupsession", "first", *FINAL, timeout_s=150.0)
    assert phases(session) == dict.fromkeys(THREE, "Failed")
    for stat in hosts(session).values():
        assert stat["error"].startswith("CreationRefused"), stat
        assert "volumesnapshots" in stat["error"]
        assert "forbidden" in stat["error"]
        assert "RoleBinding" in stat["error"], "the fix is named"
    codes = answers(audit, "create", "volumesnapshots", three, user=user_of(three))
    assert set(codes) == {403}
    assert snapshots(three) == []
    three.cluster.kubectl("delete", *binding)
    three.cluster.until("the binding", lambda: _has_subjects(three), timeout_s=20.0)
    assert taken(three, "second")["status"]["phase"] == "Succeeded"


def _has_subjects(space: Space) -> bool:
    found = space.cluster.get("rolebinding", "backupconfiguration-backup-0", space.name) or {}
    return bool(found.get("subjects"))


# --- the controller


@pytest.mark.serial
def test_operator_killed_while_the_driver_works(
    cluster: Cluster, three: Space, faults: Faults
) -> None:
    """A killed operator finds its session again: no Job and no snapshot is made twice."""
    faults.set({"call": "CreateSnapshot", "not_ready": True, "delay_s": 8})
    audit = Audit(cluster.info["audit_log"])
    three.apply(three.session("first"))
    wait_created(three)
    kill_leader(cluster)
    session = three.wait_phase("backupsession", "first", *FINAL)
    assert phases(session) == dict.fromkeys(THREE, "Succeeded"), session["status"]
    assert names(snapshots(three)) == named(session, *THREE)
    codes = answers(audit, "create", "volumesnapshots", three, user=user_of(three))
    assert codes == [201] * len(THREE)
    assert answers(audit, "create", "jobs", three, user=OPERATOR).count(201) == 1
