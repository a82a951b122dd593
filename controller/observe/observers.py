"""The observers: one class per kind, from a key to its planner's input.

What we own and our own kinds come from caches; what we only refer to is read live, and only in
turns that may use it: a session that runs is observed without a request (D13).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from controller.api.backup import BackupConfigurationSpec, TargetRef
from controller.api.catalog import TaskSpec
from controller.api.conditions import FINAL_PHASES, Type, status_of
from controller.api.model import parse_spec
from controller.api.names import backup_job_name, restore_job_name, trigger_name
from controller.api.objects import (
    Key,
    Obj,
    dig,
    is_deleting,
    key_of,
    meta,
    name_of,
    namespace_of,
    status,
    uid_of,
)
from controller.api.repository import RepositorySpec, repository_problems
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    CRON_JOB,
    FUNCTION,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    TASK,
)
from controller.api.restore import RestoreSessionSpec
from controller.api.text import parse_time
from controller.build.backend import location_of
from controller.build.installation import Installation
from controller.kube.client import KubeClient, find
from controller.observe.caches import (
    BY_INVOKER,
    BY_OWNER,
    BY_REPOSITORY,
    Caches,
    by_repository,
    invoker_index,
    newest,
    project_job,
    project_pod,
)
from controller.observe.live import (
    read_job,
    read_pods,
    read_pvc,
    read_secret,
    read_use,
    read_words,
)
from controller.plan import Refusal
from controller.reconcile.backup_start import executor_recorded
from controller.reconcile.catalog import CatalogObserved
from controller.reconcile.history import is_final
from controller.reconcile.observed import (
    ConfigurationObserved,
    Executor,
    Limits,
    PvcUse,
    References,
    RepositoryObserved,
    RestoreObserved,
    SessionObserved,
)
from controller.reconcile.order import SINGLE_NODE_MODES
from controller.reconcile.references import secret_key
from controller.reconcile.session_status import was_used


@dataclass(frozen=True, slots=True)
class Sight:
    """What every observer looks with."""

    client: KubeClient
    caches: Caches
    installation: Installation
    limits: Limits
    now: Callable[[], datetime]

    def references(
        self, invoker: Obj, *, repository: Key, task: str, target: TargetRef | None
    ) -> References:
        """Return what an invoker names. At most two live reads: the Secret and the claim."""
        repository_obj = self.caches.repositories.get(repository) if repository.name else None
        task_obj = self.caches.tasks.get(Key("", task)) if task else None
        steps = parse_spec(TaskSpec, task_obj) if task_obj is not None else None
        functions = {
            step.name: function
            for step in (steps.steps if isinstance(steps, TaskSpec) else ())
            if (function := self.caches.functions.get(Key("", step.name))) is not None
        }
        pvc = None
        if target is not None and target.kind == "PersistentVolumeClaim":
            namespace = target.namespace or namespace_of(invoker)
            pvc = read_pvc(self.client, Key(namespace, target.name))
        secret = None
        if repository_obj is not None:
            secret = read_secret(self.client, secret_key(repository_obj))
        return References(repository_obj, secret, pvc, task_obj, functions)

    def cached_references(
        self, spec: BackupConfigurationSpec | RestoreSessionSpec, namespace: str
    ) -> References:
        """Return what the Job that removes a lock is built from, without a request (D13)."""
        task = self.caches.tasks.get(Key("", spec.task.name))
        repository = self.caches.repositories.get(_repository_key(spec, namespace))
        return References(repository=repository, task=task)

    def executor(self, session: Obj, job_name: str) -> Executor:
        """Return the Job of a session and its newest pod; live where the caches may lag (D10)."""
        job = self._cached_job(session, job_name)
        if job is None:
            live = read_job(self.client, Key(namespace_of(session), job_name))
            if live is None or uid_of(session) not in _owners(live):
                return Executor(job_gone=True)
            job = project_job(live)
        pod = newest(self.caches.pods.by_index(BY_OWNER, uid_of(job)))
        if pod is not None:
            return Executor(job, pod)
        if any(c.get("status") == "True" for c in dig(job, "status", "conditions") or ()):
            pod = newest(project_pod(found) for found in read_pods(self.client, job))
            return Executor(job, pod, pods_gone=pod is None)
        age_s = (self.now() - parse_time(meta(job)["creationTimestamp"])).total_seconds()
        if age_s >= self.limits.start_s:
            # The verdict may be that it never started, which ends the Job.
            pod = newest(project_pod(found) for found in read_pods(self.client, job))
        if pod is None and age_s >= self.limits.quiet_pod_s:
            return Executor(job, words=read_words(self.client, job))
        return Executor(job, pod)

    def made(self, session: Obj, job_name: str) -> Executor:
        """Return the Job of a session whose status does not say yet that it was created."""
        return Executor(self._cached_job(session, job_name))

    def _cached_job(self, session: Obj, job_name: str) -> Obj | None:
        return newest(
            found
            for found in self.caches.jobs.by_index(BY_OWNER, uid_of(session))
            if name_of(found) == job_name
        )

    def is_started(self, session: Obj) -> bool:
        """Tell whether a BackupSession has its Job, whatever its status says by now."""
        job_name = backup_job_name(name_of(session))
        return executor_recorded(session) or self._cached_job(session, job_name) is not None

    def use(self, pvc: Obj | None, *, always: bool) -> PvcUse:
        """Return who uses a claim; asked only where the answer changes something (D18)."""
        if pvc is None or not (always or _is_single_node(pvc)):
            return PvcUse()
        return read_use(self.client, key_of(pvc))


def _owners(obj: Obj) -> Iterable[str]:
    return (str(owner.get("uid")) for owner in meta(obj).get("ownerReferences") or ())


def _is_single_node(pvc: Obj) -> bool:
    return set(dig(pvc, "spec", "accessModes") or ()) <= SINGLE_NODE_MODES


class RepositoryObserver:
    """Observes Repositories."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight

    def observe(self, key: Key, refusal: Refusal | None) -> RepositoryObserved | None:
        """Return the Repository and who names it, None when it is gone."""
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
        return RepositoryObserved(repository, tuple(o for o in invokers if not is_deleting(o)))


class ConfigurationObserver:
    """Observes BackupConfigurations."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight

    def observe(self, key: Key, refusal: Refusal | None) -> ConfigurationObserved | None:
        """Return the configuration and what it names, None when it is gone."""
        sight = self._sight
        configuration = sight.caches.configurations.get(key)
        if configuration is None:
            return None
        spec = parse_spec(BackupConfigurationSpec, configuration)
        references = References()
        if isinstance(spec, BackupConfigurationSpec) and not is_deleting(configuration):
            references = sight.references(
                configuration,
                repository=_repository_key(spec, key.namespace),
                task=spec.task.name,
                target=spec.target.ref if spec.target else None,
            )
        child = Key(key.namespace, trigger_name(key.name))
        found = {
            CRON_JOB.kind: sight.caches.cron_jobs.get(child),
            SERVICE_ACCOUNT.kind: sight.caches.service_accounts.get(child),
            ROLE_BINDING.kind: sight.caches.role_bindings.get(child),
        }
        return ConfigurationObserved(
            configuration,
            spec,
            references,
            children={kind: obj for kind, obj in found.items() if obj is not None},
            installation=sight.installation,
            refusal=refusal,
        )


def _repository_key(spec: BackupConfigurationSpec | RestoreSessionSpec, namespace: str) -> Key:
    return Key(namespace, spec.repository.name if spec.repository else "")


class SessionObserver:
    """Observes BackupSessions."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight

    def observe(self, key: Key, refusal: Refusal | None) -> SessionObserved | None:
        """Return the session and all that its next step depends on, None when it is gone."""
        sight = self._sight
        session = sight.caches.sessions.get(key)
        if session is None:
            return None
        invoker = dig(session, "spec", "invoker") or {}
        invoker_key = Key(key.namespace, str(invoker.get("name") or ""))
        configuration = self._configuration(session, invoker_key)
        parsed = configuration and parse_spec(BackupConfigurationSpec, configuration)
        spec = parsed if isinstance(parsed, BackupConfigurationSpec) else None
        references, executor, use = References(), Executor(), PvcUse()
        if spec is not None and not is_final(session):
            if executor_recorded(session):
                references = sight.cached_references(spec, key.namespace)
            else:
                references = sight.references(
                    session,
                    repository=_repository_key(spec, key.namespace),
                    task=spec.task.name,
                    target=spec.target.ref if spec.target else None,
                )
                use = sight.use(references.pvc, always=False)
                executor = sight.made(session, backup_job_name(key.name))
        if executor_recorded(session) and not is_final(session):
            executor = sight.executor(session, backup_job_name(key.name))
        siblings = self._siblings(session, invoker_key)
        rivals = self._rivals(session, references.repository)
        return SessionObserved(
            session,
            configuration,
            spec,
            references,
            executor,
            sight.installation,
            sight.limits,
            siblings=siblings,
            rivals=rivals,
            started=frozenset(
                uid_of(other) for other in (*siblings, *rivals) if sight.is_started(other)
            ),
            neighbours=self._neighbours(configuration),
            use=use,
            refusal=refusal,
        )

    def _configuration(self, session: Obj, key: Key) -> Obj | None:
        """Return the configuration; live before a verdict that it does not exist (D10)."""
        found = self._sight.caches.configurations.get(key)
        if found is None and not is_final(session) and key.name:
            found = find(self._sight.client, BACKUP_CONFIGURATION, key.namespace, key.name)
        return found

    def _siblings(self, session: Obj, invoker: Key) -> tuple[Obj, ...]:
        kind = str(dig(session, "spec", "invoker", "kind"))
        found = self._sight.caches.sessions.by_index(BY_INVOKER, invoker_index(kind, invoker))
        return tuple(other for other in found if uid_of(other) != uid_of(session))

    def _neighbours(self, configuration: Obj | None) -> tuple[Obj, ...]:
        """Return the other configurations that use the same Repository, or its backend's URL."""
        if configuration is None:
            return ()
        keys = self._repositories_like(next(iter(by_repository(configuration)), ""))
        found = (
            other
            for key in keys
            for other in self._sight.caches.configurations.by_index(BY_REPOSITORY, key)
        )
        return tuple(other for other in found if uid_of(other) != uid_of(configuration))

    def _rivals(self, session: Obj, repository: Obj | None) -> tuple[Obj, ...]:
        """Return the sessions that have not ended and back up to the same repository URL (D2)."""
        if repository is None or was_used(repository):
            return ()
        caches = self._sight.caches
        configurations = (
            configuration
            for key in self._repositories_like(str(key_of(repository)))
            for configuration in caches.configurations.by_index(BY_REPOSITORY, key)
        )
        return tuple(
            other
            for configuration in configurations
            for other in caches.sessions.by_index(
                BY_INVOKER, invoker_index("BackupConfiguration", key_of(configuration))
            )
            if not is_final(other) and uid_of(other) != uid_of(session)
        )

    def _repositories_like(self, key: str) -> tuple[str, ...]:
        """Return the Repositories with the same URL: two objects may name one restic repository."""
        caches = self._sight.caches
        url = _url_of(next((r for r in caches.repositories.all() if str(key_of(r)) == key), None))
        if not url:
            return (key,)
        return tuple(str(key_of(r)) for r in caches.repositories.all() if _url_of(r) == url)


def _url_of(repository: Obj | None) -> str:
    """Return the restic URL of a Repository, empty when it has none that means one place.

    A local path means another volume in each Repository.
    """
    if repository is None:
        return ""
    spec = parse_spec(RepositorySpec, repository)
    if isinstance(spec, tuple) or spec.backend.local is not None or repository_problems(spec):
        return ""
    return location_of(spec).url


class RestoreObserver:
    """Observes RestoreSessions."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight

    def observe(self, key: Key, refusal: Refusal | None) -> RestoreObserved | None:
        """Return the session and all that its next step depends on, None when it is gone."""
        sight = self._sight
        session = sight.caches.restores.get(key)
        if session is None:
            return None
        spec = parse_spec(RestoreSessionSpec, session)
        references, executor, use = References(), Executor(), PvcUse()
        conditions = status(session).get("conditions") or ()
        if status(session).get("phase") not in FINAL_PHASES:
            if status_of(conditions, Type.RESTORE_EXECUTOR_ENSURED) == "True":
                executor = sight.executor(session, restore_job_name(key.name))
                if isinstance(spec, RestoreSessionSpec):
                    references = sight.cached_references(spec, key.namespace)
            elif isinstance(spec, RestoreSessionSpec):
                references = sight.references(
                    session,
                    repository=_repository_key(spec, key.namespace),
                    task=spec.task.name,
                    target=spec.target.ref if spec.target else None,
                )
                use = sight.use(references.pvc, always=True)
                executor = sight.made(session, restore_job_name(key.name))
        return RestoreObserved(
            session,
            spec,
            references,
            executor,
            sight.installation,
            sight.limits,
            use=use,
            refusal=refusal,
        )


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
