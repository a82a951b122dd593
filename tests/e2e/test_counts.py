"""What one backup costs in the steady state, counted by others than us.

Two configurations fire at the same minute: the backup of one takes about two seconds, that of the
other about a minute. Requests are counted in the API server's audit log, restic processes in the
S3 server's access log, pods by a watch of kubectl.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.audit import OPERATOR, Audit, Request, unix_s
from tests.support.cluster import Cluster, Space
from tests.support.storage import AccessLog
from tests.support.watch import PodWatch

LEAD_S = 30
"""From setting the schedule to the slot that is counted: the CronJob has to follow meanwhile."""
SETTLE_S = 4.0
UPLOAD_KIB_PER_S = 100
TARGET = {"args": [f"--limit-upload={UPLOAD_KIB_PER_S}"]}
SLOW_KIB = 60 * UPLOAD_KIB_PER_S
MOST_WRITES = 7


CATALOGUE = ("pvc-backup", "pvc-restore", "update-status")


@dataclass(frozen=True)
class Counted:
    """What one backup cost. `drey` holds all that Drey asked meanwhile, watches included."""

    session: Mapping[str, Any]
    pods: list[dict[str, Any]]
    restic_processes: int
    drey: list[Request]
    everywhere: list[Request]
    """Requests of the operator about no namespace in particular: lists, and reads of the catalogue.

    Reads of Tasks that do not exist are those of other tests' configurations.
    """

    @property
    def writes(self) -> Counter[tuple[str, str]]:
        """Return how often each verb on each resource wrote."""
        return Counter((r.verb, r.resource) for r in self.drey if r.is_write)

    @property
    def backup_pod(self) -> dict[str, Any]:
        """Return the pod that ran the backup."""
        (pod,) = [p for p in self.pods if p["metadata"]["name"].startswith("stash-backup-")]
        return pod

    @property
    def run_s(self) -> tuple[float, float]:
        """Return from when to when the container ran, as the kubelet says, in whole seconds."""
        ended = self.backup_pod["status"]["containerStatuses"][0]["state"]["terminated"]
        return unix_s(ended["startedAt"]), unix_s(ended["finishedAt"])


@dataclass(frozen=True)
class Both:
    """A backup of seconds and one of a minute."""

    quick: Counted
    slow: Counted


@pytest.fixture(scope="module")
def both(cluster: Cluster) -> Iterator[Both]:
    """Two namespaces in the steady state: the second backup, the history's limit reached."""
    with cluster.space("count-quick") as quick, cluster.space("count-slow") as slow:
        for space in (quick, slow):
            space.ready(target=TARGET)
            space.exec("app", "echo hello > /data/hello")
            space.apply(space.session("first"))
        for space in (quick, slow):
            space.wait_phase("backupsession", "first", "Succeeded")
        slow.exec("app", f"head -c {SLOW_KIB * 1024} /dev/urandom > /data/large; sync")
        quick.exec("app", "head -c 100000 /dev/urandom > /data/small; sync")
        slot = int((time.time() + LEAD_S) // 60 + 1) * 60
        for space in (quick, slow):
            _schedule(space, slot)
        assert time.time() < slot - 3, "the CronJobs followed too late"
        time.sleep(slot - 2 - time.time())
        with ExitStack() as stack:
            audit, log = Audit(cluster.info["audit_log"]), AccessLog(cluster.info["s3"])
            watches = [stack.enter_context(PodWatch(space)) for space in (quick, slow)]
            sessions = [_scheduled(space, slot) for space in (quick, slow)]
            time.sleep(SETTLE_S)
            counted = [
                Counted(
                    session=session,
                    pods=[p for p in watch.pods() if _is_new(p, slot)],
                    restic_processes=log.restic_processes(space.name, "repo"),
                    drey=audit.of_drey(space.name),
                    everywhere=[
                        r
                        for r in audit.requests()
                        if r.user == OPERATOR and not r.namespace and r.name in (*CATALOGUE, "")
                    ],
                )
                for space, session, watch in zip((quick, slow), sessions, watches, strict=True)
            ]
        yield Both(*counted)


def _schedule(space: Space, slot: int) -> None:
    moment = time.localtime(slot)  # a CronJob goes by its controller's time zone: the host's
    schedule = f"{moment.tm_min} {moment.tm_hour} * * *"
    space.apply(space.configuration(schedule=schedule, target=TARGET))

    def has_followed() -> bool:
        found = space.get("cronjob", "stash-trigger-backup")
        return found is not None and found["spec"]["schedule"] == schedule

    space.cluster.until("the CronJob's schedule", has_followed)


def _scheduled(space: Space, slot: int) -> dict[str, Any]:
    return space.wait_phase(
        "backupsession", f"backup-{slot}", "Succeeded", "Failed", "Skipped", timeout_s=180.0
    )


def _is_new(pod: Mapping[str, Any], slot: int) -> bool:
    return unix_s(pod["metadata"]["creationTimestamp"]) >= slot - 1


def test_backups_took_seconds_and_a_minute(both: Both) -> None:
    """What is compared below really differs: one backup ran for seconds, the other for a minute."""
    for counted in (both.quick, both.slow):
        assert counted.session["status"]["phase"] == "Succeeded", counted.session["status"]
    begun, ended = both.slow.run_s
    assert ended - begun >= 55
    begun, ended = both.quick.run_s
    assert ended - begun <= 20


def test_two_pods_of_one_container(both: Both) -> None:
    """A backup takes two pods, the trigger's and its own, of one container each."""
    for counted in (both.quick, both.slow):
        names = sorted(pod["metadata"]["name"] for pod in counted.pods)
        assert len(names) == 2, names
        assert names[0].startswith("stash-backup-backup-")
        assert names[1].startswith("stash-trigger-backup-")
        for pod in counted.pods:
            assert len(pod["spec"]["containers"]) == 1
            assert not pod["spec"].get("initContainers")


def test_two_restic_processes(both: Both) -> None:
    """`restic backup` and `restic forget`, and no other process opens the repository."""
    assert both.quick.restic_processes == 2
    assert both.slow.restic_processes == 2


def test_at_most_seven_writes(both: Both) -> None:
    """Operator and trigger together write at most seven times (D13), whatever the duration."""
    for counted in (both.quick, both.slow):
        assert counted.writes.total() <= MOST_WRITES, "\n".join(map(str, counted.drey))
        assert counted.writes["create", "backupsessions"] == 1
        assert counted.writes["delete", "backupsessions"] == 1, "the history's limit was reached"
        assert all(r.code < 400 for r in counted.drey if r.is_write), "none was refused"
    assert both.quick.writes == both.slow.writes


def test_no_request_while_the_backup_runs(both: Both) -> None:
    """Between the start of the container and its end nothing is asked: watches tell."""
    begun, ended = both.slow.run_s
    asked = [
        str(request)
        for request in (*both.slow.drey, *both.slow.everywhere)
        if request.verb != "watch" and begun + 1 <= request.begun_s < ended
    ]
    assert asked == []
