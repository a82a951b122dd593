"""What goes wrong while claims are restored from VolumeSnapshots.

Nothing that is there is touched, nothing is created while it is known that it would be of no use,
and every wait has an end that says why.
"""

import json
from collections.abc import Iterator

import pytest

from tests.support.audit import OPERATOR, Audit
from tests.support.cluster import Space, condition
from tests.support.evidence import answers, says
from tests.support.snapshots import (
    SIZE,
    Faults,
    bound,
    claims,
    configuration,
    hosts,
    named,
    names,
    phases,
    ready,
    restore,
    restored,
    snapshots,
    taken,
    template,
)

LIMITED = {"hard": {"persistentvolumeclaims": "1"}}


@pytest.fixture
def snapshot(space: Space) -> str:
    """The name of a VolumeSnapshot of the claim `data`, which holds one file."""
    space.apply(*claims(space, "data"), space.pod())
    space.wait_pod("app")
    space.exec("app", "echo content > /data/file; sync")
    ready(space, configuration(space))
    session = taken(space, "first")
    assert session["status"]["phase"] == "Succeeded", session["status"]
    (name,) = named(session, "data")
    return name


@pytest.fixture
def faults(space: Space) -> Iterator[Faults]:
    """What the driver does wrong in this test's namespace."""
    found = Faults(space)
    yield found
    found.clear()


def assert_content(space: Space, claim: str) -> None:
    """The claim holds what was snapshotted."""
    space.apply(space.pod(f"reader-{claim}", claim=claim))
    space.wait_pod(f"reader-{claim}")
    assert space.exec(f"reader-{claim}", "cat /data/file") == "content\n"


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


def test_claim_that_exists(space: Space, snapshot: str) -> None:
    """A claim of somebody else is named and left alone, and nothing is created beside it."""
    before = space.get("pvc", "data")
    audit = Audit(space.cluster.info["audit_log"])
    found = restored(space, template(space, "data", snapshot), template(space, "copy", snapshot))
    assert found["status"]["phase"] == "Failed"
    text = json.dumps(found["status"])
    assert "AlreadyExists" in text
    assert f"PersistentVolumeClaim {space.name}/data exists already" in text
    assert space.get("pvc", "data") == before
    assert claim_names(space) == ["data"]
    assert not answers(audit, "create", "persistentvolumeclaims", space)
    # under another name it works
    again = restored(space, template(space, "copy", snapshot), name="again")
    assert phases(again) == {"copy": "Succeeded"}
    assert_content(space, "copy")


def test_storage_class_missing(space: Space, snapshot: str) -> None:
    """The class is named, nothing is created."""
    wanted = template(space, "copy", snapshot, storage_class="no-such-class")
    found = restored(space, wanted)
    assert found["status"]["phase"] == "Failed"
    assert "StorageClass no-such-class not found" in json.dumps(found["status"])
    assert claim_names(space) == ["data"]


def test_sizes(space: Space, snapshot: str) -> None:
    """Smaller than the snapshot is refused, larger works, by default it is the snapshot's."""
    small = restored(space, template(space, "small", snapshot, size="8Mi"), name="small")
    assert small["status"]["phase"] == "Failed"
    text = json.dumps(small["status"])
    for word in ("8Mi", "restoreSize", SIZE, snapshot):
        assert word in text
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
    ready(space, configuration(space, timeOut="5s"))
    session = taken(space, "first")
    assert session["status"]["phase"] == "Failed"
    (name,) = named(session, "data")
    space.apply(restore(space, template(space, "copy", name), timeOut="90s"))
    wait_pending(space, f"VolumeSnapshot {space.name}/{name} is not ready to use", "disk on fire")
    assert claim_names(space) == ["data"]
    faults.clear()
    done = space.wait_phase("restoresession", "restore", "Succeeded")
    assert phases(done) == {"copy": "Succeeded"}


def test_waits_for_first_consumer(space: Space, snapshot: str) -> None:
    """An unbound claim is no proof: the restore ends Unknown, and a pod then finds the data."""
    lazy = space.cluster.info["storage"]["storage_class"]
    found = restored(space, template(space, "copy", snapshot, storage_class=lazy))
    assert found["status"]["phase"] == "Unknown"
    assert phases(found) == {"copy": "Unknown"}
    says(found, "ClaimsUnverified", "True", ["copy", "WaitForFirstConsumer"])
    assert_content(space, "copy")


def test_driver_fails_twice(space: Space, snapshot: str, faults: Faults) -> None:
    """The provisioner tries again, and the restore waits for it."""
    faults.set(
        {"call": "CreateVolume", "code": "UNAVAILABLE", "message": "no room now", "times": 2}
    )
    found = restored(space, template(space, "copy", snapshot))
    assert phases(found) == {"copy": "Succeeded"}
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
        timeOut="20s",
    )
    assert found["status"]["phase"] == "Failed"
    assert phases(found) == {"bad": "Failed", "good": "Succeeded"}
    error = hosts(found)["bad"]["error"]
    assert "ClaimNotBound" in error
    assert "the pool is full" in error
    says(found, "DeadlineExceeded", "True", ["20s"])
    assert claim_names(space) == ["bad", "data", "good"], "what was created stays"
    assert_content(space, "good")


def test_snapshot_deleted_while_restoring(space: Space, snapshot: str, faults: Faults) -> None:
    """Kubernetes keeps a snapshot while a claim is made from it: the data arrives."""
    faults.set({"call": "CreateVolume", "delay_s": 5})
    space.apply(restore(space, template(space, "copy", snapshot)))
    space.cluster.until("the claim is there", lambda: space.get("pvc", "copy"))
    _delete(space, snapshot)
    found = space.wait_phase("restoresession", "restore", "Succeeded", "Failed")
    assert phases(found) == {"copy": "Succeeded"}, found["status"]
    space.cluster.until("the snapshot goes", lambda: not snapshots(space))
    assert_content(space, "copy")


def test_snapshot_destroyed_while_restoring(space: Space, snapshot: str, faults: Faults) -> None:
    """Against that protection, by force: the restore says what is gone, and ends."""
    faults.set({"call": "CreateVolume", "code": "UNAVAILABLE", "message": "not now"})
    space.apply(restore(space, template(space, "copy", snapshot), timeOut="20s"))
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
    found = space.wait_phase("restoresession", "restore", "Failed")
    error = hosts(found)["copy"]["error"]
    assert f"VolumeSnapshot {space.name}/{snapshot} does not exist" in error


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
