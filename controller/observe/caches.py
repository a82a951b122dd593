"""The caches that observers read, their indexes, and how objects are cut down on ingest (D30).

An index function sees whatever the API server has let in, and must not raise: it would end the
process, again and again.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from controller.api.backup import SNAPSHOTTER
from controller.api.claim_templates import POD_ORDINAL, with_ordinal
from controller.api.conditions import FINAL_PHASES
from controller.api.creation import SESSION_UID
from controller.api.model import parse_spec
from controller.api.names import NAME_LIMIT
from controller.api.objects import (
    Key,
    Obj,
    controller_uid,
    dig,
    is_deleting,
    key_of,
    labels_of,
    meta,
    namespace_of,
    spec,
    status,
)
from controller.api.resources import PVC, VOLUME_SNAPSHOT
from controller.api.restore import RestoreSessionSpec
from controller.api.workload import MAX_CLAIMS
from controller.build.cronjob import trigger_digest
from controller.build.labels import INVOKER_NAME, INVOKER_TYPE

BY_OWNER = "owner"
BY_REPOSITORY = "repository"
BY_TASK = "task"
BY_INVOKER = "invoker"
BY_PENDING = "pending"
BY_SESSION = "session"
BY_SOURCE = "source"
_LONGEST_TEMPLATE = NAME_LIMIT * len(POD_ORDINAL)
"""No longer text has a name in it that a VolumeSnapshot can have."""


class Lister(Protocol):
    """Read access to one cache. Every answer is one snapshot; what it holds is never changed."""

    def get(self, key: Key) -> Obj | None:
        """Return one object."""

    def by_index(self, index: str, value: str) -> Iterable[Obj]:
        """Return the objects whose index holds a value."""

    def all(self) -> Iterable[Obj]:
        """Return every object."""


@dataclass(frozen=True, slots=True)
class Caches:
    """One lister per kind. Children of configurations are metadata only, CronJobs with a digest.

    Of VolumeSnapshots and claims there are those that we created. A cluster need not serve
    VolumeSnapshots: while `snapshots_served` says no, what is here is not to be believed. It says
    so of a kind as well that is there, `snapshots_defined`, and not served yet.
    """

    repositories: Lister
    configurations: Lister
    sessions: Lister
    restores: Lister
    functions: Lister
    tasks: Lister
    jobs: Lister
    pods: Lister
    cron_jobs: Lister
    service_accounts: Lister
    role_bindings: Lister
    claims: Lister
    snapshots: Lister
    snapshots_served: Callable[[], bool]
    snapshots_defined: Callable[[], bool]


def by_owner(obj: Obj) -> Iterable[str]:
    """Index by the uid of the controlling owner."""
    uid = controller_uid(obj)
    return (uid,) if uid else ()


def by_repository(obj: Obj) -> Iterable[str]:
    """Index invokers by `namespace/name` of their Repository."""
    ref = dig(obj, "spec", "repository") or {}
    if not isinstance(ref, Mapping) or not ref.get("name"):
        return ()
    return (str(Key(str(ref.get("namespace") or namespace_of(obj)), str(ref["name"]))),)


def by_task(obj: Obj) -> Iterable[str]:
    """Index invokers by the name of their Task."""
    name = dig(obj, "spec", "task", "name")
    return (str(name),) if name else ()


def by_invoker(obj: Obj) -> Iterable[str]:
    """Index BackupSessions by their invoker: by the spec, not by labels (D15)."""
    name, kind = dig(obj, "spec", "invoker", "name"), dig(obj, "spec", "invoker", "kind")
    return (invoker_index(str(kind), Key(namespace_of(obj), str(name))),) if name else ()


def invoker_index(kind: str, key: Key) -> str:
    """Return the value by which `by_invoker` files the sessions of an invoker."""
    return f"{kind} {key}"


def by_session(obj: Obj) -> Iterable[str]:
    """Index VolumeSnapshots and restored claims by the uid of their session (D21)."""
    uid = labels_of(obj).get(SESSION_UID)
    return (uid,) if uid else ()


def by_invoker_labels(obj: Obj) -> Iterable[str]:
    """Index what a Job created by the invoker in its labels.

    A label may hold a cut name: whoever looks here cuts it the same way.
    """
    labels = labels_of(obj)
    kind, name = labels.get(INVOKER_TYPE), labels.get(INVOKER_NAME)
    return (invoker_index(kind, Key(namespace_of(obj), name)),) if kind and name else ()


def by_source_of_restore(obj: Obj) -> Iterable[str]:
    """Index the restores that have not ended by the VolumeSnapshots that they name.

    Also of one that is invalid and may be mended: whatever it names. Anybody may write one with any
    number of templates, replicas and characters, so what is made of it here has bounds of its own;
    what a restore may make is within them.
    """
    if _phase(obj) in FINAL_PHASES or not is_snapshotter(obj):
        return ()
    spec = parse_spec(RestoreSessionSpec, obj)
    target = None if isinstance(spec, tuple) else spec.target
    if target is None:
        return ()
    names = [_source_name(template) for template in target.volume_claim_templates]
    wanted = 1 if target.replicas is None else target.replicas
    replicas = min(wanted, MAX_CLAIMS // max(1, len(names)))
    return {
        str(Key(namespace_of(obj), with_ordinal(name, ordinal))): None
        for ordinal in range(replicas)
        for name in names
        if name and len(name) <= _LONGEST_TEMPLATE
    }


def by_source_of_claim(obj: Obj) -> Iterable[str]:
    """Index the claims that are still to be filled by their VolumeSnapshot."""
    name = _source_name(obj)
    is_filled = _phase(obj) in ("Bound", "Lost") or is_deleting(obj)
    return () if is_filled or not name else (str(Key(namespace_of(obj), name)),)


def _source_name(claim: Any) -> str:
    """Return the name of what a claim or a template is filled from, whatever it looks like."""
    source = dig(claim, "spec", "dataSource") or dig(claim, "spec", "dataSourceRef")
    return str(dig(source, "name") or "")


def _phase(obj: Obj) -> str:
    return str(dig(obj, "status", "phase") or "")


def is_snapshotter(invoker: Obj) -> bool:
    """Tell whether a BackupConfiguration or RestoreSession is of flow B."""
    return bool(dig(invoker, "spec", "driver") == SNAPSHOTTER)


def by_pending(obj: Obj) -> Iterable[str]:
    """Index the sessions that have not started under one constant."""
    return (BY_PENDING,) if _phase(obj) in ("", "Pending", "Invalid") else ()


_POD_STATUS = (
    "phase",
    "reason",
    "message",
    "conditions",
    "containerStatuses",
    "initContainerStatuses",
)
_JOB_STATUS = ("conditions", "active", "failed", "succeeded")


def project_pod(pod: Obj) -> Obj:
    """Keep of a pod what the verdict on it needs."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(pod),
        "spec": {
            key: value
            for key, value in (pod.get("spec") or {}).items()
            if key in ("hostname", "nodeName")
        },
        "status": {key: value for key, value in status(pod).items() if key in _POD_STATUS},
    }


def project_job(job: Obj) -> Obj:
    """Keep of a Job its identity, how long it may last, and its outcome."""
    limit = {key: value for key, value in spec(job).items() if key == "activeDeadlineSeconds"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(job),
        **({"spec": limit} if limit else {}),
        "status": {key: value for key, value in status(job).items() if key in _JOB_STATUS},
    }


def project_child(obj: Obj) -> Obj:
    """Keep of a child its identity and its spec hash."""
    return {"metadata": _metadata(obj)}


def project_cron_job(obj: Obj) -> Obj:
    """Keep of a CronJob its identity, its spec hash, and a hash of what it does as it is now."""
    return {"metadata": _metadata(obj), "spec": {"digest": trigger_digest(obj)}}


def project_snapshot(snapshot: Obj) -> Obj:
    """Keep of a VolumeSnapshot everything, and when its status last changed, as `changedAt`.

    It has no such field itself. Empty when whoever wrote the status is not recorded.
    """
    return {
        "apiVersion": VOLUME_SNAPSHOT.api_version,
        "kind": VOLUME_SNAPSHOT.kind,
        "metadata": _metadata(snapshot, labels=True),
        "spec": spec(snapshot),
        "status": status(snapshot),
        "changedAt": _changed_at(snapshot),
    }


_CLAIM_SPEC = ("storageClassName", "volumeName", "resources", "dataSource")
_CLAIM_STATUS = ("phase", "conditions")


def project_claim(claim: Obj) -> Obj:
    """Keep of a claim its source, whether it is bound, to what, and since when (`changedAt`)."""
    return {
        "apiVersion": PVC.api_version,
        "kind": PVC.kind,
        "metadata": _metadata(claim, labels=True),
        "spec": {key: value for key, value in spec(claim).items() if key in _CLAIM_SPEC},
        "status": {key: value for key, value in status(claim).items() if key in _CLAIM_STATUS},
        "changedAt": _changed_at(claim),
    }


def _changed_at(obj: Obj) -> str:
    """Return when the status was last written, empty when whoever wrote it is not recorded."""
    times = (
        str(entry.get("time") or "")
        for entry in meta(obj).get("managedFields") or ()
        if entry.get("subresource") == "status"
    )
    return max(times, default="")


def _metadata(obj: Obj, *, labels: bool = False) -> dict[str, Any]:
    dropped = ("managedFields",) if labels else ("managedFields", "labels")
    return {key: value for key, value in meta(obj).items() if key not in dropped}


def newest(objects: Iterable[Obj]) -> Obj | None:
    """Return the object created last, None of none."""
    return max(
        objects,
        key=lambda o: (str(dig(o, "metadata", "creationTimestamp") or ""), str(key_of(o))),
        default=None,
    )
