"""A map of the objects of one resource, with indexes: the local copy of the API server's state.

Invariants:
- One lock. Each answer comes from one moment; items and indexes change together.
- An object never goes back: an event with a resourceVersion not above the stored one is dropped,
  and so is a late event of an object that was deleted at a higher one, or that a list made at that
  version or a higher one does not have. (Comparing resourceVersions is allowed since KEP-5504;
  where one is no number, the event is believed.)
- The uid decides identity: a namesake with another uid is a delete and an add.
- What is stored went through the projection and has no `managedFields`. Nobody changes an object
  that was handed out; what is no longer current is replaced, never edited.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from threading import Lock
from typing import Any

from controller.api.objects import Key, Obj, key_of, resource_version_of, uid_of

IndexFunction = Callable[[Obj], Iterable[str]]
Projection = Callable[[Obj], Obj]
GRAVES = 4096
"""Deleted keys whose last resourceVersion is remembered."""


class ChangeType(StrEnum):
    """What happened to an object, seen from the store."""

    ADDED = "added"
    UPDATED = "updated"
    DELETED = "deleted"
    RESYNC = "resync"


@dataclass(frozen=True, slots=True)
class Change:
    """One change. `old` is None for ADDED, `new` for DELETED; for RESYNC both are the object.

    `initial` marks what a list brought, `final_state_unknown` a deletion that was found by
    comparing lists: `old` is then the last state that we saw.
    """

    type: ChangeType
    key: Key
    old: Obj | None
    new: Obj | None
    initial: bool = False
    final_state_unknown: bool = False

    @property
    def obj(self) -> Obj:
        """Return the newest state that is known: what a handler maps to keys."""
        obj = self.new if self.new is not None else self.old
        if obj is None:
            raise ValueError(f"a change of {self.key} without an object")
        return obj


@dataclass(frozen=True, slots=True)
class _Entry:
    obj: Obj
    uid: str
    version: str
    indexed: tuple[tuple[str, str], ...]
    """(index name, value) pairs that point here."""


class Store:
    """Thread-safe; filled by reflectors, read by everybody."""

    def __init__(
        self,
        *,
        projection: Projection | None = None,
        indexes: Mapping[str, IndexFunction] | None = None,
    ) -> None:
        self._project = projection
        self._functions = dict(indexes or {})
        self._lock = Lock()
        self._entries: dict[Key, _Entry] = {}
        self._indexes: dict[tuple[str, str], dict[Key, None]] = {}
        self._graves: OrderedDict[Key, str] = OrderedDict()
        self._listed: dict[str, str] = {}
        """At which version each namespace, or all as the empty one, was last listed."""

    def get(self, key: Key) -> Obj | None:
        """Return an object, or None."""
        with self._lock:
            entry = self._entries.get(key)
        return entry.obj if entry else None

    def all(self) -> Sequence[Obj]:
        """Return all objects, in no order."""
        with self._lock:
            return [entry.obj for entry in self._entries.values()]

    def by_index(self, index: str, value: str) -> Sequence[Obj]:
        """Return the objects for which the index function `index` gave `value`.

        Raises:
            KeyError: there is no such index.
        """
        if index not in self._functions:
            raise KeyError(index)
        with self._lock:
            return [self._entries[key].obj for key in self._indexes.get((index, value), ())]

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self._entries)

    def upsert(self, obj: Obj) -> list[Change]:
        """Take an ADDED or MODIFIED event; return what it changed, nothing for an old event."""
        entry, key = self._entry(obj), key_of(obj)
        with self._lock:
            known = self._entries.get(key)
            past = (known.version,) if known else self._past(key)
            if any(version and not _is_newer(entry.version, version) for version in past):
                return []
            return self._put(key, entry, initial=False)

    def delete(self, obj: Obj) -> list[Change]:
        """Take a DELETED event; return what it changed, nothing for an old event."""
        key, version = key_of(obj), resource_version_of(obj)
        with self._lock:
            known = self._entries.get(key)
            if known is None:
                if _is_newer(version, self._graves.get(key, "")):
                    self._bury(key, version)
                return []
            # equal is no news for an upsert, but the same version may be the last of an object
            if _is_newer(known.version, version):
                return []
            self._bury(key, version)
            if known.uid == uid_of(obj):
                known = self._remember_last(key, known, obj)
            return [self._remove(key, known, final_state_unknown=False)]

    def replace(
        self, items: Iterable[Obj], *, namespace: str = "", version: str = ""
    ) -> list[Change]:
        """Take a complete list, of one namespace if given, and return how it differs.

        `version` is the list's resourceVersion. What the store holds at a higher one was written by
        this process after the list was made, and stays as it is. Without it the list is the truth
        also where it goes back: that happens when etcd was restored, and what was known of its past
        is then forgotten.
        """
        entries = {key_of(item): self._entry(item) for item in items}
        changes: list[Change] = []
        with self._lock:
            ahead = {k for k, known in self._entries.items() if is_older(version, known.version)}
            for key in [k for k in self._entries if k not in entries and k not in ahead]:
                if not namespace or key.namespace == namespace:
                    known = self._entries[key]
                    changes.append(self._remove(key, known, final_state_unknown=True))
            self._listed[namespace] = version
            if not version:
                self._open_graves(namespace)
            for key, entry in entries.items():
                if key in ahead:
                    continue
                self._graves.pop(key, None)
                changes += self._put(key, entry, initial=True)
        return changes

    def _entry(self, raw: Obj) -> _Entry:
        version, uid = resource_version_of(raw), uid_of(raw)
        obj = self._projected(raw)
        pairs = {
            (name, value): None
            for name, function in self._functions.items()
            for value in function(obj)
        }
        return _Entry(obj, uid, version, tuple(pairs))

    def _projected(self, raw: Obj) -> Obj:
        obj = self._project(raw) if self._project else raw
        if key_of(obj) != key_of(raw) or uid_of(obj) != uid_of(raw):
            raise ValueError(f"the projection changed the identity of {key_of(raw)}")
        metadata: Mapping[str, Any] = obj["metadata"]
        if "managedFields" not in metadata:
            return obj
        kept = {k: v for k, v in metadata.items() if k != "managedFields"}
        return {**obj, "metadata": kept}

    def _put(self, key: Key, entry: _Entry, *, initial: bool) -> list[Change]:
        known = self._entries.get(key)
        changes: list[Change] = []
        if known is not None and known.uid != entry.uid:
            changes.append(self._remove(key, known, final_state_unknown=True))
            known = None
        if known is not None:
            self._unindex(key, known)
        self._graves.pop(key, None)
        self._entries[key] = entry
        for pair in entry.indexed:
            self._indexes.setdefault(pair, {})[key] = None
        if known is None:
            return [*changes, Change(ChangeType.ADDED, key, None, entry.obj, initial=initial)]
        if known.version == entry.version:
            return changes
        change = Change(ChangeType.UPDATED, key, known.obj, entry.obj, initial=initial)
        return [*changes, change]

    def _remove(self, key: Key, known: _Entry, *, final_state_unknown: bool) -> Change:
        self._entries.pop(key, None)
        self._unindex(key, known)
        return Change(
            ChangeType.DELETED, key, known.obj, None, final_state_unknown=final_state_unknown
        )

    def _remember_last(self, key: Key, known: _Entry, obj: Obj) -> _Entry:
        """Put the object's last state in its place, so that a handler sees that one."""
        last = self._entry(obj)
        self._unindex(key, known)
        return last

    def _unindex(self, key: Key, entry: _Entry) -> None:
        for pair in entry.indexed:
            keys = self._indexes.get(pair)
            if keys is not None:
                keys.pop(key, None)
                if not keys:
                    del self._indexes[pair]

    def _past(self, key: Key) -> tuple[str, ...]:
        """Return up to which versions it is known that an object is not there."""
        listed = (self._listed.get(scope, "") for scope in {"", key.namespace})
        return (self._graves.get(key, ""), *listed)

    def _open_graves(self, namespace: str) -> None:
        for key in [k for k in self._graves if not namespace or k.namespace == namespace]:
            del self._graves[key]

    def _bury(self, key: Key, version: str) -> None:
        self._graves[key] = version
        self._graves.move_to_end(key)
        while len(self._graves) > GRAVES:
            self._graves.popitem(last=False)


def _is_newer(version: str, than: str) -> bool:
    """Tell whether a resourceVersion is above another; what is no number is believed."""
    try:
        return int(version) > int(than)
    except ValueError:
        return True


def is_older(version: str, than: str) -> bool:
    """Tell whether both are numbers and the first is below the second."""
    try:
        return int(version) < int(than)
    except ValueError:
        return False
