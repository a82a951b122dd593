"""`runner trigger` against a real API server with our schemas."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.support.apiserver import ApiServer
from tests.support.runner import ROOT


def test_same_slot_twice_makes_one_session(crds: ApiServer, tmp_path: Path) -> None:
    """A slot's session has the slot's name and Stash's fields; a second trigger finds it."""
    namespace = f"trigger-{os.getpid()}"
    crds.kubectl("create", "namespace", namespace)
    trigger = {
        "apiVersion": "stash.appscode.com/v1beta1",
        "kind": "BackupConfiguration",
        "name": "data",
        "namespace": namespace,
        "uid": "8d5bd3c0-0000-4000-8000-000000000001",
        "retryLeft": 1,
        "labels": {"stash.appscode.com/invoker-name": "data"},
    }
    minute = int(time.time()) // 60
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(crds.kubectl("config", "view", "--raw", "--flatten"))
    environment = {
        "PATH": os.environ["PATH"],
        "KUBECONFIG": str(kubeconfig),
        "DREY_TRIGGER": json.dumps(trigger),
        "JOB_NAME": f"stash-trigger-data-{minute}",
    }
    events = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "runner", "trigger"],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        events.append(json.loads(done.stdout.splitlines()[-1])["event"])
    assert events == ["session_created", "session_exists"]
    listed = crds.kubectl("get", "backupsessions", "-n", namespace, "-o", "json")
    (session,) = json.loads(listed)["items"]
    assert session["metadata"]["name"] == f"data-{minute * 60}"
    assert session["spec"]["invoker"]["name"] == "data"
    assert session["spec"]["retryLeft"] == 1
