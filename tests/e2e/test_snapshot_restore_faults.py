"""What goes wrong while claims are restored from VolumeSnapshots.

Nothing that is there is touched, nothing is created while it is known that it would be of no use,
and every wait has an end that says why.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.audit import OPERATOR, Audit
from tests.support.cluster import Space, condition
from tests.support.evidence import answers, says
from tests.support.snapshots import (
    SIZE,
    Faults,
    assert_content,
    bound,
    claims,
    configuration,
    hosts,
    named,
    names,
    one_file,
    phases,
    ready,
    restore,
    restored,
    restorer,
    snapshots,
    taken,
    template,
)

LIMITED = {"hard": {"persistentvolumeclaims": "1"}}


@pytest.fixture
def snapshot(space: Space) -> str:
    """The name of a VolumeSnapshot of the claim `data`, which holds one file."""
    return one_file(space)


def claim_names(space: Space) -> list[str]:
    """Return the names of all claims of the namespace."""
    return sorted(names(space.list("pvc")))


def wait_pending(space: Space, *words: str, name: str = "restore") -> None:
    """Wait until a restore says what it waits for."""

    def probe() -> bool:
        found = space.get("restoresession", name) or {}
        message = str(condition(found, "ClaimsWaiting").get("message"))
        return all(word in message for word in words)

    space.cluster.until(f"the restore says {words}", probe, timeout_s=40.0)


def assert_not_begun(space: Space, audit: Audit) -> None:
    """The restore made no Job, and nobody created a claim as it."""
    owners = [o["kind"] for job in space.list("job") for o in job["metadata"]["ownerReferences"]]
    assert "RestoreSession" not in owners
    assert not answers(audit, "create", "persistentvolumeclaims", space, user=restorer(space))
    assert claim_names(space) == ["data"]


def assert_event(space: Space, session: Mapping[str, Any], kind: str, *words: str) -> None:
    """A session that has ended has one Event of this type that says these words."""
    uid = session["metadata"]["uid"]

    def told() -> list[dict[str, Any]]:
        found = space.list("event")
        return [event for event in found if event["involvedObject"].get("uid") == uid]

    (event,) = space.cluster.until("the Event of the restore", told, timeout_s=20.0)
    assert event["type"] == kind, event
    assert not [word for word in words if word not in event["message"]], event["message"]


def volume_answers(space: Space, claim: str) -> list[str]:
    """Return what the driver answered to each call that makes a claim's volume, by its log."""
    log = Path(space.cluster.info["logs"]) / "csi-driver.log"
    uid = (space.get("pvc", claim) or {})["metadata"]["uid"]
    return [
        line.partition("ms ")[2]
        for line in log.read_text(errors="replace").splitlines()
        if " CreateVolume " in line and f" name=pvc-{uid} " in line
    ]


def wait_provisioning(space: Space, claim: str) -> None:
    """Wait until the provisioner has begun with a claim: it has taken the snapshot by then."""

    def begun() -> bool:
        return any(
            event.get("reason") == "Provisioning"
            for event in space.list("event")
            if event["involvedObject"].get("kind") == "PersistentVolumeClaim"
            and event["involvedObject"].get("name") == claim
        )

    space.cluster.until(f"the provisioner begins with {claim}", begun)


def test_claim_that_exists(space: Space, snapshot: str) -> None:
    """A claim of somebody else is named and left alone, and nothing is created beside it."""

    def let_go() -> dict[str, Any] | None:
        """Return the claim once the snapshot-controller has done with it, soon after the end."""
        found = space.get("pvc", "data") or {"metadata": {}}
        held = found["metadata"].get("finalizers") or ()
        return None if any("as-source-protection" in each for each in held) else found

    before = space.cluster.until("the claim is let go", let_go)
    audit = Audit(space.cluster.info["audit_log"])
    found = restored(space, template(space, "data", snapshot), template(space, "copy", snapshot))
    assert found["status"]["phase"] == "Failed"
    text = json.dumps(found["status"])
    assert "AlreadyExists" in text
    assert f"PersistentVolumeClaim {space.name}/data exists already" in text
    assert space.get("pvc", "data") == before
    assert_not_begun(space, audit)
    assert_event(space, found, "Warning", "restore failed for 2 of 2 claims", "exists already")
    # under another name it works
    again = restored(space, template(space, "copy", snapshot), name="again")
    assert phases(again) == {"copy": "Succeeded"}
    assert 201 in answers(
        audit, "create", "persistentvolumeclaims", space, user=restorer(space, "again")
    ), "this is the user who would have created the others"
    assert_event(space, again, "Normal", "restore succeeded for 1 of 1 claims (copy)")
    assert_content(space, "copy")


def test_claim_that_is_being_deleted(space: Space, snapshot: str) -> None:
    """Whoever destroys and restores at once: the restore waits until the claim is gone."""
    before = (space.get("pvc", "data") or {})["metadata"]["uid"]
    space.cluster.kubectl("-n", space.name, "delete", "pvc", "data", "--wait=false")
    space.apply(restore(space, template(space, "data", snapshot)))
    wait_pending(space, f"PersistentVolumeClaim {space.name}/data exists and is being deleted")
    kept = (space.get("pvc", "data") or {})["metadata"]
    assert kept["uid"] == before
    assert kept["deletionTimestamp"], "its pod still uses it"
    space.cluster.kubectl("-n", space.name, "delete", "pod", "app")
    found = space.wait_phase("restoresession", "restore", "Succeeded", "Failed", timeout_s=150.0)
    assert phases(found) == {"data": "Succeeded"}, found["status"]
    assert (space.get("pvc", "data") or {})["metadata"]["uid"] != before
    assert_content(space, "data")


def test_storage_class_missing(space: Space, snapshot: str) -> None:
    """Class, path and fix are named, nothing is created; with a class that exists it works."""
    audit = Audit(space.cluster.info["audit_log"])
    wanted = template(space, "copy", snapshot, storage_class="no-such-class")
    found = restored(space, wanted)
    assert found["status"]["phase"] == "Failed"
    assert hosts(found)["copy"]["error"] == (
        "InputInvalid: StorageClass no-such-class not found: create it, or correct "
        "spec.target.volumeClaimTemplates[0].spec.storageClassName"
    )
    says(found, "RestoreExecutorEnsured", "False", ["no-such-class"])
    assert 404 in answers(audit, "get", "storageclasses", space, name="no-such-class")
    assert_not_begun(space, audit)
    again = restored(space, template(space, "copy", snapshot), name="again")
    assert phases(again) == {"copy": "Succeeded"}
    assert_content(space, "copy")


def test_sizes(space: Space, snapshot: str) -> None:
    """Smaller than the snapshot is refused, larger works, by default it is the snapshot's."""
    small = restored(space, template(space, "small", snapshot, size="8Mi"), name="small")
    assert small["status"]["phase"] == "Failed"
    path = "spec.target.volumeClaimTemplates[0].spec.resources.requests.storage"
    words = ["8Mi", "restoreSize", SIZE, snapshot, path]
    says(small, "RestoreExecutorEnsured", "False", words)
    assert claim_names(space) == ["data"]

    found = restored(
        space,
        template(space, "large", snapshot, size="128Mi"),
        template(space, "same", snapshot),
        name="fits",
    )
    assert phases(found) == {"large": "Succeeded", "same": "Succeeded"}
    assert found["status"]["totalHosts"] == 2
    sizes = {
        name: (space.get("pvc", name) or {})["status"]["capacity"] for name in ("large", "same")
    }
    assert sizes == {"large": {"storage": "128Mi"}, "same": {"storage": SIZE}}
    assert_content(space, "large")
    assert_content(space, "same")


def test_snapshot_missing(space: Space) -> None:
    """A snapshot that is not there yet is waited for; with `timeOut` there is an end to that."""
    space.apply(restore(space, template(space, "copy", "later")))
    space.wait_phase("restoresession", "restore", "Pending")
    wait_pending(space, f"VolumeSnapshot {space.name}/later does not exist")
    assert claim_names(space) == []
    found = restored(space, template(space, "other", "never"), name="short", timeOut="3s")
    assert found["status"]["phase"] == "Failed"
    says(found, "DeadlineExceeded", "True", ["3s"])
    assert f"VolumeSnapshot {space.name}/never does not exist" in json.dumps(found["status"])

    space.apply(*claims(space, "data"), space.pod())
    space.wait_pod("app")
    space.exec("app", "echo content > /data/file; sync")
    space.apply(
        space.object(
            "snapshot.storage.k8s.io/v1",
            "VolumeSnapshot",
            "later",
            spec={"source": {"persistentVolumeClaimName": "data"}},
        )
    )
    done = space.wait_phase("restoresession", "restore", "Succeeded")
    assert phases(done) == {"copy": "Succeeded"}
    assert_content(space, "copy")


def test_snapshot_not_ready(space: Space, faults: Faults) -> None:
    """The driver's words about the snapshot are those of the restore that waits for it."""
    faults.set({"call": "CreateSnapshot", "code": "INTERNAL", "message": "disk on fire"})
    space.apply(*claims(space, "data"))
    bound(space, "data")
    ready(space, configuration(space, timeOut="40s"))
    session = taken(space, "first")
    assert session["status"]["phase"] == "Failed"
    (name,) = named(session, "data")
    not_ready = f"VolumeSnapshot {space.name}/{name} is not ready to use"
    space.apply(restore(space, template(space, "copy", name), timeOut="10m"))
    wait_pending(space, not_ready, "disk on fire")
    # one with little time ends with the same words
    late = restored(space, template(space, "other", name), name="late", timeOut="5s")
    assert late["status"]["phase"] == "Failed"
    error = hosts(late)["other"]["error"]
    assert error.startswith(f"SnapshotNotReady: {not_ready}"), error
    assert "disk on fire" in error
    assert error.endswith("; spec.timeOut is 5s")
    says(late, "DeadlineExceeded", "True", ["5s"])
    assert claim_names(space) == ["data"]
    faults.clear()
    # the sidecar tries again later and later
    done = space.wait_phase("restoresession", "restore", "Succeeded", timeout_s=240.0)
    assert phases(done) == {"copy": "Succeeded"}


def test_waits_for_first_consumer(space: Space, snapshot: str) -> None:
    """An unbound claim is no proof: the restore ends Unknown, and a pod then finds the data."""
    lazy = space.cluster.info["storage"]["storage_class"]
    found = restored(space, template(space, "copy", snapshot, storage_class=lazy))
    assert found["status"]["phase"] == "Unknown"
    assert phases(found) == {"copy": "Unknown"}
    says(found, "ClaimsUnverified", "True", ["copy", "WaitForFirstConsumer"])
    assert_content(space, "copy")


def test_waits_for_first_consumer_but_would_be_refused(space: Space, snapshot: str) -> None:
    """What is known to be refused is Failed, not Unknown: too small, another provisioner."""
    audit = Audit(space.cluster.info["audit_log"])
    lazy = space.cluster.info["storage"]["storage_class"]
    other = f"{space.name}-other"
    space.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": other},
            "provisioner": "other.example.com",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    )
    try:
        found = restored(
            space,
            template(space, "small", snapshot, storage_class=lazy, size="8Mi"),
            template(space, "foreign", snapshot, storage_class=other),
        )
    finally:
        space.cluster.kubectl("delete", "storageclass", other)
    assert found["status"]["phase"] == "Failed"
    assert phases(found) == {"small": "Failed", "foreign": "Failed"}
    templates = "spec.target.volumeClaimTemplates"
    small, foreign = (hosts(found)[name]["error"] for name in ("small", "foreign"))
    assert f"{templates}[0].spec.resources.requests.storage is 8Mi, less than restoreSize" in small
    assert f"StorageClass {other} is of provisioner other.example.com" in foreign
    assert f"{templates}[1].spec.storageClassName" in foreign
    assert_not_begun(space, audit)
    good = restored(space, template(space, "copy", snapshot, storage_class=lazy), name="again")
    assert good["status"]["phase"] == "Unknown"
    assert_content(space, "copy")


def test_retention_leaves_what_waits_for_its_first_consumer(space: Space, snapshot: str) -> None:
    """The restore has ended, its claim has yet to be filled: until then the snapshot stays."""
    lazy = space.cluster.info["storage"]["storage_class"]
    found = restored(space, template(space, "copy", snapshot, storage_class=lazy))
    assert found["status"]["phase"] == "Unknown"
    one = {"name": "one", "keepLast": 1, "prune": True}
    ready(space, configuration(space, retentionPolicy=one))
    second = taken(space, "second")
    says(second, "RetentionPolicyApplied", "True", ["Left until they are restored", snapshot])
    assert names(snapshots(space)) == sorted([snapshot, *named(second, "data")])
    assert_content(space, "copy")
    third = taken(space, "third")
    assert third["status"]["phase"] == "Succeeded"
    space.cluster.until(
        "the older ones go", lambda: names(snapshots(space)) == named(third, "data")
    )


def test_spec_edited_while_restoring(space: Space, snapshot: str, faults: Faults) -> None:
    """What is made is from the snapshot that was named before: that is no success."""
    second = taken(space, "second")
    (other,) = named(second, "data")
    faults.set({"call": "CreateVolume", "code": "UNAVAILABLE", "message": "not now"})
    space.apply(restore(space, template(space, "copy", snapshot)))
    space.cluster.until("the claim is there", lambda: space.get("pvc", "copy"))
    path = "/spec/target/volumeClaimTemplates/0/spec/dataSource/name"
    patch = json.dumps([{"op": "replace", "path": path, "value": other}])
    space.cluster.kubectl(
        "-n", space.name, "patch", "restoresession", "restore", "--type=json", "-p", patch
    )
    found = space.wait_phase("restoresession", "restore", "Succeeded", "Failed")
    assert found["status"]["phase"] == "Failed"
    assert_event(space, found, "Warning", "spec.target was changed while the restore ran")
    faults.clear()
    assert (space.get("pvc", "copy") or {})["spec"]["dataSource"]["name"] == snapshot
    again = restored(space, template(space, "other", other), name="again")
    assert phases(again) == {"other": "Succeeded"}
    assert_content(space, "other")


def test_driver_fails_twice(space: Space, snapshot: str, faults: Faults) -> None:
    """The provisioner tries again, and the restore waits for it."""
    faults.set(
        {"call": "CreateVolume", "code": "UNAVAILABLE", "message": "no room now", "times": 2}
    )
    found = restored(space, template(space, "copy", snapshot))
    assert phases(found) == {"copy": "Succeeded"}
    first, second, *rest = volume_answers(space, "copy")
    assert "no room now" in first
    assert "no room now" in second
    assert rest[0] == "OK"
    assert_content(space, "copy")


def test_driver_fails_for_good(space: Space, snapshot: str, faults: Faults) -> None:
    """One of two claims is never bound: its Events say why, and the other one stays."""
    faults.set(
        {
            "call": "CreateVolume",
            "match": {"volume": "bad"},
            "code": "RESOURCE_EXHAUSTED",
            "message": "the pool is full",
        }
    )
    found = restored(
        space,
        template(space, "bad", snapshot),
        template(space, "good", snapshot),
        timeOut="60s",
    )
    assert found["status"]["phase"] == "Failed"
    assert phases(found) == {"bad": "Failed", "good": "Succeeded"}
    error = hosts(found)["bad"]["error"]
    assert "ClaimNotBound" in error
    assert "the pool is full" in error
    answered = volume_answers(space, "bad")
    assert answered
    assert all("the pool is full" in answer for answer in answered)
    says(found, "DeadlineExceeded", "True", ["1m0s"])
    assert_event(space, found, "Warning", "restore failed for 1 of 2 claims (bad)")
    assert claim_names(space) == ["bad", "data", "good"], "what was created stays"
    assert_content(space, "good")
    faults.clear()
    again = restored(space, template(space, "better", snapshot), name="again")
    assert phases(again) == {"better": "Succeeded"}


def test_snapshot_deleted_while_restoring(space: Space, snapshot: str, faults: Faults) -> None:
    """Kubernetes keeps a snapshot while a claim is made from it: the data arrives."""
    faults.set({"call": "CreateVolume", "delay_s": 8})  # the sidecar waits for 10 s
    space.apply(restore(space, template(space, "copy", snapshot)))
    wait_provisioning(space, "copy")
    _delete(space, snapshot)
    (going,) = snapshots(space)
    assert going["metadata"]["deletionTimestamp"]
    assert (space.get("pvc", "copy") or {})["status"]["phase"] == "Pending", "it came too late"
    found = space.wait_phase("restoresession", "restore", "Succeeded", "Failed")
    assert phases(found) == {"copy": "Succeeded"}, found["status"]
    space.cluster.until("the snapshot goes", lambda: not snapshots(space))
    assert_content(space, "copy")


def test_snapshot_destroyed_while_restoring(space: Space, snapshot: str, faults: Faults) -> None:
    """Against that protection, by force: the restore says what is gone, and ends.

    Another snapshot is restored under another name: what was created stays.
    """
    faults.set({"call": "CreateVolume", "code": "UNAVAILABLE", "message": "not now"})
    space.apply(restore(space, template(space, "copy", snapshot), timeOut="60s"))
    space.cluster.until("the claim is there", lambda: space.get("pvc", "copy"))
    _delete(space, snapshot)
    unprotect = '{"metadata": {"finalizers": null}}'

    def gone() -> bool:
        if not snapshots(space):
            return True
        space.cluster.kubectl(
            "-n", space.name, "patch", "volumesnapshot", snapshot, "--type=merge", "-p", unprotect,
            check=False,
        )  # fmt: skip
        return not snapshots(space)

    space.cluster.until("the snapshot is gone", gone)
    found = space.wait_phase("restoresession", "restore", "Failed", timeout_s=120.0)
    error = hosts(found)["copy"]["error"]
    assert f"VolumeSnapshot {space.name}/{snapshot} does not exist" in error
    faults.clear()
    second = taken(space, "second")
    (name,) = named(second, "data")
    again = restored(space, template(space, "better", name), name="again")
    assert phases(again) == {"better": "Succeeded"}
    assert_content(space, "better")


def test_quota_refuses_claims(space: Space, snapshot: str) -> None:
    """The quota's words are those of the claims that it refused."""
    space.apply(space.object("v1", "ResourceQuota", "few", spec=LIMITED))
    space.cluster.until(
        "the quota counts",
        lambda: (
            ((space.cluster.get("resourcequota", "few", space.name) or {}).get("status") or {})
            .get("used", {})
            .get("persistentvolumeclaims")
            == "1"
        ),
    )
    found = restored(space, template(space, "copy", snapshot))
    assert found["status"]["phase"] == "Failed"
    error = hosts(found)["copy"]["error"]
    assert "CreationRefused" in error
    assert "exceeded quota: few" in error
    assert claim_names(space) == ["data"]


def test_operator_may_not_touch_claims(space: Space, snapshot: str) -> None:
    """Only the Job creates claims, as itself, and only while its session needs it to."""
    audit = Audit(space.cluster.info["audit_log"])
    found = restored(space, template(space, "copy", snapshot))
    assert found["status"]["phase"] == "Succeeded"
    assert not answers(audit, "create", "persistentvolumeclaims", space, user=OPERATOR)
    review = space.cluster.run(
        "kubectl", "auth", "can-i", "create", "persistentvolumeclaims", "-n", space.name,
        f"--as={OPERATOR}", check=False,
    )  # fmt: skip
    assert review.stdout.strip() == "no"


def _delete(space: Space, snapshot: str) -> None:
    space.cluster.kubectl("-n", space.name, "delete", "volumesnapshot", snapshot, "--wait=false")
