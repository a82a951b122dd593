"""Tasks of third parties: an ordinary image prepares, a step writes `output.json`, ours reports."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.audit import Audit
from tests.support.cluster import Space, condition
from tests.support.evidence import answers

BUSYBOX = "docker.io/library/busybox:1.36"
OUTPUT_DIR = "/stash-tmp/output"
SNAPSHOT = "0123456789abcdef" * 4
DUMP = {
    "name": SNAPSHOT, "path": "dump.sql", "totalSize": "36 B", "uploaded": "1.171 KiB",
    "processingTime": "0:01", "fileStats": {"totalFiles": 1, "newFiles": 1},
}  # fmt: skip
ASK = """
import pathlib, ssl, sys, urllib.error, urllib.request
place = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
trust = ssl.create_default_context(cafile=place / "ca.crt")
head = dict(Authorization="Bearer " + (place / "token").read_text())

def ask(name):
    where = "https://kubernetes.default.svc/api/v1/namespaces/${NAMESPACE}/secrets" + name
    try:
        found = urllib.request.urlopen(urllib.request.Request(where, headers=head), context=trust)
    except urllib.error.HTTPError as refused:
        return refused.code
    return found.read().decode()

assert "RESTIC_PASSWORD" in ask("/${REPOSITORY_SECRET_NAME}")
assert (ask("/other"), ask("")) == (403, 403)
"""
"""Reads the storage Secret through the API, and makes sure that it is the only one."""


class Catalogue:
    """Functions and Tasks of one test; they are cluster-wide, so their names are its own."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._made: list[tuple[str, str]] = []

    def function(self, word: str, script: str, *, mount: str = "") -> str:
        """Create a Function of an ordinary image, with the target's volume at `mount`."""
        spec: dict[str, Any] = {"image": BUSYBOX, "command": ["sh", "-c", f"set -eu\n{script}"]}
        if mount:
            spec["volumeMounts"] = [{"name": "target", "mountPath": mount}]
        return self._apply("Function", word, spec)

    def program(self, word: str, code: str) -> str:
        """Create a Function of a Python program: Drey's image with a command is not Drey's step."""
        operator = self._space.cluster.get("deployment", "drey", "drey")
        assert operator is not None
        (image,) = (
            container["image"]
            for container in operator["spec"]["template"]["spec"]["containers"]
            if container["name"] == "operator"
        )
        return self._apply("Function", word, {"image": image, "command": ["python3", "-c", code]})

    def task(self, word: str, *functions: str) -> str:
        """Create a Task of these steps; all are told the same output folder and volume."""
        params = [
            {"name": "outputDir", "value": OUTPUT_DIR},
            {"name": "targetVolume", "value": "target"},
        ]
        claim = {"name": "target", "persistentVolumeClaim": {"claimName": "${TARGET_NAME}"}}
        steps = [{"name": name, "params": params} for name in functions]
        return self._apply("Task", word, {"steps": steps, "volumes": [claim]})

    def remove(self) -> None:
        """Delete what was created."""
        for kind, name in self._made:
            self._space.cluster.kubectl("delete", kind, name, "--ignore-not-found")

    def _apply(self, kind: str, word: str, spec: dict[str, Any]) -> str:
        name = f"{self._space.name}-{word}"
        self._made.append((kind, name))
        document = {"apiVersion": "stash.appscode.com/v1beta1", "kind": kind}
        self._space.apply({**document, "metadata": {"name": name}, "spec": spec})
        return name


@pytest.fixture
def catalogue(space: Space) -> Iterator[Catalogue]:
    """Functions and Tasks that go with the test."""
    made = Catalogue(space)
    yield made
    made.remove()


@pytest.fixture
def filled(space: Space) -> Space:
    """A namespace with an application, its volume, and a backup by our own Task."""
    space.ready()
    space.exec("app", "echo hello > /data/hello; mkdir /data/dumps; chmod 0777 /data/dumps")
    space.back_up("ours")
    return space


def output(space: Space, **stat: Any) -> str:
    """Return a shell command that writes `output.json` as Stash's format has it."""
    ref = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": space.name,
        "name": "data",
    }
    conditions = [
        {"type": "DumpVerified", "status": "True", "reason": "Checked", "message": "It is whole."}
    ]
    document = {"targetStatus": {"ref": ref, "stats": [stat], "conditions": conditions}}
    text = json.dumps(document)
    return f"mkdir -p {OUTPUT_DIR}\ncat > {OUTPUT_DIR}/output.json <<'END'\n{text}\nEND\n"


def configure(space: Space, task: str) -> None:
    """Create a second configuration that uses a Task, in the same Repository."""
    space.apply(space.configuration("other", task={"name": task}))
    space.wait_phase("backupconfiguration", "other", "Ready")


def containers(space: Space, job: str) -> list[str]:
    """Return the names of the containers of a Job, in the order in which they run."""
    found = space.get("job", job)
    assert found is not None
    spec = found["spec"]["template"]["spec"]
    return [c["name"] for c in (*spec.get("initContainers", ()), *spec["containers"])]


def test_backup_prepared_by_an_ordinary_image(filled: Space, catalogue: Catalogue) -> None:
    """A script makes a dump in the volume, our step backs it up, `update-status` reports it."""
    dump = catalogue.function(
        "dump", "echo 'dump of ${TARGET_NAME}' > ${TARGET_MOUNT_PATH}/dumps/db.sql",
        mount="${TARGET_MOUNT_PATH}",
    )  # fmt: skip
    configure(filled, catalogue.task("backup", dump, "pvc-backup", "update-status"))
    session = filled.back_up("prepared", configuration="other")
    (stat,) = session["status"]["targets"][0]["stats"]
    (snapshot,) = stat["snapshots"]
    assert containers(filled, "stash-backup-prepared-0") == [
        f"{dump}-0"[:63], "pvc-backup-1", "update-status-2"
    ]  # fmt: skip
    text = filled.cluster.run(
        "restic", "dump", "--no-cache", "--no-lock", snapshot["name"], "/stash-data/dumps/db.sql",
        environment=filled.restic_environment(),
    ).stdout  # fmt: skip
    assert text == "dump of data\n"
    assert snapshot["fileStats"]["totalFiles"] == 2
    assert condition(session, "RetentionPolicyApplied")["status"] == "True"


def test_backup_reported_by_an_ordinary_image(filled: Space, catalogue: Catalogue) -> None:
    """What a foreign step writes into `output.json` is in the status, and decides the phase."""
    prepare = catalogue.function("prepare", "echo prepared > /stash-tmp/note")
    report = catalogue.function(
        "report",
        'test "$(cat /stash-tmp/note)" = prepared\n'
        + output(filled, hostname="db-0", phase="Succeeded", duration="3.98s", snapshots=[DUMP]),
    )
    configure(filled, catalogue.task("backup", prepare, report, "update-status"))
    session = filled.back_up("foreign", configuration="other")
    (target,) = session["status"]["targets"]
    (stat,) = target["stats"]
    assert (stat["hostname"], stat["phase"], stat["duration"]) == ("db-0", "Succeeded", "3.98s")
    (shown,) = stat["snapshots"]
    assert (shown["name"], shown["path"], shown["totalSize"]) == (SNAPSHOT, "dump.sql", "36 B")
    assert shown["fileStats"]["newFiles"] == 1
    assert condition(session, "DumpVerified")["message"] == "It is whole."


def test_backup_failed_by_an_ordinary_image(filled: Space, catalogue: Catalogue) -> None:
    """A foreign step that reports Failed fails the session with its own words."""
    report = catalogue.function(
        "report", output(filled, hostname="db-0", phase="Failed", error="the dump is cut off")
    )
    configure(filled, catalogue.task("backup", report, "update-status"))
    session = filled.back_up("foreign", "Failed", configuration="other")
    (stat,) = session["status"]["targets"][0]["stats"]
    assert stat["phase"] == "Failed"
    assert "the dump is cut off" in stat["error"]


def test_backup_whose_first_step_breaks(filled: Space, catalogue: Catalogue) -> None:
    """A script that exits with an error ends the session at once; the message names the step."""
    broken = catalogue.function("broken", "echo 'no space left' >&2; exit 7")
    configure(filled, catalogue.task("backup", broken, "pvc-backup", "update-status"))
    session = filled.back_up("broken", "Failed", configuration="other")
    (stat,) = session["status"]["targets"][0]["stats"]
    assert f"{broken}-0"[:63] in stat["error"]
    assert "7" in stat["error"]
    assert len(filled.restic("snapshots")) == 1, "nothing was backed up after the broken step"


def test_step_that_reads_the_storage_secret(filled: Space, catalogue: Catalogue) -> None:
    """A step that names the storage Secret may read this one, while its Job runs (D26)."""
    audit = Audit(filled.cluster.info["audit_log"])
    filled.apply(filled.secret("other"))
    ask = catalogue.program("ask", ASK)
    report = catalogue.function(
        "report", output(filled, hostname="db-0", phase="Succeeded", snapshots=[DUMP])
    )
    configure(filled, catalogue.task("backup", ask, report, "update-status"))
    filled.back_up("asking", configuration="other")
    user = f"system:serviceaccount:{filled.name}:backupconfiguration-other-0"
    assert answers(audit, "get", "secrets", filled, name="storage", user=user) == [200]
    assert answers(audit, "get", "secrets", filled, name="other", user=user) == [403]
    assert answers(audit, "list", "secrets", filled, user=user) == [403]
    job = "stash-backup-asking-0"
    for kind in ("roles", "rolebindings"):
        assert answers(audit, "create", kind, filled, name=job) == [201], kind
        assert answers(audit, "delete", kind, filled, name=job) == [200], kind
    left = filled.cluster.kubectl("get", "role,rolebinding", "-n", filled.name, "-o", "name")
    assert job not in left
    can = ("auth", "can-i", "get", "secret/storage", "-n", filled.name, "--as", user)
    assert filled.cluster.kubectl(*can, check=False).strip() == "no"


def test_restore_prepared_by_an_ordinary_image(filled: Space, catalogue: Catalogue) -> None:
    """A script deletes corrupted data, our step restores over it, `update-status` reports it."""
    filled.exec("app", "echo broken > /data/hello; echo broken > /data/dumps/corrupted")
    clean = catalogue.function("clean", "rm -r /volume/dumps/corrupted", mount="/volume")
    task = catalogue.task("restore", clean, "pvc-restore", "update-status")
    filled.apply(filled.restore(task={"name": task}, rules=[{"snapshots": ["latest"]}]))
    session = filled.wait_phase("restoresession", "restore", "Succeeded", "Failed", "Invalid")
    assert session["status"]["phase"] == "Succeeded", session["status"]
    assert containers(filled, "stash-restore-restore-0") == [
        f"{clean}-0"[:63], "pvc-restore-1", "update-status-2"
    ]  # fmt: skip
    assert filled.exec("app", "cat /data/hello; ls /data/dumps") == "hello\n"
    (stat,) = session["status"]["stats"]
    assert (stat["hostname"], stat["phase"]) == ("host-0", "Succeeded")


def test_restore_reported_by_an_ordinary_image(filled: Space, catalogue: Catalogue) -> None:
    """A foreign step restores by itself, and what it writes into `output.json` is in the status."""
    clean = catalogue.function("clean", "rm -r /volume/hello", mount="/volume")
    load = catalogue.function(
        "load",
        "echo loaded > /volume/hello\n"
        + output(filled, hostname="db-0", phase="Succeeded", duration="1.5s"),
        mount="/volume",
    )
    task = catalogue.task("restore", clean, load, "update-status")
    filled.apply(filled.restore(task={"name": task}))
    session = filled.wait_phase("restoresession", "restore", "Succeeded", "Failed", "Invalid")
    assert session["status"]["phase"] == "Succeeded", session["status"]
    assert filled.exec("app", "cat /data/hello") == "loaded\n"
    (stat,) = session["status"]["stats"]
    assert (stat["hostname"], stat["phase"], stat["duration"]) == ("db-0", "Succeeded", "1.5s")
