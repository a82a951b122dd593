"""Restores from VolumeSnapshots end, and truly, whatever the order of events, deaths and crashes.

Real: planner, observer, routes, stores, executor. Toy: the rest of the cluster, with a runner that
creates claims from what it is told and a provisioner that binds them.
"""

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from controller.api.conditions import FINAL_PHASES
from controller.api.creation import SESSION_UID, CreationInput
from controller.api.job_input import ENVIRONMENT_VARIABLE
from controller.api.model import parse_spec
from controller.api.objects import (
    Key,
    Obj,
    controller_uid,
    dig,
    is_live,
    key_of,
    labels_of,
    meta,
    name_of,
    resource_version_of,
    status,
    uid_of,
)
from controller.api.report import HostReport, RunReport
from controller.api.report_encoding import encode
from controller.api.resources import (
    JOB,
    POD,
    PVC,
    RESTORE_SESSION,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    STORAGE_CLASS,
    VOLUME_SNAPSHOT,
    VOLUME_SNAPSHOT_CONTENT,
)
from controller.api.restore import RestoreSessionSpec
from controller.build.claims import claims_of
from controller.build.labels import CREATED_BY
from controller.observe.routes import RESTORE_LANE, Route
from tests.support.builders import DISRUPTED, NAMESPACE
from tests.support.claim_restores import (
    NAMES,
    PROVISIONER,
    claim_restore,
    claim_spec,
    content,
    snapshot,
    storage_class,
    template,
)
from tests.support.toy_cluster import Fuse, ToyCluster, is_finished

ROUTE = Route(RESTORE_LANE, Key(NAMESPACE, "bring-back"))
RETRIES = 3
WATCHED = (RESTORE_SESSION, JOB, POD, PVC, VOLUME_SNAPSHOT, ROLE_BINDING, SERVICE_ACCOUNT)
MANY = int(os.environ.get("DREY_STORIES", "60"))


class Cluster(ToyCluster):
    """A cluster with two snapshots, one of ours and a foreign one, and a restore of both."""

    def __init__(self, *, time_out: str = "") -> None:
        self.bound: set[str] = set()
        """Names of claims that a provisioner has filled for the session."""
        self.orders: dict[str, CreationInput] = {}
        """What the pods of a Job are told, by its uid: they know it also when the Job is gone."""
        self.lost: dict[str, int] = {}
        self.foreign: dict[str, str] = {}
        """Versions of claims of others, by name: nobody may touch them."""
        ours: dict[str, Any] = {"metadata": {"labels": {CREATED_BY: "drey", SESSION_UID: "u"}}}
        made = claim_restore(spec=claim_spec(timeOut=time_out))
        del made["metadata"]["creationTimestamp"]
        super().__init__(
            (STORAGE_CLASS, storage_class()),
            (VOLUME_SNAPSHOT, snapshot("snap-0", **ours)),
            (VOLUME_SNAPSHOT, snapshot("snap-1")),
            *((VOLUME_SNAPSHOT_CONTENT, content(f"content-of-snap-{n}")) for n in (0, 1)),
            (RESTORE_SESSION, made),
        )

    @property
    def session(self) -> dict[str, Any]:
        """Return the restore as the API server has it."""
        (found,) = self.server.all(RESTORE_SESSION)
        return found

    @property
    def claims(self) -> list[dict[str, Any]]:
        """Return the claims that the session made."""
        uid = uid_of(self.session)
        return [c for c in self.server.all(PVC) if labels_of(c).get(SESSION_UID) == uid]

    def sync_job(self, job: dict[str, Any]) -> bool:
        """Let the Job controller work: a pod that was killed is replaced, one that reported not."""
        if is_finished(job):
            return False
        pods = self.pods_of(job)
        if any(status(p)["phase"] == "Succeeded" for p in pods):
            return self._finish(job, "Complete")
        failed = [
            dig(p, "status", "containerStatuses", 0, "state", "terminated", "exitCode")
            for p in pods
            if status(p)["phase"] == "Failed" and DISRUPTED not in status(p)["conditions"]
        ]
        if 1 in failed or len(failed) + self.lost.get(uid_of(job), 0) > RETRIES:
            return self._finish(job, "Failed")
        if any(status(p)["phase"] in ("Pending", "Running") for p in pods):
            return False
        (container,) = dig(job, "spec", "template", "spec", "containers")
        environment = {one["name"]: one.get("value", "") for one in container["env"]}
        order = CreationInput.decode(environment[ENVIRONMENT_VARIABLE])
        self.orders[str(uid_of(job))] = order
        number = len(pods) + self.lost.get(uid_of(job), 0)
        owner = {"kind": "Job", "name": name_of(job), "uid": uid_of(job), "controller": True}
        name = f"{name_of(job)}-{number}"
        metadata = {"name": name, "namespace": NAMESPACE, "ownerReferences": [owner]}
        self.server.put_object(
            POD,
            {
                "metadata": metadata,
                "spec": {
                    "nodeName": f"node-of-{name}",
                    "hostname": dig(job, "spec", "template", "spec", "hostname"),
                },
                "status": {"phase": "Pending", "conditions": []},
            },
        )
        return True

    def remove_pod(self, pod: dict[str, Any]) -> None:
        """Remove a pod; its Job counts it."""
        owner = str(controller_uid(pod))
        self.lost[owner] = self.lost.get(owner, 0) + 1
        super().remove_pod(pod)

    def create_claims(self, pod: Obj, *, refused: int = 0, most: int = 99) -> list[HostReport]:
        """Create claims as the runner does; return what could not be created."""
        order = self.orders[str(controller_uid(pod))]
        failed: list[HostReport] = []
        for index, item in enumerate(order.objects[:most]):
            present = self.server.objects.get((PVC, Key(NAMESPACE, item.host)))
            if present is not None:
                if labels_of(present).get(SESSION_UID) != order.session_uid:
                    failed.append(HostReport(item.host, succeeded=False, reason="AlreadyExists"))
                continue
            if index < refused:
                failed.append(HostReport(item.host, succeeded=False, reason="CreationRefused"))
                continue
            body = merge(order.common, item.body)
            body["metadata"]["namespace"] = NAMESPACE
            self.server.put_object(PVC, {**body, "status": {"phase": "Pending"}})
        return failed

    def run_pod(self, pod: dict[str, Any], *, refused: int = 0) -> None:
        """Let a pod do its work, and report."""
        failed = self.create_claims(pod, refused=refused)
        text = encode(RunReport(hosts=tuple(failed)), 4096)
        self.end_pod(pod, code=1 if failed else 0, message=text)

    def provision(self, claim: dict[str, Any]) -> bool:
        """Let the provisioner work on a claim; tell whether it bound it."""
        name = dig(claim, "spec", "dataSource", "name")
        source = self.server.objects.get((VOLUME_SNAPSHOT, Key(NAMESPACE, str(name))))
        (found,) = self.server.all(STORAGE_CLASS)
        waits = found["volumeBindingMode"] != "Immediate"
        if status(claim).get("phase") != "Pending" or source is None or waits:
            return False
        if meta(source).get("deletionTimestamp"):
            return False
        self.bound.add(name_of(claim))
        annotations = {**(meta(claim).get("annotations") or {}), PROVISIONER: "csi.example"}
        self.server.put_object(
            PVC,
            {
                **claim,
                "metadata": {**meta(claim), "annotations": annotations},
                "spec": {**claim["spec"], "volumeName": f"pvc-{uid_of(claim)}"},
                "status": {"phase": "Bound"},
            },
        )
        return True

    def _stir(self, end: Callable[[dict[str, Any]], None]) -> bool:
        bound = [self.provision(claim) for claim in self.claims]
        return super()._stir(end) or any(bound)


def merge(common: Any, body: Any) -> Any:
    """Merge maps within maps, as the runner does."""
    if not (isinstance(common, dict) and isinstance(body, dict)):
        return json.loads(json.dumps(body))
    keys = [*common, *(key for key in body if key not in common)]
    return {
        key: merge(common.get(key), body[key])
        if key in body
        else json.loads(json.dumps(common[key]))
        for key in keys
    }


# what may happen


def deliver(cluster: Cluster, index: int) -> None:
    """Let one to three events reach one cache, some twice."""
    cluster.deliver(WATCHED[index % 7], 1 + index // 7 % 3, repeat=index // 21 % 2)


def catch_up(cluster: Cluster, _: int) -> None:
    """Let every cache catch up."""
    for resource in WATCHED:
        cluster.deliver(resource)


def turn(cluster: Cluster, _: int) -> None:
    """Take the restore's turn when it is due."""
    if ROUTE in cluster.due():
        cluster.turn(ROUTE)


def any_turn(cluster: Cluster, _: int) -> None:
    """Take the restore's turn: nobody asked for it."""
    cluster.turn(ROUTE)


def crash(cluster: Cluster, index: int) -> None:
    """Take a turn in which the controller ends, before or after one of its writes."""
    cluster.turn(ROUTE, Fuse(1 + index // 2 % 4, after=bool(index % 2)))


def restart(cluster: Cluster, _: int) -> None:
    """Restart the controller between two turns."""
    cluster.restart()


def sync_jobs(cluster: Cluster, _: int) -> None:
    """Let the Job controller work."""
    for job in cluster.server.all(JOB):
        cluster.sync_job(job)


def _pod(cluster: Cluster, index: int) -> dict[str, Any] | None:
    pods = cluster.server.all(POD)
    return pods[index % len(pods)] if pods else None


def start_pod(cluster: Cluster, index: int) -> None:
    """Start a pod."""
    if pod := _pod(cluster, index):
        cluster.start_pod(pod)


def end_pod(cluster: Cluster, index: int) -> None:
    """End a pod that runs: done, refused, killed before, between or after creation, disrupted."""
    pod = _pod(cluster, index // 7)
    if pod is None or status(pod)["phase"] != "Running":
        return
    match index % 7:
        case 0 | 1:
            cluster.run_pod(pod)
        case 2:
            cluster.run_pod(pod, refused=1)
        case kind:
            cluster.create_claims(pod, most=kind - 3)
            cluster.end_pod(pod, code=137, message="", disrupted=bool(index % 2))


def no_report(cluster: Cluster, index: int) -> None:
    """End a pod well, with everything created, and nothing said."""
    if (pod := _pod(cluster, index)) and status(pod)["phase"] == "Running":
        cluster.create_claims(pod)
        cluster.end_pod(pod, code=0, message="")


def remove_pod(cluster: Cluster, index: int) -> None:
    """Remove a pod."""
    if pod := _pod(cluster, index):
        cluster.remove_pod(pod)


def kill_node(cluster: Cluster, index: int) -> None:
    """Lose the node of a pod."""
    if pod := _pod(cluster, index):
        cluster.kill_node(pod)


def delete_job(cluster: Cluster, _: int) -> None:
    """Delete the Job by hand; one that no status spoke of may come again."""
    for job in cluster.server.all(JOB):
        if status(cluster.session).get("phase") != "Running":
            cluster.server.jobs_made.pop(str(controller_uid(job)), None)
        cluster.server.remove(JOB, key_of(job))


def bind(cluster: Cluster, index: int) -> None:
    """Let the provisioner work on one claim."""
    if claims := cluster.claims:
        cluster.provision(claims[index % len(claims)])


def bind_to_old_volume(cluster: Cluster, index: int) -> None:
    """Bind a claim to a volume that was there before: nothing of the snapshot is in it.

    Now and then the provisioner had been asked already.
    """
    if waiting := [c for c in cluster.claims if status(c).get("phase") == "Pending"]:
        one = waiting[index % len(waiting)]
        asked = {PROVISIONER: "csi.example"} if index // 2 % 2 else {}
        annotations = {**(meta(one).get("annotations") or {}), **asked}
        cluster.server.put_object(
            PVC,
            {
                **one,
                "metadata": {**meta(one), "annotations": annotations},
                "spec": {**one["spec"], "volumeName": "old"},
                "status": {"phase": "Bound"},
            },
        )


def delete_claim(cluster: Cluster, index: int) -> None:
    """Delete a claim by hand."""
    if claims := cluster.claims:
        cluster.server.remove(PVC, key_of(claims[index % len(claims)]))


def foreign_claim(cluster: Cluster, index: int) -> None:
    """Somebody else creates a claim of a name that is wanted."""
    name = NAMES[index % 2]
    if (PVC, Key(NAMESPACE, name)) not in cluster.server.objects:
        annotations = {PROVISIONER: "csi.example"}
        metadata = {"name": name, "namespace": NAMESPACE, "annotations": annotations}
        made = cluster.server.put_object(PVC, {"metadata": metadata, "status": {"phase": "Bound"}})
        cluster.foreign[name] = resource_version_of(made)


def break_snapshot(cluster: Cluster, index: int) -> None:
    """Delete a snapshot, have it deleted soon, make it unready, or bring it back."""
    name = f"snap-{index % 2}"
    key = Key(NAMESPACE, name)
    labels = {"labels": {CREATED_BY: "drey", SESSION_UID: "u"}} if name == "snap-0" else {}
    match index // 2 % 4:
        case 0:
            cluster.server.remove(VOLUME_SNAPSHOT, key)
        case 1 if (VOLUME_SNAPSHOT, key) in cluster.server.objects:
            gone = snapshot(name, metadata={**labels, "deletionTimestamp": "x"})
            cluster.server.put_object(VOLUME_SNAPSHOT, gone)
        case 2:
            cluster.server.put_object(VOLUME_SNAPSHOT, snapshot(name, ready=False, metadata=labels))
        case _:
            cluster.server.put_object(VOLUME_SNAPSHOT, snapshot(name, metadata=labels))


def change_class(cluster: Cluster, index: int) -> None:
    """Let claims wait for a consumer, or not."""
    cluster.server.put_object(STORAGE_CLASS, storage_class(waits=bool(index % 2)))


def toggle_kind(cluster: Cluster, index: int) -> None:
    """Take the definitions of VolumeSnapshots away, or bring them back."""
    cluster.snapshots_served = bool(index % 3)
    for route in cluster.process.routes.snapshotters():
        cluster.process.due[route] = None


def quota(cluster: Cluster, index: int) -> None:
    """Let a quota refuse Jobs, or not."""
    cluster.server.quota_full = index % 3 == 0


def pass_time(cluster: Cluster, index: int) -> None:
    """Let seconds or minutes pass."""
    cluster.server.wait((1, 6, 70, 400)[index % 4])


def edit(cluster: Cluster, index: int) -> None:
    """Edit the session: other snapshots, fewer claims, or an invalid spec."""
    source = {"kind": "VolumeSnapshot", "name": "snap-0"}
    specs = (
        claim_spec(),
        claim_spec(template(dataSource=source)),
        claim_spec(replicas=1),
        claim_spec(template("data")),
    )
    cluster.server.put_object(RESTORE_SESSION, {**cluster.session, "spec": specs[index % 4]})


Action = Callable[[Cluster, int], None]
ACTIONS: list[Action] = [
    deliver, catch_up, turn, any_turn, crash, restart, sync_jobs, start_pod, end_pod, no_report,
    remove_pod, kill_node, delete_job, bind, bind_to_old_volume, delete_claim, foreign_claim,
    break_snapshot, change_class, toggle_kind, quota, pass_time,
]  # fmt: skip
# What makes progress comes more often than what hinders it.
WEIGHTED = [
    *ACTIONS, deliver, *[catch_up, turn, crash, sync_jobs, start_pod, end_pod] * 3, bind, bind,
]  # fmt: skip
stories = st.lists(st.tuples(st.sampled_from(WEIGHTED), st.integers(0, 1000)), max_size=60)


def killed(cluster: Cluster, pod: dict[str, Any]) -> None:
    """Every pod is killed."""
    cluster.end_pod(pod, code=137, message="")


FINALES: dict[str, Callable[[Cluster, dict[str, Any]], None]] = {
    "well": Cluster.run_pod,
    "killed": killed,
    "gone": Cluster.remove_pod,
}


def tell(story: list[tuple[Action, int]], finale: str, *, time_out: str = "") -> Cluster:
    """Play a story and let it settle."""
    cluster = Cluster(time_out=time_out)
    for action, index in story:
        action(cluster, index)
    cluster.server.quota_full = False
    assert cluster.settle(lambda pod: FINALES[finale](cluster, pod)), "it never comes to rest"
    return cluster


def check(cluster: Cluster) -> None:
    """Assert what holds at the end of every story."""
    server, session = cluster.server, cluster.session
    assert not server.violations
    end = status(session)
    assert end.get("phase") in FINAL_PHASES, end
    stats = {entry["hostname"]: entry for entry in end["stats"]}
    assert set(stats) == set(NAMES)
    assert end["totalHosts"] == len(NAMES)
    phases = {entry["phase"] for entry in stats.values()}
    assert phases <= {"Succeeded", "Failed", "Unknown"}
    wanted = next((p for p in ("Unknown", "Failed") if p in phases), "Succeeded")
    assert end["phase"] == wanted
    for name, entry in stats.items():
        assert entry["phase"] != "Succeeded" or name in cluster.bound, f"{name} was never bound"
        assert (entry["phase"] == "Succeeded") is ("error" not in entry)
        existing = {name_of(claim) for claim in cluster.claims}
        missed = entry.get("error", "").startswith(("ClaimMissing", "NotCreated"))
        assert not (missed and name in existing), f"{name} exists, and was said not to"
    for name, version in cluster.foreign.items():
        kept = server.objects[PVC, Key(NAMESPACE, name)]
        assert resource_version_of(kept) == version, f"{name} of somebody else was touched"
    plan = cluster.planned(ROUTE)
    assert plan is not None
    assert plan.writes == ()


STARTED: list[tuple[Action, int]] = [
    (catch_up, 0), (turn, 0), (catch_up, 0), (sync_jobs, 0), (start_pod, 0),
]  # fmt: skip
PODS_FIRST: list[tuple[Action, int]] = [(end_pod, 0), (deliver, 16), (any_turn, 0)]
"""The pod's end reaches its cache before any claim does."""
CREATED: list[tuple[Action, int]] = [*STARTED, (end_pod, 0), (catch_up, 0), (turn, 0)]


@settings(max_examples=MANY, deadline=None, suppress_health_check=list(HealthCheck))
@given(stories, st.sampled_from(sorted(FINALES)), st.sampled_from(["", "3m"]))
@example([(catch_up, 0), (crash, 5), (break_snapshot, 0), (foreign_claim, 0)], "well", "")
@example([*STARTED, (end_pod, 4), (catch_up, 0), (turn, 0)], "well", "")
@example([*CREATED, (break_snapshot, 2), (delete_claim, 1)], "well", "")
@example([*CREATED, (remove_pod, 0), (restart, 0), (delete_job, 0)], "killed", "3m")
@example(
    [*STARTED, (catch_up, 0), (turn, 0), (delete_job, 0), (catch_up, 0), (turn, 0)], "well", ""
)
def test_every_story_ends(story: list[tuple[Action, int]], finale: str, time_out: str) -> None:
    """A final phase that is computed from the claims; success is proven; no foreign claim touched.

    That includes: never two Jobs for one session; every claim in `stats`; a plan whose effects are
    seen has no more writes.
    """
    check(tell(story, finale, time_out=time_out))


def phase_of(cluster: Cluster) -> str:
    """Check the end, and return the phase."""
    check(cluster)
    return str(status(cluster.session)["phase"])


def test_the_quiet_story_succeeds_with_few_writes() -> None:
    """ServiceAccount, binding, Job, Running, what is waited for, binding away, the end."""
    cluster = tell([], "well")
    assert phase_of(cluster) == "Succeeded"
    assert cluster.server.writes <= 7
    assert cluster.server.all(ROLE_BINDING) == []
    assert sorted(name_of(claim) for claim in cluster.claims) == list(NAMES)


@pytest.mark.parametrize(
    ("story", "finale", "phase"),
    [
        ([(change_class, 1)], "well", "Unknown"),
        ([(foreign_claim, 0)], "well", "Failed"),
        ([(break_snapshot, 0)], "well", "Failed"),
        ([(break_snapshot, 4), (catch_up, 0), (turn, 0), (break_snapshot, 6)], "well", "Succeeded"),
        ([(break_snapshot, 1), (catch_up, 0), (turn, 0), (break_snapshot, 7)], "well", "Succeeded"),
        ([(toggle_kind, 0), (catch_up, 0), (turn, 0), (toggle_kind, 1)], "well", "Succeeded"),
        ([*STARTED, (end_pod, 3)], "well", "Succeeded"),
        ([*STARTED, (end_pod, 4)], "well", "Succeeded"),
        ([*STARTED, (end_pod, 5)], "well", "Succeeded"),
        ([*STARTED, (end_pod, 2)], "well", "Failed"),
        ([*STARTED, (no_report, 0)], "well", "Succeeded"),
        ([], "killed", "Failed"),
        ([*CREATED, (break_snapshot, 2)], "well", "Failed"),
        ([*CREATED, (delete_claim, 0)], "well", "Failed"),
        ([*CREATED, (remove_pod, 0), (delete_job, 0), (restart, 0)], "well", "Succeeded"),
        ([*STARTED, (foreign_claim, 1)], "well", "Failed"),
        ([*STARTED, *PODS_FIRST], "well", "Succeeded"),
        ([*CREATED, (bind_to_old_volume, 0)], "well", "Failed"),
    ],
)
@pytest.mark.parametrize("time_out", ["", "3m"])
def test_a_story_with_one_fault(
    story: list[tuple[Action, int]], finale: str, phase: str, time_out: str
) -> None:
    """What each of them ends with."""
    assert phase_of(tell(story, finale, time_out=time_out)) == phase


@pytest.mark.parametrize("write", range(1, 8))
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_write_changes_nothing(
    write: int,
    after: bool,  # noqa: FBT001 - a parameter
) -> None:
    """Before or after each write of the quiet story."""
    cluster = Cluster()
    done = 0
    for _ in range(12):
        catch_up(cluster, 0)
        before = cluster.server.writes
        fuse = Fuse(write - done, after=after) if done < write else None
        cluster.turn(ROUTE, fuse)
        done += cluster.server.writes - before
        sync_jobs(cluster, 0)
        for pod in cluster.server.all(POD):
            cluster.start_pod(pod)
    assert cluster.settle(cluster.run_pod)
    assert phase_of(cluster) == "Succeeded"
    assert sorted(name_of(claim) for claim in cluster.claims) == list(NAMES)


@settings(max_examples=MANY, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.sampled_from([*WEIGHTED, edit, edit, edit]), st.integers(0, 1000)), max_size=60
    ),
    st.sampled_from(sorted(FINALES)),
)
@example([*STARTED, (edit, 1)], "well")
@example([*CREATED, (edit, 1)], "well")
@example([*CREATED, (delete_job, 0), (edit, 1), (catch_up, 0)], "well")
@example([*STARTED, (edit, 3), (catch_up, 0), (turn, 0)], "well")
@example([*STARTED, (edit, 2), (end_pod, 0)], "well")
def test_no_story_of_edits_restores_what_the_spec_does_not_name(
    story: list[tuple[Action, int]], finale: str
) -> None:
    """A restore that succeeds has made what its spec asks for at the end, from these snapshots."""
    cluster = Cluster()
    for action, index in story:
        action(cluster, index)
    cluster.server.quota_full = False
    assert cluster.settle(lambda pod: FINALES[finale](cluster, pod)), "it never comes to rest"
    assert not [text for text in cluster.server.violations if "a second Job" not in text]
    end = status(cluster.session)
    if end.get("phase") == "Invalid":
        assert not any(is_live(pod) for pod in cluster.server.all(POD))
        return
    assert end.get("phase") in FINAL_PHASES, end
    if end["phase"] not in ("Succeeded", "Unknown"):
        return
    spec = parse_spec(RestoreSessionSpec, cluster.session)
    assert isinstance(spec, RestoreSessionSpec)
    made = {name_of(claim): dig(claim, "spec", "dataSource", "name") for claim in cluster.claims}
    for claim in claims_of(spec):
        assert made.get(claim.name, claim.snapshot) == claim.snapshot
    assert {entry["hostname"] for entry in end["stats"]} == {c.name for c in claims_of(spec)}
