"""List, then watch, for ever: keeps a store equal to a past state of the API server.

Invariants (client-go tools/cache/reflector.go):
- The store moves forward only. After a failure the watch resumes at the last resourceVersion that
  the store has *taken*; a new list is made only when the server no longer knows that version.
- No read blocks without a bound, no failure is repeated without a delay, and the thread ends only
  when it is stopped: every error of the API server is retried for as long as it takes.
- A list enters the store as a whole or not at all.

The first list asks for the newest state (resourceVersion ""): unlike client-go's "0" it never
starts from a stale cache, and since Kubernetes 1.31 it is served from the cache all the same
(KEP-2340). A list after an expired watch asks for "not older than" what we have, unpaged, because
pages of a given version bypass the server's cache.

A resource that a cluster need not have comes with an event, `served`. While it is not set nothing
is sent and nothing is stored; a 404 in between (a CRD is there before it is served) is an answer
like any other: it costs neither health nor a warning for each.
"""

import random
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import structlog

from controller.api.objects import Obj, resource_version_of
from controller.api.resources import Resource
from controller.engine.backoff import Backoff
from controller.engine.clock import Clock
from controller.engine.metrics import Metrics
from controller.kube.client import KubeClient
from controller.kube.errors import (
    Expired,
    KubeError,
    NotFound,
    ServerFault,
    VersionTooLarge,
    error_from_status,
)
from controller.kube.interface import EventStream

log = structlog.get_logger()

PAGE = 500
WATCH_MIN_S, WATCH_MAX_S = 300, 600
VERY_SHORT_S = 1.0
ABSENT_LOG_S = 600.0
"""How often it is logged that a resource which should be served is not."""


class Sink(Protocol):
    """Where a reflector delivers; returns after the store has taken it."""

    def replace(self, items: Sequence[Obj], version: str) -> None:
        """Take a complete list, made at a version; empty: of another history than what is known."""

    def upsert(self, obj: Obj) -> None:
        """Take an object that was added or modified."""

    def delete(self, obj: Obj) -> None:
        """Take the last state of a deleted object."""

    def pause(self) -> None:
        """Be called between two watches, at least every ten minutes."""


class Reflector:
    """One list/watch; `run` is the body of its thread."""

    def __init__(
        self,
        resource: Resource,
        client: KubeClient,
        sink: Sink,
        *,
        clock: Clock,
        stop: threading.Event,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
        name: str = "",
        served: threading.Event | None = None,
        on_listed: Callable[[], None] = lambda: None,
        metrics: Metrics | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """`on_listed` is called, on the reflector's thread, whenever `listed` has changed."""
        scope = f"{resource.plural}/{namespace}" if namespace else resource.plural
        self.name = name or scope
        self._resource = resource
        self._client = client
        self._sink = sink
        self._clock = clock
        self._stop = stop
        self._scope: dict[str, Any] = {
            "namespace": namespace,
            "label_selector": label_selector,
            "field_selector": field_selector,
            "metadata_only": metadata_only,
        }
        self._served = served
        self._on_listed = on_listed
        self._absence_logged = float("-inf")
        self._metrics = metrics
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._backoff = Backoff(clock, self._rng)
        self._version = ""
        self._relist = True
        self._stream: EventStream | None = None
        self._active = clock.monotonic()
        self._unknown_types: set[str] = set()
        self.listed = threading.Event()
        """Set once the first list is in the store and was delivered; not while it is absent."""

    @property
    def resource_version(self) -> str:
        """What the store has taken: after an event, never before it."""
        return self._version

    def quiet_s(self) -> float:
        """Return the time since the API server was last heard of; 0 while there is no need to."""
        if self._is_shut():
            return 0.0
        return self._clock.monotonic() - self._active

    def wake(self) -> None:
        """End a blocked read, from any thread; set the stop event, or clear `served`, before."""
        if self._stop.is_set() and self._served is not None:
            self._served.set()  # who stands by must see the stop
        stream = self._stream
        if stream is not None:
            stream.close()

    def run(self) -> None:
        """List and watch until stopped."""
        end = ""
        while not self._stop.is_set():
            if self._is_shut():
                self._stand_by()
                continue
            delay_s, before = 0.0, end
            try:
                if self._relist:
                    self._list()
                end = self._watch()
            except KubeError as err:
                if self._stop.is_set():
                    return
                end = self._end_of(err)
                # an expiry after something else is mended by the list; two in a row are a loop
                if end != "expired" or before == "expired":
                    delay_s = max(self._backoff.delay_s(), getattr(err, "retry_after_s", 0.0))
                self._log_failure(end, err, delay_s)
            if self._metrics:
                self._metrics.watches.labels(self.name, end).inc()
            if end == "short":
                delay_s = self._backoff.delay_s()
            if delay_s:
                self._stop.wait(delay_s)
            self._sink.pause()

    def _is_shut(self) -> bool:
        return self._served is not None and not self._served.is_set()

    def _stand_by(self) -> None:
        """Wait until the resource is served, with an empty store; the next list is a first one."""
        assert self._served is not None  # noqa: S101 - only who may be shut out comes here
        self._sink.replace((), "")
        self._lose()
        self._served.wait()
        self._backoff = Backoff(self._clock, self._rng)
        self._heard()

    def _lose(self) -> None:
        """Forget that there was a list: what the store holds may be of a resource that is gone."""
        known = self.listed.is_set()
        self.listed.clear()
        self._version, self._relist = "", True
        if known:
            self._on_listed()

    def _end_of(self, err: KubeError) -> str:
        """Decide whether a failure costs a list, and name it for the metric."""
        match err:
            case NotFound() if self._served is not None:
                self._heard()
                self._lose()
                return "absent"
            case Expired():
                self._relist = True
                return "expired"
            case VersionTooLarge():
                # etcd was restored from an older state: ours has never been
                self._version, self._relist = "", True
                return "expired"
            case _:
                return "dead" if err.reason in ("Silent", "StreamTimeout") else "error"

    def _log_failure(self, end: str, err: KubeError, delay_s: float) -> None:
        if end == "expired":
            log.info("watch_expired", reflector=self.name, resource_version=self._version)
        elif end == "absent":
            if self._clock.monotonic() - self._absence_logged > ABSENT_LOG_S:
                self._absence_logged = self._clock.monotonic()
                log.warning("resource_not_served", reflector=self.name, error=str(err))
        else:
            log.warning(
                "watch_failed",
                reflector=self.name,
                error_kind=type(err).__name__,
                error=str(err),
                retry_s=round(delay_s, 1),
            )

    def _list(self) -> None:
        """Bring in a whole list; what an earlier version forbids is asked for again without it."""
        known = self._version
        try:
            items, version = self._pages(known)
        except (Expired, VersionTooLarge) as err:
            # a continue token has expired, or the version is unknown: everything, newest, at once
            items, version = self._pages("", limit=0)
            if isinstance(err, VersionTooLarge):
                known = ""
        self._sink.replace(items, version if known else "")
        self._reached(version)
        self._relist = False
        if not self.listed.is_set():
            self.listed.set()
            self._on_listed()

    def _pages(self, version: str, *, limit: int | None = None) -> tuple[list[Obj], str]:
        if limit is None:
            limit = 0 if version else PAGE
        items: list[Obj] = []
        token = ""
        while True:
            if self._metrics and not token:
                self._metrics.lists.labels(self.name).inc()
            page = self._client.list_page(
                self._resource,
                **self._scope,
                limit=limit,
                continue_token=token,
                resource_version="" if token else version,
            )
            self._heard()
            items += page.get("items") or ()
            token = page["metadata"].get("continue") or ""
            if not token:
                return items, str(page["metadata"]["resourceVersion"])
            if self._stop.is_set():
                raise ServerFault("stopped in the middle of a list", reason="Stopped")

    def _watch(self) -> str:
        """Watch once; return how it ended, raise what it broke by."""
        started, events = self._clock.monotonic(), 0
        timeout_s = self._rng.randint(WATCH_MIN_S, WATCH_MAX_S)
        stream = self._client.watch(
            self._resource, **self._scope, resource_version=self._version, timeout_s=timeout_s
        )
        self._stream = stream
        try:
            with stream:
                self._heard()
                # `wake` may have come before there was a stream
                if self._stop.is_set() or self._is_shut():
                    return "closed"
                for event in stream:
                    self._heard()
                    self._take(event)
                    events += 1
        finally:
            self._stream = None
        if self._stop.is_set() or self._is_shut():
            return "closed"
        if events == 0 and self._clock.monotonic() - started < VERY_SHORT_S:
            return "short"
        return "timeout"

    def _take(self, event: Any) -> None:
        obj = event.get("object") if isinstance(event, dict) else None
        if not isinstance(obj, dict):
            raise ServerFault("a watch event without an object")
        kind = event.get("type")
        if kind == "ERROR":
            raise error_from_status(obj)
        version = resource_version_of(obj)
        actions: dict[Any, Callable[[Obj], None]] = {
            "ADDED": self._sink.upsert,
            "MODIFIED": self._sink.upsert,
            "DELETED": self._sink.delete,
            "BOOKMARK": lambda _: None,
        }
        action = actions.get(kind)
        if action is None:
            if str(kind) not in self._unknown_types:
                self._unknown_types.add(str(kind))
                log.warning("watch_event_unknown", reflector=self.name, type=str(kind))
            return
        if not version or (kind != "BOOKMARK" and not (obj.get("metadata") or {}).get("name")):
            raise ServerFault(f"a watch event {kind} without a name or resourceVersion")
        action(obj)
        self._reached(version)

    def _reached(self, version: str) -> None:
        self._version = version
        if self._metrics:
            with suppress(ValueError):  # a version that is no number cannot be shown as one
                self._metrics.store_version.labels(self.name).set(float(version))

    def _heard(self) -> None:
        self._active = self._clock.monotonic()
        if self._metrics:
            self._metrics.activity.labels(self.name).set(self._clock.now().timestamp())
