"""Read access to raw Kubernetes objects.

Objects travel as the JSON that the API server sent (unknown fields survive, nothing is copied).
They are shared between threads: nobody may change one that was handed out.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NewType

Obj = Mapping[str, Any]
"""One Kubernetes object, or a part of one, as parsed JSON. Read-only by convention and by type."""

Uid = NewType("Uid", str)
NO_UID = Uid("")


class Key(NamedTuple):
    """Namespace and name. The namespace of a cluster-scoped object is empty."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """Return `namespace/name`, or the bare name of a cluster-scoped object."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


_EMPTY: Obj = {}


def meta(obj: Obj) -> Obj:
    """Return `metadata`, empty when absent."""
    return obj.get("metadata") or _EMPTY


def spec(obj: Obj) -> Obj:
    """Return `spec`, empty when absent: it is optional in every published kind."""
    return obj.get("spec") or _EMPTY


def status(obj: Obj) -> Obj:
    """Return `status`, empty when absent."""
    return obj.get("status") or _EMPTY


def key_of(obj: Obj) -> Key:
    """Return the namespace and name of an object."""
    m = meta(obj)
    return Key(m.get("namespace") or "", m["name"])


def name_of(obj: Obj) -> str:
    """Return `metadata.name`."""
    return str(meta(obj)["name"])


def namespace_of(obj: Obj) -> str:
    """Return `metadata.namespace`, empty for a cluster-scoped object."""
    return str(meta(obj).get("namespace") or "")


def uid_of(obj: Obj) -> Uid:
    """Return `metadata.uid`, empty for an object that was not read from a server."""
    return Uid(meta(obj).get("uid") or "")


def resource_version_of(obj: Obj) -> str:
    """Return `metadata.resourceVersion`, empty for an object that was not read from a server."""
    return str(meta(obj).get("resourceVersion") or "")


def generation_of(obj: Obj) -> int:
    """Return `metadata.generation`, 0 when absent."""
    return int(meta(obj).get("generation") or 0)


def labels_of(obj: Obj) -> Mapping[str, str]:
    """Return `metadata.labels`, empty when absent."""
    return meta(obj).get("labels") or {}


def annotations_of(obj: Obj) -> Mapping[str, str]:
    """Return `metadata.annotations`, empty when absent."""
    return meta(obj).get("annotations") or {}


def finalizers_of(obj: Obj) -> Sequence[str]:
    """Return `metadata.finalizers`, empty when absent."""
    return meta(obj).get("finalizers") or ()


def is_deleting(obj: Obj) -> bool:
    """Tell whether the object has a deletionTimestamp."""
    return bool(meta(obj).get("deletionTimestamp"))


def is_live(pod: Obj) -> bool:
    """Tell whether a process of a pod may run."""
    return status(pod).get("phase") not in ("Succeeded", "Failed")


def job_condition(job: Obj | None, kind: str) -> Obj | None:
    """Return the condition of a Job if it is True: Complete or Failed, or None."""
    for condition in dig(job, "status", "conditions") or ():
        if condition.get("type") == kind and condition.get("status") == "True":
            found: Obj = condition
            return found
    return None


def is_finished(job: Obj) -> bool:
    """Tell whether a Job has ended: no pod of it starts any more."""
    return any(job_condition(job, kind) for kind in ("Complete", "Failed"))


def controller_uid(obj: Obj) -> Uid:
    """Return the uid of the owner marked `controller: true`, empty when there is none."""
    for owner in meta(obj).get("ownerReferences") or ():
        if owner.get("controller"):
            return Uid(owner.get("uid") or "")
    return Uid("")


def dig(obj: Any, *path: str | int) -> Any:
    """Follow keys and list indexes; None as soon as one is missing."""
    for step in path:
        if isinstance(obj, Mapping):
            obj = obj.get(step)
        elif isinstance(obj, Sequence) and not isinstance(obj, str) and isinstance(step, int):
            obj = obj[step] if -len(obj) <= step < len(obj) else None
        else:
            return None
    return obj
