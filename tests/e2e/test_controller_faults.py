"""The operator or the API server goes away: backups go on, nothing happens twice or not at all."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from controller.kube.errors import KubeError
from tests.support.audit import Audit, unix_s
from tests.support.cluster import ROOT, Cluster, Space, condition
from tests.support.evidence import answers, ended, job_of, kill, pods_of, snapshots, wait_restic
from tests.support.node import Process, processes
from tests.support.operators import SELECTOR, container, holder, leader, operators

pytestmark = pytest.mark.serial

SLOW = {"args": ["--limit-upload=600"]}
"""KiB per second: with BIG the upload takes ten seconds."""
BIG = "head -c 6000000 /dev/urandom > /data/big; sync"
SLOWER = {"args": ["--limit-upload=100"]}
"""With this the upload takes a minute: longer than the API server is away."""
HANDOVER_S = 3.0


@pytest.fixture
def running(space: Space) -> Space:
    """A namespace with a backup that goes on for about ten seconds, seen as Running."""
    return begun(space, SLOW)


def begun(space: Space, target: dict[str, Any]) -> Space:
    """Begin a backup and return once it is seen as Running."""
    space.ready(target=target)
    space.exec("app", BIG)
    space.apply(space.session("first"))
    wait_restic(space, job_of("first"))
    space.wait_phase("backupsession", "first", "Running")
    return space


def assert_done_once(space: Space, audit: Audit) -> None:
    """The backup succeeded, with one Job, one pod and one snapshot; the next one works too."""
    done = space.wait_phase("backupsession", "first", "Succeeded", timeout_s=90.0)
    names = [s["name"] for s in done["status"]["targets"][0]["stats"][0]["snapshots"]]
    assert [found["id"] for found in snapshots(space)] == names
    assert len(pods_of(space, job_of("first"))) == 1
    assert 201 not in answers(audit, "create", "jobs", space), "its Job was there before"
    space.apply(space.configuration())
    space.back_up("second")


def test_operator_killed(cluster: Cluster, running: Space) -> None:
    """A killed operator finds its backup again, and how it ended while nobody looked."""
    audit = Audit(cluster.info["audit_log"])
    pod = leader(cluster)
    restarts = container(pod)["restartCount"]
    kill(pod, "controller")

    def restarted() -> bool:
        found = cluster.get("pod", pod["metadata"]["name"], "drey") or {}
        status = container(found)
        killed = (status.get("lastState") or {}).get("terminated") or {}
        return bool(status.get("restartCount") == restarts + 1 and killed.get("exitCode") == 137)

    cluster.until("the restart", restarted, timeout_s=120.0)
    assert_done_once(running, audit)


def test_operator_away(cluster: Cluster, running: Space) -> None:
    """A backup that ends while no operator runs at all is found as it ended."""
    audit = Audit(cluster.info["audit_log"])
    _scale(cluster, 0)
    try:
        cluster.until("no operator", lambda: not cluster.list("pod", "drey", SELECTOR))
        ended(running, job_of("first"))
        found = running.get("backupsession", "first") or {}
        assert found["status"]["phase"] == "Running", "nobody was there to see the end"
    finally:
        _scale(cluster, 1)
    assert_done_once(running, audit)


@pytest.mark.native
def test_api_server_restarted(cluster: Cluster, space: Space) -> None:
    """A backup does not need the API server: the same restic works on while another one starts."""
    running = begun(space, SLOWER)
    audit = Audit(cluster.info["audit_log"])
    restarts = {p["metadata"]["uid"]: container(p)["restartCount"] for p in operators(cluster)}
    server, restic = _api_server(cluster), _restic(running)
    assert restic
    cluster.run(
        sys.executable, str(ROOT / "hack" / "cluster"), "restart-apiserver", timeout_s=120.0
    )

    cluster.until("the API server", lambda: _is_up(cluster), timeout_s=60.0)
    assert _restic(running) == restic, "the backup went on"
    pid, started_s = _api_server(cluster)
    assert pid != server[0]
    assert started_s > server[1]
    assert_done_once(running, audit)
    for pod in operators(cluster):
        # An outage that lasts longer than the Lease ends the leader: another may act by then.
        if container(pod)["restartCount"] > restarts[pod["metadata"]["uid"]]:
            where = ("-n", "drey", pod["metadata"]["name"], "-c", "operator")
            assert '"event": "lease_lost"' in cluster.kubectl("logs", *where, "--previous")


def _api_server(cluster: Cluster) -> tuple[int, float]:
    """Return the process of the API server, and when it began."""
    verb = [sys.executable, str(ROOT / "hack" / "cluster"), "status"]
    # it complains of what is missing, too
    text = cluster.run(*verb, check=False).stdout
    found = re.search(r"^kube-apiserver +pid (\d+)", text, re.MULTILINE)
    assert found, text
    process = Process(int(found[1]), "kube-apiserver", (), {})
    return process.pid, process.started_s()


def _restic(space: Space) -> set[int]:
    """Return the processes of restic in the pod of the first backup."""
    (pod,) = pods_of(space, job_of("first"))
    return {p.pid for p in processes(pod["metadata"]["uid"]) if p.program == "restic"}


@pytest.mark.native
def test_api_server_restarted_at_a_slot(cluster: Cluster, space: Space) -> None:
    """A slot is not lost when its trigger, which has one pod only, finds no API server."""
    space.ready(schedule="* * * * *")
    pod, process = _started_trigger(space)
    slot = int(pod["metadata"]["labels"]["batch.kubernetes.io/job-name"].rpartition("-")[2])
    name = f"backup-{slot * 60}"
    assert space.get("backupsession", name) is None, "it had asked already"
    audit = Audit(cluster.info["audit_log"])
    restart = [sys.executable, str(ROOT / "hack" / "cluster"), "restart-apiserver"]
    with subprocess.Popen(restart, env=cluster.environment) as restarting:
        cluster.until("no API server", lambda: not _is_up(cluster), timeout_s=60.0)
        os.kill(process.pid, signal.SIGCONT)
        assert restarting.wait(120.0) == 0
    cluster.until("the API server", lambda: _is_up(cluster), timeout_s=60.0)
    space.wait_phase("backupsession", name, "Succeeded", timeout_s=120.0)
    trigger = f"system:serviceaccount:{space.name}:{pod['spec']['serviceAccountName']}"
    assert 201 in answers(audit, "create", "backupsessions", space, user=trigger)
    # of a trigger that failed, the Job would be kept
    failed = [job for job in space.list("job") if (job.get("status") or {}).get("failed")]
    assert not failed


def _started_trigger(space: Space) -> tuple[dict[str, Any], Process]:
    """Return a trigger's pod and its process, frozen before it has asked for anything."""

    def probe() -> tuple[dict[str, Any], Process] | None:
        for pod in space.list("pod"):
            labels = pod["metadata"].get("labels") or {}
            job = str(labels.get("batch.kubernetes.io/job-name"))
            if job.startswith("stash-trigger-"):
                for process in processes(pod["metadata"]["uid"]):
                    if "trigger" in process.argv and "runner" in process.argv:
                        os.kill(process.pid, signal.SIGSTOP)
                        slot = int(job.rpartition("-")[2]) * 60
                        if space.get("backupsession", f"backup-{slot}") is None:
                            return pod, process
                        os.kill(process.pid, signal.SIGCONT)  # too late: the next slot
        return None

    found: tuple[dict[str, Any], Process] = space.cluster.until("a trigger", probe, timeout_s=270.0)
    return found


def _is_up(cluster: Cluster) -> bool:
    try:
        return bool(operators(cluster))
    except KubeError:
        return False


def test_leader_label_stripped(cluster: Cluster, space: Space) -> None:
    """Somebody takes the leader's label off: it comes back, and with it the Pushgateway."""
    pod = leader(cluster)["metadata"]["name"]
    cluster.kubectl("label", "pod", pod, "-n", "drey", "drey.dev/leader-")

    def endpoints() -> list[str]:
        where = ("-n", "drey", "-l", "kubernetes.io/service-name=drey-pushgateway", "-o", "json")
        slices = json.loads(cluster.kubectl("get", "endpointslices", *where))["items"]
        return [
            endpoint["targetRef"]["name"]
            for entry in slices
            for endpoint in entry.get("endpoints") or ()
            if endpoint["conditions"]["ready"]
        ]

    def labelled() -> bool:
        found = cluster.get("pod", pod, "drey") or {"metadata": {}}
        return bool(found["metadata"].get("labels", {}).get("drey.dev/leader") == "true")

    cluster.until("the label", labelled, timeout_s=30.0)
    cluster.until("the endpoint", lambda: endpoints() == [pod], timeout_s=30.0)
    space.ready()
    done = space.back_up("labelled")
    assert condition(done, "MetricsPushed")["status"] == "True"


@pytest.fixture
def two_replicas(cluster: Cluster) -> Iterator[None]:
    """The operator with a standby."""
    try:
        _scale(cluster, 2)
        yield
    finally:
        _scale(cluster, 1)


def _scale(cluster: Cluster, replicas: int) -> None:
    cluster.kubectl("scale", "-n", "drey", "deployment/drey", f"--replicas={replicas}")

    def scaled() -> bool:
        pods = operators(cluster)
        return len(pods) == replicas and all(container(pod).get("ready") for pod in pods)

    cluster.until(f"{replicas} replicas", scaled, timeout_s=90.0)


@pytest.mark.usefixtures("two_replicas")
def test_clean_handover(cluster: Cluster, running: Space) -> None:
    """A leader that is told to stop hands over in less than 3 s, in the midst of a backup."""
    audit = Audit(cluster.info["audit_log"])
    old = leader(cluster)["metadata"]["name"]
    cluster.kubectl("delete", "pod", old, "-n", "drey", "--wait=false")

    def other() -> str:
        found = holder(cluster)
        return "" if found.startswith(f"{old}_") else found

    cluster.until("another leader", other, timeout_s=30.0)
    deleted = next(
        r for r in audit.requests() if (r.verb, r.resource, r.name) == ("delete", "pods", old)
    )
    lease = cluster.get("lease", "drey", "drey") or {}
    took_s = unix_s(lease["spec"]["acquireTime"]) - deleted.begun_s
    assert took_s < HANDOVER_S, f"{took_s:.1f} s"
    assert_done_once(running, audit)


@pytest.mark.usefixtures("two_replicas")
def test_lease_lost(cluster: Cluster, running: Space) -> None:
    """An operator that loses its Lease ends at once: never do two of them act."""
    audit = Audit(cluster.info["audit_log"])
    pod = leader(cluster)
    restarts = container(pod)["restartCount"]
    # What another process writes that takes the Lease over: no kindness is asked of the leader.
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
    taken = {"holderIdentity": "somebody-else", "acquireTime": now, "renewTime": now}
    patch = json.dumps({"spec": taken})
    cluster.kubectl("patch", "lease", "drey", "-n", "drey", "--type=merge", "-p", patch)

    def restarted() -> bool:
        found = cluster.get("pod", pod["metadata"]["name"], "drey") or {}
        return bool(container(found).get("restartCount", 0) > restarts)

    cluster.until("the restart", restarted, timeout_s=90.0)
    where = ("-n", "drey", pod["metadata"]["name"], "-c", "operator")
    assert '"event": "lease_lost"' in cluster.kubectl("logs", *where, "--previous")
    cluster.until("a leader", lambda: holder(cluster) != "somebody-else", timeout_s=60.0)
    assert_done_once(running, audit)
