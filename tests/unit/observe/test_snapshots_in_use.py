"""Which VolumeSnapshots retention has to leave: somebody is about to restore them."""

from typing import Any

from controller.api.objects import Key, Obj
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    BACKUP_SESSION,
    PVC,
    RESTORE_SESSION,
    VOLUME_SNAPSHOT,
    Resource,
)
from controller.observe.routes import SESSION_LANE
from controller.reconcile.snapshot_observed import SnapshotSessionObserved
from tests.support.builders import NAMESPACE, configuration, configuration_spec, session
from tests.support.claim_restores import claim, claim_restore, claim_spec, template
from tests.support.storage_objects import snapshot
from tests.support.toy_cluster import ToyCluster


def in_use(*more: tuple[Resource, Obj]) -> frozenset[str]:
    """Return those of three VolumeSnapshots that a session finds in use."""
    spec = configuration_spec(driver="VolumeSnapshotter")
    cluster = ToyCluster(
        (BACKUP_CONFIGURATION, configuration(spec=spec)),
        (BACKUP_SESSION, session()),
        *((VOLUME_SNAPSHOT, snapshot(name, ready=True)) for name in ("a", "b", "c")),
        *more,
    )
    seen = cluster.process.lanes[SESSION_LANE].observe(Key(NAMESPACE, "nightly-1"), None)
    assert isinstance(seen, SnapshotSessionObserved)
    assert len(seen.kept) == 3
    return seen.in_use


def restore_of(name: str, **fields: Any) -> tuple[Resource, Obj]:
    """Return a restore that names a VolumeSnapshot."""
    source = {"kind": "VolumeSnapshot", "name": name}
    spec = claim_spec(template(dataSource=source))
    return RESTORE_SESSION, claim_restore(spec=spec, **fields)


def test_a_restore_that_has_not_ended_uses_what_it_names() -> None:
    """Whether it waits, runs, or is invalid and may be mended; one that has ended does not."""
    for phase in ("Pending", "Running", "Invalid"):
        assert in_use(restore_of("a", status={"phase": phase})) == {"a"}
    assert in_use(restore_of("a", status={"phase": "Failed"})) == frozenset()
    assert in_use(restore_of("a", metadata={"namespace": "elsewhere"})) == frozenset()


def test_a_claim_that_is_not_bound_uses_its_source() -> None:
    """Its restore ended Unknown, and the pod that it waits for has yet to come."""
    ended = restore_of("b", status={"phase": "Unknown"})
    assert in_use(ended, (PVC, claim(source="b"))) == {"b"}
    assert in_use(ended, (PVC, claim(source="b", phase="Bound"))) == frozenset()
