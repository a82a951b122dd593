"""The kind provider: a cluster in Docker or Podman, with csi-driver-host-path.

Not run where the project is developed (there is no Docker there): kept small, and from published
manifests alone. `.github/workflows/e2e.yaml` runs it. What `make e2e` lacks on it: the faults of
the test CSI driver, `restart-apiserver`, and the processes of pods unless the engine is local and
the tests run as root.
"""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from hack.cluster import backends, certificates, configuration, layout, tools
from hack.cluster.errors import ClusterError
from hack.cluster.layout import Layout

NAME = "drey"
NODE = f"{NAME}-control-plane"
SNAPSHOTTER = "v8.6.0"
HOST_PATH = "v1.17.0"
GITHUB = "https://github.com/kubernetes-csi"


def engine() -> str:
    """Return `docker` or `podman`, whichever answers; empty when none does."""
    for name in ("docker", "podman"):
        if shutil.which(name) is None:
            continue
        try:
            done = subprocess.run([name, "info"], capture_output=True, timeout=10, check=False)
        except subprocess.TimeoutExpired:
            continue
        if done.returncode == 0:
            return name
    return ""


class Kind:
    """The cluster of the name `drey`; the kubeconfig and the backends lie in the state folder."""

    def __init__(self, state: Path) -> None:
        self.paths = Layout(state, tools.binaries_folder())

    def up(self) -> None:
        """Create the cluster, or do nothing when it answers."""
        paths = self.paths
        _need("kind", "kubectl", "git", "openssl")
        if not self.complaints():
            print(f"the kind cluster {NAME} is up and healthy")
            return
        tools.ensure(["restic", "versitygw", "rest-server"])
        for folder in (paths.state, paths.log, paths.run, paths.pki, paths.config):
            folder.mkdir(parents=True, exist_ok=True)
        paths.owner_file.write_text("kind\n")
        self._kind("delete", "cluster", "--name", NAME)
        (paths.config / "audit-policy.json").write_text(configuration.audit_policy())
        # the API server writes as root and keeps the mode of a file that is there: tests read it
        paths.audit_log.touch(mode=0o644)
        config = paths.config / "kind.json"
        config.write_text(configuration.kind(paths))
        self._kind("create", "cluster", "--name", NAME, "--config", str(config), "--wait", "180s")
        certificates.create_backend(paths.pki, self.gateway())
        self._name_backends()
        # the demo and the tests write and read extended attributes on the node
        install = "apt-get update -q && apt-get install -qy attr"
        _run(engine() or "docker", "exec", NODE, "sh", "-c", install)
        for source in ("client/config/crd", "deploy/kubernetes/snapshot-controller"):
            url = f"{GITHUB}/external-snapshotter/{source}?ref={SNAPSHOTTER}"
            self._kubectl("apply", "-k", url)
        self._install_host_path()

    def complaints(self) -> list[str]:
        """Return what is wrong, each as one line; empty when it is healthy."""
        if not self.paths.kubeconfig.exists():
            return ["there is no kind cluster"]
        argv = ["kubectl", "get", "--raw", "/readyz", "--request-timeout=5s"]
        done = subprocess.run(argv, env=self._environment(), capture_output=True, check=False)
        return [] if done.returncode == 0 else ["the API server is not ready"]

    def down(self) -> None:
        """Delete the cluster, the backends and the state folder."""
        for group in backends.GROUPS:
            self.backends().stop(group)
        self._kind("delete", "cluster", "--name", NAME)
        if self.paths.owner_file.exists():
            shutil.rmtree(self.paths.state)

    def load(self, archive: Path) -> list[str]:
        """Load an image archive into the node."""
        self._kind("load", "image-archive", "--name", NAME, str(archive))
        return [str(archive)]

    def backends(self) -> backends.Backends:
        """Return the backends, on the gateway of kind's network."""
        return backends.Backends(self.paths, self.gateway())

    def gateway(self) -> str:
        """Return the host's address in kind's network."""
        argv = [engine() or "docker", "network", "inspect", "kind"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        networks: Any = json.loads(done.stdout) if done.returncode == 0 else []
        for network in networks:
            for config in network.get("IPAM", {}).get("Config", []):
                if "." in str(config.get("Gateway", "")):
                    return str(config["Gateway"])
        return "127.0.0.1"

    def _name_backends(self) -> None:
        """Let the cluster's DNS resolve the backends' names."""
        argv = ["kubectl", "-n", "kube-system", "get", "configmap", "coredns", "-o", "json"]
        done = subprocess.run(argv, env=self._environment(), capture_output=True, check=False)
        if done.returncode:
            raise ClusterError(f"kind's CoreDNS: {done.stderr.decode().strip()}")
        theirs = json.loads(done.stdout)["data"]["Corefile"]
        data = {"Corefile": configuration.backend_names(self.gateway()) + theirs}
        system = ("-n", "kube-system")
        patch = ("--type=merge", "-p", json.dumps({"data": data}))
        self._kubectl(*system, "patch", "configmap", "coredns", *patch)
        self._kubectl(*system, "rollout", "restart", "deployment/coredns")
        self._kubectl(*system, "rollout", "status", "deployment/coredns", "--timeout=120s")

    def _install_host_path(self) -> None:
        source = layout.cache_folder() / f"csi-driver-host-path-{HOST_PATH}"
        if not source.exists():
            _run("git", "clone", "-q", "--depth=1", "-b", HOST_PATH,
                 f"{GITHUB}/csi-driver-host-path", str(source))  # fmt: skip
        _run(str(source / "deploy/kubernetes-latest/deploy.sh"), environment=self._environment())
        examples = source / "examples"
        self._kubectl("apply", "-f", str(examples / "csi-storageclass.yaml"))
        deadline = time.monotonic() + 180
        argv = ["kubectl", "get", "csinode", "-o", "jsonpath={.items[*].spec.drivers[*].name}"]
        while time.monotonic() < deadline:
            done = subprocess.run(argv, env=self._environment(), capture_output=True, check=False)
            if b"hostpath.csi.k8s.io" in done.stdout:
                return
            time.sleep(1)
        raise ClusterError("csi-driver-host-path did not register within 180 s")

    def _kind(self, *arguments: str) -> None:
        _run("kind", *arguments, environment=self._environment())

    def _kubectl(self, *arguments: str) -> None:
        _run("kubectl", *arguments, environment=self._environment())

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.paths.kubeconfig)}


def _need(*programs: str) -> None:
    if missing := [program for program in programs if shutil.which(program) is None]:
        raise ClusterError(f"missing on this machine: {', '.join(missing)} (for PROVIDER=kind)")


def _run(*argv: str, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(argv, env=environment, check=False)
    if done.returncode:
        raise ClusterError(f"{' '.join(argv[:4])} failed with exit code {done.returncode}")
