"""What the errors of backends mean."""

import pytest

from runner.restic.backend import (
    is_denied,
    is_lasting,
    is_loss,
    is_lost_pack,
    is_outage,
    is_unlisted,
    is_unreachable,
    retried,
)

PACK = "2a32f9e82b191011f5969018612cf90c31a7575819157b9ad197687f7f59d48a"
LOAD = "Load(<data/88210c0a66>, 403, 0) failed: "


@pytest.mark.parametrize(
    ("error", "denied", "unreachable", "lasting"),
    [
        ("The request signature we calculated does not match", True, False, True),
        ("unexpected HTTP response (403): 403 Forbidden", True, False, True),
        ("Error 407: no", True, False, True),
        ("open /repo/index/2d: permission denied", True, False, True),
        ("tls: failed to verify certificate: x509: unknown authority", False, True, True),
        ("dial tcp 127.0.0.1:1: connect: connection refused", False, True, False),
        ("unexpected HTTP response (500): 500 Internal Server Error", False, True, False),
        ("<data/912b75758b> does not exist", False, False, False),
        ("unexpected HTTP response (404): 404 Not Found", False, False, False),
        ("", False, False, False),
        # what the user named may contain any word, and a number may be a port or a size
        ("open /srv/certificates/403/data/88: no such file or directory", False, False, False),
        ('Get "https://h/client-403/tls: x": not found', False, False, False),
        ("dial tcp 10.0.0.1:403: connect: connection refused", False, True, False),
        (f"Fatal: repository contains errors; {LOAD}dial tcp: EOF", False, True, False),
    ],
)
def test_meaning(error: str, *, denied: bool, unreachable: bool, lasting: bool) -> None:
    """Whom to ask: keys and rights, or the network; some errors do not pass by themselves."""
    assert (is_denied(error), is_unreachable(error)) == (denied, unreachable)
    assert is_lasting(error) is lasting


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("Load(<index/2dfeeb2b57>, 0, 0) returned error, retrying after 1.4s: EOF", "EOF"),
        ("Load(<data/c73c566999>, 403, 0) operation successful after 1 retries", ""),
        ("List(data) failed: unexpected HTTP response (403): 403 Forbidden", ""),
    ],
)
def test_retries(line: str, error: str) -> None:
    """A request that is tried again says why."""
    assert retried(line) == error


@pytest.mark.parametrize(
    "error",
    [
        "403 Forbidden", "The Access Key Id you provided does not exist in our records.",
        "The provided token has expired.", "dial tcp: lookup minio: no such host", "EOF",
        "We encountered an internal error, please try again.", "request timeout",
        "unexpected HTTP response (429): 429 Too Many Requests", "http2: client connection lost",
        "unexpected HTTP response (503): 503 Backend not found", "Error 429: quota not found",
        "read /repo/index/2d: stale NFS file handle", "open /r/data/88: operation not permitted",
        "The operation is not valid for the object's storage class", "what nobody has heard of",
        "open /does not exist/data/88: permission denied",
    ],
)  # fmt: skip
def test_outages(error: str) -> None:
    """What was not read may be there, unless its error says that it is not."""
    assert is_outage(LOAD + error)
    assert not is_loss(LOAD + error)


@pytest.mark.parametrize(
    "line",
    [
        LOAD + "file is too short",
        LOAD + "open /srv/certificates/client-403/data/88: no such file or directory",
        LOAD + "<data/88210c0a66> does not exist",
        LOAD + "The specified key does not exist.",
        LOAD + "The requested range is not satisfiable",
        LOAD + "unexpected HTTP response (416): 416 Range Not Satisfiable",
        LOAD + "read /r/data/88: input/output error",
        "LoadRaw(<index/08118badfa>): invalid data returned",
        f"decrypting blob <tree/f6> from pack {PACK} failed: ciphertext verification failed",
        f"id {PACK} not found in repository",
        f'file "not found" blob {PACK} not found in index\n',
    ],
)
def test_losses(line: str) -> None:
    """These prove themselves."""
    assert is_loss(line)
    assert not is_outage(line)


@pytest.mark.parametrize(
    "line",
    [
        "Remove(<lock/59e1cc1a2f>) failed: unexpected HTTP response (403): 403 Forbidden",
        "Save(<lock/59e1cc1a2f>) failed: dial tcp: no such host",
        "Load(<lock/59e1cc1a2f>, 0, 0) failed: <lock/59e1cc1a2f> does not exist",
        "List(lock) failed: unexpected HTTP response (403): 403 Forbidden",
        "error for tree c9c91331:",
        'tree f6: file "ciphertext not found in index of 403" blob 0 size could not be found',
        "the hook of app (1) failed: 403",
    ],
)
def test_neither(line: str) -> None:
    """Locks come and go; a name proves nothing."""
    assert not is_outage(line)
    assert not is_loss(line)


def test_packs() -> None:
    """Of packs the list decides. Without it restic misses all of them."""
    assert is_lost_pack(f"pack {PACK}: does not exist")
    assert is_lost_pack(f"pack {PACK}: unexpected file size: got 0, expected 1387")
    assert not is_lost_pack(f"pack {PACK}: not referenced in any index")
    assert is_unlisted("List(data) failed: what nobody has heard of")
    assert not is_unlisted("List(index) failed: what nobody has heard of")


@pytest.mark.parametrize("part", ["open /", "Load(", "token ", '"http://', "List(data) failed: "])
def test_hostile_texts(part: str) -> None:
    """A server may say anything, and as much as it likes."""
    text = part * 100_000
    assert not is_loss(text)
    is_denied(text)
    is_unreachable(text)
    retried(text)
