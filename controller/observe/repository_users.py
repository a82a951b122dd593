"""Who else uses a restic repository: several Repositories may name it, each with many users."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from controller.api.model import parse_spec
from controller.api.names import backup_job_name
from controller.api.objects import (
    Key,
    Obj,
    annotations_of,
    is_finished,
    key_of,
    meta,
    name_of,
    namespace_of,
    uid_of,
)
from controller.api.repository import RepositorySpec, repository_problems
from controller.api.resources import BACKUP_CONFIGURATION, BACKUP_SESSION
from controller.build.labels import REPOSITORY_NAME, REPOSITORY_PLACE
from controller.build.place import place_hash
from controller.observe.caches import (
    BY_INVOKER,
    BY_REPOSITORY,
    Caches,
    by_repository,
    invoker_index,
    is_snapshotter,
)
from controller.observe.live import read_movers
from controller.observe.sight import Sight
from controller.reconcile.history import is_final
from controller.reconcile.repository_record import was_used


@dataclass(frozen=True, slots=True)
class Contenders:
    """Who may initialise the repository of a session besides it: see SessionObserved."""

    rivals: tuple[Obj, ...] = ()
    movers: tuple[Obj, ...] = ()


def neighbours(caches: Caches, configuration: Obj | None) -> tuple[Obj, ...]:
    """Return the other configurations that name the same Repository, or another of its place.

    Those with VolumeSnapshots too: the repository may hold what they saved before (D1).
    """
    if configuration is None:
        return ()
    found = (
        other
        for key in _repositories_like(caches, next(iter(by_repository(configuration)), ""))
        for other in caches.configurations.by_index(BY_REPOSITORY, key)
    )
    return tuple(other for other in found if uid_of(other) != uid_of(configuration))


def contenders(sight: Sight, session: Obj, repository: Obj | None) -> Contenders:
    """Return who may initialise a repository besides a session, nobody once it was used (D2).

    What a configuration names by now says nothing of what it has begun, and what a Repository is
    by now nothing of where: the Jobs and their pods tell for which Repository, and for which place,
    they were made.
    """
    if repository is None or was_used(repository):
        return Contenders()
    caches = sight.caches
    keys = _repositories_like(caches, str(key_of(repository)))
    users = tuple(
        key_of(configuration)
        for key in keys
        for configuration in caches.configurations.by_index(BY_REPOSITORY, key)
        if not is_snapshotter(configuration)
    )
    rivals = tuple(
        other
        for user in users
        for other in caches.sessions.by_index(
            BY_INVOKER, invoker_index(BACKUP_CONFIGURATION.kind, user)
        )
        if not is_final(other) and uid_of(other) != uid_of(session)
    )
    place = _place_of(repository)

    def is_for(made: Obj) -> bool:
        annotations = annotations_of(made)
        named = str(Key(namespace_of(made), annotations.get(REPOSITORY_NAME, "")))
        return named in keys or (bool(place) and annotations.get(REPOSITORY_PLACE) == place)

    # of a Repository that is gone, and of its namespace, only the pods tell
    namespaces = {key.partition("/")[0] for key in keys}
    namespaces |= {namespace_of(pod) for pod in caches.pods.all() if is_for(pod)}
    return Contenders(
        rivals,
        (
            *_jobs_for(caches, is_for, session),
            *read_movers(sight.client, users, is_for, namespaces),
        ),
    )


def _jobs_for(caches: Caches, is_for: Callable[[Obj], bool], session: Obj) -> Iterator[Obj]:
    """Yield the Jobs of other backups that may still have a pod to come.

    One whose session has ended has none: it reported, or was deleted before that was written.
    """
    for job in caches.jobs.all():
        namespace = key_of(job).namespace
        for owner in meta(job).get("ownerReferences") or ():
            name, uid = str(owner.get("name")), owner.get("uid")
            if owner.get("kind") != BACKUP_SESSION.kind or name_of(job) != backup_job_name(name):
                continue
            of = caches.sessions.get(Key(namespace, name))
            ended = of is not None and uid_of(of) == uid and is_final(of)
            if is_for(job) and uid != uid_of(session) and not ended and not is_finished(job):
                yield job


def _repositories_like(caches: Caches, key: str) -> tuple[str, ...]:
    """Return the Repositories of the same place: two objects may name one restic repository."""
    place = _place_of(next((r for r in caches.repositories.all() if str(key_of(r)) == key), None))
    if not place:
        return (key,)
    return tuple(str(key_of(r)) for r in caches.repositories.all() if _place_of(r) == place)


def _place_of(repository: Obj | None) -> str:
    """Return the `place_hash` of a Repository, empty when it is invalid."""
    if repository is None:
        return ""
    spec = parse_spec(RepositorySpec, repository)
    if isinstance(spec, tuple) or repository_problems(spec):
        return ""
    return place_hash(spec, namespace_of(repository))
