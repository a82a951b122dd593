"""What is kept of restic's output."""

import json

import pytest

from runner.redaction import Redactor
from runner.restic.messages import LONGEST_LINE_BYTES
from runner.restic.outcome import TAIL_CHARACTERS, Collector
from runner.restic.process import Ending

SECRET = "open-sesame-and-let-me-in"  # noqa: S105 - a value of this test only


def last_words(line: bytes) -> str:
    """Return what is told of a command that printed this line and failed."""
    collector = Collector(
        lambda _: None, redact=Redactor({"KEY": SECRET.encode()}), keep_document=False
    )
    collector.stderr(line + b"\n")
    return collector.outcome(Ending(code=1)).last_words()


@pytest.mark.parametrize("start", ["", "Load failed: returned error, retrying after 1s: "])
@pytest.mark.parametrize("shown", range(1, len(SECRET)))
def test_a_secret_at_the_cut(start: str, shown: int) -> None:
    """A secret is masked before a text is cut, so that no part of it is left at the end."""
    filling = "." * (TAIL_CHARACTERS - shown)
    assert "open" not in last_words(f"{start}{filling}{SECRET} more".encode())
    within = "." * (TAIL_CHARACTERS - shown - len(start))
    assert "o" not in last_words(f"{start}{within}{SECRET}".encode()).removeprefix(start)


LOST = f"pack {'ab' * 32}: does not exist"
REFUSED = "Load(<data/a>, 9, 0) failed: 403 Forbidden"
UNLISTED = "List(data) failed: what nobody has heard of"
SPOILT = "LoadRaw(<index/b>): invalid data returned"


@pytest.mark.parametrize(
    ("lines", "outage", "damage"),
    [
        ((REFUSED, "Load(<data/a>, 9, 0) failed: 502 Bad Gateway"), REFUSED, ""),
        ((LOST, REFUSED), REFUSED, LOST),
        (("Load(<data/a>, 9, 0) failed: file is too short", LOST), "", LOST),
        ((REFUSED, *["x"] * 30, LOST), REFUSED, LOST),
        ((UNLISTED, LOST), UNLISTED, ""),
        ((UNLISTED, LOST, SPOILT), UNLISTED, SPOILT),
        ((LOST, "Remove(<lock/c>) failed: 403 Forbidden"), "", LOST),
    ],
)
def test_outage_and_damage(lines: tuple[str, ...], outage: str, damage: str) -> None:
    """Neither hides the other; without their list no pack is known to be missing."""
    collector = Collector(lambda _: None, redact=Redactor({}), keep_document=False)
    for line in lines:
        message = {"message_type": "error", "message": line}
        collector.stderr(json.dumps(message).encode() + b"\n")
    outcome = collector.outcome(Ending(code=1))
    assert (outcome.outage, outcome.damage) == (outage, damage)


def test_a_secret_at_the_end_of_the_longest_line() -> None:
    """A line that is too long is cut in a secret: that part is not looked at."""
    retried = b"returned error, retrying after 1s: "
    line = b"x" * (LONGEST_LINE_BYTES - len(retried) - 10) + retried + SECRET.encode()
    assert "open" not in last_words(line)
