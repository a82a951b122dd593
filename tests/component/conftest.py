"""What all component tests share."""

from collections.abc import Iterator

import pytest

from tests.support import apiserver as support


@pytest.fixture(scope="session")
def apiserver() -> Iterator[support.ApiServer]:
    """Run one API server for this test process (with xdist: one for each worker)."""
    with support.running() as server:
        yield server


@pytest.fixture(scope="session")
def crds(apiserver: support.ApiServer) -> support.ApiServer:
    """Install our CustomResourceDefinitions; the same server as `apiserver`."""
    apiserver.install_crds()
    return apiserver
