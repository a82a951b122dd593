"""Fixtures of the tests against a whole cluster on which Drey is installed (`make e2e`)."""

from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster, Space


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
    """A namespace of a module, for the steps of one flow: mark the module with `xdist_group`."""
    with cluster.space(request.node.name.rpartition("/")[2][5:-3]) as made:
        yield made
