"""Sessions that meet one another, lose their configuration, or run out of time."""

import time
from typing import Any

import pytest

from tests.support.cluster import Space
from tests.support.evidence import (
    ended,
    job_of,
    locks,
    pods_of,
    says,
    snapshots,
    wait_restic,
)

SLOW = {"args": ["--limit-upload=100"]}
"""KiB per second: with BIG the upload alone takes a minute."""
BIG = "head -c 6000000 /dev/urandom > /data/big; sync"


def slow(space: Space, **spec: Any) -> None:
    """Create all that a backup of a minute needs."""
    space.ready(target=SLOW, **spec)
    space.exec("app", BIG)


def test_concurrent_session(space: Space) -> None:
    """A session that meets a running one of its configuration is Skipped and starts nothing."""
    space.ready(target={"args": ["--limit-upload=600"]})
    space.exec("app", BIG)
    space.apply(space.session("first"))
    wait_restic(space, job_of("first"))
    skipped = space.back_up("second", "Skipped")
    words = ["Previous BackupSession: first", "Running"]
    says(skipped, "BackupSkipped", "True", words)
    assert space.get("job", job_of("second")) is None
    space.wait_phase("backupsession", "first", "Succeeded")
    assert len(snapshots(space)) == 1
    space.back_up("third")
    assert len(snapshots(space)) == 2


@pytest.mark.parametrize("made_by", ["user", "trigger"])
def test_configuration_deleted(space: Space, made_by: str) -> None:
    """A configuration that is deleted during its backup takes it along: told to end, no lock."""
    slow(space)
    if made_by == "user":
        session = "first"
        space.apply(space.session(session))
    else:
        job = ("job", "now", "--from=cronjob/stash-trigger-backup")
        space.cluster.kubectl("create", "-n", space.name, *job)
        found = space.cluster.until("a session", lambda: space.list("backupsession"))
        session = str(found[0]["metadata"]["name"])
    pod = wait_restic(space, job_of(session))
    space.cluster.kubectl("delete", "backupconfiguration", "backup", "-n", space.name)
    began = time.monotonic()
    uid = pod["metadata"]["uid"]

    def gone() -> bool:
        return all(other["metadata"]["uid"] != uid for other in pods_of(space, job_of(session)))

    space.cluster.until("the end of the pod", gone, timeout_s=30.0)
    assert locks(space) == []
    if made_by == "user":
        failed = space.wait_phase("backupsession", session, "Failed", timeout_s=10.0)
        error = failed["status"]["targets"][0]["stats"][0]["error"]
        assert f"BackupConfiguration {space.name}/backup" in error
    assert time.monotonic() - began < 30.0
    space.apply(space.configuration())
    space.wait_phase("backupconfiguration", "backup", "Ready")
    space.back_up("last")


def test_deadline(space: Space) -> None:
    """A backup that is not done within timeOut is ended in order, and says which field to raise."""
    slow(space, timeOut="8s")
    failed = space.back_up("first", "Failed")
    error = failed["status"]["targets"][0]["stats"][0]["error"]
    assert error.startswith("DeadlineExceeded: "), error
    assert "timeOut" in error
    says(failed, "DeadlineExceeded", "True", ["8s"])
    assert failed["status"]["sessionDeadline"]
    assert ended(space, job_of("first"))["exitCode"] == 1
    assert locks(space) == []
    changed = space.configuration()
    space.apply(changed)
    space.cluster.until(
        "the spec",
        lambda: (
            (found := space.get("backupconfiguration", "backup") or {})
            and found["status"]["observedGeneration"] == found["metadata"]["generation"]
        ),
    )
    space.back_up("second")
    assert len(snapshots(space)) == 1
