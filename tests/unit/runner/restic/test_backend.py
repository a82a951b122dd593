"""What the errors of backends mean."""

import pytest

from runner.restic.backend import (
    given_up,
    is_denied,
    is_lasting,
    is_loss,
    is_lost_pack,
    is_outage,
    is_unlisted,
    retried,
)

PACK = "2a32f9e82b191011f5969018612cf90c31a7575819157b9ad197687f7f59d48a"


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
        ("input/output error", False, False, False),
        ("The Access Key Id you provided does not exist in our records.", True, True, True),
        ("The provided token has expired.", True, True, True),
        ("Error 407 Proxy Authentication Required", True, True, True),
        ("We encountered an internal error, please try again.", False, True, False),
        ("Please reduce your request rate.", False, True, False),
        ("unexpected HTTP response (429): 429 Too Many Requests", False, True, False),
        ("unexpected HTTP response (507): 507 Insufficient Storage", False, True, False),
        ("request timeout", False, True, False),
        ("context deadline exceeded", False, True, False),
        ("net/http: TLS handshake timeout", False, True, False),
        ("EOF", False, True, False),
        ('Get "http://h/r/data/88": EOF', False, True, False),
        ("http2: client connection lost", False, True, False),
        ("read /repo/index/2d: stale NFS file handle", False, True, False),
        ("The specified key does not exist.", False, False, False),
        ("The requested range is not satisfiable", False, False, False),
        ("unexpected HTTP response (416): 416 Range Not Satisfiable", False, False, False),
        ("file is too short", False, False, False),
        # what the user named may contain any word
        ("open /srv/certificates/403/data/88: no such file or directory", False, False, False),
        ('Get "https://h/client-403/tls: x": not found', False, False, False),
        ("dial tcp 10.0.0.1:403: connect: connection refused", False, True, False),
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
        ("Remove(<lock/59e1cc1a2f>) failed: unexpected HTTP response (403): 403 Forbidden", "", ""),
        ("Save(<lock/59e1cc1a2f>) failed: dial tcp: no such host", "", ""),
        ("Load(<lock/59e1cc1a2f>, 0, 0) failed: <lock/59e1cc1a2f> does not exist", "", ""),
        ("List(lock) failed: unexpected HTTP response (403): 403 Forbidden", "", ""),
    ],
)  # fmt: skip
def test_requests(line: str, again: str, lost: str) -> None:
    """A request is tried again, or given up, and the error says why."""
    assert (retried(line), given_up(line)) == (again, lost)


@pytest.mark.parametrize(
    ("line", "loss", "pack"),
    [
        ("Load(<data/88210c0a66>, 249, 938) failed: file is too short", True, False),
        ("Load(<index/08118badfa>, 0, 0) failed: <index/08118badfa> does not exist", True, False),
        ("LoadRaw(<index/08118badfa>): invalid data returned", True, False),
        (f"decrypting blob <tree/f6> from pack {PACK} failed: ciphertext verification failed", True,
         False),
        (f"pack {PACK}: does not exist", False, True),
        (f"pack {PACK}: unexpected file size: got 0, expected 1387", False, True),
        ("Load(<data/88210c0a66>, 249, 938) failed: input/output error", False, False),
        ("Load(<data/88210c0a66>, 249, 938) failed: 403 Forbidden", False, False),
        ("Stat(config) failed: The Access Key Id you provided does not exist", False, False),
        ("error for tree f649200c:", False, False),
    ],
)  # fmt: skip
def test_losses(line: str, *, loss: bool, pack: bool) -> None:
    """Of packs the list decides, which may have been refused; the rest proves itself."""
    assert (is_loss(line), is_lost_pack(line)) == (loss, pack)


def test_lists() -> None:
    """Without its list of packs restic misses all of them."""
    assert is_unlisted("List(data) failed: unexpected HTTP response (403): 403 Forbidden")
    assert not is_unlisted("Load(<data/88210c0a66>, 249, 938) failed: 403 Forbidden")
