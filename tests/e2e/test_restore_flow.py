"""Flow A, restore: a backup by hand, the data destroyed, one restore, a test for each step."""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from hack.demo.files import Shell, manifest, shell_on
from tests.support.cluster import Space, condition
from tests.support.pushgateway import Samples, pushed

# Readable by the backup's user: what is not has a test of its own (exit code 3).
FILL = """
set -eu
cd "$ROOT"
mkdir -p docs/deep links empty
i=0; while [ $i -lt 50 ]; do echo "document $i" > docs/$i.txt; i=$((i + 1)); done
head -c 3000000 /dev/urandom > docs/deep/random.bin
truncate -s 64M docs/deep/sparse.img; printf end | dd of=docs/deep/sparse.img conv=notrunc bs=1 \
  seek=60000000 2>/dev/null
echo 'one inode' > links/first; ln links/first links/second; ln -s ../docs/0.txt links/relative
chown 1234:5678 docs/1.txt; chmod 0604 docs/1.txt; chmod 2775 links; chown 1000:1000 links
chmod 1777 empty; setfattr -n user.drey -v value docs/2.txt
touch -d '2001-02-03 04:05:06' docs/3.txt empty; chown 0:0 .; chmod 0755 .
"""
DESTROY = r"""
set -eu
cd "$ROOT"
find . -mindepth 1 -delete; chmod 0700 .; chown 7:7 .
"""
SPARSE_BLOCKS = 'stat --format %b "$ROOT/docs/deep/sparse.img"'


class Flow:
    """The steps, each taken when it is first asked for, after those before it."""

    def __init__(self, space: Space) -> None:
        self.space = space

    @cached_property
    def shell(self) -> Shell:
        """Fill the volume, and return a shell in it on the node."""
        self.space.ready(retentionPolicy={"name": "last", "keepLast": 5, "prune": True})
        shell = volume_shell(self.space, "app", "data")
        shell(FILL)
        return shell

    @cached_property
    def before(self) -> list[str]:
        """Return the manifest of the volume, taken on the node."""
        return manifest(self.shell)

    @cached_property
    def snapshot(self) -> str:
        """Back up; return the id of the snapshot."""
        assert self.before
        session = self.space.back_up("by-hand")
        found: str = session["status"]["targets"][0]["stats"][0]["snapshots"][0]["name"]
        return found

    @cached_property
    def restore(self) -> dict[str, Any]:
        """Destroy the data, restore under the running application, and return the session."""
        assert self.snapshot
        self.shell(DESTROY)
        assert self.shell('ls -A "$ROOT"') == ""
        self.space.apply(self.space.restore(rules=[{"snapshots": ["latest"]}]))
        return self.space.wait_phase("restoresession", "restore", "Succeeded", "Failed", "Invalid")

    @cached_property
    def job(self) -> Mapping[str, Any]:
        """Return the Job of the restore."""
        assert self.restore
        found = self.space.get("job", "stash-restore-restore-0")
        assert found is not None
        return found

    @cached_property
    def metrics(self) -> Samples:
        """Return what was pushed for the restore."""
        assert self.restore
        return pushed(self.space.cluster, f"restoresession-{self.space.name}-restore")


def volume_shell(space: Space, pod: str, claim: str) -> Shell:
    """Return a shell in the volume of a running pod, on the node, without our code."""
    found, volume = space.get("pod", pod), space.get("pvc", claim)
    assert found is not None
    assert volume is not None
    info = space.cluster.info
    kubelet = info.get("kubelet") or f"{info['state']}/kubelet"
    path = (
        Path(kubelet) / "pods" / found["metadata"]["uid"] / "volumes" / "kubernetes.io~csi"
        / volume["spec"]["volumeName"] / "mount"
    )  # fmt: skip
    return shell_on(info["on_node"], str(path))


@pytest.fixture(scope="module")
def flow(shared_space: Space) -> Flow:
    """The one run that the tests of this module look at."""
    return Flow(shared_space)


def test_restore_session_succeeds(flow: Flow) -> None:
    """A RestoreSession finds its references, gets its executor and succeeds, and says so."""
    status = flow.restore["status"]
    assert status["phase"] == "Succeeded", status
    for kind in (
        "RepositoryFound", "BackendSecretFound", "ValidationPassed", "RestoreTargetFound",
        "RestoreExecutorEnsured", "MetricsPushed",
    ):  # fmt: skip
        assert condition(flow.restore, kind).get("status") == "True", (kind, status)
    assert status["totalHosts"] == 1
    (stat,) = status["stats"]
    assert (stat["hostname"], stat["phase"]) == ("host-0", "Succeeded")
    assert stat["duration"].endswith("s")
    assert status["sessionDuration"].endswith("s")


def test_restore_under_a_running_workload_warns(flow: Flow) -> None:
    """An application that keeps the volume mounted may write while we do: a condition says so."""
    found = condition(flow.restore, "TargetInUse")
    assert found.get("status") == "True", flow.restore["status"]
    assert "app" in found["message"]


def test_restore_job_writes_below_the_mount_only(flow: Flow) -> None:
    """The Job mounts the volume inside of restic's target, and is owned by the session."""
    (owner,) = flow.job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("RestoreSession", "restore")
    spec = flow.job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["name"] == "pvc-restore-0"
    mounts = {m["mountPath"]: m for m in container["volumeMounts"]}
    assert mounts["/drey/restore/stash-data"]["name"] == "stash-volume"
    assert not mounts["/drey/restore/stash-data"].get("readOnly")
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert "${" not in json.dumps(spec)


def test_restored_data_is_equal(flow: Flow) -> None:
    """Contents, owners, modes, times, links, attributes and the root folder itself come back."""
    assert flow.restore["status"]["phase"] == "Succeeded", flow.restore["status"]
    assert manifest(flow.shell) == flow.before


def test_restored_sparse_file_is_sparse(flow: Flow) -> None:
    """A file with a hole of 60 MB takes no 60 MB after its restore."""
    assert flow.restore["status"]["phase"] == "Succeeded", flow.restore["status"]
    assert int(flow.shell(SPARSE_BLOCKS)) * 512 < 1 << 20


def test_restore_metrics_are_in_the_pushgateway(flow: Flow) -> None:
    """Restore metrics have Stash's names, current and legacy, and success is what happened."""
    session = {
        "invoker_kind": "RestoreSession",
        "invoker_name": "restore",
        "namespace": flow.space.name,
        "driver": "Restic",
        "repository": "repo",
    }
    target = {**session, "kind": "PersistentVolumeClaim", "group": "", "name": "data"}
    host = {**target, "hostname": "host-0"}
    current, legacy = "stash_appscode_com_restoresession_", "stash_restore_"
    wanted = {
        current + "success": session,
        legacy + "session_success": session,
        current + "duration_seconds": session,
        legacy + "session_duration_seconds": session,
    }
    for prefix in (current, legacy):
        wanted |= {
            prefix + "target_count_total": session,
            prefix + "target_success": target,
            prefix + "target_host_count_total": target,
            prefix + "host_restore_success": host,
            prefix + "host_restore_duration_seconds": host,
        }
    for name, labels in wanted.items():
        assert [found for found, _ in flow.metrics.get(name, ())] == [labels], name
    assert flow.metrics[current + "success"][0][1] == 1
    assert flow.metrics[current + "host_restore_success"][0][1] == 1


def test_restore_leaves_the_repository_alone(flow: Flow) -> None:
    """A restore takes nothing from the repository and adds nothing to it."""
    assert flow.restore
    assert [snapshot["id"] for snapshot in flow.space.restic("snapshots")] == [flow.snapshot]
