"""Kubernetes Events: told on the side, never in the way of a reconcile.

One daemon thread posts from a bounded queue; when that is full, Events are dropped and counted.
Rules of client-go tools/record (events_cache.go): the same Event again raises the count of the
first; more than ten that differ in their text alone within ten minutes become one; an object gets
a burst of 25 and then one in five minutes.

An Event's name is derived from what it says, so one that is posted twice (a restart in between) is
found and counted, not doubled. In the normal case a note costs one POST.
"""

import hashlib
import queue
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import structlog

from controller.api.objects import Obj, dig
from controller.api.resources import EVENT
from controller.engine.clock import Clock
from controller.engine.metrics import Metrics
from controller.kube.client import KubeClient
from controller.kube.errors import AlreadyExists, KubeError, NotFound, Verdict, classify
from controller.plan import Note

log = structlog.get_logger()

QUEUED = 1000
REMEMBERED = 4096
TRIES, TRY_AGAIN_S = 12, 10.0
SIMILAR, SIMILAR_WITHIN_S = 10, 600.0
BURST, REFILL_S = 25.0, 300.0
NOTE_BYTES, REASON_CHARS = 1024, 128
COMBINED = "(combined from similar events): "
NAME_CHARS = 253

_NOT_A_NAME = re.compile(r"[^-A-Za-z0-9_.]+")


class _Similar(NamedTuple):
    """What Events have in common that differ in their text alone."""

    uid: str
    type: str
    reason: str
    component: str


@dataclass(slots=True)
class _Crowd:
    """The texts of similar Events since `since`."""

    since: float
    texts: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


class Recorder:
    """`record` from any thread; `run` is the body of the posting thread."""

    def __init__(
        self,
        client: KubeClient,
        clock: Clock,
        *,
        instance: str,
        controller: str = "drey",
        metrics: Metrics | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """`instance` is the pod's name; `controller` stands in for a note without component."""
        self._client = client
        self._clock = clock
        self._instance = instance[:REASON_CHARS] or controller
        self._controller = controller
        self._metrics = metrics
        self._stop = stop or threading.Event()
        self._queue: queue.Queue[tuple[Note, datetime] | None] = queue.Queue(QUEUED)
        self._idle = threading.Condition()
        self._pending = 0
        # what follows is the posting thread's alone
        self._crowds: OrderedDict[_Similar, _Crowd] = OrderedDict()
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()
        self._counts: OrderedDict[tuple[str, str], int] = OrderedDict()

    def record(self, note: Note) -> None:
        """Have a note posted; returns at once, whatever the API server does."""
        with self._idle:
            self._pending += 1
        try:
            self._queue.put_nowait((note, self._clock.now()))
        except queue.Full:
            self._finish()
            self._drop("queue full")

    def run(self) -> None:
        """Post until stopped."""
        while not self._stop.is_set():
            item = self._queue.get()
            if item is None:
                return
            try:
                self._post(*item)
            finally:
                self._finish()

    def close(self, deadline_s: float) -> bool:
        """Post what is queued, at most for so long, then end the thread; tell if all is posted."""
        with self._idle:
            posted = self._idle.wait_for(lambda: self._pending == 0, deadline_s)
        self._stop.set()
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            return False  # the thread has enough to wake up by
        return posted

    def _finish(self) -> None:
        with self._idle:
            self._pending -= 1
            self._idle.notify_all()

    def _drop(self, why: str) -> None:
        if self._metrics:
            self._metrics.events_dropped.labels(why).inc()

    def _post(self, note: Note, at: datetime) -> None:
        if not self._has_token(note):
            self._drop("too many")
            return
        body = self._body(note, at)
        for attempt in range(TRIES):
            try:
                self._send(body, at)
            except KubeError as err:
                if classify(err) is not Verdict.RETRY or attempt == TRIES - 1:
                    # a namespace that is being deleted takes no new objects: no reason to worry
                    log.info("event_dropped", reason=note.reason, error_kind=type(err).__name__)
                    self._drop("refused")
                    return
                if self._stop.wait(max(TRY_AGAIN_S, getattr(err, "retry_after_s", 0.0))):
                    return
            else:
                return

    def _send(self, body: Obj, at: datetime) -> None:
        """Create the Event, or raise the count of the one that is there.

        Nothing but the series of an Event may change: the text of combined ones is the first's.
        """
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        count = self._counts.get((namespace, name))
        if count is None:
            try:
                self._count_write("create")
                self._client.create(EVENT, namespace, body)
            except AlreadyExists:
                live = self._client.get(EVENT, namespace, name)
                count = int(dig(live, "series", "count") or 1)
            else:
                self._remember_count(namespace, name, 1)
                return
        series = {"count": count + 1, "lastObservedTime": micro_time(at)}
        try:
            self._count_write("patch")
            self._client.merge_patch(EVENT, namespace, name, {"series": series})
        except NotFound:  # Events live for an hour
            self._count_write("create")
            self._client.create(EVENT, namespace, body)
            count = 0
        self._remember_count(namespace, name, count + 1)

    def _count_write(self, verb: str) -> None:
        if self._metrics:
            self._metrics.writes.labels(verb, EVENT.kind).inc()

    def _remember_count(self, namespace: str, name: str, count: int) -> None:
        self._counts[namespace, name] = count
        _keep_newest(self._counts, (namespace, name))

    def _body(self, note: Note, at: datetime) -> Obj:
        text, identity = self._aggregated(note)
        ref = note.regarding
        digest = hashlib.sha256("\0".join(identity).encode(errors="replace")).hexdigest()[:16]
        regarding = {
            "apiVersion": ref.resource.api_version,
            "kind": ref.resource.kind,
            "namespace": ref.namespace,
            "name": ref.name,
            "uid": ref.uid,
            "resourceVersion": ref.resource_version,
        }
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {
                "namespace": ref.namespace or "default",
                "name": f"{ref.name[: NAME_CHARS - len(digest) - 1].rstrip('.-')}.{digest}",
            },
            "regarding": {k: v for k, v in regarding.items() if v},
            "eventTime": micro_time(at),
            "type": note.type,
            "reason": note.reason[:REASON_CHARS],
            "action": "Reconcile",
            "note": cut(text, NOTE_BYTES),
            # must be a qualified name, so Stash's "Status Updater" is "Status-Updater" here
            "reportingController": _NOT_A_NAME.sub("-", note.component or self._controller),
            "reportingInstance": self._instance,
        }

    def _aggregated(self, note: Note) -> tuple[str, tuple[str, ...]]:
        """Return the text to post, and what makes two Events the same one."""
        similar = _Similar(note.regarding.uid, note.type, note.reason, note.component)
        now_s = self._clock.monotonic()
        crowd = self._crowds.get(similar)
        if crowd is None or now_s - crowd.since > SIMILAR_WITHIN_S:
            crowd = self._crowds[similar] = _Crowd(now_s)
        _keep_newest(self._crowds, similar)
        if note.message not in crowd.texts and len(crowd.texts) >= SIMILAR:
            return COMBINED + note.message, (*similar, COMBINED)
        crowd.texts.add(note.message)
        return note.message, (*similar, note.message)

    def _has_token(self, note: Note) -> bool:
        """Take a token of the object's and component's bucket."""
        now_s = self._clock.monotonic()
        key = (str(note.regarding.uid or note.regarding), note.component)
        bucket = self._buckets.setdefault(key, _Bucket(BURST, now_s))
        _keep_newest(self._buckets, key)
        refilled = bucket.tokens + (now_s - bucket.filled_at) / REFILL_S
        bucket.tokens, bucket.filled_at = min(BURST, refilled), now_s
        if bucket.tokens < 1.0:
            return False
        bucket.tokens -= 1.0
        return True


def micro_time(at: datetime) -> str:
    """Return a time as Kubernetes' MicroTime."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def cut(text: str, limit_bytes: int) -> str:
    """Return a text of at most so many bytes of UTF-8, without half a character."""
    return text.encode(errors="replace")[:limit_bytes].decode(errors="ignore")


def _keep_newest(cache: OrderedDict[Any, Any], key: object) -> None:
    cache.move_to_end(key)
    while len(cache) > REMEMBERED:
        cache.popitem(last=False)
