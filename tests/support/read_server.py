"""A server for observers: it answers reads from a table, and tells what it was asked."""

from typing import Any

from controller.api.objects import Obj
from controller.api.resources import Resource
from controller.kube.errors import NotFound, NotServed


class ReadServer:
    """Answers from a table; lists come in pages of one object."""

    def __init__(self, *objects: tuple[Resource, Obj]) -> None:
        self.objects = list(objects)
        self.asked: list[str] = []
        self.not_served: set[Resource] = set()

    def get(self, resource: Resource, namespace: str, name: str, **_: Any) -> Obj:
        """Return an object."""
        self.asked.append(f"get {resource} {namespace}/{name}")
        if resource in self.not_served:
            raise NotServed("the server could not find the requested resource", code=404)
        for kind, obj in self.objects:
            if kind == resource and obj["metadata"]["name"] == name:
                return obj
        raise NotFound("no", code=404)

    def list_page(
        self, resource: Resource, namespace: str = "", *, continue_token: str = "", **given: Any
    ) -> Obj:
        """Return one page; a kind that is not served has none."""
        self.asked.append(f"list {resource} {namespace} {sorted(given.items())}")
        if resource in self.not_served:
            raise NotServed("the server could not find the requested resource", code=404)
        items = [obj for kind, obj in self.objects if kind == resource]
        at = int(continue_token or 0)
        more = str(at + 1) if at + 1 < len(items) else ""
        return {"items": items[at : at + 1], "metadata": {"continue": more}}
