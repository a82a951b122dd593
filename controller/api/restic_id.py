"""The ids of restic's repositories and snapshots: SHA-256 hashes in hexadecimal digits.

restic prints the first eight digits of a snapshot's id as its short one.
"""

import re

_FULL = re.compile("[0-9a-f]{64}")
_SNAPSHOT = re.compile("[0-9a-f]{8,64}")


def is_full(text: str) -> bool:
    """Tell whether this is the whole id of a repository or a snapshot."""
    return _FULL.fullmatch(text) is not None


def is_snapshot(text: str) -> bool:
    """Tell whether this can name a snapshot: its id, or eight or more of its first digits."""
    return _SNAPSHOT.fullmatch(text) is not None
