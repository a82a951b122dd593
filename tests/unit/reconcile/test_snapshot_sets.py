"""Which VolumeSnapshots belong together, and which of them a session that made a part leaves."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.creation import QUIESCED_UNTIL
from controller.api.objects import Obj, name_of, uid_of
from controller.reconcile.snapshot_sets import is_good, set_of, spared
from tests.support.builders import before
from tests.support.snapshot_sessions import volume_snapshot

DATA, WAL, LOGS = CLAIMS = ("data", "wal", "logs")


def made(hours: int, *claims: str) -> list[Obj]:
    """Return what a session left that was so many hours ago."""
    return [
        volume_snapshot(claim, age_s=hours * 3600, of=f"uid-{hours}", name=f"{claim}-{hours}")
        for claim in claims
    ]


def of_stash(claim: str, seconds: int) -> Obj:
    """Return what Stash made."""
    return volume_snapshot(claim, name=f"{claim}-{seconds}", labels={})


@pytest.mark.parametrize(
    ("good", "wanted", "has", "left"),
    [
        ([*made(2, DATA, WAL)], (DATA, WAL), (DATA,), ["data-2", "wal-2"]),
        ([*made(2, DATA, WAL)], (DATA, WAL), (DATA, WAL), []),
        # the newest of the whole ones, whatever parts came later
        (
            [*made(4, DATA, WAL), *made(3, DATA, WAL), *made(2, DATA), *made(1, WAL)],
            (DATA, WAL),
            (DATA,),
            ["data-3", "wal-3"],
        ),
        # of a claim that never had any, as after a workload was scaled, nothing is waited for
        ([*made(2, DATA, WAL)], CLAIMS, (DATA, WAL), []),
        ([*made(2, DATA)], (DATA, WAL), (DATA,), []),
        # without a whole one that with the most claims
        ([*made(3, DATA, WAL), *made(2, LOGS)], CLAIMS, (DATA,), ["data-3", "wal-3"]),
        # another part does not replace one that has what it lacks
        ([*made(2, DATA, WAL)], CLAIMS, (DATA, LOGS), ["data-2", "wal-2"]),
        # claims that are not wanted any more count nothing, and stay as they are
        ([*made(3, *CLAIMS), *made(2, DATA, WAL)], (DATA, WAL), (DATA,), ["data-2", "wal-2"]),
        # those of Stash by the time in their names
        (
            [of_stash(DATA, 17), of_stash(WAL, 17), of_stash(DATA, 18)],
            (DATA, WAL),
            (DATA,),
            ["data-17", "wal-17"],
        ),
        ([], CLAIMS, (DATA,), []),
    ],
)
def test_the_last_set_that_belongs_together_is_left(
    good: list[Obj], wanted: tuple[str, ...], has: tuple[str, ...], left: list[str]
) -> None:
    """After a session that made a part of its own."""
    found = spared(good, wanted, has)
    assert [name_of(one) for one in good if uid_of(one) in found] == left


histories = st.lists(st.sets(st.sampled_from(CLAIMS)), max_size=6)


@given(histories, st.sets(st.sampled_from(CLAIMS)))
def test_a_whole_set_is_never_taken_apart(parts: list[set[str]], has: set[str]) -> None:
    """Whatever came before; and of one set at most anything is left."""
    sets = [made(len(parts) - index, *sorted(part)) for index, part in enumerate(parts)]
    good = [one for members in sets for one in members]
    found = spared(good, CLAIMS, has)
    whole = [members for members in sets if len(members) == len(CLAIMS)]
    left = [one for one in good if uid_of(one) in found]
    if has == set(CLAIMS):
        assert left == []
    elif whole:
        assert left == whole[-1]
    assert len({set_of(one) for one in left}) <= 1


@pytest.mark.parametrize(
    ("until", "changes", "good"),
    [
        (None, {}, True),
        (before(28), {}, True),
        (before(30), {}, False),
        (before(30), {"ready": False}, False),
        # a driver whose clock is ahead: the status was written before that
        (before(15), {"cut_ago_s": -9000}, True),
        # nobody knows when it was cut
        (before(30), {"cut": False}, True),
        ("soon", {}, True),
        ("2027-01-01", {}, True),
    ],
)
def test_what_was_cut_in_time_is_good(
    until: str | None,
    changes: dict[str, Any],
    good: bool,  # noqa: FBT001 - a table
) -> None:
    """It was cut 29 seconds ago, and its status last changed 20 seconds ago."""
    ago_s = changes.pop("cut_ago_s", None)
    annotations = {QUIESCED_UNTIL: until} if until else {}
    found = volume_snapshot(DATA, annotations=annotations, **changes)
    if ago_s is not None:
        found["status"]["creationTime"] = before(ago_s)
    assert is_good(found) is good
