"""Bad input: what is wrong is said with object, path and fix, and mending it is all it takes."""

from functools import partial
from typing import Any

import pytest

from tests.support.audit import Audit
from tests.support.cluster import Cluster, Space, condition
from tests.support.evidence import (
    answers,
    backend_folder,
    ended,
    failure_of,
    job_of,
    restic_exits,
    says,
    snapshots,
)


@pytest.fixture
def audit(cluster: Cluster) -> Audit:
    """The API server's audit log from the beginning of the test on."""
    return Audit(cluster.info["audit_log"])


def bound(space: Space, *objects: dict[str, Any]) -> None:
    """Apply a claim, and the objects once it is bound: no pod has to use it for that."""
    space.apply(space.pvc())
    space.wait_phase("pvc", "data", "Bound")
    space.apply(*objects)


def wait_phase(space: Space, phase: str, *, name: str = "backup") -> dict[str, Any]:
    """Return the configuration once it has seen its own spec and is in a phase."""

    def probe() -> dict[str, Any]:
        found = space.get("backupconfiguration", name) or {}
        status = found.get("status") or {}
        current = status.get("observedGeneration") == found["metadata"]["generation"]
        return found if current and status.get("phase") == phase else {}

    found: dict[str, Any] = space.cluster.until(f"phase {phase}", probe, timeout_s=45.0)
    return found


def assert_idle(space: Space) -> None:
    """Nothing was made that could run: no CronJob, no Job."""
    assert [space.list("cronjob"), space.list("job")] == [[], []]


def function(name: str, *, image: str = "docker.io/library/busybox:1.36", **spec: Any) -> Any:
    """Return a Function."""
    return {
        "apiVersion": "stash.appscode.com/v1beta1",
        "kind": "Function",
        "metadata": {"name": name},
        "spec": {"image": image, **spec},
    }


def task(space: Space, name: str, *functions: str) -> dict[str, Any]:
    """Return a Task of some Functions before the step of our own pvc-backup."""
    own = (space.cluster.get("task", "pvc-backup") or {})["spec"]
    return {
        "apiVersion": "stash.appscode.com/v1beta1",
        "kind": "Task",
        "metadata": {"name": name},
        "spec": {**own, "steps": [*({"name": item} for item in functions), *own["steps"]]},
    }


def test_missing_secret(space: Space, audit: Audit) -> None:
    """Without its storage Secret nothing is scheduled; the Secret's arrival is enough."""
    bound(space, space.repository(), space.configuration())
    found = wait_phase(space, "NotReady")
    words = [f"{space.name}/storage", "storageSecretName", "Create it"]
    says(found, "BackendSecretFound", "False", words)
    assert 404 in answers(audit, "get", "secrets", space, name="storage")
    assert_idle(space)
    space.apply(space.secret())
    wait_phase(space, "Ready")
    space.back_up("first")


def test_missing_password(space: Space) -> None:
    """A Secret without RESTIC_PASSWORD, or with an empty one, is refused before any Job."""
    bound(space, space.repository(), space.secret(RESTIC_PASSWORD=None), space.configuration())
    found = wait_phase(space, "NotReady")
    says(found, "BackendSecretFound", "False", [f"{space.name}/storage", "RESTIC_PASSWORD", "add"])
    assert "RESTIC_PASSWORD" not in (space.get("secret", "storage") or {})["data"]
    assert_idle(space)
    space.apply(space.secret(RESTIC_PASSWORD=""))

    def says_empty() -> bool:
        found = space.get("backupconfiguration", "backup") or {}
        return "empty RESTIC_PASSWORD" in str(found["status"]["conditions"])

    space.cluster.until("the empty password", says_empty, timeout_s=30.0)
    space.apply(space.secret())
    wait_phase(space, "Ready")
    space.back_up("first")


def test_password_with_newline(space: Space) -> None:
    """A password counts byte for byte, a trailing newline included: `echo` makes such Secrets."""
    plain = space.password
    space.password = plain + "\n"
    bound(space, space.repository(), space.secret(), space.configuration())
    wait_phase(space, "Ready")
    space.back_up("first")
    assert len(snapshots(space)) == 1
    space.password = plain
    with pytest.raises(AssertionError, match="exited with 12"):
        snapshots(space)


def test_wrong_password(space: Space) -> None:
    """A changed password fails the session by name, touches nothing, and can be put back."""
    bound(space, space.repository(), space.secret(), space.configuration())
    wait_phase(space, "Ready")
    space.back_up("first")
    space.apply(space.secret(RESTIC_PASSWORD=space.password + "x"))
    failed = space.back_up("second", "Failed")
    error = failure_of(failed)
    says(failed, "BackupFailed", "True", ["WrongPassword"])
    assert error.startswith("WrongPassword: "), error
    for word in (f"Repository {space.name}/repo", "RESTIC_PASSWORD", f"{space.name}/storage"):
        assert word in error
    assert restic_exits(space, job_of("second")) == {"backup": 12}
    assert ended(space, job_of("second"))["exitCode"] == 1
    space.apply(space.secret())
    space.back_up("third")
    assert len(snapshots(space)) == 2


def test_missing_repository(space: Space, audit: Audit) -> None:
    """A configuration may come before its Repository."""
    bound(space, space.secret(), space.configuration())
    found = wait_phase(space, "NotReady")
    words = [f"Repository {space.name}/repo", "Create it", "spec.repository.name"]
    says(found, "RepositoryFound", "False", words)
    assert 404 in answers(audit, "get", "repositories", space, name="repo")
    skipped = space.back_up("early", "Skipped")
    says(skipped, "BackupSkipped", "True", [f"{space.name}/backup is not ready", *words])
    assert_idle(space)
    space.apply(space.repository())
    wait_phase(space, "Ready")
    space.back_up("first")


def test_missing_claim(space: Space, audit: Audit) -> None:
    """A configuration may come before its claim."""
    space.apply(space.secret(), space.repository(), space.configuration())
    found = wait_phase(space, "NotReady")
    words = [f"PersistentVolumeClaim {space.name}/data", "Create it", "spec.target.ref"]
    says(found, "BackupTargetFound", "False", words)
    assert 404 in answers(audit, "get", "persistentvolumeclaims", space, name="data")
    assert_idle(space)
    space.apply(space.pvc())
    wait_phase(space, "Ready")
    space.back_up("first")


def test_unbound_claim(space: Space) -> None:
    """A claim that waits for its first consumer is no source: it would be empty."""
    claim = space.pvc()
    claim["spec"]["storageClassName"] = space.cluster.info["storage"]["storage_class"]
    space.apply(space.secret(), space.repository(), claim, space.configuration())
    found = wait_phase(space, "NotReady")
    words = [f"PersistentVolumeClaim {space.name}/data", "Pending", "start a pod"]
    says(found, "BackupTargetFound", "False", words)
    assert (space.get("pvc", "data") or {})["status"]["phase"] == "Pending"
    assert_idle(space)
    space.apply(space.pod())
    wait_phase(space, "Ready")
    space.back_up("first")


def test_invalid_schedule(space: Space, audit: Audit) -> None:
    """A cron expression that Kubernetes refuses is shown in its words, with the field."""
    bound(space, space.secret(), space.repository(), space.configuration(schedule="every day"))
    found = wait_phase(space, "NotReady")
    says(found, "CronJobCreated", "False", ["spec.schedule", "every day"])
    assert 422 in answers(audit, "patch", "cronjobs", space)
    assert_idle(space)
    space.apply(space.configuration())
    wait_phase(space, "Ready")
    space.back_up("first")


def test_unknown_task(space: Space, audit: Audit) -> None:
    """A Task that does not exist makes the configuration Invalid until it does."""
    name = f"{space.name}-task"
    wrong = space.configuration(task={"name": name})
    bound(space, space.secret(), space.repository(), wrong)
    found = wait_phase(space, "Invalid")
    words = ["spec.task.name", f"Task {name} does not exist", "kubectl get tasks"]
    says(found, "ValidationPassed", "False", words)
    assert 404 in answers(audit, "get", "tasks", space, name=name)
    assert_idle(space)
    try:
        space.apply(task(space, name))
        wait_phase(space, "Ready")
        space.back_up("first")
    finally:
        space.cluster.kubectl("delete", "task", name)


def test_unknown_function(space: Space, audit: Audit) -> None:
    """A step whose Function does not exist makes the configuration Invalid until it does."""
    name = f"{space.name}-step"
    try:
        space.apply(task(space, name, name))
        wrong = space.configuration(task={"name": name})
        bound(space, space.secret(), space.repository(), wrong)
        found = wait_phase(space, "Invalid")
        words = [f"Task {name} spec.steps[0].name", f"Function {name} does not exist"]
        says(found, "ValidationPassed", "False", words)
        assert 404 in answers(audit, "get", "functions", space, name=name)
        assert_idle(space)
        space.apply(function(name, command=["true"]))
        wait_phase(space, "Ready")
        space.back_up("first")
    finally:
        space.cluster.kubectl("delete", "task,function", name, "--ignore-not-found")


def test_variable_without_value(space: Space) -> None:
    """A variable without value and default fails the session before any pod, with its place.

    A param of the configuration gives it a value; a quote and a newline in it arrive as they are.
    """
    name = f"{space.name}-word"
    nasty = 'it\'s "quoted"\nand ${NOT_EXPANDED} }'
    try:
        space.apply(
            function(name, command=["printf", "%s"], args=["${GREETING}"]),
            task(space, name, name),
        )
        wrong = space.configuration(task={"name": name})
        bound(space, space.secret(), space.repository(), wrong)
        wait_phase(space, "Ready")
        failed = space.back_up("first", "Failed")
        words = [f"Function {name} spec.args[0]", "GREETING", "add a param"]
        says(failed, "BackupExecutorEnsured", "False", words)
        assert space.list("job") == []
        params = [{"name": "GREETING", "value": nasty}]
        space.apply(space.configuration(task={"name": name, "params": params}))
        wait_phase(space, "Ready")
        space.back_up("second")
        said = ("logs", "-n", space.name, f"job/{job_of('second')}", "-c", f"{name}-0")
        assert space.cluster.kubectl(*said) == nasty
    finally:
        space.cluster.kubectl("delete", "task,function", name, "--ignore-not-found")


def test_identity_param(space: Space) -> None:
    """A param cannot redirect a Task to another target or repository."""
    params = [{"name": "TARGET_NAME", "value": "other"}]
    wrong = space.configuration(task={"name": "pvc-backup", "params": params})
    bound(space, space.secret(), space.repository(), wrong)
    wait_phase(space, "Ready")
    failed = space.back_up("first", "Failed")
    words = [f"{space.name}/backup spec.task.params[0].name", "TARGET_NAME", "remove the param"]
    says(failed, "BackupExecutorEnsured", "False", words)
    assert space.list("job") == []
    space.apply(space.configuration())
    wait_phase(space, "Ready")
    space.back_up("second")


@pytest.mark.parametrize("flag", ["--password-command=id", "--repo=/elsewhere"])
def test_forbidden_flag(space: Space, flag: str) -> None:
    """A flag that could run commands, read files or change the repository never reaches restic."""
    bound(space, space.secret(), space.repository(), space.configuration(target={"args": [flag]}))
    found = wait_phase(space, "Invalid")
    words = ["spec.target.args", flag.partition("=")[0], "is not allowed for restic backup"]
    says(found, "ValidationPassed", "False", words)
    assert_idle(space)
    assert not backend_folder(space).exists()
    space.apply(space.configuration())
    wait_phase(space, "Ready")
    space.back_up("first")


def test_two_backends(space: Space) -> None:
    """A Repository with two backends is no place: nobody may guess which one is meant."""
    wrong = space.repository()
    wrong["spec"]["backend"]["rest"] = {"url": "http://rest.drey.test:8000/x"}
    bound(space, space.secret(), wrong, space.configuration())
    found = wait_phase(space, "Invalid")
    words = ["Repository repo spec.backend", "exactly one backend", "s3, rest"]
    says(found, "ValidationPassed", "False", words)
    assert_idle(space)
    space.cluster.kubectl(
        *("patch", "repository", "repo", "-n", space.name, "--type=json"),
        *("-p", '[{"op": "remove", "path": "/spec/backend/rest"}]'),
    )
    wait_phase(space, "Ready")
    space.back_up("first")


def test_repository_of_another_namespace(space: Space) -> None:
    """A Repository of another namespace is Invalid, whether or not it exists (D24)."""
    elsewhere = {"name": "repo", "namespace": "default"}
    wrong = space.configuration()
    wrong["spec"]["repository"] = elsewhere
    bound(space, space.secret(), space.repository(), wrong)
    found = wait_phase(space, "Invalid")
    words = ["spec.repository.namespace", "default", f"create one in {space.name}"]
    says(found, "ValidationPassed", "False", words)
    assert_idle(space)
    space.apply(space.configuration())
    wait_phase(space, "Ready")
    space.back_up("first")


def test_unknown_snapshot(space: Space) -> None:
    """A restore of a snapshot that is not there fails by name and touches nothing."""
    space.ready()
    space.exec("app", "echo precious > /data/file; sync")
    done = space.back_up("first")
    space.exec("app", "echo changed > /data/file; sync")
    wanted = "0123456789abcdef" * 4
    space.apply(space.restore("wrong", rules=[{"snapshots": [wanted]}]))
    failed = space.wait_phase("restoresession", "wrong", "Failed")
    error = failure_of(failed)
    says(failed, "RestoreFailed", "True", ["SnapshotNotFound"])
    assert error.startswith("SnapshotNotFound: "), error
    assert wanted in error
    assert f"{space.name}/repo" in error
    assert restic_exits(space, "stash-restore-wrong-0") == {"snapshots": 0}
    assert ended(space, "stash-restore-wrong-0")["exitCode"] == 1
    assert space.exec("app", "cat /data/file").strip() == "changed"
    snapshot = done["status"]["targets"][0]["stats"][0]["snapshots"][0]["name"]
    space.apply(space.restore("right", rules=[{"snapshots": [snapshot]}]))
    space.wait_phase("restoresession", "right", "Succeeded")
    assert space.exec("app", "cat /data/file").strip() == "precious"


def test_restore_before_what_it_needs(space: Space) -> None:
    """A restore waits for what it names, says for what, and goes on by itself."""
    space.ready()
    space.exec("app", "echo precious > /data/file; sync")
    space.back_up("first")
    for kind, name in (("secret", "storage"), ("repository", "repo")):
        space.cluster.kubectl("delete", kind, name, "-n", space.name)
    space.apply(space.restore(claim="other"))
    for wait, mended in (
        ("RepositoryFound", space.repository()),
        ("BackendSecretFound", space.secret()),
        ("RestoreTargetFound", space.pvc("other")),
    ):
        held = space.cluster.until(wait, partial(held_by, space, wait), timeout_s=30.0)
        assert held["status"]["phase"] == "Pending"
        says(held, wait, "False", [f"{space.name}/{mended['metadata']['name']}", "Create it"])
        assert space.get("job", "stash-restore-restore-0") is None
        space.apply(mended)
    space.wait_phase("restoresession", "restore", "Succeeded")
    space.apply(space.pod("reader", claim="other"))
    space.wait_pod("reader")
    assert space.exec("reader", "cat /data/file").strip() == "precious"


def held_by(space: Space, kind: str) -> dict[str, Any]:
    """Return the restore once a condition of it is False."""
    found = space.get("restoresession", "restore") or {}
    return found if condition(found, kind).get("status") == "False" else {}


def test_unreadable_file(space: Space) -> None:
    """An unreadable file fails the session, keeps the snapshot, names the file (exit 3, D5)."""
    space.ready()
    space.exec("app", "echo a > /data/open; echo b > /data/closed; chmod 600 /data/closed; sync")
    failed = space.back_up("first", "Failed")
    stats = failed["status"]["targets"][0]["stats"][0]
    assert stats["error"].startswith("BackupIncomplete: "), stats
    assert "/stash-data/closed" in stats["error"]
    assert "runtimeSettings" in stats["error"]
    says(failed, "BackupIncomplete", "True", ["/stash-data/closed"])
    assert restic_exits(space, job_of("first"))["backup"] == 3
    kept = stats["snapshots"][0]["name"]
    assert [found["id"] for found in snapshots(space)] == [kept]
    assert space.restic("find", "--snapshot", kept, "open") != []
    assert space.restic("find", "--snapshot", kept, "closed") == []
    space.exec("app", "chmod 644 /data/closed; sync")
    space.back_up("second")
    assert len(snapshots(space)) == 2
