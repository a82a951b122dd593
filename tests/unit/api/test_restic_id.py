"""controller.api.restic_id: what a snapshot's id can be, and what it cannot."""

import pytest

from controller.api import restic_id

FULL = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "full", "snapshot"),
    [
        (FULL, True, True),
        (FULL[:63], False, True),
        (FULL[:8], False, True),
        (FULL[:7], False, False),
        (FULL + "0", False, False),
        (FULL.upper(), False, False),
        (FULL[:63] + "g", False, False),
        (FULL + "\n", False, False),
        ("latest", False, False),
        ("", False, False),
    ],
)
def test_what_an_id_is(text: str, *, full: bool, snapshot: bool) -> None:
    """All digits or a beginning of them, in lower case and nothing beside."""
    assert (restic_id.is_full(text), restic_id.is_snapshot(text)) == (full, snapshot)
