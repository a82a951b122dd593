"""A Job that outlives its session of VolumeSnapshots, from the loss of its pod to its own end."""

from collections.abc import Iterator

import pytest

from controller.api.objects import Key, key_of, name_of, status
from controller.api.resources import BACKUP_SESSION, JOB, POD, VOLUME_SNAPSHOT
from controller.observe.routes import SESSION_LANE, Route
from tests.support.builders import NAMESPACE
from tests.support.reads import Reads
from tests.support.snapshot_cluster import SnapshotCluster
from tests.support.snapshot_sessions import CLAIMS
from tests.support.toy_cluster import CACHED

KEY = Key(NAMESPACE, "nightly-1")
ROUTE = Route(SESSION_LANE, KEY)


def step(cluster: SnapshotCluster) -> None:
    """Let the Job controller work, caches catch up, and the session have its turn if it is due."""
    for job in cluster.server.all(JOB):
        cluster.sync_job(job)
    for resource in CACHED:
        cluster.deliver(resource)
    if ROUTE in cluster.due():
        cluster.turn(ROUTE)


@pytest.fixture
def cluster() -> Iterator[SnapshotCluster]:
    """Return a cluster in which a pod runs that is to create VolumeSnapshots."""
    made = SnapshotCluster(with_hooks=False)
    assert made.settle(made.remove_pod)
    made.new_session(1, is_owned=False)
    step(made)
    step(made)
    (pod,) = made.server.all(POD)
    made.start_pod(pod)
    step(made)
    yield made
    assert not made.server.violations


def finish(cluster: SnapshotCluster) -> None:
    """Let the driver finish all VolumeSnapshots, and with them the session."""
    for index in range(len(CLAIMS)):
        cluster.ready(cluster.snapshots(index) or {})
    for resource in CACHED:
        cluster.deliver(resource)
    cluster.turn(ROUTE)
    assert status(cluster.server.objects[BACKUP_SESSION, KEY])["phase"] == "Succeeded"


def create_all(cluster: SnapshotCluster) -> None:
    """Let the Job create all that it is told to; its pod goes on."""
    (job,) = cluster.server.all(JOB)
    cluster.create_snapshots(job, most=len(CLAIMS), refuse=0)


def test_what_retention_deleted_is_not_created_again(
    cluster: SnapshotCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pod was lost after it had created all, and before its report; another one would do it."""
    create_all(cluster)
    (pod,) = cluster.server.all(POD)
    cluster.end_pod(pod, code=137, message="")
    step(cluster)
    finish(cluster)
    step(cluster)
    assert [name_of(pod) for pod in cluster.server.all(POD)][1:]  # it waits for a node
    cluster.server.remove(VOLUME_SNAPSHOT, key_of(cluster.snapshots(0) or {}))
    reads = Reads(cluster, monkeypatch)
    step(cluster)
    assert len(cluster.server.all(JOB)) == 1
    cluster.server.wait(10)
    assert cluster.process.lanes[SESSION_LANE].observe(KEY, None) is not None
    assert reads.take() == []
    step(cluster)
    assert cluster.server.all(JOB) == []
    assert cluster.settle(cluster.work)
    assert len(cluster.server.all(VOLUME_SNAPSHOT)) == len(CLAIMS) - 1


def test_a_pod_that_is_lost_later_is_not_replaced(cluster: SnapshotCluster) -> None:
    """As of a node that dies: while the pod is said to run nobody can know."""
    create_all(cluster)
    step(cluster)
    finish(cluster)
    cluster.server.wait(60)
    step(cluster)
    assert len(cluster.server.all(JOB)) == 1
    (pod,) = cluster.server.all(POD)
    cluster.kill_node(pod)
    step(cluster)
    assert cluster.server.all(JOB) == []


def test_a_driver_that_is_quicker_than_the_job_costs_nothing(
    cluster: SnapshotCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No write and no request, whether the pod runs at the end or its Job is not told of it yet."""
    create_all(cluster)
    finish(cluster)
    reads, writes = Reads(cluster, monkeypatch), cluster.server.writes
    step(cluster)
    (pod,) = cluster.server.all(POD)
    cluster.work(pod)
    for resource in CACHED:
        cluster.deliver(resource)
    cluster.server.wait(60)
    cluster.turn(ROUTE)
    step(cluster)
    step(cluster)
    assert (cluster.server.writes, reads.take()) == (writes, [])
    (job,) = cluster.server.all(JOB)
    assert status(job)["conditions"][0]["type"] == "Complete"
