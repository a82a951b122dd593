"""A `KubeClient` in memory, for tests of who calls it and not of the API server.

It knows existence, uids, resourceVersions and preconditions, and can be told to fail. What the
real API server does is the component tests' matter.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from controller.api.objects import Obj
from controller.api.resources import Resource
from controller.kube.errors import AlreadyExists, Conflict, Invalid, KubeError, NotFound


class FakeKube:
    """Objects by (kind, namespace, name); `calls` has every request; `fail` makes the next fail."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.calls: list[tuple[str, str]] = []
        self.bodies: list[Any] = []
        self._failures: list[tuple[str, KubeError]] = []
        self._versions = itertools.count(1)

    def fail(self, verb: str, *errors: KubeError) -> None:
        """Have the next requests of a verb fail, one after the other."""
        self._failures += [(verb, error) for error in errors]

    def put_object(self, resource: Resource, body: Obj) -> Obj:
        """Store an object as if somebody else had written it."""
        m = body["metadata"]
        key = (resource.kind, m.get("namespace", ""), m["name"])
        old = self.objects.get(key, {"metadata": {"uid": f"uid-{next(self._versions)}"}})
        metadata = {
            "uid": old["metadata"]["uid"],
            **m,
            "resourceVersion": str(next(self._versions)),
        }
        self.objects[key] = {**body, "metadata": metadata}
        return self.objects[key]

    def get(self, resource: Resource, namespace: str, name: str, **_: Any) -> Obj:
        """See `KubeClient.get`."""
        self._call("get", resource)
        return self._live(resource, namespace, name)

    def create(self, resource: Resource, namespace: str, body: Obj, **_: Any) -> Obj:
        """See `KubeClient.create`."""
        self._call("create", resource, body)
        if (resource.kind, namespace, body["metadata"]["name"]) in self.objects:
            raise AlreadyExists("it exists")
        return self.put_object(resource, body)

    def apply(self, resource: Resource, body: Obj, **_: Any) -> Obj:
        """See `KubeClient.apply`; the body replaces the object."""
        self._call("apply", resource, body)
        m = body["metadata"]
        live = self.objects.get((resource.kind, m.get("namespace", ""), m["name"]))
        if m.get("uid") and (live is None or live["metadata"]["uid"] != m["uid"]):
            raise Conflict("uid mismatch")
        version = m.get("resourceVersion")
        if version and (live is None or live["metadata"]["resourceVersion"] != version):
            raise Conflict("the object has been modified")
        return self.put_object(resource, body)

    def put(self, resource: Resource, body: Obj, **_: Any) -> Obj:
        """See `KubeClient.put`."""
        self._call("update", resource, body)
        self._check(resource, body)
        return self.put_object(resource, body)

    def put_status(self, resource: Resource, body: Obj, **_: Any) -> Obj:
        """See `KubeClient.put_status`."""
        self._call("update_status", resource, body)
        live = self._check(resource, body)
        return self.put_object(resource, {**live, "status": body["status"]})

    def json_patch(
        self, resource: Resource, namespace: str, name: str, ops: Sequence[Obj], **_: Any
    ) -> Obj:
        """See `KubeClient.json_patch`; knows metadata, finalizers and annotations."""
        self._call("patch", resource, list(ops))
        live = self._live(resource, namespace, name)
        metadata = dict(live["metadata"])
        finalizers = list(metadata.get("finalizers", ()))
        for op in ops:
            path = op["path"].split("/")[2:]
            if path[0] == "annotations":
                metadata["annotations"] = _annotated(metadata.get("annotations"), op, path[1:])
                continue
            if op["op"] == "test":
                actual = finalizers[int(path[1])] if len(path) > 1 else metadata[path[0]]
                if actual != op["value"]:
                    raise Invalid("the server rejected our request")
            elif op["op"] == "remove":
                del finalizers[int(path[1])]
            elif path[1:] == ["-"]:
                finalizers.append(op["value"])
            else:
                finalizers = op["value"]
        return self.put_object(
            resource, {**live, "metadata": metadata | {"finalizers": finalizers}}
        )

    def merge_patch(
        self, resource: Resource, namespace: str, name: str, patch: Obj, **_: Any
    ) -> Obj:
        """See `KubeClient.merge_patch`."""
        self._call("patch", resource, patch)
        return self.put_object(resource, _merged(self._live(resource, namespace, name), patch))

    def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str = "", **_: Any
    ) -> None:
        """See `KubeClient.delete`."""
        self._call("delete", resource)
        live = self._live(resource, namespace, name)
        if uid and live["metadata"]["uid"] != uid:
            raise Conflict("uid")
        del self.objects[resource.kind, namespace, name]

    def list_page(self, resource: Resource, namespace: str = "", **_: Any) -> Obj:
        """Not needed so far."""
        raise NotImplementedError

    def watch(self, resource: Resource, namespace: str = "", **_: Any) -> Any:
        """Not needed so far."""
        raise NotImplementedError

    def _call(self, verb: str, resource: Resource, body: Any = None) -> None:
        self.calls.append((verb, resource.kind))
        self.bodies.append(body)
        for i, (failing, error) in enumerate(self._failures):
            if failing == verb:
                del self._failures[i]
                raise error

    def _live(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        try:
            return self.objects[resource.kind, namespace, name]
        except KeyError:
            raise NotFound(f"{resource} {namespace}/{name}") from None

    def _check(self, resource: Resource, body: Obj) -> dict[str, Any]:
        m = body["metadata"]
        live = self._live(resource, m.get("namespace", ""), m["name"])
        for field in ("uid", "resourceVersion"):
            if m.get(field) and m[field] != live["metadata"][field]:
                raise Conflict(field)
        return live


def _annotated(old: Obj | None, op: Obj, path: Sequence[str]) -> Obj:
    """Return annotations after one operation; into a map that is not there none can be added."""
    if not path:
        return dict(op["value"])
    if old is None:
        raise Invalid("the server rejected our request")
    key = path[0].replace("~1", "/").replace("~0", "~")
    if op["op"] == "remove":
        return {name: value for name, value in old.items() if name != key}
    return {**old, key: op["value"]}


def _merged(target: Any, patch: Any) -> Any:
    """Merge as RFC 7386 says: None removes, objects are merged, anything else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        result[key] = _merged(result.get(key), value)
        if value is None:
            del result[key]
    return result
