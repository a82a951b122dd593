"""What the errors of backends mean."""

import pytest

from runner.restic.backend import given_up, is_denied, is_lasting, is_outage, retried


@pytest.mark.parametrize(
    ("error", "denied", "outage", "lasting"),
    [
        ("The request signature we calculated does not match", True, True, True),
        ("unexpected HTTP response (403): 403 Forbidden", True, True, True),
        ("open /repo/index/2d: permission denied", True, True, True),
        ("tls: failed to verify certificate: x509: unknown authority", False, True, True),
        ("dial tcp 127.0.0.1:1: connect: connection refused", False, True, False),
        ("unexpected HTTP response (500): 500 Internal Server Error", False, True, False),
        ("<data/912b75758b> does not exist", False, False, False),
        ("unexpected HTTP response (404): 404 Not Found", False, False, False),
        ("ciphertext verification failed", False, False, False),
        ("", False, False, False),
    ],
)
def test_meaning(error: str, *, denied: bool, outage: bool, lasting: bool) -> None:
    """An outage says nothing of what is stored; some do not pass by themselves."""
    assert (is_denied(error), is_outage(error), is_lasting(error)) == (denied, outage, lasting)


@pytest.mark.parametrize(
    ("line", "again", "lost"),
    [
        ("Load(<index/2dfeeb2b57>, 0, 0) returned error, retrying after 1.4s: EOF", "EOF", ""),
        ("Load(<data/c73c566999>, 249, 0) failed: <data/c7> does not exist", "",
         "<data/c7> does not exist"),
        ("List(data) failed: unexpected HTTP response (403): 403 Forbidden", "",
         "unexpected HTTP response (403): 403 Forbidden"),
        ("Load(<data/c73c566999>, 403, 0) operation successful after 1 retries", "", ""),
        ("the hook of app (1) failed: 403", "", ""),
        ("error for tree c9c91331:", "", ""),
    ],
)  # fmt: skip
def test_requests(line: str, again: str, lost: str) -> None:
    """A request is tried again, or given up, and the error says why."""
    assert (retried(line), given_up(line)) == (again, lost)
