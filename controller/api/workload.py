"""Which claims a target of a VolumeSnapshot backup has, and which pods are its own.

A claim of a StatefulSet belongs to an ordinal, not to a pod that runs: it is listed whether or not
the pod exists.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from controller.api.objects import Obj, dig, name_of, spec
from controller.api.resources import (
    DAEMON_SET,
    DEPLOYMENT,
    PVC,
    REPLICA_SET,
    REPLICATION_CONTROLLER,
    STATEFUL_SET,
    Resource,
)

WORKLOADS: Mapping[str, Resource] = MappingProxyType(
    {
        resource.kind: resource
        for resource in (
            DEPLOYMENT,
            STATEFUL_SET,
            DAEMON_SET,
            REPLICA_SET,
            REPLICATION_CONTROLLER,
        )
    }
)
"""The kinds that make pods from a template, by kind."""
MAX_CLAIMS = 1000
"""More claims of ordinals are not listed: one session cannot tell of so many."""
_OPERATORS: Mapping[str, str] = MappingProxyType(
    {"In": "{key} in ({values})", "NotIn": "{key} notin ({values})", "DoesNotExist": "!{key}"}
)


@dataclass(frozen=True, slots=True)
class Volumes:
    """The claims of a target, each once, and the volumes that no VolumeSnapshot can be taken of.

    An entry of `left_out` is for people: `cache (emptyDir)`.
    """

    claims: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def volumes_of(kind: str, target: Obj, replicas: int | None) -> Volumes:
    """Return the volumes of a claim or a workload, in the order in which they are declared.

    For a StatefulSet the claims of `volumeClaimTemplates` come first, ordinal by ordinal; then, as
    for every workload, what the pod template names itself. `replicas` replaces the StatefulSet's
    own number, and is ignored elsewhere. Beyond MAX_CLAIMS ordinals the list is cut, and too long
    for a session all the same.
    """
    if kind == PVC.kind:
        return Volumes((name_of(target),))
    templates: tuple[str, ...] = ()
    claims: list[str] = []
    if kind == STATEFUL_SET.kind:
        templates = tuple(
            name_of(template) for template in spec(target).get("volumeClaimTemplates") or ()
        )
        claims += (
            f"{template}-{name_of(target)}-{ordinal}"
            for ordinal in _ordinals(target, replicas)
            for template in templates
        )
    left_out: list[str] = []
    for volume in dig(spec(target), "template", "spec", "volumes") or ():
        if volume["name"] in templates:
            continue  # The StatefulSet puts the ordinal's claim in its place.
        source = next((key for key in volume if key != "name"), "emptyDir")
        if source == "persistentVolumeClaim":
            claims.append(volume[source]["claimName"])
        else:
            left_out.append(f"{volume['name']} ({source})")
    return Volumes(tuple(dict.fromkeys(claims)), tuple(left_out))


def _ordinals(target: Obj, replicas: int | None) -> range:
    if replicas is None:
        own = spec(target).get("replicas")
        replicas = 1 if own is None else int(own)
    start = int(dig(spec(target), "ordinals", "start") or 0)
    return range(start, start + min(replicas, MAX_CLAIMS + 1))


def selector_of(kind: str, target: Obj) -> str:
    """Return the label selector of a workload's pods as the API takes it in a query.

    It is empty for a claim, whose pods are those that mount it.
    """
    if kind == PVC.kind:
        return ""
    selector = spec(target).get("selector") or {}
    if kind == REPLICATION_CONTROLLER.kind:
        return ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    return ",".join(_requirements(selector))


def _requirements(selector: Obj) -> Iterator[str]:
    for key, value in sorted((selector.get("matchLabels") or {}).items()):
        yield f"{key}={value}"
    for wanted in selector.get("matchExpressions") or ():
        text = _OPERATORS.get(wanted["operator"], "{key}")
        yield text.format(key=wanted["key"], values=",".join(wanted.get("values") or ()))
