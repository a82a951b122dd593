"""An API server that does not say what there is of some kinds."""

from typing import Any

import pytest

from controller.api.objects import Obj
from controller.api.resources import Resource
from controller.kube.errors import Forbidden, KubeError, NotServed, ServerFault

NOT_SERVED = NotServed("the server could not find the requested resource", code=404)
REFUSALS = (
    Forbidden('User "drey" cannot do that', code=403),
    ServerFault("a webhook is broken", code=500),
    NOT_SERVED,
)
each_refusal = pytest.mark.parametrize("error", REFUSALS, ids=["403", "500", "404"])


class Unreadable:
    """Refuses to tell of some kinds for as long as `error` is there; counts how often."""

    def __init__(self, server: Any, error: KubeError, *resources: Resource) -> None:
        self.error: KubeError | None = error
        self.count = 0
        get, list_page = server.get, server.list_page

        def get_or_refuse(resource: Resource, namespace: str, name: str, **more: Any) -> Obj:
            self._check(resource, resources)
            found: Obj = get(resource, namespace, name, **more)
            return found

        def list_or_refuse(resource: Resource, namespace: str = "", **more: Any) -> Obj:
            self._check(resource, resources)
            found: Obj = list_page(resource, namespace, **more)
            return found

        server.get, server.list_page = get_or_refuse, list_or_refuse

    def _check(self, resource: Resource, refused: tuple[Resource, ...]) -> None:
        if resource in refused and self.error is not None:
            self.count += 1
            raise self.error
