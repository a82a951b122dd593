"""Fixtures of the tests against a whole cluster on which Drey is installed (`make e2e`)."""

import re
import uuid
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
    word = re.sub("[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_"))[:30]
    name = f"{word.strip('-')}-{uuid.uuid4().hex[:5]}"
    cluster.kubectl("create", "namespace", name)
    cluster.until(
        "the namespace's ServiceAccount", lambda: cluster.get("serviceaccount", "default", name)
    )
    yield Space(cluster, name)
    cluster.kubectl("delete", "namespace", name, "--wait=false")
