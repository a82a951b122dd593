"""`runner hook` in real containers, with no more rights than its Job has.

The runner is a process of the host here: what a session makes of it is test_snapshot_hooks.py's.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from controller.api.hook_input import HookInput, HttpInput, TcpInput
from controller.api.report import HostReport, Reason
from controller.api.report_parsing import parse_report
from tests.support.cluster import ROOT, Space


@dataclass
class Hooks:
    """Runs hooks with a ServiceAccount that is bound to our ClusterRole."""

    space: Space
    folder: Path

    def __post_init__(self) -> None:
        """Make the ServiceAccount and a kubeconfig of it."""
        space, group = self.space, "rbac.authorization.k8s.io"
        space.apply(
            space.object("v1", "ServiceAccount", "hook"),
            space.object(
                f"{group}/v1",
                "RoleBinding",
                "hook",
                roleRef={"apiGroup": group, "kind": "ClusterRole", "name": "drey-hook"},
                subjects=[{"kind": "ServiceAccount", "name": "hook", "namespace": space.name}],
            ),
        )
        kubectl = space.cluster.kubectl
        token = kubectl("create", "token", "hook", "-n", space.name).strip()
        config = json.loads(kubectl("config", "view", "--raw", "--flatten", "-o", "json"))
        config["users"][0]["user"] = {"token": token}
        self.kubeconfig.write_text(json.dumps(config))

    @property
    def kubeconfig(self) -> Path:
        """Return the kubeconfig."""
        return self.folder / "kubeconfig"

    @property
    def message(self) -> Path:
        """Return the termination message's file."""
        return self.folder / "termination-log"

    def start(self, hook: HookInput) -> "subprocess.Popen[str]":
        """Start a runner."""
        self.message.unlink(missing_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(self.kubeconfig),
            "DREY_INPUT": replace(hook, namespace=self.space.name).encode(),
            "DREY_TERMINATION_LOG": str(self.message),
        }
        argv = [sys.executable, "-m", "runner", "hook"]
        return subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)

    def finish(self, process: "subprocess.Popen[str]") -> tuple[int, HostReport, str]:
        """Return exit code, the host of the report, and the log."""
        try:
            log, _ = process.communicate(timeout=120)
        finally:
            process.kill()
        (host,) = parse_report(self.message.read_text()).hosts
        return process.returncode, host, log

    def run(self, hook: HookInput) -> tuple[int, HostReport, str]:
        """Run a hook."""
        return self.finish(self.start(hook))

    def shell(self, script: str, **changes: Any) -> HookInput:
        """Return a hook that runs a script in the pods of the application."""
        return HookInput(
            hostname="app",
            namespace="",
            label_selector="app=a",
            command=("sh", "-c", script),
            **changes,
        )


def pod(space: Space, name: str, claim: str = "") -> dict[str, Any]:
    """Return a pod of the application that serves HTTP; it is Ready while /ready exists."""
    made = space.pod(
        name, claim=claim, command="touch /ready; mkdir /www; exec httpd -f -p 8080 -h /www"
    )
    made["metadata"]["labels"] = {"app": "a"}
    (container,) = made["spec"]["containers"]
    container["ports"] = [{"name": "web", "containerPort": 8080}]
    container["readinessProbe"] = {
        "exec": {"command": ["test", "-e", "/ready"]}, "periodSeconds": 1, "failureThreshold": 1
    }  # fmt: skip
    if not claim:
        made["spec"]["volumes"] = []
        container["volumeMounts"] = []
    return made


def wait_ready(space: Space, *, ready: bool) -> None:
    """Wait until both pods are Ready, or neither is."""

    def states() -> list[bool]:
        return [
            one["status"] == "True"
            for found in space.list("pod")
            for one in found["status"].get("conditions") or ()
            if one["type"] == "Ready"
        ]

    space.cluster.until(f"pods Ready: {ready}", lambda: states() == [ready, ready])


@pytest.fixture
def hooks(space: Space, tmp_path: Path) -> Hooks:
    """Run two pods of an application, of which one mounts a claim."""
    made = Hooks(space, tmp_path)
    space.apply(space.pvc(), pod(space, "app-0"), pod(space, "app-1", "data"))
    wait_ready(space, ready=True)
    return made


def test_commands_in_containers(hooks: Hooks) -> None:
    """A command runs in all Ready pods; its exit code and its last words come back."""
    space = hooks.space
    code, host, log = hooks.run(hooks.shell("echo 'a b' > /frozen"))
    assert (code, host.succeeded, host.hostname) == (0, True, "app"), log
    assert [space.exec(name, "cat /frozen") for name in ("app-0", "app-1")] == ["a b\n", "a b\n"]

    by_claim = replace(hooks.shell("touch /claimed"), label_selector="", claim="data")
    assert hooks.run(by_claim)[0] == 0
    assert space.exec("app-1", "ls /claimed")
    assert space.exec("app-0", "ls /claimed || echo none") == "none\n"

    script = "seq 100000; test $HOSTNAME = app-0 || { echo disk full >&2; exit 7; }"
    code, host, _ = hooks.run(hooks.shell(script))
    assert (code, host.reason) == (1, Reason.HOOK_FAILED)
    assert host.error == (
        f"exec failed in 1 of 2: pod {space.name}/app-1: container app: it exited with 7: disk full"
    )

    code, host, _ = hooks.run(replace(hooks.shell(""), command=("no-such-program",)))
    assert (code, host.reason) == (1, Reason.HOOK_FAILED)
    assert "no-such-program" in host.error

    code, host, _ = hooks.run(hooks.shell("true", container="web"))
    assert "there is no container 'web', only app" in host.error


def test_command_that_hangs(hooks: Hooks) -> None:
    """The hook ends when its time is up, with what the command has said; others were reached."""
    script = "touch /reached; test $HOSTNAME = app-0 || { echo waiting; sleep 60; }"
    began = time.monotonic()
    code, host, _ = hooks.run(hooks.shell(script, timeout_s=5))
    assert 5.0 <= time.monotonic() - began < 20.0
    assert (code, host.reason) == (1, Reason.HOOK_TIMED_OUT)
    assert "app-1: container app: it did not end in time: waiting" in host.error
    assert hooks.space.exec("app-0", "ls /reached")


def test_command_that_says_nothing_for_long(hooks: Hooks) -> None:
    """The connection lives, the API server answers pings: silence is no end of it."""
    code, host, log = hooks.run(hooks.shell("sleep 40; echo done > /silent", timeout_s=90))
    assert (code, host.succeeded) == (0, True), log
    assert hooks.space.exec("app-0", "cat /silent") == "done\n"


def test_pod_on_its_way_out_is_thawed(hooks: Hooks) -> None:
    """It runs until its grace period ends: a second hook reaches it, a first one does not."""
    space = hooks.space
    # process 1 of its container does not heed SIGTERM
    space.cluster.kubectl(
        "-n", space.name, "delete", "pod", "app-1", "--grace-period=60", "--wait=false"
    )
    hook = hooks.shell("echo here >> /reached")
    assert hooks.run(hook)[0] == 0
    code, host, log = hooks.run(replace(hook, also_unready=True))
    assert (code, host.succeeded) == (0, True), log
    assert space.exec("app-0", "cat /reached") == "here\nhere\n"
    assert space.exec("app-1", "cat /reached") == "here\n"


def test_told_to_stop(hooks: Hooks) -> None:
    """SIGTERM ends the hook at once, with a report."""
    process = hooks.start(hooks.shell("touch /begun; sleep 60"))
    hooks.space.cluster.until(
        "the command", lambda: "begun" in hooks.space.exec("app-0", "ls /"), timeout_s=30.0
    )
    began = time.monotonic()
    process.terminate()
    code, host, _ = hooks.finish(process)
    assert time.monotonic() - began < 5.0
    assert (code, host.reason) == (130, Reason.INTERRUPTED)


def test_frozen_application_is_thawed(hooks: Hooks) -> None:
    """What a first hook froze may be unready; the second hook reaches it, a first one does not."""
    space = hooks.space
    assert hooks.run(hooks.shell("rm /ready"))[0] == 0
    wait_ready(space, ready=False)
    code, host, _ = hooks.run(hooks.shell("true"))
    assert (code, host.reason) == (1, Reason.NO_READY_POD)
    assert "no Ready pod with labels app=a" in host.error
    assert hooks.run(hooks.shell("touch /ready", also_unready=True))[0] == 0
    assert space.exec("app-0", "ls /ready")


def test_requests(hooks: Hooks) -> None:
    """HTTP and TCP go to each pod, by number or name of the port."""
    nothing = replace(hooks.shell(""), command=())
    space = hooks.space
    for name in ("app-0", "app-1"):
        space.exec(name, "echo yes > /www/freeze")
    get = replace(nothing, http_get=HttpInput(port="web", path="/freeze"), tcp=TcpInput("8080"))
    code, host, log = hooks.run(get)
    assert (code, host.succeeded) == (0, True), log
    space.exec("app-1", "rm /www/freeze")
    code, host, _ = hooks.run(get)
    assert (code, host.reason) == (1, Reason.HOOK_FAILED)
    assert f"pod {space.name}/app-1: GET http://" in host.error
    assert ":8080/freeze: 404" in host.error
    code, host, _ = hooks.run(replace(nothing, tcp=TcpInput("9")))
    assert "tcpSocket failed in 2 of 2" in host.error
