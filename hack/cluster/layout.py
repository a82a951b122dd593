"""Where everything of one cluster lies: paths, addresses, ports and names.

All paths derive from two folders: the state folder (removed by `cluster-down`) and the binaries of
the per-user cache (kept).
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

NODE = "local"
BRIDGE = "drey0"
CNI_NETWORK = "drey"
NODE_ADDRESS = "10.244.0.1"
POD_SUBNET = "10.244.0.0/24"
CLUSTER_SUBNET = "10.244.0.0/16"
SERVICE_SUBNET = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"
API_PORT = 6443
ETCD_PORT = 2379
ETCD_PEER_PORT = 2380

S3_HOST = "s3.drey.test"
REST_HOST = "rest.drey.test"

CSI_DRIVER = "btrfs.csi.drey.test"
# A second name for the same code: issue "VolumeSnapshots" needs a class of another driver.
OTHER_CSI_DRIVER = "other.csi.drey.test"

DEFAULT_STATE = Path("/var/lib/drey-cluster")


def cache_folder() -> Path:
    """Return the per-user cache: binaries, base images, locks."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "drey"


def state_folder() -> Path:
    """Return the state folder: `DREY_STATE`, or the default."""
    return Path(os.environ.get("DREY_STATE") or DEFAULT_STATE).resolve()


@dataclass(frozen=True)
class Layout:
    """The paths of one native cluster."""

    state: Path
    binaries: Path

    @property
    def owner_file(self) -> Path:
        """The file that says that the folder is a cluster's: without it nothing is removed."""
        return self.state / ".drey-cluster"

    @property
    def cgroup(self) -> str:
        """The cgroup of all pods: one for each state folder."""
        return f"drey-{hashlib.sha256(str(self.state).encode()).hexdigest()[:8]}"

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.state / "pki"

    @property
    def log(self) -> Path:
        """One log file for each daemon, the audit log, the access logs of the backends."""
        return self.state / "log"

    @property
    def run(self) -> Path:
        """Identities of the daemons."""
        return self.state / "run"

    @property
    def config(self) -> Path:
        """Configuration files, written at each start."""
        return self.state / "config"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, with its certificates in it."""
        return self.state / "admin.kubeconfig"

    @property
    def audit_log(self) -> Path:
        """One JSON object (audit.k8s.io/v1 Event) in a line, stage ResponseComplete or Panic."""
        return self.log / "audit.log"

    @property
    def containerd_state(self) -> Path:
        """State of containerd: sockets, mounts and network namespaces of what runs."""
        return self.state / "containerd-run"

    @property
    def containerd_socket(self) -> Path:
        """The CRI socket."""
        return self.containerd_state / "containerd.sock"

    @property
    def kubelet(self) -> Path:
        """The kubelet's root folder."""
        return self.state / "kubelet"

    @property
    def pool(self) -> Path:
        """The mounted btrfs of the CSI driver."""
        return self.state / "pool"

    @property
    def pool_image(self) -> Path:
        """The file behind the pool."""
        return self.state / "pool.img"

    @property
    def csi_faults(self) -> Path:
        """JSON that tells the CSI driver which calls are to fail."""
        return self.state / "csi-faults.json"

    @property
    def csi_protos(self) -> Path:
        """The compiled protos of CSI, kept with the binaries: they come from the same pins."""
        return self.binaries / "csi-protos.binpb"

    @property
    def backends(self) -> Path:
        """Data of the S3 server and of the REST server."""
        return self.state / "backends"

    @property
    def backend_ca(self) -> Path:
        """The CA of the backends' TLS ports: not the cluster's, not in any trust store."""
        return self.pki / "backend-ca.crt"

    def csi_socket(self, driver: str) -> Path:
        """Return the socket of a CSI driver."""
        return self.kubelet / "plugins" / driver / "csi.sock"

    def csi_registration(self, driver: str) -> Path:
        """Return the socket through which the kubelet finds a CSI driver."""
        return self.kubelet / "plugins_registry" / f"{driver}-reg.sock"
