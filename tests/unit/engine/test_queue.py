"""controller.engine.queue: no key twice at once, none lost, whatever the order of calls."""

import random
import threading
import time
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from controller.api.objects import Key
from controller.engine.clock import SystemClock
from controller.engine.queue import Priority, WorkQueue
from tests.support.clock import FakeClock

A, B, C = Key("ns", "a"), Key("ns", "b"), Key("ns", "c")


def queue(*lanes: str) -> tuple[WorkQueue, FakeClock]:
    """Return a queue with its clock."""
    clock = FakeClock()
    return WorkQueue(lanes or ("x",), clock), clock


def take(q: WorkQueue, lane: str = "x") -> Key | None:
    """Return what is due now."""
    return q.get(lane, timeout_s=0.0)


def test_a_key_waits_once_however_often_it_is_added() -> None:
    """Many events of one object are one turn."""
    q, _ = queue()
    for _ in range(3):
        q.add("x", A)
    assert [take(q), take(q)] == [A, None]


def test_what_is_added_during_processing_is_processed_once_more() -> None:
    """The turn in work may have read the old state."""
    q, _ = queue()
    q.add("x", A)
    assert take(q) == A
    q.add("x", A)
    q.add("x", A)
    assert take(q) is None
    q.done("x", A)
    assert [take(q), take(q)] == [A, None]


def test_the_earlier_time_counts() -> None:
    """`add_after` keeps the earliest due time, and no second timer."""
    q, clock = queue()
    q.add_after("x", A, 10.0)
    q.add_after("x", A, 5.0)
    q.add_after("x", A, 20.0)
    clock.advance(4.9)
    assert take(q) is None
    clock.advance(0.1)
    assert take(q) == A
    q.done("x", A)
    clock.advance(100.0)
    assert take(q) is None


def test_a_requeue_wanted_during_processing_is_kept() -> None:
    """`requeue_after` of the turn itself, unless an event wants it earlier."""
    q, clock = queue()
    q.add("x", A)
    assert take(q) == A
    q.add_after("x", A, 30.0)
    q.done("x", A)
    assert take(q) is None
    clock.advance(30.0)
    assert take(q) == A
    q.add_after("x", A, 30.0)
    q.add("x", A)
    q.done("x", A)
    assert take(q) == A


def test_higher_priority_goes_first_and_age_decides_otherwise() -> None:
    """A user's change passes what the first list or a resync brought."""
    q, _ = queue()
    q.add("x", A, Priority.LOW)
    q.add("x", B, Priority.LOW)
    q.add("x", C)
    q.add("x", B)
    assert [take(q) for _ in range(3)] == [C, B, A]


def test_lanes_do_not_wait_for_each_other() -> None:
    """A lane gives out its own keys only."""
    q, _ = queue("x", "y")
    q.add("x", A)
    assert take(q, "y") is None
    q.add("y", A)
    assert [take(q, "y"), take(q, "x")] == [A, A]


def test_rate_limited_adds_back_off_until_forgotten() -> None:
    """Each failure waits twice as long; a success starts over."""
    q, clock = queue()
    assert [q.add_rate_limited("x", A) for _ in range(3)] == [0.005, 0.01, 0.02]
    clock.advance(0.005)
    assert take(q) == A
    q.forget("x", A)
    q.done("x", A)
    assert q.add_rate_limited("x", A, at_least_s=7.0) == 7.0
    assert q.add_rate_limited("x", A) == 0.01


def test_shutdown_wakes_workers_and_takes_nothing_more() -> None:
    """A blocked worker ends at once."""
    q = WorkQueue(("x",), SystemClock())
    got: list[Key | None] = []
    worker = threading.Thread(target=lambda: got.append(q.get("x")))
    worker.start()
    q.shut_down()
    worker.join(5.0)
    q.add("x", A)
    assert got == [None]
    assert take(q) is None


def test_drain_waits_for_work_but_not_for_ever() -> None:
    """The pod's grace period bounds the wait."""
    q = WorkQueue(("x",), SystemClock())
    q.add("x", A)
    q.add("x", B)
    assert take(q) == A
    assert not q.drain(0.05)
    timer = threading.Timer(0.05, lambda: q.done("x", A))
    timer.start()
    assert q.drain(5.0)
    assert take(q) is None


def test_a_busy_worker_leaves_the_timers_to_another() -> None:
    """A worker that was woken for one key does not take the watch over the others with it."""
    q = WorkQueue(("x",), SystemClock())
    got: list[Key | None] = []
    release = threading.Event()

    def work() -> None:
        key = q.get("x", timeout_s=30.0)
        got.append(key)
        if key == A:
            release.wait(30.0)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    time.sleep(0.05)
    q.add_after("x", B, 1.0)
    q.add("x", A)
    workers_done = time.monotonic() + 20.0
    while len(got) < 2 and time.monotonic() < workers_done:
        time.sleep(0.01)
    meanwhile = list(got)
    release.set()
    for worker in workers:
        worker.join(30.0)
    assert meanwhile == [A, B]


def test_depth_and_running_times_are_told() -> None:
    """What finds a stuck worker."""
    q, clock = queue()
    q.add("x", A)
    q.add("x", B)
    q.add_after("x", C, 60.0)
    assert take(q) == A
    clock.advance(3.0)
    assert (q.depth("x"), list(q.processing_s("x"))) == (1, [3.0])


keys = st.sampled_from([A, B, C])


class QueueMachine(RuleBasedStateMachine):
    """Compares the queue with the plainest model: when each key is wanted at the latest."""

    def __init__(self) -> None:
        super().__init__()
        self.queue, self.clock = queue()
        self.wanted: dict[Key, float] = {}
        self.processing: set[Key] = set()

    def want(self, key: Key, delay_s: float) -> None:
        """Note that a turn must begin not before now, and at the latest then."""
        due_s = self.clock.monotonic() + delay_s
        self.wanted[key] = min(self.wanted.get(key, due_s), due_s)

    @rule(key=keys, priority=st.sampled_from(list(Priority)))
    def add(self, key: Key, priority: Priority) -> None:
        """An event."""
        self.queue.add("x", key, priority)
        self.want(key, 0.0)

    @rule(key=keys, delay_s=st.floats(0.0, 20.0))
    def add_after(self, key: Key, delay_s: float) -> None:
        """A requeue."""
        self.queue.add_after("x", key, delay_s)
        self.want(key, delay_s)

    @rule(key=keys)
    def add_rate_limited(self, key: Key) -> None:
        """A failure."""
        self.want(key, self.queue.add_rate_limited("x", key))

    @rule(seconds=st.floats(0.0, 10.0))
    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.clock.advance(seconds)

    @rule()
    def get(self) -> None:
        """A worker asks: it gets a wanted key, and nothing only if none is due."""
        key = take(self.queue)
        now_s = self.clock.monotonic()
        due = {k for k, at in self.wanted.items() if at <= now_s and k not in self.processing}
        if key is None:
            assert not due
        else:
            assert key in due
            self.processing.add(key)
            del self.wanted[key]

    @rule(key=keys)
    def done(self, key: Key) -> None:
        """A worker is done."""
        if key in self.processing:
            self.processing.remove(key)
            self.queue.done("x", key)

    @invariant()
    def counts_agree(self) -> None:
        """Depth is what is due and not in work."""
        now_s = self.clock.monotonic()
        due = [k for k, at in self.wanted.items() if at <= now_s and k not in self.processing]
        assert self.queue.depth("x") == len(due)
        assert len(self.queue.processing_s("x")) == len(self.processing)


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=100, deadline=None)


def test_threads_never_share_a_key_and_lose_none() -> None:
    """With real threads: 4 workers, random adds, re-adds from within the work."""
    q = WorkQueue(("x",), SystemClock())
    rng = random.Random(1)  # noqa: S311 - test data
    names = [Key("ns", str(n)) for n in range(20)]
    busy: Counter[Key] = Counter()
    state = threading.Lock()
    seen_version: dict[Key, int] = {}
    version: Counter[Key] = Counter()
    clashes: list[Key] = []

    def work() -> None:
        while (key := q.get("x")) is not None:
            with state:
                busy[key] += 1
                if busy[key] > 1:
                    clashes.append(key)
                read = version[key]
            time.sleep(0)
            with state:
                seen_version[key] = max(seen_version.get(key, 0), read)
                busy[key] -= 1
            q.done("x", key)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for _ in range(5000):
        key = rng.choice(names)
        with state:
            version[key] += 1
        q.add("x", key) if rng.random() < 0.8 else q.add_after("x", key, rng.random() / 100)
    ends = time.monotonic() + 20.0
    while (q.depth("x") or q.processing_s("x") or seen_version != dict(version)) and (
        time.monotonic() < ends
    ):
        time.sleep(0.01)
    assert q.drain(5.0)
    for worker in workers:
        worker.join(5.0)
    assert not clashes
    assert seen_version == dict(version)
