"""Live reads of storage: claims, VolumeSnapshots and their classes, and what is to be snapshotted.

Few requests, whatever the number of claims: a handful is read one by one, more by one list.
"""

from collections.abc import Iterable, Mapping

import structlog

from controller.api.objects import Key, Obj, Uid, annotations_of, dig, meta, name_of
from controller.api.resources import (
    CORE_EVENT,
    PERSISTENT_VOLUME,
    PVC,
    STORAGE_CLASS,
    VOLUME_SNAPSHOT,
    VOLUME_SNAPSHOT_CONTENT,
    Resource,
)
from controller.api.workload import WORKLOADS
from controller.kube.client import KubeClient, find
from controller.observe.caches import project_snapshot
from controller.observe.live import EVENTS_SHOWN, UNREADABLE, each

log = structlog.get_logger()

FEW = 3
"""So many are read one by one: a list has all claims of a namespace."""
DEFAULT_CLASS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)


def read_target(client: KubeClient, kind: str, key: Key) -> Obj | None:
    """Return a claim or workload, None when it does not exist or is of a kind without claims."""
    resource = PVC if kind == PVC.kind else WORKLOADS.get(kind)
    return find(client, resource, key.namespace, key.name) if resource and key.name else None


def read_claims(client: KubeClient, namespace: str, names: Iterable[str]) -> Mapping[str, Obj]:
    """Return those claims that exist, by name."""
    return _by_name(client, PVC, namespace, names)


def read_snapshots(
    client: KubeClient,
    namespace: str,
    *,
    label_selector: str = "",
    names: Iterable[str] | None = None,
) -> tuple[Obj, ...]:
    """Return VolumeSnapshots as the cache would hold them.

    With `names` the selector is ignored.

    Raises:
        NotServed: the kind is not served, or not yet.
    """
    if names is not None:
        found: Iterable[Obj] = _by_name(client, VOLUME_SNAPSHOT, namespace, names).values()
    else:
        found = each(client, VOLUME_SNAPSHOT, namespace, label_selector=label_selector)
    return tuple(project_snapshot(snapshot) for snapshot in found)


def _by_name(
    client: KubeClient, resource: Resource, namespace: str, names: Iterable[str]
) -> dict[str, Obj]:
    wanted = tuple(dict.fromkeys(name for name in names if name))
    if len(wanted) <= FEW:
        found = ((name, find(client, resource, namespace, name)) for name in wanted)
        return {name: obj for name, obj in found if obj is not None}
    listed = {name_of(obj): obj for obj in each(client, resource, namespace)}
    return {name: listed[name] for name in wanted if name in listed}


def read_storage_class(client: KubeClient, name: str) -> Obj | None:
    """Return a StorageClass, None when it does not exist."""
    return find(client, STORAGE_CLASS, "", name) if name else None


def read_default_storage_class(client: KubeClient) -> Obj | None:
    """Return the StorageClass of claims that name none: of several defaults the newest.

    So does Kubernetes choose; of those made in the same second it takes the first by name.
    """
    found = (
        item
        for item in each(client, STORAGE_CLASS, "")
        if any(annotations_of(item).get(key) == "true" for key in DEFAULT_CLASS)
    )
    by_name = sorted(found, key=name_of)
    return max(by_name, key=lambda o: str(meta(o).get("creationTimestamp") or ""), default=None)


def read_snapshot_content(client: KubeClient, name: str) -> Obj | None:
    """Return a VolumeSnapshotContent, None when it does not exist."""
    return find(client, VOLUME_SNAPSHOT_CONTENT, "", name) if name else None


def read_volume(client: KubeClient, name: str) -> Obj | None:
    """Return a PersistentVolume, None when it does not exist."""
    return find(client, PERSISTENT_VOLUME, "", name) if name else None


def read_claim_words(
    client: KubeClient, namespace: str, uids: Mapping[str, Uid]
) -> Mapping[str, tuple[str, ...]]:
    """Return by name why claims are not bound, in the words of who should bind them.

    Warnings come first. Events of a former claim of the same name outlive it: the uid decides.
    They only explain: when they cannot be read there are none.
    """
    kind = f"involvedObject.kind={PVC.kind}"
    selectors = [kind]
    if len(uids) <= FEW:
        selectors = [f"{kind},involvedObject.uid={uid}" for uid in uids.values()]
    try:
        events = [
            event
            for selector in selectors
            for event in each(client, CORE_EVENT, namespace, field_selector=selector)
        ]
    except UNREADABLE as err:
        log.debug("events_unreadable", about=", ".join(uids), error=str(err))
        events = []
    events.reverse()  # the newest first
    texts: dict[str, dict[str, None]] = {}
    for event in sorted(events, key=lambda event: event.get("type") != "Warning"):
        if text := str(dig(event, "message") or ""):
            texts.setdefault(str(dig(event, "involvedObject", "uid")), {})[text] = None
    return {name: tuple(texts.get(uid, ()))[:EVENTS_SHOWN] for name, uid in uids.items()}
