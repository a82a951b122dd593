"""The one work queue of all loops: keys, not events; a lane for each kind.

Semantics of client-go's util/workqueue and of controller-runtime's priority queue:
one lock, one rate limiter and one shutdown for all lanes, but each lane has its own workers, so
that a slow kind cannot starve another. First adds are not limited, retries are.

Timers need no thread: a worker that waits for its lane sleeps until that lane's next due key.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from threading import Condition, Lock
from typing import NamedTuple, Protocol

from controller.api.objects import Key
from controller.engine.clock import Clock
from controller.engine.ratelimit import RateLimiter


class Priority(IntEnum):
    """Higher goes first. After a restart a user's change does not wait behind old objects."""

    LOW = -100
    NORMAL = 0


class QueueMetrics(Protocol):
    """What the queue counts (`engine.metrics`)."""

    def added(self, lane: str) -> None:
        """Count an add that made a key wait."""

    def retried(self, lane: str) -> None:
        """Count a rate-limited add."""

    def got(self, lane: str, waited_s: float) -> None:
        """Observe the time between being due and being taken."""

    def finished(self, lane: str, worked_s: float) -> None:
        """Observe the time between being taken and done."""


class _Wait(NamedTuple):
    """One waiting key. Entries of the heaps that are not `_Lane.waiting[key]` are dead."""

    rank: float
    serial: int
    key: Key
    due_s: float
    priority: int


@dataclass(slots=True)
class _Lane:
    """Invariants, under the queue's lock:

    - `waiting` has the one live entry of each key that is ready or delayed, and none of a key in
      `processing`: no key is handed out twice at once.
    - `again` has only keys in `processing`: what was added meanwhile, merged to one entry.
    - merging takes the earlier time and the higher priority, so an add is never lost.
    - `ready` is sorted by priority, then age; `delayed` by time. Both may hold dead entries.
    """  # noqa: D415 - a list of invariants has no full stop in its first line

    changed: Condition
    waiting: dict[Key, _Wait] = field(default_factory=dict)
    ready: list[_Wait] = field(default_factory=list)
    delayed: list[_Wait] = field(default_factory=list)
    processing: dict[Key, float] = field(default_factory=dict)
    again: dict[Key, tuple[float, int]] = field(default_factory=dict)


class WorkQueue:
    """Thread-safe; `add` never blocks and, before shutdown, never loses a key."""

    def __init__(
        self,
        lanes: Sequence[str],
        clock: Clock,
        *,
        metrics: QueueMetrics | None = None,
        limiter: RateLimiter | None = None,
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._limiter = limiter or RateLimiter()
        self._lock = Lock()
        self._idle = Condition(self._lock)
        self._lanes = {lane: _Lane(Condition(self._lock)) for lane in lanes}
        self._serial = 0
        self._shut_down = False

    def add(self, lane: str, key: Key, priority: Priority = Priority.NORMAL) -> None:
        """Have a key processed as soon as a worker of its lane is free."""
        with self._lock:
            self._add(lane, key, self._clock.monotonic(), priority)

    def add_after(self, lane: str, key: Key, delay_s: float) -> None:
        """Have a key processed after a delay, or earlier if it is due earlier anyway.

        A turn that comes earlier takes the place of this one: each turn decides anew when it
        wants the next.
        """
        with self._lock:
            self._add(lane, key, self._clock.monotonic() + max(delay_s, 0.0), Priority.NORMAL)

    def add_rate_limited(self, lane: str, key: Key, *, at_least_s: float = 0.0) -> float:
        """Have a failed key processed again after its backoff; return the delay."""
        with self._lock:
            now_s = self._clock.monotonic()
            delay_s = max(self._limiter.delay_s((lane, key), now_s), at_least_s)
            self._add(lane, key, now_s + delay_s, Priority.NORMAL)
        if self._metrics:
            self._metrics.retried(lane)
        return delay_s

    def forget(self, lane: str, key: Key) -> None:
        """End the count of failures: on success, and before a wanted `add_after`."""
        with self._lock:
            self._limiter.forget((lane, key))

    def get(self, lane: str, timeout_s: float | None = None) -> Key | None:
        """Return the next due key and mark it as processing; `done` must follow.

        Returns None after shutdown, and when nothing became due within `timeout_s`.
        """
        with self._lock:
            own = self._lanes[lane]
            deadline_s = None if timeout_s is None else self._clock.monotonic() + timeout_s
            while not self._shut_down:
                now_s = self._clock.monotonic()
                self._promote(own, now_s)
                entry = self._pop_ready(own)
                if entry is not None:
                    own.processing[entry.key] = now_s
                    if own.ready or own.delayed:
                        # somebody else has to watch over what is left while we work
                        own.changed.notify()
                    if self._metrics:
                        self._metrics.got(lane, now_s - entry.due_s)
                    return entry.key
                if deadline_s is not None and now_s >= deadline_s:
                    return None
                own.changed.wait(self._patience_s(own, now_s, deadline_s))
            return None

    def done(self, lane: str, key: Key) -> None:
        """End the processing of a key; what was added meanwhile becomes due now or later."""
        with self._lock:
            own = self._lanes[lane]
            started_s = own.processing.pop(key)
            again = own.again.pop(key, None)
            if again and not self._shut_down:
                self._wait(own, key, *again)
            self._idle.notify_all()
        if self._metrics:
            self._metrics.finished(lane, self._clock.monotonic() - started_s)

    def shut_down(self) -> None:
        """Take no more adds, hand out no more keys and wake all workers."""
        with self._lock:
            self._shut_down = True
            for lane in self._lanes.values():
                lane.changed.notify_all()

    def drain(self, deadline_s: float) -> bool:
        """Shut down and wait until nothing is processing; tell whether that was so in time."""
        self.shut_down()
        with self._lock:
            return self._idle.wait_for(
                lambda: not any(lane.processing for lane in self._lanes.values()), deadline_s
            )

    def depth(self, lane: str) -> int:
        """Return the number of keys that are due and wait for a worker."""
        with self._lock:
            now_s = self._clock.monotonic()
            return sum(entry.due_s <= now_s for entry in self._lanes[lane].waiting.values())

    def processing_s(self, lane: str) -> Sequence[float]:
        """Return for how long each key in work has been so: what finds a deadlock."""
        with self._lock:
            now_s = self._clock.monotonic()
            return [now_s - started for started in self._lanes[lane].processing.values()]

    @property
    def lanes(self) -> Sequence[str]:
        """The names of the lanes."""
        return tuple(self._lanes)

    def _add(self, lane: str, key: Key, due_s: float, priority: int) -> None:
        if self._shut_down:
            return
        own = self._lanes[lane]
        if key in own.processing:
            known = own.again.get(key)
            if known:
                due_s, priority = min(due_s, known[0]), max(priority, known[1])
            own.again[key] = (due_s, priority)
            return
        entry = own.waiting.get(key)
        if entry is not None and entry.due_s <= due_s and entry.priority >= priority:
            return
        if entry is not None:
            due_s, priority = min(due_s, entry.due_s), max(priority, entry.priority)
        self._wait(own, key, due_s, priority)
        if self._metrics and entry is None:
            self._metrics.added(lane)

    def _wait(self, own: _Lane, key: Key, due_s: float, priority: int) -> None:
        self._serial += 1
        entry = _Wait(due_s, self._serial, key, due_s, priority)
        own.waiting[key] = entry
        heapq.heappush(own.delayed, entry)
        own.changed.notify()

    def _promote(self, own: _Lane, now_s: float) -> None:
        while own.delayed and own.delayed[0].due_s <= now_s:
            entry = heapq.heappop(own.delayed)
            if own.waiting.get(entry.key) is entry:
                ready = entry._replace(rank=-entry.priority)
                own.waiting[entry.key] = ready
                heapq.heappush(own.ready, ready)

    def _pop_ready(self, own: _Lane) -> _Wait | None:
        while own.ready:
            entry = heapq.heappop(own.ready)
            if own.waiting.get(entry.key) is entry:
                del own.waiting[entry.key]
                return entry
        return None

    def _patience_s(self, own: _Lane, now_s: float, deadline_s: float | None) -> float | None:
        moments = [entry.due_s for entry in own.delayed[:1]]
        if deadline_s is not None:
            moments.append(deadline_s)
        return max(0.0, min(moments) - now_s) if moments else None
