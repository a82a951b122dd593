"""What snapshots of twenty claims cost in the steady state, counted in the API server's audit log.

Two configurations fire at the same minute: the driver of one is done at once, that of the other
takes a minute for each snapshot.
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
from tests.support.snapshots import (
    FINAL,
    Faults,
    bound,
    claims,
    configuration,
    named,
    names,
    phases,
    ready,
    snapshots,
    workload,
)

pytestmark = pytest.mark.native

CLAIMS = tuple(f"data-app-{ordinal}" for ordinal in range(20))
MOST_OTHERS = 12
LEAD_S = 30
"""From setting the schedule to the slot that is counted: the CronJobs have to follow meanwhile."""
SLOW_S = 60.0
QUICK_S = 50.0
"""A busy machine takes long to start a pod; a driver's minute is longer all the same."""
SETTLE_S = 4.0
SPEC: Mapping[str, Any] = {
    "target": {"replicas": len(CLAIMS)},
    "retentionPolicy": {"name": "one", "keepLast": 1, "prune": True},
}


@dataclass(frozen=True)
class Counted:
    """What one session cost. `asked` holds what Drey asked meanwhile, without watches.

    Also about objects of no namespace: the session's own ones, and all lists. `before` are the
    names of the VolumeSnapshots that retention is to delete.
    """

    session: Mapping[str, Any]
    before: list[str]
    snapshots: list[dict[str, Any]]
    asked: list[Request]

    @property
    def creates(self) -> list[Request]:
        """Return the requests that created VolumeSnapshots."""
        wanted = ("create", "volumesnapshots")
        return [r for r in self.asked if (r.verb, r.resource) == wanted]

    @property
    def deletions(self) -> list[Request]:
        """Return the requests of retention."""
        wanted = ("delete", "volumesnapshots")
        return [r for r in self.asked if (r.verb, r.resource) == wanted]

    @property
    def others(self) -> Counter[tuple[str, str]]:
        """Return how often everything else was asked."""
        aside = (*self.creates, *self.deletions)
        return Counter((r.verb, r.resource) for r in self.asked if r not in aside)


@dataclass(frozen=True)
class Both:
    """The session of a quick driver and that of a slow one."""

    quick: Counted
    slow: Counted


@pytest.fixture(scope="module")
def both(cluster: Cluster) -> Iterator[Both]:
    """Two namespaces in the steady state: the second session, the history's limit reached."""
    with cluster.space("count-20-quick") as quick, cluster.space("count-20-slow") as slow:
        for space in (quick, slow):
            # Claims without pods: the StatefulSet's own number is 0.
            application = workload(space, "StatefulSet", templates=("data",), replicas=0)
            space.apply(*claims(space, *CLAIMS, size="16Mi"), application)
        for space in (quick, slow):
            bound(space, *CLAIMS)
            ready(space, configuration(space, "StatefulSet", "app", **SPEC))
            space.apply(space.session("first"))
        for space in (quick, slow):
            space.wait_phase("backupsession", "first", "Succeeded")
        before = [names(snapshots(space)) for space in (quick, slow)]
        slot = int((time.time() + LEAD_S) // 60 + 1) * 60
        for space in (quick, slow):
            _schedule(space, slot)
        assert time.time() < slot - 3, "the CronJobs followed too late"
        with ExitStack() as stack:
            faults = Faults(slow)
            stack.callback(faults.clear)
            faults.set({"call": "CreateSnapshot", "not_ready": True, "delay_s": SLOW_S})
            time.sleep(slot - 2 - time.time())
            audit = Audit(cluster.info["audit_log"])
            sessions = [
                space.wait_phase("backupsession", f"backup-{slot}", *FINAL, timeout_s=180.0)
                for space in (quick, slow)
            ]
            time.sleep(SETTLE_S)
            counted = [
                Counted(
                    session=session,
                    before=earlier,
                    snapshots=snapshots(space, session),
                    asked=[
                        r
                        for r in (*audit.of_drey(space.name), *_elsewhere(audit, space))
                        if r.verb != "watch"
                    ],
                )
                for space, earlier, session in zip((quick, slow), before, sessions, strict=True)
            ]
        yield Both(*counted)


def _elsewhere(audit: Audit, space: Space) -> list[Request]:
    """Return what the operator asked of objects of no namespace, as far as a session could.

    Others' tests run at the same time, and their restores read single objects of such kinds.
    """
    contents = {f"snapcontent-{found['metadata']['uid']}" for found in snapshots(space)}
    volumes = {found["spec"]["volumeName"] for found in space.list("pvc")}
    return [
        r
        for r in audit.requests()
        if r.user == OPERATOR
        and not r.namespace
        and (r.name in ("", *contents, *volumes) or r.resource == "volumesnapshotclasses")
    ]


def _schedule(space: Space, slot: int) -> None:
    moment = time.localtime(slot)  # a CronJob goes by its controller's time zone: the host's
    schedule = f"{moment.tm_min} {moment.tm_hour} * * *"
    space.apply(configuration(space, "StatefulSet", "app", schedule=schedule, **SPEC))

    def has_followed() -> bool:
        found = space.get("cronjob", "stash-trigger-backup")
        return found is not None and found["spec"]["schedule"] == schedule

    space.cluster.until("the CronJob's schedule", has_followed)


def test_drivers_took_no_time_and_a_minute(both: Both) -> None:
    """What is compared below really differs."""
    for counted in (both.quick, both.slow):
        assert phases(counted.session) == dict.fromkeys(CLAIMS, "Succeeded")
    for counted, least_s, most_s in ((both.quick, 0.0, QUICK_S), (both.slow, SLOW_S, 3 * SLOW_S)):
        begun = unix_s(counted.session["metadata"]["creationTimestamp"])
        ended = max(unix_s(s["metadata"]["creationTimestamp"]) for s in counted.snapshots)
        assert ended - begun < QUICK_S, "creating is quick, whatever the driver does"
        duration = counted.session["status"]["sessionDuration"]
        took_s = sum(
            float(part) * unit_s
            for part, unit_s in zip(
                reversed(duration.removesuffix("s").split("m")), (1, 60), strict=False
            )
        )
        assert least_s <= took_s <= most_s, duration


def test_twenty_creates(both: Both) -> None:
    """Each VolumeSnapshot is created by exactly one request."""
    for counted in (both.quick, both.slow):
        assert sorted(r.name for r in counted.creates) == named(counted.session, *CLAIMS)
        assert {r.code for r in counted.creates} == {201}
        assert names(counted.snapshots) == named(counted.session, *CLAIMS)


def test_retention_deletes_each_by_one_request(both: Both) -> None:
    """They are set aside below: how many there are is the policy's business."""
    for counted in (both.quick, both.slow):
        assert len(counted.before) == len(CLAIMS)
        assert sorted(r.name for r in counted.deletions) == counted.before
        assert {(r.user, r.code) for r in counted.deletions} == {(OPERATOR, 200)}


def test_at_most_twelve_other_requests(both: Both) -> None:
    """All that operator, trigger and Job ask besides, the same however long the driver takes."""
    for counted in (both.quick, both.slow):
        told = "\n".join(map(str, counted.asked))
        assert counted.others.total() <= MOST_OTHERS, told
        assert all(r.code < 400 for r in counted.asked), told
    assert both.quick.others == both.slow.others


def test_nothing_is_asked_while_the_driver_works(both: Both) -> None:
    """From the last create until the first snapshot is ready watches tell, and nothing else."""
    begun = max(r.ended_s for r in both.slow.creates) + 5.0
    ended = unix_s(both.slow.session["metadata"]["creationTimestamp"]) + SLOW_S
    assert [str(r) for r in both.slow.asked if begun < r.begun_s < ended] == []
