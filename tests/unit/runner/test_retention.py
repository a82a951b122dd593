"""The last complete snapshot is never pushed out by incomplete ones (D5)."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from runner.restic.command import INCOMPLETE_TAG
from runner.restic.documents import ForgetGroup, Snapshot
from runner.retention import protect_last_complete

SNAPSHOTS = st.lists(
    st.tuples(st.booleans(), st.booleans()), max_size=12
)  # each: complete, and removed by the rules


@given(st.lists(SNAPSHOTS, max_size=3))
def test_each_group_keeps_its_last_complete(groups: list[list[tuple[bool, bool]]]) -> None:
    """Only what the rules chose is removed, and never a group's newest complete snapshot."""
    built = []
    for number, group in enumerate(groups):
        items = [
            Snapshot(
                f"{number}-{index}",
                datetime.fromtimestamp(index, UTC),
                "h",
                ("/p",),
                () if complete else (INCOMPLETE_TAG,),
            )
            for index, (complete, _) in enumerate(group)
        ]
        keep = tuple(item for item, (_, gone) in zip(items, group, strict=True) if not gone)
        remove = tuple(item for item, (_, gone) in zip(items, group, strict=True) if gone)
        built.append(ForgetGroup(keep, remove))
    ids, kept = protect_last_complete(built)
    chosen = {item.id for group in built for item in group.remove}
    assert set(ids) <= chosen
    for made in built:
        complete = [i for i in (*made.keep, *made.remove) if INCOMPLETE_TAG not in i.tags]
        last = max(complete, key=lambda item: item.time, default=None)
        assert last is None or last.id not in ids
        assert {i.id for i in made.remove} - {last.id if last else ""} <= set(ids)
    assert kept + len(ids) == sum(len(made.keep) + len(made.remove) for made in built)
