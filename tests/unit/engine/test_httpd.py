"""controller.engine.httpd and metrics: what Prometheus and the kubelet read."""

import http.client
import threading
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from controller.api.objects import Key
from controller.engine.httpd import HttpServer
from controller.engine.metrics import Metrics
from controller.engine.queue import WorkQueue
from tests.support.clock import FakeClock

PROBLEMS: dict[str, str | None] = {}


@pytest.fixture
def server() -> Iterator[HttpServer]:
    """Serve on a free port."""
    PROBLEMS.clear()
    registry = CollectorRegistry()
    queue = WorkQueue(("sessions",), FakeClock())
    Metrics(registry).watch_queue(queue)
    queue.add("sessions", Key("ns", "a"))
    with HttpServer(
        0,
        registry,
        healthz={"threads": lambda: None},
        readyz={"synced": lambda: PROBLEMS.get("synced"), "other": lambda: None},
    ) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield httpd
        httpd.shutdown()
        thread.join(5.0)


def fetch(server: HttpServer, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
    """Return status and body."""
    connection = http.client.HTTPConnection(host, server.port, timeout=5.0)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, body


def test_metrics_have_the_names_that_dashboards_know(server: HttpServer) -> None:
    """client-go's and controller-runtime's, from 0 on."""
    status, body = fetch(server, "/metrics")
    assert status == 200
    assert 'workqueue_depth{name="sessions"} 1.0' in body
    assert 'workqueue_adds_total{name="sessions"} 0.0' in body
    assert 'workqueue_longest_running_processor_seconds{name="sessions"} 0.0' in body


def test_probes_answer_with_reasons(server: HttpServer) -> None:
    """200 while nothing is wrong; 503 names the check that fails."""
    assert fetch(server, "/readyz") == (200, "[+]synced ok\n[+]other ok\nok\n")
    PROBLEMS["synced"] = "Job not listed yet"
    status, body = fetch(server, "/readyz/?verbose")
    assert status == 503
    assert "[-]synced failed: Job not listed yet" in body
    assert fetch(server, "/healthz")[0] == 200


def test_other_paths_say_what_there_is(server: HttpServer) -> None:
    """A typo costs one look."""
    status, body = fetch(server, "/metric")
    assert status == 404
    assert "/metrics" in body


def test_a_taken_port_is_an_error_at_the_start(server: HttpServer) -> None:
    """Not a thread that dies later."""
    with pytest.raises(OSError, match="in use"):
        HttpServer(server.port, CollectorRegistry(), healthz={}, readyz={})


def test_two_sets_of_metrics_do_not_meet() -> None:
    """No module-level registry."""
    first, second = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    first.added("x")
    assert first.registry.get_sample_value("workqueue_adds_total", {"name": "x"}) == 1
    assert second.registry.get_sample_value("workqueue_adds_total", {"name": "x"}) is None
