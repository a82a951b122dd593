"""The write algebra: what a reconciler may ask for, as values.

A plan is data. `controller.reconcile` makes it without I/O, `controller.engine.executor` carries it
out, from left to right, and stops at the first write that fails. No write can use the result of
another: the next turn sees it. Five verbs; a sixth needs an ADR.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from controller.api.metrics import Sample
from controller.api.objects import (
    NO_UID,
    Obj,
    Uid,
    name_of,
    namespace_of,
    resource_version_of,
    uid_of,
)
from controller.api.resources import Resource


@dataclass(frozen=True, slots=True)
class Ref:
    """One existing object; `uid` and `resource_version` are preconditions where not empty."""

    resource: Resource
    namespace: str
    name: str
    uid: Uid = NO_UID
    resource_version: str = ""

    @classmethod
    def to(cls, resource: Resource, obj: Obj) -> "Ref":
        """Return the reference to an object as it was read."""
        return cls(resource, namespace_of(obj), name_of(obj), uid_of(obj), resource_version_of(obj))

    @classmethod
    def by_uid(cls, resource: Resource, obj: Obj) -> "Ref":
        """Return the reference to the same object, whatever was written of it since."""
        return cls(resource, namespace_of(obj), name_of(obj), uid_of(obj))

    def __str__(self) -> str:
        """Return `Kind namespace/name`."""
        where = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.resource.kind} {where}"


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply of the whole intent, field manager `drey`, forced.

    The body of a child carries its controller ownerReference; when an object of that name exists
    and has another controller, the write is refused. To set annotations on an object that is not
    ours, the body carries nothing but `metadata` with the object's uid: with it no husk can come
    into being (reference/style.md section 6). A resourceVersion in it is a precondition: the object
    is as it was read, but for earlier writes of the same plan.
    """

    resource: Resource
    body: Obj


@dataclass(frozen=True, slots=True)
class CreateOnce:
    """Create an object with a derived name.

    That it exists already, with the same controller uid and the label `drey.dev/created-by`, is
    success; somebody else's namesake is a refusal.
    """

    resource: Resource
    body: Obj


@dataclass(frozen=True, slots=True)
class SetStatus:
    """Replace the whole status by PUT. `ref` must carry uid and resourceVersion (D12)."""

    ref: Ref
    status: Obj


@dataclass(frozen=True, slots=True)
class Finalizer:
    """Add or remove one finalizer by JSON patch, with tests on uid and resourceVersion.

    `annotations` come and go with it, in the same request.
    """

    ref: Ref
    name: str
    present: bool
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete with the uid as precondition, in the background. That it is gone is success."""

    ref: Ref


FOREIGN_NAMESAKE = "ForeignNamesake"
"""The reason of a refusal: an object of the derived name exists and is not ours (D20)."""

Write = Apply | CreateOnce | SetStatus | Finalizer | Delete


@dataclass(frozen=True, slots=True)
class Note:
    """One Kubernetes Event on `regarding`. Posting it never fails or delays a reconcile."""

    regarding: Ref
    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    component: str = ""


@dataclass(frozen=True, slots=True)
class Push:
    """Samples for one group of the Pushgateway, in place of those of the same names.

    Like a Note on the side: at most one attempt, which never fails or delays a reconcile (ADR 8).
    """

    group: str
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A write that the API server or an ownership check refused: no lost race and no outage.

    The same turn plans once more with it, so that the reason becomes a condition.
    """

    write: Write
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Writes in order, what to tell on the side, when to look again at the latest, and log facts.

    `facts` are keys of the turn's one log line; the loop prints it at INFO when something was
    written or when the facts differ from those of the previous turn of the same key.
    """

    writes: tuple[Write, ...] = ()
    notes: tuple[Note, ...] = ()
    pushes: tuple[Push, ...] = ()
    requeue_after_s: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
