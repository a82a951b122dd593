"""Convergence: whatever the order of events, delays, deaths and crashes, sessions end, and well."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from controller.api.conditions import FINAL_PHASES
from controller.api.objects import (
    Key,
    Obj,
    annotations_of,
    controller_uid,
    is_deleting,
    key_of,
    name_of,
    status,
    uid_of,
)
from controller.api.report import Reason
from controller.api.report_encoding import encode
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    BACKUP_SESSION,
    FUNCTION,
    JOB,
    POD,
    PVC,
    REPOSITORY,
    RESTORE_SESSION,
    SECRET,
    TASK,
    Resource,
)
from controller.build.labels import CREATED_BY
from controller.observe.routes import SESSION_LANE, Route
from controller.reconcile.execution import MAX_DISRUPTIONS
from tests.support.builders import (
    NAMESPACE,
    catalog,
    configuration,
    configuration_spec,
    failed_host,
    host,
    job,
    pvc,
    report,
    repository,
    restore,
    session,
)
from tests.support.toy_cluster import CACHED, Fuse, ToyCluster

GOOD = encode(report(), 12_288)
BAD = encode(report(failed_host()), 12_288)
INTERRUPTED = encode(report(failed_host("Interrupted", "interrupted")), 12_288)


def world(*, used: bool) -> ToyCluster:
    """Return a cluster with two configurations that share a Repository, and nothing running."""
    secret: Obj = {
        "metadata": {"name": "s3-secret", "namespace": NAMESPACE, "uid": "uid-of-secret"},
        "data": {"RESTIC_PASSWORD": "cGFzc3dvcmQ="},
    }
    listed: list[tuple[Resource, Obj]] = [
        (SECRET, secret),
        (PVC, pvc()),
        (REPOSITORY, repository(used=used, status={})),
    ]
    listed += [
        (kind, {**item, "metadata": {**item["metadata"], "namespace": ""}})
        for kind in (FUNCTION, TASK)
        for item in catalog(kind.kind).values()
    ]
    listed += [
        (BACKUP_CONFIGURATION, configuration(name, status={})) for name in ("nightly", "weekly")
    ]
    cluster = ToyCluster(*listed)
    assert cluster.settle(cluster.remove_pod)
    return cluster


SESSIONS = [
    ("nightly-3", "nightly"),
    ("nightly-1", "nightly"),
    ("weekly-2", "weekly"),
    ("weekly-1", "weekly"),
]


def new_session(cluster: ToyCluster, index: int) -> None:
    """Create one of four sessions, of two configurations; their names are not in their order."""
    name, of = SESSIONS[index % len(SESSIONS)]
    made = session(name, of=of)
    del made["metadata"]["creationTimestamp"]
    if (BACKUP_SESSION, key_of(made)) not in cluster.server.objects:
        cluster.server.put_object(BACKUP_SESSION, made)


def new_restore(cluster: ToyCluster, _: int) -> None:
    """Create a restore."""
    made = restore()
    del made["metadata"]["creationTimestamp"]
    if (RESTORE_SESSION, key_of(made)) not in cluster.server.objects:
        cluster.server.put_object(RESTORE_SESSION, made)


def deliver(cluster: ToyCluster, index: int) -> None:
    """Let one to three events reach one cache, some twice."""
    kinds = (BACKUP_CONFIGURATION, BACKUP_SESSION, RESTORE_SESSION, REPOSITORY, JOB, POD)
    cluster.deliver(kinds[index % 6], 1 + index // 6 % 3, repeat=index // 18 % 2)


def catch_up(cluster: ToyCluster, _: int) -> None:
    """Let every cache catch up."""
    for resource in CACHED:
        cluster.deliver(resource)


def turn(cluster: ToyCluster, index: int) -> None:
    """Take the turn of a key that is due."""
    if routes := cluster.due():
        cluster.turn(routes[index % len(routes)])


def any_turn(cluster: ToyCluster, index: int) -> None:
    """Take the turn of any key: nobody asked for it."""
    routes = list(cluster.routes())
    cluster.turn(routes[index % len(routes)])


def crash(cluster: ToyCluster, index: int) -> None:
    """Take a turn in which the controller ends, before or after one of its writes."""
    if routes := cluster.due():
        route = routes[index % len(routes)]
        cluster.turn(route, Fuse(1 + index // 2 % 4, after=bool(index % 2)))


def work_off(cluster: ToyCluster, _: int) -> None:
    """Catch up and take every turn that is due: a moment in which all is well."""
    catch_up(cluster, 0)
    for route in cluster.due():
        cluster.turn(route)


def restart(cluster: ToyCluster, _: int) -> None:
    """Restart the controller between two turns."""
    cluster.restart()


def sync_jobs(cluster: ToyCluster, _: int) -> None:
    """Let the Job controller work."""
    for found in cluster.server.all(JOB):
        cluster.sync_job(found)


def _pod(cluster: ToyCluster, index: int) -> dict[str, Any] | None:
    pods = cluster.server.all(POD)
    return pods[index % len(pods)] if pods else None


def start_pod(cluster: ToyCluster, index: int) -> None:
    """Start a pod."""
    if pod := _pod(cluster, index):
        cluster.start_pod(pod)


ENDS: list[tuple[int, str, bool]] = [
    (0, GOOD, False),
    (1, BAD, False),
    (137, "", False),
    (0, "", False),
    (0, "nonsense", False),
    (130, INTERRUPTED, True),
    (137, "", True),
    (0, GOOD, True),
    (1, GOOD, False),
]


def end_pod(cluster: ToyCluster, index: int) -> None:
    """End a pod: with a report, without, killed, disrupted."""
    if pod := _pod(cluster, index // len(ENDS)):
        code, message, disrupted = ENDS[index % len(ENDS)]
        cluster.end_pod(pod, code=code, message=message, disrupted=disrupted)


def remove_pod(cluster: ToyCluster, index: int) -> None:
    """Remove a pod."""
    if pod := _pod(cluster, index):
        cluster.remove_pod(pod)


def kill_node(cluster: ToyCluster, index: int) -> None:
    """Lose the node of a pod: it says that it runs for as long as the story lasts."""
    if pod := _pod(cluster, index):
        cluster.kill_node(pod)


def delete_job(cluster: ToyCluster, index: int) -> None:
    """Delete a Job by hand.

    Of one that was deleted before any status spoke of it nothing is left: it may come again.
    """
    if jobs := cluster.server.all(JOB):
        job = jobs[index % len(jobs)]
        owner = str(controller_uid(job))
        sessions = [
            *cluster.server.all(BACKUP_SESSION),
            *cluster.server.all(RESTORE_SESSION),
        ]
        if any(uid_of(o) == owner and status(o).get("phase") != "Running" for o in sessions):
            cluster.server.jobs_made.pop(owner, None)
        cluster.server.remove(JOB, key_of(job))


def pass_time(cluster: ToyCluster, index: int) -> None:
    """Let seconds or minutes pass."""
    cluster.server.wait((1, 6, 70, 400)[index % 4])


def quota(cluster: ToyCluster, index: int) -> None:
    """Let a quota refuse Jobs, or not."""
    cluster.server.quota_full = index % 3 == 0


def touch(cluster: ToyCluster, index: int) -> None:
    """Edit a configuration: its generation goes up."""
    objects = cluster.server.all(BACKUP_CONFIGURATION)
    old = objects[index % len(objects)]
    metadata = {**old["metadata"], "generation": old["metadata"]["generation"] + 1}
    cluster.server.put_object(BACKUP_CONFIGURATION, {**old, "metadata": metadata})


def repoint(cluster: ToyCluster, index: int) -> None:
    """Have a configuration name another Repository: its next backup goes there."""
    objects = cluster.server.all(BACKUP_CONFIGURATION)
    old = objects[index % len(objects)]
    name = ("repo", "other")[index // 2 % 2]
    if (REPOSITORY, Key(NAMESPACE, name)) not in cluster.server.objects:
        cluster.server.put_object(REPOSITORY, repository(name, used=False, status={}))
    metadata = {**old["metadata"], "generation": old["metadata"]["generation"] + 1}
    spec = {**old["spec"], "repository": {"name": name}}
    cluster.server.put_object(BACKUP_CONFIGURATION, {**old, "metadata": metadata, "spec": spec})


MANY = int(os.environ.get("DREY_STORIES", "60"))
"""How many stories are told; a night may tell more."""
Action = Callable[[ToyCluster, int], None]
ACTIONS: list[Action] = [
    new_session,
    new_restore,
    deliver,
    catch_up,
    turn,
    any_turn,
    work_off,
    crash,
    restart,
    sync_jobs,
    start_pod,
    end_pod,
    remove_pod,
    kill_node,
    delete_job,
    pass_time,
    quota,
    touch,
    repoint,
]
# What makes progress comes more often than what hinders it.
WEIGHTED = [
    *ACTIONS,
    *(new_session, new_session, deliver, catch_up, catch_up, turn, turn, crash, crash, crash),
    *(sync_jobs, start_pod),
]

stories = st.lists(
    st.tuples(st.sampled_from(WEIGHTED), st.integers(0, 1000)), min_size=5, max_size=80
)


def end_by(code: int, message: str) -> Callable[[ToyCluster], Callable[[dict[str, Any]], None]]:
    """Return how every pod ends once the story is over."""
    return lambda cluster: lambda pod: cluster.end_pod(pod, code=code, message=message)


def removed(cluster: ToyCluster) -> Callable[[dict[str, Any]], None]:
    """Every pod vanishes."""
    return cluster.remove_pod


FINALES = {"well": end_by(0, GOOD), "killed": end_by(137, ""), "gone": removed}


def tell(story: list[tuple[Action, int]], finale: str, *, used: bool) -> ToyCluster:
    """Play a story and let it settle."""
    cluster = world(used=used)
    for action, index in story:
        action(cluster, index)
    cluster.server.quota_full = False
    assert cluster.settle(FINALES[finale](cluster)), "it never comes to rest"
    return cluster


def check(cluster: ToyCluster) -> None:
    """Assert what holds at the end of every story."""
    server = cluster.server
    assert not server.violations
    for kind in (BACKUP_SESSION, RESTORE_SESSION):
        for obj in server.all(kind):
            phase = status(obj).get("phase")
            assert phase in FINAL_PHASES, f"{name_of(obj)} is {phase}"
            assert phase != "Succeeded" or cluster.reported.get(uid_of(obj)), name_of(obj)
            if phase == "Skipped":
                assert uid_of(obj) not in server.jobs_made, f"{name_of(obj)} was Skipped and ran"
    for obj in server.all(BACKUP_CONFIGURATION):
        assert status(obj).get("phase") == "Ready"
        assert not is_deleting(obj)
    for route in cluster.routes():
        plan = cluster.planned(route)
        assert plan is None or plan.writes == (), route


CRASH: list[tuple[Action, int]] = [(catch_up, 0), (crash, 1)]
"""The Job is created, and the controller ends before it knows."""
CRASHED_AT_JOB: list[tuple[Action, int]] = [(new_session, 0), *CRASH]
EDITED_WITHOUT_POD: list[tuple[Action, int]] = [(work_off, 0), (repoint, 2), (work_off, 0)]
"""A Job has no pod yet, and its configuration names another Repository."""


@settings(max_examples=MANY, deadline=None, suppress_health_check=list(HealthCheck))
@given(stories, st.sampled_from(sorted(FINALES)), st.booleans())
@example([*CRASHED_AT_JOB, (new_session, 1), (catch_up, 0), (turn, 1)], "well", False)
@example([*CRASHED_AT_JOB, (new_session, 1), (catch_up, 0), (turn, 1), (turn, 0)], "well", True)
@example([(new_session, 2), *CRASH, (new_session, 0), (catch_up, 0), (turn, 1)], "well", False)
@example([*CRASHED_AT_JOB, (touch, 0), (catch_up, 0), (delete_job, 0)], "killed", True)
@example([(new_session, 0), *EDITED_WITHOUT_POD, (new_session, 2), (catch_up, 0)], "well", False)
def test_every_story_ends(story: list[tuple[Action, int]], finale: str, used: bool) -> None:  # noqa: FBT001 - drawn by Hypothesis
    """Every session reaches a final phase and stays in it; success is proven; nothing runs twice.

    That includes: never two Jobs for one session; while a Repository was never used, never two
    sessions with executors at once, nor one beside a live pod of another that has ended (D2); a
    lock is never removed beside a live pod (D8); a plan whose effects are seen has no more writes.
    """
    check(tell(story, finale, used=used))


@pytest.mark.parametrize(
    ("used", "first", "second"), [(False, 2, 0), (True, 0, 1)], ids=["rival", "sibling"]
)
def test_an_older_session_does_not_pass_one_whose_job_a_crash_hid(
    used: bool,  # noqa: FBT001 - a parameter
    first: int,
    second: int,
) -> None:
    """The one that comes late has the lower name in the same second; the Job decides (D2)."""
    cluster = world(used=used)
    new_session(cluster, first)
    catch_up(cluster, 0)
    cluster.turn(Route(SESSION_LANE, Key(NAMESPACE, SESSIONS[first][0])), Fuse(1, after=True))
    assert len(cluster.server.all(JOB)) == 1
    new_session(cluster, second)
    catch_up(cluster, 0)
    cluster.turn(Route(SESSION_LANE, Key(NAMESPACE, SESSIONS[second][0])))
    assert len(cluster.server.all(JOB)) == 1
    assert cluster.settle(FINALES["well"](cluster))
    check(cluster)


def running_session(*, used: bool) -> ToyCluster:
    """Return a cluster in which a backup runs."""
    cluster = world(used=used)
    new_session(cluster, 0)
    for _ in range(3):
        work_off(cluster, 0)
        sync_jobs(cluster, 0)
        start_pod(cluster, 0)
    (pod,) = cluster.server.all(POD)
    assert status(pod)["phase"] == "Running"
    return cluster


@pytest.mark.parametrize("pod", [False, True], ids=["job", "orphan"])
def test_a_first_backup_goes_alone_whatever_another_configuration_names_by_now(
    pod: bool,  # noqa: FBT001 - a parameter
) -> None:
    """Two `restic init` at once destroy a repository: the Job counts, and the pod that is left."""
    cluster = running_session(used=False) if pod else world(used=False)
    new_session(cluster, 0)
    work_off(cluster, 0)
    if pod:
        cluster.server.remove(BACKUP_SESSION, Key(NAMESPACE, "nightly-3"))
        assert [status(found)["phase"] for found in cluster.server.all(POD)] == ["Running"]
    assert len(cluster.server.all(JOB)) == (0 if pod else 1)
    repoint(cluster, 2)
    work_off(cluster, 0)
    new_session(cluster, 2)
    for _ in range(3):
        work_off(cluster, 0)
    assert [name_of(job) for job in cluster.server.all(JOB)] == (
        [] if pod else ["stash-backup-nightly-3-0"]
    )
    waits = status(cluster.server.objects[BACKUP_SESSION, Key(NAMESPACE, "weekly-2")])
    assert waits["phase"] == "Pending"
    assert cluster.settle(FINALES["well"](cluster))
    check(cluster)


def test_a_repository_that_is_made_anew_learns_nothing_of_an_older_run() -> None:
    """The id of the old backend on it would make each later backup fail, or worse."""
    cluster = running_session(used=False)
    (old,) = cluster.server.all(REPOSITORY)
    cluster.server.remove(REPOSITORY, key_of(old))
    anew = repository(used=False, status={}, metadata={"uid": "uid-of-a-namesake"})
    cluster.server.put_object(REPOSITORY, anew)
    assert cluster.settle(FINALES["well"](cluster))
    check(cluster)
    (found,) = cluster.server.all(REPOSITORY)
    assert found["metadata"]["annotations"] == {}
    assert "lastBackupTime" not in status(found)


def test_what_a_neighbour_recorded_is_kept_though_a_cache_went_back() -> None:
    """Two configurations share a Repository: an entry that was not seen must not get lost."""
    cluster = world(used=True)
    for index in (0, 2):
        new_session(cluster, index)
    for _ in range(3):
        work_off(cluster, 0)
        sync_jobs(cluster, 0)
        for pod in cluster.server.all(POD):
            cluster.start_pod(pod)
    server, key = cluster.server, Key(NAMESPACE, "repo")
    # of this status no report changes anything
    known = {"lastBackupTime": "2999-01-01T00:00:00Z", "snapshotCount": 4}
    old = server.objects[REPOSITORY, key]
    new = {**status(old), **known, "integrity": True, "snapshotsRemovedOnLastCleanup": 1}
    server.put_object(REPOSITORY, {**old, "status": new})
    work_off(cluster, 0)
    incomplete = host(succeeded=False, reason=Reason.BACKUP_INCOMPLETE, error="x")
    said = report(incomplete)
    for number, pod in enumerate(server.all(POD)):
        learned = replace(said.repository, untagged_incomplete=(f"{number:064x}",))
        text = encode(replace(said, repository=learned), 12_288)
        cluster.end_pod(pod, code=1, message=text)
    before = cluster.process.stores[REPOSITORY].all()
    cluster.deliver(POD)
    cluster.turn(Route(SESSION_LANE, Key(NAMESPACE, "nightly-3")))
    cluster.process.stores[REPOSITORY].replace(before)  # a list of an API server that lags
    cluster.turn(Route(SESSION_LANE, Key(NAMESPACE, "weekly-2")))
    assert cluster.settle(FINALES["well"](cluster))
    kept = annotations_of(server.objects[REPOSITORY, key])["drey.dev/untagged-incomplete"]
    assert sorted(json.loads(kept)) == ["demo/nightly", "demo/weekly"]


def test_a_run_is_recorded_where_it_went_whatever_its_configuration_says() -> None:
    """Another Repository by now, or nothing that can be parsed."""
    for spec in ({**configuration()["spec"], "repository": {"name": "new"}}, {"target": "text"}):
        cluster = running_session(used=False)
        cluster.server.put_object(REPOSITORY, repository("new", used=False, status={}))
        touched = cluster.server.objects[BACKUP_CONFIGURATION, Key(NAMESPACE, "nightly")]
        metadata = {**touched["metadata"], "generation": 2}
        cluster.server.put_object(
            BACKUP_CONFIGURATION, {**touched, "spec": spec, "metadata": metadata}
        )
        work_off(cluster, 0)
        (pod,) = cluster.server.all(POD)
        cluster.end_pod(pod, code=0, message=GOOD)
        for _ in range(4):
            work_off(cluster, 0)
        (done,) = cluster.server.all(BACKUP_SESSION)
        assert status(done)["phase"] == "Succeeded"
        used = cluster.server.objects[REPOSITORY, Key(NAMESPACE, "repo")]
        assert "drey.dev/repository-id" in used["metadata"]["annotations"]
        assert "lastBackupTime" in status(used)
        new = cluster.server.objects[REPOSITORY, Key(NAMESPACE, "new")]
        assert new["metadata"]["annotations"] == {}
        assert "lastBackupTime" not in status(new)


def test_a_job_that_a_crash_hid_ends_with_its_configuration() -> None:
    """The session is not Skipped while its Job runs on: both end."""
    cluster = world(used=True)
    new_session(cluster, 0)
    catch_up(cluster, 0)
    cluster.turn(Route(SESSION_LANE, Key(NAMESPACE, "nightly-3")), Fuse(1, after=True))
    assert len(cluster.server.all(JOB)) == 1
    cluster.server.remove(BACKUP_CONFIGURATION, Key(NAMESPACE, "nightly"))
    for _ in range(4):
        work_off(cluster, 0)
    (done,) = cluster.server.all(BACKUP_SESSION)
    assert status(done)["phase"] == "Failed"
    assert cluster.server.all(JOB) == []


@pytest.mark.parametrize("waited_s", [60, 3600], ids=["collected", "kept"])
def test_a_job_that_a_former_session_left_is_waited_for_and_then_told_of(waited_s: int) -> None:
    """The session of that name was deleted and made again; a finalizer may keep its Job for good.

    While it waits the next sessions are Skipped: that must end.
    """
    cluster = world(used=True)
    left = job(session("nightly-3"))
    owner = {"apiVersion": BACKUP_SESSION.api_version, "uid": "uid-of-a-former-life"}
    left["metadata"]["ownerReferences"][0] |= owner
    left["metadata"] |= {"finalizers": ["example.com/keep"], "labels": {CREATED_BY: "drey"}}
    cluster.server.put_object(JOB, left)
    new_session(cluster, 0)
    for _ in range(3):
        work_off(cluster, 0)
    route = Route(SESSION_LANE, Key(NAMESPACE, "nightly-3"))
    assert "phase" not in status(cluster.server.objects[BACKUP_SESSION, route.key])
    cluster.server.wait(waited_s)
    if waited_s == 60:
        del cluster.server.objects[JOB, key_of(left)]
    cluster.turn(route)
    assert cluster.settle(FINALES["well"](cluster))
    check(cluster)
    found = status(cluster.server.objects[BACKUP_SESSION, route.key])
    assert found["phase"] == ("Succeeded" if waited_s == 60 else "Failed")
    assert waited_s == 60 or "is still there: delete it" in str(found["targets"])


def test_a_job_that_a_crash_hid_is_followed_though_the_driver_was_changed() -> None:
    """A second Job beside it would be one session's second run, and the first nobody's."""
    cluster = world(used=True)
    new_session(cluster, 0)
    catch_up(cluster, 0)
    key = Key(NAMESPACE, "nightly-3")
    cluster.turn(Route(SESSION_LANE, key), Fuse(1, after=True))
    assert [name_of(made) for made in cluster.server.all(JOB)] == ["stash-backup-nightly-3-0"]
    old = cluster.server.objects[BACKUP_CONFIGURATION, Key(NAMESPACE, "nightly")]
    spec = configuration_spec(driver="VolumeSnapshotter", repository=None, task=None)
    metadata = {**old["metadata"], "generation": 2}
    cluster.server.put_object(BACKUP_CONFIGURATION, {**old, "metadata": metadata, "spec": spec})
    cluster.settle(FINALES["well"](cluster))
    assert status(cluster.server.objects[BACKUP_SESSION, key])["phase"] == "Succeeded"
    assert [name_of(made) for made in cluster.server.all(JOB)] == ["stash-backup-nightly-3-0"]
    assert not cluster.server.violations


def test_a_backup_that_is_evicted_again_and_again_ends() -> None:
    """However often the controller is restarted; its Job goes, and the next session runs."""
    cluster = running_session(used=True)
    for lost in range(MAX_DISRUPTIONS):
        newest = cluster.server.all(POD)[-1]
        assert status(newest)["phase"] == "Running"
        cluster.end_pod(newest, code=137, message="", disrupted=True)
        for _ in range(3):
            work_off(cluster, 0)
            sync_jobs(cluster, 0)
            start_pod(cluster, -1)
            if lost % 2:
                cluster.restart()
    done = cluster.server.objects[BACKUP_SESSION, Key(NAMESPACE, "nightly-3")]
    assert status(done)["phase"] == "Failed"
    error = status(done)["targets"][0]["stats"][0]["error"]
    assert error.startswith("PodDisrupted: 5 pods of its Job were lost"), error
    assert cluster.server.all(JOB) == []
    new_session(cluster, 1)
    assert cluster.settle(FINALES["well"](cluster))
    check(cluster)
    after = cluster.server.objects[BACKUP_SESSION, Key(NAMESPACE, "nightly-1")]
    assert status(after)["phase"] == "Succeeded"


def test_the_quiet_story_succeeds() -> None:
    """With nothing in the way one session of each kind succeeds, and first backups take turns."""
    cluster = tell([(new_session, 0), (new_session, 2), (new_restore, 0)], "well", used=False)
    check(cluster)
    phases = {
        name_of(obj): status(obj)["phase"]
        for kind in (BACKUP_SESSION, RESTORE_SESSION)
        for obj in cluster.server.all(kind)
    }
    assert set(phases.values()) == {"Succeeded"}, phases
    assert set(phases) == {"nightly-3", "weekly-2", "bring-back"}


def test_the_writes_of_a_backup_are_few() -> None:
    """From a session's creation to its end: Job, Running, Repository, final status (D13)."""
    cluster = world(used=True)
    assert cluster.settle(FINALES["well"](cluster))
    before = cluster.server.writes
    new_session(cluster, 0)
    assert cluster.settle(FINALES["well"](cluster))
    # A first look at integrity adds an annotation: this Repository was looked at a minute ago, but
    # every report of this story claims a check.
    assert cluster.server.writes - before <= 5
