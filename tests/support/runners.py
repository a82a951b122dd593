"""The runner in the pod of a Job: its process on the node, its death, its Job's end."""

import os
import signal
from typing import Any

from tests.support.cluster import Space
from tests.support.evidence import pods_of
from tests.support.node import processes


def runner_of(space: Space, job: str) -> tuple[dict[str, Any], int]:
    """Return the pod of a Job and the process id of its runner, once that runs."""

    def probe() -> tuple[dict[str, Any], int] | None:
        for pod in pods_of(space, job):
            for process in processes(pod["metadata"]["uid"]):
                if "runner" in process.argv:
                    return pod, process.pid
        return None

    found: tuple[dict[str, Any], int] = space.cluster.until("the runner", probe)
    return found


def kill_runner(space: Space, pod: dict[str, Any], pid: int) -> None:
    """Kill the runner and wait until the kubelet says that it was killed."""
    killed = 128 + signal.SIGKILL
    os.kill(pid, signal.SIGKILL)
    space.cluster.until("the death", lambda: _exit_code(space, pod) == killed)


def is_complete(space: Space, job: str) -> bool:
    """Tell whether a pod of the Job has succeeded."""
    return bool(((space.get("job", job) or {}).get("status") or {}).get("succeeded"))


def _exit_code(space: Space, pod: dict[str, Any]) -> int | None:
    found = space.get("pod", pod["metadata"]["name"]) or {}
    for status in (found.get("status") or {}).get("containerStatuses") or ():
        if ended := status["state"].get("terminated"):
            return int(ended["exitCode"])
    return None
