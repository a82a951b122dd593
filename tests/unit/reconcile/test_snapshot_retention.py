"""Which VolumeSnapshots go. That the choice is restic's own is a component test's to show."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.backup import RetentionPolicy
from controller.api.objects import Obj, meta, name_of
from controller.reconcile.snapshot_retention import has_rule, removable
from tests.support.histories import history, snapshots_at

RULES = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


def policy(**rules: Any) -> RetentionPolicy:
    """Return a policy with keep rules, for example `last=3`."""
    return RetentionPolicy(
        name="keep", prune=False, **{f"keep_{rule}": number for rule, number in rules.items()}
    )


def at(*texts: str) -> list[Obj]:
    """Return snapshots of these times, which may leave out what is midnight."""
    moments = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in texts)
    return snapshots_at(list(moments))


def kept(snapshots: Sequence[Obj], **rules: int) -> list[int]:
    """Return the indexes of the snapshots that stay."""
    gone = {name_of(one) for one in removable(snapshots, (), policy(**rules))}
    return [index for index, one in enumerate(snapshots) if name_of(one) not in gone]


HOURS = at(
    "2026-11-24T10:00:00",
    "2026-11-24T10:59:59",
    "2026-11-24T11:00:00",
    "2026-11-24T13:20:00",
    "2026-11-24T13:40:00",
)
DAYS = at("2024-02-28", "2024-02-28T23:59:59", "2024-02-29", "2024-03-01", "2024-03-05")
WEEKS = at(
    "2020-12-27",  # Sunday of week 52
    "2020-12-28",  # week 53 …
    "2020-12-31",
    "2021-01-01",
    "2021-01-03",  # … to here, in another year
    "2021-01-04",  # week 1
)
YEARS = at("2024-06-01", "2024-12-31T23:59:59", "2025-01-01", "2027-01-01")


@pytest.mark.parametrize(
    ("snapshots", "rules", "wanted"),
    [
        (HOURS, {"last": 1}, [4]),
        (HOURS, {"last": 3}, [2, 3, 4]),
        (HOURS, {"last": 9}, [0, 1, 2, 3, 4]),
        (HOURS, {"hourly": 1}, [4]),
        (HOURS, {"hourly": 2}, [2, 4]),
        (HOURS, {"hourly": 3}, [1, 2, 4]),
        # not used up: the oldest of all stays as well
        (HOURS, {"hourly": 4}, [0, 1, 2, 4]),
        (HOURS, {"daily": 1}, [4]),
        (HOURS, {"daily": 2}, [0, 4]),
        (DAYS, {"daily": 3}, [2, 3, 4]),
        (DAYS, {"daily": 4}, [1, 2, 3, 4]),
        (DAYS, {"monthly": 2}, [2, 4]),
        (DAYS, {"monthly": 3}, [0, 2, 4]),
        (WEEKS, {"weekly": 2}, [4, 5]),
        (WEEKS, {"weekly": 3}, [0, 4, 5]),
        (WEEKS, {"yearly": 2}, [2, 5]),
        (YEARS, {"yearly": 2}, [2, 3]),
        (YEARS, {"yearly": 3}, [1, 2, 3]),
        (YEARS, {"monthly": 1, "yearly": 2}, [2, 3]),
        (HOURS, {"last": 2, "hourly": 3}, [1, 2, 3, 4]),
        (HOURS[:1], {"yearly": 1}, [0]),
        ([], {"last": 1}, []),
    ],
)
def test_rules(snapshots: list[Obj], rules: dict[str, int], wanted: list[int]) -> None:
    """The newest of each of the last periods that have one, and the oldest while there is room."""
    assert kept(snapshots, **rules) == wanted


def test_times_are_utcs() -> None:
    """Whatever offset a time is written with."""
    snapshots = at("2026-01-01T00:30:00", "2026-01-01T12:00:00")
    moved = [
        {
            **snapshots[0],
            "metadata": {"name": "x", "creationTimestamp": "2026-01-01T01:30:00+01:00"},
        },
        {
            **snapshots[1],
            "metadata": {"name": "y", "creationTimestamp": "2026-01-02T02:00:00+14:00"},
        },
    ]
    assert kept(moved, daily=1) == [1]
    assert kept(moved, last=1) == [1]


@pytest.mark.parametrize("rules", [{}, {"last": 0}, {"tags": ("gold",)}])
def test_without_a_rule_everything_stays(rules: Any) -> None:
    """Tags to keep are no rule: a VolumeSnapshot has no tags."""
    assert not has_rule(policy(**rules))
    assert removable(HOURS, HOURS, policy(**rules)) == ()


def test_what_is_not_ready_never_counts_and_goes_with_the_old() -> None:
    """It goes only when everything that is kept is newer."""
    unready = at("2026-11-24T09:00:00", "2026-11-24T13:00:00", "2026-11-24T14:00:00")
    unready = [{"metadata": {**meta(one), "name": f"bad-{i}"}} for i, one in enumerate(unready)]

    def gone(**rules: int) -> list[str]:
        return [name_of(one) for one in removable(HOURS, unready, policy(**rules))]

    assert gone(last=2) == ["bad-0", "data-0", "data-1", "data-2", "bad-1"]
    assert gone(last=3) == ["bad-0", "data-0", "data-1"]
    assert gone(last=9) == ["bad-0"]
    assert removable((), unready, policy(last=1)) == ()


def test_what_is_being_deleted_neither_counts_nor_goes_again() -> None:
    """A finalizer may hold it for long."""
    deleting = [{"metadata": {**meta(HOURS[4]), "deletionTimestamp": "2026-11-24T14:00:00Z"}}]
    found = removable([*HOURS[:4], *deleting], deleting, policy(last=1))
    assert [name_of(one) for one in found] == ["data-0", "data-1", "data-2"]


def test_of_equal_times_the_last_name_stays() -> None:
    """The same one every time, in whatever order they are listed."""
    twins = at("2026-11-24", "2026-11-24", "2026-11-24")
    assert kept(twins, last=1) == [2]
    assert kept(twins[::-1], last=1) == [0]


HISTORIES = st.randoms(use_true_random=False).map(history)
NUMBERS = st.dictionaries(st.sampled_from(RULES), st.integers(1, 9), min_size=1)


@given(HISTORIES, NUMBERS)
def test_the_newest_always_stays(times: tuple[datetime, ...], rules: dict[str, int]) -> None:
    """Any rule at all keeps it."""
    found = kept(snapshots_at(times), **rules)
    assert max(times) in [times[index] for index in found]  # of the same second any one


@given(HISTORIES, NUMBERS, st.sampled_from(RULES), st.integers(1, 5))
def test_a_larger_number_never_removes_more(
    times: tuple[datetime, ...], rules: dict[str, int], rule: str, more: int
) -> None:
    """Neither does a further rule."""
    snapshots = snapshots_at(times)
    larger = {**rules, rule: rules.get(rule, 0) + more}
    assert set(kept(snapshots, **rules)) <= set(kept(snapshots, **larger))


@given(HISTORIES, NUMBERS)
def test_rules_do_not_touch_each_other(times: tuple[datetime, ...], rules: dict[str, int]) -> None:
    """Together they keep what each would keep alone."""
    snapshots = snapshots_at(times)
    alone = [kept(snapshots, **{rule: number}) for rule, number in rules.items()]
    assert kept(snapshots, **rules) == sorted({index for one in alone for index in one})
    assert all(len(one) <= number for one, number in zip(alone, rules.values(), strict=True))


@given(HISTORIES, NUMBERS)
def test_a_second_time_removes_nothing(times: tuple[datetime, ...], rules: dict[str, int]) -> None:
    """So it does not matter how often a controller that was restarted does it."""
    snapshots = snapshots_at(times)
    left = [snapshots[index] for index in kept(snapshots, **rules)]
    assert removable(left, (), policy(**rules)) == ()


@given(HISTORIES, NUMBERS, st.data())
def test_order_and_what_is_not_ready_do_not_matter(
    times: tuple[datetime, ...], rules: dict[str, int], data: st.DataObject
) -> None:
    """What is ready is judged alike beside anything, in any order."""
    snapshots = snapshots_at(times)
    shuffled = data.draw(st.permutations(snapshots))
    unready = [{"metadata": {**meta(one), "name": f"bad-{name_of(one)}"}} for one in snapshots]
    found = [name_of(one) for one in removable(shuffled, unready, policy(**rules))]
    assert [name for name in found if not name.startswith("bad-")] == [
        name_of(one) for one in removable(snapshots, (), policy(**rules))
    ]
