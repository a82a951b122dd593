"""The operator's pods: which of them acts, and a way to kill it."""

from typing import Any

from tests.support.cluster import Cluster
from tests.support.evidence import kill

SELECTOR = "app.kubernetes.io/component=operator,app.kubernetes.io/name=drey"


def operators(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the pods of the operator that are not on their way out."""
    pods = cluster.list("pod", "drey", SELECTOR)
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def container(pod: dict[str, Any]) -> dict[str, Any]:
    """Return the status of the operator's container in a pod."""
    statuses = pod["status"].get("containerStatuses") or ()
    return next((dict(c) for c in statuses if c["name"] == "operator"), {})


def holder(cluster: Cluster) -> str:
    """Return who holds the Lease, empty when nobody does."""
    lease = cluster.get("lease", "drey", "drey") or {}
    return str((lease.get("spec") or {}).get("holderIdentity") or "")


def leader(cluster: Cluster) -> dict[str, Any]:
    """Return the pod that holds the Lease."""

    def probe() -> dict[str, Any]:
        name = holder(cluster).rpartition("_")[0]
        found = [pod for pod in operators(cluster) if pod["metadata"]["name"] == name]
        return found[0] if found and container(found[0]).get("ready") else {}

    found: dict[str, Any] = cluster.until("a leader", probe, timeout_s=60.0)
    return found


def kill_leader(cluster: Cluster) -> None:
    """Kill the operator that acts with SIGKILL, and wait until another one acts.

    Its pod is replaced: the kubelet would wait longer and longer before it starts one again.
    """
    pod = leader(cluster)
    name = pod["metadata"]["name"]
    kill(pod, "controller")
    cluster.kubectl("delete", "pod", name, "-n", "drey", "--wait=false", "--grace-period=1")
    cluster.until(
        "another leader",
        lambda: not holder(cluster).startswith(f"{name}_") and leader(cluster),
        timeout_s=90.0,
    )
