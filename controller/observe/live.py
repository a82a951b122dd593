"""Live reads of what we only refer to: never cached, never watched (D14, D30)."""

import binascii
from base64 import b64decode
from collections.abc import Callable, Collection, Iterable

import structlog

from controller.api.names import LABEL_LIMIT, bounded
from controller.api.objects import Key, Obj, dig, is_live, labels_of, name_of, uid_of
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    CORE_EVENT,
    JOB,
    POD,
    PVC,
    SECRET,
    Resource,
)
from controller.build.labels import CREATED_BY, INVOKER_NAME, INVOKER_TYPE
from controller.kube.client import KubeClient, find
from controller.kube.errors import Forbidden, NotFound, ServerFault
from controller.reconcile.observed import PvcUse, Secret
from controller.reconcile.pod_end import has_ended

log = structlog.get_logger()

EVENTS_SHOWN = 3
UNREADABLE = (Forbidden, NotFound, ServerFault)
"""What an API server may answer for ever without telling what there is: a right was taken away, a
kind is not served, a part of it is broken. No verdict follows from it, and no limit waits for it.
What it does not answer at all, or asks to repeat, is tried again: nothing else would work either.
"""


def read_secret(client: KubeClient, key: Key) -> Secret:
    """Return which keys a Secret has. The values are dropped here and go nowhere."""
    if not key.name:
        return Secret(key, found=False)
    found = find(client, SECRET, key.namespace, key.name)
    if found is None:
        return Secret(key, found=False)
    data = found.get("data") or {}
    empty = frozenset(name for name, value in data.items() if not _decoded(value))
    return Secret(key, found=True, keys=frozenset(data), empty_keys=empty)


def _decoded(value: str) -> bytes:
    try:
        return b64decode(value or "")
    except binascii.Error:
        return b""


def read_pvc(client: KubeClient, key: Key) -> Obj | None:
    """Return a claim, None when it does not exist."""
    return find(client, PVC, key.namespace, key.name) if key.name else None


def read_use(client: KubeClient, claim: Key) -> PvcUse:
    """Return the running pods that mount a claim, and their nodes.

    Pods of ours count for the nodes, where the volume is attached, but are not named: they use the
    claim for a moment only.
    """
    pods: list[str] = []
    nodes: list[str] = []
    for pod in each(client, POD, claim.namespace, field_selector="status.phase=Running"):
        claims = (
            dig(volume, "persistentVolumeClaim", "claimName")
            for volume in dig(pod, "spec", "volumes") or ()
        )
        if claim.name in claims:
            if CREATED_BY not in labels_of(pod):
                pods.append(name_of(pod))
            node = dig(pod, "spec", "nodeName")
            if node and node not in nodes:
                nodes.append(str(node))
    return PvcUse(tuple(pods), tuple(nodes))


def each(
    client: KubeClient,
    resource: Resource,
    namespace: str,
    *,
    label_selector: str = "",
    field_selector: str = "",
) -> Iterable[Obj]:
    """Yield the objects of a list, page by page."""
    token = ""
    while True:
        page = client.list_page(
            resource,
            namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            continue_token=token,
        )
        yield from page.get("items") or ()
        token = dig(page, "metadata", "continue") or ""
        if not token:
            return


def read_job(client: KubeClient, key: Key) -> Obj | None:
    """Return a Job, None when it does not exist."""
    return find(client, JOB, key.namespace, key.name)


def read_pods(client: KubeClient, key: Key) -> tuple[Obj, ...]:
    """Return the pods of a Job, which need not exist any more."""
    page = client.list_page(
        POD, key.namespace, label_selector=f"batch.kubernetes.io/job-name={key.name}"
    )
    return tuple({"kind": "Pod", **pod} for pod in page.get("items") or ())


def read_movers(
    client: KubeClient,
    users: Collection[Key],
    is_for: Callable[[Obj], bool],
    namespaces: Collection[str],
) -> tuple[Obj, ...]:
    """Return the pods of backups that have not ended, whether their session still exists or not.

    They are those of configurations, and those of which `is_for` says that they were made for the
    repository in question, whatever became of their configuration. One request for each namespace
    of either. The pods of triggers have the same labels, but no host name. A pod that an injected
    container keeps alive has ended for us.
    """
    names = {Key(key.namespace, bounded(key.name, LABEL_LIMIT)) for key in users}
    selector = f"{INVOKER_TYPE}={BACKUP_CONFIGURATION.kind}"
    return tuple(
        {"kind": "Pod", **pod}
        for namespace in sorted({*namespaces, *(key.namespace for key in users)})
        for pod in each(client, POD, namespace, label_selector=selector)
        if dig(pod, "spec", "hostname")
        and is_live(pod)
        and not has_ended(pod)
        and (Key(namespace, labels_of(pod).get(INVOKER_NAME, "")) in names or is_for(pod))
    )


def read_words(client: KubeClient, job: Obj) -> tuple[str, ...]:
    """Return why a Job has no pod, in the words of the Job controller and of what stopped it.

    By the Job's uid: one of that name in an earlier life has Events too. They only explain: when
    they cannot be read there are none.
    """
    key = Key(str(dig(job, "metadata", "namespace")), name_of(job))
    of = f"involvedObject.kind=Job,involvedObject.name={key.name},involvedObject.uid={uid_of(job)}"
    selector = f"{of},type=Warning"
    try:
        page = client.list_page(CORE_EVENT, key.namespace, field_selector=selector)
    except UNREADABLE as err:
        log.debug("events_unreadable", about=str(key), error=str(err))
        return ()
    texts = [str(event.get("message") or "") for event in page.get("items") or ()]
    return tuple(dict.fromkeys(text for text in reversed(texts) if text))[:EVENTS_SHOWN]
