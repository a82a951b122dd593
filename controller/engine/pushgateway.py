"""Requests to the Pushgateway: told on the side, never in the way of a reconcile (ADR 8).

One daemon thread sends from a bounded queue, in order, each request once. What fails is logged and
counted, no more: the next session pushes anew.
"""

import queue
import threading
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from itertools import product
from time import monotonic
from urllib.parse import quote, urlsplit

import structlog

from controller.api.metrics import CONTENT_TYPE, exposition
from controller.engine.metrics import Metrics
from controller.plan import Push

log = structlog.get_logger()

QUEUED = 1000
TIMEOUT_S = 5.0
_SUCCESS = range(200, 300)


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    group: str
    body: bytes = b""


class PushgatewaySender:
    """`push` and `remove` from any thread; `run` is the body of the sending thread."""

    def __init__(self, url: str, *, metrics: Metrics | None = None) -> None:
        """With an empty `url` nothing is sent, and `run` ends at once."""
        self._url = url
        self._metrics = metrics
        self._queue: queue.Queue[_Request | None] = queue.Queue(QUEUED)
        self._stop = threading.Event()
        self._idle = threading.Condition()
        self._pending = 0
        if metrics and url:
            for method, outcome in product(("POST", "DELETE"), ("ok", "failed", "dropped")):
                metrics.pushes.labels(method, outcome)  # from 0 on: rate() must see the first

    def push(self, push: Push) -> None:
        """Have samples pushed by POST, which keeps the group's other metrics; returns at once."""
        self._put(_Request("POST", push.group, exposition(push.samples).encode()))

    def remove(self, group: str) -> None:
        """Have a group deleted with all that was pushed into it; returns at once."""
        self._put(_Request("DELETE", group))

    def run(self) -> None:
        """Send until stopped."""
        while self._url and not self._stop.is_set():
            request = self._queue.get()
            if request is None:
                return
            try:
                self._try(request)
            finally:
                self._finish()

    def close(self, deadline_s: float) -> bool:
        """Send what is queued, at most for so long, then end the thread; tell if all was sent."""
        with self._idle:
            sent = self._idle.wait_for(lambda: self._pending == 0, deadline_s)
        self._stop.set()
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            return False  # the thread has enough to wake up by
        return sent

    def _put(self, request: _Request) -> None:
        if not self._url:
            return
        with self._idle:
            self._pending += 1
        try:
            self._queue.put_nowait(request)
        except queue.Full:
            self._finish()
            self._count(request, "dropped")

    def _finish(self) -> None:
        with self._idle:
            self._pending -= 1
            self._idle.notify_all()

    def _try(self, request: _Request) -> None:
        started = monotonic()
        try:
            status = self._send(request)
            problem = "" if status in _SUCCESS else f"HTTP status {status}"
        except (OSError, ValueError, HTTPException) as err:
            problem = str(err) or type(err).__name__
        self._count(request, "failed" if problem else "ok")
        words = {"method": request.method, "group": request.group, "url": self._url}
        if problem:
            log.warning("pushgateway_failed", error=problem, **words)
        else:
            log.debug("pushgateway_answered", seconds=round(monotonic() - started, 3), **words)

    def _send(self, request: _Request) -> int:
        parts = urlsplit(self._url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("the URL is neither http nor https")
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_S)
        path = f"{parts.path.rstrip('/')}/metrics/job/{quote(request.group, safe='')}"
        try:
            connection.request(request.method, path, request.body, {"Content-Type": CONTENT_TYPE})
            return connection.getresponse().status
        finally:
            connection.close()

    def _count(self, request: _Request, outcome: str) -> None:
        if self._metrics:
            self._metrics.pushes.labels(request.method, outcome).inc()
