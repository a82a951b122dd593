"""The native cluster itself: started, started again, killed without clean-up, repaired, removed.

It runs as a second cluster, with a state folder and a network namespace of its own, so that the
one of `make cluster` may stay up. Needs root.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from hack.cluster import cgroups, host, layout, processes, tools
from hack.cluster.layout import Layout

NAMESPACE = f"drey-test-{os.getpid()}"
POD = {
    "apiVersion": "v1",
    "kind": "List",
    "items": [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "16Mi"}},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "writer"},
            "spec": {
                "containers": [
                    {
                        "name": "main",
                        "image": "busybox:1.36",
                        "command": ["sh", "-c", "nslookup s3.drey.test >/data/file && sleep 3600"],
                        "readinessProbe": {"exec": {"command": ["test", "-s", "/data/file"]}},
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                    }
                ],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
            },
        },
    ],
}


@dataclass(frozen=True)
class Cluster:
    """A second cluster: every command runs in its network namespace."""

    paths: Layout

    def verb(self, *arguments: str) -> str:
        """Run a verb of hack/cluster and return what it prints."""
        return self.run(sys.executable, str(layout.REPOSITORY / "hack" / "cluster"), *arguments)

    def kubectl(self, *arguments: str, body: str = "") -> str:
        """Run kubectl against this cluster and return what it prints."""
        program = str(self.paths.binaries / "kubectl")
        return self.run(program, f"--kubeconfig={self.paths.kubeconfig}", *arguments, body=body)

    def run(self, *argv: str, body: str = "") -> str:
        """Run a command in the cluster's network namespace and return what it prints."""
        environment = {**os.environ, "DREY_STATE": str(self.paths.state), "PROVIDER": "native"}
        inside = ["nsenter", f"--net=/run/netns/{NAMESPACE}", "--", *argv]
        done = subprocess.run(
            inside, env=environment, input=body, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{argv}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def start_pod(self) -> None:
        """Run a pod that resolves a name of the cluster's DNS into a fresh volume."""
        self.kubectl("apply", "-f", "-", body=json.dumps(POD))
        self.kubectl("wait", "--for=condition=Ready", "pod/writer", "--timeout=60s")

    def daemons(self) -> dict[str, str]:
        """Return name → identity (pid and start) of the daemons."""
        return {file.stem: file.read_text() for file in self.paths.run.glob("*.json")}

    def traces(self) -> Mapping[str, list[str]]:
        """Return what a cluster changes on its host: empty lists where it left nothing."""
        state = self.paths.state
        links = json.loads(self.run("ip", "-json", "link"))
        loops = json.loads(self.run("losetup", "--json", "--list") or '{"loopdevices": []}')
        rules = self.run("iptables-save") + self.run("ip6tables-save")
        shims = Path("/run/containerd/s")
        return {
            "processes": [processes.command_of(pid) for pid in processes.marked(state)],
            "pods": [processes.command_of(pid) for pid in cgroups.members(self.paths.cgroup)],
            "cgroups": [str(f) for f in cgroups.folders(self.paths.cgroup) if f.exists()],
            "mounts": host.mounts_below(state, Path("/proc/self/mounts").read_text()),
            "links": [link["ifname"] for link in links if link["ifname"] != "lo"],
            "loops": [
                loop["back-file"]
                for loop in loops["loopdevices"]
                if loop["back-file"].startswith(str(state))
            ],
            "rules": [line for line in rules.splitlines() if "KUBE-" in line or "CNI-" in line],
            "leases": [str(p) for p in Path("/var/lib/cni/networks").glob(layout.CNI_NETWORK)],
            "logs": [
                str(link)
                for link in Path("/var/log/containers").glob("*.log")
                if link.is_symlink() and link.readlink().is_relative_to(state)
            ],
            "sockets": [
                str(s) for s in host.shim_sockets(state) if s.exists() and s.is_relative_to(shims)
            ],
            "folder": [str(state)] if state.exists() else [],
        }


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A second cluster that is not up yet; removed at the end, whatever happened."""
    assert os.geteuid() == 0, "the native cluster needs root"
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
    result = Cluster(Layout(Path(tempfile.mkdtemp(prefix="drey-")), tools.binaries_folder()))
    try:
        result.run("ip", "link", "set", "lo", "up")
        yield result
    finally:
        result.verb("down")
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=True)


def kill_everything(cluster: Cluster) -> list[int]:
    """SIGKILL all daemons and shims at once; return the pods' processes, which survive."""
    pods = sorted(cgroups.members(cluster.paths.cgroup))
    for pid in processes.marked(cluster.paths.state):
        if pid not in pods:
            with contextlib.suppress(ProcessLookupError):  # a probe that has just ended
                os.kill(pid, signal.SIGKILL)
    return pods


def test_a_killed_cluster_is_repaired_and_removed_without_a_trace(cluster: Cluster) -> None:
    """`up` is a no-op when healthy, repairs what was killed; `down` leaves nothing behind."""
    nothing = cluster.traces()
    cluster.verb("up")
    cluster.start_pod()

    begun = time.monotonic()
    before = cluster.daemons()
    assert "up and healthy" in cluster.verb("up")
    assert time.monotonic() - begun < 5
    assert before == cluster.daemons()

    pods = kill_everything(cluster)
    left = cluster.traces()
    assert pods
    for kind in ("pods", "cgroups", "mounts", "links", "loops", "rules", "folder"):
        assert left[kind], f"the test did not leave {kind} behind"
    # pids that belong to somebody else now: one with another start, one that is no daemon of ours
    own = processes.identity_of(os.getpid())
    assert own is not None
    for name, ticks in (("etcd", own.start_ticks - 1), ("kubelet", own.start_ticks)):
        record = {"pid": own.pid, "start_ticks": ticks}
        (cluster.paths.run / f"{name}.json").write_text(json.dumps(record))

    assert "repairing" in cluster.verb("up")
    assert not [pid for pid in pods if pid in cgroups.members(cluster.paths.cgroup)]
    cluster.start_pod()
    cluster.verb("s3", "start")
    cluster.verb("rest", "start")

    cluster.verb("down")
    assert cluster.traces() == {**nothing, "folder": []}
    cluster.verb("down")


def test_a_folder_that_is_not_a_cluster_is_never_removed(tmp_path: Path) -> None:
    """DREY_STATE that points at somebody's files is refused by `up` and by `down`."""
    (tmp_path / "precious").write_text("data")
    for verb in ("up", "down"):
        done = subprocess.run(
            [sys.executable, str(layout.REPOSITORY / "hack" / "cluster"), verb],
            env={**os.environ, "DREY_STATE": str(tmp_path), "PROVIDER": "native"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert f"{tmp_path} is not a cluster's folder" in done.stderr
    assert (tmp_path / "precious").read_text() == "data"


def test_without_root_one_line_says_what_is_missing(tmp_path: Path) -> None:
    """Neither root nor an engine: an error in one line, at once, and exit code 1."""
    # a user namespace without a mapping: no root any more, but the checkout stays readable
    unshare = ["/usr/bin/unshare", "--user"]
    argv = [*unshare, sys.executable, str(layout.REPOSITORY / "hack" / "cluster"), "up"]
    begun = time.monotonic()
    done = subprocess.run(
        argv,
        env={"PATH": "/nowhere", "DREY_STATE": str(tmp_path / "state"), "HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "needs root on Debian Linux, or a running Docker or Podman" in done.stderr
    assert time.monotonic() - begun < 3
