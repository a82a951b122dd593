"""The file that each replica of the snapshot demo writes, and what a restored one must look like.

A line has the Unix time, a number that counts from 1, and the replica's name. Lines are only ever
added: a volume as of a moment holds the first lines, all that were written until then and no other.
"""

import hashlib
from dataclasses import dataclass


class NotAsOf(Exception):
    """A restored ledger is not the one of the moment; the text says in what."""


@dataclass(frozen=True)
class Found:
    """What a replica says of its ledger when it starts."""

    lines: int
    sha256: str

    @classmethod
    def said(cls, line: str) -> "Found":
        """Read `found LINES SHA256`, as the application prints it.

        Raises:
            NotAsOf: it says something else.
        """
        words = line.split()
        if len(words) != 3 or words[0] != "found":  # noqa: PLR2004 - the three words
            raise NotAsOf(f"the application said {line!r}")
        return cls(int(words[1]), words[2])


def check(before: str, found: Found, *, earliest_s: float, latest_s: float) -> float:
    """Compare what was found with the ledger before it was destroyed; return the last line's time.

    Raises:
        NotAsOf: other lines, or not those of a moment between the two times.
    """
    lines = before.splitlines(keepends=True)
    if not 0 < found.lines < len(lines):
        raise NotAsOf(f"{found.lines} lines came back; before there were {len(lines)}")
    kept = "".join(lines[: found.lines])
    if hashlib.sha256(kept.encode()).hexdigest() != found.sha256:
        raise NotAsOf(f"the {found.lines} lines that came back are not the first of {len(lines)}")
    last_s = float(kept.splitlines()[-1].split()[0])
    if not earliest_s <= last_s <= latest_s:
        raise NotAsOf(
            f"the last line is of {last_s:.0f}, the snapshot of {earliest_s:.0f} to {latest_s:.0f}"
        )
    return last_s
