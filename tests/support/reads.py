"""Notes what the controller asks of the API server of a toy cluster."""

from typing import Any

import pytest

from controller.api.objects import Obj
from tests.support.toy_cluster import ToyCluster


class Reads:
    """Notes what the controller reads from a server."""

    def __init__(self, cluster: ToyCluster, patch: pytest.MonkeyPatch) -> None:
        self.seen: list[str] = []
        server = cluster.server
        get, list_page = server.get, server.list_page

        def counted_get(resource: Any, namespace: str, name: str, **options: Any) -> Obj:
            self.seen.append(f"get {resource}")
            return get(resource, namespace, name, **options)

        def counted_list(resource: Any, namespace: str = "", **options: Any) -> Obj:
            self.seen.append(f"list {resource}")
            return list_page(resource, namespace, **options)

        patch.setattr(server, "get", counted_get)
        patch.setattr(server, "list_page", counted_list)

    def take(self) -> list[str]:
        """Return what was read since the last time."""
        seen, self.seen = self.seen, []
        return seen
