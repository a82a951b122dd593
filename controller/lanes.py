"""The loops that there are: for each lane its kind, who observes, who plans, and the workers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controller.api.objects import Key, Obj
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    BACKUP_SESSION,
    FUNCTION,
    REPOSITORY,
    RESTORE_SESSION,
    Resource,
)
from controller.observe.configurations import ConfigurationObserver
from controller.observe.observers import (
    CatalogObserver,
    RepositoryObserver,
    RestoreObserver,
    SessionObserver,
)
from controller.observe.routes import (
    CATALOG_LANE,
    CONFIGURATION_LANE,
    REPOSITORY_LANE,
    RESTORE_LANE,
    SESSION_LANE,
)
from controller.observe.sight import Sight
from controller.plan import Plan, Refusal
from controller.reconcile import (
    backup_configuration,
    catalog,
    repository,
    restore,
    session,
)

NAMES = (REPOSITORY_LANE, CONFIGURATION_LANE, SESSION_LANE, RESTORE_LANE, CATALOG_LANE)


@dataclass(frozen=True, slots=True)
class Lane:
    """One loop to be: the kind, who observes and plans for it, and how many workers it has."""

    lane: str
    resource: Resource
    observer: Any
    decide: Callable[[Any, datetime], Plan]
    workers: int

    def observe(self, key: Key, refusal: Refusal | None) -> Any:
        """See `Reconciler.observe`."""
        return self.observer.observe(key, refusal)

    def plan(self, observed: Any, now: datetime) -> Plan:
        """See `Reconciler.plan`."""
        return self.decide(observed, now)


def build_lanes(sight: Sight, catalogue: Sequence[Obj], *, workers: int) -> tuple[Lane, ...]:
    """Return the lanes in the order in which they start: the catalogue before who uses it."""
    # BackupSessions have one worker: which of several first backups may initialise a repository,
    # and which session may quiesce an application, is decided by looking at the others, one after
    # another (D2, D17).
    return (
        Lane(CATALOG_LANE, FUNCTION, CatalogObserver(sight, catalogue), catalog.plan, 1),
        Lane(REPOSITORY_LANE, REPOSITORY, RepositoryObserver(sight), repository.plan, workers),
        Lane(
            CONFIGURATION_LANE,
            BACKUP_CONFIGURATION,
            ConfigurationObserver(sight),
            backup_configuration.plan,
            workers,
        ),
        Lane(SESSION_LANE, BACKUP_SESSION, SessionObserver(sight), session.plan, 1),
        Lane(RESTORE_LANE, RESTORE_SESSION, RestoreObserver(sight), restore.plan, workers),
    )
