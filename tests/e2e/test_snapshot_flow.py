"""Flow B: one run by the schedule and one restore, and one test for each of their steps.

A StatefulSet of three replicas writes; each has a claim of its own and all share another. `Flow`
takes each step once, when it is first asked for; each test looks at one.
"""

import json
from functools import cached_property
from typing import Any

import pytest

from tests.support.audit import OPERATOR, Audit, Request
from tests.support.cluster import Space, condition
from tests.support.pushgateway import Samples, pushed
from tests.support.snapshots import (
    FINAL,
    SESSION_UID,
    SIZE,
    bound,
    claims,
    configuration,
    hosts,
    named,
    names,
    phases,
    ready,
    restored,
    rolled_out,
    snapshots,
    suffix,
    template,
    workload,
)

PODS = ("app-0", "app-1", "app-2")
OWN = tuple(f"data-{pod}" for pod in PODS)
CLAIMS = (*OWN, "common")
WRITES = """
echo start >> /data/log
i=0; while :; do i=$((i + 1)); echo $i >> /data/log; sleep 0.2 & wait $!; done
"""
FILL = "head -c 300000 /dev/urandom > /data/before; hostname > /data/name; sha256sum /data/before"
LATER = "echo later > /data/later; echo spoilt > /data/before; rm /data/name; cat /data/log"


class Flow:
    """The steps, each taken when it is first asked for, after those before it."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.audit = Audit(space.cluster.info["audit_log"])
        self.user = f"system:serviceaccount:{space.name}:backupconfiguration-backup-0"
        self.asked: list[Request] = []
        """What Drey asked about VolumeSnapshots until the end of the session."""
        self._snapshots: list[dict[str, Any]] = []

    @cached_property
    def checksums(self) -> dict[str, str]:
        """Start the application, fill its volumes and return the checksums, by pod."""
        self.space.apply(*claims(self.space, "common"), self._application())
        rolled_out(self.space, "statefulset")
        self.space.exec("app-0", "echo common > /common/file")
        return {pod: self.space.exec(pod, FILL) for pod in PODS}

    @cached_property
    def configuration(self) -> dict[str, Any]:
        """Create the configuration, each minute. Wait for Ready."""
        assert self.checksums
        ready(
            self.space,
            configuration(
                self.space, "StatefulSet", "app", schedule="* * * * *", backupHistoryLimit=3
            ),
        )
        return self._get("backupconfiguration", "backup")

    @cached_property
    def session(self) -> dict[str, Any]:
        """Wait for the slot's session and its end; keep further slots away."""
        assert self.configuration
        name = self.space.cluster.until(
            "a session of the schedule", self._first_session, timeout_s=150.0
        )
        self.space.cluster.kubectl(
            "patch", "backupconfiguration", "backup", "-n", self.space.name,
            "--type=merge", "-p", json.dumps({"spec": {"paused": True}}),
        )  # fmt: skip
        found = self.space.wait_phase("backupsession", name, *FINAL)
        self.asked = [
            request
            for request in self.audit.requests()
            if request.namespace == self.space.name
            and request.resource == "volumesnapshots"
            and request.user in (self.user, OPERATOR)
            and request.verb != "watch"
        ]
        self._snapshots = snapshots(self.space, found)
        return found

    @cached_property
    def job(self) -> dict[str, Any]:
        """Return the Job of the session."""
        return self._get("job", f"stash-vs-{self.session['metadata']['name']}")

    @property
    def snapshots(self) -> list[dict[str, Any]]:
        """Return the VolumeSnapshots of the session, as they were at its end."""
        assert self.session
        return self._snapshots

    @cached_property
    def destroyed(self) -> dict[str, str]:
        """Go on writing, then delete the application and its claims; return the last logs."""
        assert self.session["status"]["phase"] == "Succeeded", self.session["status"]
        logs = {pod: self.space.exec(pod, LATER) for pod in PODS}
        where = ("-n", self.space.name, "--timeout=60s")
        self.space.cluster.kubectl("delete", "statefulset", "app", "--cascade=foreground", *where)
        self.space.cluster.kubectl("delete", "pvc", *CLAIMS, *where)
        return logs

    @cached_property
    def restore(self) -> dict[str, Any]:
        """Restore all claims by one RestoreSession for the ordinals and one for the other."""
        assert self.destroyed
        number = suffix(self.session)
        ordinal = template(
            self.space, "data-app-${POD_ORDINAL}", f"data-app-${{POD_ORDINAL}}-{number}"
        )
        common = template(self.space, "common", f"common-{number}", size=SIZE)
        found = restored(self.space, ordinal, replicas=len(PODS))
        restored(self.space, common, name="common")
        return found

    @cached_property
    def logs(self) -> dict[str, str]:
        """Start the application on the restored claims; return what it had written, by pod."""
        assert self.restore["status"]["phase"] == "Succeeded", self.restore["status"]
        self.space.apply(self._application())
        rolled_out(self.space, "statefulset")
        return {pod: self.space.exec(pod, "cat /data/log") for pod in PODS}

    def metrics(self, group: str, wanted: str) -> Samples:
        """Return what was pushed for a session, once it is there."""

        def probe() -> Samples | None:
            found = pushed(self.space.cluster, group)
            return found if wanted in found else None

        found: Samples = self.space.cluster.until(wanted, probe, timeout_s=15.0)
        return found

    def _application(self) -> dict[str, Any]:
        return workload(
            self.space, "StatefulSet", claims=("common",), templates=("data",), replicas=3,
            script=WRITES,
        )  # fmt: skip

    def _first_session(self) -> str:
        sessions = self.space.list("backupsession")
        return str(sessions[0]["metadata"]["name"]) if sessions else ""

    def _get(self, kind: str, name: str) -> dict[str, Any]:
        found = self.space.get(kind, name)
        assert found is not None, f"{kind} {name}"
        return found


@pytest.fixture(scope="module")
def flow(shared_space: Space) -> Flow:
    """The one run that the tests of this module look at."""
    return Flow(shared_space)


def test_configuration_becomes_ready(flow: Flow) -> None:
    """A configuration without Repository and Task is Ready, and names the volume left alone."""
    for kind in ("ValidationPassed", "BackupTargetFound", "CronJobCreated"):
        assert condition(flow.configuration, kind).get("status") == "True", kind
    assert not condition(flow.configuration, "RepositoryFound")
    generation = flow.configuration["metadata"]["generation"]
    assert flow.configuration["status"]["observedGeneration"] == generation


def test_session_comes_from_the_slot(flow: Flow) -> None:
    """The CronJob's pod creates the session, named after the scheduled time."""
    metadata = flow.session["metadata"]
    cron_job = flow.space.get("cronjob", "stash-trigger-backup")
    assert cron_job is not None
    assert cron_job["spec"]["schedule"] == "* * * * *"
    assert int(metadata["name"].removeprefix("backup-")) % 60 == 0
    assert metadata["ownerReferences"][0]["name"] == "backup"
    assert metadata["labels"]["stash.appscode.com/invoker-name"] == "backup"


def test_job_is_owned_and_restricted(flow: Flow) -> None:
    """One container with a token, and without root, a Secret or a volume of the user's."""
    (owner,) = flow.job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("BackupSession", flow.session["metadata"]["uid"])
    spec = flow.job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert not spec.get("initContainers")
    assert spec["automountServiceAccountToken"] is True
    assert spec["serviceAccountName"] == "backupconfiguration-backup-0"
    assert not any(
        "secret" in volume or "persistentVolumeClaim" in volume
        for volume in spec.get("volumes") or ()
    )
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"] is True
    assert context["runAsNonRoot"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_identity_may_create_snapshots_only(flow: Flow) -> None:
    """The Job may create VolumeSnapshots in its namespace, and nothing else anywhere."""
    assert flow.session

    def may(*what: str) -> bool:
        text = flow.space.cluster.kubectl("auth", "can-i", *what, "--as", flow.user, check=False)
        return text.strip() == "yes"

    here = ("-n", flow.space.name)
    assert may("create", "volumesnapshots", *here)
    assert not may("create", "volumesnapshots", "-n", "default")
    for what in (
        ("delete", "volumesnapshots"), ("create", "persistentvolumeclaims"), ("get", "secrets"),
        ("get", "pods"), ("create", "backupsessions"),
    ):  # fmt: skip
        assert not may(*what, *here), what


def test_snapshots_have_the_exact_names(flow: Flow) -> None:
    """One VolumeSnapshot of each claim, `<claim>-<Unix seconds of the session's creation>`."""
    assert names(flow.snapshots) == named(flow.session, *CLAIMS)
    for found in flow.snapshots:
        claim = found["spec"]["source"]["persistentVolumeClaimName"]
        assert found["metadata"]["name"] == f"{claim}-{suffix(flow.session)}"


def test_snapshots_are_created_by_the_job_at_once(flow: Flow) -> None:
    """The Job creates each once and waits for nothing; nobody of ours asks for one again."""
    assert flow.session
    assert {(r.verb, r.user, r.code) for r in flow.asked} == {("create", flow.user, 201)}
    assert sorted(request.name for request in flow.asked) == named(flow.session, *CLAIMS)
    begun = [request.begun_s for request in flow.asked]
    assert max(begun) - min(begun) < 2.0


def test_snapshots_outlive_their_session(flow: Flow) -> None:
    """A VolumeSnapshot has our labels, the session's uid, and no owner that would take it along."""
    for found in flow.snapshots:
        metadata = found["metadata"]
        assert not metadata.get("ownerReferences")
        assert metadata["labels"][SESSION_UID] == flow.session["metadata"]["uid"]
        assert metadata["labels"]["drey.dev/created-by"] == "drey"
        assert metadata["labels"]["stash.appscode.com/invoker-name"] == "backup"


def test_class_is_left_to_the_cluster(flow: Flow) -> None:
    """Without snapshotClassName the field is not sent: the default class was filled in later."""
    for found in flow.snapshots:
        name = found["metadata"]["name"]
        assert found["spec"]["volumeSnapshotClassName"] == "csi-btrfs", name
        raw = flow.space.cluster.kubectl(
            "get", "volumesnapshot", name, "-n", flow.space.name, "-o", "json",
            "--show-managed-fields",
        )  # fmt: skip
        setters = [
            entry["manager"]
            for entry in json.loads(raw)["metadata"]["managedFields"]
            if "f:volumeSnapshotClassName" in json.dumps(entry["fieldsV1"])
        ]
        assert setters == ["snapshot-controller"], name


def test_snapshots_are_ready(flow: Flow) -> None:
    """The session is Succeeded only now that every snapshot is ready to use."""
    assert flow.session["status"]["phase"] == "Succeeded", flow.session["status"]
    assert all(found["status"]["readyToUse"] for found in flow.snapshots)


def test_session_status_has_a_host_for_each_claim(flow: Flow) -> None:
    """Stash's shape: hosts are claims, with a duration each; no actions, no restic snapshots."""
    status = flow.session["status"]
    (target,) = status["targets"]
    assert target["ref"]["kind"] == "StatefulSet"
    assert (target["totalHosts"], target["phase"]) == (len(CLAIMS), "Succeeded")
    assert phases(flow.session) == dict.fromkeys(CLAIMS, "Succeeded")
    for stat in target["stats"]:
        assert stat["duration"].endswith("s")
        assert not stat.get("snapshots")
    assert not target.get("preBackupActions")
    assert not target.get("postBackupActions")
    for kind in ("BackupHistoryCleaned", "MetricsPushed", "BackupExecutorEnsured"):
        assert condition(flow.session, kind).get("status") == "True", kind
    assert not condition(flow.session, "BackendRepositoryInitialized")


def test_volume_that_is_no_claim_is_named(flow: Flow) -> None:
    """The emptyDir of the pods is left alone, and the session says so."""
    found = condition(flow.session, "VolumesLeftOut")
    assert "cache (emptyDir)" in found.get("message", ""), flow.session["status"]


def test_session_has_one_event(flow: Flow) -> None:
    """One summary for each session, however many snapshots it took."""
    name = flow.session["metadata"]["name"]

    def events() -> list[dict[str, Any]]:
        return [
            event
            for event in flow.space.list("event")
            if event["involvedObject"].get("kind") == "BackupSession"
            and event["involvedObject"].get("name") == name
        ]

    (event,) = flow.space.cluster.until("the Event of the session", events, timeout_s=15.0)
    assert event["type"] == "Normal"


def test_session_metrics_are_in_the_pushgateway(flow: Flow) -> None:
    """Stash's names, both prefixes, the driver, and a host for each claim."""
    assert flow.session
    group = f"backupconfiguration-{flow.space.name}-backup"
    current, legacy = "stash_appscode_com_backupsession_", "stash_backup_"
    found = flow.metrics(group, current + "success")
    ((labels, value),) = found[current + "success"]
    assert value == 1
    assert (labels["driver"], labels["invoker_name"]) == ("VolumeSnapshotter", "backup")
    assert [value for _, value in found[legacy + "session_success"]] == [1]
    for prefix in (current, legacy):
        by_host = {labels["hostname"]: v for labels, v in found[prefix + "host_backup_success"]}
        assert by_host == dict.fromkeys(CLAIMS, 1)
    assert not any("repository" in labels for samples in found.values() for labels, _ in samples)


def test_restore_session_succeeds(flow: Flow) -> None:
    """One RestoreSession restores all ordinals: a host for each claim, Succeeded once bound."""
    status = flow.restore["status"]
    assert status["phase"] == "Succeeded", status
    assert status["totalHosts"] == len(OWN)
    assert phases(flow.restore) == dict.fromkeys(OWN, "Succeeded")
    assert all(stat["duration"].endswith("s") for stat in hosts(flow.restore).values())
    for kind in ("ValidationPassed", "RestoreExecutorEnsured", "MetricsPushed"):
        assert condition(flow.restore, kind).get("status") == "True", (kind, status)


def test_restore_job_is_owned(flow: Flow) -> None:
    """The Job that creates the claims goes with the session, and has an identity of its own."""
    assert flow.restore
    job = flow.space.get("job", "stash-vs-restore-restore")
    assert job is not None
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("RestoreSession", "restore")
    account = job["spec"]["template"]["spec"]["serviceAccountName"]
    assert account == "restoresession-restore-0"
    user = f"system:serviceaccount:{flow.space.name}:{account}"
    created = [
        request
        for request in flow.audit.requests()
        if (request.user, request.verb) == (user, "create") and request.code == 201
    ]
    assert [request.resource for request in created] == ["persistentvolumeclaims"] * len(OWN)


def test_restored_claims_come_from_the_snapshots(flow: Flow) -> None:
    """Each claim has its VolumeSnapshot as dataSource, its size, and no owner."""
    assert flow.restore
    bound(flow.space, *OWN)
    for claim in OWN:
        found = flow.space.get("pvc", claim)
        assert found is not None
        source = found["spec"]["dataSource"]
        assert (source["kind"], source["name"]) == (
            "VolumeSnapshot", f"{claim}-{suffix(flow.session)}"
        )  # fmt: skip
        assert found["status"]["capacity"]["storage"] == SIZE
        assert found["spec"]["resources"]["requests"]["storage"], "that of the snapshot"
        assert not found["metadata"].get("ownerReferences")
        assert found["metadata"]["labels"][SESSION_UID] == flow.restore["metadata"]["uid"]


def test_application_starts_with_the_data_as_of_the_snapshot(flow: Flow) -> None:
    """What was written before is there, byte for byte; what came later is not."""
    assert flow.logs
    for pod in PODS:
        assert flow.space.exec(pod, "sha256sum /data/before") == flow.checksums[pod]
        assert flow.space.exec(pod, "cat /data/name") == f"{pod}\n", "each has its own"
        assert flow.space.exec(pod, "ls /data").split() == ["before", "log", "name"]
    assert flow.space.exec("app-2", "cat /common/file") == "common\n"


def test_log_is_cut_at_the_snapshot(flow: Flow) -> None:
    """A file that was being written is as it was at one moment: a beginning of the last one."""
    for pod in PODS:
        kept, _, _ = flow.logs[pod].removeprefix("start\n").partition("start\n")
        last = flow.destroyed[pod].removeprefix("start\n")
        assert kept
        assert last.startswith(kept)
        assert len(kept) < len(last)


def test_restore_metrics_are_in_the_pushgateway(flow: Flow) -> None:
    """The restore has a host for each claim, in both prefixes."""
    assert flow.restore
    group = f"restoresession-{flow.space.name}-restore"
    found = flow.metrics(group, "stash_appscode_com_restoresession_success")
    for prefix in ("stash_appscode_com_restoresession_", "stash_restore_"):
        by_host = {
            labels["hostname"]: value for labels, value in found[prefix + "host_restore_success"]
        }
        assert by_host == dict.fromkeys(OWN, 1)


def test_restore_leaves_the_snapshots_alone(flow: Flow) -> None:
    """A snapshot can be restored again: all are there, and none was made anew."""
    assert flow.restore
    before = {found["metadata"]["uid"] for found in flow.snapshots}
    assert len(before) == len(CLAIMS)
    assert {found["metadata"]["uid"] for found in snapshots(flow.space)} == before


def test_get_shows_what_has_a_meaning_here(flow: Flow) -> None:
    """`kubectl get` of the three kinds: every column is filled, but for Task and Repository."""
    assert flow.restore
    session = flow.session["metadata"]["name"]
    kinds = ("backupconfiguration", "backupsession", "restoresession")
    where = ("-n", flow.space.name)
    rows: dict[str, dict[str, str]] = {}
    for kind in kinds:
        heading, *lines = flow.space.cluster.kubectl("get", kind, *where).splitlines()
        names_of_columns = heading.split()
        starts = [heading.index(name) for name in names_of_columns]
        for line in lines:
            cells = [
                line[start:end].strip()
                for start, end in zip(starts, [*starts[1:], None], strict=True)
            ]
            row = dict(zip(names_of_columns, cells, strict=True))
            assert row.pop("AGE")
            rows[f"{kind}/{row.pop('NAME')}"] = row
    assert rows["backupconfiguration/backup"] == {
        "TASK": "", "SCHEDULE": "* * * * *", "PAUSED": "true", "PHASE": "Ready"
    }  # fmt: skip
    took = rows[f"backupsession/{session}"].pop("DURATION")
    assert took == flow.session["status"]["sessionDuration"]
    assert rows[f"backupsession/{session}"] == {
        "INVOKER-TYPE": "BackupConfiguration", "INVOKER-NAME": "backup", "PHASE": "Succeeded"
    }  # fmt: skip
    for name in ("restore", "common"):
        assert rows[f"restoresession/{name}"].pop("DURATION").endswith("s")
        assert rows[f"restoresession/{name}"] == {"REPOSITORY": "", "PHASE": "Succeeded"}
    together = flow.space.cluster.kubectl("get", ",".join(kinds), *where)
    assert all(f".stash.appscode.com/{name.partition('/')[2]} " in together for name in rows)
