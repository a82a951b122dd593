"""Carries out a plan: the only place that writes for a reconciler.

From left to right, up to the first write that does not succeed. Every write is safe to repeat and
safe on a stale view: what it relies on is sent along as a precondition, or looked up live right
before (reference/style.md section 6 has what the API server really checks).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from controller.api.objects import (
    Key,
    Obj,
    annotations_of,
    controller_uid,
    finalizers_of,
    is_deleting,
    key_of,
    labels_of,
    meta,
    name_of,
    namespace_of,
    resource_version_of,
    uid_of,
)
from controller.api.resources import Resource
from controller.build.labels import CREATED_BY
from controller.engine.metrics import Metrics
from controller.kube.client import KubeClient, find
from controller.kube.errors import (
    AlreadyExists,
    Conflict,
    Invalid,
    KubeError,
    NotFound,
    Unreachable,
    Verdict,
    classify,
)
from controller.plan import (
    FOREIGN_NAMESAKE,
    Apply,
    CreateOnce,
    Delete,
    Finalizer,
    Plan,
    Refusal,
    SetStatus,
    Write,
)

FORMER_NAMESAKE = "FormerNamesake"
"""The reason of a refusal: it is the child of a namesake of our owner, which is gone. The garbage
collector is expected to remove it, so this is to be believed only when it has not for long."""

Versions = Mapping[tuple[Resource, Key], str]


@dataclass(slots=True)
class Execution:
    """How far a plan came. At most one of `refusal` and `error` is set.

    `writes` counts the writing requests that were sent; `versions` has the resourceVersion of
    each object that was written and still exists.
    """

    writes: int = 0
    versions: dict[tuple[Resource, Key], str] = field(default_factory=dict)
    refusal: Refusal | None = None
    error: KubeError | None = None


class _Refused(Exception):
    """A check of our own says no."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


class Executor:
    """Stateless apart from its counters; used by all loops at once."""

    def __init__(
        self,
        client: KubeClient,
        *,
        metrics: Metrics | None = None,
        may_write: Callable[[], bool] = lambda: True,
        on_written: Callable[[Resource, Obj], None] = lambda _resource, _obj: None,
    ) -> None:
        """`may_write` is asked before each write: false once the Lease may have been lost.

        `on_written` gets each object as the API server answered it: read your own writes.
        """
        self._client = client
        self._metrics = metrics
        self._may_write = may_write
        self._on_written = on_written

    def execute(self, plan: Plan) -> Execution:
        """Write; failures are values, so that what was written before them is told too."""
        done = Execution()
        for write in plan.writes:
            if not self._may_write():
                done.error = Unreachable("this process no longer leads", reason="NotLeading")
                break
            try:
                self._carry_out(write, done)
            except _Refused as refused:
                done.refusal = Refusal(write, refused.reason, refused.message)
            except KubeError as err:
                if classify(err) is Verdict.REFUSED:
                    done.refusal = Refusal(write, err.reason, err.message)
                else:
                    done.error = err
            if done.refusal or done.error:
                break
        return done

    def _carry_out(self, write: Write, done: Execution) -> None:
        match write:
            case Apply():
                self._apply(write, done)
            case CreateOnce():
                self._create_once(write, done)
            case SetStatus():
                self._set_status(write, done)
            case Finalizer():
                self._finalizer(write, done)
            case Delete():
                self._delete(write, done)
            case _:
                assert_never(write)

    def _apply(self, write: Apply, done: Execution) -> None:
        """Apply; a child only where nobody else's object has its name.

        An owned object that exists is applied with the uid that was seen: should it be replaced
        in this moment, the API server answers 409. A resourceVersion in the body is such a
        precondition too; that of an earlier write of this plan takes its place.
        """
        body, owner = write.body, controller_uid(write.body)
        if owner:
            live = find(self._client, write.resource, namespace_of(body), name_of(body))
            if live is not None:
                _check_owner(write.resource, live, body)
                body = {**body, "metadata": {**meta(body), "uid": uid_of(live)}}
        moved_on = done.versions.get((write.resource, key_of(body)))
        if moved_on and resource_version_of(body):
            body = {**body, "metadata": {**meta(body), "resourceVersion": moved_on}}
        self._count(done, "apply", write.resource)
        self._written(done, write.resource, self._client.apply(write.resource, body))

    def _create_once(self, write: CreateOnce, done: Execution) -> None:
        resource, body = write.resource, write.body
        self._count(done, "create", resource)
        try:
            created = self._client.create(resource, namespace_of(body), _identified(write))
        except AlreadyExists:
            live = find(self._client, resource, namespace_of(body), name_of(body))
            if live is None:
                raise Conflict("it existed a moment ago and is gone") from None
            _check_owner(resource, live, body)
            if CREATED_BY not in labels_of(live):
                raise _Refused(
                    FOREIGN_NAMESAKE, f"{_place(resource, live)} exists without {CREATED_BY}"
                ) from None
        else:
            self._written(done, resource, created)

    def _set_status(self, write: SetStatus, done: Execution) -> None:
        ref = write.ref
        if not (ref.uid and ref.resource_version):
            raise ValueError(f"status of {ref} without uid and resourceVersion")
        metadata = {"name": ref.name, "uid": ref.uid, "resourceVersion": ref.resource_version}
        if ref.namespace:
            metadata["namespace"] = ref.namespace
        self._count(done, "update_status", ref.resource)
        body = {"metadata": metadata, "status": write.status}
        try:
            self._written(done, ref.resource, self._client.put_status(ref.resource, body))
        except NotFound as err:
            raise Conflict("the object is gone", code=err.code, reason=err.reason) from err

    def _finalizer(self, write: Finalizer, done: Execution) -> None:
        ref = write.ref
        live = find(self._client, ref.resource, ref.namespace, ref.name)
        if live is None or (ref.uid and uid_of(live) != ref.uid):
            if write.present:
                raise Conflict("the object is gone")
            return
        ops = _finalizer_ops(live, write)
        if not ops:
            return
        if write.present and is_deleting(live):
            raise Conflict("the object is being deleted: it takes no new finalizer")
        if ref.resource_version and resource_version_of(live) != ref.resource_version:
            raise Conflict("the object has changed since it was observed")
        self._count(done, "patch", ref.resource)
        try:
            patched = self._client.json_patch(ref.resource, ref.namespace, ref.name, ops)
        except NotFound as err:
            raise Conflict("the object is gone", code=err.code, reason=err.reason) from err
        except Invalid as err:
            # how the API server answers a `test` that fails; nothing else in it can be wrong
            raise Conflict("the object has changed", code=err.code, reason=err.reason) from err
        self._written(done, ref.resource, patched)

    def _delete(self, write: Delete, done: Execution) -> None:
        ref = write.ref
        self._count(done, "delete", ref.resource)
        try:
            self._client.delete(ref.resource, ref.namespace, ref.name, uid=ref.uid)
        except (NotFound, Conflict):
            return  # gone, or gone and succeeded by a namesake

    def _count(self, done: Execution, verb: str, resource: Resource) -> None:
        done.writes += 1
        if self._metrics:
            self._metrics.writes.labels(verb, resource.kind).inc()

    def _written(self, done: Execution, resource: Resource, obj: Obj) -> None:
        key = Key(namespace_of(obj), name_of(obj))
        done.versions[resource, key] = resource_version_of(obj)
        self._on_written(resource, obj)


def _identified(write: CreateOnce) -> Obj:
    identity = {"apiVersion": write.resource.api_version, "kind": write.resource.kind}
    return identity | dict(write.body)


def _check_owner(resource: Resource, live: Obj, body: Obj) -> None:
    if controller_uid(live) != controller_uid(body):
        if _is_of_former_life(live, body):
            raise _Refused(
                FORMER_NAMESAKE,
                f"{_place(resource, live)} was made for a namesake of its owner that is gone, and"
                " is still there: delete it, and see which finalizers keep it; it is not touched",
            )
        raise _Refused(
            FOREIGN_NAMESAKE,
            f"{_place(resource, live)} exists and belongs to somebody else:"
            " delete or rename it, it is not touched",
        )


def _is_of_former_life(live: Obj, body: Obj) -> bool:
    """Tell whether an object's owner was deleted, and made again under its name.

    A name is one object's at a time: of two uids one is gone, and the garbage collector is about to
    remove what it owned; or ours is, and the next look says so.
    """
    before, now = (
        next(
            (
                (owner.get("apiVersion"), owner.get("kind"), owner.get("name"))
                for owner in meta(obj).get("ownerReferences") or ()
                if owner.get("controller")
            ),
            None,
        )
        for obj in (live, body)
    )
    return before is not None and None not in before and before == now


def _place(resource: Resource, obj: Obj) -> str:
    return f"{resource.kind} {Key(namespace_of(obj), name_of(obj))}"


def _finalizer_ops(live: Obj, write: Finalizer) -> list[Obj]:
    """Return the patch that makes it so, and tests what it relies on; nothing when it is so."""
    finalizers = list(finalizers_of(live))
    ops: list[Obj] = list(_annotation_ops(live, write))
    if write.name in finalizers and not write.present:
        path = f"/metadata/finalizers/{finalizers.index(write.name)}"
        ops += [{"op": "test", "path": path, "value": write.name}, {"op": "remove", "path": path}]
    elif write.name not in finalizers and write.present and finalizers:
        ops.append({"op": "add", "path": "/metadata/finalizers/-", "value": write.name})
    elif write.name not in finalizers and write.present:
        ops.append({"op": "add", "path": "/metadata/finalizers", "value": [write.name]})
    tests: list[Obj] = [
        {"op": "test", "path": "/metadata/uid", "value": uid_of(live)},
        {"op": "test", "path": "/metadata/resourceVersion", "value": resource_version_of(live)},
    ]
    return [*tests, *ops] if ops else []


def _annotation_ops(live: Obj, write: Finalizer) -> Iterator[Obj]:
    have = annotations_of(live)
    if not write.present:
        for key in sorted(write.annotations.keys() & have.keys()):
            yield {"op": "remove", "path": _annotation_path(key)}
        return
    if write.annotations and meta(live).get("annotations") is None:
        yield {"op": "add", "path": "/metadata/annotations", "value": dict(write.annotations)}
        return
    for key, value in write.annotations.items():
        if have.get(key) != value:
            yield {"op": "add", "path": _annotation_path(key), "value": value}


def _annotation_path(key: str) -> str:
    return f"/metadata/annotations/{key.replace('~', '~0').replace('/', '~1')}"
