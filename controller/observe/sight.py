"""What observers look with: the caches, the client, and what is common to their views.

What we own and our own kinds come from caches; what we only refer to is read live (D10, D14).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from controller.api.backup import BackupConfigurationSpec
from controller.api.catalog import TaskSpec
from controller.api.model import parse_spec
from controller.api.names import (
    backup_job_name,
    hook_job_name,
    pod_hostname,
    snapshot_job_name,
)
from controller.api.objects import (
    Key,
    Obj,
    annotations_of,
    controller_uid,
    dig,
    is_live,
    job_condition,
    key_of,
    meta,
    name_of,
    namespace_of,
    uid_of,
)
from controller.api.resources import FUNCTION, REPOSITORY, ROLE, ROLE_BINDING, TASK, Resource
from controller.api.restore import RestoreSessionSpec
from controller.api.text import parse_time
from controller.build.installation import Installation
from controller.build.labels import REPOSITORY_NAME, REPOSITORY_UID
from controller.kube.client import KubeClient, find
from controller.observe.caches import BY_OWNER, Caches, Lister, newest, project_job, project_pod
from controller.observe.live import (
    UNREADABLE,
    read_job,
    read_pods,
    read_pvc,
    read_secret,
    read_use,
    read_words,
)
from controller.plan import Ref
from controller.reconcile.backup_start import executor_recorded
from controller.reconcile.observed import Executor, Limits, PvcUse, References
from controller.reconcile.order import SINGLE_NODE_MODES
from controller.reconcile.references import secret_key

InvokerSpec = BackupConfigurationSpec | RestoreSessionSpec


@dataclass(frozen=True, slots=True)
class Sight:
    """What every observer looks with."""

    client: KubeClient
    caches: Caches
    installation: Installation
    limits: Limits
    now: Callable[[], datetime]

    def references(self, spec: InvokerSpec, namespace: str) -> References:
        """Return what an invoker names.

        Two live reads, the Secret and the claim; and one for each of our own kinds that its cache
        misses: caches of different kinds are not ordered, and the verdict may be final (D10).
        """
        cached = self._looked_for(spec, namespace, live=True)
        pvc = secret = None
        target = spec.target.ref if spec.target else None
        if target is not None and target.kind == "PersistentVolumeClaim":
            pvc = read_pvc(self.client, Key(target.namespace or namespace, target.name))
        if cached.repository is not None:
            secret = read_secret(self.client, secret_key(cached.repository))
        return replace(cached, secret=secret, pvc=pvc)

    def cached_references(self, spec: InvokerSpec, namespace: str) -> References:
        """Return what the Job that removes a lock is built from, without a request (D13)."""
        return self._looked_for(spec, namespace, live=False)

    def _looked_for(self, spec: InvokerSpec, namespace: str, *, live: bool) -> References:
        def look(lister: Lister, resource: Resource, key: Key) -> Obj | None:
            found = lister.get(key)
            if found is None and live and key.name:
                return find(self.client, resource, key.namespace, key.name)
            return found

        caches = self.caches
        repository = Key(namespace, spec.repository.name if spec.repository else "")
        task = look(caches.tasks, TASK, Key("", spec.task.name))
        parsed = parse_spec(TaskSpec, task) if task is not None else None
        functions = {
            step.name: function
            for step in (parsed.steps if isinstance(parsed, TaskSpec) else ())
            if (function := look(caches.functions, FUNCTION, Key("", step.name))) is not None
        }
        return References(
            repository=look(caches.repositories, REPOSITORY, repository),
            task=task,
            functions=functions,
        )

    def repository_of(self, job: Obj) -> Obj | None:
        """Return the Repository that a Job was built for, None when it is gone or replaced.

        The invoker may name another one by now, and a namesake may be of another backend.
        """
        annotations = annotations_of(job)
        key = Key(namespace_of(job), annotations.get(REPOSITORY_NAME, ""))
        if not key.name:
            return None
        found = self.caches.repositories.get(key)
        if found is None:
            found = find(self.client, REPOSITORY, key.namespace, key.name)
        return found if found and uid_of(found) == annotations.get(REPOSITORY_UID) else None

    def executor(self, session: Obj, job_name: str) -> Executor:
        """Return the Job of a session and its newest pod; live where the caches may lag (D10).

        An answer that tells nothing must stop no limit of the session: an application may stand
        still until one of them is over.
        """
        try:
            return self._executor(session, job_name)
        except UNREADABLE as err:
            return Executor(self._cached_job(session, job_name), unreadable=str(err))

    def _executor(self, session: Obj, job_name: str) -> Executor:
        job = self._cached_job(session, job_name)
        key = Key(namespace_of(session), job_name)
        if job is None:
            live = read_job(self.client, key)
            if live is None or uid_of(session) not in _owners(live):
                return self._without_job(session, key)
            job = project_job(live)
        pod = newest(self.caches.pods.by_index(BY_OWNER, uid_of(job)))
        if pod is not None and not (job_condition(job, "Failed") and is_live(pod)):
            return Executor(job, pod)
        # None yet; or of a Job that has failed one that is said to live: its end was not seen yet.
        if any(c.get("status") == "True" for c in dig(job, "status", "conditions") or ()):
            pod = newest(project_pod(found) for found in read_pods(self.client, key))
            return Executor(job, pod, pods_gone=pod is None)
        age_s = (self.now() - parse_time(meta(job)["creationTimestamp"])).total_seconds()
        if age_s >= self.limits.start_s:
            # The verdict may be that it never started, which ends the Job.
            pod = newest(project_pod(found) for found in read_pods(self.client, key))
        if pod is None and age_s >= self.limits.quiet_pod_s:
            return Executor(job, words=read_words(self.client, job))
        return Executor(job, pod)

    def _without_job(self, session: Obj, key: Key) -> Executor:
        """Return what is left of a Job that is gone: its pods may live on for a while.

        They are known by their host name, which no other session's pods have.
        """
        hostname = pod_hostname(key.name, uid_of(session))
        pods = [
            project_pod(pod)
            for pod in read_pods(self.client, key)
            if dig(pod, "spec", "hostname") == hostname
        ]
        if alive := newest(pod for pod in pods if is_live(pod)):
            return Executor(job_gone=True, survivor=alive)
        return Executor(pod=newest(pods), job_gone=True, pods_gone=not pods)

    def access(self, session: Obj, job_name: str) -> tuple[Ref, ...]:
        """Return the Role and the RoleBinding of a session's Job, which has few (D26).

        The binding says whether there are any. It comes last: once it is gone, both are.
        """
        key = Key(namespace_of(session), job_name)
        binding = self.caches.role_bindings.get(key)
        if binding is None or controller_uid(binding) != uid_of(session):
            return ()
        role = find(self.client, ROLE, key.namespace, key.name)
        found = ((ROLE, role), (ROLE_BINDING, binding))
        return tuple(
            Ref(resource, key.namespace, key.name, uid_of(obj))
            for resource, obj in found
            if obj is not None and controller_uid(obj) == uid_of(session)
        )

    def made(self, session: Obj, job_name: str, *, live: bool = False) -> Executor:
        """Return the Job of a session whose status does not say yet that it was created.

        `live` asks the API server when the cache has none: before a verdict that is final.
        """
        job = self._cached_job(session, job_name)
        if job is None and live:
            found = read_job(self.client, Key(namespace_of(session), job_name))
            if found is not None and uid_of(session) in _owners(found):
                job = project_job(found)
        return Executor(job)

    def _cached_job(self, session: Obj, job_name: str) -> Obj | None:
        return newest(
            found
            for found in self.caches.jobs.by_index(BY_OWNER, uid_of(session))
            if name_of(found) == job_name
        )

    def is_started(self, session: Obj) -> bool:
        """Tell whether a BackupSession has its Job, whatever its status says by now.

        With VolumeSnapshots the first one may be that of a hook.
        """
        name = name_of(session)
        names = (backup_job_name(name), snapshot_job_name(name), hook_job_name(name, "pre"))
        return executor_recorded(session) or any(
            self._cached_job(session, job_name) is not None for job_name in names
        )

    def use(self, pvc: Obj | None, *, always: bool) -> PvcUse:
        """Return who uses a claim; asked only where the answer changes something (D18)."""
        if pvc is None or not (always or _is_single_node(pvc)):
            return PvcUse()
        return read_use(self.client, key_of(pvc))


def _owners(obj: Obj) -> Iterable[str]:
    return (str(owner.get("uid")) for owner in meta(obj).get("ownerReferences") or ())


def _is_single_node(pvc: Obj) -> bool:
    return set(dig(pvc, "spec", "accessModes") or ()) <= SINGLE_NODE_MODES
