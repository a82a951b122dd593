"""Sessions of two configurations of one application: who sees whom, and what that costs."""

from collections.abc import Iterator

import pytest

from controller.api.objects import Key, Obj, finalizers_of, name_of, status
from controller.api.resources import BACKUP_SESSION, JOB, POD
from controller.observe.routes import SESSION_LANE, Route
from controller.reconcile.owed_hook import is_owed
from controller.reconcile.snapshot_observed import SnapshotSessionObserved
from tests.support.builders import NAMESPACE
from tests.support.reads import Reads
from tests.support.snapshot_cluster import NEIGHBOUR, SnapshotCluster
from tests.support.snapshot_sessions import CLAIMS, owing
from tests.support.toy_cluster import CACHED, Fuse

MINE = Route(SESSION_LANE, Key(NAMESPACE, "nightly-1"))
THEIRS = Route(SESSION_LANE, Key(NAMESPACE, f"{NEIGHBOUR}-1"))


@pytest.fixture
def cluster() -> Iterator[SnapshotCluster]:
    """Return a cluster with two sessions that were created at once."""
    made = SnapshotCluster(with_hooks=True, with_neighbour=True)
    assert made.settle(made.remove_pod)
    made.new_session(1, is_owned=False, of=NEIGHBOUR)
    made.new_session(1, is_owned=False)
    for resource in CACHED:
        made.deliver(resource)
    yield made
    assert not made.server.violations


def session(cluster: SnapshotCluster, route: Route) -> Obj:
    """Return a session as it is."""
    return cluster.server.objects[BACKUP_SESSION, route.key]


def seen(cluster: SnapshotCluster, route: Route) -> SnapshotSessionObserved:
    """Return what is observed."""
    found = cluster.process.lanes[SESSION_LANE].observe(route.key, None)
    assert isinstance(found, SnapshotSessionObserved)
    return found


def test_the_second_one_waits_without_a_request(
    cluster: SnapshotCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees what the turn before it wrote, whatever the watches tell."""
    reads = Reads(cluster, monkeypatch)
    cluster.turn(MINE)
    assert is_owed(session(cluster, MINE))
    reads.take()
    cluster.turn(THEIRS)
    assert reads.take() == []
    assert not finalizers_of(session(cluster, THEIRS))
    assert status(session(cluster, THEIRS))["phase"] == "Pending"
    cluster.turn(MINE)
    assert [name_of(job) for job in cluster.server.all(JOB)] == ["stash-hook-pre-nightly-1"]
    reads.take()
    cluster.turn(THEIRS)
    assert reads.take() == []


def test_a_job_that_a_crash_hid_is_seen(cluster: SnapshotCluster) -> None:
    """Its status does not say that it has begun."""
    cluster.turn(MINE)
    cluster.turn(MINE, Fuse(3, after=True))
    assert [name_of(job) for job in cluster.server.all(JOB)] == ["stash-hook-pre-nightly-1"]
    assert "phase" not in status(session(cluster, MINE))
    (other,) = seen(cluster, THEIRS).others
    assert other.is_started
    assert other.spec is not None


def test_what_is_held_as_well_is_asked_for_its_job(
    cluster: SnapshotCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer of the API server was lost: neither was known to be held."""
    cluster.turn(MINE)
    cluster.server.put_object(BACKUP_SESSION, owing(session(cluster, THEIRS)))
    cluster.deliver(BACKUP_SESSION)
    assert is_owed(session(cluster, THEIRS))
    reads = Reads(cluster, monkeypatch)
    (other,) = seen(cluster, THEIRS).others
    assert not other.is_started
    assert "get Job" in reads.take()


def test_the_last_hook_wakes_who_waits(cluster: SnapshotCluster) -> None:
    """Not only the end of the session, which waits until what was cut is ready."""
    cluster.turn(MINE)
    cluster.turn(THEIRS)
    for _ in range(30):
        for resource in CACHED:
            cluster.deliver(resource)
        cluster.process.due.pop(THEIRS, None)  # also for each pod that ends
        cluster.turn(MINE)
        if THEIRS in cluster.process.due:
            break
        for job in cluster.server.all(JOB):
            cluster.sync_job(job)
        for pod in cluster.server.all(POD):
            cluster.start_pod(pod)
            cluster.work(pod)
        for index in range(len(CLAIMS)):
            if (snapshot := cluster.snapshots(index)) and not status(snapshot).get("creationTime"):
                cluster.cut(snapshot)
    assert THEIRS in cluster.process.due
    assert status(session(cluster, MINE))["phase"] == "Running"
    cluster.turn(THEIRS)
    assert is_owed(session(cluster, THEIRS))
