"""Convergence of backups by VolumeSnapshots: sessions end, and no application stays frozen."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from controller.api.conditions import FINAL_PHASES
from controller.api.creation import SESSION_UID
from controller.api.objects import (
    Key,
    finalizers_of,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    status,
    uid_of,
)
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    BACKUP_SESSION,
    JOB,
    POD,
    ROLE_BINDING,
    VOLUME_SNAPSHOT,
)
from controller.observe.routes import SESSION_LANE
from tests.support.builders import NAMESPACE
from tests.support.snapshot_cluster import NEIGHBOUR, SnapshotCluster
from tests.support.snapshot_sessions import CLAIMS
from tests.support.toy_cluster import CACHED, Fuse

MANY = int(os.environ.get("DREY_STORIES", "60"))
WATCHED = (BACKUP_CONFIGURATION, BACKUP_SESSION, JOB, POD, VOLUME_SNAPSHOT, ROLE_BINDING)
Action = Callable[[SnapshotCluster, int], None]


def new_session(cluster: SnapshotCluster, index: int) -> None:
    """Create one of three sessions; of either configuration."""
    configurations = [name_of(found) for found in cluster.server.all(BACKUP_CONFIGURATION)]
    of = NEIGHBOUR if NEIGHBOUR in configurations and index // 6 % 2 else "nightly"
    cluster.new_session(1 + index % 3, is_owned=bool(index // 3 % 2), of=of)
    cluster.server.wait(1)


def deliver(cluster: SnapshotCluster, index: int) -> None:
    """Let one to three events reach one cache, some twice."""
    cluster.deliver(WATCHED[index % 6], 1 + index // 6 % 3, repeat=index // 18 % 2)


def catch_up(cluster: SnapshotCluster, _: int) -> None:
    """Let every cache catch up."""
    for resource in CACHED:
        cluster.deliver(resource)


def turn(cluster: SnapshotCluster, index: int) -> None:
    """Take the turn of a key that is due."""
    if routes := cluster.due():
        cluster.turn(routes[index % len(routes)])


def any_turn(cluster: SnapshotCluster, index: int) -> None:
    """Take the turn of any key: nobody asked for it."""
    if routes := list(cluster.routes()):
        cluster.turn(routes[index % len(routes)])


def crash(cluster: SnapshotCluster, index: int) -> None:
    """Take a turn in which the controller ends, before or after one of its writes."""
    if routes := [route for route in cluster.due() if route.lane == SESSION_LANE]:
        route = routes[index % len(routes)]
        cluster.turn(route, Fuse(1 + index // 2 % 5, after=bool(index % 2)))


def work_off(cluster: SnapshotCluster, _: int) -> None:
    """Catch up and take every turn that is due."""
    catch_up(cluster, 0)
    for route in cluster.due():
        cluster.turn(route)


def restart(cluster: SnapshotCluster, _: int) -> None:
    """Restart the controller between two turns."""
    cluster.restart()


def sync_jobs(cluster: SnapshotCluster, _: int) -> None:
    """Let the Job controller work."""
    for job in cluster.server.all(JOB):
        cluster.sync_job(job)


def _pod(cluster: SnapshotCluster, index: int) -> dict[str, Any] | None:
    pods = cluster.server.all(POD)
    return pods[index % len(pods)] if pods else None


def start_pod(cluster: SnapshotCluster, index: int) -> None:
    """Start a pod."""
    if pod := _pod(cluster, index):
        cluster.start_pod(pod)


def end_pod(cluster: SnapshotCluster, index: int) -> None:
    """End a pod: done, refused in part, killed before, between and after the objects."""
    if pod := _pod(cluster, index // 7):
        how = index % 7
        if how < 3:
            cluster.work(pod)
        elif how == 3:
            cluster.work(pod, refuse=1 + index % 2)
        elif how == 6:
            cluster.end_pod(pod, code=137, message="", disrupted=True)
        else:
            cluster.work(pod, most=(0, 2)[how - 4])


def remove_pod(cluster: SnapshotCluster, index: int) -> None:
    """Remove a pod."""
    if pod := _pod(cluster, index):
        cluster.remove_pod(pod)


def kill_node(cluster: SnapshotCluster, index: int) -> None:
    """Lose the node of a pod."""
    if pod := _pod(cluster, index):
        cluster.kill_node(pod)


def delete_job(cluster: SnapshotCluster, index: int) -> None:
    """Delete a Job by hand."""
    if jobs := cluster.server.all(JOB):
        cluster.delete_by_hand(jobs[index % len(jobs)])


def drive(cluster: SnapshotCluster, index: int) -> None:
    """Let the driver cut, fail, finish."""
    if found := cluster.snapshots(index // 4):
        match index % 4:
            case 0:
                cluster.cut(found)
            case 1:
                cluster.tell(found, error={"message": f"driver says no ({index % 2})"})
            case _:
                cluster.ready(found)


def stick(cluster: SnapshotCluster, index: int) -> None:
    """Let the driver never finish a VolumeSnapshot."""
    if (found := cluster.snapshots(index)) and not status(found).get("readyToUse"):
        cluster.tell(found, stuck=True, error={"message": "out of space"})


def lose_snapshot(cluster: SnapshotCluster, index: int) -> None:
    """Delete a VolumeSnapshot by hand."""
    if found := cluster.snapshots(index):
        cluster.server.remove(VOLUME_SNAPSHOT, key_of(found))


def delete_configuration(cluster: SnapshotCluster, _: int) -> None:
    """Delete the configuration, and by garbage collection the sessions of its trigger."""
    cluster.server.remove(BACKUP_CONFIGURATION, Key(NAMESPACE, "nightly"))


def delete_session(cluster: SnapshotCluster, index: int) -> None:
    """Delete a session by hand."""
    if found := cluster.server.all(BACKUP_SESSION):
        cluster.server.remove(BACKUP_SESSION, key_of(found[index % len(found)]))


def delete_in_the_foreground(cluster: SnapshotCluster, index: int) -> None:
    """Delete a session, and first what belongs to it."""
    if found := cluster.server.all(BACKUP_SESSION):
        cluster.delete_in_the_foreground(found[index % len(found)])


def pass_time(cluster: SnapshotCluster, index: int) -> None:
    """Let seconds, minutes, or an hour pass."""
    cluster.pass_time((1, 3, 70, 400, 3600)[index % 5])


def quota(cluster: SnapshotCluster, index: int) -> None:
    """Let a quota refuse Jobs, or not."""
    cluster.server.quota_full = index % 3 == 0


ACTIONS: list[Action] = [
    new_session, deliver, catch_up, turn, any_turn, work_off, crash, restart, sync_jobs, start_pod,
    end_pod, remove_pod, kill_node, delete_job, drive, stick, lose_snapshot, delete_configuration,
    delete_session, delete_in_the_foreground, pass_time, quota,
]  # fmt: skip
# What makes progress comes more often than what hinders it.
WEIGHTED = [
    *ACTIONS,
    *(new_session, deliver, catch_up, catch_up, turn, turn, crash, crash, work_off, work_off),
    *(work_off, sync_jobs, sync_jobs, start_pod, start_pod, end_pod, end_pod, drive, drive),
]
stories = st.lists(
    st.tuples(st.sampled_from(WEIGHTED), st.integers(0, 1000)), min_size=5, max_size=100
)


def tell(
    story: list[tuple[Action, int]],
    *,
    with_hooks: bool,
    time_out: str = "",
    with_neighbour: bool = False,
) -> SnapshotCluster:
    """Play a story and let it settle: every pod that runs does its work."""
    cluster = SnapshotCluster(
        with_hooks=with_hooks, time_out=time_out, with_neighbour=with_neighbour
    )
    assert cluster.settle(cluster.remove_pod)
    for action, index in story:
        action(cluster, index)
    cluster.server.quota_full = False
    assert cluster.settle(cluster.work), "it never comes to rest"
    return cluster


def check(cluster: SnapshotCluster) -> None:
    """Assert what holds at the end of every story."""
    server = cluster.server
    assert not server.violations
    for session in server.all(BACKUP_SESSION):
        phase = status(session).get("phase")
        assert phase in FINAL_PHASES, f"{name_of(session)} is {phase}"
        assert not finalizers_of(session), name_of(session)
        assert not is_deleting(session), name_of(session)
        jobs = {kind for owner, kind in server.made if owner == uid_of(session)}
        assert phase != "Skipped" or not jobs, f"{name_of(session)} was Skipped and ran"
    assert not server.frozen - server.excused, "an application stays frozen"
    for route in cluster.routes():
        plan = cluster.planned(route)
        assert plan is None or plan.writes == (), route


BEGIN: list[tuple[Action, int]] = [(new_session, 0), (work_off, 0), (work_off, 0), (work_off, 0)]
OUT = st.sampled_from(["", "30m"])
FROZEN: list[tuple[Action, int]] = [*BEGIN, (sync_jobs, 0), (start_pod, 0)]


@settings(max_examples=MANY, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.builds(list.__add__, st.sampled_from([[], BEGIN, FROZEN]), stories), st.booleans(), OUT)
@example([*FROZEN, (delete_configuration, 0), (catch_up, 0), (restart, 0)], True, "")
@example([*FROZEN, (end_pod, 0), (delete_session, 0), (restart, 0)], True, "")
@example([*FROZEN, (end_pod, 3)], True, "")
@example([*FROZEN, (kill_node, 0), (pass_time, 4)], True, "")
@example([*FROZEN, (delete_job, 0), (work_off, 0)], True, "")
@example([*FROZEN, (delete_job, 0), (delete_configuration, 0), (restart, 0)], True, "")
@example([*FROZEN, (delete_in_the_foreground, 0), (delete_configuration, 0)], True, "")
@example([*FROZEN, (end_pod, 0), (delete_in_the_foreground, 0), (restart, 0)], True, "")
@example([*BEGIN, (sync_jobs, 0), (start_pod, 0), (end_pod, 5), (work_off, 0)], False, "")
def test_every_story_ends(story: list[tuple[Action, int]], with_hooks: bool, out: str) -> None:  # noqa: FBT001 - drawn by Hypothesis
    """Every session ends and stays ended; success is proven; nothing is created twice.

    That includes: no VolumeSnapshot without a preBackup hook that succeeded; none after the
    application was told to go on; a postBackup hook after every preBackup hook that may have run;
    no session that is held for ever; a plan whose effects are seen has no more writes.
    """
    check(tell(story, with_hooks=with_hooks, time_out=out))


both = st.lists(
    st.tuples(st.sampled_from([*WEIGHTED, new_session, new_session]), st.integers(0, 1000)),
    min_size=5,
    max_size=100,
)


@settings(max_examples=MANY, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.builds(list.__add__, st.sampled_from([[], BEGIN, FROZEN]), both), OUT)
@example([(new_session, 0), (new_session, 6)], "")
@example([(new_session, 6), (new_session, 0), (work_off, 0), (restart, 0)], "")
@example([*FROZEN, (new_session, 6), (delete_session, 0)], "")
@example([*FROZEN, (new_session, 6), (pass_time, 4), (pass_time, 4)], "30m")
def test_two_configurations_never_quiesce_one_application_at_once(
    story: list[tuple[Action, int]], out: str
) -> None:
    """No preBackup hook begins while another session's application stands still; and all end."""
    check(tell(story, with_hooks=True, time_out=out, with_neighbour=True))


def test_of_two_configurations_at_once_both_succeed() -> None:
    """One after the other, and the application goes on."""
    cluster = tell([(new_session, 0), (new_session, 6)], with_hooks=True, with_neighbour=True)
    check(cluster)
    sessions = cluster.server.all(BACKUP_SESSION)
    assert [status(session)["phase"] for session in sessions] == ["Succeeded", "Succeeded"]
    assert not cluster.server.frozen


@pytest.mark.parametrize("with_hooks", [False, True])
def test_the_quiet_story_succeeds(with_hooks: bool) -> None:  # noqa: FBT001 - a parameter
    """With nothing in the way the session succeeds, with three VolumeSnapshots of its own."""
    cluster = tell([(new_session, 0)], with_hooks=with_hooks)
    check(cluster)
    (session,) = cluster.server.all(BACKUP_SESSION)
    assert status(session)["phase"] == "Succeeded"
    made = cluster.server.all(VOLUME_SNAPSHOT)
    assert [s["spec"]["source"]["persistentVolumeClaimName"] for s in made] == list(CLAIMS)
    assert {labels_of(s)[SESSION_UID] for s in made} == {uid_of(session)}
    assert [b for b in cluster.server.all(ROLE_BINDING) if "hook" in name_of(b)] == []


def test_the_writes_of_a_session_are_few() -> None:
    """Job, Running, final status: however often the driver speaks."""
    cluster = SnapshotCluster(with_hooks=False)
    assert cluster.settle(cluster.remove_pod)
    before = cluster.server.writes
    cluster.new_session(1, is_owned=False)
    for _ in range(3):
        work_off(cluster, 0)
        sync_jobs(cluster, 0)
        start_pod(cluster, 0)
    (pod,) = cluster.server.all(POD)
    cluster.work(pod)
    for index in (*range(3), *range(3)):
        cluster.cut(cluster.snapshots(index) or {})
        work_off(cluster, 0)
        cluster.server.wait(20)
    assert cluster.settle(cluster.work)
    assert cluster.server.writes - before == 3


@pytest.mark.parametrize("fuse", [Fuse(w, after=a) for w in range(1, 6) for a in (False, True)])
@pytest.mark.parametrize("with_hooks", [False, True])
def test_a_crash_between_any_two_writes_is_harmless(
    fuse: Fuse,
    with_hooks: bool,  # noqa: FBT001 - a parameter
) -> None:
    """In whichever turn of the session it comes."""
    for number in range(9):
        cluster = SnapshotCluster(with_hooks=with_hooks)
        assert cluster.settle(cluster.remove_pod)
        cluster.new_session(1, is_owned=True)
        for step in range(9):
            catch_up(cluster, 0)
            for route in cluster.due():
                used = Fuse(fuse.writes, after=fuse.after) if step == number else None
                cluster.turn(route, used if route.lane == SESSION_LANE else None)
            sync_jobs(cluster, 0)
            for pod in cluster.server.all(POD):
                cluster.start_pod(pod)
            for pod in cluster.server.all(POD):
                cluster.work(pod)
        assert cluster.settle(cluster.work)
        check(cluster)
        (session,) = cluster.server.all(BACKUP_SESSION)
        assert status(session)["phase"] == "Succeeded"
