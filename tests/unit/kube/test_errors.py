"""controller.kube.errors: answers become errors, errors become verdicts."""

import json

import pytest

from controller.kube import errors
from controller.kube.errors import Verdict, classify, error_for, error_from_status


def status(**fields: object) -> bytes:
    """Return the body of a Kubernetes Status."""
    return json.dumps({"kind": "Status", "apiVersion": "v1", **fields}).encode()


@pytest.mark.parametrize(
    ("code", "reason", "kind", "verdict"),
    [
        (400, "BadRequest", errors.Invalid, Verdict.REFUSED),
        (401, "Unauthorized", errors.Unauthorized, Verdict.RETRY),
        (403, "Forbidden", errors.Forbidden, Verdict.REFUSED),
        (404, "NotFound", errors.NotServed, Verdict.RETRY),
        (408, "Timeout", errors.ServerFault, Verdict.RETRY),
        (409, "Conflict", errors.Conflict, Verdict.STALE),
        (409, "AlreadyExists", errors.AlreadyExists, Verdict.REFUSED),
        (410, "Expired", errors.Expired, Verdict.STALE),
        (415, "UnsupportedMediaType", errors.Invalid, Verdict.REFUSED),
        (422, "Invalid", errors.Invalid, Verdict.REFUSED),
        (429, "TooManyRequests", errors.Throttled, Verdict.RETRY),
        (500, "InternalError", errors.ServerFault, Verdict.RETRY),
        (503, "ServiceUnavailable", errors.ServerFault, Verdict.RETRY),
        (504, "Timeout", errors.ServerFault, Verdict.RETRY),
    ],
)
def test_status_codes_map_to_the_tree(
    code: int, reason: str, kind: type[errors.KubeError], verdict: Verdict
) -> None:
    """Each useful status has its class, and each class its verdict."""
    error = error_for(code, {}, status(code=code, reason=reason, message="why"))
    assert (type(error), error.code, error.reason, error.message) == (kind, code, reason, "why")
    assert classify(error) is verdict


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (status(code=404, reason="NotFound", details={"name": "x", "kind": "pods"}), "NotFound"),
        (status(code=404, reason="NotFound", details={"kind": "pods"}), "NotServed"),
        (status(code=404, reason="NotFound", details={"name": ""}), "NotServed"),
        (status(code=404, reason="NotFound"), "NotServed"),
        (b"404 page not found\n", "NotServed"),
        (b"<html>no such backend</html>", "NotServed"),
        (None, "NotServed"),
    ],
    ids=["named", "kind", "empty name", "no details", "plain", "proxy", "nothing"],
)
def test_only_a_status_that_names_it_says_that_an_object_is_gone(
    body: bytes | None, kind: str
) -> None:
    """An API server that has just started answers 404 for kinds that it has not read yet."""
    error = error_for(404, {}, body)
    assert type(error).__name__ == kind
    assert isinstance(error, errors.NotFound)
    assert classify(error) is (Verdict.RETRY if kind == "NotServed" else Verdict.REFUSED)


def test_a_resource_that_nobody_knows_is_told_in_the_words_of_kubectl() -> None:
    """A kube-apiserver answers with a plain page, which says nothing."""
    assert "could not find the requested resource" in error_for(404, {}, b"404").message


def test_no_answer_is_retried() -> None:
    """An outage is nobody's mistake."""
    assert classify(errors.Unreachable("refused")) is Verdict.RETRY


def test_retry_after_comes_from_the_header_or_the_status() -> None:
    """429 and 503 tell when to come back; a date or nothing means one second."""
    throttled = error_for(429, {"Retry-After": "7"}, status(code=429))
    unavailable = error_for(503, {}, status(code=503, details={"retryAfterSeconds": 3}))
    dated = error_for(429, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"")
    assert [getattr(e, "retry_after_s", None) for e in (throttled, unavailable, dated)] == [7, 3, 1]


def test_resource_version_too_large_is_told_from_other_timeouts() -> None:
    """The cause decides, so that the reflector can list at the newest version."""
    body = status(
        code=504, reason="Timeout", details={"causes": [{"reason": "ResourceVersionTooLarge"}]}
    )
    assert isinstance(error_for(504, {}, body), errors.VersionTooLarge)


def test_an_apply_that_contradicts_the_schema_is_invalid() -> None:
    """The API server answers 500, but trying again cannot help."""
    body = status(code=500, message="failed to create typed patch object (a/b): .spec: expected …")
    assert isinstance(error_for(500, {}, body), errors.Invalid)


def test_foreign_bodies_do_not_reach_the_error() -> None:
    """A proxy's page may hold anything, also credentials: it is dropped."""
    error = error_for(502, {}, b"<html>password=hunter2</html>")
    assert "hunter2" not in str(error) + error.message
    assert isinstance(error, errors.ServerFault)


def test_texts_are_capped() -> None:
    """A log line gets 256 characters, a condition 1,024."""
    error = error_for(422, {}, status(code=422, reason="Invalid", message="x" * 5000))
    assert len(str(error)) == 256
    assert len(error.message) == 1024


@pytest.mark.parametrize(
    "event_object",
    [{}, {"code": "410"}, {"details": 3}, {"details": {"causes": 1}}, {"message": None}],
)
def test_a_malformed_status_is_a_server_fault(event_object: dict[str, object]) -> None:
    """An ERROR event of any shape gives an error of the tree, never a KeyError."""
    assert isinstance(error_from_status(event_object), errors.ServerFault)


def test_expired_is_known_by_reason_alone() -> None:
    """Some peers send 410 only as a reason."""
    assert isinstance(error_from_status({"reason": "Expired"}), errors.Expired)
