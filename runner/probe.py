"""HTTP and TCP handlers of a hook. Standard library only."""

import json
import socket
import ssl
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import quote, urlencode

from controller.api.hook_input import HttpInput

ANSWER_BYTES = 512
_SUCCESS, _REDIRECT, _ERROR = 200, 300, 400
_URL_CHARACTERS = "/?=&%:;,@+$!*'()~[]-._#"


class ProbeFailed(Exception):
    """What was asked for did not happen; `timed_out` when it may only have been slow.

    `is_answer` says that the application itself said no.
    """

    def __init__(self, text: str, *, timed_out: bool = False, is_answer: bool = False) -> None:
        super().__init__(text)
        self.timed_out = timed_out
        self.is_answer = is_answer


def ask(request: HttpInput, host: str, port: int, *, timeout_s: float) -> str:
    """Send a request, once; return a warning for a redirect, which is not followed, else nothing.

    Raises:
        ProbeFailed: there is no answer, or it is neither 2xx nor 3xx.
    """
    verb = "POST" if request.is_post else "GET"
    what = f"{verb} {request.scheme.lower()}://{_bracketed(host)}:{port}{request.path}"
    body = content(request)
    try:
        connection = _connection(request, host, port, timeout_s)
        try:
            connection.putrequest(
                verb,
                quote(request.path, safe=_URL_CHARACTERS),
                skip_host=any(name.lower() == "host" for name, _ in request.headers),
                skip_accept_encoding=True,
            )
            for name, value in headers(request, body):
                connection.putheader(name, value.encode("latin-1"))
            connection.endheaders(body)
            with connection.getresponse() as answer:
                said = answer.read(ANSWER_BYTES).decode("utf-8", "replace").strip()
        finally:
            connection.close()
    except TimeoutError as err:
        raise ProbeFailed(f"{what}: no answer in time", timed_out=True) from err
    except (HTTPException, OSError, ValueError) as err:
        raise ProbeFailed(f"{what}: {str(err) or type(err).__name__}") from err
    if _SUCCESS <= answer.status < _REDIRECT:
        return ""
    if _REDIRECT <= answer.status < _ERROR:
        return f"{what}: {answer.status}, which counts as success and is not followed"
    words = f"{answer.status} {answer.reason}{': ' if said else ''}{said}"
    raise ProbeFailed(f"{what}: {words}", is_answer=True)


def content(request: HttpInput) -> bytes | None:
    """Return the body: a form wins over a text."""
    if not request.is_post:
        return None
    if request.form:
        return urlencode([(k, v) for k, values in request.form.items() for v in values]).encode()
    return request.body.encode()


def headers(request: HttpInput, body: bytes | None) -> Iterator[tuple[str, str]]:
    """Yield the headers: those given, and what a body needs. A form has its own type always."""
    given = {name.lower() for name, _ in request.headers}
    for name, value in request.headers:
        if not (name.lower() == "content-type" and request.form) and name.lower() not in _OWN:
            yield name, value
    if "user-agent" not in given:
        yield "User-Agent", "drey"
    if body is not None:
        yield "Content-Length", str(len(body))
        if request.form:
            yield "Content-Type", "application/x-www-form-urlencoded"
        elif "content-type" not in given and body:
            yield "Content-Type", _kind(request.body)


_OWN = frozenset({"content-length", "transfer-encoding", "connection"})


def _kind(text: str) -> str:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return "text/plain; charset=utf-8"
    return "application/json"


def _connection(request: HttpInput, host: str, port: int, timeout_s: float) -> HTTPConnection:
    if request.scheme.upper() != "HTTPS":
        return HTTPConnection(host, port, timeout=timeout_s)
    trust_all = ssl.create_default_context()
    trust_all.check_hostname = False
    trust_all.verify_mode = ssl.CERT_NONE  # as a probe of the kubelet
    return HTTPSConnection(host, port, timeout=timeout_s, context=trust_all)


def connect(host: str, port: int, *, timeout_s: float) -> None:
    """Make a connection and close it.

    Raises:
        ProbeFailed: it cannot be made.
    """
    what = f"TCP {_bracketed(host)}:{port}"
    try:
        socket.create_connection((host, port), timeout_s).close()
    except TimeoutError as err:
        raise ProbeFailed(f"{what}: no connection in time", timed_out=True) from err
    except OSError as err:
        raise ProbeFailed(f"{what}: {err.strerror or err}") from err
    except ValueError as err:  # a host that is no name: an empty label, for one
        raise ProbeFailed(f"{what}: no name of a host: {err}") from err


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
