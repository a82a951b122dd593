"""Whom a VolumeSnapshot or a restored claim wakes, and whom it does not."""

import pytest

from controller.api.objects import Key, Obj
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    BACKUP_SESSION,
    PVC,
    RESTORE_SESSION,
    VOLUME_SNAPSHOT,
    Resource,
)
from controller.observe.routes import CONFIGURATION_LANE, RESTORE_LANE, SESSION_LANE, Route
from tests.support.builders import (
    NAMESPACE,
    configuration,
    configuration_spec,
    restore,
    running_status,
    session,
)
from tests.support.claim_restores import claim_spec
from tests.support.storage_objects import claim, snapshot
from tests.support.toy_cluster import CACHED, ToyCluster

RUNNING = session(status=running_status())
SNAPSHOTTER = {"driver": "VolumeSnapshotter"}
SESSION = Route(SESSION_LANE, Key(NAMESPACE, "nightly-1"))
RESTORE = Route(RESTORE_LANE, Key(NAMESPACE, "bring-back"))


def woken(cluster: ToyCluster, resource: Resource, *changes: Obj) -> list[Route]:
    """Return what the last one of some changes of an object makes due."""
    for change in changes:
        cluster.process.due.clear()
        cluster.server.put_object(resource, change)
        for kind in CACHED:
            cluster.deliver(kind)
    return cluster.due()


@pytest.mark.parametrize(
    "after",
    [
        snapshot("s", of=RUNNING, error="quota of the pool"),
        snapshot("s", of=RUNNING, ready=True),
        {**snapshot("s", of=RUNNING), "status": {"creationTime": "2026-11-22T02:59:00Z"}},
    ],
)
def test_a_snapshot_wakes_its_session(after: Obj) -> None:
    """When it comes, is cut, is ready or has an error."""
    cluster = ToyCluster((BACKUP_SESSION, RUNNING))
    before = snapshot("s", of=RUNNING)
    assert woken(cluster, VOLUME_SNAPSHOT, before) == [SESSION]
    assert woken(cluster, VOLUME_SNAPSHOT, after) == [SESSION]
    cluster.process.due.clear()
    cluster.server.remove(VOLUME_SNAPSHOT, Key(NAMESPACE, "s"))
    cluster.deliver(VOLUME_SNAPSHOT)
    assert cluster.due() == [SESSION]


def test_what_the_driver_keeps_in_metadata_wakes_nobody() -> None:
    """Finalizers and annotations of others: twenty snapshots have many of them."""
    cluster = ToyCluster((BACKUP_SESSION, RUNNING))
    before = snapshot("s", of=RUNNING)
    after = {**before, "metadata": {**before["metadata"], "finalizers": ["snapshot.storage/x"]}}
    assert woken(cluster, VOLUME_SNAPSHOT, before, after) == []


def test_a_snapshot_of_an_ended_session_wakes_nobody() -> None:
    """Retention deletes them by the dozen."""
    done = session(status={**running_status(), "phase": "Succeeded"})
    cluster = ToyCluster((BACKUP_SESSION, done))
    before, after = snapshot("s", of=done), snapshot("s", of=done, ready=True)
    assert woken(cluster, VOLUME_SNAPSHOT, before, after) == []


def test_a_snapshot_wakes_the_restores_that_name_it() -> None:
    """Those of its namespace that have not ended; whose it is does not matter."""
    spec = claim_spec()
    elsewhere = restore("far", spec=spec, metadata={"namespace": "elsewhere"})
    cluster = ToyCluster(
        (RESTORE_SESSION, restore(spec=spec, status={"phase": "Pending"})),
        (RESTORE_SESSION, restore("ended", spec=spec, status={"phase": "Failed"})),
        (RESTORE_SESSION, restore("restic")),
        (RESTORE_SESSION, elsewhere),
    )
    for name, routes in (("snap-1", [RESTORE]), ("snap-2", [])):
        theirs = snapshot(name, of=session("other-1"))
        del theirs["metadata"]["annotations"]
        assert woken(cluster, VOLUME_SNAPSHOT, theirs, {**theirs, "status": {"a": 1}}) == routes


def test_a_claim_wakes_its_restore() -> None:
    """When it is bound, lost or deleted; an annotation of the binder's changes nothing."""
    running = restore(spec=SNAPSHOTTER, status={"phase": "Running"})
    cluster = ToyCluster((RESTORE_SESSION, running))
    before, after = claim("c", of=running), claim("c", of=running, phase="Bound")
    assert woken(cluster, PVC, before) == [RESTORE]
    noted = {
        **before,
        "metadata": {
            **before["metadata"],
            "annotations": {
                **before["metadata"]["annotations"],
                "volume.kubernetes.io/storage-provisioner": "x",
            },
        },
    }
    assert woken(cluster, PVC, noted) == []
    assert woken(cluster, PVC, after) == [RESTORE]
    ended = restore(spec=SNAPSHOTTER, status={"phase": "Succeeded"})
    cluster = ToyCluster((RESTORE_SESSION, ended))
    assert woken(cluster, PVC, before, after) == []


def test_claims_and_snapshots_without_our_annotation_are_nobody_s() -> None:
    """Somebody may have copied our labels."""
    cluster = ToyCluster((BACKUP_SESSION, RUNNING))
    for resource, found in ((VOLUME_SNAPSHOT, snapshot("s")), (PVC, claim("c"))):
        del found["metadata"]["annotations"]
        assert woken(cluster, resource, found) == []


def test_a_kind_that_comes_or_goes_concerns_whoever_uses_it() -> None:
    """Configurations, and sessions of both kinds that have not ended; nobody of flow A."""
    flow_b = configuration("vs", spec=configuration_spec(**SNAPSHOTTER))
    cluster = ToyCluster(
        (BACKUP_CONFIGURATION, configuration()),
        (BACKUP_CONFIGURATION, flow_b),
        (BACKUP_SESSION, session()),
        (BACKUP_SESSION, session("vs-1", of="vs")),
        (BACKUP_SESSION, session("vs-0", of="vs", status={"phase": "Succeeded"})),
        (RESTORE_SESSION, restore()),
        (RESTORE_SESSION, restore("vs-back", spec=SNAPSHOTTER)),
        (RESTORE_SESSION, restore("vs-done", spec=SNAPSHOTTER, status={"phase": "Unknown"})),
    )
    assert list(cluster.process.routes.snapshotters()) == [
        Route(CONFIGURATION_LANE, Key(NAMESPACE, "vs")),
        Route(SESSION_LANE, Key(NAMESPACE, "vs-1")),
        Route(RESTORE_LANE, Key(NAMESPACE, "vs-back")),
    ]
