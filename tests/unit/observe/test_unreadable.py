"""Sessions with VolumeSnapshots at an API server that does not say what there is.

An application that stands still goes on when its limits are over, and in the words of who refused.
"""

from collections.abc import Callable

import pytest

from controller.api.conditions import Type, status_of
from controller.api.objects import Key, Obj, dig, name_of, status
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    BACKUP_SESSION,
    CORE_EVENT,
    JOB,
    POD,
    PVC,
    STATEFUL_SET,
    VOLUME_SNAPSHOT,
    Resource,
)
from controller.kube.errors import KubeError
from controller.observe.routes import SESSION_LANE, Route
from tests.support.builders import NAMESPACE
from tests.support.snapshot_cluster import SnapshotCluster, kind_of
from tests.support.toy_cluster import CACHED
from tests.support.unreadable import Unreadable, each_refusal

KEY = Key(NAMESPACE, "nightly-1")
ROUTE = Route(SESSION_LANE, KEY)
CREATION, POST = (
    Key(NAMESPACE, name) for name in ("stash-vs-nightly-1", "stash-hook-post-nightly-1")
)
each_target = pytest.mark.parametrize("refused", [STATEFUL_SET, PVC], ids=str)


def catch_up(cluster: SnapshotCluster) -> None:
    """Let every cache catch up."""
    for resource in CACHED:
        cluster.deliver(resource)


def step(cluster: SnapshotCluster, seconds: float = 0.0, *, without_pod: str = "") -> None:
    """Let time pass, pods begin and end, and the session have its turn.

    `without_pod` is a kind of Job that no pod may be made for.
    """
    cluster.server.wait(seconds)
    for act in (lambda _: None, cluster.start_pod, cluster.work):
        for pod in cluster.server.all(POD):
            act(pod)
        for job in cluster.server.all(JOB):
            if kind_of(name_of(job)) != without_pod:
                cluster.sync_job(job)
    catch_up(cluster)
    cluster.turn(ROUTE)


def until(
    cluster: SnapshotCluster, holds: Callable[[], bool], *, every_s: float = 5.0, **how: str
) -> float:
    """Take steps until something is so; return how many seconds that took."""
    began = cluster.server.now
    for _ in range(3000):
        if holds():
            return (cluster.server.now - began).total_seconds()
        step(cluster, every_s, **how)
    pytest.fail("it never came true")


def session_in(cluster: SnapshotCluster) -> Obj:
    """Return the session."""
    return cluster.server.objects[BACKUP_SESSION, KEY]


def condition(cluster: SnapshotCluster, kind: Type) -> str | None:
    """Return the status of a condition of the session's target."""
    entries = dig(session_in(cluster), "status", "targets", 0, "conditions") or ()
    return status_of(entries, kind)


def has(cluster: SnapshotCluster, key: Key) -> Callable[[], bool]:
    """Return what tells whether there is a Job."""
    return lambda: (JOB, key) in cluster.server.objects


def is_final(cluster: SnapshotCluster) -> bool:
    """Tell whether the session has ended."""
    return status(session_in(cluster)).get("phase") in ("Succeeded", "Failed")


@pytest.fixture
def cluster() -> SnapshotCluster:
    """Return a cluster with hooks, and a session that was just created."""
    return begun(with_hooks=True)


def begun(*, with_hooks: bool, time_out: str = "") -> SnapshotCluster:
    """Return a cluster with a session that was just created."""
    made = SnapshotCluster(with_hooks=with_hooks, time_out=time_out)
    assert made.settle(made.remove_pod)
    made.new_session(1, is_owned=False)
    catch_up(made)
    return made


def freeze(cluster: SnapshotCluster) -> None:
    """Let the preBackup hook succeed, and the session write that down."""
    until(cluster, lambda: condition(cluster, Type.PRE_BACKUP_HOOK) == "True", every_s=1.0)
    assert (JOB, CREATION) not in cluster.server.objects


@each_refusal
def test_without_the_right_to_list_events_the_application_goes_on(
    cluster: SnapshotCluster, error: KubeError
) -> None:
    """A quota keeps the pod that creates the VolumeSnapshots away; nobody may say why."""
    server = Unreadable(cluster.server, error, CORE_EVENT)
    freeze(cluster)
    took_s = until(cluster, has(cluster, POST), without_pod="vs")
    assert server.count > 10
    assert 595 <= took_s <= 610
    until(cluster, lambda: is_final(cluster), without_pod="vs")
    assert status(session_in(cluster))["phase"] == "Failed"
    assert (cluster.server.frozen, cluster.server.violations) == (set(), [])


@each_refusal
@each_target
def test_a_target_that_cannot_be_read_is_given_up_when_nobody_may_stand_still_longer(
    cluster: SnapshotCluster, refused: Resource, error: KubeError
) -> None:
    """Nothing was created; the hosts and the condition have the API server's words."""
    freeze(cluster)
    server = Unreadable(cluster.server, error, refused)
    assert 590 <= until(cluster, has(cluster, POST)) <= 615
    assert 30 < server.count < 250
    until(cluster, lambda: is_final(cluster))
    made = status(session_in(cluster))
    assert made["phase"] == "Failed"
    assert (JOB, CREATION) not in cluster.server.objects
    assert condition(cluster, Type.POST_BACKUP_HOOK) == "True"
    for entry in made["targets"][0]["stats"]:
        assert f"cannot be read: {error}" in entry["error"]
    assert (cluster.server.frozen, cluster.server.violations) == (set(), [])


@each_refusal
@each_target
def test_a_target_that_can_be_read_again_is_backed_up(
    cluster: SnapshotCluster, refused: Resource, error: KubeError
) -> None:
    """What passes in time costs nothing but that time."""
    freeze(cluster)
    server = Unreadable(cluster.server, error, refused)
    for _ in range(20):
        step(cluster, 15.0)
    assert (JOB, CREATION) not in cluster.server.objects
    server.error = None
    assert cluster.settle(cluster.work)
    assert status(session_in(cluster))["phase"] == "Succeeded"
    assert not cluster.server.violations


@each_refusal
def test_a_time_out_does_not_wait_for_a_target_that_cannot_be_read(error: KubeError) -> None:
    """It may come before the end of standing still."""
    cluster = begun(with_hooks=True, time_out="4m")
    freeze(cluster)
    Unreadable(cluster.server, error, STATEFUL_SET)
    assert 200 < until(cluster, has(cluster, POST)) < 260


@each_refusal
def test_a_deleted_session_does_not_wait_for_its_target(
    cluster: SnapshotCluster, error: KubeError
) -> None:
    """Nobody wants the backup any more: the application goes on at once."""
    freeze(cluster)
    Unreadable(cluster.server, error, STATEFUL_SET)
    step(cluster, 10.0)
    cluster.server.remove(BACKUP_SESSION, KEY)
    assert until(cluster, has(cluster, POST)) < 20


@each_refusal
def test_a_deleted_configuration_that_cannot_be_looked_for_is_deleted(
    cluster: SnapshotCluster, error: KubeError
) -> None:
    """Our definitions may go with it: the session has its hook with it."""
    freeze(cluster)
    cluster.server.remove(BACKUP_CONFIGURATION, Key(NAMESPACE, "nightly"))
    Unreadable(cluster.server, error, BACKUP_CONFIGURATION)
    assert until(cluster, has(cluster, POST)) < 20


@each_refusal
def test_a_first_job_that_a_crash_hid_is_followed_without_its_target(
    cluster: SnapshotCluster, error: KubeError
) -> None:
    """The hook has run, and no status speaks of it: it is written down when time is up."""
    pre = Key(NAMESPACE, "stash-hook-pre-nightly-1")
    before: Obj = {}
    while (JOB, pre) not in cluster.server.objects:
        before = session_in(cluster)
        cluster.turn(ROUTE)
        catch_up(cluster)
    held = session_in(cluster)
    cluster.server.put_object(BACKUP_SESSION, {**held, "status": status(before)})
    server = Unreadable(cluster.server, error, STATEFUL_SET)
    took_s = until(cluster, lambda: condition(cluster, Type.PRE_BACKUP_HOOK) is not None)
    assert 590 <= took_s <= 610
    until(cluster, has(cluster, POST))
    until(cluster, lambda: is_final(cluster))
    assert status(session_in(cluster))["phase"] == "Failed"
    assert server.count
    assert (cluster.server.frozen, cluster.server.violations) == (set(), [])


@each_refusal
def test_before_there_is_a_hook_the_whole_turn_is_tried_again(error: KubeError) -> None:
    """Nothing stands still: a session does not fail because of a moment."""
    cluster = begun(with_hooks=True)
    server = Unreadable(cluster.server, error, STATEFUL_SET)
    with pytest.raises(type(error)):
        cluster.turn(ROUTE)
    server.error = None
    cluster.turn(ROUTE)
    assert cluster.settle(cluster.work)
    assert status(session_in(cluster))["phase"] == "Succeeded"


@each_refusal
def test_a_hidden_job_of_snapshots_without_hooks_waits_for_its_target(error: KubeError) -> None:
    """Nothing stands still, and without its claims the session would be no success."""
    cluster = begun(with_hooks=False)
    cluster.turn(ROUTE)
    cluster.server.put_object(BACKUP_SESSION, {**session_in(cluster), "status": {}})
    catch_up(cluster)
    server = Unreadable(cluster.server, error, PVC)
    with pytest.raises(type(error)):
        cluster.turn(ROUTE)
    server.error = None
    cluster.turn(ROUTE)
    assert cluster.settle(cluster.work)
    assert status(session_in(cluster))["phase"] == "Succeeded"


@each_refusal
def test_a_hidden_job_of_snapshots_after_a_hook_is_followed_at_last(
    cluster: SnapshotCluster, error: KubeError
) -> None:
    """Its claims are those that were written down before the hook; it is not forgotten."""
    before: Obj = {}
    while (JOB, CREATION) not in cluster.server.objects:
        before = session_in(cluster)
        step(cluster)
    cluster.server.put_object(BACKUP_SESSION, before)
    Unreadable(cluster.server, error, STATEFUL_SET)
    until(cluster, lambda: condition(cluster, Type.BACKUP_EXECUTOR_ENSURED) == "True")
    assert len(cluster.server.all(VOLUME_SNAPSHOT)) == 3
    until(cluster, has(cluster, POST))
    until(cluster, lambda: is_final(cluster))
    assert (cluster.server.frozen, cluster.server.violations) == (set(), [])


@each_refusal
def test_the_job_of_a_hook_that_has_ended_is_not_asked_for(
    cluster: SnapshotCluster, error: KubeError
) -> None:
    """It may be gone, and whether it is may not be read: the status says how it ended."""
    freeze(cluster)
    cluster.server.remove(JOB, Key(NAMESPACE, "stash-hook-pre-nightly-1"))
    Unreadable(cluster.server, error, JOB)
    assert cluster.settle(cluster.work)
    assert status(session_in(cluster))["phase"] == "Succeeded"
