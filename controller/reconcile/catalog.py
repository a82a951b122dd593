"""The Functions and Tasks that come with the controller, kept as its version has them (D28)."""

from dataclasses import dataclass
from datetime import datetime

from controller.api.objects import Obj, annotations_of
from controller.api.resources import Resource
from controller.build.labels import SPEC_HASH
from controller.plan import Apply, Plan


@dataclass(frozen=True, slots=True)
class CatalogObserved:
    """One Function or Task as it should be, and as it is."""

    resource: Resource
    wanted: Obj
    existing: Obj | None


def plan(seen: CatalogObserved, now: datetime) -> Plan:  # noqa: ARG001 - one shape for all kinds
    """Apply the object unless it carries the hash of this version's text already."""
    wanted_hash = annotations_of(seen.wanted).get(SPEC_HASH)
    if seen.existing is not None and annotations_of(seen.existing).get(SPEC_HASH) == wanted_hash:
        return Plan()
    return Plan(writes=(Apply(seen.resource, seen.wanted),))
