"""One kind's loop: take a key, observe, plan, execute, say how it went. Never decides anything.

Outcomes, and what each does to the key:

    ok             nothing to wait for; the failures are forgotten
    requeue_after  the plan wants another look; the failures are forgotten
    behind         the cache has not caught up with our own last write: a moment later
    stale          somebody was faster (409): soon, and no error
    retry          the API server is unreachable, busy or broken, or what it refuses may well be
                   granted in a while: with backoff, the latter not beyond what the plan wants
    refused        the API server or an ownership check says no; the plan has made a condition of
                   it: with backoff up to 300 s, and at once when the object changes
    panic          a bug of ours: with backoff, a traceback in the log and a counter
"""

import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from threading import Lock
from typing import Any, Protocol

import structlog
from structlog.contextvars import bound_contextvars

from controller.api.objects import Key, resource_version_of, uid_of
from controller.api.resources import Resource
from controller.engine.clock import Clock
from controller.engine.executor import FORMER_NAMESAKE, Execution, Executor
from controller.engine.informer import Lister
from controller.engine.metrics import Metrics
from controller.engine.queue import WorkQueue
from controller.engine.store import is_older
from controller.kube.errors import Forbidden, KubeError, Verdict, classify
from controller.plan import Note, Plan, Push, Refusal

log = structlog.get_logger()

REMEMBERED = 4096
"""Keys whose last facts are known; beyond, a turn may be logged once more than needed."""
BEHIND_S = 0.05
GATE_S = 5.0
"""After so long a cache that has not caught up is believed: the object may be gone."""
DOUBT_S = {Forbidden.__name__: 5.0, FORMER_NAMESAKE: 600.0}
"""For so long a refusal is tried again before it is believed, by its reason. An API server that has
just started says 403 to everybody until its RBAC cache is filled; and what a former owner of the
name left goes by itself, a pod that ends slowly first."""
REFUSED_S = 1.0


class Outcome(StrEnum):
    """How a turn ended; the label of `reconcile_total`."""

    OK = "ok"
    REQUEUE_AFTER = "requeue_after"
    BEHIND = "behind"
    STALE = "stale"
    RETRY = "retry"
    REFUSED = "refused"
    PANIC = "panic"


class Reconciler(Protocol):
    """What a kind brings along."""

    @property
    def lane(self) -> str:
        """The name of the lane in the queue."""

    def observe(self, key: Key, refusal: Refusal | None) -> Any:
        """Return the planner's input, or None when the object is gone. May raise KubeError."""

    def plan(self, observed: Any, now: datetime) -> Plan:
        """Decide. Pure."""


@dataclass(slots=True)
class _Memory:
    """What the loop knows of a key from its earlier turns. None of it is needed to be right."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    said: str = ""
    """The last failure that was logged as a warning."""
    version: str = ""
    """The resourceVersion of our own last write of the object."""
    written_at: float = 0.0
    doubts: dict[str, float] = field(default_factory=dict)
    """Since when the refusals that are not believed yet have come, by their reasons."""


@dataclass(frozen=True, slots=True)
class _Turn:
    outcome: Outcome
    plan: Plan = field(default_factory=Plan)
    writes: int = 0
    wait_s: float = 0.0
    """A lower bound of the backoff."""
    error_kind: str = ""
    error: str = ""
    gone: bool = False
    doubted: bool = False
    """A retry because of a refusal that is not believed yet: what the plan wants counts."""


class Loop:
    """The turns of one lane; `run` is the body of each of its worker threads."""

    def __init__(
        self,
        reconciler: Reconciler,
        resource: Resource,
        *,
        queue: WorkQueue,
        executor: Executor,
        record: Callable[[Note], None],
        clock: Clock,
        push: Callable[[Push], None] = lambda _push: None,
        lister: Lister | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """`resource` and `lister` are those of the lane's own objects.

        `record` and `push` take what a plan wants told on the side; they return at once.
        """
        self._reconciler = reconciler
        self._resource = resource
        self._lane = reconciler.lane
        self._queue = queue
        self._executor = executor
        self._record = record
        self._push = push
        self._clock = clock
        self._lister = lister
        self._metrics = metrics
        self._lock = Lock()
        self._memory: OrderedDict[Key, _Memory] = OrderedDict()
        if metrics:
            metrics.watch_loop(self._resource.kind, list(Outcome))

    def run(self) -> None:
        """Take turns until the queue shuts down."""
        while (key := self._queue.get(self._lane)) is not None:
            try:
                self.turn(key)
            finally:
                self._queue.done(self._lane, key)

    def turn(self, key: Key) -> Outcome:
        """Take one turn; the queue must have given out the key."""
        started = self._clock.monotonic()
        memory = self._remember(key)
        names = {"kind": self._resource.kind, "namespace": key.namespace, "name": key.name}
        with bound_contextvars(**names, reconcile_id=secrets.token_hex(4)):
            try:
                turn = self._try(key, memory)
            except KubeError as err:  # a read of the observer's
                turn = self._failed(err)
            except Exception as err:  # turn boundary
                log.exception("reconcile_panicked")
                if self._metrics:
                    self._metrics.panics.labels(self._resource.kind).inc()
                turn = _Turn(Outcome.PANIC, error_kind=type(err).__name__)
            requeue_s = self._requeue(key, turn)
            self._say(key, turn, memory, self._clock.monotonic() - started, requeue_s)
        if turn.gone:
            with self._lock:
                self._memory.pop(key, None)
        return turn.outcome

    def _try(self, key: Key, memory: _Memory) -> _Turn:
        if self._is_behind(key, memory):
            return _Turn(Outcome.BEHIND)
        turn, refusal = self._attempt(key, memory, None)
        if refusal is None:
            memory.doubts.clear()
            return turn
        if self._is_doubtful(refusal, memory):
            return replace(turn, outcome=Outcome.RETRY, wait_s=REFUSED_S, doubted=True)
        # the refusal becomes a condition in this same turn
        again, second = self._attempt(key, memory, refusal)
        last = second or refusal
        return replace(
            again,
            outcome=Outcome.REFUSED if again.outcome is not Outcome.RETRY else Outcome.RETRY,
            writes=turn.writes + again.writes,
            wait_s=max(again.wait_s, REFUSED_S),
            error_kind=last.reason,
            error=last.message,
        )

    def _attempt(
        self, key: Key, memory: _Memory, refusal: Refusal | None
    ) -> tuple[_Turn, Refusal | None]:
        observed = self._reconciler.observe(key, refusal)
        if observed is None:
            return _Turn(Outcome.OK, gone=True), None
        plan = self._reconciler.plan(observed, self._clock.now())
        done = self._executor.execute(plan)
        self._note_version(key, memory, done)
        if done.refusal:
            why = done.refusal
            turn = _Turn(
                Outcome.REFUSED, plan, done.writes, error_kind=why.reason, error=why.message
            )
            return turn, why
        if done.error:
            return replace(self._failed(done.error), plan=plan, writes=done.writes), None
        for note in plan.notes:
            self._record(note)
        for push in plan.pushes:
            self._push(push)
        wanted = plan.requeue_after_s is not None
        return _Turn(Outcome.REQUEUE_AFTER if wanted else Outcome.OK, plan, done.writes), None

    def _failed(self, err: KubeError) -> _Turn:
        stale = classify(err) is Verdict.STALE
        return _Turn(
            Outcome.STALE if stale else Outcome.RETRY,
            wait_s=getattr(err, "retry_after_s", 0.0),
            error_kind=type(err).__name__,
            error=str(err),
        )

    def _requeue(self, key: Key, turn: _Turn) -> float | None:
        """Put the key where its outcome belongs; return in how many seconds it is due."""
        wanted_s = turn.plan.requeue_after_s
        match turn.outcome:
            case Outcome.OK:
                self._queue.forget(self._lane, key)
                return None
            case Outcome.REQUEUE_AFTER:
                self._queue.forget(self._lane, key)
                self._queue.add_after(self._lane, key, wanted_s or 0.0)
                return wanted_s
            case Outcome.BEHIND:
                self._queue.add_after(self._lane, key, BEHIND_S)
                return BEHIND_S
            case Outcome.STALE | Outcome.RETRY | Outcome.REFUSED | Outcome.PANIC:
                delay_s = self._queue.add_rate_limited(self._lane, key, at_least_s=turn.wait_s)
                if wanted_s is None or not (turn.doubted or turn.outcome is Outcome.REFUSED):
                    return delay_s
                # a deadline of the plan's own comes whatever the API server says meanwhile
                due_s = min(max(wanted_s, turn.wait_s), delay_s)
                self._queue.add_after(self._lane, key, due_s)
                return due_s

    def _say(
        self, key: Key, turn: _Turn, memory: _Memory, took_s: float, requeue_s: float | None
    ) -> None:
        """Write the turn's one line: INFO for news, WARNING for a new failure, else DEBUG."""
        if self._metrics:
            self._metrics.turns.labels(self._resource.kind, turn.outcome).inc()
            self._metrics.turn_seconds.labels(self._resource.kind).observe(took_s)
        facts = dict(turn.plan.facts)
        line: dict[str, Any] = {
            "outcome": str(turn.outcome),
            "writes": turn.writes,
            "duration_ms": round(took_s * 1000, 1),
        }
        if requeue_s is not None:
            line["requeue_s"] = round(requeue_s, 3)
        if turn.error_kind:
            line |= {"error_kind": turn.error_kind, "error": turn.error}
        obj = self._lister.get(key) if self._lister else None
        if obj is not None:
            line["uid"] = uid_of(obj)
        failed = turn.outcome in (Outcome.RETRY, Outcome.REFUSED, Outcome.PANIC)
        said = f"{turn.error_kind}: {turn.error}" if failed else ""
        if failed and said != memory.said:
            write = log.warning
        elif turn.writes or (facts and facts != memory.facts):
            write = log.info
        else:
            write = log.debug
        memory.said = said
        if facts:
            memory.facts = facts
        write("reconciled", **(facts | line))

    def _is_behind(self, key: Key, memory: _Memory) -> bool:
        """Tell whether the cache still has the object as it was before our own last write.

        To plan on it would be harmless, but would cost a 409 (KEP-5647 has the same gate).
        """
        if not memory.version or self._lister is None:
            return False
        obj = self._lister.get(key)
        waited_s = self._clock.monotonic() - memory.written_at
        if (
            obj is not None
            and waited_s < GATE_S
            and is_older(resource_version_of(obj), memory.version)
        ):
            return True
        memory.version = ""
        return False

    def _note_version(self, key: Key, memory: _Memory, done: Execution) -> None:
        version = done.versions.get((self._resource, key))
        if version:
            memory.version, memory.written_at = version, self._clock.monotonic()

    def _is_doubtful(self, refusal: Refusal, memory: _Memory) -> bool:
        patience_s = DOUBT_S.get(refusal.reason)
        if patience_s is None:
            return False
        now_s = self._clock.monotonic()
        return now_s - memory.doubts.setdefault(refusal.reason, now_s) < patience_s

    def _remember(self, key: Key) -> _Memory:
        with self._lock:
            memory = self._memory.setdefault(key, _Memory())
            self._memory.move_to_end(key)
            while len(self._memory) > REMEMBERED:
                self._memory.popitem(last=False)
        return memory
