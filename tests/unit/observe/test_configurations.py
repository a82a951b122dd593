"""What is seen of a BackupConfiguration of either driver, and what that costs."""

from typing import Any

import pytest

from controller.api.objects import Key, Obj
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    CRON_JOB,
    PVC,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    Resource,
)
from controller.observe.routes import CONFIGURATION_LANE
from controller.reconcile.observed import ConfigurationObserved, References
from tests.support.builders import NAMESPACE, configuration
from tests.support.snapshot_orders import claim, snapshot_spec, stateful_set
from tests.support.toy_cluster import ToyCluster

KEY = Key(NAMESPACE, "nightly")
LABELS = {"drey.dev/created-by": "drey"}


def look(*objects: tuple[Resource, Obj], spec: Obj | None = None, **fields: Any) -> Any:
    """Return what is seen of a configuration among these objects, and the live reads it took."""
    raw = configuration(spec=spec or snapshot_spec(), **fields)
    cluster = ToyCluster((BACKUP_CONFIGURATION, raw), *objects)
    server: Any = cluster.server
    asked: list[str] = []
    get, list_page = server.get, server.list_page

    def counted_get(resource: Resource, namespace: str, name: str, **more: Any) -> Obj:
        asked.append(f"get {resource} {name}")
        found: Obj = get(resource, namespace, name, **more)
        return found

    def counted_list(resource: Resource, namespace: str = "", **more: Any) -> Obj:
        asked.append(f"list {resource}")
        found: Obj = list_page(resource, namespace, **more)
        return found

    server.get, server.list_page = counted_get, counted_list
    seen = cluster.process.lanes[CONFIGURATION_LANE].observe(KEY, None)
    assert isinstance(seen, ConfigurationObserved)
    return seen, asked


@pytest.mark.parametrize(
    ("replicas", "asked"),
    [
        (1, ["get StatefulSet db", "get PersistentVolumeClaim data-db-0"]),
        (20, ["get StatefulSet db", "list PersistentVolumeClaim"]),
    ],
)
def test_a_workload_is_read_with_its_claims(replicas: int, asked: list[str]) -> None:
    """One read for it, few for its claims; no Repository, no Secret."""
    names = [f"data-db-{ordinal}" for ordinal in range(replicas)]
    seen, found = look(
        (STATEFUL_SET, stateful_set(replicas=replicas)),
        *((PVC, claim(name)) for name in (*names, "another")),
    )
    assert found == asked
    assert list(seen.claims_found) == names
    assert seen.target["kind"] == "StatefulSet"
    assert seen.references == References()
    assert seen.snapshots_served is True


def test_a_claim_is_its_own_claim() -> None:
    """It is read once."""
    target = {"ref": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "a"}}
    seen, asked = look((PVC, claim("a")), spec=snapshot_spec(target=target))
    assert asked == ["get PersistentVolumeClaim a"]
    assert seen.claims_found == {"a": seen.target}


def test_a_target_that_is_missing() -> None:
    """There are no claims to look for."""
    seen, asked = look()
    assert (seen.target, seen.claims_found, asked) == (None, None, ["get StatefulSet db"])


@pytest.mark.parametrize(
    "spec",
    [
        snapshot_spec(
            target={
                "ref": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db"},
                "replicas": 2_000_000_000,
            }
        ),
        snapshot_spec(target={"ref": {"kind": "Secret", "name": "db"}}),
        snapshot_spec(target=None),
    ],
    ids=["replicas", "kind", "none"],
)
def test_nothing_is_read_for_a_spec_that_is_wrong(spec: Obj) -> None:
    """What it names may be anything, and as many as it likes."""
    seen, asked = look((STATEFUL_SET, stateful_set()), spec=spec)
    assert (seen.target, seen.claims_found, asked) == (None, None, [])


def test_nothing_is_read_for_what_is_being_deleted() -> None:
    """Its children go by themselves."""
    metadata = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["stash.appscode.com"]}
    _, asked = look((STATEFUL_SET, stateful_set()), metadata=metadata)
    assert asked == []


def test_children_are_told_apart_by_kind_and_name() -> None:
    """The identity of the trigger and that of the Jobs; what others own is not ours to see."""

    def child(name: str) -> dict[str, Any]:
        return {
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "uid": f"uid-of-{name}",
                "labels": LABELS,
            }
        }

    trigger, jobs = "stash-trigger-nightly", "backupconfiguration-nightly-0"
    kinds = ((SERVICE_ACCOUNT, trigger), (SERVICE_ACCOUNT, jobs), (ROLE_BINDING, jobs))
    seen, _ = look(*((kind, child(name)) for kind, name in kinds), (CRON_JOB, child("another")))
    assert seen.children.keys() == {(kind.kind, name) for kind, name in kinds}
