"""Configuration and command lines: everything below the state folder, all daemons known."""

import base64
import hashlib
import json
import tomllib
from pathlib import Path

from hack.cluster import backends, configuration, daemons
from hack.cluster.layout import Layout

PATHS = Layout(Path("/state"), Path("/cache/bin"))


def test_daemons_are_the_listed_ones() -> None:
    """`NAMES` (the verb `restart`, the health check) and the command lines cannot drift apart."""
    assert tuple(daemons.all_daemons(PATHS)) == daemons.NAMES


def test_containerd_keeps_everything_below_the_state_folder() -> None:
    """Root, state, socket, runc's state and network namespaces: `cluster-down` finds them."""
    document = tomllib.loads(configuration.containerd(PATHS))
    runtime = document["plugins"]["io.containerd.cri.v1.runtime"]
    assert document["root"].startswith("/state/")
    assert document["state"].startswith("/state/")
    assert document["grpc"]["address"].startswith("/state/")
    assert runtime["netns_mounts_under_state_dir"]
    options = runtime["containerd"]["runtimes"]["runc"]["options"]
    assert options["Root"].startswith("/state/")


def test_two_state_folders_have_two_cgroups() -> None:
    """Pods of one cluster are never taken for another's."""
    document = json.loads(configuration.kubelet(PATHS))
    assert document["cgroupRoot"] == f"/{PATHS.cgroup}"
    assert Layout(Path("/other"), PATHS.binaries).cgroup != PATHS.cgroup


def test_one_storage_class_and_one_snapshot_class_are_the_default() -> None:
    """Two defaults would make the choice a matter of luck."""
    objects = configuration.storage_objects()
    defaults = [
        path.rpartition("/")[0].rpartition("/")[2]
        for path, document in objects.items()
        if any("is-default-class" in key for key in document["metadata"].get("annotations", {}))
    ]
    assert sorted(defaults) == ["storageclasses", "volumesnapshotclasses"]
    for path, document in objects.items():
        assert path.endswith("/" + document["metadata"]["name"])


def test_dns_forwards_only_where_the_host_has_a_name_server() -> None:
    """CoreDNS does not start with a forward to an empty resolv.conf."""
    assert "forward" in configuration.corefile(PATHS, has_upstream=True)
    assert "forward" not in configuration.corefile(PATHS, has_upstream=False)


def test_the_backends_have_names_in_every_dns() -> None:
    """Pods reach the backends by name, on the node's address or on that of kind's gateway."""
    ours = configuration.corefile(PATHS, has_upstream=False)
    block = "  hosts {\n    10.244.0.1 s3.drey.test rest.drey.test\n  }\n}\n"
    assert ours.startswith(f"drey.test {{\n  bind 10.244.0.1\n{block}cluster.local {{\n")
    theirs = configuration.backend_names("172.18.0.1")
    assert theirs == "drey.test {\n" + block.replace("10.244.0.1", "172.18.0.1")


def test_kind_writes_the_audit_log_to_the_same_file() -> None:
    """Tests count requests on both: the policy is mounted, and the log's folder is the host's."""
    (node,) = json.loads(configuration.kind(PATHS))["nodes"]
    server = json.loads(node["kubeadmConfigPatches"][0])["apiServer"]
    mounts = {mount["containerPath"]: mount["hostPath"] for mount in node["extraMounts"]}
    volumes = {volume["mountPath"]: volume["hostPath"] for volume in server["extraVolumes"]}
    policy = server["extraArgs"]["audit-policy-file"]
    log = Path(server["extraArgs"]["audit-log-path"])
    assert mounts[volumes[policy]] == f"{PATHS.config}/audit-policy.json"
    assert Path(mounts[volumes[str(log.parent)]]) / log.name == PATHS.audit_log


def test_htpasswd_lines_are_the_sha_scheme_of_apache() -> None:
    """rest-server reads `{SHA}` and the base64 of the raw digest."""
    line = backends.htpasswd("user", "secret")
    digest = hashlib.sha1(b"secret").digest()  # noqa: S324 - the file format's own hash
    assert line == f"user:{{SHA}}{base64.b64encode(digest).decode()}\n"


def test_keys_of_the_s3_server_are_not_in_its_arguments(tmp_path: Path) -> None:
    """Anyone on the host can read a command line."""
    for daemon in backends.Backends(Layout(tmp_path, PATHS.binaries)).daemons().values():
        assert not any(backends.SECRET_KEY in argument for argument in daemon.argv)
