"""Runs a command in a container: Kubernetes' exec over a WebSocket.

The library's own client of it keeps all output in memory and connects without a time limit.
"""

import json
import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any
from urllib.parse import urlencode, urlsplit

from websocket import (
    ABNF,
    WebSocket,
    WebSocketBadStatusException,
    WebSocketConnectionClosedException,
    WebSocketException,
    WebSocketTimeoutException,
)

from controller.api.objects import dig
from controller.api.resources import POD
from controller.kube.client import Client
from controller.kube.errors import MESSAGE_CHARS, ServerFault, Unreachable, error_for
from controller.kube.interface import READ_S

TAIL_BYTES = 2048
"""Of each output the last bytes are kept."""
PING_S = 15.0
"""A connection on which nothing is said for so long is asked for a sign of life."""
_SILENCE_PINGS = 2
"""After so many times PING_S without any the connection is lost, whatever TCP believes."""
DRAIN_S = 2.0
"""What is still waited for after the status: the output may come behind it."""
_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_STDOUT, _STDERR, _STATUS = 1, 2, 3
_STATUS_BYTES = 1 << 16
_URL = re.compile(r'\b(Get|Post) "[^"]*"')
"""How Go names a request that failed: with the whole command in it."""
_NOT_DIALED = re.compile(r"\berror dialing backend\b|\bdial(ing)? ")
"""What the API server says when the kubelet cannot be reached: nothing was started."""
_NO_PROGRAM = re.compile(r'executable file .{1,200} not found|unable to start .{1,40}: exec: "')
"""What runc and crun say of a program that they cannot find, or may not run."""


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How a command ended. `code` is None when that is not known; `error` says why.

    A command whose time was up may still run: Kubernetes cannot end it.
    """

    code: int | None
    stdout: str = ""
    stderr: str = ""
    error: str = ""
    timed_out: bool = False

    @property
    def never_starts(self) -> bool:
        """Tell whether the container has no such program, or may not run it: nothing will help."""
        return self.code is None and bool(_NO_PROGRAM.search(self.error))


class _Tail:
    """The last bytes of an output."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = bytearray()

    def add(self, data: bytes) -> None:
        self._bytes += data
        del self._bytes[: -self._limit]

    def text(self) -> str:
        return self._bytes.decode("utf-8", "replace").strip()


def run_in_pod(
    client: Client,
    namespace: str,
    pod: str,
    container: str,
    command: Sequence[str],
    *,
    timeout_s: float,
) -> ExecResult:
    """Run a command without standing input and wait for its end.

    Raises:
        KubeError: the command was not started; asking again is safe.
    """
    ends_s = monotonic() + timeout_s
    query = [("container", container), ("stdout", "true"), ("stderr", "true")]
    query += [("command", word) for word in command]
    path = f"{POD.path(namespace, pod, 'exec')}?{urlencode(query)}"
    opened = _open(client.configuration, path, timeout_s=min(READ_S, max(0.1, timeout_s)))
    if isinstance(opened, ExecResult):
        return opened
    try:
        result = _Session(opened, ends_s).result()
    finally:
        opened.shutdown()  # closes at once; `close` would wait for the peer's answer
    is_silent = result.code is None and not (result.stdout or result.stderr)
    if is_silent and _NOT_DIALED.search(result.error):
        # The upgrade is granted before the kubelet is asked: one that is away comes as a Status.
        raise ServerFault(result.error)
    return result


def _open(configuration: Any, path: str, *, timeout_s: float) -> Any:
    """Return the open WebSocket; or how the command ended if nobody knows whether it started.

    Raises:
        KubeError: it was not started.
    """
    scheme, _, rest = configuration.host.partition("://")
    url = f"{'wss' if scheme == 'https' else 'ws'}://{rest.rstrip('/')}{path}"
    try:
        stream = _connected(configuration, timeout_s)
    except OSError as err:
        raise Unreachable(f"exec Pod: {type(err).__name__}") from err
    opened: Any = WebSocket(skip_utf8_validation=True)
    headers = [
        f"{auth['key']}: {auth['value']}"
        for auth in configuration.auth_settings().values()
        if auth["value"]
    ]
    try:
        opened.connect(
            url,
            socket=stream,
            header=headers,
            subprotocols=list(_PROTOCOLS),
            suppress_origin=True,
            redirect_limit=0,
        )
    except WebSocketBadStatusException as err:
        # no cause: it would print headers into any traceback
        raise error_for(err.status_code, err.resp_headers or {}, err.resp_body) from None
    except (WebSocketTimeoutException, WebSocketConnectionClosedException, OSError) as err:
        # The request is out: the command may run.
        return ExecResult(None, error=f"the API server did not answer ({type(err).__name__})")
    except WebSocketException as err:
        raise Unreachable(f"exec Pod: {type(err).__name__}") from err
    return opened


def _connected(configuration: Any, timeout_s: float) -> socket.socket:
    """Return a connection to the API server itself: hooks go through no proxy."""
    address = urlsplit(configuration.host)
    is_tls = address.scheme == "https"
    port = address.port or (443 if is_tls else 80)
    stream = socket.create_connection((address.hostname or "", port), timeout_s)
    try:
        for option in configuration.socket_options or ():
            stream.setsockopt(*option)
        if not is_tls:
            return stream
        name = configuration.tls_server_name or address.hostname
        return _tls(configuration).wrap_socket(stream, server_hostname=name)
    except BaseException:
        stream.close()
        raise


def _tls(configuration: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(
        cafile=configuration.ssl_ca_cert, cadata=configuration.ca_cert_data
    )
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if configuration.assert_hostname is not None:
        context.check_hostname = bool(configuration.assert_hostname)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class _Session:
    """One running command, seen through its socket."""

    def __init__(self, socket: Any, ends_s: float) -> None:
        self._socket = socket
        self._ends_s = ends_s
        self._heard_s = monotonic()
        self._tails = {
            _STDOUT: _Tail(TAIL_BYTES),
            _STDERR: _Tail(TAIL_BYTES),
            _STATUS: _Tail(_STATUS_BYTES),
        }

    def result(self) -> ExecResult:
        """Read until the peer closes, the time is up, or shortly after the status."""
        timed_out, lost = False, ""
        try:
            while self._message():
                pass
        except WebSocketTimeoutException:
            timed_out = True
        except (WebSocketException, OSError) as err:
            lost = f" ({type(err).__name__})"
        code, error = ending(self._tails[_STATUS].text())
        is_told = code is not None or bool(error)
        if not is_told:
            error = "it did not end in time" if timed_out else f"the connection was lost{lost}"
        return ExecResult(
            code,
            stdout=self._tails[_STDOUT].text(),
            stderr=self._tails[_STDERR].text(),
            error=error,
            timed_out=timed_out and not is_told,
        )

    def _message(self) -> bool:
        """Take one message; False when it was the last."""
        left_s = self._ends_s - monotonic()
        if left_s <= 0.0:
            raise WebSocketTimeoutException
        self._socket.settimeout(min(PING_S, left_s))
        try:
            operation, data = self._socket.recv_data(control_frame=True)
        except WebSocketTimeoutException:
            if monotonic() - self._heard_s >= _SILENCE_PINGS * PING_S:
                raise WebSocketConnectionClosedException from None
            if left_s > PING_S:
                self._socket.ping()
            return True
        self._heard_s = monotonic()
        if operation in {ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT} and data and data[0] in self._tails:
            self._tails[data[0]].add(data[1:])
            if data[0] == _STATUS and len(data) > 1:
                self._ends_s = min(self._ends_s, monotonic() + DRAIN_S)
        return bool(operation != ABNF.OPCODE_CLOSE)


def ending(status: str) -> tuple[int | None, str]:
    """Return the exit code that a Status tells, or why there is none; neither for no Status."""
    if not status:
        return None, ""
    try:
        parsed = json.loads(status)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        return None, "the status of the command cannot be read"
    if parsed.get("status") == "Success":
        return 0, ""
    causes = dig(parsed, "details", "causes")
    for cause in causes if isinstance(causes, list) else ():
        code = str(dig(cause, "message"))
        if dig(cause, "reason") == "ExitCode" and code.isdecimal():
            return int(code), ""
    said = _URL.sub(r"\1", str(parsed.get("message") or "it failed without a word"))
    return None, said[:MESSAGE_CHARS]
