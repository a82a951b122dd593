"""How fast the VolumeSnapshots of twenty claims are asked for: by Drey, and by a bare client.

Both run in a pod of the same image, send the same twenty objects over as many connections, and are
timed by the API server's audit log: from the moment when it received the first POST to its answer
to the last one. The bare client is Python's `http.client` and nothing else.
"""

import json
from typing import Any

from controller.api.creation import SESSION_NAME
from hack.bench import bare, figures
from runner.creation import THREADS
from tests.support.audit import OPERATOR, Audit, Request
from tests.support.cluster import Cluster, Space
from tests.support.snapshots import bound, claims, configuration, workload

CLAIMS = tuple(f"data-app-{ordinal}" for ordinal in range(20))
MOST_RATIO = 1.5
WARM_UPS = 1
API = "/apis/snapshot.storage.k8s.io/v1"
POSTER = "bare-client"

_SCRIPT = f"""
import http.client, json, os, queue, ssl, threading
mount = "/var/run/secrets/kubernetes.io/serviceaccount/"
token, namespace = open(mount + "token").read(), open(mount + "namespace").read()
tls = ssl.create_default_context(cafile=mount + "ca.crt")
headers = {{"Authorization": "Bearer " + token, "Content-Type": "application/json"}}
bodies, failed = queue.SimpleQueue(), []
for body in json.loads(os.environ["BODIES"]):
    bodies.put(json.dumps(body))
def work():
    server = http.client.HTTPSConnection(
        os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"]),
        context=tls,
    )
    while True:
        try:
            body = bodies.get_nowait()
        except queue.Empty:
            return
        server.request("POST", "{API}/namespaces/" + namespace + "/volumesnapshots", body, headers)
        answer = server.getresponse()
        text = answer.read()
        if answer.status != 201:
            failed.append(text)
threads = [threading.Thread(target=work) for _ in range({THREADS})]
for thread in threads: thread.start()
for thread in threads: thread.join()
raise SystemExit(str(failed) if failed else 0)
"""


def run(cluster: Cluster, runs: int, quick: bool) -> None:  # noqa: FBT001 - one of four alike
    """Measure in turns and print."""
    del quick
    ours: list[float] = []
    theirs: list[float] = []
    whole: list[float] = []
    with cluster.space("bench-snapshots") as space:
        _prepare(space)
        for number in range(-WARM_UPS, runs):
            name = f"warm-{-number}" if number < 0 else f"run-{number}"
            figures.progress(f"snapshots: {name} of {runs}")
            posts_s, whole_s, bodies = _drey(space, name)
            bare_s = _bare(space, f"bare-{name}", bodies)
            if number >= 0:
                ours.append(posts_s)
                whole.append(whole_s)
                theirs.append(bare_s)
    figures.table(
        f"VolumeSnapshots of {len(CLAIMS)} claims, {runs} runs",
        "s",
        [
            ("Drey: first POST received → last POST answered", ours),
            ("bare client: the same", theirs),
            ("Drey: session created → final phase", whole),
        ],
    )
    ratio = figures.median(ours) / figures.median(theirs)
    figures.verdict("POSTs, Drey / bare client", ratio, "<= 1.5", good=ratio <= MOST_RATIO)


def _prepare(space: Space) -> None:
    """Make twenty claims of a StatefulSet that has no pods, and what the bare client may do."""
    rights = {"apiGroups": [API.split("/")[2]], "resources": ["volumesnapshots"]}
    group = "rbac.authorization.k8s.io"
    space.apply(
        *claims(space, *CLAIMS, size="16Mi"),
        workload(space, "StatefulSet", templates=("data",), replicas=0),
        space.object("v1", "ServiceAccount", POSTER),
        space.object(f"{group}/v1", "Role", POSTER, rules=[{**rights, "verbs": ["create"]}]),
        space.object(
            f"{group}/v1",
            "RoleBinding",
            POSTER,
            roleRef={"apiGroup": group, "kind": "Role", "name": POSTER},
            subjects=[{"kind": "ServiceAccount", "name": POSTER, "namespace": space.name}],
        ),
    )
    bound(space, *CLAIMS)
    target = {"replicas": len(CLAIMS)}
    policy = {"name": "all", "keepLast": 1000, "prune": False}
    space.apply(configuration(space, "StatefulSet", "app", target=target, retentionPolicy=policy))
    space.wait_phase("backupconfiguration", "backup", "Ready")


def _drey(space: Space, name: str) -> tuple[float, float, list[dict[str, Any]]]:
    """Return how long the POSTs and the session took, and what was posted."""
    audit = Audit(space.cluster.info["audit_log"])
    session = space.back_up(name)
    requests = [r for r in audit.requests() if r.namespace == space.name]
    made = [s for s in space.list("volumesnapshot") if _session_of(s) == name]
    if sorted(s["spec"]["source"]["persistentVolumeClaimName"] for s in made) != sorted(CLAIMS):
        raise AssertionError(f"BackupSession {name} did not snapshot each claim: {session}")
    began_s = next(r.begun_s for r in requests if r.resource == "backupsessions")
    final = [r for r in requests if (r.resource, r.user) == ("backupsessions/status", OPERATOR)][-1]
    _clear(space)
    bodies = [
        {
            "apiVersion": s["apiVersion"],
            "kind": s["kind"],
            "metadata": {
                "name": f"bare-{s['metadata']['name']}",
                "labels": s["metadata"]["labels"],
                "annotations": {SESSION_NAME: name},
            },
            "spec": {"source": s["spec"]["source"]},
        }
        for s in made
    ]
    return _posts_s(requests), final.ended_s - began_s, bodies


def _bare(space: Space, name: str, bodies: list[dict[str, Any]]) -> float:
    """Return how long the same POSTs took by the bare client."""
    audit = Audit(space.cluster.info["audit_log"])
    job = bare.job(space, name)
    pod = job["spec"]["template"]["spec"]
    pod |= {"serviceAccountName": POSTER, "automountServiceAccountToken": True, "volumes": []}
    pod["enableServiceLinks"] = False
    (container,) = pod["containers"]
    for key in ("envFrom", "volumeMounts"):
        del container[key]
    container["command"] = ["python3", "-c", _SCRIPT]
    container["env"] = [{"name": "BODIES", "value": json.dumps(bodies)}]
    space.apply(job)
    bare.wait(space, name)
    requests = [r for r in audit.requests() if r.namespace == space.name]
    _clear(space)
    return _posts_s(requests)


def _posts_s(requests: list[Request]) -> float:
    posts = [r for r in requests if (r.verb, r.resource) == ("create", "volumesnapshots")]
    if len(posts) != len(CLAIMS):
        raise AssertionError(f"{len(posts)} POSTs of VolumeSnapshots, not {len(CLAIMS)}")
    return max(r.ended_s for r in posts) - min(r.begun_s for r in posts)


def _session_of(snapshot: dict[str, Any]) -> str:
    annotations = snapshot["metadata"].get("annotations") or {}
    return str(annotations.get(SESSION_NAME) or "")


def _clear(space: Space) -> None:
    """Remove all snapshots, and wait until the driver has: nothing of it disturbs the next run."""
    space.cluster.kubectl(
        "delete", "volumesnapshot", "--all", "-n", space.name, "--wait=true", timeout_s=300.0
    )

    def gone() -> bool:
        contents = space.cluster.list("volumesnapshotcontent")
        return not any(c["spec"]["volumeSnapshotRef"]["namespace"] == space.name for c in contents)

    space.cluster.until("the end of all snapshots", gone, timeout_s=120.0)
