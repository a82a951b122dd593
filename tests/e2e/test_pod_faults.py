"""Pods that die or never start: the session ends with the reason, its lock goes, the next works."""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.audit import Audit
from tests.support.cluster import Cluster, Space
from tests.support.evidence import (
    answers,
    ended,
    failure_of,
    job_of,
    kill,
    locks,
    pods_of,
    says,
    snapshots,
    wait_restic,
)

NOBODY = "http://127.0.0.1:9"
SOON_S = 5.0
"""How long a session may stay Running after its pod is gone."""
SLOW = {"args": ["--limit-upload=100"]}
"""KiB per second: with BIG the upload alone takes a minute."""
BIG = "head -c 6000000 /dev/urandom > /data/big; sync"


@pytest.fixture
def slow(space: Space) -> Space:
    """A namespace with one snapshot, and a configuration whose next backups take a minute."""
    space.ready()
    space.exec("app", "echo precious > /data/file; sync")
    space.back_up("first")
    space.exec("app", BIG)
    space.apply(space.configuration(target=SLOW))
    space.cluster.until("the spec", lambda: is_seen(space))
    return space


def is_seen(space: Space) -> bool:
    """Tell whether the configuration's spec is the one that its status is about."""
    found = space.get("backupconfiguration", "backup") or {}
    seen = (found.get("status") or {}).get("observedGeneration")
    return bool(seen == found["metadata"]["generation"])


def assert_recovers(space: Space) -> None:
    """The lock of the dead pod goes without anybody's help, and the next backup works."""
    space.cluster.until("no lock", lambda: not locks(space), timeout_s=60.0)
    space.apply(space.configuration(target={"args": ["--read-concurrency=1"]}))
    space.cluster.until("the spec", lambda: is_seen(space))
    done = space.back_up("last")
    says(done, "RetentionPolicyApplied", "True", [])
    assert len(snapshots(space)) == 2


def failed_within(space: Space, session: str, began: float) -> str:
    """Return what a session failed with; it has to do so soon after a moment."""
    failed = space.wait_phase("backupsession", session, "Failed", timeout_s=30.0)
    took_s = time.monotonic() - began
    assert took_s < SOON_S, f"{took_s:.1f} s"
    return failure_of(failed)


def delete_job(space: Space) -> None:
    """Delete a Job by hand, as kubectl does it: its pod is told to end."""
    space.cluster.kubectl("delete", "job", job_of("second"), "-n", space.name, "--wait=false")


def force_pod(space: Space) -> None:
    """Delete a pod at once, without waiting for its processes."""
    pod = pods_of(space, job_of("second"))[0]["metadata"]["name"]
    space.cluster.kubectl(
        "delete", "pod", pod, "-n", space.name, "--force", "--grace-period=0", "--wait=false"
    )


def kill_runner(space: Space) -> None:
    """Kill all processes of a pod from the node, as the kernel does when memory runs out."""
    kill(pods_of(space, job_of("second"))[0], "runner")


def kill_restic(space: Space) -> None:
    """Kill restic alone, as the kernel does with the largest process: its runner can still talk."""
    kill(pods_of(space, job_of("second"))[0], "restic")


FORCED = r"Interrupted: .|PodFailed: .*\b137\b|ReportLost: ."
"""The runner has a moment to report that it was told to end; or it is killed before it has; or the
pod is gone before anybody read how it ended."""


@pytest.mark.parametrize(
    ("fault", "reason", "resource"),
    [
        pytest.param(delete_job, "JobDeleted: ", "jobs", id="job-deleted"),
        pytest.param(force_pod, FORCED, "pods", id="pod-forced"),
        pytest.param(kill_runner, "PodFailed: ", "", id="killed"),
        pytest.param(kill_restic, "ResticFailed: ", "", id="restic-killed"),
    ],
)
def test_executor_lost(
    slow: Space, fault: Callable[[Space], None], reason: str, resource: str
) -> None:
    """A Job or pod that is gone ends its session within seconds; its lock does not stay."""
    audit = Audit(slow.cluster.info["audit_log"])
    slow.apply(slow.session("second"))
    wait_restic(slow, job_of("second"))
    fault(slow)
    if fault is kill_restic:
        ended(slow, job_of("second"))  # its runner lives, and removes the lock before it reports
    began = time.monotonic()
    error = failed_within(slow, "second", began)
    assert re.match(reason, error), error
    if resource:
        assert 200 in answers(audit, "delete", resource, slow, user="admin")
    else:
        signalled = fault is kill_runner
        assert ended(slow, job_of("second"))["exitCode"] == (137 if signalled else 1)
        assert ("137" if signalled else "killed by signal 9") in error
    assert_recovers(slow)


def test_restore_killed(space: Space) -> None:
    """A restore whose pod is killed fails within seconds, leaves no lock, and can be repeated."""
    space.ready()
    space.exec("app", f"{BIG}; sha256sum /data/big > /data/sum")
    space.back_up("first")
    space.exec("app", "rm /data/big; sync")
    job = "stash-restore-slow-0"
    space.apply(space.restore("slow", target={"args": ["--limit-download=100"]}))
    kill(wait_restic(space, job), "runner")
    began = time.monotonic()
    failed = space.wait_phase("restoresession", "slow", "Failed", timeout_s=30.0)
    assert time.monotonic() - began < SOON_S
    words = ["137", "may be restored in part"]
    says(failed, "RestoreDisrupted", "True", words)
    assert ended(space, job)["exitCode"] == 137
    space.cluster.until("no lock", lambda: not locks(space), timeout_s=60.0)
    space.apply(space.restore("again"))
    space.wait_phase("restoresession", "again", "Succeeded")
    assert "OK" in space.exec("app", "sha256sum -c /data/sum")


def test_pod_deleted(slow: Space) -> None:
    """A pod that is deleted politely reports that it was told to end, and releases its lock."""
    slow.apply(slow.session("second"))
    pod = wait_restic(slow, job_of("second"))
    where = ("-n", slow.name, "--wait=false")
    slow.cluster.kubectl("delete", "pod", pod["metadata"]["name"], *where)
    failed = slow.wait_phase("backupsession", "second", "Failed", timeout_s=20.0)
    error = failure_of(failed)
    assert error.startswith("Interrupted: "), error
    assert locks(slow) == []
    assert_recovers(slow)


def test_out_of_memory(space: Space) -> None:
    """A memory limit that is too low is named, with the field that raises it."""
    limits = {"container": {"resources": {"limits": {"memory": "24Mi"}}}}
    space.ready(runtimeSettings=limits)
    space.exec("app", "head -c 60000000 /dev/urandom > /data/big; sync")
    failed = space.back_up("first", "Failed")
    error = failure_of(failed)
    end = ended(space, job_of("first"))
    assert end["reason"] == "OOMKilled", (end, error)
    assert "spec.runtimeSettings.container.resources.limits.memory" in error
    space.apply(space.configuration())
    space.cluster.until("the spec", lambda: is_seen(space))
    space.back_up("second")
    assert len(snapshots(space)) == 1


def test_quota(space: Space) -> None:
    """A quota that keeps the pod away leaves the session waiting; it goes on once there is room."""
    space.ready()
    space.apply(space.object("v1", "ResourceQuota", "none", spec={"hard": {"pods": "1"}}))
    space.apply(space.session("first"))

    def refused() -> list[str]:
        events = space.cluster.list("event", space.name)
        return [e["message"] for e in events if "exceeded quota" in e["message"]]

    assert job_of("first") in space.cluster.until("the refusal", refused)[0]
    assert pods_of(space, job_of("first")) == []
    space.wait_phase("backupsession", "first", "Running")
    space.cluster.kubectl("delete", "resourcequota", "none", "-n", space.name)
    space.wait_phase("backupsession", "first", "Succeeded")


@pytest.fixture(scope="module")
def other_settings(cluster: Cluster) -> Iterator[None]:
    """The operator with other arguments, the way that an administrator sets them.

    A pod has 30 s to start; the Pushgateway is where nobody listens.
    """
    path = "/spec/template/spec/containers/0/args"
    before = (cluster.get("deployment", "drey", "drey") or {})["spec"]["template"]["spec"]
    args = before["containers"][0]["args"]
    try:
        _set_args(cluster, path, [*args, "--start-timeout=30s", f"--pushgateway-url={NOBODY}"])
        yield
    finally:
        _set_args(cluster, path, args)


def _set_args(cluster: Cluster, path: str, args: list[str]) -> None:
    patch = json.dumps([{"op": "replace", "path": path, "value": args}])
    where = ("-n", "drey", "deployment/drey")
    cluster.kubectl("patch", *where, "--type=json", "-p", patch)
    cluster.kubectl("rollout", "status", *where, "--timeout=120s", timeout_s=130.0)


@pytest.mark.serial
@pytest.mark.usefixtures("other_settings")
def test_never_starts(cluster: Cluster) -> None:
    """A pod that cannot start fails its session at the limit, in the kubelet's or quota's words.

    What is left of the Job goes, so that it does not start hours later.
    """
    with cluster.space("image-pull") as image, cluster.space("quota-full") as quota:
        name = f"{image.name}-step"
        own = (cluster.get("task", "pvc-backup") or {})["spec"]
        base: dict[str, Any] = {"apiVersion": "stash.appscode.com/v1beta1"}
        steps = [{"name": name}, *own["steps"]]
        image.apply(
            {
                **base,
                "kind": "Function",
                "metadata": {"name": name},
                "spec": {"image": "registry.invalid/no/such:1"},
            },
            {**base, "kind": "Task", "metadata": {"name": name}, "spec": {**own, "steps": steps}},
        )
        try:
            image.ready(task={"name": name})
            quota.ready()
            quota.apply(quota.object("v1", "ResourceQuota", "none", spec={"hard": {"pods": "1"}}))
            for space in (image, quota):
                space.apply(space.session("first"))
            expected = {"image": (image, "registry.invalid/no/such:1"), "quota": (quota, "quota")}
            for space, word in expected.values():
                failed = space.wait_phase("backupsession", "first", "Failed", timeout_s=90.0)
                error = failure_of(failed)
                assert error.startswith("PodNotStarted: its pod did not start within 30s"), error
                assert word in error
                cluster.until("no Job", lambda: not space.list("job"))  # noqa: B023 - called here
            quota.cluster.kubectl("delete", "resourcequota", "none", "-n", quota.name)
            image.apply(image.configuration())
            cluster.until("the spec", lambda: is_seen(image))
            for space in (image, quota):
                space.back_up("second")
        finally:
            cluster.kubectl("delete", "task,function", name, "--ignore-not-found")


@pytest.mark.serial
@pytest.mark.usefixtures("other_settings")
def test_pushgateway_away(space: Space) -> None:
    """Metrics that cannot be pushed are a condition, of backup and restore, and decide nothing."""
    space.ready()
    space.exec("app", "echo precious > /data/file; sync")
    done = space.back_up("first")
    for kind in ("MetricsPushed", "RepositoryMetricsPushed"):
        says(done, kind, "False", [NOBODY, "refused"])
    assert len(snapshots(space)) == 1
    space.exec("app", "rm /data/file; sync")
    space.apply(space.restore())
    restored = space.wait_phase("restoresession", "restore", "Succeeded")
    says(restored, "MetricsPushed", "False", [NOBODY, "refused"])
    assert space.exec("app", "cat /data/file").strip() == "precious"
