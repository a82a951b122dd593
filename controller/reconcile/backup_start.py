"""Whether a BackupSession that has no executor yet is skipped, fails, waits or starts."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from controller.api.backup import BackupConfigurationSpec
from controller.api.conditions import (
    InvokerPhase,
    Phase,
    Type,
    repository_found,
    secret_found,
    status_of,
    target_found,
)
from controller.api.objects import (
    Obj,
    annotations_of,
    dig,
    finalizers_of,
    generation_of,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    status,
    uid_of,
)
from controller.build.hook import POST_HOOK
from controller.build.job import JobOrder
from controller.reconcile.history import age_key, is_final
from controller.reconcile.invoked import Invoked
from controller.reconcile.observed import SessionObserved
from controller.reconcile.order import node_for, parts_of, use_problem
from controller.reconcile.references import (
    first_false,
    pvc_problem,
    repository_spec_problems,
    target_text,
    task_problems,
)
from controller.reconcile.repository_record import (
    has_snapshots_ahead,
    is_damaged,
    recorded_id,
    untagged_incomplete,
    verification_due,
    was_used,
)
from controller.reconcile.session_status import ACCEPT_INCOMPLETE


@dataclass(frozen=True, slots=True)
class Skip:
    """Nothing is backed up this time."""

    message: str


@dataclass(frozen=True, slots=True)
class Impossible:
    """The backup cannot start; `message` says what to mend."""

    message: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Something else comes first. An empty message stands for a moment that needs no words."""

    message: str = ""


Start = Skip | Impossible | Wait | JobOrder


def hindrance(seen: Invoked) -> Skip | Impossible | Wait | None:
    """Return what keeps a session from starting, whichever way it backs up; None for nothing."""
    configuration = seen.configuration
    if (
        configuration is not None
        and not is_deleting(configuration)
        and generation_of(configuration) > int(status(configuration).get("observedGeneration") or 0)
    ):
        # Its own reconcile comes first; the change of its status wakes this session.
        return Wait()
    if message := next(_reasons_to_skip(seen), None):
        return Skip(message)
    return None if seen.refusal is None else Impossible(seen.refusal.message)


def start_of(seen: SessionObserved, now: datetime) -> Start:
    """Return what becomes of a session that has no executor."""
    if (hindered := hindrance(seen)) is not None:
        return hindered
    if problem := next(_problems(seen), None):
        return Impossible(problem)
    rival = _rival(seen)
    if what := (
        (rival and f"BackupSession {key_of(rival)}")
        # The pod of a session that has ended, or is gone, may take its time to end; and what a
        # session has begun stays, whatever its configuration names by now.
        or next((f"{mover['kind']} {key_of(mover)}" for mover in seen.movers), None)
    ):
        return Wait(
            f"Waiting for {what}: it may initialize the repository, "
            "which only one may do at a time."
        )
    order = order_for(seen, now)
    return Impossible(order) if isinstance(order, str) else order


def executor_recorded(session: Obj) -> bool:
    """Tell whether the status says that the Job was created: then it never is again (D10)."""
    conditions = dig(session, "status", "targets", 0, "conditions") or ()
    return status_of(conditions, Type.BACKUP_EXECUTOR_ENSURED) == "True"


def _reasons_to_skip(seen: Invoked) -> Iterator[str]:
    invoker = dig(seen.session, "spec", "invoker") or {}
    name = f"{invoker.get('kind')} {namespace_of(seen.session)}/{invoker.get('name')}"
    start = "Skipped taking backup. Reason:"
    if invoker.get("kind") != "BackupConfiguration":
        yield f"{start} {name} is of a kind that is not supported yet."
    elif seen.configuration is None:
        yield f"{start} {name} does not exist."
    elif is_deleting(seen.configuration):
        yield f"{start} {name} is being deleted."
    elif status(seen.configuration).get("phase") != InvokerPhase.READY or seen.spec is None:
        detail = first_false(status(seen.configuration).get("conditions") or ())
        yield f"{start} {name} is not ready. {detail}".rstrip()
    mine = age_key(seen.session)
    for sibling in sorted(seen.siblings, key=age_key):
        if is_final(sibling) or (is_deleting(sibling) and POST_HOOK not in finalizers_of(sibling)):
            # One that is deleted and still owes a postBackup hook would thaw what this one froze.
            continue
        phase = status(sibling).get("phase") or Phase.PENDING.value
        started = phase == Phase.RUNNING or uid_of(sibling) in seen.started
        if started or age_key(sibling) < mine:
            yield (
                "Skipped taking new backup. Reason: Previous BackupSession: "
                f'{name_of(sibling)} is "{phase}".'
            )


def _problems(seen: SessionObserved) -> Iterator[str]:
    """Yield why a session cannot start although its configuration was Ready a while ago."""
    references, spec = seen.references, seen.spec
    if spec is None or spec.target is None or spec.repository is None:
        yield "its BackupConfiguration names no target or no Repository"
        return
    if references.repository is None or is_deleting(references.repository):
        where = f"{namespace_of(seen.session)}/{spec.repository.name}"
        yield repository_found(where, found=False).message
        return
    yield from (str(p) for p in repository_spec_problems(references.repository))
    secret = references.secret
    if secret is None or not secret.found:
        yield secret_found(str(secret.key if secret else ""), found=False, problem=None).message
    elif secret.problem:
        yield secret.problem
    yield from (str(p) for p in task_problems(references, spec.task.name))
    target = target_text(spec.target.ref, namespace_of(seen.session))
    if references.pvc is None:
        yield target_found(Type.BACKUP_TARGET_FOUND, target, found=False, problem=None).message
        return
    for problem in (
        pvc_problem(references.pvc, restore=False),
        use_problem(references.pvc, seen.use.pods, target),
    ):
        if problem:
            yield problem


def _rival(seen: SessionObserved) -> Obj | None:
    """Return a session that must end first, because it may initialise the repository (D2).

    Two `restic init` at once destroy a repository. While nobody ever used it, the oldest session
    that has not ended goes alone.
    """
    repository = seen.references.repository
    if repository is None or was_used(repository):
        return None
    mine = age_key(seen.session)
    for rival in sorted(seen.rivals, key=age_key):
        if is_final(rival) or is_deleting(rival):
            continue
        started = executor_recorded(rival) or uid_of(rival) in seen.started
        if started or age_key(rival) < mine:
            return rival
    return None


def order_for(seen: SessionObserved, now: datetime) -> JobOrder | str:
    """Return everything that the Job is built from, or what is wrong with it."""
    configuration, spec = seen.configuration, seen.spec
    if configuration is None or not isinstance(spec, BackupConfigurationSpec):
        return "its BackupConfiguration does not exist"
    parts = parts_of(seen.references)
    if isinstance(parts, str):
        return parts
    return JobOrder(
        session=seen.session,
        invoker=configuration,
        spec=spec,
        repository=parts.repository,
        repository_spec=parts.repository_spec,
        task=parts.task,
        functions=parts.functions,
        installation=seen.installation,
        node_name=node_for(seen.references.pvc, seen.use.nodes),
        repository_id=recorded_id(parts.repository),
        may_initialise=not was_used(parts.repository),
        claim_untagged=not seen.neighbours,
        verify=verification_due(parts.repository, now, seen.limits.verify_s),
        damaged=is_damaged(parts.repository),
        accept_incomplete=annotations_of(configuration).get(ACCEPT_INCOMPLETE) == "true",
        careful=has_snapshots_ahead(parts.repository, key_of(configuration)),
        known_incomplete=untagged_incomplete(parts.repository, key_of(configuration)),
    )
