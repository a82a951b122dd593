"""A bare Job: the image, the volume, the Secret and the two restic commands of a backup by Drey.

What it costs is the floor: whoever schedules restic with a Job pays this.
"""

import json
from typing import Any

from tests.support.audit import unix_s
from tests.support.cluster import Space

REPOSITORY = "bare"
BEGIN, END = "restic begins", "restic ends"

# The flags are those of the runner's own commands (runner/restic/command.py).
_SCRIPT = f"""
set -e
export HOME=/tmp RESTIC_CACHE_DIR=/stash-tmp/cache TMPDIR=/stash-tmp
for command in backup forget; do
  echo "{BEGIN} $(date +%s.%N)"
  case $command in
    backup) restic backup --json --host=host-0 --group-by=host,paths,tags --tag=bare \\
      --exclude=/stash-data/lost+found -- /stash-data ;;
    forget) restic forget --json --host=host-0 --path=/stash-data --tag=bare \\
      --group-by=host,paths --keep-last=5 --prune ;;
  esac >/dev/null
  echo "{END} $(date +%s.%N)"
done
"""


def job(space: Space, name: str, *, claim: str = "data", repository: str = REPOSITORY) -> Any:
    """Return the Job."""
    deployment = space.cluster.get("deployment", "drey", "drey")
    if deployment is None:
        raise AssertionError("Drey is not installed: make install")
    containers = deployment["spec"]["template"]["spec"]["containers"]
    (image,) = [c["image"] for c in containers if c["name"] == "operator"]
    s3 = space.cluster.info["s3"]
    url = f"s3:{s3['endpoint']}/{space.name}/{repository}"
    container = {
        "name": "restic",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", _SCRIPT],
        "env": [
            {"name": "RESTIC_REPOSITORY", "value": url},
            {"name": "AWS_DEFAULT_REGION", "value": s3["region"]},
        ],
        "envFrom": [{"secretRef": {"name": "storage"}}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "volumeMounts": [
            {"name": "data", "mountPath": "/stash-data", "readOnly": True},
            {"name": "scratch", "mountPath": "/stash-tmp"},
        ],
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsUser": 65535},
        "containers": [container],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": claim}},
            {"name": "scratch", "emptyDir": {}},
        ],
    }
    template = {"metadata": {"labels": {"bench": name}}, "spec": spec}
    return space.object(
        "batch/v1", "Job", name, spec={"backoffLimit": 0, "template": template}
    )  # fmt: skip


def initialise(space: Space, *repositories: str) -> None:
    """Make one repository with the host's restic, and copies of it.

    Each `init` measures the machine and chooses how hard the password is to guess: repositories
    that were made one by one take differently long to open.
    """
    first, *copies = repositories
    space.cluster.run("restic", "init", "--no-cache", environment=space.restic_environment(first))
    folder = f"{space.cluster.info['s3']['data']}/{space.name}"
    for copy in copies:  # with the extended attributes, where the server keeps what it knows
        space.cluster.run("cp", "-a", f"{folder}/{first}", f"{folder}/{copy}")


def wait(space: Space, name: str) -> None:
    """Wait until the Job has completed.

    Raises:
        AssertionError: it failed; the text has its log.
    """

    def has_ended() -> bool:
        found = space.get("job", name) or {}
        conditions = (found.get("status") or {}).get("conditions") or ()
        ended = {c["type"] for c in conditions if c["status"] == "True"}
        if "Failed" in ended:
            raise AssertionError(f"Job {name} failed:\n{log(space, name)}")
        return "Complete" in ended

    space.cluster.until(f"the end of Job {name}", has_ended, timeout_s=600.0)


def log(space: Space, name: str) -> str:
    """Return what the Job printed."""
    return space.cluster.kubectl("logs", "-n", space.name, f"job/{name}")


def ended_s(space: Space, name: str) -> float:
    """Return when the Job's container printed its last line, in Unix seconds."""
    text = space.cluster.kubectl("logs", "-n", space.name, f"job/{name}", "--timestamps")
    return unix_s(text.splitlines()[-1].partition(" ")[0])


def restic_s(space: Space, name: str) -> float:
    """Return how long the two commands took together, by the clock of the container."""
    total = 0.0
    for line in log(space, name).splitlines():
        if line.startswith(BEGIN):
            total -= float(line.rpartition(" ")[2])
        elif line.startswith(END):
            total += float(line.rpartition(" ")[2])
    return total


def runner_restic_s(space: Space, name: str) -> float:
    """Return how long restic took in a Job of Drey, as its log says."""
    lines = [json.loads(line) for line in log(space, name).splitlines()]
    return sum(float(line["seconds"]) for line in lines if line["event"] == "restic_ended")
