"""Repository: who refers to it. What backups learn about it is written by their sessions."""

from collections.abc import Iterator
from datetime import datetime

from controller.api.objects import (
    Obj,
    finalizers_of,
    generation_of,
    is_deleting,
    name_of,
    namespace_of,
    spec,
    status,
)
from controller.api.resources import REPOSITORY
from controller.plan import Finalizer, Note, Plan, Ref, SetStatus
from controller.reconcile.observed import RepositoryObserved
from controller.reconcile.references import repository_spec_problems

STASH_FINALIZER = "stash"


def plan(seen: RepositoryObserved, now: datetime) -> Plan:  # noqa: ARG001 - one shape for all kinds
    """Return what a Repository needs now."""
    repository = seen.repository
    ref = Ref.to(REPOSITORY, repository)
    if is_deleting(repository):
        if STASH_FINALIZER in finalizers_of(repository):
            return Plan(writes=(Finalizer(ref, STASH_FINALIZER, present=False),))
        return Plan()
    old = status(repository)
    new = {**old, "observedGeneration": generation_of(repository)}
    references = sorted(
        (
            {"kind": str(o["kind"]), "namespace": namespace_of(o), "name": name_of(o)}
            for o in seen.invokers
        ),
        key=lambda entry: (entry["kind"], entry["namespace"], entry["name"]),
    )
    if references or "references" in old:
        new["references"] = references
    if new == old:
        return Plan()
    is_new = new["observedGeneration"] != old.get("observedGeneration")
    notes = tuple(_notes(ref, repository)) if is_new else ()
    return Plan(writes=(SetStatus(ref, new),), notes=notes, facts={"references": len(references)})


def _notes(ref: Ref, repository: Obj) -> Iterator[Note]:
    """Yield what is wrong with a spec: a Repository has no conditions to say it in."""
    for problem in repository_spec_problems(repository):
        yield Note(ref, "Warning", "ResourceValidationFailed", str(problem))
    if spec(repository).get("wipeOut"):
        text = "spec.wipeOut: not supported yet: the data stays in the backend"
        yield Note(ref, "Warning", "WipeOutNotSupported", text)
