"""The informers of all kinds that we watch, and how their changes reach the queue (D30)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from controller.api.objects import Obj, is_deleting
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    BACKUP_SESSION,
    CRD,
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
from controller.build.input import metrics_group
from controller.build.labels import SELECTOR
from controller.engine.informer import Informer
from controller.engine.queue import Priority, WorkQueue
from controller.engine.store import Change, ChangeType, IndexFunction, Projection
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
from controller.observe.routes import Route, Routes

SNAPSHOT_CRD = f"{VOLUME_SNAPSHOT.plural}.{VOLUME_SNAPSHOT.group}"


class InformerFactory(Protocol):
    """Builds an informer with the client, clock, stop event and metrics of the process."""

    def __call__(
        self,
        resource: Resource,
        *,
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
        optional: bool = False,
        projection: Projection | None = None,
        indexes: dict[str, IndexFunction] | None = None,
    ) -> Informer:
        """Return an informer that has not been started."""


@dataclass(frozen=True, slots=True)
class Informers:
    """One informer per kind, and the caches that they fill."""

    by_resource: dict[Resource, Informer]

    @property
    def all(self) -> Sequence[Informer]:
        """Return every informer."""
        return tuple(self.by_resource.values())

    @property
    def needed(self) -> Sequence[Informer]:
        """Return those without which nothing works."""
        return tuple(informer for informer in self.all if not informer.is_optional)

    def quiet_s(self) -> float:
        """Return the longest time for which a watch that is needed has heard nothing.

        A kind that a cluster need not have may be refused for good, by rights or by its own
        webhook: that must not end the backups that do without it.
        """
        return max(informer.quiet_s() for informer in self.needed)

    @property
    def caches(self) -> Caches:
        """Return the listers, by what they hold."""
        lister = {resource: informer.lister for resource, informer in self.by_resource.items()}
        snapshots = self.by_resource[VOLUME_SNAPSHOT]
        return Caches(
            repositories=lister[REPOSITORY],
            configurations=lister[BACKUP_CONFIGURATION],
            sessions=lister[BACKUP_SESSION],
            restores=lister[RESTORE_SESSION],
            functions=lister[FUNCTION],
            tasks=lister[TASK],
            jobs=lister[JOB],
            pods=lister[POD],
            cron_jobs=lister[CRON_JOB],
            service_accounts=lister[SERVICE_ACCOUNT],
            role_bindings=lister[ROLE_BINDING],
            claims=lister[PVC],
            snapshots=lister[VOLUME_SNAPSHOT],
            snapshots_served=snapshots.is_served,
            snapshots_defined=lambda: not snapshots.is_shut,
        )


def build_informers(make: InformerFactory) -> Informers:
    """Return the informers: our kinds whole, what we create by label and cut down."""
    invoker_indexes: dict[str, IndexFunction] = {BY_REPOSITORY: by_repository, BY_TASK: by_task}

    def child(resource: Resource) -> Informer:
        return make(resource, label_selector=SELECTOR, metadata_only=True, projection=project_child)

    return Informers(
        {
            REPOSITORY: make(REPOSITORY),
            BACKUP_CONFIGURATION: make(BACKUP_CONFIGURATION, indexes=invoker_indexes),
            BACKUP_SESSION: make(
                BACKUP_SESSION, indexes={BY_INVOKER: by_invoker, BY_PENDING: by_pending}
            ),
            RESTORE_SESSION: make(
                RESTORE_SESSION,
                indexes={**invoker_indexes, BY_SOURCE: by_source_of_restore},
            ),
            FUNCTION: make(FUNCTION),
            TASK: make(TASK),
            JOB: make(
                JOB, label_selector=SELECTOR, projection=project_job, indexes={BY_OWNER: by_owner}
            ),
            POD: make(
                POD, label_selector=SELECTOR, projection=project_pod, indexes={BY_OWNER: by_owner}
            ),
            CRON_JOB: make(CRON_JOB, label_selector=SELECTOR, projection=project_cron_job),
            SERVICE_ACCOUNT: child(SERVICE_ACCOUNT),
            ROLE_BINDING: child(ROLE_BINDING),
            PVC: make(
                PVC,
                label_selector=SELECTOR,
                projection=project_claim,
                indexes={BY_SESSION: by_session, BY_SOURCE: by_source_of_claim},
            ),
            CRD: make(CRD, field_selector=f"metadata.name={SNAPSHOT_CRD}", metadata_only=True),
            VOLUME_SNAPSHOT: make(
                VOLUME_SNAPSHOT,
                label_selector=SELECTOR,
                optional=True,
                projection=project_snapshot,
                indexes={BY_SESSION: by_session, BY_INVOKER: by_invoker_labels},
            ),
        }
    )


def connect_routes(informers: Informers, queue: WorkQueue) -> None:
    """Have every change add the keys that it concerns."""
    routes = Routes(informers.caches)
    targets = {
        REPOSITORY: routes.repository,
        BACKUP_CONFIGURATION: routes.configuration,
        BACKUP_SESSION: routes.session,
        RESTORE_SESSION: routes.restore,
        FUNCTION: routes.catalog,
        TASK: routes.catalog,
        JOB: routes.job,
        POD: routes.pod,
        CRON_JOB: routes.child,
        SERVICE_ACCOUNT: routes.child,
        ROLE_BINDING: routes.child,
        PVC: routes.claim,
        VOLUME_SNAPSHOT: routes.snapshot,
    }
    for resource, route in targets.items():
        informers.by_resource[resource].add_handler(_handler(route, queue))
    snapshots = informers.by_resource[VOLUME_SNAPSHOT]
    snapshots.on_served(_on_served(routes, queue))
    informers.by_resource[CRD].add_handler(_door(snapshots))


def _door(informer: Informer) -> Callable[[Change], None]:
    """Return the handler that lets an informer list while the CRD of its resource is there.

    Nothing can be created any more of a CRD that is being deleted.
    """

    def handle(change: Change) -> None:
        if change.new is None or is_deleting(change.new):
            informer.shut()
        else:
            informer.admit()

    return handle


def _on_served(routes: Routes, queue: WorkQueue) -> Callable[[], None]:
    def handle() -> None:
        for lane, key in routes.snapshotters():
            queue.add(lane, key, Priority.NORMAL)

    return handle


def connect_removals(informers: Informers, remove: Callable[[str], None]) -> None:
    """Have an invoker's group of pushed metrics deleted when it is gone (D29).

    `remove` takes the group's name. To be connected by the leader alone.
    """
    for resource in (BACKUP_CONFIGURATION, RESTORE_SESSION):
        informers.by_resource[resource].add_handler(_on_deletion(resource.kind, remove))


def _on_deletion(kind: str, remove: Callable[[str], None]) -> Callable[[Change], None]:
    def handle(change: Change) -> None:
        if change.type is ChangeType.DELETED:
            remove(metrics_group(kind, change.key.namespace, change.key.name))

    return handle


def _handler(
    route: Callable[[Obj | None, Obj | None], Iterator[Route]], queue: WorkQueue
) -> Callable[[Change], None]:
    def handle(change: Change) -> None:
        # A resync and the first list concern everybody: as if the object had just come.
        again = change.initial or change.type is ChangeType.RESYNC
        priority = Priority.LOW if again else Priority.NORMAL
        for lane, key in route(None if again else change.old, change.new):
            queue.add(lane, key, priority)

    return handle
