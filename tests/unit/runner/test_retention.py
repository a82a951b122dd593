"""Which snapshots no keep rule may take away (D5)."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from runner.restic.command import INCOMPLETE_TAG
from runner.restic.documents import ForgetGroup, Snapshot
from runner.retention import Run, is_ahead, removable

KINDS = st.sampled_from(["complete", "tagged", "untagged", "own", "own-incomplete"])
SNAPSHOTS = st.lists(st.tuples(KINDS, st.booleans()), max_size=12)
"""Each: its kind, and whether the rules remove it; the first is the oldest."""


def built(groups: list[list[tuple[str, bool]]]) -> tuple[list[ForgetGroup], Run]:
    """Return what restic would list, and what the run knows."""
    listed: list[ForgetGroup] = []
    ids: dict[str, list[str]] = {}
    for number, group in enumerate(groups):
        items = []
        for index, (kind, _) in enumerate(group):
            snapshot_id = f"{number:04x}{index:060x}"
            ids.setdefault(kind, []).append(snapshot_id)
            tags = (INCOMPLETE_TAG,) if kind in {"tagged", "own-incomplete"} else ()
            moment = datetime.fromtimestamp(index, UTC)
            items.append(Snapshot(snapshot_id, moment, "h", ("/p",), tags))
        keep = tuple(item for item, (_, gone) in zip(items, group, strict=True) if not gone)
        remove = tuple(item for item, (_, gone) in zip(items, group, strict=True) if gone)
        listed.append(ForgetGroup(keep, remove))
    own = (*ids.get("own", ()), *ids.get("own-incomplete", ()))
    return listed, Run(own=own, incomplete=frozenset(ids.get("untagged", ())), careful=True)


@given(st.lists(SNAPSHOTS, max_size=3))
def test_what_stays(groups: list[list[tuple[str, bool]]]) -> None:
    """Only what the rules chose goes, and of it neither this run's nor the last complete ones."""
    listed, run = built(groups)
    ids, kept = removable(listed, run)
    assert set(ids) <= {item.id for group in listed for item in group.remove}
    assert not set(ids) & set(run.own)
    for group in listed:
        everything = (*group.keep, *group.remove)
        complete = sorted(filter(run.is_complete, everything), key=lambda item: item.time)
        own = [item.time for item in everything if run.owns(item)]
        protected = complete[-1:]
        if own:
            protected += [item for item in complete if item.time <= max(own)][-1:]
        assert not {item.id for item in protected} & set(ids)
        spared = {item.id for item in protected} | set(run.own)
        assert {item.id for item in group.remove} - spared <= set(ids)
    assert kept + len(ids) == sum(len(made.keep) + len(made.remove) for made in listed)


def test_a_later_snapshot_is_ahead() -> None:
    """Later than this run's own counts; where none of its own is listed, later than now."""
    listed, run = built([[("complete", False), ("own", False), ("complete", True)]])
    assert is_ahead(listed, run)
    listed, run = built([[("complete", False), ("complete", True), ("own", False)]])
    assert not is_ahead(listed, run)
    assert not is_ahead(listed, Run())


def test_no_text_of_a_third_party_is_taken_for_an_id() -> None:
    """An empty or short name would be the beginning of every id."""
    listed, _ = built([[("complete", True)]])
    (group,) = listed
    assert not any(Run(own=(own,)).owns(group.remove[0]) for own in ("", "0", "0000000"))
    assert Run(own=("00000000",)).owns(group.remove[0])
