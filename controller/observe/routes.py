"""From a change of an object to the keys that it concerns, lane by lane.

Routes run on the thread of a watch: they read caches and do no I/O. `old` is None for an object
that is new, `new` is None for one that is gone. A change that cannot matter to anyone gives no key:
each turn that it saves is also a live read saved.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from controller.api.conditions import FINAL_PHASES, Phase, Type, status_of
from controller.api.creation import SESSION_NAME
from controller.api.objects import (
    Key,
    Obj,
    annotations_of,
    controller_uid,
    dig,
    generation_of,
    is_deleting,
    is_live,
    key_of,
    labels_of,
    meta,
    namespace_of,
    spec,
    status,
    uid_of,
)
from controller.api.resources import BACKUP_CONFIGURATION, RESTORE_SESSION
from controller.build.labels import INVOKER_TYPE, SPEC_HASH
from controller.observe.caches import (
    BY_INVOKER,
    BY_PENDING,
    BY_REPOSITORY,
    BY_SOURCE,
    BY_TASK,
    Caches,
    by_repository,
    invoker_index,
    is_snapshotter,
)

REPOSITORY_LANE = "repository"
CONFIGURATION_LANE = "backup-configuration"
SESSION_LANE = "backup-session"
RESTORE_LANE = "restore-session"
CATALOG_LANE = "catalog"


class Route(NamedTuple):
    """One key in one lane."""

    lane: str
    key: Key


def _either(old: Obj | None, new: Obj | None) -> Obj:
    obj = new if new is not None else old
    assert obj is not None  # noqa: S101 - a change has at least one side
    return obj


def _changed(old: Obj | None, new: Obj | None) -> bool:
    """Tell whether more than the status changed: existence, spec, annotations or deletion."""
    if old is None or new is None or uid_of(old) != uid_of(new):
        return True
    return (
        generation_of(old) != generation_of(new)
        or annotations_of(old) != annotations_of(new)
        or is_deleting(old) != is_deleting(new)
    )


def _differs(old: Obj | None, new: Obj | None) -> bool:
    """Tell whether anything changed but what a controller of another kind keeps in metadata."""
    if old is None or new is None:
        return True
    before, after = (
        (uid_of(side), spec(side), status(side), is_deleting(side)) for side in (old, new)
    )
    return before != after


def _phase(obj: Obj | None) -> str:
    return str(status(obj).get("phase") or "") if obj is not None else ""


def _hooks_ended(session: Obj | None) -> bool:
    """Tell whether the postBackup hook of a session has ended: others may quiesce its target."""
    conditions = dig(session, "status", "targets", 0, "conditions") or ()
    return status_of(conditions, Type.POST_BACKUP_HOOK) in ("True", "False")


class Routes:
    """The routes of all kinds that we watch."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches

    def repository(self, old: Obj | None, new: Obj | None) -> Iterator[Route]:
        """Itself; its invokers when it came, went or changed."""
        key = key_of(_either(old, new))
        yield Route(REPOSITORY_LANE, key)
        if _changed(old, new):
            yield from self._invokers(BY_REPOSITORY, str(key))
            yield from self._waiting()

    def configuration(self, old: Obj | None, new: Obj | None) -> Iterator[Route]:
        """Itself when it changed, its Repository, and its sessions that have not ended."""
        obj = _either(old, new)
        key = key_of(obj)
        changed = _changed(old, new)
        if changed:
            yield Route(CONFIGURATION_LANE, key)
            for side in (old, new):
                yield from (
                    Route(REPOSITORY_LANE, _key(value))
                    for value in (by_repository(side) if side is not None else ())
                )
        if changed or status(old or {}) != status(new or {}):
            index = invoker_index("BackupConfiguration", key)
            yield from (
                Route(SESSION_LANE, key_of(session))
                for session in self._caches.sessions.by_index(BY_INVOKER, index)
                if _phase(session) not in FINAL_PHASES
            )

    def session(self, old: Obj | None, new: Obj | None) -> Iterator[Route]:
        """Itself; those that wait when it, or its last hook, ended; its configuration on failure.

        A session may have failed because something that its configuration names went away.
        """
        obj = _either(old, new)
        yield Route(SESSION_LANE, key_of(obj))
        ended = new is None or (_phase(new) in FINAL_PHASES and _phase(old) not in FINAL_PHASES)
        if ended or (_hooks_ended(new) and not _hooks_ended(old)):
            yield from self._waiting()
        if old is not None and _phase(new) == Phase.FAILED and _phase(old) != Phase.FAILED:
            name = dig(obj, "spec", "invoker", "name")
            if name:
                yield Route(CONFIGURATION_LANE, Key(namespace_of(obj), str(name)))

    def restore(self, old: Obj | None, new: Obj | None) -> Iterator[Route]:
        """Itself, and its Repository when it came, went or ended."""
        obj = _either(old, new)
        yield Route(RESTORE_LANE, key_of(obj))
        if (
            old is None
            or new is None
            or (_phase(new) in FINAL_PHASES) != (_phase(old) in FINAL_PHASES)
        ):
            yield from (Route(REPOSITORY_LANE, _key(value)) for value in by_repository(obj))

    def catalog(self, old: Obj | None, new: Obj | None) -> Iterator[Route]:
        """The object itself, and the invokers whose Task it is, or may be part of."""
        obj = _either(old, new)
        if not _changed(old, new):
            return
        name = str(meta(obj)["name"])
        kind = str(obj.get("kind"))
        yield Route(CATALOG_LANE, Key(kind, name))
        if kind == "Task":
            yield from self._invokers(BY_TASK, name)
            return
        for task in self._caches.tasks.all():
            steps = dig(task, "spec", "steps") or ()
            if any(step.get("name") == name for step in steps):
                yield from self._invokers(BY_TASK, str(meta(task)["name"]))

    def child(self, old: Obj | None, new: Obj | None) -> Iterator[Route]:
        """The configuration that owns a CronJob, ServiceAccount or RoleBinding.

        The status of a CronJob changes at every slot: only a new hash or owner matters, and what
        it does, which somebody may have changed by hand.
        """
        if old is not None and new is not None:
            before, after = (
                (
                    annotations_of(side).get(SPEC_HASH),
                    dig(side, "spec", "digest"),
                    controller_uid(side),
                    is_deleting(side),
                )
                for side in (old, new)
            )
            if before == after:
                return
        obj = _either(old, new)
        for owner in meta(obj).get("ownerReferences") or ():
            if owner.get("kind") == "BackupConfiguration":
                yield Route(CONFIGURATION_LANE, Key(namespace_of(obj), str(owner["name"])))

    def job(self, old: Obj | None, new: Obj | None) -> Iterator[Route]:
        """The session that owns a Job."""
        obj = _either(old, new)
        for owner in meta(obj).get("ownerReferences") or ():
            key = Key(namespace_of(obj), str(owner.get("name")))
            if owner.get("kind") == "BackupSession":
                yield Route(SESSION_LANE, key)
            elif owner.get("kind") == "RestoreSession":
                yield Route(RESTORE_LANE, key)

    def pod(self, old: Obj | None, new: Obj | None) -> Iterator[Route]:
        """The session whose Job owns a pod, and those that wait for a pod to end (D2).

        A Job that is not cached yet brings its own event.
        """
        obj = _either(old, new)
        ended = old is not None and is_live(old) and not (new is not None and is_live(new))
        if ended and dig(obj, "spec", "hostname"):  # a trigger's pod has none
            yield from self._waiting()
        for owner in meta(obj).get("ownerReferences") or ():
            if owner.get("kind") != "Job":
                continue
            job = self._caches.jobs.get(Key(namespace_of(obj), str(owner.get("name"))))
            if job is not None:
                yield from self.job(None, job)

    def snapshot(self, old: Obj | None, new: Obj | None) -> Iterator[Route]:
        """The session that created a VolumeSnapshot, and the restores that name it.

        What its controller writes for itself, finalizers and bindings, concerns nobody.
        """
        obj = _either(old, new)
        if not _differs(old, new):
            return
        namespace, name = namespace_of(obj), annotations_of(obj).get(SESSION_NAME)
        if name and labels_of(obj).get(INVOKER_TYPE) == BACKUP_CONFIGURATION.kind:
            key = Key(namespace, name)
            if _phase(self._caches.sessions.get(key)) not in FINAL_PHASES:
                yield Route(SESSION_LANE, key)
        for restore in self._caches.restores.by_index(BY_SOURCE, str(key_of(obj))):
            yield Route(RESTORE_LANE, key_of(restore))

    def claim(self, old: Obj | None, new: Obj | None) -> Iterator[Route]:
        """The RestoreSession that created a claim."""
        obj = _either(old, new)
        name = annotations_of(obj).get(SESSION_NAME)
        if name and labels_of(obj).get(INVOKER_TYPE) == RESTORE_SESSION.kind and _differs(old, new):
            key = Key(namespace_of(obj), name)
            if _phase(self._caches.restores.get(key)) not in FINAL_PHASES:
                yield Route(RESTORE_LANE, key)

    def snapshotters(self) -> Iterator[Route]:
        """Return whom it concerns whether VolumeSnapshots are served."""
        for configuration in self._caches.configurations.all():
            if not is_snapshotter(configuration):
                continue
            key = key_of(configuration)
            yield Route(CONFIGURATION_LANE, key)
            index = invoker_index(BACKUP_CONFIGURATION.kind, key)
            for session in self._caches.sessions.by_index(BY_INVOKER, index):
                if _phase(session) not in FINAL_PHASES:
                    yield Route(SESSION_LANE, key_of(session))
        for restore in self._caches.restores.all():
            if is_snapshotter(restore) and _phase(restore) not in FINAL_PHASES:
                yield Route(RESTORE_LANE, key_of(restore))

    def _invokers(self, index: str, value: str) -> Iterator[Route]:
        for configuration in self._caches.configurations.by_index(index, value):
            yield Route(CONFIGURATION_LANE, key_of(configuration))
        for restore in self._caches.restores.by_index(index, value):
            if _phase(restore) not in FINAL_PHASES:
                yield Route(RESTORE_LANE, key_of(restore))

    def _waiting(self) -> Iterable[Route]:
        """Return the sessions that have not started; a repository may have users anywhere (D2)."""
        return (
            Route(SESSION_LANE, key_of(session))
            for session in self._caches.sessions.by_index(BY_PENDING, BY_PENDING)
        )


def _key(text: str) -> Key:
    namespace, _, name = text.partition("/")
    return Key(namespace, name)
