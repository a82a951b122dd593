"""The Functions and Tasks that come with the controller, kept as its version has them (D28)."""

from dataclasses import dataclass
from datetime import datetime

from controller.api.objects import Obj, annotations_of, spec
from controller.api.resources import Resource
from controller.build.labels import SPEC_HASH
from controller.plan import Apply, Plan


@dataclass(frozen=True, slots=True)
class CatalogObserved:
    """One Function or Task as it should be, and as it is."""

    resource: Resource
    wanted: Obj
    existing: Obj | None


def is_current(seen: CatalogObserved) -> bool:
    """Tell whether the object is as this version has it: by its hash, and not edited since."""
    if seen.existing is None or spec(seen.existing) != spec(seen.wanted):
        return False
    wanted_hash = annotations_of(seen.wanted).get(SPEC_HASH)
    return annotations_of(seen.existing).get(SPEC_HASH) == wanted_hash


def plan(seen: CatalogObserved, now: datetime) -> Plan:  # noqa: ARG001 - one shape for all kinds
    """Apply the object unless it is current."""
    return Plan() if is_current(seen) else Plan(writes=(Apply(seen.resource, seen.wanted),))
