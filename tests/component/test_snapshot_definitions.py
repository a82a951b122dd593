"""The controller on a cluster without VolumeSnapshots, with them, and without them again.

The real controller as a process of its own, a real API server, and the real definitions of the
external-snapshotter; no driver.
"""

import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from controller.api.objects import dig
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    BACKUP_SESSION,
    CRD,
    CRON_JOB,
    JOB,
    NAMESPACE,
    PVC,
    REPOSITORY,
    SECRET,
    VOLUME_SNAPSHOT,
)
from controller.observe.informers import SNAPSHOT_CRD
from tests.support import apiserver as support
from tests.support.apiserver import ApiServer
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
HOME, DEMO = "drey-home", "demo"
READY_S, SOON_S = 120.0, 60.0
SERVED = "VolumeSnapshotsServed"


def eventually(condition: Callable[[], bool], timeout_s: float = SOON_S) -> None:
    """Wait until a condition holds."""
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at, "it never came true"
        time.sleep(0.05)


@dataclass
class Controller:
    """A running controller, seen from outside."""

    port: int
    log: Path

    def get(self, path: str) -> tuple[int, str]:
        """Return status and text of one of its pages, 0 while nobody listens."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}{path}", timeout=5.0
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def is_well(self) -> bool:
        """Tell whether it is ready and healthy."""
        return all(self.get(path)[0] == HTTPStatus.OK for path in ("/readyz", "/healthz"))

    def requests(self, kind: str = "", *, watches: bool = False) -> float:
        """Return how many requests it has sent, of one kind or of all."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            found = re.match(r'drey_api_requests_total\{.*kind="(\w+)".*verb="(\w+)"\} (.+)', line)
            if found and kind in ("", found[1]) and watches == (found[2] == "watch"):
                total += float(found[3])
        return total


@contextmanager
def running(server: ApiServer, folder: Path) -> Iterator[Controller]:
    """Run a controller as the leader that it always is, and end it in good order."""
    port = free_port()
    log = folder / "controller.log"
    argv = [
        "setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "controller",
        f"--kubeconfig={server.kubeconfig}", "--image=drey:test", f"--namespace={HOME}",
        f"--http-port={port}", "--no-leader-elect",
    ]  # fmt: skip
    with log.open("wb") as output:
        child = subprocess.Popen(argv, cwd=ROOT, stdout=output, stderr=output)
    try:
        yield Controller(port, log)
        child.terminate()
        assert child.wait(30.0) == 0
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        sys.stdout.write(log.read_text()[-4000:])


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    """Run an API server of the module's own: others must not meet these definitions."""
    with support.running() as running_server:
        running_server.install_crds()
        for name in (HOME, DEMO):
            running_server.apply(NAMESPACE.path("", name), _object("v1", "Namespace", name))
        target = _object("v1", "PersistentVolumeClaim", "data")
        target["spec"] = {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
        }  # fmt: skip
        running_server.apply(PVC.path(DEMO, "data"), target)
        bound = {"status": {"phase": "Bound"}}
        path = PVC.path(DEMO, "data", "status")
        answer = running_server.request(
            "PATCH", path, bound, content_type="application/merge-patch+json"
        )
        assert answer.status == HTTPStatus.OK, answer.text
        secret = {**_object("v1", "Secret", "storage"), "stringData": {"RESTIC_PASSWORD": "x"}}
        running_server.apply(SECRET.path(DEMO, "storage"), secret)
        repository = _object(REPOSITORY.api_version, "Repository", "repo")
        local = {"mountPath": "/repo", "nfs": {"server": "nfs", "path": "/"}}
        repository["spec"] = {"backend": {"storageSecretName": "storage", "local": local}}
        running_server.apply(REPOSITORY.path(DEMO, "repo"), repository)
        yield running_server


def _object(api_version: str, kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}}


def definitions() -> list[Path]:
    """Return the files of the definitions."""
    return sorted((support.bin_folder() / "crd").glob("*.yaml"))


def install(server: ApiServer) -> None:
    """Install the definitions as a user does."""
    for file in definitions():
        server.kubectl("apply", "--server-side", "-f", str(file))


def remove(server: ApiServer) -> None:
    """Remove the definition of VolumeSnapshots."""
    server.kubectl("delete", "crd", SNAPSHOT_CRD, "--wait=true")


def configure(server: ApiServer, name: str, **spec: Any) -> None:
    """Create a BackupConfiguration."""
    body = _object(BACKUP_CONFIGURATION.api_version, "BackupConfiguration", name)
    body["spec"] = {
        "schedule": "0 0 1 1 *",
        "retentionPolicy": {"name": "last", "keepLast": 5, "prune": True},
        "target": {"ref": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "data"}},
        **spec,
    }
    answer = server.apply(BACKUP_CONFIGURATION.path(DEMO, name), body)
    assert answer.status in (HTTPStatus.OK, HTTPStatus.CREATED), answer.text


def status_of(server: ApiServer, name: str) -> dict[str, Any]:
    """Return the status of a BackupConfiguration."""
    found = server.request("GET", BACKUP_CONFIGURATION.path(DEMO, name)).body
    return dict(dig(found, "status") or {})


def condition(server: ApiServer, name: str, kind: str, field: str = "status") -> str | None:
    """Return a field of a condition of a BackupConfiguration."""
    for entry in status_of(server, name).get("conditions") or ():
        if entry["type"] == kind:
            return str(entry[field])
    return None


def test_definitions_may_come_go_and_come_again(server: ApiServer, tmp_path: Path) -> None:
    """Flow A is served all the time; a configuration of flow B follows, each time within seconds.

    While the kind is absent nothing is asked for it, and health does not depend on it.
    """
    assert server.request("GET", CRD.path("", SNAPSHOT_CRD)).status == HTTPStatus.NOT_FOUND
    configure(server, "restic", task={"name": "pvc-backup"}, repository={"name": "repo"})
    configure(server, "snapshots", driver="VolumeSnapshotter")
    with running(server, tmp_path) as controller:

        def shows(status: str) -> bool:
            phase = {"True": "Ready", "False": "NotReady"}[status]
            return (
                condition(server, "snapshots", SERVED) == status
                and status_of(server, "snapshots")["phase"] == phase
            )

        def is_triggered(name: str) -> bool:
            path = CRON_JOB.path(DEMO, f"stash-trigger-{name}")
            return server.request("GET", path).status == HTTPStatus.OK

        eventually(controller.is_well, READY_S)
        eventually(lambda: status_of(server, "restic").get("phase") == "Ready")
        assert is_triggered("restic")
        session = _object(BACKUP_SESSION.api_version, "BackupSession", "first")
        invoker = {"apiGroup": BACKUP_CONFIGURATION.group, "kind": "BackupConfiguration"}
        session["spec"] = {"invoker": {**invoker, "name": "restic"}}
        server.apply(BACKUP_SESSION.path(DEMO, "first"), session)
        job = JOB.path(DEMO, "stash-backup-first-0")
        eventually(lambda: server.request("GET", job).status == HTTPStatus.OK)
        eventually(lambda: shows("False"))
        assert not is_triggered("snapshots")
        install_text = condition(server, "snapshots", SERVED, "message") or ""
        assert (
            'kubectl apply -k "https://github.com/kubernetes-csi/external-snapshotter/'
            'client/config/crd"'
        ) in install_text
        assert controller.requests("VolumeSnapshot") == 0
        assert controller.requests("VolumeSnapshot", watches=True) == 0

        for lists in (1, 2):
            install(server)
            eventually(lambda: shows("True"))
            assert is_triggered("snapshots")
            # a definition is there before its kind is served: what came too early was answered 404
            assert controller.requests("VolumeSnapshot") >= lists
            assert controller.is_well()
            remove(server)
            eventually(lambda: shows("False"))
            asked = controller.requests("VolumeSnapshot")
            watched = controller.requests("VolumeSnapshot", watches=True)
            time.sleep(5.0)
            assert controller.requests("VolumeSnapshot") == asked
            assert controller.requests("VolumeSnapshot", watches=True) == watched
            assert controller.is_well()
            assert status_of(server, "restic")["phase"] == "Ready"
        assert is_triggered("snapshots"), "the schedule stays: what is missing may come back"
        assert controller.log.read_text().count("resource_not_served") <= 2


def test_a_controller_that_is_not_served_a_kind_that_is_defined_starts(
    server: ApiServer, tmp_path: Path
) -> None:
    """A definition without our version is as good as none; flow A does not wait for it."""
    install(server)
    off = [
        {"op": "replace", "path": "/spec/versions/0/served", "value": False},
    ]
    answer = server.request(
        "PATCH", CRD.path("", SNAPSHOT_CRD), off, content_type="application/json-patch+json"
    )
    assert answer.status == HTTPStatus.OK, answer.text
    missing = HTTPStatus.NOT_FOUND
    eventually(lambda: server.request("GET", VOLUME_SNAPSHOT.path(DEMO)).status == missing)
    configure(server, "unserved", driver="VolumeSnapshotter")
    with running(server, tmp_path) as controller:
        eventually(controller.is_well, READY_S)
        eventually(lambda: condition(server, "unserved", SERVED) == "False")
        on = [{**off[0], "value": True}]
        server.request(
            "PATCH", CRD.path("", SNAPSHOT_CRD), on, content_type="application/json-patch+json"
        )
        eventually(lambda: condition(server, "unserved", SERVED) == "True", 180.0)
    remove(server)


def test_snapshots_that_are_there_at_the_start_are_known_before_anybody_asks(
    server: ApiServer, tmp_path: Path
) -> None:
    """With the definitions in place the first turn already sees them: no condition flaps."""
    install(server)
    served = HTTPStatus.OK
    eventually(lambda: server.request("GET", VOLUME_SNAPSHOT.path(DEMO)).status == served)
    configure(server, "later", driver="VolumeSnapshotter")
    seen: set[str | None] = set()
    with running(server, tmp_path) as controller:
        while not controller.is_well() or condition(server, "later", SERVED) is None:
            time.sleep(0.05)
        for _ in range(20):
            seen.add(condition(server, "later", SERVED))
            time.sleep(0.05)
        assert seen == {"True"}
        assert controller.requests("VolumeSnapshot") == 1
    remove(server)
