"""A cluster in a few hundred lines: what planners, observers and routes meet, in any order.

Real: the planners, the observers, the routes, the stores and the executor. Toy: an API server
(resourceVersions, preconditions, ownership, watch events), a Job controller and a kubelet, and the
network between them: events reach a cache late, in portions, cache by cache. A crash may come
before any write, or after it and before its answer.

What must never happen is written down in `violations` at the moment when it does.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from controller.api.conditions import FINAL_PHASES
from controller.api.objects import (
    Key,
    Obj,
    annotations_of,
    controller_uid,
    dig,
    finalizers_of,
    is_deleting,
    is_live,
    key_of,
    labels_of,
    meta,
    name_of,
    namespace_of,
    status,
    uid_of,
)
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    BACKUP_SESSION,
    CORE_EVENT,
    CRON_JOB,
    FUNCTION,
    JOB,
    POD,
    PVC,
    REPOSITORY,
    RESTORE_SESSION,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    TASK,
    VOLUME_SNAPSHOT,
    Resource,
)
from controller.api.text import format_time
from controller.build.labels import CREATED_BY, INVOKER_NAME, JOB_NAME, REPOSITORY_NAME, STEPS
from controller.engine.executor import FORMER_NAMESAKE, Executor
from controller.engine.loop import DOUBT_S
from controller.engine.store import Change, Store
from controller.kube.errors import AlreadyExists, Conflict, Forbidden, Invalid, NotFound
from controller.observe.caches import (
    BY_INVOKER,
    BY_OWNER,
    BY_PENDING,
    BY_REPOSITORY,
    BY_SESSION,
    BY_SOURCE,
    BY_TASK,
    Caches,
    by_invoker,
    by_invoker_labels,
    by_owner,
    by_pending,
    by_repository,
    by_session,
    by_source_of_claim,
    by_source_of_restore,
    by_task,
    project_child,
    project_claim,
    project_cron_job,
    project_job,
    project_pod,
    project_snapshot,
)
from controller.observe.configurations import ConfigurationObserver
from controller.observe.observers import (
    RepositoryObserver,
    RestoreObserver,
    SessionObserver,
)
from controller.observe.routes import (
    CONFIGURATION_LANE,
    REPOSITORY_LANE,
    RESTORE_LANE,
    SESSION_LANE,
    Route,
    Routes,
)
from controller.observe.sight import Sight
from controller.plan import Plan, Refusal
from controller.reconcile import backup_configuration, repository, restore, session
from controller.reconcile.observed import Limits
from controller.reconcile.repository_record import was_used
from tests.support.builders import DISRUPTED, INSTALLATION, NOW

CACHED = (
    REPOSITORY,
    BACKUP_CONFIGURATION,
    BACKUP_SESSION,
    RESTORE_SESSION,
    FUNCTION,
    TASK,
    JOB,
    POD,
    CRON_JOB,
    SERVICE_ACCOUNT,
    ROLE_BINDING,
    PVC,
    VOLUME_SNAPSHOT,
)
SELECTED = (PVC, VOLUME_SNAPSHOT)
"""Of these kinds the caches hold what carries our label only."""
FINISHED = ("Complete", "Failed")


class Crash(BaseException):
    """The controller's process ends here."""


@dataclass
class Fuse:
    """When the controller's process ends: with which of its next writes, before or after it."""

    writes: int
    after: bool


def is_finished(job: Obj) -> bool:
    """Tell whether a Job is complete or failed."""
    return any(
        c["type"] in FINISHED and c["status"] == "True" for c in status(job).get("conditions") or ()
    )


class ToyServer:
    """Objects, versions and events; as much of `KubeClient` as is used."""

    def __init__(self) -> None:
        self.now = NOW
        self.objects: dict[tuple[Resource, Key], dict[str, Any]] = {}
        self.events: dict[Resource, list[tuple[str, Obj]]] = {}
        self.violations: list[str] = []
        self.applied: dict[tuple[Resource, Key], set[str]] = {}
        """The annotations that the controller's last Apply of an object named."""
        self.jobs_made: dict[str, int] = {}
        self.fuse: Fuse | None = None
        self.quota_full = False
        self.writes = 0
        self._version = 100
        self._count = 0

    # the side of the cluster

    def put_object(self, resource: Resource, obj: Obj) -> dict[str, Any]:
        """Store an object, as somebody else than the controller does."""
        key = key_of(obj)
        old = self.objects.get((resource, key))
        metadata = {"creationTimestamp": format_time(self.now), **meta(obj)}
        if not metadata.get("uid"):
            self._count += 1
            metadata["uid"] = f"uid-{self._count}"
        self._version += 1
        metadata["resourceVersion"] = str(self._version)
        stored = {
            **obj,
            "kind": resource.kind,
            "apiVersion": resource.api_version,
            "metadata": metadata,
        }
        self.objects[resource, key] = stored
        kind = "ADDED" if old is None else "MODIFIED"
        self.events.setdefault(resource, []).append((kind, stored))
        return stored

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    def remove(self, resource: Resource, key: Key) -> None:
        """Delete an object and, as the garbage collector does, what it owns.

        One with finalizers is marked, and goes when the last of them does.
        """
        found = self.objects.get((resource, key))
        if found is not None and finalizers_of(found):
            if not is_deleting(found):
                marked = {**meta(found), "deletionTimestamp": format_time(self.now)}
                self.put_object(resource, {**found, "metadata": marked})
            return
        gone = self.objects.pop((resource, key), None)
        if gone is None:
            return
        self._version += 1
        last = {**gone, "metadata": {**meta(gone), "resourceVersion": str(self._version)}}
        self.events.setdefault(resource, []).append(("DELETED", last))
        for (kind, child), obj in list(self.objects.items()):
            owners = meta(obj).get("ownerReferences") or ()
            if not any(owner.get("uid") == uid_of(gone) for owner in owners):
                continue
            if kind == POD and status(obj)["phase"] == "Running":
                self.stop_pod(obj)
            else:
                self.remove(kind, child)

    def stop_pod(self, pod: Obj) -> None:
        """Ask for the end of a pod: its kubelet has the say."""
        gone_at = format_time(self.now + timedelta(seconds=120))
        self.put_object(POD, {**pod, "metadata": {**meta(pod), "deletionTimestamp": gone_at}})

    def all(self, resource: Resource) -> list[dict[str, Any]]:
        """Return the objects of a kind."""
        return [obj for (kind, _), obj in self.objects.items() if kind == resource]

    # the side of the controller

    def get(self, resource: Resource, namespace: str, name: str, **_: Any) -> Obj:
        """Return an object."""
        found = self.objects.get((resource, Key(namespace, name)))
        if found is None:
            raise NotFound(f"{resource} {namespace}/{name} not found", code=404)
        return found

    def list_page(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        **_: Any,
    ) -> Obj:
        """Return a list; selectors are understood as far as the observers use them."""
        del field_selector
        items = [obj for obj in self.all(resource) if namespace in ("", namespace_of(obj))]
        if label_selector.startswith(JOB_NAME):
            name = label_selector.partition("=")[2]
            items = [item for item in items if owner_name(item) == name]
        elif label_selector and "(" not in label_selector:
            wanted = {tuple(pair.split("=", 1)) for pair in label_selector.split(",")}
            items = [item for item in items if wanted <= labels_of(item).items()]
        elif label_selector:
            names = label_selector.partition("(")[2].rstrip(")").split(",")
            items = [item for item in items if labels_of(item).get(INVOKER_NAME) in names]
        if resource == CORE_EVENT:
            items = [{"message": "exceeded quota"}] if self.quota_full else []
        return {"items": items, "metadata": {}}

    def create(self, resource: Resource, namespace: str, body: Obj, **_: Any) -> Obj:
        """Create an object."""
        with_fuse = self.burn()
        key = Key(namespace, name_of(body))
        if (resource, key) in self.objects:
            raise AlreadyExists(f"{resource} {key} already exists", code=409)
        if resource == JOB and self.quota_full:
            raise Forbidden("exceeded quota: count/jobs.batch", code=403)
        if resource == JOB:
            self.check_job(body)
        made = self.put_object(resource, body)
        with_fuse()
        return made

    def apply(self, resource: Resource, body: Obj, **_: Any) -> Obj:
        """Apply: here a merge of metadata, less what we applied before, and all of the rest."""
        with_fuse = self.burn()
        key = key_of(body)
        old = self.objects.get((resource, key))
        if old is None and meta(body).get("uid"):
            raise Conflict("uid mismatch", code=409)
        given = meta(body).get("resourceVersion")
        if given and given != meta(old or {}).get("resourceVersion"):
            raise Conflict("the object has been modified", code=409)
        known: dict[str, Any] = dict(old or {})
        metadata = {**meta(known), **meta(body)}
        wanted = meta(body).get("annotations") or {}
        dropped = self.applied.get((resource, key), set()) - wanted.keys()
        kept = {k: v for k, v in annotations_of(known).items() if k not in dropped}
        metadata["annotations"] = {**kept, **wanted}
        self.applied[resource, key] = set(wanted)
        made = self.put_object(resource, {**known, **body, "metadata": metadata})
        with_fuse()
        return made

    def put_status(self, resource: Resource, body: Obj, **_: Any) -> Obj:
        """Replace the status where uid and resourceVersion are current."""
        with_fuse = self.burn()
        old = self.objects.get((resource, key_of(body)))
        if old is None:
            raise NotFound("gone", code=404)
        if any(meta(old)[name] != meta(body)[name] for name in ("uid", "resourceVersion")):
            raise Conflict("the object has been modified", code=409)
        if resource in (BACKUP_SESSION, RESTORE_SESSION):
            self.check_phase(old, status(body))
        made = self.put_object(resource, {**old, "status": body["status"]})
        with_fuse()
        return made

    def json_patch(
        self, resource: Resource, namespace: str, name: str, ops: Sequence[Obj], **_: Any
    ) -> Obj:
        """Change a finalizer and annotations, where the first two operations, tests, hold."""
        with_fuse = self.burn()
        old = self.get(resource, namespace, name)
        if [op["value"] for op in ops[:2]] != [uid_of(old), meta(old)["resourceVersion"]]:
            raise Invalid("the test operation failed", code=422)
        finalizers, annotations = list(finalizers_of(old)), dict(annotations_of(old))
        for op in ops[2:]:
            field, _, last = op["path"].removeprefix("/metadata/").partition("/")
            key = last.replace("~1", "/")
            match field, op["op"]:
                case "finalizers", "remove":
                    del finalizers[int(last)]
                case "finalizers", "add":
                    value = op["value"]
                    finalizers += [value] if isinstance(value, str) else value
                case "annotations", "remove":
                    del annotations[key]
                case "annotations", "add":
                    annotations |= {key: op["value"]} if key else op["value"]
        changed = {**meta(old), "finalizers": finalizers, "annotations": annotations}
        made = self.put_object(resource, {**old, "metadata": changed})
        if is_deleting(made) and not finalizers:
            self.remove(resource, key_of(made))
        with_fuse()
        return made

    def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str = "", **_: Any
    ) -> None:
        """Delete an object where the uid is the current one."""
        with_fuse = self.burn()
        old = self.get(resource, namespace, name)
        if uid and uid_of(old) != uid:
            raise Conflict("uid mismatch", code=409)
        self.remove(resource, Key(namespace, name))
        with_fuse()

    def burn(self) -> Callable[[], None]:
        """Crash now, or return what crashes once the write is done."""
        self.writes += 1
        fuse = self.fuse
        if fuse is None:
            return lambda: None
        fuse.writes -= 1
        if fuse.writes > 0:
            return lambda: None
        self.fuse = None
        if not fuse.after:
            raise Crash

        def crash() -> None:
            raise Crash

        return crash

    def check_job(self, body: Obj) -> None:
        """Write down what must not happen with a Job that the controller creates."""
        owner = str(controller_uid(body))
        if "unlock" in name_of(body):
            hostname = dig(body, "spec", "template", "spec", "hostname")
            if any(is_live(p) and p["spec"]["hostname"] == hostname for p in self.all(POD)):
                self.violations.append(f"{name_of(body)} beside a live pod")
            return
        self.jobs_made[owner] = self.jobs_made.get(owner, 0) + 1
        if self.jobs_made[owner] > 1:
            self.violations.append(f"a second Job for {owner}")
        backups = {uid_of(session) for session in self.all(BACKUP_SESSION)}
        if owner not in backups:
            return
        repository = annotations_of(body)[REPOSITORY_NAME]
        found = self.objects.get((REPOSITORY, Key(namespace_of(body), repository)))
        if found is not None and was_used(found):
            return
        for other in (*self.all(JOB), *self.all(POD)):
            if annotations_of(other).get(REPOSITORY_NAME) != repository:
                continue
            made = owner_name(other) if other["kind"] == POD.kind else name_of(other)
            if made.startswith("stash-backup-") and self._may_act(other):
                self.violations.append(f"{name_of(body)} beside {name_of(other)}: two may init")

    def _may_act(self, obj: Obj) -> bool:
        """Tell whether a Job, or a pod, may still initialise a repository."""
        if obj["kind"] == POD.kind:
            return is_live(obj)
        return not is_finished(obj) and not self._is_spent(obj)

    def _is_spent(self, job: Obj) -> bool:
        """Tell whether the pod of a Job ended for good, which the Job has yet to notice."""
        return any(
            status(pod)["phase"] in ("Succeeded", "Failed")
            and DISRUPTED not in status(pod)["conditions"]
            for pod in self.all(POD)
            if controller_uid(pod) == uid_of(job)
        )

    def check_phase(self, old: Obj, new: Obj) -> None:
        """Write down what must not happen with a phase."""
        was = status(old).get("phase")
        if was in FINAL_PHASES and new.get("phase") != was:
            self.violations.append(f"{name_of(old)} left {was} for {new.get('phase')}")


def owner_name(obj: Obj) -> str:
    """Return the name of an object's first owner."""
    return str(dig(obj, "metadata", "ownerReferences", 0, "name") or "")


def _is_watched(resource: Resource, obj: Obj) -> bool:
    return resource not in SELECTED or CREATED_BY in labels_of(obj)


@dataclass
class _Lane:
    observe: Callable[[Key, Refusal | None], Any]
    plan: Callable[[Any, datetime], Plan]


@dataclass
class _Process:
    """One life of the controller: caches, what is due, and when."""

    stores: dict[Resource, Store]
    routes: Routes
    lanes: dict[str, _Lane]
    executor: Executor
    due: dict[Route, None] = field(default_factory=dict)
    timers: dict[Route, datetime] = field(default_factory=dict)
    doubts: dict[Route, datetime] = field(default_factory=dict)


class ToyCluster:
    """The server, the controller's process, the Job controller and the kubelet."""

    def __init__(
        self,
        *objects: tuple[Resource, Obj],
        limits: Limits | None = None,
        server: ToyServer | None = None,
    ) -> None:
        self.server = server or ToyServer()
        self.limits = limits or Limits()
        self.snapshots_served = True
        self.snapshots_defined = True
        self.reported: dict[str, bool] = {}
        """By the uid of a session: whether a pod of its Job reported success."""
        self._lost: set[str] = set()
        self._dead_nodes: set[str] = set()
        """Names of nodes: one for each pod."""
        for resource, obj in objects:
            self.server.put_object(resource, obj)
        self.process = self._started()

    # the controller

    def _started(self) -> _Process:
        stores = {
            REPOSITORY: Store(),
            BACKUP_CONFIGURATION: Store(indexes={BY_REPOSITORY: by_repository, BY_TASK: by_task}),
            BACKUP_SESSION: Store(indexes={BY_INVOKER: by_invoker, BY_PENDING: by_pending}),
            RESTORE_SESSION: Store(
                indexes={
                    BY_REPOSITORY: by_repository,
                    BY_TASK: by_task,
                    BY_SOURCE: by_source_of_restore,
                }
            ),
            FUNCTION: Store(),
            TASK: Store(),
            JOB: Store(projection=project_job, indexes={BY_OWNER: by_owner}),
            POD: Store(projection=project_pod, indexes={BY_OWNER: by_owner}),
            CRON_JOB: Store(projection=project_cron_job),
            SERVICE_ACCOUNT: Store(projection=project_child),
            ROLE_BINDING: Store(projection=project_child),
            PVC: Store(
                projection=project_claim,
                indexes={BY_SESSION: by_session, BY_SOURCE: by_source_of_claim},
            ),
            VOLUME_SNAPSHOT: Store(
                projection=project_snapshot,
                indexes={BY_SESSION: by_session, BY_INVOKER: by_invoker_labels},
            ),
        }
        caches = Caches(
            repositories=stores[REPOSITORY],
            configurations=stores[BACKUP_CONFIGURATION],
            sessions=stores[BACKUP_SESSION],
            restores=stores[RESTORE_SESSION],
            functions=stores[FUNCTION],
            tasks=stores[TASK],
            jobs=stores[JOB],
            pods=stores[POD],
            cron_jobs=stores[CRON_JOB],
            service_accounts=stores[SERVICE_ACCOUNT],
            role_bindings=stores[ROLE_BINDING],
            claims=stores[PVC],
            snapshots=stores[VOLUME_SNAPSHOT],
            snapshots_served=lambda: self.snapshots_served,
            snapshots_defined=lambda: self.snapshots_defined,
        )
        server: Any = self.server
        sight = Sight(server, caches, INSTALLATION, self.limits, lambda: self.server.now)
        lanes = {
            REPOSITORY_LANE: _Lane(RepositoryObserver(sight).observe, repository.plan),
            CONFIGURATION_LANE: _Lane(
                ConfigurationObserver(sight).observe, backup_configuration.plan
            ),
            SESSION_LANE: _Lane(SessionObserver(sight).observe, session.plan),
            RESTORE_LANE: _Lane(RestoreObserver(sight).observe, restore.plan),
        }
        executor = Executor(server, on_written=self._written)
        process = _Process(stores, Routes(caches), lanes, executor)
        self.process = process
        self.server.events.clear()
        for resource, store in stores.items():
            found = (o for o in self.server.all(resource) if _is_watched(resource, o))
            self._route(resource, store.replace(found))
        return process

    def restart(self) -> None:
        """Start a new process: its caches are filled by lists."""
        self.server.fuse = None
        self._started()

    def _written(self, resource: Resource, obj: Obj) -> None:
        if resource in self.process.stores and _is_watched(resource, obj):
            self._route(resource, self.process.stores[resource].upsert(obj))

    def _route(self, resource: Resource, changes: Sequence[Change]) -> None:
        routes = self.process.routes
        handlers: dict[Resource, Callable[[Obj | None, Obj | None], Iterable[Route]]] = {
            REPOSITORY: routes.repository,
            BACKUP_CONFIGURATION: routes.configuration,
            BACKUP_SESSION: routes.session,
            RESTORE_SESSION: routes.restore,
            JOB: routes.job,
            POD: routes.pod,
            CRON_JOB: routes.child,
            SERVICE_ACCOUNT: routes.child,
            ROLE_BINDING: routes.child,
            PVC: routes.claim,
            VOLUME_SNAPSHOT: routes.snapshot,
        }
        handler = handlers.get(resource)
        for change in changes if handler else ():
            for route in handler(change.old, change.new):  # type: ignore[misc] # not None here
                self.process.due[route] = None

    def deliver(self, resource: Resource, count: int | None = None, *, repeat: int = 0) -> None:
        """Let events reach one cache; the last ones of them a second time."""
        waiting = self.server.events.get(resource, [])
        count = len(waiting) if count is None else min(count, len(waiting))
        events = waiting[:count]
        del waiting[:count]
        store = self.process.stores.get(resource)
        if store is None:
            return
        for kind, obj in [*events, *events[len(events) - min(repeat, len(events)) :]]:
            if not _is_watched(resource, obj):
                continue
            take = store.delete if kind == "DELETED" else store.upsert
            self._route(resource, take(obj))

    def due(self) -> list[Route]:
        """Return the keys that are due, those of expired timers among them."""
        for route, when in list(self.process.timers.items()):
            if when <= self.server.now:
                del self.process.timers[route]
                self.process.due[route] = None
        return list(self.process.due)

    def turn(self, route: Route, fuse: Fuse | None = None) -> None:
        """Take one turn, as `engine.loop` does; a crash in it restarts the controller."""
        self.process.due.pop(route, None)
        if route.lane not in self.process.lanes:
            return
        self.server.fuse = fuse
        try:
            refusal = self._attempt(route, None)
            if refusal is None:
                self.process.doubts.pop(route, None)
            elif self._is_doubtful(route, refusal) or self._attempt(route, refusal) is not None:
                self._after(route, 5.0)
        except Crash:
            self.restart()
        finally:
            self.server.fuse = None

    def _is_doubtful(self, route: Route, refusal: Refusal) -> bool:
        """Doubt as the loop does what becomes right by itself."""
        if refusal.reason != FORMER_NAMESAKE:
            return False
        since = self.process.doubts.setdefault(route, self.server.now)
        return (self.server.now - since).total_seconds() < DOUBT_S[FORMER_NAMESAKE]

    def _attempt(self, route: Route, refusal: Refusal | None) -> Refusal | None:
        plan = self.planned(route, refusal)
        if plan is None:
            return None
        done = self.process.executor.execute(plan)
        if done.error is not None:
            self._after(route, 1.0)
        elif plan.requeue_after_s is not None and done.refusal is None:
            self._after(route, plan.requeue_after_s)
        return done.refusal

    def _after(self, route: Route, seconds: float) -> None:
        when = self.server.now + timedelta(seconds=max(seconds, 0.001))
        self.process.timers[route] = min(when, self.process.timers.get(route, when))

    def planned(self, route: Route, refusal: Refusal | None = None) -> Plan | None:
        """Return the plan for a key, None when its object is gone."""
        lane = self.process.lanes[route.lane]
        seen = lane.observe(route.key, refusal)
        return None if seen is None else lane.plan(seen, self.server.now)

    # the Job controller and the kubelet

    def pods_of(self, job: Obj) -> list[dict[str, Any]]:
        """Return the pods of a Job."""
        return [pod for pod in self.server.all(POD) if controller_uid(pod) == uid_of(job)]

    def sync_job(self, job: dict[str, Any]) -> bool:
        """Let the Job controller look at a Job once; tell whether it did anything."""
        if is_finished(job):
            return False
        pods = self.pods_of(job)
        ended = [p for p in pods if status(p)["phase"] in ("Succeeded", "Failed")]
        if any(status(p)["phase"] == "Succeeded" for p in ended):
            return self._finish(job, "Complete")
        counted = [p for p in ended if DISRUPTED not in status(p)["conditions"]]
        if counted or uid_of(job) in self._lost:
            return self._finish(job, "Failed")
        if len(ended) < len(pods):
            return False
        return self.add_pod(job, pods)

    def add_pod(self, job: Obj, pods: Sequence[Obj]) -> bool:
        """Create the next pod of a Job."""
        number = len(pods)
        while (POD, Key("demo", f"{name_of(job)}-{number}")) in self.server.objects:
            number += 1
        owner = {"kind": "Job", "name": name_of(job), "uid": uid_of(job), "controller": True}
        self.server.put_object(
            POD,
            {
                "metadata": {
                    "name": f"{name_of(job)}-{number}",
                    "namespace": "demo",
                    "ownerReferences": [owner],
                    "labels": dig(job, "spec", "template", "metadata", "labels") or {},
                    "annotations": dig(job, "spec", "template", "metadata", "annotations") or {},
                },
                "spec": {
                    "hostname": dig(job, "spec", "template", "spec", "hostname"),
                    "nodeName": f"node-of-{name_of(job)}-{number}",
                },
                "status": {"phase": "Pending", "conditions": []},
            },
        )
        return True

    def _finish(self, job: dict[str, Any], kind: str) -> bool:
        """Let a Job end."""
        entry = {"type": kind, "status": "True", "reason": "BackoffLimitExceeded", "message": "x"}
        self.server.put_object(JOB, {**job, "status": {"conditions": [entry]}})
        return True

    def set_pod(
        self, pod: dict[str, Any], phase: str, state: Obj, *, disrupted: bool = False
    ) -> None:
        """Let the kubelet report a state of the pod's one container."""
        conditions = [*status(pod)["conditions"], *([DISRUPTED] if disrupted else [])]
        name = str(annotations_of(pod).get(STEPS) or "main").split(",")[-1]
        new = {
            "phase": phase,
            "conditions": conditions,
            "containerStatuses": [{"name": name, "state": state}],
        }
        self.server.put_object(POD, {**pod, "status": new})

    def start_pod(self, pod: dict[str, Any]) -> None:
        """Start a pod."""
        if status(pod)["phase"] == "Pending":
            now = format_time(self.server.now)
            self.set_pod(pod, "Running", {"running": {"startedAt": now}})

    def end_pod(
        self, pod: dict[str, Any], *, code: int, message: str, disrupted: bool = False
    ) -> None:
        """End a pod that has not ended."""
        if not is_live(pod) or pod["spec"]["nodeName"] in self._dead_nodes:
            return
        state = {
            "terminated": {
                "exitCode": code,
                "reason": "Completed" if code == 0 else "Error",
                "message": message,
                "finishedAt": format_time(self.server.now),
            }
        }
        if '"succeeded":true' in message and not (disrupted and code):
            self.reported[self._session_of(pod)] = True
        self.set_pod(pod, "Failed" if code else "Succeeded", state, disrupted=disrupted)
        if not any(uid_of(job) == controller_uid(pod) for job in self.server.all(JOB)):
            self.server.remove(POD, key_of(pod))

    def kill_node(self, pod: dict[str, Any]) -> None:
        """Lose the node of a pod that runs: it is deleted, and nobody confirms that."""
        if status(pod)["phase"] == "Running":
            self._dead_nodes.add(pod["spec"]["nodeName"])
            self.server.stop_pod(pod)

    def _revive_nodes(self) -> bool:
        """Let dead nodes come back, once no session waits for their pods any more."""
        sessions = (*self.server.all(BACKUP_SESSION), *self.server.all(RESTORE_SESSION))
        if any(status(session).get("phase") == "Running" for session in sessions):
            return False
        dead, self._dead_nodes = self._dead_nodes, set()
        gone = [pod for pod in self.server.all(POD) if pod["spec"]["nodeName"] in dead]
        for pod in gone:
            self.remove_pod(pod)
        return bool(gone)

    def _session_of(self, pod: Obj) -> str:
        for job in self.server.all(JOB):
            if uid_of(job) == controller_uid(pod) and "unlock" not in name_of(job):
                return str(controller_uid(job))
        return ""

    def remove_pod(self, pod: dict[str, Any]) -> None:
        """Remove a pod, by hand or by garbage collection; its Job counts it."""
        if status(pod)["phase"] == "Succeeded":
            for job in self.server.all(JOB):
                if uid_of(job) == controller_uid(pod) and not is_finished(job):
                    self._finish(job, "Complete")
        elif DISRUPTED not in status(pod)["conditions"]:
            self._lost.add(str(controller_uid(pod)))
        self.server.remove(POD, key_of(pod))

    # until nothing happens any more

    def settle(self, end: Callable[[dict[str, Any]], None], *, rounds: int = 400) -> bool:
        """Let everything happen that is due; `end` ends each pod that runs. Tell whether it ended.

        Time passes only when nothing else can happen.
        """
        for _ in range(rounds):
            if self._stir(end):
                continue
            if not self.process.timers or self._is_done():
                return True
            self.server.now = max(self.server.now, min(self.process.timers.values()))
        return False

    def _stir(self, end: Callable[[dict[str, Any]], None]) -> bool:
        """Let happen what can without time; tell whether anything did."""
        for resource in CACHED:
            self.deliver(resource)
        if routes := self.due():
            for route in routes:
                self.turn(route)
            return True
        moved = [self.sync_job(job) for job in self.server.all(JOB)]
        for pod in self.server.all(POD):
            match status(pod)["phase"]:
                case "Pending":
                    self.start_pod(pod)
                    moved.append(True)
                case "Running" if pod["spec"]["nodeName"] not in self._dead_nodes:
                    end(pod)
                    moved.append(True)
        return any(moved) or self._revive_nodes()

    def _is_done(self) -> bool:
        return all(
            status(session).get("phase") in FINAL_PHASES
            for kind in (BACKUP_SESSION, RESTORE_SESSION)
            for session in self.server.all(kind)
        ) and all(status(o).get("phase") == "Ready" for o in self.server.all(BACKUP_CONFIGURATION))

    def routes(self) -> Iterator[Route]:
        """Yield every key of ours that exists."""
        for resource, lane in (
            (REPOSITORY, REPOSITORY_LANE),
            (BACKUP_CONFIGURATION, CONFIGURATION_LANE),
            (BACKUP_SESSION, SESSION_LANE),
            (RESTORE_SESSION, RESTORE_LANE),
        ):
            for obj in self.server.all(resource):
                yield Route(lane, key_of(obj))
