"""The command line of each daemon: pure functions of the layout."""

import os
import sys
from pathlib import Path

from hack.cluster import layout
from hack.cluster.layout import Layout
from hack.cluster.processes import Daemon

SIDECARS = ("csi-provisioner", "csi-snapshotter", "snapshot-controller")
CONTROL_PLANE = ("kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns")
# in the order of their start; `all_daemons` has exactly these
NAMES = (
    "containerd", "etcd", "kube-apiserver", *CONTROL_PLANE, "kubelet", "csi-driver", *SIDECARS,
)  # fmt: skip


def all_daemons(paths: Layout) -> dict[str, Daemon]:
    """Return name → daemon for all that a running cluster consists of."""
    daemons = [
        _daemon("containerd", "-c", f"{paths.config}/containerd.toml"),
        _etcd(paths),
        _apiserver(paths),
        _controller_manager(paths),
        _daemon(
            "kube-scheduler",
            f"--kubeconfig={paths.pki}/scheduler.kubeconfig",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--kube-api-qps=100",
            "--kube-api-burst=200",
        ),
        _daemon(
            "kube-proxy",
            f"--kubeconfig={paths.pki}/proxy.kubeconfig",
            f"--hostname-override={layout.NODE}",
            f"--cluster-cidr={layout.CLUSTER_SUBNET}",
            "--proxy-mode=iptables",
            # pods share a bridge: without it the answer of a pod behind a Service would go straight
            # to the pod that asked, from an address unknown to it (where br_netfilter is missing)
            "--masquerade-all",
            "--healthz-bind-address=127.0.0.1:10256",
            # the host's connection tracking is not ours to tune
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        ),
        _daemon("coredns", "-conf", f"{paths.config}/Corefile"),
        _daemon(
            "kubelet",
            f"--config={paths.config}/kubelet.json",
            f"--kubeconfig={paths.pki}/kubelet.kubeconfig",
            f"--hostname-override={layout.NODE}",
            f"--node-ip={layout.NODE_ADDRESS}",
            f"--root-dir={paths.kubelet}",
            f"--cert-dir={paths.pki}/kubelet",
        ),
        _csi_driver(paths),
        *_sidecars(paths),
    ]
    return {daemon.name: daemon for daemon in daemons}


_GO = {"GOGC": "400"}
"""Each may grow to five times what it holds: a node of two processors lacks those, not memory."""


def _daemon(name: str, *arguments: str, port: int = 0) -> Daemon:
    return Daemon(name, (name, *arguments), _GO, port)


def _etcd(paths: Layout) -> Daemon:
    client = f"http://127.0.0.1:{layout.ETCD_PORT}"
    peer = f"http://127.0.0.1:{layout.ETCD_PEER_PORT}"
    return _daemon(
        "etcd",
        f"--data-dir={paths.state}/etcd",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",  # a test cluster does not outlive a power cut
        "--log-level=warn",
        port=layout.ETCD_PORT,
    )


def _apiserver(paths: Layout) -> Daemon:
    pki = paths.pki
    return _daemon(
        "kube-apiserver",
        f"--etcd-servers=http://127.0.0.1:{layout.ETCD_PORT}",
        f"--secure-port={layout.API_PORT}",
        f"--advertise-address={layout.NODE_ADDRESS}",
        "--endpoint-reconciler-type=master-count",
        f"--service-cluster-ip-range={layout.SERVICE_SUBNET}",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--kubelet-client-certificate={pki}/kubelet-client.crt",
        f"--kubelet-client-key={pki}/kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        f"--audit-policy-file={paths.config}/audit-policy.json",
        f"--audit-log-path={paths.audit_log}",
        "--audit-log-format=json",
        # blocking: a line is in the file before the request is answered, so tests may count
        "--audit-log-mode=blocking",
        "--audit-log-maxsize=1000",
        "--audit-log-maxbackup=1",
        # a watch ends when the server stops; without this the server waits for it, up to 60 s
        "--shutdown-watch-termination-grace-period=2s",
        port=layout.API_PORT,
    )


def _controller_manager(paths: Layout) -> Daemon:
    return _daemon(
        "kube-controller-manager",
        f"--kubeconfig={paths.pki}/controller-manager.kubeconfig",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--service-account-private-key-file={paths.pki}/sa.key",
        f"--root-ca-file={paths.pki}/ca.crt",
        f"--cluster-cidr={layout.CLUSTER_SUBNET}",
        "--controllers=*,-nodeipam,-cloud-node-lifecycle",
        f"--flex-volume-plugin-dir={paths.state}/volume-plugins",
        "--kube-api-qps=100",
        "--kube-api-burst=200",
    )


def _csi_driver(paths: Layout) -> Daemon:
    # DREY_CSI_DRIVER: another program with the same arguments, for work on the driver itself
    program = os.environ.get("DREY_CSI_DRIVER") or str(Path(__file__).parent / "csi" / "driver.py")
    argv = (
        python(),
        program,
        f"--name={layout.CSI_DRIVER}",
        f"--node={layout.NODE}",
        f"--pool={paths.pool}",
        f"--socket={paths.csi_socket(layout.CSI_DRIVER)}",
        f"--registration={paths.csi_registration(layout.CSI_DRIVER)}",
        f"--faults={paths.csi_faults}",
        f"--protos={paths.csi_protos}",
    )
    return Daemon("csi-driver", argv, {"PYTHONUNBUFFERED": "1"})


def python() -> str:
    """Return the interpreter that has grpcio: the checkout's venv, else the running one."""
    venv = layout.REPOSITORY / ".venv" / "bin" / "python"
    return str(venv) if venv.exists() else sys.executable


def _sidecars(paths: Layout) -> list[Daemon]:
    common = (
        f"--kubeconfig={paths.pki}/storage.kubeconfig",
        "--kube-api-qps=100",
        "--kube-api-burst=200",
        "--retry-interval-max=10s",  # tests wait for a retry; the default lets it grow to 5 min
    )
    csi = (
        f"--csi-address={paths.csi_socket(layout.CSI_DRIVER)}",
        # the driver learns the names of claim and snapshot, so that tests can make one of them fail
        "--extra-create-metadata",
        "--leader-election=false",
    )
    return [
        _daemon("csi-provisioner", *common, *csi),
        _daemon("csi-snapshotter", *common, *csi),
        _daemon("snapshot-controller", *common, "--leader-election=false"),
    ]
