"""`runner snapshot` and `runner restore-snapshot` against a real API server with the real kinds."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from controller.api.creation import SESSION_NAME, SESSION_UID, CreationInput, NewObject
from controller.api.objects import labels_of, name_of
from controller.api.report import Reason, RunReport
from controller.api.report_parsing import parse_report
from controller.api.resources import NAMESPACE, PVC, ROLE_BINDING, SERVICE_ACCOUNT, VOLUME_SNAPSHOT
from controller.api.text import format_time
from tests.support import apiserver as support
from tests.support.apiserver import ApiServer
from tests.support.runner import ROOT
from tests.support.snapshot_orders import snapshot_document

COUNT = "count/volumesnapshots.snapshot.storage.k8s.io"
QUOTAS = "/api/v1/namespaces/{}/resourcequotas/few"


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    """Run an API server that this module may stop, with the real VolumeSnapshots and our roles."""
    with support.running() as running:
        running.install_snapshot_crds()
        rbac = (ROOT / "manifests" / "rbac.yaml").read_text()
        roles = "\n---\n".join(
            part for part in rbac.split("---\n") if "kind: ClusterRole\n" in part
        )
        running.kubectl("apply", "--server-side", "-f", "-", stdin=roles)
        yield running


@dataclass
class Space:
    """A namespace, and runners in it with a ServiceAccount of their own."""

    server: ApiServer
    folder: Path
    name: str = field(default_factory=lambda: f"creation-{uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        """Make the namespace and the ServiceAccount, without any right."""
        self.apply(NAMESPACE.path("", self.name), "v1", "Namespace", self.name)
        self.apply(SERVICE_ACCOUNT.path(self.name, "job"), "v1", "ServiceAccount", "job")
        path = SERVICE_ACCOUNT.path(self.name, "job", "token")
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token = self.server.request("POST", path, body).body["status"]["token"]
        whole = self.server.kubectl("config", "view", "--raw", "--flatten", "-o", "json")
        config = json.loads(whole)
        config["users"][0]["user"] = {"token": token}
        self.kubeconfig.write_text(json.dumps(config))

    @property
    def kubeconfig(self) -> Path:
        """Return the kubeconfig of the ServiceAccount."""
        return self.folder / "kubeconfig"

    @property
    def message(self) -> Path:
        """Return the termination message's file."""
        return self.folder / "termination-log"

    def apply(self, path: str, api_version: str, kind: str, name: str, **fields: Any) -> Any:
        """Apply an object."""
        whole = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **fields}
        answer = self.server.apply(path, whole)
        assert answer.status in (HTTPStatus.OK, HTTPStatus.CREATED), answer.text
        return answer.body

    def grant(self, role: str) -> None:
        """Bind one of our ClusterRoles to the ServiceAccount, as the controller does."""
        group = "rbac.authorization.k8s.io"
        self.apply(
            ROLE_BINDING.path(self.name, "job"),
            f"{group}/v1",
            "RoleBinding",
            "job",
            roleRef={"apiGroup": group, "kind": "ClusterRole", "name": role},
            subjects=[{"kind": "ServiceAccount", "name": "job", "namespace": self.name}],
        )

    def order(self, *claims: str, **changes: Any) -> CreationInput:
        """Return what the controller would tell a Job of a session of its own."""
        told = replace(snapshot_document(*claims), namespace=self.name, session_uid=str(uuid4()))
        return replace(told, **changes)

    def start(self, order: CreationInput, verb: str = "snapshot") -> "subprocess.Popen[str]":
        """Start a runner."""
        self.message.unlink(missing_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(self.kubeconfig),
            "DREY_INPUT": order.encode(),
            "DREY_TERMINATION_LOG": str(self.message),
        }
        argv = [sys.executable, "-m", "runner", verb]
        return subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)

    def finish(self, process: "subprocess.Popen[str]") -> "Run":
        """Wait for a runner."""
        try:
            text, _ = process.communicate(timeout=120)
        finally:
            process.kill()
        lines = [json.loads(line) for line in text.splitlines()]
        return Run(process.returncode, lines, parse_report(self.message.read_text()))

    def run(self, order: CreationInput, verb: str = "snapshot") -> "Run":
        """Run a runner."""
        return self.finish(self.start(order, verb))

    def snapshots(self) -> list[Any]:
        """Return the VolumeSnapshots."""
        items: list[Any] = self.server.request("GET", VOLUME_SNAPSHOT.path(self.name)).body["items"]
        return items


@dataclass
class Run:
    """A finished runner."""

    code: int
    log: list[dict[str, Any]]
    report: RunReport

    @property
    def counts(self) -> tuple[int, int, int]:
        """Return how many were created, existed, failed, as the log's summary says."""
        (line,) = (line for line in self.log if line["event"] == "objects_created")
        return line["created"], line["existed"], line["failed"]


@pytest.fixture
def space(server: ApiServer, tmp_path: Path) -> Space:
    """Make a namespace in which the runner may create VolumeSnapshots."""
    made = Space(server, tmp_path)
    made.grant("drey-snapshot")
    return made


def line_of(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """Return the next line of a runner's log."""
    assert process.stdout is not None
    line: dict[str, Any] = json.loads(process.stdout.readline())
    return line


def names_of(order: CreationInput, suffix: str = "") -> list[str]:
    """Return the names of an order's objects."""
    return sorted(f"{item.body['metadata']['name']}{suffix}" for item in order.objects)


def test_all_at_once_and_once(space: Space) -> None:
    """Twenty claims are twenty VolumeSnapshots with Stash's names; again nothing is created."""
    claims = [f"data-db-{number}" for number in range(20)]
    order = space.order(*claims)
    run = space.run(order)
    assert (run.code, run.report.hosts, run.counts) == (0, (), (20, 0, 0))
    made = space.snapshots()
    assert [name_of(item) for item in made] == names_of(order)
    for item in made:
        assert labels_of(item)[SESSION_UID] == order.session_uid
        assert item["metadata"]["annotations"][SESSION_NAME]
        assert "ownerReferences" not in item["metadata"]
        claim = item["spec"]["source"]["persistentVolumeClaimName"]
        assert name_of(item).rpartition("-")[0] == claim
        assert "volumeSnapshotClassName" not in item["spec"]
    run = space.run(order)
    assert (run.code, run.report.hosts, run.counts) == (0, (), (0, 20, 0))
    assert [item["metadata"]["uid"] for item in space.snapshots()] == [
        item["metadata"]["uid"] for item in made
    ]


def test_killed_in_the_middle(space: Space) -> None:
    """A runner that is killed between two requests leaves nothing that its successor does twice."""
    order = space.order(*(f"data-{number}" for number in range(200)))
    process = space.start(order)
    while len(space.snapshots()) < 20:
        assert process.poll() in (None, 0)  # it may be done before anybody has looked
    process.kill()
    process.communicate()
    there = {item["metadata"]["uid"] for item in space.snapshots()}
    run = space.run(order)
    assert (run.code, run.report.hosts) == (0, ())
    created, existed, _ = run.counts
    assert created + existed == 200
    assert existed >= len(there) >= 20
    assert [name_of(item) for item in space.snapshots()] == names_of(order)
    assert there <= {item["metadata"]["uid"] for item in space.snapshots()}


def test_two_sessions_in_one_second(space: Space) -> None:
    """The second session finds the names taken: its own get a suffix, the others stay."""
    first, second = space.order("a", "b"), space.order("a", "b", fallback_suffix="f00d")
    assert space.run(first).code == 0
    for counts in ((2, 0, 0), (0, 2, 0)):
        run = space.run(second)
        assert (run.code, run.counts) == (0, counts)
    owners = {name_of(item): labels_of(item)[SESSION_UID] for item in space.snapshots()}
    assert owners == {
        **dict.fromkeys(names_of(first), first.session_uid),
        **dict.fromkeys(names_of(second, "-f00d"), second.session_uid),
    }


def test_quota(space: Space) -> None:
    """What the quota allows is created; the rest is reported at once in the server's own words."""
    quota = {"hard": {COUNT: "2"}}
    path = QUOTAS.format(space.name)
    space.apply(path, "v1", "ResourceQuota", "few", spec=quota)
    used = {**quota, "used": {COUNT: "0"}}  # nobody counts here but the API server's own admission
    space.apply(f"{path}/status", "v1", "ResourceQuota", "few", status=used)
    order = space.order("a", "b", "c", "d", "e")
    began = time.monotonic()
    run = space.run(order)
    assert time.monotonic() - began < 30.0
    assert (run.code, run.counts) == (1, (2, 0, 3))
    made = {item["spec"]["source"]["persistentVolumeClaimName"] for item in space.snapshots()}
    assert {host.hostname for host in run.report.hosts} == set("abcde") - made
    for host in run.report.hosts:
        assert (host.succeeded, host.reason) == (False, Reason.CREATION_REFUSED)
        assert "exceeded quota: few, requested" in host.error
        assert "limited: " in host.error
        assert host.error.endswith("raise the ResourceQuota, or delete what is not needed")
    failed = [line for line in run.log if line["event"] == "host_failed"]
    assert sorted(line["hostname"] for line in failed) == sorted(set("abcde") - made)


def soon(seconds: float) -> str:
    """Return a deadline."""
    return format_time(datetime.fromtimestamp(time.time(), UTC) + timedelta(seconds=seconds))


def test_right_that_comes_late(server: ApiServer, tmp_path: Path) -> None:
    """A missing right is doubted: the RoleBinding may be as young as the Job."""
    space = Space(server, tmp_path)
    process = space.start(space.order("a"))
    told = line_of(process)
    assert (told["level"], told["event"]) == ("warning", "api_server_refuses")
    space.grant("drey-snapshot")
    assert space.finish(process).code == 0
    assert len(space.snapshots()) == 1


def test_missing_right(server: ApiServer, tmp_path: Path) -> None:
    """A right that does not come is told with who lacks what."""
    space = Space(server, tmp_path)
    run = space.run(space.order("a", "b", deadline=soon(15)))
    assert run.code == 1
    assert len(run.report.hosts) == 2
    for host in run.report.hosts:
        assert host.reason == Reason.CREATION_REFUSED
        assert f"system:serviceaccount:{space.name}:job" in host.error
        assert "RoleBinding" in host.error


def test_body_that_the_schema_refuses(space: Space) -> None:
    """What the API server calls invalid is reported at once, with the field; others are created."""
    order = space.order("a", "b")
    bad = NewObject("bad", {"metadata": {"name": "bad"}, "spec": {"source": {}}})
    run = space.run(replace(order, objects=(*order.objects, bad)))
    assert (run.code, run.counts) == (1, (2, 0, 1))
    (host,) = run.report.hosts
    assert (host.hostname, host.reason) == ("bad", Reason.CREATION_REFUSED)
    assert "spec.source" in host.error


def test_namespace_that_is_going(space: Space) -> None:
    """A namespace that is being deleted takes nothing any more, and nobody waits for it."""
    space.server.request("DELETE", NAMESPACE.path("", space.name))
    began = time.monotonic()
    run = space.run(space.order("a"))
    assert time.monotonic() - began < 30.0
    assert run.code == 1
    assert "being terminated" in run.report.hosts[0].error


def test_api_server_away(server: ApiServer, space: Space) -> None:
    """Requests that meet no API server are repeated until there is one."""
    order = space.order("a", "b", "c")
    server.stop(kill=True)
    try:
        process = space.start(order)
        told = line_of(process)
        assert (told["level"], told["event"]) == ("warning", "api_server_fails")
    finally:
        server.start()
    run = space.finish(process)
    assert (run.code, run.report.hosts) == (0, ())
    assert [name_of(item) for item in space.snapshots()] == names_of(order)


def test_api_server_killed_in_the_middle(server: ApiServer, space: Space) -> None:
    """Answers that were lost are no losses and no duplicates."""
    order = space.order(*(f"data-{number}" for number in range(300)))
    process = space.start(order)
    try:
        while len(space.snapshots()) < 20:
            assert process.poll() in (None, 0)
        server.stop(kill=True)
    finally:
        server.start()
    run = space.finish(process)
    assert (run.code, run.report.hosts) == (0, ())
    assert [name_of(item) for item in space.snapshots()] == names_of(order)


def test_told_to_stop(server: ApiServer, space: Space) -> None:
    """SIGTERM ends the wait at once; the report names what was not created."""
    server.stop(kill=True)
    try:
        process = space.start(space.order("a", "b"))
        line_of(process)
        began = time.monotonic()
        process.terminate()
        run = space.finish(process)
        assert time.monotonic() - began < 20.0
    finally:
        server.start()
    assert run.code == 130
    assert {host.hostname for host in run.report.hosts} == {"a", "b"}
    assert {host.reason for host in run.report.hosts} == {Reason.INTERRUPTED}


def test_deadline(server: ApiServer, space: Space) -> None:
    """An API server that stays away until `timeOut` is told with its last error."""
    server.stop(kill=True)
    try:
        run = space.run(space.order("a", deadline=soon(15)))
    finally:
        server.start()
    assert run.code == 1
    (host,) = run.report.hosts
    assert host.reason == Reason.DEADLINE_EXCEEDED
    assert "Unreachable" in host.error


def claims(space: Space, *names: str) -> CreationInput:
    """Return an order for claims."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return CreationInput(
        group=PVC.group,
        version=PVC.version,
        kind=PVC.kind,
        plural=PVC.plural,
        namespace=space.name,
        session_uid=str(uuid4()),
        common={"metadata": {"labels": {"app": "a"}}, "spec": spec},
        objects=tuple(
            NewObject(
                name,
                {
                    "metadata": {"name": name},
                    "spec": {
                        "dataSource": {
                            "apiGroup": "snapshot.storage.k8s.io",
                            "kind": "VolumeSnapshot",
                            "name": f"{name}-1",
                        }
                    },
                },
            )
            for name in names
        ),
    )


def test_claims(server: ApiServer, tmp_path: Path) -> None:
    """Claims are created with their source; a foreign one is left alone and named."""
    space = Space(server, tmp_path)
    space.grant("drey-restore")
    order = claims(space, "data-0", "data-1")
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}}
    path = PVC.path(space.name, "data-1")
    before = space.apply(path, "v1", "PersistentVolumeClaim", "data-1", spec=spec)
    for counts in ((1, 0, 1), (0, 1, 1)):
        run = space.run(order, "restore-snapshot")
        assert (run.code, run.counts) == (1, counts)
        (host,) = run.report.hosts
        assert (host.hostname, host.reason) == ("data-1", Reason.ALREADY_EXISTS)
        assert f"PersistentVolumeClaim {space.name}/data-1: data-1 exists already" in host.error
    made = server.request("GET", PVC.path(space.name, "data-0")).body
    assert made["spec"]["dataSource"]["name"] == "data-0-1"
    assert made["spec"]["resources"]["requests"] == {"storage": "1Gi"}
    assert labels_of(made) == {"app": "a", SESSION_UID: order.session_uid}
    assert server.request("GET", path).body == before


def test_input_is_missing(space: Space) -> None:
    """A Job that is told nonsense reports it."""
    order = space.order("a")
    environment = {
        "PATH": os.environ["PATH"],
        "DREY_INPUT": order.encode()[:-1],
        "DREY_TERMINATION_LOG": str(space.message),
    }
    done = subprocess.run(
        [sys.executable, "-m", "runner", "snapshot"], cwd=ROOT, env=environment, check=False,
        capture_output=True,
    )  # fmt: skip
    assert done.returncode == 1
    (host,) = parse_report(space.message.read_text()).hosts
    assert (host.hostname, host.reason) == ("", Reason.INPUT_INVALID)
