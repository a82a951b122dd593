"""controller.engine.loop: what each outcome does to the key, and what is said of it."""

import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from controller.api.objects import NO_UID, Key, Obj
from controller.api.resources import BACKUP_SESSION, JOB
from controller.engine.executor import Executor
from controller.engine.loop import Loop, Outcome
from controller.engine.metrics import Metrics
from controller.engine.queue import WorkQueue
from controller.engine.ratelimit import BASE_S
from controller.engine.store import Store
from controller.kube.errors import Conflict, Forbidden, Invalid, Throttled, Unreachable
from controller.plan import CreateOnce, Note, Plan, Push, Ref, Refusal, SetStatus
from tests.support.clock import FakeClock
from tests.support.kube import FakeKube

A = Key("ns", "a")
NOTE = Note(Ref(BACKUP_SESSION, "ns", "a", NO_UID), "Normal", "Done", "done")
PUSH = Push("group", (("success", {}, 0.0),))
JOB_WRITE = CreateOnce(JOB, {"metadata": {"namespace": "ns", "name": "j"}})


class World:
    """A loop over a scripted reconciler: `plans` answers each observation in turn."""

    lane = "sessions"

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.kube = FakeKube()
        self.metrics = Metrics(CollectorRegistry())
        self.queue = WorkQueue((self.lane,), self.clock)
        self.store = Store()
        self.notes: list[Note] = []
        self.pushes: list[Push] = []
        self.refusals: list[Refusal | None] = []
        self.plans: Iterator[Plan | Exception | None] = iter(())
        self.loop = Loop(
            self,
            BACKUP_SESSION,
            queue=self.queue,
            executor=Executor(self.kube),
            record=self.notes.append,
            push=self.pushes.append,
            clock=self.clock,
            lister=self.store,
            metrics=self.metrics,
        )

    def observe(self, _key: Key, refusal: Refusal | None) -> Any:
        """Return the next plan as what was observed."""
        self.refusals.append(refusal)
        step = next(self.plans)
        if isinstance(step, Exception):
            raise step
        return step

    def plan(self, observed: Any, now: datetime) -> Plan:
        """Return it."""
        assert now == self.clock.now()
        plan: Plan = observed
        return plan

    def turn(self, *plans: Plan | Exception | None) -> Outcome:
        """Take one turn of the key `a`."""
        self.plans = iter(plans)
        self.queue.add(self.lane, A)
        assert self.queue.get(self.lane, timeout_s=0.0) == A
        outcome = self.loop.turn(A)
        self.queue.done(self.lane, A)
        assert next(self.plans, "end") == "end"
        return outcome

    def due_in_s(self) -> float | None:
        """Return when the key is due again, and take it out."""
        waiting = self.queue._lanes[self.lane].waiting.pop(A, None)
        return None if waiting is None else waiting.due_s - self.clock.monotonic()


@pytest.fixture
def world() -> World:
    """Return a fresh world."""
    return World()


def test_a_plan_without_a_wish_ends_the_matter(world: World) -> None:
    """ok: forgotten, not due again, notes told."""
    assert world.turn(Plan(notes=(NOTE,))) is Outcome.OK
    assert world.due_in_s() is None
    assert world.notes == [NOTE]


def test_pushes_go_out_once_all_is_written(world: World) -> None:
    """What a plan wants pushed is told after its last write, and not if one of them failed."""
    world.kube.fail("create", Conflict("changed"))
    world.turn(Plan((JOB_WRITE,), pushes=(PUSH,)))
    assert world.pushes == []
    world.turn(Plan((JOB_WRITE,), pushes=(PUSH,)))
    assert world.pushes == [PUSH]


def test_requeue_after_is_kept_and_forgets_failures(world: World) -> None:
    """A wanted look is no failure: the next failure starts at the shortest delay."""
    for _ in range(5):
        assert world.turn(Unreachable("down")) is Outcome.RETRY
    assert world.turn(Plan(requeue_after_s=60.0)) is Outcome.REQUEUE_AFTER
    assert world.due_in_s() == 60.0
    assert world.turn(Unreachable("down")) is Outcome.RETRY
    assert world.due_in_s() == pytest.approx(BASE_S)


def test_a_gone_object_is_forgotten(world: World) -> None:
    """Nothing is kept for keys that are no more."""
    world.turn(Unreachable("down"))
    world.due_in_s()
    assert world.turn(None) is Outcome.OK
    assert world.due_in_s() is None
    assert not world.queue._limiter._failures
    assert not world.loop._memory


def test_a_lost_race_is_soon_and_quiet(world: World) -> None:
    """409: no error, no warning, a few milliseconds."""
    world.kube.fail("create", Conflict("changed"))
    with capture_logs() as lines:
        assert world.turn(Plan((JOB_WRITE,), notes=(NOTE,))) is Outcome.STALE
    assert world.due_in_s() == pytest.approx(0.005)
    assert world.notes == []
    assert [line["log_level"] for line in lines] == ["info"]


def test_outages_back_off(world: World) -> None:
    """retry: longer and longer, in the observer and in the executor alike."""
    delays = []
    for _ in range(3):
        world.turn(Unreachable("down"))
        delays.append(world.due_in_s())
    assert delays == pytest.approx([0.005, 0.01, 0.02])
    world.kube.fail("create", Throttled("busy", retry_after_s=9.0))
    assert world.turn(Plan((JOB_WRITE,))) is Outcome.RETRY
    assert world.due_in_s() == 9.0


def test_a_refusal_is_planned_for_in_the_same_turn(world: World) -> None:
    """The reason becomes a condition at once; the write is tried again later, up to each 300 s."""
    world.kube.fail("create", *[Invalid("spec.x: wrong")] * 30)
    status = world.kube.put_object(BACKUP_SESSION, {"metadata": {"namespace": "ns", "name": "a"}})
    told = Plan((SetStatus(Ref.to(BACKUP_SESSION, status), {"phase": "Invalid"}),), notes=(NOTE,))
    assert world.turn(Plan((JOB_WRITE,)), told) is Outcome.REFUSED
    first, second = world.refusals
    assert first is None
    assert second == Refusal(JOB_WRITE, "Invalid", "spec.x: wrong")
    assert world.kube.objects["BackupSession", "ns", "a"]["status"] == {"phase": "Invalid"}
    assert world.notes == [NOTE]
    assert world.due_in_s() == 1.0
    for _ in range(20):
        world.turn(Plan((JOB_WRITE,)), Plan())
        delay_s = world.due_in_s()
    assert delay_s == 300.0


def test_a_refused_condition_does_not_loop(world: World) -> None:
    """Planned twice, no more: the second refusal waits for the next turn."""
    world.kube.fail("create", Invalid("no"), Invalid("no again"))
    assert world.turn(Plan((JOB_WRITE,)), Plan((JOB_WRITE,))) is Outcome.REFUSED
    assert world.kube.calls == [("create", "Job")] * 2


def test_a_first_403_is_doubted_for_some_seconds(world: World) -> None:
    """An API server that has just started refuses everybody: no session may fail by that."""
    world.kube.fail("create", *[Forbidden("cannot create")] * 3)
    assert world.turn(Plan((JOB_WRITE,))) is Outcome.RETRY
    assert world.due_in_s() == 1.0
    world.clock.advance(2.0)
    assert world.turn(Plan((JOB_WRITE,))) is Outcome.RETRY
    world.clock.advance(4.0)
    assert world.turn(Plan((JOB_WRITE,)), Plan()) is Outcome.REFUSED
    assert world.refusals[-1] is not None
    assert world.turn(Plan((JOB_WRITE,))) is Outcome.OK
    world.kube.fail("create", Forbidden("cannot create"))
    assert world.turn(Plan((JOB_WRITE,))) is Outcome.RETRY


def test_what_a_former_owner_left_is_waited_for_with_a_warning_and_not_for_ever(
    world: World,
) -> None:
    """The garbage collector takes it, as a rule; a finalizer may keep it until somebody helps."""

    def owned(uid: str) -> Obj:
        owner = {"apiVersion": "v1", "kind": "K", "name": "o", "uid": uid, "controller": True}
        return {"metadata": {"namespace": "ns", "name": "j", "ownerReferences": [owner]}}

    world.kube.put_object(JOB, owned("old"))
    plan = Plan((CreateOnce(JOB, owned("new")),))
    with capture_logs() as lines:
        assert world.turn(plan) is Outcome.RETRY
        world.clock.advance(599.0)
        assert world.turn(plan) is Outcome.RETRY
    assert [line["log_level"] for line in lines] == ["warning", "info"]
    assert lines[0]["error_kind"] == "FormerNamesake"
    world.clock.advance(2.0)
    assert world.turn(plan, Plan()) is Outcome.REFUSED
    assert world.refusals[-1] is not None
    assert world.refusals[-1].reason == "FormerNamesake"


@pytest.mark.parametrize(("wanted_s", "due_s"), [(40.0, 40.0), (0.0, 1.0), (900.0, 300.0)])
@pytest.mark.parametrize("outcome", [Outcome.RETRY, Outcome.REFUSED])
def test_a_deadline_of_the_plan_is_met_whatever_is_refused(
    world: World, outcome: Outcome, wanted_s: float, due_s: float
) -> None:
    """A timeOut or quiesce limit does not wait for a backoff; nor does one that has passed spin."""
    is_doubted = outcome is Outcome.RETRY
    old = {"apiVersion": "v1", "kind": "K", "name": "o", "uid": "old", "controller": True}
    left = {"metadata": {"namespace": "ns", "name": "j", "ownerReferences": [old]}}
    world.kube.put_object(JOB, left)
    new = {"metadata": {**left["metadata"], "ownerReferences": [{**old, "uid": "new"}]}}
    writes = CreateOnce(JOB, new) if is_doubted else JOB_WRITE
    world.kube.fail("create", *[] if is_doubted else [Invalid("no")] * 20)
    plan = Plan((writes,), requeue_after_s=wanted_s)
    for _ in range(20):
        plans = [plan] if is_doubted else [plan, Plan(requeue_after_s=wanted_s)]
        assert world.turn(*plans) is outcome
        found_s = world.due_in_s()
    assert found_s == due_s


def test_an_outage_is_not_asked_more_often_than_its_backoff(world: World) -> None:
    """What the plan wanted is of no use while nothing can be written."""
    world.kube.fail("create", *[Unreachable("down")] * 20)
    for _ in range(20):
        assert world.turn(Plan((JOB_WRITE,), requeue_after_s=0.5)) is Outcome.RETRY
        found_s = world.due_in_s()
    assert found_s is not None
    assert found_s > 0.5


def test_a_bug_is_told_and_does_not_end_the_loop(world: World) -> None:
    """panic: traceback, counter, backoff."""
    with capture_logs() as lines:
        assert world.turn(ZeroDivisionError("bug")) is Outcome.PANIC
    assert world.due_in_s() == pytest.approx(0.005)
    assert lines[0]["event"] == "reconcile_panicked"
    value = world.metrics.registry.get_sample_value
    assert value("reconcile_panics_total", {"kind": "BackupSession"}) == 1
    assert value("reconcile_total", {"kind": "BackupSession", "outcome": "panic"}) == 1
    assert value("reconcile_total", {"kind": "BackupSession", "outcome": "stale"}) == 0


def test_our_own_write_is_waited_for(world: World) -> None:
    """The cache is older than our last status: no plan on it, but not for ever."""
    live = world.kube.put_object(BACKUP_SESSION, {"metadata": {"namespace": "ns", "name": "a"}})
    world.store.upsert(live)
    world.turn(Plan((SetStatus(Ref.to(BACKUP_SESSION, live), {"phase": "Running"}),)))
    assert world.turn() is Outcome.BEHIND
    assert world.due_in_s() == pytest.approx(0.05)
    world.store.upsert(world.kube.objects["BackupSession", "ns", "a"])
    assert world.turn(Plan()) is Outcome.OK
    current = world.kube.objects["BackupSession", "ns", "a"]
    world.turn(Plan((SetStatus(Ref.to(BACKUP_SESSION, current), {}),)))
    assert world.turn() is Outcome.BEHIND
    world.clock.advance(6.0)
    assert world.turn(Plan()) is Outcome.OK


def levels(*turns: Callable[[], object]) -> list[str]:
    """Return the level of the canonical line of each turn."""
    found = []
    for one in turns:
        with capture_logs() as lines:
            one()
        found.append(lines[-1]["log_level"])
        assert lines[-1]["event"] == "reconciled"
    return found


def test_a_line_is_info_when_there_is_news(world: World) -> None:
    """Written, or other facts than last time; else it is for debugging."""
    running, done = Plan(facts={"phase": "Running"}), Plan(facts={"phase": "Succeeded"})
    assert levels(
        lambda: world.turn(running),
        lambda: world.turn(running),
        lambda: world.turn(Plan((JOB_WRITE,), facts={"phase": "Running"})),
        lambda: world.turn(done),
        lambda: world.turn(Plan()),
    ) == ["info", "debug", "info", "info", "debug"]


def test_a_failure_warns_once(world: World) -> None:
    """The same words again are no news; after a success they are."""
    assert levels(
        lambda: world.turn(Unreachable("down")),
        lambda: world.turn(Unreachable("down")),
        lambda: world.turn(Unreachable("TLS")),
        lambda: world.turn(Plan()),
        lambda: world.turn(Unreachable("down")),
    ) == ["warning", "debug", "warning", "debug", "warning"]


def test_the_line_has_fixed_keys(world: World) -> None:
    """Whoever greps knows what to grep for."""
    with capture_logs() as lines:
        world.turn(Plan((JOB_WRITE,), requeue_after_s=5.0, facts={"phase": "Running"}))
    assert set(lines[-1]) == {
        "event",
        "log_level",
        "outcome",
        "writes",
        "duration_ms",
        "requeue_s",
        "phase",
    }
    assert (lines[-1]["outcome"], lines[-1]["writes"]) == ("requeue_after", 1)


def test_run_takes_turns_until_the_queue_shuts_down(world: World) -> None:
    """`done` follows each turn, and the shutdown ends the worker."""

    def plans() -> Iterator[Plan | Exception]:
        yield Plan()
        yield RuntimeError("bug")
        world.queue.shut_down()
        yield Plan()

    world.plans = plans()
    world.queue.add(world.lane, A)
    worker = threading.Thread(target=world.loop.run)
    worker.start()
    for _ in range(100):
        world.queue.add(world.lane, A)
        worker.join(0.02)
        if not worker.is_alive():
            break
    assert not worker.is_alive()
    assert world.queue.processing_s(world.lane) == []
    assert len(world.refusals) == 3
