"""Fixtures of the tests against a whole cluster on which Drey is installed (`make e2e`)."""

from collections.abc import Iterator
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # no types

from tests.support.cluster import Cluster, Space, provider
from tests.support.snapshots import Faults

FLOWS = (
    "test_backup_flow.py",
    "test_counts.py",
    "test_output.py",
    "test_restore_flow.py",
    "test_snapshot_counts.py",
    "test_snapshot_flow.py",
    "test_snapshot_targets.py",
)
"""Modules whose tests look at one run of something: they stay together on one worker."""


LONG = ("test_unreachable", "test_first_backups_at_once", "test_post_hook_does_not_wait")
"""Tests that take a minute and more begin first: else the last one runs alone."""


class FlowScheduling(LoadScopeScheduling):  # type: ignore[misc]  # as above
    """Hands out each test by itself, but the tests of a flow together.

    xdist's own `loadgroup` puts the group's name into the node id, which pytest 9.2 forbids.
    """

    def _split_scope(self, nodeid: str) -> str:
        module, _, _ = nodeid.partition("::")
        return module if module.endswith(FLOWS) else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FlowScheduling:
    """Schedule as above with every `-n`."""
    return FlowScheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put long tests first, after whatever else orders them; the sort keeps that order.

    On kind those go that it cannot run.
    """
    if provider() == "kind":
        native = [item for item in items if _needs_native(item)]
        config.hook.pytest_deselected(items=native)
        items[:] = [item for item in items if item not in native]
    items.sort(key=lambda item: not item.name.startswith(LONG))


def _needs_native(item: pytest.Item) -> bool:
    asked = getattr(item, "fixturenames", ())
    return "faults" in asked or item.get_closest_marker("native") is not None


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The running cluster, with Drey ready in it."""
    found = Cluster.current()
    found.kubectl(
        "-n", "drey", "rollout", "status", "deployment/drey", "--timeout=120s", timeout_s=130.0
    )
    return found


@pytest.fixture
def space(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Space]:
    """A namespace of the test's own, removed afterwards without waiting."""
    with cluster.space(request.node.name.removeprefix("test_")) as made:
        yield made


@pytest.fixture(scope="module")
def shared_space(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Space]:
    """A namespace of a module, for the steps of one flow: add the module to FLOWS."""
    with cluster.space(request.node.name.rpartition("/")[2][5:-3]) as made:
        yield made


@pytest.fixture
def faults(space: Space) -> Iterator[Faults]:
    """What the CSI driver does wrong in the test's namespace: nothing, until it is told."""
    made = Faults(space)
    yield made
    made.clear()
