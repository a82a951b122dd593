"""The composition root: builds everything, starts it, waits, stops it in order.

Start: caches fill, probes answer; then, as the leader, workers run. A standby keeps warm caches.
Stop: no new keys, running turns end, Events go out, the Lease is given up, the watches end.
Whatever goes wrong in between ends the process: the kubelet restarts it, and nothing is lost,
because every decision is made from what the API server holds.
"""

import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from controller import lanes
from controller.api.objects import Key, Obj, name_of
from controller.api.resources import Resource
from controller.build.catalog import catalogue
from controller.build.installation import Installation
from controller.engine.clock import SystemClock
from controller.engine.election import Election
from controller.engine.events import Recorder
from controller.engine.executor import Executor
from controller.engine.httpd import HttpServer
from controller.engine.informer import Informer, wait_for_sync
from controller.engine.leader_label import LeaderLabel
from controller.engine.loop import Loop
from controller.engine.metrics import Metrics
from controller.engine.pushgateway import PushgatewaySender
from controller.engine.queue import WorkQueue
from controller.engine.threads import Supervisor
from controller.kube.config import connect
from controller.log import set_up_log
from controller.observe.informers import build_informers, connect_removals, connect_routes
from controller.observe.observers import CatalogObserver
from controller.observe.routes import CATALOG_LANE
from controller.observe.sight import Sight
from controller.observe.state_metrics import StateCollector
from controller.reconcile import catalog
from controller.reconcile.observed import Limits
from controller.settings import Settings

log = structlog.get_logger()

SYNC_TIMEOUT_S = 120.0
OPTIONAL_SYNC_TIMEOUT_S = 10.0
"""Of a kind that a cluster need not have: what can be served without it is not kept waiting."""
DRAIN_S = 15.0
EVENTS_S = 3.0
PUSHES_S = 1.0
CATALOGUE_S = 10.0
QUIET_S = 15 * 60.0
STUCK_S = 10 * 60.0
UNAUTHORIZED_S = 5 * 60.0
LEASE_NAME = "drey"
_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
CRD_HINT = "install the CRDs: kubectl apply --server-side -k manifests/crds"


class App:
    """One process. `run` returns its exit code."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock = SystemClock()
        self._stop = threading.Event()
        self._threads = Supervisor(self._stop)
        self._metrics = Metrics(CollectorRegistry())
        self._client = connect(settings.kubeconfig, pool_size=48, on_request=self._metrics.request)
        self._queue = WorkQueue(lanes.NAMES, self._clock, metrics=self._metrics)
        self._metrics.watch_queue(self._queue)
        self._informers = build_informers(self._informer)
        self._recorder = Recorder(
            self._client, self._clock, instance=settings.pod_name, metrics=self._metrics
        )
        self._pushgateway = PushgatewaySender(settings.pushgateway_url, metrics=self._metrics)
        self._election = Election(
            self._client,
            self._clock,
            namespace=settings.namespace,
            name=LEASE_NAME,
            identity=f"{settings.pod_name or os.uname().nodename}_{secrets.token_hex(4)}",
            exit_process=_exit_process,
            metrics=self._metrics,
        )
        self._leader_label = LeaderLabel(
            self._client,
            self._clock,
            self._stop,
            namespace=settings.namespace,
            pod_name=settings.pod_name,
            metrics=self._metrics,
        )
        self._synced = False
        collector = StateCollector(self._informers.caches, leads=self._leads)
        self._metrics.registry.register(collector)

    def run(self) -> int:
        """Run until a signal or a failure; return the exit code."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # before any thread: each inherits it
        self._threads.start("signals", self._await_signal, may_end=True)
        server = HttpServer(
            self._settings.http_port,
            self._metrics.registry,
            healthz=self._health(),
            readyz={"caches": self._unsynced},
        )
        self._threads.start("http", server.serve_forever, may_end=True)
        log.info("starting", image=self._settings.image, namespaces=self._settings.namespaces)
        try:
            failed = not self._serve()
        finally:
            server.shutdown()
        crashed = self._threads.crashed
        log.info("stopped", crashed=crashed)
        return 1 if crashed or failed else 0

    def _await_signal(self) -> None:
        """Set the stop event at a signal.

        Not by a handler: that runs on the main thread only, and a signal that comes just before
        this one begins to wait for the event would not wake it.
        """
        signal.sigwait(_SIGNALS)
        self._stop.set()

    def _serve(self) -> bool:
        """Run until the stop; return whether all went as it should."""
        connect_routes(self._informers, self._queue)
        for informer in self._informers.all:
            informer.start(self._threads)
        if missing := self._missing(self._informers.needed, SYNC_TIMEOUT_S):
            if not self._stop.is_set():
                log.error("caches_not_synced", kinds=list(missing), fix=CRD_HINT)
            return self._stop.is_set()
        there = tuple(i for i in self._informers.all if i.is_optional and not i.is_shut)
        if missing := self._missing(there, OPTIONAL_SYNC_TIMEOUT_S):
            log.warning("caches_not_synced", kinds=list(missing), fix="it is tried further")
        self._synced = True
        self._leader_label.start(self._threads)
        if self._wait_to_lead():
            self._lead()
        else:
            self._leader_label.close()
        for informer in self._informers.all:
            informer.stop()
        return True

    def _missing(self, informers: Sequence[Informer], timeout_s: float) -> Sequence[str]:
        return wait_for_sync(informers, self._stop, timeout_s=timeout_s, clock=self._clock)

    def _wait_to_lead(self) -> bool:
        """Become the leader; return False when the stop came first."""
        if not self._settings.leader_elect:
            return True
        self._threads.start("election", self._election.run, may_end=True)
        self._threads.start("election-watchdog", self._election.watch, may_end=True)
        while not self._election.leading.wait(0.1):
            if self._stop.is_set():
                self._election.stop()
                return False
        return True

    def _lead(self) -> None:
        self._leader_label.lead()
        self._threads.start("events", self._recorder.run, may_end=True)
        self._threads.start("pushgateway", self._pushgateway.run, may_end=True)
        connect_removals(self._informers, self._pushgateway.remove)
        self._start_workers()
        self._stop.wait()
        if not self._queue.drain(DRAIN_S):
            log.warning("turns_still_running", after_s=DRAIN_S)
        self._recorder.close(EVENTS_S)
        self._pushgateway.close(PUSHES_S)
        self._leader_label.close()
        if self._settings.leader_elect:
            self._election.stop()

    def _start_workers(self) -> None:
        may_write = self._election.may_write if self._settings.leader_elect else lambda: True
        executor = Executor(
            self._client,
            metrics=self._metrics,
            may_write=may_write,
            on_written=self._take,
        )
        sight = self._sight()
        catalog_objects = catalogue(sight.installation)
        for obj in catalog_objects:
            self._queue.add(CATALOG_LANE, Key(str(obj["kind"]), name_of(obj)))
        for lane in lanes.build_lanes(sight, catalog_objects, workers=self._settings.workers):
            informer = self._informers.by_resource[lane.resource]
            loop = Loop(
                lane,
                lane.resource,
                queue=self._queue,
                executor=executor,
                record=self._recorder.record,
                push=self._pushgateway.push,
                clock=self._clock,
                lister=informer.lister,
                metrics=self._metrics,
            )
            for number in range(lane.workers):
                self._threads.start(f"{lane.lane}-{number}", loop.run)
            if isinstance(lane.observer, CatalogObserver):
                self._wait_for_catalogue(lane.observer)

    def _wait_for_catalogue(self, observer: CatalogObserver) -> None:
        """Have our Functions applied before any session is started with an older image's."""
        ends_at = self._clock.monotonic() + CATALOGUE_S
        while not all(catalog.is_current(seen) for seen in observer.all()):
            if self._stop.wait(0.05):
                return
            if self._clock.monotonic() > ends_at:
                log.warning("catalogue_not_applied", after_s=CATALOGUE_S)
                return

    def _sight(self) -> Sight:
        settings = self._settings
        installation = Installation(
            image=settings.image,
            namespace=settings.namespace,
            pushgateway_url=settings.pushgateway_url,
            requests=settings.job_requests,
        )
        limits = Limits(
            start_s=settings.start_timeout_s,
            verify_s=settings.verify_interval_s,
            snapshot_s=settings.snapshot_timeout_s,
        )
        return Sight(
            client=self._client,
            caches=self._informers.caches,
            installation=installation,
            limits=limits,
            now=self._clock.now,
        )

    def _informer(self, resource: Resource, **options: Any) -> Informer:
        return Informer(
            resource,
            self._client,
            namespaces=self._settings.namespaces,
            clock=self._clock,
            stop=self._stop,
            metrics=self._metrics,
            **options,
        )

    def _take(self, resource: Resource, obj: Obj) -> None:
        informer = self._informers.by_resource.get(resource)
        if informer is not None:
            informer.take(obj)

    def _health(self) -> dict[str, Callable[[], str | None]]:
        return {
            "threads": self._threads.problem,
            "lease": self._election.problem,
            "watches": self._quiet,
            "turns": self._stuck,
            "credentials": self._unauthorized,
        }

    def _quiet(self) -> str | None:
        quiet_s = self._informers.quiet_s()
        return f"a watch has heard nothing for {quiet_s:.0f} s" if quiet_s > QUIET_S else None

    def _stuck(self) -> str | None:
        longest_s = max(
            (seconds for lane in self._queue.lanes for seconds in self._queue.processing_s(lane)),
            default=0.0,
        )
        return f"a turn has run for {longest_s:.0f} s" if longest_s > STUCK_S else None

    def _unauthorized(self) -> str | None:
        since_s = self._client.unauthorized_for_s()
        return f"401 for {since_s:.0f} s" if since_s > UNAUTHORIZED_S else None

    def _leads(self) -> bool:
        leads = not self._settings.leader_elect or self._election.leading.is_set()
        return self._synced and leads

    def _unsynced(self) -> str | None:
        return None if self._synced else "the caches have not synced yet"


def _exit_process(why: str) -> None:
    """End at once: what this process does after it lost the Lease could be done twice."""
    try:
        sys.stdout.flush()
        sys.stderr.write(f"exiting: {why}\n")
        sys.stderr.flush()
    finally:  # a closed pipe must not keep a second leader alive
        os._exit(1)


def run(settings: Settings) -> int:
    """Run the controller; return the process's exit code."""
    set_up_log(settings.log_level)
    return App(settings).run()
