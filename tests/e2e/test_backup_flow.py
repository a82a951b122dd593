"""Flow A, backup: one run by the schedule, and one test for each of its steps.

The steps build on one another: `Flow` takes each of them once, and each test looks at one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tests.support.audit import Audit
from tests.support.cluster import Space, condition
from tests.support.node import processes
from tests.support.pushgateway import Samples, pushed

FILL = """
set -e
mkdir -p /data/docs/deep
i=0; while [ $i -lt 40 ]; do echo "document $i" > /data/docs/$i.txt; i=$((i + 1)); done
head -c 2097152 /dev/urandom > /data/docs/deep/random.bin
ln -s ../40.txt /data/docs/deep/link
cd /data && find . -type f | sort | xargs sha256sum
"""
FILES = 41
HOST_METRICS = (
    "host_backup_success", "host_backup_duration_seconds", "host_data_size_bytes",
    "host_data_uploaded_bytes", "host_data_processing_time_seconds", "host_files_total",
    "host_files_new", "host_files_modified", "host_files_unmodified",
)  # fmt: skip
TARGET_METRICS = ("target_success", "target_host_count_total", "target_last_success_time_seconds")
REPOSITORY_METRICS = ("integrity", "size_bytes", "snapshot_count", "snapshot_cleaned")


@dataclass
class Running:
    """What there is while the backup runs."""

    session: Mapping[str, Any]
    job: Mapping[str, Any]
    pod: Mapping[str, Any]
    mount_options: tuple[str, ...]


class Flow:
    """The steps, each taken when it is first asked for, after those before it."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.audit = Audit(space.cluster.info["audit_log"])

    @cached_property
    def checksums(self) -> str:
        """Fill the volume and return the checksums of its files."""
        self.space.apply(self.space.pvc(), self.space.pod())
        self.space.wait_pod("app")
        return self.space.exec("app", FILL)

    @cached_property
    def references(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Create Secret and Repository; return them as the API server keeps them."""
        self.space.apply(self.space.secret(), self.space.repository())
        secret, repository = self.space.get("secret", "storage"), self.space.get("repo", "repo")
        assert secret is not None
        assert repository is not None
        return secret, repository

    @cached_property
    def configuration(self) -> dict[str, Any]:
        """Create the configuration: each minute, slow enough to be watched. Wait for Ready."""
        assert self.checksums
        assert self.references
        self.space.apply(
            self.space.configuration(
                schedule="* * * * *", target={"args": ["--limit-upload=200"]}, backupHistoryLimit=3
            )
        )
        return self.space.wait_phase("backupconfiguration", "backup", "Ready")

    @cached_property
    def cron_job(self) -> dict[str, Any]:
        """Return the CronJob of the configuration."""
        assert self.configuration
        found = self.space.get("cronjob", "stash-trigger-backup")
        assert found is not None
        return found

    @cached_property
    def running(self) -> Running:
        """Wait for the slot, keep further ones away, and look while the backup runs."""
        assert self.cron_job
        name = self.space.cluster.until(
            "a session of the schedule", self._first_session, timeout_s=150.0
        )
        self.space.cluster.kubectl(
            "patch", "backupconfiguration", "backup", "-n", self.space.name,
            "--type=merge", "-p", json.dumps({"spec": {"paused": True}}),
        )  # fmt: skip
        session = self.space.wait_phase("backupsession", name, "Running")
        job_name = f"stash-backup-{name}-0"
        pod = self.space.cluster.until("the pod runs", lambda: self._running_pod(job_name))
        job = self.space.get("job", job_name)
        assert job is not None
        options = self.space.cluster.until("the mount", lambda: self._mount_options(pod))
        return Running(session, job, pod, options)

    @cached_property
    def session(self) -> dict[str, Any]:
        """Wait for the end of the session and return it."""
        name = self.running.session["metadata"]["name"]
        return self.space.wait_phase("backupsession", name, "Succeeded", "Failed", "Skipped")

    @cached_property
    def snapshot(self) -> dict[str, Any]:
        """Return the one snapshot that an independent restic finds."""
        assert self.session["status"]["phase"] == "Succeeded", self.session["status"]
        (snapshot,) = self.space.restic("snapshots")
        found: dict[str, Any] = snapshot
        return found

    @cached_property
    def metrics(self) -> Samples:
        """Return what was pushed for the configuration."""
        assert self.session
        return pushed(self.space.cluster, f"backupconfiguration-{self.space.name}-backup")

    @cached_property
    def repository(self) -> dict[str, Any]:
        """Return the Repository after the backup."""
        assert self.session
        found = self.space.get("repo", "repo")
        assert found is not None
        return found

    def _first_session(self) -> str:
        sessions = self.space.list("backupsession")
        return str(sessions[0]["metadata"]["name"]) if sessions else ""

    def _running_pod(self, job_name: str) -> dict[str, Any] | None:
        for pod in self.space.list("pod"):
            labels = pod["metadata"].get("labels") or {}
            if labels.get("batch.kubernetes.io/job-name") == job_name:
                phase = pod["status"]["phase"]
                assert phase in ("Pending", "Running"), f"too late: the pod is {phase}"
                return pod if phase == "Running" else None
        return None

    def _mount_options(self, pod: Mapping[str, Any]) -> tuple[str, ...]:
        for process in processes(pod["metadata"]["uid"]):
            if options := process.mount_options("/stash-data"):
                return options
        return ()


@pytest.fixture(scope="module")
def flow(shared_space: Space) -> Flow:
    """The one run that the tests of this module look at."""
    return Flow(shared_space)


def test_secret_is_not_touched(flow: Flow) -> None:
    """A storage Secret stays as its user made it: nobody of ours writes to it or owns it."""
    before, _ = flow.references
    assert flow.session
    after = flow.space.get("secret", "storage")
    assert after is not None
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def test_repository_is_accepted_and_fresh(flow: Flow) -> None:
    """A new Repository has no result yet, and asks for nothing but its backend and its Secret."""
    _, repository = flow.references
    assert repository["spec"]["backend"]["storageSecretName"] == "storage"
    assert "lastBackupTime" not in (repository.get("status") or {})


def test_configuration_becomes_ready(flow: Flow) -> None:
    """A valid configuration is Ready, with every condition that Stash shows."""
    for kind in (
        "RepositoryFound", "BackendSecretFound", "ValidationPassed", "BackupTargetFound",
        "CronJobCreated",
    ):  # fmt: skip
        assert condition(flow.configuration, kind).get("status") == "True", kind
    generation = flow.configuration["metadata"]["generation"]
    assert flow.configuration["status"]["observedGeneration"] == generation


def test_cron_job_has_the_schedule_and_is_owned(flow: Flow) -> None:
    """The CronJob has Stash's name and the configuration's schedule, and goes with its owner."""
    owner = flow.cron_job["metadata"]["ownerReferences"][0]
    assert flow.cron_job["spec"]["schedule"] == "* * * * *"
    assert flow.cron_job["spec"].get("suspend", False) is False
    assert (owner["kind"], owner["name"]) == ("BackupConfiguration", "backup")
    assert owner["uid"] == flow.configuration["metadata"]["uid"]


def test_session_comes_from_the_slot(flow: Flow) -> None:
    """The CronJob's pod creates the session, named after the scheduled time, owned and labelled."""
    metadata = flow.running.session["metadata"]
    slot = int(metadata["name"].removeprefix("backup-"))
    assert slot % 60 == 0, "named after the slot, not after the moment of creation"
    owner = metadata["ownerReferences"][0]
    assert (owner["kind"], owner["name"]) == ("BackupConfiguration", "backup")
    assert metadata["labels"]["stash.appscode.com/invoker-name"] == "backup"
    assert metadata["labels"]["stash.appscode.com/backup-configuration"] == "backup"
    assert flow.running.session["spec"]["invoker"]["name"] == "backup"
    creators = {
        request.user
        for request in flow.audit.requests()
        if (request.verb, request.resource) == ("create", "backupsessions")
        and request.namespace == flow.space.name
    }
    account = flow.cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["serviceAccountName"]
    assert creators == {f"system:serviceaccount:{flow.space.name}:{account}"}


def test_task_and_functions_are_resolved(flow: Flow) -> None:
    """The Task becomes one container of our image; no variable is left in the pod."""
    spec = flow.running.job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert not spec.get("initContainers")
    assert container["name"] == "pvc-backup-0"
    assert container["args"] == ["backup", "--output-dir="]
    operator = flow.space.cluster.get("deployment", "drey", "drey")
    assert operator is not None
    images = {c["name"]: c["image"] for c in operator["spec"]["template"]["spec"]["containers"]}
    assert container["image"] == images["operator"]
    assert "${" not in json.dumps(spec)
    (document,) = [json.loads(e["value"]) for e in container["env"] if e["name"] == "DREY_INPUT"]
    assert document["backup"]["paths"] == ["/stash-data"]
    assert document["repository"]["bucket"] == flow.space.name


def test_volume_is_mounted_read_only(flow: Flow) -> None:
    """The source cannot be written to: the kernel says `ro`, in the runner's own namespace."""
    (volume,) = [
        v for v in flow.running.pod["spec"]["volumes"] if v["name"] == "stash-volume"
    ]  # fmt: skip
    assert volume["persistentVolumeClaim"]["claimName"] == "data"
    assert "ro" in flow.running.mount_options


def test_job_is_owned_labelled_and_restricted(flow: Flow) -> None:
    """The Job goes with its session, is never retried, and its pod has no token and no root."""
    job, pod = flow.running.job, flow.running.pod
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == (
        "BackupSession", flow.running.session["metadata"]["uid"],
    )  # fmt: skip
    assert job["spec"]["backoffLimit"] == 0
    assert job["metadata"]["labels"]["app.kubernetes.io/component"] == "stash-backup"
    assert job["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "stash.appscode.com"
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert not any("serviceAccountToken" in json.dumps(v) for v in pod["spec"]["volumes"])
    context = pod["spec"]["containers"][0]["securityContext"]
    assert context["readOnlyRootFilesystem"] is True
    assert context["runAsNonRoot"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_data_is_in_the_repository(flow: Flow, tmp_path: Path) -> None:
    """An independent restic restores the very bytes that are in the volume, tagged as ours."""
    assert flow.snapshot["hostname"] == "host-0"
    assert flow.snapshot["paths"] == ["/stash-data"]
    assert set(flow.snapshot["tags"]) == {
        f"drey:config={flow.space.name}/backup",
        f"drey:target=PersistentVolumeClaim/{flow.space.name}/data",
    }
    flow.space.restic("restore", "latest", f"--target={tmp_path}")
    here = flow.space.cluster.run(
        "sh", "-c", f"cd {tmp_path}/stash-data && find . -type f | sort | xargs sha256sum"
    ).stdout
    assert here == flow.checksums
    assert (tmp_path / "stash-data/docs/deep/link").readlink() == Path("../40.txt")


def test_session_metrics_are_in_the_pushgateway(flow: Flow) -> None:
    """Session, target and host metrics have Stash's names, current and legacy, and its labels."""
    session = {
        "invoker_kind": "BackupConfiguration",
        "invoker_name": "backup",
        "namespace": flow.space.name,
        "driver": "Restic",
        "repository": "repo",
    }
    target = {**session, "kind": "PersistentVolumeClaim", "group": "", "name": "data"}
    current, legacy = "stash_appscode_com_backupsession_", "stash_backup_"
    wanted: dict[str, dict[str, str]] = {
        current + "success": session,
        legacy + "session_success": session,
        current + "duration_seconds": session,
        legacy + "session_duration_seconds": session,
    }
    for prefix in (current, legacy):
        for name in ("target_count_total", "last_success_time_seconds"):
            wanted[prefix + name] = session
        wanted |= {prefix + name: target for name in TARGET_METRICS}
        wanted |= {prefix + name: {**target, "hostname": "host-0"} for name in HOST_METRICS}
    for name, labels in wanted.items():
        assert [found for found, _ in flow.metrics.get(name, ())] == [labels], name
    value = {name: samples[0][1] for name, samples in flow.metrics.items()}
    assert value[current + "success"] == 1
    assert value[current + "host_files_total"] == FILES
    assert value[current + "host_files_new"] == FILES
    assert value[current + "host_data_size_bytes"] > 1 << 20


def test_repository_metrics_are_in_the_pushgateway(flow: Flow) -> None:
    """Repository metrics bear the Repository's name, namespace and backend."""
    labels = {
        "invoker_kind": "BackupConfiguration",
        "invoker_name": "backup",
        "driver": "Restic",
        "repository": "repo",
        "name": "repo",
        "namespace": flow.space.name,
        "backend": "s3",
        "bucket": flow.space.name,
        "prefix": "repo",
    }
    for prefix in ("stash_appscode_com_repository_", "stash_repository_"):
        for name in REPOSITORY_METRICS:
            ((found, value),) = flow.metrics[prefix + name]
            assert found == labels, prefix + name
            assert value == {"integrity": 1, "snapshot_count": 1, "snapshot_cleaned": 0}.get(
                name, value
            ), name
    ((_, size),) = flow.metrics["stash_appscode_com_repository_size_bytes"]
    assert size > 1 << 20


def test_session_status_tells_the_result(flow: Flow) -> None:
    """The session's status has Stash's conditions, the snapshot's id and the numbers of files."""
    status = flow.session["status"]
    assert status["phase"] == "Succeeded"
    for kind in (
        "BackendRepositoryInitialized", "RetentionPolicyApplied", "RepositoryIntegrityVerified",
        "RepositoryMetricsPushed", "BackupHistoryCleaned", "MetricsPushed",
        "BackupExecutorEnsured",
    ):  # fmt: skip
        assert condition(flow.session, kind).get("status") == "True", (kind, status)
    (target,) = status["targets"]
    assert target["ref"]["name"] == "data"
    assert (target["phase"], target["totalHosts"]) == ("Succeeded", 1)
    (stat,) = target["stats"]
    assert (stat["hostname"], stat["phase"]) == ("host-0", "Succeeded")
    (snapshot,) = stat["snapshots"]
    assert snapshot["name"] == flow.snapshot["id"]
    assert snapshot["path"] == "/stash-data"
    assert snapshot["totalSize"].endswith(" MiB")
    assert snapshot["fileStats"] == {
        "totalFiles": FILES, "newFiles": FILES, "modifiedFiles": 0, "unmodifiedFiles": 0
    }  # fmt: skip
    assert status["sessionDuration"].endswith("s")


def test_repository_status_tells_the_state(flow: Flow) -> None:
    """The Repository shows integrity, size, number and time of the last backup, and who uses it."""
    status = flow.repository["status"]
    assert status["integrity"] is True
    assert status["totalSize"].endswith("iB")
    assert status["snapshotCount"] == 1
    assert status["snapshotsRemovedOnLastCleanup"] == 0
    assert status["lastBackupTime"] == flow.session["metadata"]["creationTimestamp"]
    (reference,) = status["references"]
    assert (reference["kind"], reference["name"]) == ("BackupConfiguration", "backup")
    restic = flow.space.restic("cat", "config")
    annotations = flow.repository["metadata"]["annotations"]
    assert annotations["drey.dev/repository-id"] == restic["id"]
