"""Hooks around VolumeSnapshots: an application is frozen while they are cut, and never left so.

The application is frozen while there is a file `/data/frozen`, which preBackup makes and postBackup
removes. It lies in the volume: a snapshot that has it was cut while the application was frozen.
"""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.audit import Audit
from tests.support.barrier import barrier
from tests.support.cluster import Space, condition
from tests.support.doorkeeper import Doorkeeper
from tests.support.evidence import answers, pods_of, says
from tests.support.node import processes
from tests.support.operators import kill_leader
from tests.support.snapshots import (
    IDLE,
    Faults,
    bound,
    claims,
    configuration,
    names,
    ready,
    restored,
    rolled_out,
    snapshots,
    suffix,
    taken,
    template,
    workload,
)

PRE, POST = "PreBackupHookExecutionSucceeded", "PostBackupHookExecutionSucceeded"
FINALIZER = "drey.dev/post-hook"
FREEZE = "echo freeze >> /data/hooks; touch /data/frozen; sync"
THAW = "echo thaw >> /data/hooks; rm -f /data/frozen"
HTTPD = """
mkdir -p /www/cgi-bin
printf '#!/bin/sh\\necho "freeze $REQUEST_METHOD" >> /data/hooks; touch /data/frozen\\n\
printf "Content-Type: text/plain\\\\r\\\\n\\\\r\\\\nok\\\\n"\\n' > /www/cgi-bin/freeze
printf '#!/bin/sh\\necho "thaw $REQUEST_METHOD $(cat)" >> /data/hooks; rm -f /data/frozen\\n\
printf "Content-Type: text/plain\\\\r\\\\n\\\\r\\\\nok\\\\n"\\n' > /www/cgi-bin/thaw
chmod +x /www/cgi-bin/*
httpd -p 8080 -h /www
while :; do sleep 1 & wait $!; done
"""


def shell(script: str) -> dict[str, Any]:
    """Return a handler that runs a script in the application's container."""
    return {"containerName": "app", "exec": {"command": ["sh", "-c", script]}}


def hooked(
    space: Space,
    *,
    pre: Mapping[str, Any] | None = None,
    post: Mapping[str, Any] | None = None,
    timeout: str = "",
    **spec: Any,
) -> dict[str, Any]:
    """Return the configuration of the application, by default with both hooks."""
    return configuration(
        space,
        "StatefulSet",
        "app",
        annotations={"drey.dev/hook-timeout": timeout} if timeout else {},
        hooks={"preBackup": pre or shell(FREEZE), "postBackup": post or shell(THAW)},
        **spec,
    )


def start(space: Space, *, replicas: int = 1, **container: Any) -> None:
    """Start the application."""
    space.apply(workload(space, "StatefulSet", templates=("data",), replicas=replicas, **container))
    rolled_out(space, "statefulset")


def done(space: Space, pod: str = "app-0") -> list[str]:
    """Return which hooks ran in a pod, in their order."""
    return space.exec(pod, "cat /data/hooks 2>/dev/null || true").split("\n")[:-1]


def is_frozen(space: Space, pod: str = "app-0") -> bool:
    """Tell whether the application stands still."""
    return "yes" in space.exec(pod, "test -e /data/frozen && echo yes || echo no")


def wait_thawed(space: Space) -> None:
    """Wait until postBackup has run."""
    space.cluster.until("the application goes on", lambda: not is_frozen(space))


def wait_frozen(space: Space) -> None:
    """Wait until preBackup has run and the snapshot is asked for. Its driver has to be slow."""
    space.cluster.until("a snapshot is wanted", lambda: snapshots(space))
    assert done(space)[:1] == ["freeze"]


def wait_begun(space: Space) -> None:
    """Wait until the command of preBackup has frozen the application."""
    space.cluster.until("the application is frozen", lambda: is_frozen(space))


def test_every_pod_is_frozen_while_snapshots_are_cut(space: Space) -> None:
    """Commands run in all Ready pods; what was snapshotted was frozen; all goes on afterwards."""
    start(space, replicas=2)
    ready(space, hooked(space))
    session = taken(space, "first")
    assert session["status"]["phase"] == "Succeeded", session["status"]
    says(session, PRE, "True", ["Successfully executed preBackup hook."])
    says(session, POST, "True", ["Successfully executed postBackup hook."])
    for pod in ("app-0", "app-1"):
        assert done(space, pod) == ["freeze", "thaw"]
        assert not is_frozen(space, pod)
    space.cluster.until("the session is let go", lambda: not is_held(space, "first"))
    bindings = space.cluster.list("rolebinding", space.name)
    assert not [b for b in names(bindings) if "hook" in b], "the right to run commands stayed"

    one = f"data-app-1-{suffix(session)}"
    found = restored(space, template(space, "copy", one))
    assert found["status"]["phase"] == "Succeeded", found["status"]
    space.apply(space.pod("reader", claim="copy"))
    space.wait_pod("reader")
    assert space.exec("reader", "cat /data/hooks; ls /data/frozen").split() == [
        "freeze", "/data/frozen",
    ]  # fmt: skip


def test_http_and_tcp(space: Space) -> None:
    """A GET and a connection before, a POST with a form after; ports by name and by number."""
    start(space, script=HTTPD, ports=[{"name": "hooks", "containerPort": 8080}])
    pre = {
        "containerName": "app",
        "httpGet": {"scheme": "HTTP", "port": "hooks", "path": "/cgi-bin/freeze"},
        "tcpSocket": {"port": 8080},
    }
    form = [{"key": "reason", "values": ["done"]}]
    post = {"httpPost": {"scheme": "HTTP", "port": 8080, "path": "/cgi-bin/thaw", "form": form}}
    ready(space, hooked(space, pre=pre, post=post))
    session = taken(space, "first")
    assert session["status"]["phase"] == "Succeeded", session["status"]
    assert done(space) == ["freeze GET", "thaw POST reason=done"]
    assert not is_frozen(space)


def test_pre_hook_fails(space: Space) -> None:
    """Nothing is snapshotted, the words of the command are said, and the application goes on."""
    start(space)
    broken = shell(f"{FREEZE}; echo the disk is on fire >&2; exit 3")
    ready(space, hooked(space, pre=broken))
    session = taken(space, "first")
    assert session["status"]["phase"] == "Failed"
    says(session, PRE, "False", ["HookFailed", "app-0", "3", "the disk is on fire"])
    says(session, POST, "True", ["Successfully executed postBackup hook."])
    assert not snapshots(space)
    assert done(space) == ["freeze", "thaw"]
    assert not is_frozen(space)
    # the cause is mended, the next one works
    ready(space, hooked(space))
    assert taken(space, "second")["status"]["phase"] == "Succeeded"


def test_rights_missing(space: Space) -> None:
    """A hook that may run nothing in pods says what is forbidden; nothing is snapshotted."""
    start(space)
    identity = "stash-hook-identity-first"
    audit = Audit(space.cluster.info["audit_log"])
    with barrier(space) as closed:
        ready(space, hooked(space, timeout="10s", runtimeSettings=closed.settings))
        space.apply(space.session("first"))
        space.cluster.until("the pod waits", lambda: pods_of(space, "stash-hook-pre-first"))
        space.cluster.kubectl(
            "patch", "rolebinding", identity, "-n", space.name, "--type=merge",
            "-p", '{"subjects": null}',
        )  # fmt: skip
        closed.open()
        session = space.wait_phase("backupsession", "first", "Failed", timeout_s=180.0)
    says(session, PRE, "False", ["HookFailed", "forbidden", "RoleBinding", identity])
    refused = answers(
        audit, "list", "pods", space, user=f"system:serviceaccount:{space.name}:{identity}"
    )
    assert set(refused) == {403}
    assert not snapshots(space)
    assert done(space) == []
    # the next session has an identity of its own
    ready(space, hooked(space))
    assert taken(space, "second")["status"]["phase"] == "Succeeded"
    assert done(space) == ["freeze", "thaw"]


def test_pre_hook_hangs(space: Space) -> None:
    """A hook has its time, and no more."""
    start(space)
    ready(space, hooked(space, pre=shell(f"{FREEZE}; sleep 600"), timeout="12s"))
    session = taken(space, "first")
    assert session["status"]["phase"] == "Failed"
    says(session, PRE, "False", ["HookTimedOut", "app-0", "12 s", "drey.dev/hook-timeout"])
    application = space.get("pod", "app-0") or {}
    running = processes(application["metadata"]["uid"])
    assert any(process.argv[-1:] == ("600",) for process in running), "its command hangs still"
    assert not snapshots(space)
    assert done(space) == ["freeze", "thaw"]
    assert not is_frozen(space)
    # the cause is mended, the next one works
    ready(space, hooked(space))
    assert taken(space, "second")["status"]["phase"] == "Succeeded"
    assert done(space) == ["freeze", "thaw"] * 2


def test_post_hook_does_not_wait_for_readiness(space: Space, faults: Faults) -> None:
    """An application goes on as soon as its snapshots are cut, also when none becomes ready."""
    faults.set({"call": "CreateSnapshot", "not_ready": True})
    start(space)
    ready(space, hooked(space, timeOut="75s"))
    space.apply(space.session("first"))
    wait_frozen(space)
    wait_thawed(space)
    running = space.get("backupsession", "first") or {}
    assert running["status"]["phase"] == "Running"
    (snapshot,) = snapshots(space)
    assert snapshot["status"]["readyToUse"] is False
    session = space.wait_phase("backupsession", "first", "Failed", timeout_s=120.0)
    says(session, "DeadlineExceeded", "True", ["1m15s"])
    assert done(space) == ["freeze", "thaw"]
    assert names(snapshots(space)) == [snapshot["metadata"]["name"]], "what was made stays"


def test_post_hook_after_failure_only(space: Space) -> None:
    """A policy that does not agree with the outcome is said, and the hook does not run.

    One that agrees lets it run.
    """
    start(space)
    post = {**shell(THAW), "executionPolicy": "OnFailure"}
    ready(space, hooked(space, post=post))
    session = taken(space, "first")
    assert session["status"]["phase"] == "Succeeded", session["status"]
    says(session, POST, "True", ['executionPolicy is "OnFailure" but phase is "Succeeded"'])
    assert done(space) == ["freeze"]
    ready(space, hooked(space, pre=shell(f"{FREEZE}; exit 3"), post=post))
    session = taken(space, "second")
    assert session["status"]["phase"] == "Failed", session["status"]
    says(session, POST, "True", ["Successfully executed postBackup hook."])
    assert done(space) == ["freeze", "freeze", "thaw"]


def test_pod_of_post_hook_is_gone(space: Space, faults: Faults) -> None:
    """Nobody is left to thaw: that is a failure, which says that the data is safe all the same."""
    faults.set({"call": "CreateSnapshot", "delay_s": 15})
    start(space)
    ready(space, hooked(space))
    space.apply(space.session("first"))
    wait_frozen(space)
    space.cluster.kubectl("-n", space.name, "scale", "statefulset/app", "--replicas=0")
    space.cluster.until("the pod is gone", lambda: not space.get("pod", "app-0"))
    assert not (snapshots(space)[0].get("status") or {}).get("creationTime"), "it was cut before"
    session = space.wait_phase("backupsession", "first", "Failed")
    says(session, POST, "False", ["NoReadyPod", "may have succeeded"])
    (snapshot,) = snapshots(space)
    space.cluster.until(
        "the snapshot is ready",
        lambda: (snapshots(space)[0].get("status") or {}).get("readyToUse"),
    )
    assert names([snapshot]) == [f"data-app-0-{suffix(session)}"]
    # the application is back, and the next one works
    faults.clear()
    space.cluster.kubectl("-n", space.name, "scale", "statefulset/app", "--replicas=1")
    rolled_out(space, "statefulset")
    # without replicas it had no claims; that is looked at again after a minute at most (D14)
    space.wait_phase("backupconfiguration", "backup", "Ready")
    assert taken(space, "second")["status"]["phase"] == "Succeeded"
    assert done(space) == ["freeze", "freeze", "thaw"]


def test_frozen_application_that_is_not_ready_is_thawed(space: Space, faults: Faults) -> None:
    """While it stands still its readiness probe fails: postBackup reaches it all the same."""
    faults.set({"call": "CreateSnapshot", "delay_s": 15})
    probe = {
        "exec": {"command": ["test", "!", "-e", "/data/frozen"]},
        "periodSeconds": 1,
        "failureThreshold": 1,
    }
    start(space, readinessProbe=probe)
    ready(space, hooked(space))
    space.apply(space.session("first"))
    wait_frozen(space)
    space.cluster.until("the pod is not Ready", lambda: not is_ready(space))
    session = space.wait_phase("backupsession", "first", "Succeeded")
    says(session, POST, "True", ["Successfully executed postBackup hook."])
    assert done(space) == ["freeze", "thaw"]
    assert not is_frozen(space)


def test_frozen_application_that_the_kubelet_restarts_is_thawed(
    space: Space, faults: Faults
) -> None:
    """It stays frozen in the next container, which comes after a while: postBackup waits for it.

    A container that finds it frozen, and still frozen after 6 s, ends. The kubelet starts the next
    one at once, and the one after that 10 s later: between these two the snapshot is cut.
    """
    faults.set({"call": "CreateSnapshot", "delay_s": 15})
    thawed = "[ ! -e /data/frozen ]"
    start(space, script=f"{thawed} || {{ sleep 6; {thawed} || exit 1; }}\n{IDLE}")
    ready(space, hooked(space))
    space.apply(space.session("first"))
    wait_frozen(space)
    space.exec("app-0", "(sleep 1; kill 1) >/dev/null 2>&1 &")
    session = space.wait_phase("backupsession", "first", "Succeeded")
    says(session, POST, "True", ["Successfully executed postBackup hook."])
    assert restarts(space) >= 2
    space.cluster.until("the pod is Ready again", lambda: is_ready(space))
    assert done(space) == ["freeze", "thaw"]
    assert not is_frozen(space)


def is_held(space: Space, name: str) -> bool:
    """Tell whether a session still has a hook with it: it is let go right after its last phase."""
    found = (space.get("backupsession", name) or {})["metadata"]
    return any(FINALIZER in (found.get(part) or ()) for part in ("finalizers", "annotations"))


def restarts(space: Space) -> int:
    """Return how often the kubelet has started the application's container again."""
    found = ((space.get("pod", "app-0") or {}).get("status") or {}).get("containerStatuses") or ()
    return sum(int(container.get("restartCount") or 0) for container in found)


def is_ready(space: Space) -> bool:
    """Tell whether the application's pod is Ready."""
    return condition(space.get("pod", "app-0") or {}, "Ready").get("status") == "True"


def test_job_deleted_between_hooks(space: Space) -> None:
    """The Job is gone before it created anything: nothing is snapshotted, all goes on."""
    start(space)
    ready(space, hooked(space))
    with Doorkeeper(space) as door:
        space.apply(space.session("first"))
        space.cluster.until("the creation waits", lambda: door.waiting)
        assert is_frozen(space)
        space.cluster.kubectl(
            "delete", "job", "stash-vs-first", "-n", space.name, "--cascade=foreground",
            "--grace-period=1", "--wait=false",
        )  # fmt: skip
        session = space.wait_phase("backupsession", "first", "Failed")
    says(session, POST, "True", ["Successfully executed postBackup hook."])
    assert done(space) == ["freeze", "thaw"]
    assert not is_frozen(space)
    assert taken(space, "second")["status"]["phase"] == "Succeeded"


def test_job_of_pre_hook_deleted(space: Space) -> None:
    """Its command has frozen the application, and nobody knows: it is thawed."""
    start(space)
    ready(space, hooked(space, pre=shell(f"{FREEZE}; sleep 600")))
    space.apply(space.session("first"))
    wait_begun(space)
    kubectl = space.cluster.kubectl
    kubectl("delete", "job", "stash-hook-pre-first", "-n", space.name, "--wait=false")
    session = space.wait_phase("backupsession", "first", "Failed")
    says(session, PRE, "False", ["Failed to execute preBackup hook."])
    says(session, POST, "True", ["Successfully executed postBackup hook."])
    assert not snapshots(space)
    assert done(space) == ["freeze", "thaw"]
    assert not is_frozen(space)
    # nothing of it is left in the way
    ready(space, hooked(space))
    assert taken(space, "second")["status"]["phase"] == "Succeeded"


@pytest.mark.parametrize("also_configuration", [False, True], ids=["alone", "with configuration"])
def test_session_deleted_in_pre_hook(space: Space, *, also_configuration: bool) -> None:
    """In the foreground: the garbage collector may take the Job, and what tells of the other hook.

    If it does not, because the deletion was made one in the background before it looked, the first
    hook takes its time: a command that is cut off could freeze the application after the thaw.
    """
    start(space)
    ready(space, hooked(space, pre=shell(f"{FREEZE}; sleep 600"), timeout="15s"))
    space.apply(space.session("first"))
    wait_begun(space)
    how = ("-n", space.name, "--cascade=foreground", "--wait=false")
    if also_configuration:
        space.cluster.kubectl("delete", "backupconfiguration", "backup", *how)
    space.cluster.kubectl("delete", "backupsession", "first", *how)
    wait_thawed(space)
    space.cluster.until("the session is gone", lambda: not space.get("backupsession", "first"))
    assert done(space) == ["freeze", "thaw"]
    assert not snapshots(space)


DELETED = [
    ("backupconfiguration", "background"),
    ("backupconfiguration", "foreground"),
    ("backupsession", "foreground"),
    ("backupsession", "orphan"),
]


@pytest.mark.parametrize(("kind", "cascade"), DELETED, ids=["-".join(d) for d in DELETED])
def test_deleted_between_hooks(space: Space, faults: Faults, kind: str, cascade: str) -> None:
    """The configuration goes, and its session with it; the application is thawed before that.

    In the foreground the garbage collector deletes what belongs to the session before it is gone,
    otherwise it makes that belong to nobody.
    """
    faults.set({"call": "CreateSnapshot", "delay_s": 15})
    start(space)
    ready(space, hooked(space))
    owner = space.get("backupconfiguration", "backup") or {}
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": "BackupConfiguration",
        "name": "backup",
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    session = space.session("first")
    session["metadata"]["ownerReferences"] = [reference]
    space.apply(session)
    wait_frozen(space)
    held = space.get("backupsession", "first") or {}
    assert FINALIZER in held["metadata"]["finalizers"]
    assert "stash-hook-post-first" in held["metadata"]["annotations"][FINALIZER]
    says(held, "PostBackupHookOwed", "True", ["until its postBackup hook has"])
    name = "first" if kind == "backupsession" else "backup"
    how = ("--wait=false", f"--cascade={cascade}")
    space.cluster.kubectl("-n", space.name, "delete", kind, name, *how)
    wait_thawed(space)
    space.cluster.until("the session is gone", lambda: not space.get("backupsession", "first"))
    assert done(space) == ["freeze", "thaw"]
    assert len(snapshots(space)) == 1, "a snapshot outlives its configuration"


def test_claim_of_its_own(space: Space) -> None:
    """Hooks of a claim run in the pods that mount it, and in no others."""
    space.apply(*claims(space, "data", "other"))
    bound(space, "data", "other")
    space.apply(space.pod("user"), space.pod("bystander", claim="other"))
    space.wait_pod("user")
    space.wait_pod("bystander")
    hooks = {"preBackup": shell(FREEZE), "postBackup": shell(THAW)}
    ready(space, configuration(space, hooks=hooks))
    assert taken(space, "first")["status"]["phase"] == "Succeeded"
    assert done(space, "user") == ["freeze", "thaw"]
    assert not done(space, "bystander")


def test_hook_without_handler(space: Space) -> None:
    """A postBackup with nothing but a policy is refused: Stash waits for it for ever."""
    start(space)
    space.apply(hooked(space, post={"executionPolicy": "Always"}))
    found = space.wait_phase("backupconfiguration", "backup", "Invalid")
    message = condition(found, "ValidationPassed")["message"]
    assert "spec.hooks.postBackup" in message
    ready(space, hooked(space))


@pytest.mark.serial
def test_operator_killed_between_hooks(space: Space, faults: Faults) -> None:
    """The next operator finds the application frozen, and thaws it."""
    faults.set({"call": "CreateSnapshot", "delay_s": 8})
    start(space)
    ready(space, hooked(space))
    space.apply(space.session("first"))
    wait_frozen(space)
    kill_leader(space.cluster)
    session = space.wait_phase("backupsession", "first", "Succeeded")
    says(session, POST, "True", ["Successfully executed postBackup hook."])
    assert done(space) == ["freeze", "thaw"]
    assert not is_frozen(space)
