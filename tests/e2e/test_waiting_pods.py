"""Pods that wait or linger: the status says for what; what they hold is left alone meanwhile."""

import os
import signal
import time
from functools import partial
from typing import Any

from tests.support.cluster import Space, condition
from tests.support.evidence import job_of, says, wait_restic
from tests.support.node import processes


def told(space: Space, kind: str, name: str, waiting: str) -> dict[str, Any]:
    """Return a session once it says that it waits for a pod."""
    found = space.get(kind, name) or {}
    return found if condition(found, waiting).get("status") == "True" else {}


def test_a_backup_says_what_keeps_its_pod_away(space: Space) -> None:
    """The quota's own words are in the status while the session is Running, and gone at its end."""
    space.ready()
    space.apply(space.object("v1", "ResourceQuota", "none", spec={"hard": {"pods": "1"}}))
    space.apply(space.session("first"))
    probe = partial(told, space, "backupsession", "first", "BackupWaiting")
    waits = space.cluster.until("the words", probe, timeout_s=40.0)
    assert waits["status"]["phase"] == "Running"
    says(waits, "BackupWaiting", "True", ["Waiting for a pod to start: ", "exceeded quota: none"])
    space.cluster.kubectl("delete", "resourcequota", "none", "-n", space.name)
    done = space.wait_phase("backupsession", "first", "Succeeded")
    assert condition(done, "BackupWaiting") == {}


def test_a_restore_says_what_keeps_its_pod_from_starting(space: Space) -> None:
    """The scheduler's own words, once the pod has been pending for 10 s."""
    space.ready()
    space.exec("app", "echo precious > /data/file; sync")
    space.back_up("first")
    nowhere = {"pod": {"nodeSelector": {"no-such": "label"}}}
    space.apply(space.restore("stuck", runtimeSettings=nowhere))
    probe = partial(told, space, "restoresession", "stuck", "RestoreWaiting")
    waits = space.cluster.until("the words", probe, timeout_s=40.0)
    assert waits["status"]["phase"] == "Running"
    says(waits, "RestoreWaiting", "True", ["Unschedulable: ", "nodes are available"])
    version = waits["metadata"]["resourceVersion"]
    time.sleep(3.0)
    assert (space.get("restoresession", "stuck") or {})["metadata"]["resourceVersion"] == version


def test_a_first_backup_waits_for_a_pod_that_lingers(space: Space) -> None:
    """D2: the pod of a deleted Job may initialise the repository until it has ended."""
    space.ready(target={"args": ["--limit-upload=100"]})
    space.exec("app", "head -c 6000000 /dev/urandom > /data/big; sync")
    space.apply(space.session("first"))
    pod = wait_restic(space, job_of("first"))
    frozen = [p.pid for p in processes(pod["metadata"]["uid"]) if p.program == "restic"]
    assert frozen
    for pid in frozen:  # so that its pod does not end when it is told to
        os.kill(pid, signal.SIGSTOP)
    space.cluster.kubectl("delete", "job", job_of("first"), "-n", space.name, "--wait=false")
    space.wait_phase("backupsession", "first", "Failed", timeout_s=30.0)
    space.apply(space.session("second"))

    def waits() -> dict[str, Any]:
        return condition(space.get("backupsession", "second") or {}, "BackupWaiting")

    assert pod["metadata"]["name"] in space.cluster.until("its reason", waits)["message"]
    assert space.get("job", job_of("second")) is None
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    space.cluster.until("the second Job", partial(space.get, "job", job_of("second")))
    lingering = space.get("pod", pod["metadata"]["name"])
    assert lingering is None or lingering["status"]["phase"] in ("Succeeded", "Failed")
