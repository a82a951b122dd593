"""The observers: one class per kind, from a key to its planner's input.

Live reads are made only in turns that may use them: a session that runs is observed without a
request (D13).
"""

from collections.abc import Iterable
from dataclasses import replace

from controller.api.backup import BackupConfigurationSpec
from controller.api.conditions import FINAL_PHASES, Type, status_of
from controller.api.model import parse_spec
from controller.api.names import backup_job_name, restore_job_name
from controller.api.objects import (
    Key,
    Obj,
    dig,
    finalizers_of,
    is_deleting,
    name_of,
    status,
    uid_of,
)
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    FUNCTION,
    TASK,
)
from controller.api.restore import RestoreSessionSpec
from controller.build.hook import POST_HOOK
from controller.kube.client import find
from controller.observe.caches import (
    BY_INVOKER,
    BY_REPOSITORY,
    invoker_index,
    is_snapshotter,
)
from controller.observe.claim_restores import ClaimRestoreObserver
from controller.observe.live import UNREADABLE
from controller.observe.repository_users import Contenders, contenders, neighbours
from controller.observe.sight import Sight
from controller.observe.snapshot_sessions import SnapshotSessionObserver
from controller.plan import Ref, Refusal
from controller.reconcile.backup_start import executor_recorded
from controller.reconcile.catalog import CatalogObserved
from controller.reconcile.claim_observed import ClaimRestoreObserved
from controller.reconcile.claim_restore import job_name as claim_job_name
from controller.reconcile.history import is_final
from controller.reconcile.observed import (
    Executor,
    PvcUse,
    References,
    RepositoryObserved,
    RestoreObserved,
    SessionObserved,
)
from controller.reconcile.snapshot_observed import SnapshotSessionObserved


class RepositoryObserver:
    """Observes Repositories."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight

    def observe(self, key: Key, refusal: Refusal | None) -> RepositoryObserved | None:
        """Return the Repository and who uses it, None when it is gone.

        Who saves by VolumeSnapshots may name one all the same, and does not use it.
        """
        del refusal  # nothing that is planned here can be refused for a reason worth a condition
        caches = self._sight.caches
        repository = caches.repositories.get(key)
        if repository is None:
            return None
        invokers = (
            *caches.configurations.by_index(BY_REPOSITORY, str(key)),
            *(
                restore
                for restore in caches.restores.by_index(BY_REPOSITORY, str(key))
                if status(restore).get("phase") not in FINAL_PHASES
            ),
        )
        users = (o for o in invokers if not is_deleting(o) and not is_snapshotter(o))
        return RepositoryObserved(repository, tuple(users))


class SessionObserver:
    """Observes BackupSessions."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight
        self._snapshots = SnapshotSessionObserver(sight)

    def observe(
        self, key: Key, refusal: Refusal | None
    ) -> SessionObserved | SnapshotSessionObserved | None:
        """Return the session and all that its next step depends on, None when it is gone.

        What that is depends on how it backs up.
        """
        sight = self._sight
        session = sight.caches.sessions.get(key)
        if session is None:
            return None
        invoker = dig(session, "spec", "invoker") or {}
        invoker_key = Key(key.namespace, str(invoker.get("name") or ""))
        configuration = self._configuration(session, invoker_key)
        parsed = configuration and parse_spec(BackupConfigurationSpec, configuration)
        spec = parsed if isinstance(parsed, BackupConfigurationSpec) else None
        siblings = self._siblings(session, invoker_key)
        if self._snapshots.is_mine(session, spec):
            return self._snapshots.observe(session, configuration, spec, siblings, refusal=refusal)
        references, executor, use = References(), Executor(), PvcUse()
        job_name = backup_job_name(key.name)
        repository: Obj | None = None
        if executor_recorded(session) and not is_final(session):
            executor = sight.executor(session, job_name)
            if spec is not None:
                references = sight.cached_references(spec, key.namespace)
            if executor.job is not None:
                repository = sight.repository_of(executor.job)
                references = replace(references, repository=repository)
        elif not is_final(session):
            # Whatever became of its configuration: a crash may have left a Job.
            executor = sight.made(session, job_name, live=spec is None)
            if spec is not None:
                references = sight.references(spec, key.namespace)
                use = sight.use(references.pvc, always=False)
        begins = not is_final(session) and not executor_recorded(session)
        others = contenders(sight, session, references.repository) if begins else Contenders()
        return SessionObserved(
            session,
            configuration,
            spec,
            references,
            executor,
            sight.installation,
            sight.limits,
            siblings=siblings,
            rivals=others.rivals,
            started=frozenset(
                uid_of(other) for other in (*siblings, *others.rivals) if sight.is_started(other)
            ),
            neighbours=neighbours(sight.caches, configuration),
            movers=others.movers,
            access=() if is_final(session) else sight.access(session, job_name),
            repository=repository,
            use=use,
            refusal=refusal,
        )

    def _configuration(self, session: Obj, key: Key) -> Obj | None:
        """Return the configuration; live before a verdict that it does not exist (D10).

        Of a session that is held the cache has had it: when nobody can say more, it is gone, and
        an application that stands still does not wait for whoever took the right, or our kinds.
        """
        found = self._sight.caches.configurations.get(key)
        if found is None and not is_final(session) and key.name:
            try:
                found = find(self._sight.client, BACKUP_CONFIGURATION, key.namespace, key.name)
            except UNREADABLE:
                if POST_HOOK not in finalizers_of(session):
                    raise
        return found

    def _siblings(self, session: Obj, invoker: Key) -> tuple[Obj, ...]:
        kind = str(dig(session, "spec", "invoker", "kind"))
        found = self._sight.caches.sessions.by_index(BY_INVOKER, invoker_index(kind, invoker))
        return tuple(other for other in found if uid_of(other) != uid_of(session))


class RestoreObserver:
    """Observes RestoreSessions."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight
        self._claims = ClaimRestoreObserver(sight)

    def observe(
        self, key: Key, refusal: Refusal | None
    ) -> RestoreObserved | ClaimRestoreObserved | None:
        """Return the session and all that its next step depends on, None when it is gone.

        What that is depends on the driver.
        """
        sight = self._sight
        session = sight.caches.restores.get(key)
        if session is None:
            return None
        spec = parse_spec(RestoreSessionSpec, session)
        if isinstance(spec, RestoreSessionSpec) and self._is_of_claims(session):
            return self._claims.observe(session, spec, refusal)
        references, executor, use = References(), Executor(), PvcUse()
        conditions = status(session).get("conditions") or ()
        job_name = restore_job_name(key.name)
        access: tuple[Ref, ...] = ()
        if not is_final(session):
            access = sight.access(session, job_name)
            if status_of(conditions, Type.RESTORE_EXECUTOR_ENSURED) == "True":
                executor = sight.executor(session, job_name)
                if isinstance(spec, RestoreSessionSpec):
                    references = sight.cached_references(spec, key.namespace)
            elif isinstance(spec, RestoreSessionSpec):
                references = sight.references(spec, key.namespace)
                use = sight.use(references.pvc, always=True)
                executor = sight.made(session, job_name)
        return RestoreObserved(
            session,
            spec,
            references,
            executor,
            sight.installation,
            sight.limits,
            access=access,
            use=use,
            refusal=refusal,
        )

    def _is_of_claims(self, session: Obj) -> bool:
        """Tell whether a restore is one of VolumeSnapshots.

        What it has begun counts, not what its driver is by now: its Job has to be followed.
        """
        name = name_of(session)
        for job_name, answer in ((restore_job_name(name), False), (claim_job_name(name), True)):
            if self._sight.made(session, job_name).job is not None:
                return answer
        return is_snapshotter(session)


class CatalogObserver:
    """Observes the Functions and Tasks that come with us. Its keys are kind and name."""

    def __init__(self, sight: Sight, wanted: Iterable[Obj]) -> None:
        self._caches = sight.caches
        self._wanted = {Key(str(obj["kind"]), name_of(obj)): obj for obj in wanted}

    def observe(self, key: Key, refusal: Refusal | None) -> CatalogObserved | None:
        """Return what an object should be and what it is, None for one that is not ours."""
        del refusal  # retried with backoff; the loop's log line says why
        wanted = self._wanted.get(key)
        if wanted is None:
            return None
        is_task = key.namespace == TASK.kind
        cache = self._caches.tasks if is_task else self._caches.functions
        existing = cache.get(Key("", key.name))
        return CatalogObserved(TASK if is_task else FUNCTION, wanted, existing)

    def all(self) -> Iterable[CatalogObserved]:
        """Yield every object that comes with us."""
        found = (self.observe(key, None) for key in self._wanted)
        return (seen for seen in found if seen is not None)
