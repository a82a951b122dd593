"""controller.engine.store: forward only, uid is identity, indexes never lie."""

import copy
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.objects import (
    Key,
    Obj,
    key_of,
    labels_of,
    name_of,
    resource_version_of,
    uid_of,
)
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


def test_what_a_list_lacks_does_not_come_back_late() -> None:
    """The answer to a write of ours, taken after the object was deleted and a list was made."""
    s = store()
    s.replace([obj("a", 100), obj("b", 90, ns="other")], version="100")
    assert types(s.replace([], version="120")) == ["deleted", "deleted"]
    assert s.upsert(obj("a", 110)) == s.upsert(obj("new", 120)) == []
    assert s.upsert(obj("b", 110, ns="other")) == []
    assert types(s.upsert(obj("a", 121, uid="second"))) == ["added"]


def test_the_list_of_a_namespace_says_nothing_of_the_others() -> None:
    """Each reflector is at a version of its own."""
    s = store()
    s.replace([], namespace="one", version="120")
    s.replace([], namespace="two", version="100")
    assert s.upsert(obj("a", 110, ns="one")) == []
    assert types(s.upsert(obj("a", 110, ns="two"))) == ["added"]


def test_after_a_list_that_may_go_back_everything_is_news() -> None:
    """What was listed or deleted at a higher version was in the history before etcd's restore."""
    s = store()
    s.replace([], namespace="ns", version="120")
    s.delete(obj("b", 130))
    s.delete(obj("b", 130, ns="other"))
    s.replace([], namespace="ns")
    assert types(s.upsert(obj("a", 50)) + s.upsert(obj("b", 60))) == ["added", "added"]
    assert s.upsert(obj("b", 60, ns="other")) == []


def test_a_list_whose_version_is_no_number_is_no_bound() -> None:
    """Every event counts then."""
    s = store()
    s.replace([], version="x")
    assert types(s.upsert(obj("a", 1))) == ["added"]


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


class Told:
    """A server, and what a store is told of it: two namespaces are watched, and each lags."""

    def __init__(self) -> None:
        self.store = Store()
        self.version = 100
        self.live: dict[Key, Obj] = {}
        self.log: list[tuple[int, Obj, bool]] = []
        self.position = {"x": 100, "y": 100}
        for ns in self.position:
            self.store.replace([], namespace=ns)

    def write(self, key: Key) -> Obj:
        """Create or change an object."""
        self.version += 1
        uid = uid_of(self.live[key]) if key in self.live else f"u{self.version}"
        self.live[key] = obj(key.name, self.version, uid, ns=key.namespace)
        self.log.append((self.version, self.live[key], False))
        return self.live[key]

    def delete(self, key: Key) -> None:
        """Delete an object that is there."""
        if gone := self.live.pop(key, None):
            self.version += 1
            last = obj(key.name, self.version, uid_of(gone), ns=key.namespace)
            self.log.append((self.version, last, True))

    def watch(self, ns: str, upto: int) -> None:
        """Pass on the events of a namespace."""
        for version, event, deleted in self.log:
            if key_of(event).namespace == ns and self.position[ns] < version <= upto:
                self.store.delete(event) if deleted else self.store.upsert(event)
        self.position[ns] = upto

    def list(self, ns: str, upto: int) -> None:
        """Pass on what a namespace held at a version."""
        then: dict[Key, Obj] = {}
        for version, event, deleted in self.log:
            if key_of(event).namespace == ns and version <= upto:
                then.pop(key_of(event), None)
                then |= {} if deleted else {key_of(event): event}
        self.store.replace(list(then.values()), namespace=ns, version=str(upto))
        self.position[ns] = upto


@given(
    steps=st.lists(
        st.sampled_from(["write", "delete", "list", "take", "watch"]), min_size=4, max_size=30
    ),
    data=st.data(),
)
def test_whenever_our_own_writes_are_taken_the_store_ends_as_the_server(
    steps: list[str], data: st.DataObject
) -> None:
    """Ahead of their watch events or long after; no ghost, no loss, nothing that is too old."""
    told, answers = Told(), list[Obj]()
    for step in steps:
        key = Key(data.draw(st.sampled_from("xy")), "a")
        if step == "write":
            answers.append(told.write(key))
        elif step == "delete":
            told.delete(key)
        elif step == "take":
            if answers:
                told.store.upsert(answers.pop(data.draw(st.integers(0, len(answers) - 1))))
        else:
            between = st.integers(told.position[key.namespace], told.version)
            upto = data.draw(st.just(told.version) | between)
            (told.watch if step == "watch" else told.list)(key.namespace, upto)
    for answer in answers:
        told.store.upsert(answer)
    for ns in told.position:
        told.watch(ns, told.version)
    assert {key_of(o): (resource_version_of(o), uid_of(o)) for o in told.store.all()} == {
        key: (resource_version_of(o), uid_of(o)) for key, o in told.live.items()
    }


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
