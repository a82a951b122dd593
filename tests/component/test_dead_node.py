"""A pod whose node died, as the real Job, node and taint controllers show it, and our verdict.

The kubelet is the one part that is missing, which is the point: it never says anything again.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controller.api.objects import Obj, dig, name_of, status
from controller.api.resources import JOB, POD, Resource
from controller.api.text import format_time
from controller.build.pod import job_policy
from controller.kube.client import Client
from controller.reconcile.execution import LOST_S, verdict
from controller.reconcile.observed import Executor, Limits
from controller.reconcile.verdicts import Died, Running
from tests.support import apiserver as support
from tests.support.apiserver import ApiServer
from tests.support.clients import patient_client

NODE = Resource("", "v1", "Node", "nodes", namespaced=False)
GRACE_S = 120
DEADLINE_S = 60.0
CONTROLLERS = ("job-controller", "node-lifecycle-controller", "taint-eviction-controller")
UNREACHABLE = {
    "key": "node.kubernetes.io/unreachable",
    "operator": "Exists",
    "effect": "NoExecute",
    "tolerationSeconds": 1,  # by default 300
}


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """Run an API server with the controllers that decide over the pods of dead nodes."""
    with support.running() as server:
        argv = [
            *("setpriv", "--pdeathsig", "KILL", "--"),
            str(server.binaries / "kube-controller-manager"),
            f"--kubeconfig={server.kubeconfig}",
            f"--controllers={','.join(CONTROLLERS)}",
            *("--leader-elect=false", "--secure-port=0"),
            *("--node-monitor-grace-period=3s", "--node-monitor-period=1s"),
        ]
        with (
            (server.folder / "controller-manager.log").open("wb") as log,
            subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT) as process,
        ):
            try:
                yield server
            finally:
                process.kill()


def until(what: str, probe: Callable[[], Any]) -> Any:
    """Return the first true answer of a probe."""
    end = time.monotonic() + DEADLINE_S
    while not (answer := probe()):
        assert time.monotonic() < end, what
        time.sleep(0.1)
    return answer


def job() -> Obj:
    """Return a Job with the policy of ours, bound to the node."""
    container = {"name": "main", "image": "none"}
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_S,
        "nodeName": "doomed",
        "tolerations": [UNREACHABLE],
        "automountServiceAccountToken": False,
        "containers": [container],
    }
    metadata = {"name": "mover", "namespace": "default"}
    return {"metadata": metadata, "spec": {**job_policy(), "template": {"spec": spec}}}


def report(server: ApiServer, path: str, fields: Obj) -> None:
    """Write a part of a status, whoever else writes."""
    answer = server.request(
        "PATCH", path, {"status": fields}, content_type="application/merge-patch+json"
    )
    assert answer.status == 200, answer.text


def beat(server: ApiServer, name: str) -> None:
    """Report a node as ready."""
    now = format_time(datetime.now(UTC))
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }
    report(server, NODE.path("", name, "status"), {"conditions": [ready]})


def run(server: ApiServer, client: Client) -> None:
    """Be the kubelet: report the pod as running."""
    now = format_time(datetime.now(UTC))
    pod = until("the pod", lambda: pods(client))[0]
    fields = {
        "phase": "Running",
        "startTime": now,
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [
            {
                "name": "main",
                "image": "none",
                "imageID": "none",
                "ready": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": now}},
            }
        ],
    }
    report(server, POD.path("default", name_of(pod), "status"), fields)


def pods(client: Client) -> list[Obj]:
    """Return the pods of the Job."""
    return list(client.list_page(POD, "default")["items"])


def test_the_pod_of_a_dead_node_is_deleted_but_says_that_it_runs(server: ApiServer) -> None:
    """Eviction sets deletionTimestamp to its time plus the grace period, and nothing follows.

    The phase stays Running, the Job neither fails nor starts another pod: only a clock ends it.
    """
    client = patient_client(server.kubeconfig, pool_size=2)
    account = {"metadata": {"name": "default", "namespace": "default"}}
    server.request("POST", "/api/v1/namespaces/default/serviceaccounts", account)
    client.create(JOB, "default", job())
    for name in ("doomed", "healthy"):
        assert server.request("POST", NODE.path(), {"metadata": {"name": name}}).status == 201
        beat(server, name)
    run(server, client)
    asked_at = datetime.now(UTC)

    def evictions() -> list[Obj]:
        beat(server, "healthy")  # when all nodes are silent, nothing is evicted
        return [pod for pod in pods(client) if gone_at(pod)]

    evicted = until("the eviction", evictions)
    time.sleep(3.0)
    (pod,) = pods(client)
    assert len(evicted) == 1
    assert status(pod)["phase"] == "Running"
    assert {c["type"]: c.get("reason") for c in status(pod)["conditions"]}["DisruptionTarget"] == (
        "DeletionByTaintManager"
    )
    due = gone_at(pod)
    assert due is not None
    assert GRACE_S - 5 < (due - asked_at).total_seconds() < GRACE_S + DEADLINE_S
    owner = client.get(JOB, "default", "mover")
    assert not any(c["status"] == "True" for c in status(owner).get("conditions") or ())
    for late_s, expected in ((-1, Running), (1, Died)):
        found = verdict(
            Executor(owner, pod), now=due + timedelta(seconds=LOST_S + late_s), limits=Limits()
        )
        assert isinstance(found, expected), found
    assert isinstance(found, Died)
    assert found.reason == "PodLost"


def gone_at(pod: Obj) -> datetime | None:
    """Return when a pod was to be gone."""
    text = dig(pod, "metadata", "deletionTimestamp")
    return datetime.fromisoformat(text) if text else None
