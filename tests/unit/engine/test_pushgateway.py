"""controller.engine.pushgateway: one attempt each, in order, and nobody waits for it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from controller.engine import pushgateway
from controller.engine.metrics import Metrics
from controller.engine.pushgateway import QUEUED, PushgatewaySender
from controller.plan import Push
from tests.support.gateway import Gateway, serving

GROUP = "backupconfiguration-demo-nightly"
PUSH = Push(GROUP, (("stash_backup_session_success", {"namespace": "demo"}, 0.0),))


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """Serve in the Pushgateway's place."""
    with serving() as server:
        yield server


class World:
    """A sender and its counters."""

    def __init__(self, url: str) -> None:
        self.metrics = Metrics(CollectorRegistry())
        self.sender = PushgatewaySender(url, metrics=self.metrics)

    @contextmanager
    def sending(self) -> Iterator[PushgatewaySender]:
        """Run the thread; what was asked for has been tried at the end."""
        thread = threading.Thread(target=self.sender.run, daemon=True)
        thread.start()
        yield self.sender
        assert self.sender.close(10.0)
        thread.join(5.0)
        assert not thread.is_alive()

    def count(self, method: str, outcome: str) -> float:
        """Return how many requests ended so."""
        labels = {"method": method, "outcome": outcome}
        found = self.metrics.registry.get_sample_value("drey_pushgateway_requests_total", labels)
        return found or 0.0


def test_a_push_is_one_post_to_its_group(gateway: Gateway) -> None:
    """POST keeps the other metrics of the group; the text is the exposition format."""
    world = World(gateway.url)
    with world.sending() as sender:
        sender.push(PUSH)
    text = (
        "# TYPE stash_backup_session_success gauge\n"
        'stash_backup_session_success{namespace="demo"} 0.0\n'
    )
    assert gateway.requests == [("POST", f"/metrics/job/{GROUP}", text)]
    assert world.count("POST", "ok") == 1


def test_a_removal_comes_after_the_pushes_before_it(gateway: Gateway) -> None:
    """Order is kept: a group that is deleted is not brought back by an older push."""
    world = World(gateway.url + "/prefix/")
    with world.sending() as sender:
        sender.push(PUSH)
        sender.remove(GROUP)
    assert [(method, path) for method, path, _ in gateway.requests] == [
        ("POST", f"/prefix/metrics/job/{GROUP}"),
        ("DELETE", f"/prefix/metrics/job/{GROUP}"),
    ]
    assert gateway.requests[1][2] == ""


def test_no_url_sends_nothing() -> None:
    """Without a Pushgateway the thread ends at once, and nothing is queued for nobody."""
    sender = PushgatewaySender("")
    sender.push(PUSH)
    sender.remove(GROUP)
    assert sender._queue.empty()
    sender.run()
    assert sender.close(0.0)


def test_an_error_status_is_logged_and_not_tried_again(gateway: Gateway) -> None:
    """One attempt: the next session pushes anew."""
    gateway.status = 400
    world = World(gateway.url)
    with capture_logs() as lines, world.sending() as sender:
        sender.push(PUSH)
    assert len(gateway.requests) == 1
    assert world.count("POST", "failed") == 1
    (line,) = [line for line in lines if line["log_level"] == "warning"]
    assert (line["event"], line["group"], line["error"]) == (
        "pushgateway_failed",
        GROUP,
        "HTTP status 400",
    )


@pytest.mark.parametrize("url", ["ftp://gateway", "http://", "http://127.0.0.1:1", "http://[x"])
def test_no_way_to_the_gateway_ends_no_thread(url: str) -> None:
    """A refused connection and a URL that is none are log lines; the next request is tried."""
    world = World(url)
    with world.sending() as sender:
        sender.push(PUSH)
        sender.remove(GROUP)
    assert world.count("POST", "failed") == 1
    assert world.count("DELETE", "failed") == 1


def test_an_answer_that_is_no_http_ends_no_thread() -> None:
    """Something else may listen on the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"SSH-2.0-x\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        world = World(f"http://127.0.0.1:{server.getsockname()[1]}")
        with world.sending() as sender:
            sender.push(PUSH)
        thread.join(5.0)
    assert world.count("POST", "failed") == 1


def test_a_silent_gateway_delays_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks goes on at once; what does not fit into the queue is dropped and counted."""
    monkeypatch.setattr(pushgateway, "TIMEOUT_S", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        world = World(f"http://127.0.0.1:{server.getsockname()[1]}")
        thread = threading.Thread(target=world.sender.run, daemon=True)
        thread.start()
        started = monotonic()
        for _ in range(QUEUED + 10):
            world.sender.push(PUSH)
        assert not world.sender.close(0.1)
        assert monotonic() - started < 3.0
        thread.join(30.0)
        assert not thread.is_alive()
    assert 9 <= world.count("POST", "dropped") <= 10
    assert world.count("POST", "failed") == 1
