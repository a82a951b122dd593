"""The ledger of the snapshot demo: only the lines up to a moment pass for it."""

import hashlib

import pytest

from hack.demo.ledger import Found, NotAsOf, check

LINES = [f"{1000 + number} {number} ledger-0\n" for number in range(1, 11)]
BEFORE = "".join(LINES)


def found(*lines: str) -> Found:
    """Return what the application says of a ledger with these lines."""
    text = "".join(lines)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Found.said(f"found {len(lines)} {digest}")


def test_the_first_lines_up_to_the_moment_pass() -> None:
    """The time of the last one is told."""
    assert check(BEFORE, found(*LINES[:4]), earliest_s=1002, latest_s=1006) == 1004


@pytest.mark.parametrize(
    ("back", "words"),
    [
        (found(), "0 lines came back"),
        (found(*LINES), "10 lines came back; before there were 10"),
        (found(*LINES[:3], "1004 4 ledger-1\n"), "are not the first of 10"),
        (found(*LINES[1:5]), "are not the first of 10"),
        (found(*LINES[:1]), "the last line is of 1001, the snapshot of 1002 to 1006"),
        (found(*LINES[:8]), "the last line is of 1008"),
    ],
)
def test_anything_else_is_told(back: Found, words: str) -> None:
    """Nothing, everything, another replica's, a gap, too old, too new."""
    with pytest.raises(NotAsOf, match=words):
        check(BEFORE, back, earliest_s=1002, latest_s=1006)


@pytest.mark.parametrize("line", ["", "found", "lost 3 abc", "found 3"])
def test_the_application_must_say_what_it_found(line: str) -> None:
    """Another text is no empty ledger."""
    with pytest.raises(NotAsOf, match="the application said"):
        Found.said(line)
