"""What shows that a fault really happened: audit lines, container states, exit codes of restic."""

import json
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.audit import OPERATOR, Audit
from tests.support.cluster import Space, condition
from tests.support.node import processes


def answers(
    audit: Audit, verb: str, resource: str, space: Space, *, name: str = "", user: str = OPERATOR
) -> list[int]:
    """Return the HTTP statuses that a user's requests got, oldest first.

    In the namespace, or for something that is in none.
    """
    return [
        request.code
        for request in audit.requests()
        if (request.user, request.verb, request.resource) == (user, verb, resource)
        and request.namespace in (space.name, "")
        and (not name or request.name == name)
    ]


def says(obj: dict[str, Any], kind: str, status: str, words: Iterable[str]) -> str:
    """Return the message of a condition after making sure of its status and of words in it."""
    found = condition(obj, kind)
    assert found.get("status") == status, (kind, obj.get("status"))
    missing = [word for word in words if word not in found["message"]]
    assert not missing, f"{kind} does not say {missing}: {found['message']}"
    return str(found["message"])


def failure_of(session: dict[str, Any]) -> str:
    """Return what the first host of a session failed with; a condition has to say the same."""
    status = session["status"]
    target = (status.get("targets") or [status])[0]
    error = str(target["stats"][0]["error"])
    conditions = [*(status.get("conditions") or ()), *(target.get("conditions") or ())]
    assert any(error in entry["message"] for entry in conditions), (error, conditions)
    return error


def job_of(session: str) -> str:
    """Return the name of a BackupSession's Job."""
    return f"stash-backup-{session}-0"


def pods_of(space: Space, job: str) -> list[dict[str, Any]]:
    """Return the pods of a Job."""
    return space.cluster.list("pod", space.name, f"batch.kubernetes.io/job-name={job}")


def ended(space: Space, job: str, *, timeout_s: float = 60.0) -> dict[str, Any]:
    """Return how the main container of a Job's pod ended: exit code, reason, message."""

    def probe() -> dict[str, Any]:
        for pod in pods_of(space, job):
            for container in (pod.get("status") or {}).get("containerStatuses") or ():
                if found := container["state"].get("terminated"):
                    return dict(found)
        return {}

    found: dict[str, Any] = space.cluster.until(f"the end of {job}", probe, timeout_s=timeout_s)
    return found


def log_of(space: Space, job: str) -> list[dict[str, Any]]:
    """Return the lines that the runner of a Job logged."""
    text = space.cluster.kubectl("logs", "-n", space.name, f"job/{job}")
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def restic_exits(space: Space, job: str) -> dict[str, int]:
    """Return the exit code of each restic command of a Job, by verb; the last one counts."""
    return {
        line["verb"]: int(line["exit_code"])
        for line in log_of(space, job)
        if line.get("event") == "restic_ended"
    }


def wait_restic(space: Space, job: str, *, timeout_s: float = 60.0) -> dict[str, Any]:
    """Return the pod of a Job once restic works in it and holds its lock."""

    def probe() -> dict[str, Any]:
        running = [pod for pod in pods_of(space, job) if pod["status"].get("phase") == "Running"]
        return running[0] if running and locks(space) else {}

    found: dict[str, Any] = space.cluster.until(f"restic in {job}", probe, timeout_s=timeout_s)
    return found


def locks(space: Space, repository: str = "repo") -> list[str]:
    """Return the names of the locks in a repository on the S3 server, from its disk."""
    folder = backend_folder(space, repository) / "locks"
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def backend_folder(space: Space, repository: str = "repo") -> Path:
    """Return where the S3 server keeps a repository."""
    return Path(space.cluster.info["s3"]["data"]) / space.name / repository


def snapshots(space: Space, repository: str = "repo") -> list[dict[str, Any]]:
    """Return the snapshots of a repository, read by a restic of the host, oldest first."""
    found: list[dict[str, Any]] = space.restic("snapshots", repository=repository)
    return sorted(found, key=lambda snapshot: str(snapshot["time"]))


def kill(pod: dict[str, Any], program: str) -> None:
    """Send SIGKILL from the node to the processes of a pod that have this name or argument."""
    found = [
        process.pid
        for process in processes(str(pod["metadata"]["uid"]))
        if program == process.program or program in process.argv
    ]
    assert found, f"no {program} runs in pod {pod['metadata']['name']}"
    for pid in found:
        os.kill(pid, signal.SIGKILL)
