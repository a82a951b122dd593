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


def test_outage_among_other_losses() -> None:
    """The first request that was refused counts, not what is really gone before or after it."""
    collector = Collector(lambda _: None, redact=Redactor({}), keep_document=False)
    for error in ("<data/aa> does not exist", "403 Forbidden", "502 Bad Gateway", "<data/bb> gone"):
        text = json.dumps(
            {"message_type": "error", "message": f"Load(<data/a>, 9, 0) failed: {error}"}
        )
        collector.stderr(text.encode() + b"\n")
    assert collector.outcome(Ending(code=1)).outage == "403 Forbidden"


def test_a_secret_at_the_end_of_the_longest_line() -> None:
    """A line that is too long is cut in a secret: that part is not looked at."""
    retried = b"returned error, retrying after 1s: "
    line = b"x" * (LONGEST_LINE_BYTES - len(retried) - 10) + retried + SECRET.encode()
    assert "open" not in last_words(line)
