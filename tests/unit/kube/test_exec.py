"""controller.kube.exec against a scripted WebSocket server on the loopback interface."""

import base64
import hashlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from kubernetes.client import ApiClient, Configuration

from controller.kube import exec as exec_module
from controller.kube.client import Client
from controller.kube.errors import Forbidden, Invalid, KubeError, NotFound, ServerFault, Unreachable
from controller.kube.exec import TAIL_BYTES, ExecResult, ending, run_in_pod

SUCCESS = {"kind": "Status", "status": "Success"}
BINARY, CLOSE, PING, PONG = 2, 8, 9, 10


def failure(code: int) -> dict[str, Any]:
    """Return how the kubelet tells an exit code."""
    return {
        "kind": "Status",
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


class Peer:
    """One connection of the server, after the handshake."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.pings = 0

    def send(self, payload: bytes, operation: int = BINARY) -> None:
        """Send one message."""
        length = len(payload)
        head = bytes([0x80 | operation])
        if length < 126:
            head += bytes([length])
        elif length < 1 << 16:
            head += b"\x7e" + struct.pack("!H", length)
        else:
            head += b"\x7f" + struct.pack("!Q", length)
        self._connection.sendall(head + payload)

    def output(self, text: str | bytes, channel: int = 1) -> None:
        """Send output."""
        self.send(bytes([channel]) + (text.encode() if isinstance(text, str) else text))

    def status(self, status: Any) -> None:
        """Send the status of the command."""
        self.output(status if isinstance(status, bytes) else json.dumps(status), channel=3)

    def close(self) -> None:
        """End the session in an orderly way."""
        self.send(struct.pack("!H", 1000), CLOSE)

    def count_pings(self) -> None:
        """Read until the other end goes, answering pings."""
        with suppress(OSError):
            while head := self._connection.recv(2):
                self._connection.recv(4)
                if head[0] & 0xF == PING:
                    self.pings += 1
                    self.send(b"", PONG)


Script = Callable[[Peer], None]


class Server:
    """Answers one exec after the other as scripted: a script of messages, or a refusal."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.script: Script | bytes = b""
        self.requests: list[str] = []
        self.headers: list[str] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if not (chunk := connection.recv(4096)):
                return
            head += chunk
        lines = head.decode().split("\r\n")
        self.requests.append(lines[0])
        self.headers = lines[1:]
        if isinstance(self.script, bytes):
            connection.sendall(self.script)
            return
        key = next(line[19:] for line in lines if line.startswith("Sec-WebSocket-Key: "))
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()  # noqa: S324 - RFC 6455
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Protocol: v5.channel.k8s.io\r\nSec-WebSocket-Accept: "
            + base64.b64encode(digest)
            + b"\r\n\r\n"
        )
        self.script(Peer(connection))


@pytest.fixture
def server() -> Iterator[Server]:
    """Run a server."""
    made = Server()
    yield made
    made.close()


def client_of(url: str) -> Client:
    """Return a client with a token."""
    configuration: Any = Configuration(host=url)
    configuration.api_key["BearerToken"] = "Bearer t0ken"
    api: Any = ApiClient(configuration)
    return Client(api, on_request=lambda *_: None)


def run(server: Server, script: Script | bytes, *command: str, timeout_s: float = 30.0) -> Any:
    """Run a command."""
    server.script = script
    return run_in_pod(
        client_of(server.url), "demo", "app-0", "db", command or ("true",), timeout_s=timeout_s
    )


def script(*outputs: tuple[int, bytes], status: Any = None, close: bool = True) -> Script:
    """Return a script: outputs, then the status if there is one, then the end."""

    def play(peer: Peer) -> None:
        for channel, data in outputs:
            peer.output(data, channel)
        if status is not None:
            peer.status(status)
        if close:
            peer.close()

    return play


def test_success(server: Server) -> None:
    """The command and its container are in the query, each word by itself; outputs are apart."""
    result = run(
        server,
        script((1, b"one "), (2, b"warning\n"), (1, b"two\n"), status=SUCCESS),
        "sh", "-c", "echo 'a b' && echo \"c\" & wait",
    )  # fmt: skip
    assert result == ExecResult(0, stdout="one two", stderr="warning")
    url = urlsplit(server.requests[0].split()[1])
    assert url.path == "/api/v1/namespaces/demo/pods/app-0/exec"
    assert parse_qsl(url.query) == [
        ("container", "db"),
        ("stdout", "true"),
        ("stderr", "true"),
        ("command", "sh"),
        ("command", "-c"),
        ("command", "echo 'a b' && echo \"c\" & wait"),
    ]
    assert "authorization: Bearer t0ken" in server.headers


def test_exit_code(server: Server) -> None:
    """A command that fails is no exception: its code and its words are the result."""
    result = run(server, script((2, b"no such file\n"), status=failure(7)))
    assert result == ExecResult(7, stderr="no such file")


def test_output_behind_the_status(server: Server) -> None:
    """The status may overtake the output; a server that then does not close is left."""
    result = run(server, script((1, b""), (3, json.dumps(failure(3)).encode()), (2, b"late")))
    assert (result.code, result.stderr) == (3, "late")
    began = time.monotonic()
    held = threading.Event()

    def hold(peer: Peer) -> None:
        peer.status(SUCCESS)
        held.wait(60.0)

    assert run(server, hold).code == 0
    held.set()
    assert time.monotonic() - began < 20.0


def test_status_without_a_code_is_no_timeout(server: Server) -> None:
    """Also when the server does not close after it: it has been said what went wrong."""
    held = threading.Event()

    def broken(peer: Peer) -> None:
        peer.status({"status": "Failure", "message": "the kubelet has lost it"})
        held.wait(60.0)

    assert run(server, broken) == ExecResult(None, error="the kubelet has lost it")
    held.set()


def test_output_is_bounded(server: Server) -> None:
    """Of an output without end its end is kept."""
    chunks = [(1, bytes([65 + n % 26]) * 70_000) for n in range(50)]
    result = run(server, script(*chunks, (1, b"the end"), status=SUCCESS))
    assert result.stdout.endswith("XXXthe end")
    assert len(result.stdout) == TAIL_BYTES


def test_not_utf_8(server: Server) -> None:
    """Output of any bytes is text."""
    assert run(server, script((1, b"\xff\xfeok"), status=SUCCESS)).stdout.endswith("ok")


def test_time_is_up(server: Server) -> None:
    """A command that hangs is left running; what it has said so far is told."""
    held = threading.Event()

    def hang(peer: Peer) -> None:
        peer.output("frozen")
        held.wait(60.0)

    result = run(server, hang, timeout_s=3.0)
    held.set()
    assert result == ExecResult(
        None, stdout="frozen", error="it did not end in time", timed_out=True
    )


def test_silence_is_asked_about(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that says nothing for long keeps its connection in use."""
    monkeypatch.setattr("controller.kube.exec.PING_S", 0.1)
    peers: list[Peer] = []

    def quiet(peer: Peer) -> None:
        peers.append(peer)
        peer.count_pings()

    result = run(server, quiet, timeout_s=3.0)
    assert result.timed_out
    assert peers[0].pings >= 2


@pytest.mark.parametrize(
    "ends", [script(), script((1, b"half"), close=False)], ids=["close", "cut"]
)
def test_no_status(server: Server, ends: Script) -> None:
    """A session that ends without a status proves nothing: no exit code, a reason."""
    result = run(server, ends)
    assert (result.code, result.timed_out) == (None, False)
    assert result.error.startswith("the connection was lost")


def answer(code: int, status: dict[str, Any]) -> bytes:
    """Return a refusal of the handshake."""
    body = json.dumps({"kind": "Status", "code": code, **status}).encode()
    return (
        f"HTTP/1.1 {code} No\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


@pytest.mark.parametrize(
    ("refusal", "kind", "text"),
    [
        (answer(403, {"reason": "Forbidden", "message": "no right"}), Forbidden, "no right"),
        (answer(404, {"reason": "NotFound", "message": "no pod"}), NotFound, "no pod"),
        (answer(400, {"reason": "BadRequest", "message": "no container"}), Invalid, "no container"),
        (answer(500, {"message": "error dialing backend"}), ServerFault, "dialing"),
        (b"HTTP/1.1 307 Go\r\nLocation: ws://127.0.0.1:1/\r\n\r\n", Unreachable, "exec Pod"),
        (b"HTTP/1.1 200 OK\r\n\r\n", ServerFault, "without a"),
        (b"nonsense\r\n\r\n", Unreachable, "exec Pod"),
    ],
    ids=["403", "404", "400", "500", "redirect", "200", "nonsense"],
)
def test_refused(server: Server, refusal: bytes, kind: type[KubeError], text: str) -> None:
    """What is refused before the command was started is the error of any other request."""
    with pytest.raises(kind, match=text):
        run(server, refusal)


def test_no_answer(server: Server) -> None:
    """The request is out: the command may run, and must not be started a second time."""
    result = run(server, b"")
    assert (result.code, result.timed_out) == (None, False)
    assert result.error.startswith("the API server did not answer")


def test_no_answer_in_time() -> None:
    """An API server that takes the request and is silent, as when its own backend hangs."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = client_of(f"http://127.0.0.1:{silent.getsockname()[1]}")
        result = run_in_pod(client, "demo", "app-0", "db", ("true",), timeout_s=0.3)
    assert result.code is None
    assert "did not answer" in result.error


def no_kubelet(message: str) -> dict[str, Any]:
    """Return what comes instead of a command's end: the kubelet could not be asked."""
    return {"kind": "Status", "status": "Failure", "code": 500, "message": message}


DIAL = "dial tcp 10.0.0.1:10250: connect: connection refused"
POSTED = (
    'error sending request: Post "https://10.0.0.1:10250/exec/demo/app-0/db?command=mysql'
    f'&command=-ps3cret": {DIAL}'
)


@pytest.mark.parametrize(
    "message",
    [
        POSTED,
        f"error dialing backend: {DIAL}",
        "error sending request: proxy error while dialing 10.0.0.1:10250, code 502: Bad Gateway",
    ],
    ids=["sending", "dialing", "tunnel"],
)
def test_a_kubelet_that_is_away(server: Server, message: str) -> None:
    """The API server grants the upgrade first: nothing was started, and nothing is disclosed."""
    with pytest.raises(ServerFault) as caught:
        run(server, script(status=no_kubelet(message)))
    assert "s3cret" not in caught.value.message
    assert "10.0.0.1:10250" in caught.value.message


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (((1, b"frozen"),), POSTED),
        ((), 'error sending request: Post "https://10.0.0.1:10250/exec?command=dial ": EOF'),
        ((), "error sending request: context deadline exceeded"),
    ],
    ids=["it ran", "the command dials", "unclear"],
)
def test_what_may_have_run_is_not_started_again(
    server: Server, outputs: tuple[tuple[int, bytes], ...], message: str
) -> None:
    """The connection broke after the kubelet was asked; the command line is kept secret."""
    result = run(server, script(*outputs, status=no_kubelet(message)))
    assert result.code is None
    assert result.error.startswith("error sending request")
    assert "command=" not in result.error


def test_no_proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the environment none is taken: the API server is in the cluster."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert run(server, script(status=SUCCESS)).code == 0


def test_a_peer_that_is_gone_is_noticed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers no ping: a node that died does not close its connections."""
    monkeypatch.setattr("controller.kube.exec.PING_S", 0.1)
    held = threading.Event()
    began = time.monotonic()

    def die(_: Peer) -> None:
        held.wait(60.0)

    result = run(server, die, timeout_s=30.0)
    held.set()
    assert time.monotonic() - began < 10.0
    assert (result.code, result.timed_out) == (None, False)
    assert result.error.startswith("the connection was lost")


@pytest.mark.parametrize(
    ("changes", "verifies", "checks"),
    [
        ({}, True, True),
        ({"assert_hostname": False}, True, False),
        ({"verify_ssl": False}, False, False),
        ({"verify_ssl": False, "assert_hostname": True}, False, False),
    ],
)
def test_certificates(changes: dict[str, Any], *, verifies: bool, checks: bool) -> None:
    """They are verified unless the kubeconfig says otherwise."""
    configuration: Any = Configuration(host="https://127.0.0.1")
    for name, value in changes.items():
        setattr(configuration, name, value)
    context = exec_module._tls(configuration)
    assert (context.verify_mode == ssl.CERT_REQUIRED, context.check_hostname) == (verifies, checks)


def test_nobody_there(server: Server) -> None:
    """A server that is away is Unreachable, at once."""
    server.close()
    with pytest.raises(Unreachable):
        run(server, b"")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("", (None, "")),
        (json.dumps(SUCCESS), (0, "")),
        (json.dumps(failure(137)), (137, "")),
        (
            json.dumps({"status": "Failure", "message": "executable file not found in $PATH"}),
            (None, "executable file not found in $PATH"),
        ),
        (
            json.dumps({"status": "Failure", "details": {"causes": "x"}}),
            (None, "it failed without a word"),
        ),
        (
            json.dumps({
                "status": "Failure",
                "message": "m",
                "details": {"causes": [1, {"reason": "ExitCode", "message": "-"}]},
            }),
            (None, "m"),
        ),
        ("{", (None, "the status of the command cannot be read")),
        ("[]", (None, "the status of the command cannot be read")),
    ],
)  # fmt: skip
def test_ending(status: str, expected: tuple[int | None, str]) -> None:
    """Statuses of every shape."""
    assert ending(status) == expected
