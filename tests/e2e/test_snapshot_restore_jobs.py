"""The Job of a restore from VolumeSnapshots: killed, deleted, without rights, without an operator.

Whatever happens to it, each claim is made once: what the session has made already is its own.
"""

import os
import signal

import pytest

from tests.support.audit import OPERATOR, Audit
from tests.support.barrier import barrier
from tests.support.cluster import Cluster, Space
from tests.support.doorkeeper import CLAIM, Doorkeeper
from tests.support.evidence import answers, pods_of
from tests.support.operators import kill_leader
from tests.support.runners import is_complete, kill_runner, runner_of
from tests.support.snapshots import (
    FINAL,
    Faults,
    assert_content,
    hosts,
    names,
    one_file,
    phases,
    restore,
    restored,
    restorer,
    template,
)

COPIES = ("copy-a", "copy-b", "copy-c")
JOB = "stash-vs-restore-restore"
BINDING = "restoresession-restore-0"


@pytest.fixture
def snapshot(space: Space) -> str:
    """The name of a VolumeSnapshot of the claim `data`, which holds one file."""
    return one_file(space)


def begin(space: Space, snapshot: str) -> None:
    """Ask for three claims of one snapshot."""
    space.apply(restore(space, *(template(space, name, snapshot) for name in COPIES)))


def made(space: Space) -> dict[str, str]:
    """Return the copies that exist, with their uids."""
    found = {claim["metadata"]["name"]: claim["metadata"]["uid"] for claim in space.list("pvc")}
    return {name: uid for name, uid in found.items() if name in COPIES}


def creations(space: Space, audit: Audit) -> list[int]:
    """Return what the API server answered to the Job's creations."""
    return answers(audit, "create", "persistentvolumeclaims", space, user=restorer(space))


@pytest.mark.parametrize("held", [COPIES, COPIES[1:2]], ids=["before", "between"])
def test_job_killed(space: Space, snapshot: str, held: tuple[str, ...]) -> None:
    """Killed before anything, or after two of three: the next pod makes exactly what is missing."""
    audit = Audit(space.cluster.info["audit_log"])
    passing = set(COPIES) - set(held)
    with Doorkeeper(space, held, kind=CLAIM) as door:
        begin(space, snapshot)
        space.cluster.until("the creation waits", lambda: len(door.waiting) >= len(held))
        space.cluster.until("the others", lambda: set(made(space)) == passing)
        before = made(space)
        kill_runner(space, *runner_of(space, JOB))
        door.open()
        found = space.wait_phase("restoresession", "restore", *FINAL)
    assert phases(found) == dict.fromkeys(COPIES, "Succeeded"), found["status"]
    after = made(space)
    assert set(after) == set(COPIES)
    assert before.items() <= after.items(), "what was made stays"
    assert len(pods_of(space, JOB)) == 2
    codes = creations(space, audit)
    assert codes.count(201) == len(COPIES)
    assert codes.count(409) == len(passing), "what was there already is taken for its own"
    assert_content(space, "copy-b")


def test_job_killed_before_it_could_report(space: Space, snapshot: str) -> None:
    """Killed after all were created: the restore needs no report of what it sees for itself."""
    audit = Audit(space.cluster.info["audit_log"])
    with Doorkeeper(space, COPIES, kind=CLAIM) as door:
        begin(space, snapshot)
        space.cluster.until("the creation waits", lambda: len(door.waiting) == len(COPIES))
        pod, pid = runner_of(space, JOB)
        os.kill(pid, signal.SIGSTOP)  # it sees none of the answers
        door.open()
        space.cluster.until("the claims", lambda: set(made(space)) == set(COPIES))
        before = made(space)
        kill_runner(space, pod, pid)
        found = space.wait_phase("restoresession", "restore", *FINAL)
    assert phases(found) == dict.fromkeys(COPIES, "Succeeded"), found["status"]
    assert made(space) == before
    codes = creations(space, audit)
    assert codes[: len(COPIES)] == [201] * len(COPIES)
    assert set(codes[len(COPIES) :]) <= {409}, "nothing is made twice"


def test_job_deleted_before_creation(space: Space, snapshot: str) -> None:
    """A Job that is deleted before it did anything fails the restore within seconds."""
    audit = Audit(space.cluster.info["audit_log"])
    with Doorkeeper(space, kind=CLAIM) as door:
        begin(space, snapshot)
        space.cluster.until("the creation waits", lambda: len(door.waiting) == len(COPIES))
        space.wait_phase("restoresession", "restore", "Running")
        space.cluster.kubectl(
            "delete", "job", JOB, "-n", space.name, "--cascade=foreground", "--grace-period=1",
            "--wait=false",
        )  # fmt: skip
        found = space.wait_phase("restoresession", "restore", *FINAL, timeout_s=40.0)
        assert not made(space)
    assert phases(found) == dict.fromkeys(COPIES, "Failed"), found["status"]
    for stat in hosts(found).values():
        assert "JobDeleted: its Job was deleted before it reported" in stat["error"], stat
    assert 201 not in creations(space, audit)
    again = restored(space, template(space, "copy-a", snapshot), name="again")
    assert phases(again) == {"copy-a": "Succeeded"}


def test_job_deleted_after_creation(space: Space, snapshot: str, faults: Faults) -> None:
    """Once the claims are made the Job is not needed: it may go while they are filled."""
    faults.set({"call": "CreateVolume", "code": "UNAVAILABLE", "message": "not now"})
    audit = Audit(space.cluster.info["audit_log"])
    begin(space, snapshot)
    space.cluster.until("the claims", lambda: set(made(space)) == set(COPIES))
    space.cluster.until("the Job's end", lambda: is_complete(space, JOB))
    space.cluster.kubectl("delete", "job", JOB, "-n", space.name)
    assert (space.get("restoresession", "restore") or {})["status"]["phase"] == "Running"
    faults.clear()
    found = space.wait_phase("restoresession", "restore", *FINAL)
    assert phases(found) == dict.fromkeys(COPIES, "Succeeded"), found["status"]
    assert answers(audit, "create", "jobs", space, name=JOB) == [201], "not made again"
    assert_content(space, "copy-a")


def test_rights_missing(space: Space, snapshot: str) -> None:
    """A Job that may create nothing says what is forbidden, and what to look at.

    The runner doubts such a refusal for a minute: an API server that has just started gives it too.
    """
    audit = Audit(space.cluster.info["audit_log"])
    with barrier(space) as closed:
        space.apply(
            restore(space, template(space, "copy-a", snapshot), runtimeSettings=closed.settings)
        )
        space.cluster.until("the pod waits", lambda: pods_of(space, JOB))
        space.cluster.kubectl(
            "patch", "rolebinding", BINDING, "-n", space.name, "--type=merge",
            "-p", '{"subjects": null}',
        )  # fmt: skip
        closed.open()
        found = space.wait_phase("restoresession", "restore", *FINAL, timeout_s=150.0)
    error = hosts(found)["copy-a"]["error"]
    assert error.startswith("CreationRefused"), error
    for word in ("persistentvolumeclaims", "forbidden", "RoleBinding"):
        assert word in error, error
    assert set(creations(space, audit)) == {403}
    assert sorted(names(space.list("pvc"))) == ["data"]
    again = restored(space, template(space, "copy-a", snapshot), name="again")
    assert phases(again) == {"copy-a": "Succeeded"}


@pytest.mark.serial
def test_operator_killed_while_claims_are_filled(
    cluster: Cluster, space: Space, snapshot: str, faults: Faults
) -> None:
    """A killed operator finds its restore again: no Job and no claim is made twice."""
    faults.set({"call": "CreateVolume", "delay_s": 8})
    audit = Audit(cluster.info["audit_log"])
    begin(space, snapshot)
    space.cluster.until("the claims", lambda: set(made(space)) == set(COPIES))
    before = made(space)
    kill_leader(cluster)
    found = space.wait_phase("restoresession", "restore", *FINAL)
    assert phases(found) == dict.fromkeys(COPIES, "Succeeded"), found["status"]
    assert made(space) == before
    assert creations(space, audit) == [201] * len(COPIES)
    assert answers(audit, "create", "jobs", space, name=JOB, user=OPERATOR).count(201) == 1
    assert_content(space, "copy-c")
