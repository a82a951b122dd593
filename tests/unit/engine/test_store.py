"""controller.engine.store: forward only, uid is identity, indexes never lie."""

import copy
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.objects import Key, Obj, labels_of, name_of, resource_version_of, uid_of
from controller.engine.store import Change, ChangeType, Store


def obj(name: str, version: int | str, uid: str = "u", label: str = "", ns: str = "ns") -> Obj:
    """Return an object with managedFields."""
    return {
        "metadata": {
            "namespace": ns,
            "name": name,
            "uid": uid,
            "resourceVersion": str(version),
            "labels": {"l": label} if label else {},
            "managedFields": [{"manager": "x"}],
        },
        "spec": {"big": "data"},
    }


def by_label(o: Obj) -> Iterable[str]:
    """Index by the label `l`."""
    return filter(None, [labels_of(o).get("l")])


def store() -> Store:
    """Return a store with one index."""
    return Store(indexes={"label": by_label})


def types(changes: Iterable[Change]) -> list[str]:
    """Return what happened."""
    return [change.type for change in changes]


A = Key("ns", "a")


def test_events_become_changes() -> None:
    """Added, updated and deleted carry the old and the new object."""
    s = store()
    (added,) = s.upsert(obj("a", 1))
    (updated,) = s.upsert(obj("a", 2))
    (deleted,) = s.delete(obj("a", 3))
    assert (added.old, added.new) == (None, updated.old)
    assert (added.type, updated.type, deleted.type) == (
        ChangeType.ADDED,
        ChangeType.UPDATED,
        ChangeType.DELETED,
    )
    assert resource_version_of(deleted.obj) == "3"
    assert not deleted.final_state_unknown
    assert len(s) == 0


@pytest.mark.parametrize("version", [5, 4])
def test_an_event_that_is_not_newer_is_dropped(version: int) -> None:
    """A replayed or delayed event does not move the store back."""
    s = store()
    s.upsert(obj("a", 5, label="new"))
    assert s.upsert(obj("a", version, label="old")) == []
    found = s.get(A)
    assert found is not None
    assert labels_of(found) == {"l": "new"}


def test_an_old_deletion_does_not_delete_the_successor() -> None:
    """The namesake that came after stays."""
    s = store()
    s.upsert(obj("a", 9, uid="second"))
    assert s.delete(obj("a", 5, uid="first")) == []
    assert s.get(A) is not None


def test_a_late_event_does_not_bring_the_dead_back() -> None:
    """The resourceVersion of a deletion is remembered."""
    s = store()
    s.upsert(obj("a", 1))
    s.delete(obj("a", 10))
    assert s.upsert(obj("a", 5)) == []
    assert types(s.upsert(obj("a", 11, uid="second"))) == ["added"]


def test_a_namesake_with_another_uid_is_delete_and_add() -> None:
    """Recreated between two lists: the old one's owner hears of its end."""
    s = store()
    s.upsert(obj("a", 1, uid="first"))
    gone, new = s.upsert(obj("a", 2, uid="second"))
    assert (gone.type, uid_of(gone.obj), gone.final_state_unknown) == ("deleted", "first", True)
    assert (new.type, uid_of(new.obj)) == ("added", "second")


def test_versions_that_are_no_numbers_are_believed() -> None:
    """Ordering is a service of the API server; without it, every event counts."""
    s = store()
    s.upsert(obj("a", "x"))
    assert types(s.upsert(obj("a", "w"))) == ["updated"]


def test_replace_tells_what_a_gap_has_hidden() -> None:
    """Removed objects are reported with their last cached state; unchanged ones are not."""
    s = store()
    s.replace([obj("a", 1), obj("b", 2), obj("c", 3)])
    changes = s.replace([obj("b", 2), obj("c", 9), obj("d", 8)])
    assert [(c.key.name, str(c.type)) for c in changes] == [
        ("a", "deleted"),
        ("c", "updated"),
        ("d", "added"),
    ]
    assert changes[0].final_state_unknown
    assert all(c.initial for c in changes[1:])


def test_replace_of_a_namespace_leaves_the_others() -> None:
    """Several reflectors feed one store."""
    s = store()
    s.replace([obj("a", 1, ns="one")], namespace="one")
    s.replace([obj("a", 2, ns="two")], namespace="two")
    assert types(s.replace([], namespace="one")) == ["deleted"]
    assert [o["metadata"]["namespace"] for o in s.all()] == ["two"]


def test_a_list_may_go_back() -> None:
    """After etcd was restored the newest list is the truth, also when it is older."""
    s = store()
    s.upsert(obj("a", 100))
    s.delete(obj("b", 90))
    s.replace([obj("a", 50), obj("b", 40)])
    assert sorted(resource_version_of(o) for o in s.all()) == ["40", "50"]


def test_a_list_with_a_version_leaves_alone_what_is_newer() -> None:
    """It was written after the list was made: neither gone nor undone, until a later list."""
    s = store()
    s.upsert(obj("a", 12, label="new"))
    s.upsert(obj("b", 10))
    s.upsert(obj("made", 11))
    assert [(c.key.name, str(c.type)) for c in s.replace([obj("a", 8)], version="10")] == [
        ("b", "deleted")
    ]
    assert [resource_version_of(o) for o in s.by_index("label", "new")] == ["12"]
    assert types(s.replace([obj("a", 12, label="new")], version="12")) == ["deleted"]
    assert types(s.replace([obj("a", 3)], version="x")) == ["updated"]


def test_projection_and_stripping_save_memory() -> None:
    """Neither managedFields nor what nobody reads is kept; the given object stays as it was."""
    s = Store(projection=lambda o: {"metadata": o["metadata"]})
    given_obj = obj("a", 1)
    before = copy.deepcopy(given_obj)
    s.upsert(given_obj)
    found = s.get(A)
    assert found is not None
    assert set(found) == {"metadata"}
    assert "managedFields" not in found["metadata"]
    assert given_obj == before


def test_a_projection_must_keep_the_identity() -> None:
    """A projection that drops the uid is a bug of ours: it shows at once."""
    s = Store(projection=lambda o: {"metadata": {"name": name_of(o), "namespace": "ns"}})
    with pytest.raises(ValueError, match="identity of ns/a"):
        s.upsert(obj("a", 1))


def test_an_unknown_index_is_an_error() -> None:
    """A misspelt index is no empty answer."""
    with pytest.raises(KeyError):
        store().by_index("labels", "x")


events = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.sampled_from(["u1", "u2"]),
        st.sampled_from(["", "p", "q"]),
        st.booleans(),
    ),
    max_size=12,
)


@given(history=events, data=st.data())
def test_any_order_of_events_equals_the_fold_by_version(
    history: list[tuple[str, str, str, bool]], data: st.DataObject
) -> None:
    """Replays, duplicates and any order end in the state of the highest version of each key."""
    numbered = list(enumerate(history, start=1))
    expected: dict[str, tuple[int, str, str]] = {}
    for version, (name, uid, label, deleted) in numbered:
        expected.pop(name, None)
        if not deleted:
            expected[name] = (version, uid, label)
    s = store()
    order = data.draw(
        st.permutations(
            numbered + data.draw(st.lists(st.sampled_from(numbered))) if numbered else numbered
        )
    )
    for version, (name, uid, label, deleted) in order:
        event = obj(name, version, uid, label)
        s.delete(event) if deleted else s.upsert(event)
    actual = {
        name_of(o): (int(resource_version_of(o)), uid_of(o), labels_of(o).get("l", ""))
        for o in s.all()
    }
    assert actual == expected


@given(
    st.lists(
        st.one_of(
            st.tuples(
                st.just("event"),
                st.tuples(
                    st.sampled_from(["a", "b", "c"]), st.sampled_from(["", "p", "q"]), st.booleans()
                ),
            ),
            st.tuples(
                st.just("list"),
                st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(["p", "q"])),
            ),
        )
    )
)
def test_indexes_and_changes_agree_with_the_objects(steps: list[tuple[str, Any]]) -> None:
    """After every step an index answers what a scan would, and changes add up to the state."""
    s, followed = store(), dict[Key, Obj]()
    for version, (kind, step) in enumerate(steps, start=1):
        if kind == "list":
            changes = s.replace([obj(name, version, label=label) for name, label in step.items()])
        else:
            name, label, deleted = step
            event = obj(name, version, label=label)
            changes = s.delete(event) if deleted else s.upsert(event)
        for change in changes:
            if change.new is None:
                del followed[change.key]
            else:
                followed[change.key] = change.new
        for value in ("p", "q"):
            scan = {name_of(o) for o in s.all() if labels_of(o).get("l") == value}
            assert {name_of(o) for o in s.by_index("label", value)} == scan
        assert sorted(map(name_of, s.all())) == sorted(map(name_of, followed.values()))
