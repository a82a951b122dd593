"""What a restore says of incomplete snapshots, and which it names in their place."""

from datetime import UTC, datetime, timedelta

import pytest

from controller.api.report import MAX_TEXT
from runner.restic.command import INCOMPLETE_TAG
from runner.restic.documents import Snapshot
from runner.selection import newest_complete, warning_of

OWN, OTHER = "drey:target=PersistentVolumeClaim/demo/data", "drey:target=PersistentVolumeClaim/a/b"


def listed(
    number: int,
    *,
    host: str = "host-0",
    path: str = "/stash-data",
    target: str = OWN,
    complete: bool = True,
) -> Snapshot:
    """Return a snapshot; a larger number is a later one."""
    marks = () if complete else (INCOMPLETE_TAG,)
    return Snapshot(
        id=f"{number:064x}",
        time=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number),
        host=host,
        paths=(path,),
        tags=tuple(filter(None, (target, *marks))),
    )


TAKEN = listed(9, complete=False)


@pytest.mark.parametrize(
    ("others", "untagged", "number"),
    [
        ([listed(1), listed(3), listed(2)], (), 3),
        ([listed(1), listed(2, complete=False)], (), 1),
        # its tag could not be written
        ([listed(1), listed(2)], (2,), 1),
        # somebody else's data is never proposed
        ([listed(1), listed(2, host="host-1")], (), 1),
        ([listed(1), listed(2, path="/stash-data/a")], (), 1),
        ([listed(1), listed(2, target=OTHER)], (), 1),
        ([listed(1), listed(2, target="")], (), 1),
        ([listed(2, target=OTHER)], (), None),
        ([], (), None),
    ],
)
def test_the_newest_complete_one(
    others: list[Snapshot], untagged: tuple[int, ...], number: int | None
) -> None:
    """Of the same host, path and target; the order of the list does not matter."""
    ids = frozenset(listed(item).id for item in untagged)
    for known in ([*others, TAKEN], [TAKEN, *reversed(others)]):
        found = newest_complete(known, TAKEN, ids)
        assert (found and found.id) == (None if number is None else listed(number).id)


def test_the_warning_says_what_to_do() -> None:
    """Both ids, both times, and where to write the better one."""
    assert warning_of([TAKEN], [listed(2), TAKEN], ()) == (
        f"Snapshot {TAKEN.id} of /stash-data (2026-01-10 00:00 UTC) is incomplete; the newest"
        f" complete one of its host, path and target is {listed(2).id} of /stash-data"
        " (2026-01-03 00:00 UTC). What could not be read when such a snapshot was made is not in"
        " it. To restore a complete one, name it in spec.target.rules[].snapshots of another"
        " RestoreSession."
    )


def test_a_warning_without_a_better_one() -> None:
    """Nothing is proposed where nothing is, or where nobody could look."""
    assert "no complete one of its host, path and target exists" in warning_of([TAKEN], [TAKEN], ())
    unknown = warning_of([TAKEN], None, ())
    assert TAKEN.id in unknown
    for text in (unknown, warning_of([TAKEN], [TAKEN], ())):
        assert "rules[]" not in text


def test_a_warning_is_bounded() -> None:
    """However many paths, and however long: it fits into a condition, and counts the rest."""
    paths = [f"/stash-data/{'x' * 300}/{number}" for number in range(20)]
    taken = [listed(90 + number, path=path, complete=False) for number, path in enumerate(paths)]
    good = [listed(number, path=path) for number, path in enumerate(paths)]
    text = warning_of(taken, [*good, *taken], ())
    assert len(text) <= MAX_TEXT
    assert taken[0].id in text
    assert good[1].id in text
    assert "18 more of the chosen snapshots are incomplete as well" in text
    assert text.endswith("another RestoreSession.")
