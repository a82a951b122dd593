"""HTTP and TCP handlers against a server on the loopback interface."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from controller.api.hook_input import HttpInput
from runner.probe import ANSWER_BYTES, ProbeFailed, ask, connect, content, headers

HOST = "127.0.0.1"


class Application:
    """An application that answers as told and keeps what it was asked."""

    def __init__(self) -> None:
        self.status, self.said, self.delay_s = 200, b"", 0.0
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            """Keeps the request."""

            def do_GET(self) -> None:
                """Answer."""
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.asked.append((self.command, self.path, dict(self.headers.items()), body))
                time.sleep(outer.delay_s)
                self.send_response(outer.status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(outer.said)))
                self.end_headers()
                self.wfile.write(outer.said)

            do_POST = do_GET  # noqa: N815 - the base class's way

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def application() -> Iterator[Application]:
    """Run an application."""
    made = Application()
    yield made
    made.close()


def request(**changes: Any) -> HttpInput:
    """Return a request."""
    return HttpInput(**{"port": "80", "path": "/freeze", **changes})


def sent(application: Application, wanted: HttpInput) -> tuple[str, str, dict[str, str], bytes]:
    """Send a request and return what arrived."""
    assert ask(wanted, HOST, application.port, timeout_s=30.0) == ""
    return application.asked[-1]


def test_get(application: Application) -> None:
    """Path, query and headers arrive as given, once; so does a Host of one's own."""
    verb, path, got, body = sent(
        application,
        request(path="/a b?x=%20&y=ü", headers=(("X-A", "1"), ("Host", "app.example"))),
    )
    assert (verb, path, body) == ("GET", "/a%20b?x=%20&y=%C3%BC", b"")
    assert (got["X-A"], got["Host"]) == ("1", "app.example")
    assert len(application.asked) == 1


@pytest.mark.parametrize(
    ("changes", "kind", "body"),
    [
        ({"body": '{"a": 1}'}, "application/json", b'{"a": 1}'),
        ({"body": "freeze ü"}, "text/plain; charset=utf-8", "freeze ü".encode()),
        ({"body": "x", "headers": (("content-type", "text/csv"),)}, "text/csv", b"x"),
        (
            {"form": {"a": ("1", "2"), "b c": ("&",)}, "body": "x",
             "headers": (("Content-Type", "text/csv"),)},
            "application/x-www-form-urlencoded",
            b"a=1&a=2&b+c=%26",
        ),
        ({}, None, b""),
    ],
    ids=["json", "text", "own type", "form", "nothing"],
)  # fmt: skip
def test_post(
    application: Application, changes: dict[str, Any], kind: str | None, body: bytes
) -> None:
    """A form wins over a body and has its own type; else the type given, or what it looks like."""
    verb, _, got, arrived = sent(application, request(is_post=True, **changes))
    types = [value for name, value in got.items() if name.lower() == "content-type"]
    assert (verb, types, arrived) == ("POST", [kind] if kind else [], body)


def test_headers_of_the_connection_are_ours() -> None:
    """Nobody can make the request end elsewhere."""
    wanted = request(is_post=True, body="x", headers=(("Content-Length", "99"), ("A", "b")))
    assert list(headers(wanted, content(wanted)))[:1] == [("A", "b")]


@pytest.mark.parametrize("status", [200, 204, 299])
def test_success(application: Application, status: int) -> None:
    """2xx is success."""
    application.status = status
    assert ask(request(), HOST, application.port, timeout_s=30.0) == ""


@pytest.mark.parametrize("status", [301, 304, 307])
def test_redirect(application: Application, status: int) -> None:
    """3xx is success with a warning; nobody goes there."""
    application.status = status
    assert str(status) in ask(request(), HOST, application.port, timeout_s=30.0)
    assert len(application.asked) == 1


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_failure(application: Application, status: int) -> None:
    """Everything else fails, with the beginning of what the application says."""
    application.status, application.said = status, b"not now" + b"!" * 5000
    with pytest.raises(ProbeFailed, match=f"{status} .*not now!") as raised:
        ask(request(), HOST, application.port, timeout_s=30.0)
    assert len(str(raised.value)) < ANSWER_BYTES + 100
    assert not raised.value.timed_out
    assert raised.value.is_answer


def test_no_answer(application: Application) -> None:
    """An application that hangs is told apart from one that refuses."""
    application.delay_s = 2.0
    with pytest.raises(ProbeFailed, match="no answer in time") as raised:
        ask(request(), HOST, application.port, timeout_s=0.2)
    assert raised.value.timed_out


def test_nobody_there() -> None:
    """A port on which nobody listens fails at once, for both kinds."""
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        connect(HOST, port, timeout_s=5.0)
    with pytest.raises(ProbeFailed, match=f"GET http://{HOST}:{port}/freeze: .*refused") as raised:
        ask(request(), HOST, port, timeout_s=5.0)
    assert not raised.value.is_answer
    with pytest.raises(ProbeFailed, match=f"TCP {HOST}:{port}: .*refused"):
        connect(HOST, port, timeout_s=5.0)


def test_host_that_is_no_name() -> None:
    """An empty label is no crash of the runner."""
    with pytest.raises(ProbeFailed, match=r"TCP db\.\.svc:1: no name of a host"):
        connect("db..svc", 1, timeout_s=5.0)


def test_tls_to_a_plain_port(application: Application) -> None:
    """HTTPS is spoken when asked for."""
    with pytest.raises(ProbeFailed, match="GET https://"):
        ask(request(scheme="HTTPS"), HOST, application.port, timeout_s=5.0)


def test_header_that_is_none(application: Application) -> None:
    """A header that would break out of its line is a failure, not a second header."""
    with pytest.raises(ProbeFailed):
        ask(request(headers=(("A", "b\r\nC: d"),)), HOST, application.port, timeout_s=5.0)
    assert application.asked == []


def test_ipv6_is_bracketed() -> None:
    """An address with colons is readable in the text."""
    with pytest.raises(ProbeFailed, match=r"TCP \[::1\]:1: "):
        connect("::1", 1, timeout_s=5.0)
