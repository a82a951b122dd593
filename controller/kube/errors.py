"""What a request to the API server can end in.

    KubeError
    ├── Unreachable                 no answer: refused, reset, timed out, TLS
    ├── Throttled(retry_after_s)    429, or 503 with Retry-After
    ├── ServerFault                 other 5xx, or an answer that is not what was asked for
    ├── Expired                     410, or reason Expired or Gone: list again
    ├── VersionTooLarge             the server has not seen that resourceVersion yet (504)
    ├── Conflict                    409: somebody was faster, or a precondition did not hold
    ├── AlreadyExists               409 with reason AlreadyExists
    ├── NotFound                    404, and a Status that names what does not exist
    │   └── NotServed               any other 404: the kind is not served (yet), or a proxy answered
    ├── Invalid                     400, 422 and other 4xx: the same request will fail again
    ├── Forbidden                   403: RBAC, quota or admission
    └── Unauthorized                401: the token was read again already

Response bodies may hold what a caller sent or what the server stores. They never enter an error:
only the `message` of a Kubernetes Status does, capped. Causes are chained for debuggers, but must
not be logged: the library's own exceptions print headers and bodies.
"""

import json
from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus as Http
from typing import Any

MESSAGE_CHARS = 1024
LOG_CHARS = 256

_WRONG_TYPES = "failed to create typed patch object"
"""How kube-apiserver 1.36 answers an apply whose body contradicts the schema: with a 500."""


class KubeError(Exception):
    """A request that did not do what was asked; `str()` is short enough for a log line.

    Attributes:
        code: the HTTP status, 0 when there was no answer.
        reason: the machine-readable reason of the Status, or the class name.
        message: the Status's own message, at most 1,024 characters.
    """

    def __init__(self, message: str, *, code: int = 0, reason: str = "") -> None:
        self.code = code
        self.reason = reason or type(self).__name__
        self.message = message[:MESSAGE_CHARS]
        super().__init__(f"{self.reason}: {self.message}"[:LOG_CHARS])


class Unreachable(KubeError):
    """The API server did not answer in time, or at all. Whether it acted is unknown."""


class Throttled(KubeError):
    """The API server asks to come back later."""

    def __init__(
        self, message: str, *, code: int = 0, reason: str = "", retry_after_s: float = 1.0
    ) -> None:
        super().__init__(message, code=code, reason=reason)
        self.retry_after_s = retry_after_s


class ServerFault(KubeError):
    """The API server failed, or answered with something else than was asked for."""


class Expired(KubeError):
    """The resourceVersion or continue token is too old."""


class VersionTooLarge(KubeError):
    """The API server has not reached that resourceVersion (it, or etcd, was set back)."""


class Conflict(KubeError):
    """The object has changed, or a precondition did not hold: compute again."""


class AlreadyExists(KubeError):
    """An object of that name exists."""


class NotFound(KubeError):
    """An object does not exist: that of the request, or its namespace."""


class NotServed(NotFound):
    """Nobody knows the resource: no proof that an object is gone.

    So answers an API server that has just started for kinds whose CRDs it has not read yet.
    """


class Invalid(KubeError):
    """The request itself is wrong; the message names the fields."""


class Forbidden(KubeError):
    """RBAC, a quota or an admission policy says no."""


class Unauthorized(KubeError):
    """The credentials were not accepted, although the token was read again."""


class Verdict(StrEnum):
    """What a caller should do about an error."""

    STALE = "stale"
    RETRY = "retry"
    REFUSED = "refused"


def classify(error: KubeError) -> Verdict:
    """Tell whether to look again, to try again, or to explain to the user.

    Everything that is nobody's mistake is RETRY; REFUSED is what a change by a person mends.
    """
    match error:
        case Conflict() | Expired():
            return Verdict.STALE
        case NotServed():
            return Verdict.RETRY
        case AlreadyExists() | NotFound() | Invalid() | Forbidden():
            return Verdict.REFUSED
        case _:
            return Verdict.RETRY


def error_for(code: int, headers: Mapping[str, str], body: bytes | str | None) -> KubeError:
    """Return the error for an answer that is not 2xx.

    A body that is no Kubernetes Status (a proxy's page, for example) is dropped.
    """
    status = _status_in(body)
    if status:
        return error_from_status({"code": code, **status}, retry_after=_header(headers))
    text = f"HTTP {code} without a Kubernetes status"
    if code == Http.NOT_FOUND:  # so answers a kube-apiserver for a resource that it does not serve
        text = f"the server could not find the requested resource ({text})"
    return _error(code, "", text, _header(headers))


def error_from_status(status: Mapping[str, Any], *, retry_after: str = "") -> KubeError:
    """Return the error for a Kubernetes Status, as in a watch's ERROR event.

    Fields may be missing or of the wrong type: the peer may be any proxy.
    """
    code = status.get("code")
    details = status.get("details")
    details = details if isinstance(details, Mapping) else {}
    seconds = details.get("retryAfterSeconds")
    causes = details.get("causes")
    reason = str(status.get("reason") or "")
    if any(
        isinstance(cause, Mapping) and cause.get("reason") == "ResourceVersionTooLarge"
        for cause in (causes if isinstance(causes, list) else ())
    ):
        reason = "ResourceVersionTooLarge"
    return _error(
        code if isinstance(code, int) else 0,
        reason,
        str(status.get("message") or "no message"),
        retry_after or (str(seconds) if isinstance(seconds, int) else ""),
        is_named=bool(details.get("name")),
    )


def _error(
    code: int, reason: str, message: str, retry_after: str, *, is_named: bool = False
) -> KubeError:
    if code == Http.TOO_MANY_REQUESTS or (code == Http.SERVICE_UNAVAILABLE and retry_after):
        return Throttled(message, code=code, reason=reason, retry_after_s=_seconds(retry_after))
    kind: type[KubeError]
    match code, reason:
        case _, "ResourceVersionTooLarge":
            kind = VersionTooLarge
        case (Http.GONE, _) | (_, "Expired" | "Gone"):
            kind = Expired
        case Http.CONFLICT, "AlreadyExists":
            kind = AlreadyExists
        case Http.CONFLICT, _:
            kind = Conflict
        case Http.NOT_FOUND, _:
            kind = NotFound if is_named else NotServed
        case Http.FORBIDDEN, _:
            kind = Forbidden
        case Http.UNAUTHORIZED, _:
            kind = Unauthorized
        case _ if _is_client_error(code) or message.startswith(_WRONG_TYPES):
            kind = Invalid
        case _:
            kind = ServerFault
    return kind(message, code=code, reason=reason)


def _is_client_error(code: int) -> bool:
    bad, internal = Http.BAD_REQUEST, Http.INTERNAL_SERVER_ERROR
    return bad <= code < internal and code != Http.REQUEST_TIMEOUT


def _status_in(body: bytes | str | None) -> Mapping[str, Any]:
    try:
        parsed = json.loads(body or "")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) and parsed.get("kind") == "Status" else {}


def _header(headers: Mapping[str, str]) -> str:
    return next((v for k, v in headers.items() if k.lower() == "retry-after"), "")


def _seconds(text: str) -> float:
    """Return a Retry-After in seconds; the HTTP-date form, which Kubernetes never sends, is 1 s."""
    return min(float(text), 60.0) if text.isdecimal() else 1.0
