"""Every collector of the controller, on a registry that the caller owns.

Names and labels of the work queue, of the reconcile loop and of leader election are those of
client-go and controller-runtime, so that existing dashboards work. Times of things that are still
going on are computed when they are scraped.
"""

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from controller.engine.queue import WorkQueue

_FAST_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)


class Metrics:
    """All collectors; one object per process, several in tests."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        r = registry
        self.queue_adds = Counter("workqueue_adds", "Adds to the queue", ["name"], registry=r)
        self.queue_retries = Counter(
            "workqueue_retries", "Rate-limited adds to the queue", ["name"], registry=r
        )
        self.queue_wait = Histogram(
            "workqueue_queue_duration_seconds",
            "Time between a key being due and being taken",
            ["name"],
            buckets=_FAST_S,
            registry=r,
        )
        self.queue_work = Histogram(
            "workqueue_work_duration_seconds",
            "Time between a key being taken and done",
            ["name"],
            buckets=_FAST_S,
            registry=r,
        )
        self.turns = Counter(
            "reconcile", "Turns of a reconcile loop by outcome", ["kind", "outcome"], registry=r
        )
        self.turn_seconds = Histogram(
            "reconcile_seconds", "Duration of a turn", ["kind"], buckets=_FAST_S, registry=r
        )
        self.panics = Counter(
            "reconcile_panics", "Turns that ended in an unexpected error", ["kind"], registry=r
        )
        self.writes = Counter(
            "drey_api_writes",
            "Writing requests to the API server, Lease renewals aside",
            ["verb", "kind"],
            registry=r,
        )
        self.requests = Counter(
            "drey_api_requests",
            "Requests to the API server; code 0 is no answer",
            ["verb", "kind", "code"],
            registry=r,
        )
        self.events_dropped = Counter(
            "drey_events_dropped", "Events that were not posted", ["why"], registry=r
        )
        self.pushes = Counter(
            "drey_pushgateway_requests",
            "Requests to the Pushgateway by the controller; dropped ones were never sent",
            ["method", "outcome"],
            registry=r,
        )
        self.lists = Counter("reflector_lists", "Lists by a reflector", ["name"], registry=r)
        self.watches = Counter(
            "reflector_watches", "Watches by how they ended", ["name", "end"], registry=r
        )
        self.activity = Gauge(
            "reflector_last_activity_timestamp_seconds",
            "When a reflector last heard from the API server",
            ["name"],
            registry=r,
        )
        self.store_version = Gauge(
            "store_resource_version",
            "The resourceVersion that a store has reached",
            ["name"],
            registry=r,
        )
        self.leading = Gauge(
            "leader_election_master_status", "1 while this process leads", ["name"], registry=r
        )

    def added(self, lane: str) -> None:
        """See `QueueMetrics.added`."""
        self.queue_adds.labels(lane).inc()

    def retried(self, lane: str) -> None:
        """See `QueueMetrics.retried`."""
        self.queue_retries.labels(lane).inc()

    def got(self, lane: str, waited_s: float) -> None:
        """See `QueueMetrics.got`."""
        self.queue_wait.labels(lane).observe(waited_s)

    def finished(self, lane: str, worked_s: float) -> None:
        """See `QueueMetrics.finished`."""
        self.queue_work.labels(lane).observe(worked_s)

    def request(self, verb: str, kind: str, code: int, _seconds: float) -> None:
        """Count a request: the client's `on_request`."""
        self.requests.labels(verb, kind, str(code)).inc()

    def watch_queue(self, queue: WorkQueue) -> None:
        """Expose depth and running times of a queue, and its counters from 0 on."""
        for lane in queue.lanes:
            self.queue_adds.labels(lane)
            self.queue_retries.labels(lane)
        self.registry.register(_QueueCollector(queue))

    def watch_loop(self, kind: str, outcomes: Sequence[str]) -> None:
        """Start the counters of a loop at 0: `rate()` would miss the first error otherwise."""
        for outcome in outcomes:
            self.turns.labels(kind, outcome)
        self.panics.labels(kind)


class _QueueCollector(Collector):
    """What is true of a queue right now."""

    def __init__(self, queue: WorkQueue) -> None:
        self._queue = queue

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Return the three gauges for each lane."""
        depth = GaugeMetricFamily(
            "workqueue_depth", "Keys that are due and wait for a worker", labels=["name"]
        )
        unfinished = GaugeMetricFamily(
            "workqueue_unfinished_work_seconds", "Sum of the times in work", labels=["name"]
        )
        longest = GaugeMetricFamily(
            "workqueue_longest_running_processor_seconds",
            "Time in work of the key that is longest in work",
            labels=["name"],
        )
        for lane in self._queue.lanes:
            running = self._queue.processing_s(lane)
            depth.add_metric([lane], self._queue.depth(lane))
            unfinished.add_metric([lane], sum(running))
            longest.add_metric([lane], max(running, default=0.0))
        return depth, unfinished, longest
