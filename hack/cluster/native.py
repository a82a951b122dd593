"""The native provider: one real Kubernetes node of plain processes on this machine."""

import contextlib
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hack.cluster import (
    apiserver,
    backends,
    certificates,
    cgroups,
    configuration,
    daemons,
    host,
    images,
    layout,
    packages,
    processes,
    tools,
)
from hack.cluster.apiserver import ApiServer
from hack.cluster.errors import ClusterError
from hack.cluster.layout import Layout
from hack.cluster.processes import Supervisor

PORTS = (layout.API_PORT, layout.ETCD_PORT, layout.ETCD_PEER_PORT, 10250, 10256, 10257, 10259)
STATE_LENGTH = 45
POOL_SIZE_BYTES = 16 * 1024**3  # sparse: costs what is written


def unsupported() -> str:
    """Return why this machine cannot run a native cluster; empty when it can."""
    if os.uname().sysname != "Linux":
        return "not Linux"
    if os.geteuid() != 0:
        return "not root"
    if shutil.which("apt-get") is None and (missing := packages.missing(packages.NEEDED)):
        return f"missing: {' '.join(missing)}"
    return ""


class Native:
    """The cluster of one state folder.

    Args:
        state: the state folder.
    """

    def __init__(self, state: Path) -> None:
        self.paths = Layout(state, tools.binaries_folder())
        self.supervisor = Supervisor(state, self.paths.binaries)

    def up(self) -> None:
        """Bring the cluster up: nothing to do when it is healthy, anew when it is half-dead."""
        paths = self.paths
        packages.ensure(packages.NEEDED)  # first: it takes seconds, and may fail
        tools.ensure()
        if not (complaints := self.complaints()):
            print(f"the cluster is up and healthy ({paths.state})")
            return
        self._refuse_foreign_folder()
        self._compile_protos()
        archives = list(images.archives().values())
        if self.exists():
            print(f"repairing a half-dead cluster: {complaints[0]}")
            self.down()
        self._refuse_taken_ports()
        self._refuse_long_path()
        try:
            self._start(archives)
        except ClusterError:
            print(f"the logs are in {paths.log}; `make cluster` starts anew")
            raise

    def exists(self) -> bool:
        """Say whether anything of a cluster is on this machine."""
        paths = self.paths
        return (
            paths.owner_file.exists()
            or host.link_exists()
            or bool(cgroups.members(paths.cgroup))
            or bool(processes.marked(paths.state))
        )

    def complaints(self) -> list[str]:
        """Return what is wrong with the cluster, each as one line; empty when it is healthy."""
        paths = self.paths
        if not paths.owner_file.exists():
            return [f"there is no cluster in {paths.state}"]
        dead = [name for name in daemons.NAMES if not self.supervisor.running(name)]
        if dead:
            return [f"{name} does not run" for name in dead]
        result = []
        if not paths.pool.is_mount():
            result.append(f"{paths.pool} is not mounted")
        if not host.link_exists():
            result.append(f"there is no bridge {layout.BRIDGE}")
        api = ApiServer(paths.pki)
        if not api.ready():
            result.append("the API server is not ready")
        elif not _node_ready(api):
            result.append("the node is not Ready")
        elif not _driver_registered(api):
            result.append("the CSI driver is not registered")
        return result

    def down(self) -> None:
        """Remove the cluster and everything that it changed on this machine."""
        paths = self.paths
        self._refuse_foreign_folder()
        found = self.exists()
        # no clean shutdown: the whole state goes. Pods' processes first, or their shims report
        # deaths that nobody wants to hear; again at the end for what was being started meanwhile
        for _ in range(2):
            pods = cgroups.members(paths.cgroup)
            processes.kill([*processes.marked(paths.state), *pods])
        host.unmount_all(paths.state)
        host.detach_loops(paths.state)
        if found:
            host.remove_links()
            host.remove_rules()
        cgroups.remove(paths.cgroup)
        host.remove_files(paths.state)
        host.restore_sysctls(paths.state / "sysctls.json")
        host.remove_state(paths.state)

    def restart(self, name: str) -> None:
        """Restart one daemon and wait until it serves again.

        Raises:
            ClusterError: there is no such daemon, or it did not come back.
        """
        known = daemons.all_daemons(self.paths)
        if name not in known:
            raise ClusterError(f"no daemon {name!r}; there are: {', '.join(known)}")
        # the sidecars end themselves when their driver goes away
        names = [name, *(daemons.SIDECARS[:2] if name == "csi-driver" else ())]
        for each in reversed(names):
            self.supervisor.stop(each)
        if known[name].port:
            # the old one answers until it has drained: its successor would find the port taken
            self.supervisor.wait(
                f"port {known[name].port} free",
                lambda: not processes.listening_on(known[name].port),
                needs=[],
            )
        for each in names:
            self.supervisor.start(known[each])
        api = ApiServer(self.paths.pki)
        self.supervisor.wait("API server ready", api.ready, needs=[*names, "kube-apiserver"])
        if name == "containerd":
            self.supervisor.wait("containerd", self._containerd_answers, needs=names)
        if name == "csi-driver":
            self.supervisor.wait("CSI driver", lambda: _driver_registered(api), needs=names)

    def backends(self) -> backends.Backends:
        """Return the backends of this cluster."""
        return backends.Backends(self.paths)

    def _start(self, archives: list[Path]) -> None:
        paths, start = self.paths, self.supervisor.start
        watch = Stopwatch()
        for folder in (paths.state, paths.pki, paths.log, paths.run, paths.pool):
            folder.mkdir(parents=True, exist_ok=True)
        paths.owner_file.write_text("a test cluster of Drey; removed by `make cluster-down`\n")
        paths.pki.chmod(0o700)
        known = daemons.all_daemons(paths)
        host.save_sysctls(paths.state / "sysctls.json")
        (host.SYSCTL / "net/ipv4/ip_forward").write_text("1")
        cgroups.create(paths.cgroup)
        host.create_bridge()
        self._write_configuration()
        start(known["etcd"])
        start(known["containerd"])
        with ThreadPoolExecutor(4) as pool:
            storage = pool.submit(self._create_pool)
            imported = pool.submit(self._import, archives)
            certificates.create(paths)
            start(known["kube-apiserver"])
            api = ApiServer(paths.pki)
            wait = self.supervisor.wait
            wait("API server ready", api.ready, needs=["etcd", "kube-apiserver"])
            watch.lap("API server ready")
            for name in daemons.CONTROL_PLANE:
                start(known[name])
            imported.result()
            watch.lap("container runtime ready, images imported")
            start(known["kubelet"])
            crds = pool.submit(self._apply_crds, api)
            storage.result()
            start(known["csi-driver"])
            crds.result()
        socket = paths.csi_socket(layout.CSI_DRIVER)
        wait("CSI driver", socket.is_socket, needs=["csi-driver"])
        for name in daemons.SIDECARS:
            start(known[name])
        for path, document in configuration.storage_objects().items():
            api.apply(path, configuration.encode(document))
        wait("node Ready", lambda: _node_ready(api), needs=["containerd", "kubelet"])
        watch.lap("node Ready")
        wait("CSI driver", lambda: _driver_registered(api), needs=["kubelet", "csi-driver"])
        # pods are refused until it exists
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        needs = ["kube-controller-manager"]
        wait("default ServiceAccount", lambda: api.get(account) is not None, needs=needs)
        wait("cluster DNS", lambda: processes.listening_on(53), needs=["coredns"])
        if dead := self.complaints():
            raise ClusterError("; ".join(dead))
        watch.lap("storage ready")

    def _write_configuration(self) -> None:
        paths = self.paths
        (paths.config / "cni").mkdir(parents=True, exist_ok=True)
        resolv = Path("/etc/resolv.conf")
        has_upstream = resolv.exists() and "nameserver" in resolv.read_text()
        for name, text in {
            "audit-policy.json": configuration.audit_policy(),
            "cni/10-bridge.conflist": configuration.cni(paths),
            "containerd.toml": configuration.containerd(paths),
            "Corefile": configuration.corefile(paths, has_upstream=has_upstream),
            "kubelet.json": configuration.kubelet(paths),
        }.items():
            (paths.config / name).write_text(text)

    def _create_pool(self) -> None:
        """Make and mount the btrfs of the CSI driver, with quotas for the sizes of volumes."""
        paths = self.paths
        with paths.pool_image.open("wb") as file:
            file.truncate(POOL_SIZE_BYTES)
        for argv in (
            ["mkfs.btrfs", "--quiet", str(paths.pool_image)],
            ["mount", "-o", "loop", str(paths.pool_image), str(paths.pool)],
            ["btrfs", "quota", "enable", str(paths.pool)],
        ):
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            if done.returncode:
                raise ClusterError(f"{' '.join(argv)}: {done.stderr.strip()}")

    def _compile_protos(self) -> None:
        """Compile the CSI driver's protos now: Go is found here, a daemon does not look for it."""
        if self.paths.csi_protos.exists():
            return
        program = Path(__file__).parent / "csi" / "protos.py"
        argv = [daemons.python(), str(program), str(self.paths.csi_protos)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ClusterError(
                f"the CSI driver's protos: {done.stderr.strip()[-300:]} "
                f"(`make cluster` installs grpcio-tools into .venv; used: {argv[0]})"
            )

    def _import(self, archives: list[Path]) -> None:
        self.supervisor.wait("containerd", self._containerd_answers, needs=["containerd"])
        for archive in archives:
            images.load(self.paths, archive)

    def _containerd_answers(self) -> bool:
        if not self.paths.containerd_socket.is_socket():
            return False
        with contextlib.suppress(ClusterError):
            images.ctr(self.paths, "version")
            return True
        return False

    def _apply_crds(self, api: ApiServer) -> None:
        base = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        names = []
        for file in tools.CRD_FILES:
            group, _, plural = file.removesuffix(".yaml").partition("_")
            names.append(f"{base}/{plural}.{group}")
            api.apply(names[-1], (self.paths.binaries / "crd" / file).read_bytes())

        def established() -> bool:
            found = [api.get(name) or {} for name in names]
            return all(apiserver.condition(crd, "Established") for crd in found)

        self.supervisor.wait("snapshot CRDs", established, needs=["kube-apiserver"])

    def _refuse_foreign_folder(self) -> None:
        state = self.paths.state
        if not state.exists() or self.paths.owner_file.exists() or not any(state.iterdir()):
            return
        if processes.marked(state):  # removed by hand, and written to again by what still runs
            return
        raise ClusterError(
            f"{state} is not a cluster's folder and not empty: set DREY_STATE to another one"
        )

    def _refuse_long_path(self) -> None:
        state = self.paths.state
        if len(str(state)) > STATE_LENGTH:
            raise ClusterError(
                f"{state} is too long a path: the kernel allows 107 characters for a socket below "
                f"it. Set DREY_STATE to one of at most {STATE_LENGTH} characters"
            )

    def _refuse_taken_ports(self) -> None:
        taken = [port for port in PORTS if processes.listening_on(port)]
        if taken:
            ports = ", ".join(map(str, taken))
            raise ClusterError(
                f"ports in use by other processes: {ports}. Another cluster on this machine? "
                "End it first (`ss -ltnp` shows whose they are)."
            )


class Stopwatch:
    """Prints how long each part took, from the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def lap(self, what: str) -> None:
        """Print that this is done."""
        print(f"{time.monotonic() - self._start:5.1f} s  {what}", flush=True)


def _node_ready(api: ApiServer) -> bool:
    return apiserver.condition(api.get(f"/api/v1/nodes/{layout.NODE}") or {}, "Ready")


def _driver_registered(api: ApiServer) -> bool:
    node = api.get(f"/apis/storage.k8s.io/v1/csinodes/{layout.NODE}") or {}
    drivers = (node.get("spec") or {}).get("drivers") or []
    return any(driver.get("name") == layout.CSI_DRIVER for driver in drivers)
