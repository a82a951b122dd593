"""Which claims of which target are snapshotted; the guides for a claim and for a Deployment."""

import time
from typing import Any

import pytest

from tests.support.cluster import Space, condition
from tests.support.snapshots import (
    bound,
    claims,
    configuration,
    hosts,
    named,
    names,
    phases,
    ready,
    restored,
    rolled_out,
    snapshots,
    suffix,
    taken,
    template,
    workload,
)

KINDS = ("DaemonSet", "ReplicaSet", "ReplicationController", "StatefulSet")
STATEFUL_SET_CLAIMS = ("data-statefulset-3", "data-statefulset-4", "two")
"""`ordinals.start` is 3, and `target.replicas` says 2."""


@pytest.fixture(scope="module")
def sessions(shared_space: Space) -> dict[str, dict[str, Any]]:
    """One session of each kind of workload. No pod runs: claims are what counts.

    Each is of a second of its own: two of one second want the same name for a claim that they
    share, and one gets a suffix.
    """
    space = shared_space
    made = []
    for kind in KINDS:
        own: dict[str, Any] = {"claims": ("one", "two")}
        if kind == "StatefulSet":
            own = {"claims": ("two",), "templates": ("data",)}
        made.append(workload(space, kind, kind.lower(), replicas=0, **own))
    made[-1]["spec"]["ordinals"] = {"start": 3}
    owned = STATEFUL_SET_CLAIMS[:2]
    space.apply(*claims(space, "one", "two", *owned), *made)
    bound(space, "one", "two", *owned)
    ready(
        space,
        *(
            configuration(
                space, kind, kind.lower(), kind.lower(),
                target={"replicas": 2} if kind == "StatefulSet" else {},
            )
            for kind in KINDS
        ),
    )  # fmt: skip
    for kind in KINDS:
        name = f"s-{kind.lower()}"
        space.apply(space.session(name, configuration=kind.lower()))
        created = space.get("backupsession", name)
        assert created is not None
        time.sleep(max(0.0, suffix(created) + 1 - time.time()))
    return {
        kind: space.wait_phase("backupsession", f"s-{kind.lower()}", "Succeeded", "Failed")
        for kind in KINDS
    }


@pytest.mark.parametrize("kind", KINDS)
def test_claims_of_a_workload(
    shared_space: Space, sessions: dict[str, dict[str, Any]], kind: str
) -> None:
    """All claims that the pods mount; of a StatefulSet those of the ordinals first."""
    session = sessions[kind]
    wanted = STATEFUL_SET_CLAIMS if kind == "StatefulSet" else ("one", "two")
    assert phases(session) == dict.fromkeys(wanted, "Succeeded"), session["status"]
    assert tuple(hosts(session)) == wanted, "in this order"
    by_name = {
        s["metadata"]["name"]: s["spec"]["source"]["persistentVolumeClaimName"]
        for s in snapshots(shared_space, session)
    }
    assert by_name == {f"{claim}-{suffix(session)}": claim for claim in wanted}


def test_target_without_a_claim(space: Space) -> None:
    """A workload without any claim is an error that says so; with one it is Ready by itself."""
    space.apply(
        workload(space, "Deployment", replicas=0), configuration(space, "Deployment", "app")
    )
    found = space.wait_phase("backupconfiguration", "backup", "NotReady", "Invalid", "Ready")
    message = condition(found, "BackupTargetFound").get("message", "")
    assert found["status"]["phase"] == "NotReady", found["status"]
    assert "PersistentVolumeClaim" in message
    assert "cache (emptyDir)" in message
    assert space.get("cronjob", "stash-trigger-backup") is None
    space.apply(*claims(space, "data"))
    bound(space, "data")
    space.apply(workload(space, "Deployment", claims=("data",), replicas=0))
    space.wait_phase("backupconfiguration", "backup", "Ready")


def test_target_that_comes_later(space: Space) -> None:
    """A configuration that is there before its target waits for it, and names it."""
    space.apply(configuration(space, "StatefulSet", "app"))
    found = space.wait_phase("backupconfiguration", "backup", "NotReady")
    assert f"StatefulSet {space.name}/app" in condition(found, "BackupTargetFound")["message"]
    space.apply(*claims(space, "data-app-0"))
    bound(space, "data-app-0")
    space.apply(workload(space, "StatefulSet", templates=("data",), replicas=0))
    space.apply(configuration(space, "StatefulSet", "app", target={"replicas": 1}))
    space.wait_phase("backupconfiguration", "backup", "Ready")
    assert phases(taken(space, "first")) == {"data-app-0": "Succeeded"}


def test_guide_for_a_deployment(space: Space) -> None:
    """A Deployment with two claims: snapshot, destroy, restore, and it starts with its data."""
    application = workload(space, "Deployment", claims=("data", "media"))
    space.apply(*claims(space, "data", "media"), application)
    rolled_out(space, "deployment")
    _in_deployment(space, "echo one > /data/file; echo two > /media/file; sync")
    ready(space, configuration(space, "Deployment", "app"))
    session = taken(space, "first")
    assert phases(session) == {"data": "Succeeded", "media": "Succeeded"}, session["status"]
    assert names(snapshots(space, session)) == named(session, "data", "media")
    assert "cache (emptyDir)" in condition(session, "VolumesLeftOut")["message"]

    _in_deployment(space, "echo spoilt > /data/file; rm /media/file; echo new > /media/new")
    where = ("-n", space.name, "--timeout=60s")
    space.cluster.kubectl("delete", "deployment", "app", "--cascade=foreground", *where)
    space.cluster.kubectl("delete", "pvc", "data", "media", *where)
    found = restored(
        space, *(template(space, name, f"{name}-{suffix(session)}") for name in ("data", "media"))
    )
    assert phases(found) == {"data": "Succeeded", "media": "Succeeded"}, found["status"]
    space.apply(application)
    rolled_out(space, "deployment")
    assert _in_deployment(space, "cat /data/file /media/file; ls /media") == "one\ntwo\nfile\n"


def test_guide_for_a_claim(space: Space) -> None:
    """A stand-alone claim is restored under another name, as large as the snapshot says."""
    space.apply(*claims(space, "data", size="96Mi"), space.pod())
    space.wait_pod("app")
    space.exec("app", "echo hello > /data/file; sync")
    ready(space, configuration(space))
    session = taken(space, "first")
    assert phases(session) == {"data": "Succeeded"}, session["status"]
    assert not condition(session, "VolumesLeftOut")
    (snapshot,) = snapshots(space, session)
    assert [snapshot["metadata"]["name"]] == named(session, "data")
    space.exec("app", "echo spoilt > /data/file; sync")

    found = restored(space, template(space, "copy", snapshot["metadata"]["name"]))
    assert phases(found) == {"copy": "Succeeded"}, found["status"]
    assert hosts(found)["copy"]["duration"].endswith("s")
    copy = space.get("pvc", "copy")
    assert copy is not None
    assert copy["spec"]["resources"]["requests"]["storage"] == snapshot["status"]["restoreSize"]
    assert copy["status"]["capacity"]["storage"] == "96Mi"
    space.apply(space.pod("reader", claim="copy"))
    space.wait_pod("reader")
    assert space.exec("reader", "cat /data/file") == "hello\n"
    assert space.exec("app", "cat /data/file") == "spoilt\n", "the claim itself is not touched"


def test_snapshots_are_found_again(space: Space) -> None:
    """Snapshots outlive their configuration; the one that is made again keeps and prunes them."""
    space.apply(*claims(space, "data"))
    bound(space, "data")
    policy = {"name": "two", "keepLast": 2, "prune": True}
    ready(space, configuration(space, retentionPolicy=policy))
    first, second = taken(space, "first"), taken(space, "second")
    space.cluster.kubectl("delete", "backupconfiguration", "backup", "-n", space.name)
    # Made by hand, a session has no owner that would take it along.
    space.cluster.kubectl("delete", "backupsession", "--all", "-n", space.name)
    kept = names(snapshots(space))
    assert kept == sorted(named(first, "data") + named(second, "data"))
    foreign = space.object(
        "snapshot.storage.k8s.io/v1", "VolumeSnapshot", "foreign",
        spec={"source": {"persistentVolumeClaimName": "data"}},
    )  # fmt: skip
    space.apply(foreign)
    ready(space, configuration(space, retentionPolicy=policy))
    third = taken(space, "third")
    assert condition(third, "RetentionPolicyApplied")["status"] == "True", third["status"]
    wanted = ["foreign", *named(second, "data"), *named(third, "data")]
    space.cluster.until(
        "the end of the oldest",
        lambda: names(snapshots(space)) == sorted(wanted),
        timeout_s=20.0,
    )


def _in_deployment(space: Space, script: str) -> str:
    return space.cluster.kubectl(
        "exec", "-n", space.name, "deployment/app", "--", "sh", "-c", script
    )
