"""Texts of the configuration files: pure functions of the layout. JSON where YAML is read."""

import json
from collections.abc import Mapping
from typing import Any

from hack.cluster import layout
from hack.cluster.layout import Layout


def audit_policy() -> str:
    """Every request as one line at Metadata level: tests count requests by user agent."""
    document = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [{"level": "Metadata"}],
    }
    return json.dumps(document)


def cni(paths: Layout) -> str:
    """A bridge with addresses from one subnet; leases are kept below the state folder."""
    ipam = {
        "type": "host-local",
        "dataDir": f"{paths.state}/cni-leases",
        "ranges": [[{"subnet": layout.POD_SUBNET}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": layout.BRIDGE,
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": ipam,
    }
    document = {"cniVersion": "1.0.0", "name": layout.CNI_NETWORK, "plugins": [bridge]}
    return json.dumps(document, indent=1)


def containerd(paths: Layout) -> str:
    """Configure containerd 2: all below the state folder, also runc's state and network namespaces.

    `restrict_oom_score_adj`: without CAP_SYS_RESOURCE runc may not lower oom_score_adj, and no
    sandbox would start.
    """
    runtime = "plugins.'io.containerd.cri.v1.runtime'"
    return f"""version = 3
root = "{paths.state}/containerd"
state = "{paths.containerd_state}"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{paths.containerd_socket}"
[plugins.'io.containerd.nri.v1.nri']
  disable = true
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "registry.k8s.io/pause:3.10"
[{runtime}]
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  [{runtime}.cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{paths.config}/cni"
    use_internal_loopback = true
  [{runtime}.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [{runtime}.containerd.runtimes.runc.options]
      Root = "{paths.state}/runc"
      SystemdCgroup = false
"""


def corefile(paths: Layout, *, has_upstream: bool) -> str:
    """Names of Services, names of the backends, and what the host resolves where it can."""
    forward = "  forward . /etc/resolv.conf\n" if has_upstream else ""
    address = layout.NODE_ADDRESS
    return f"""{backend_names(address, f"bind {address}")}cluster.local {{
  bind {address}
  errors
  kubernetes {{
    kubeconfig {paths.pki}/dns.kubeconfig
    ttl 1
  }}
}}
. {{
  bind {address}
  errors
{forward}}}
"""


def backend_names(address: str, *options: str) -> str:
    """Return the block of a Corefile that gives the backends' names this address."""
    lines = "".join(f"  {option}\n" for option in options)
    return f"""drey.test {{
{lines}  hosts {{
    {address} {layout.S3_HOST} {layout.REST_HOST}
  }}
}}
"""


def kind(paths: Layout) -> str:
    """One node of kind; its API server writes the audit log to the same file as the native one.

    The patch has no apiVersion: kind (pull request 4173) then rewrites `extraArgs` for the kubeadm
    of its node image, which takes a map or a list.
    """
    policy = "/etc/kubernetes/audit-policy.json"
    logs = "/var/log/kubernetes"
    volumes = [
        {"name": "audit-policy", "hostPath": policy, "mountPath": policy, "pathType": "File",
         "readOnly": True},
        {"name": "audit-log", "hostPath": logs, "mountPath": logs, "pathType": "Directory"},
    ]  # fmt: skip
    arguments = {
        "audit-policy-file": policy,
        "audit-log-path": f"{logs}/{paths.audit_log.name}",
        "audit-log-mode": "blocking",  # as in daemons: tests may count at once
        "audit-log-maxsize": "1000",
        "audit-log-maxbackup": "1",
    }
    patch = {
        "kind": "ClusterConfiguration",
        "apiServer": {"extraArgs": arguments, "extraVolumes": volumes},
    }
    node = {
        "role": "control-plane",
        "kubeadmConfigPatches": [json.dumps(patch)],
        "extraMounts": [
            {"hostPath": f"{paths.config}/audit-policy.json", "containerPath": policy,
             "readOnly": True},
            {"hostPath": str(paths.log), "containerPath": logs},
        ],
    }  # fmt: skip
    document = {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": [node]}
    return json.dumps(document, indent=1)


def kubelet(paths: Layout) -> str:
    """The kubelet on hosts with cgroup v1 or v2, all folders below the state folder."""
    client_ca = {"clientCAFile": f"{paths.pki}/ca.crt"}
    document = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": layout.NODE_ADDRESS,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": client_ca,
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{paths.cgroup}",
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{paths.containerd_socket}",
        "podLogsDir": f"{paths.state}/pod-logs",
        "volumePluginDir": f"{paths.state}/volume-plugins",
        # a test machine's disk may well be nearly full: evicting pods would only hide the test
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
        },
        # images come from archives and from nowhere else: none may be collected
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "imageMaximumGCAge": "0s",
        "maxPods": 250,
        "clusterDNS": [layout.NODE_ADDRESS],
        "clusterDomain": "cluster.local",
    }
    return json.dumps(document, indent=1)


def storage_objects() -> dict[str, dict[str, Any]]:
    """Return API path → object: the CSI driver, two StorageClasses, two snapshot classes."""
    default_class = {"storageclass.kubernetes.io/is-default-class": "true"}
    default_snapshots = {"snapshot.storage.kubernetes.io/is-default-class": "true"}
    storage = "/apis/storage.k8s.io/v1"
    snapshots = "/apis/snapshot.storage.k8s.io/v1/volumesnapshotclasses"

    def storage_class(name: str, mode: str, annotations: dict[str, str]) -> dict[str, Any]:
        return {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name, "annotations": annotations},
            "provisioner": layout.CSI_DRIVER,
            "volumeBindingMode": mode,
        }

    def snapshot_class(name: str, driver: str, annotations: dict[str, str]) -> dict[str, Any]:
        return {
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshotClass",
            "metadata": {"name": name, "annotations": annotations},
            "driver": driver,
            "deletionPolicy": "Delete",
        }

    driver = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSIDriver",
        "metadata": {"name": layout.CSI_DRIVER},
        "spec": {"attachRequired": False, "podInfoOnMount": False, "fsGroupPolicy": "File"},
    }
    return {
        f"{storage}/csidrivers/{layout.CSI_DRIVER}": driver,
        f"{storage}/storageclasses/csi-btrfs": storage_class(
            "csi-btrfs", "WaitForFirstConsumer", default_class
        ),
        f"{storage}/storageclasses/csi-btrfs-immediate": storage_class(
            "csi-btrfs-immediate", "Immediate", {}
        ),
        f"{snapshots}/csi-btrfs": snapshot_class("csi-btrfs", layout.CSI_DRIVER, default_snapshots),
        # a class whose driver serves none of our volumes: for the tests of that mistake
        f"{snapshots}/other": snapshot_class("other", layout.OTHER_CSI_DRIVER, {}),
    }


def encode(document: Mapping[str, Any]) -> bytes:
    """Return an object as the API server reads it."""
    return json.dumps(document).encode()
