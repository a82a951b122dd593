"""`runner trigger` against a real API server with our schemas."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support import apiserver as support
from tests.support.apiserver import ApiServer
from tests.support.runner import ROOT

MINUTE = int(time.time()) // 60
ARGV = [sys.executable, "-m", "runner", "trigger"]


def environment(server: ApiServer, namespace: str, folder: Path) -> dict[str, str]:
    """Return what the trigger of this minute's slot gets."""
    trigger = {
        "apiVersion": "stash.appscode.com/v1beta1",
        "kind": "BackupConfiguration",
        "name": "data",
        "namespace": namespace,
        "uid": "8d5bd3c0-0000-4000-8000-000000000001",
        "retryLeft": 1,
        "labels": {"stash.appscode.com/invoker-name": "data"},
    }
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(server.kubectl("config", "view", "--raw", "--flatten"))
    return {
        "PATH": os.environ["PATH"],
        "KUBECONFIG": str(kubeconfig),
        "DREY_TRIGGER": json.dumps(trigger),
        "JOB_NAME": f"stash-trigger-data-{MINUTE}",
    }


def sessions(server: ApiServer, namespace: str) -> list[dict[str, Any]]:
    """Return the BackupSessions of a namespace."""
    items: list[dict[str, Any]] = json.loads(
        server.kubectl("get", "backupsessions", "-n", namespace, "-o", "json")
    )["items"]
    return items


def test_same_slot_twice_makes_one_session(crds: ApiServer, tmp_path: Path) -> None:
    """A slot's session has the slot's name and Stash's fields; a second trigger finds it."""
    namespace = f"trigger-{os.getpid()}"
    crds.kubectl("create", "namespace", namespace)
    events = []
    for _ in range(2):
        done = subprocess.run(
            ARGV, cwd=ROOT, env=environment(crds, namespace, tmp_path), capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        events.append(json.loads(done.stdout.splitlines()[-1])["event"])
    assert events == ["session_created", "session_exists"]
    (session,) = sessions(crds, namespace)
    assert session["metadata"]["name"] == f"data-{MINUTE * 60}"
    assert session["spec"]["invoker"]["name"] == "data"
    assert session["spec"]["retryLeft"] == 1


@pytest.fixture(scope="module")
def own_server() -> Iterator[ApiServer]:
    """Run an API server that this module may stop, with our kinds."""
    with support.running() as server:
        server.install_crds()
        yield server


class Trigger:
    """A running trigger; its lines as they come."""

    def __init__(self, variables: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            ARGV, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it, if it has not ended."""
        self.process.kill()
        self.process.wait()

    def line(self) -> dict[str, Any]:
        """Return the next line of its log."""
        assert self.process.stdout is not None
        line: dict[str, Any] = json.loads(self.process.stdout.readline())
        return line

    def rest(self) -> list[dict[str, Any]]:
        """Return the lines until its end."""
        output, _ = self.process.communicate(timeout=60)
        return [json.loads(line) for line in output.splitlines()]


def test_api_server_away(own_server: ApiServer, tmp_path: Path) -> None:
    """A trigger that finds no API server makes its session when there is one again."""
    namespace = "away"
    own_server.kubectl("create", "namespace", namespace)
    variables = environment(own_server, namespace, tmp_path)
    own_server.stop(kill=True)
    try:
        with Trigger(variables) as trigger:
            told = trigger.line()
            assert (told["level"], told["event"]) == ("warning", "api_server_fails")
            assert told["error"].startswith("Unreachable: ")
            own_server.start()
            lines = trigger.rest()
            assert trigger.process.returncode == 0, lines
    finally:
        own_server.start()
    # A create that the API server carried out and could not answer any more is one as well.
    assert lines[-1]["event"] in {"session_created", "session_exists"}
    (session,) = sessions(own_server, namespace)
    assert session["metadata"]["name"] == f"data-{MINUTE * 60}"


def test_told_to_stop(own_server: ApiServer, tmp_path: Path) -> None:
    """SIGTERM ends the wait for the API server at once, with the exit code that says so."""
    variables = environment(own_server, "default", tmp_path)
    own_server.stop(kill=True)
    try:
        with Trigger(variables) as trigger:
            trigger.line()
            began = time.monotonic()
            trigger.process.terminate()
            lines = trigger.rest()
            assert trigger.process.returncode == 130, lines
            assert time.monotonic() - began < 15.0
            assert lines[-1]["error"] == "told to stop"
    finally:
        own_server.start()
