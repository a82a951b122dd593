"""Conditions about what an invoker names, and how soon to look again at what is missing."""

from collections.abc import Iterable
from datetime import datetime

from controller.api.catalog import TaskSpec
from controller.api.conditions import Condition, Type, repository_found, secret_found, target_found
from controller.api.model import Problem, parse_spec
from controller.api.objects import Key, Obj, dig, is_deleting, spec
from controller.api.references import TargetRef
from controller.api.repository import RepositorySpec, repository_problems
from controller.api.text import parse_time
from controller.reconcile.observed import References

SOONEST_S = 5.0
LATEST_S = 60.0


def target_text(ref: TargetRef, namespace: str) -> str:
    """Return `<Kind> <namespace>/<name>` as Stash's messages have it."""
    return f"{ref.kind} {ref.namespace or namespace}/{ref.name}"


def repository_condition(references: References, key: Key) -> Condition:
    """Return RepositoryFound; a Repository that is being deleted does not count."""
    repository = references.repository
    found = repository is not None and not is_deleting(repository)
    return repository_found(str(key), found=found)


def secret_condition(references: References) -> Condition | None:
    """Return BackendSecretFound, None while it is not known which Secret is meant."""
    secret = references.secret
    if secret is None:
        return None
    return secret_found(str(secret.key), found=secret.found, problem=secret.problem)


def pvc_problem(pvc: Obj, *, restore: bool) -> str | None:
    """Say why a claim that exists is no source or no destination (D3), None when it is one."""
    if dig(pvc, "spec", "volumeMode") == "Block":
        return f"{_claim(pvc)} has volumeMode Block: only file systems can be backed up with restic"
    return unbound_problem(pvc, restore=restore)


def unbound_problem(pvc: Obj, *, restore: bool = False) -> str | None:
    """Say why a claim has no volume, or not for long; None when it has one."""
    if is_deleting(pvc):
        return f"{_claim(pvc)} is being deleted"
    phase = dig(pvc, "status", "phase") or "Pending"
    if phase == "Bound":
        return None
    if phase == "Lost":
        return f"{_claim(pvc)} is Lost: its PersistentVolume does not exist any more"
    # Restoring starts a pod, which is the consumer that such a claim waits for.
    return None if restore else f"{_claim(pvc)} is {phase}, not Bound: start a pod that uses it"


def _claim(pvc: Obj) -> str:
    return f"PersistentVolumeClaim {dig(pvc, 'metadata', 'namespace')}/{pvc['metadata']['name']}"


def target_condition(kind: Type, references: References, target: str) -> Condition:
    """Return BackupTargetFound or RestoreTargetFound."""
    pvc = references.pvc
    if pvc is None:
        return target_found(kind, target, found=False, problem=None)
    problem = pvc_problem(pvc, restore=kind is Type.RESTORE_TARGET_FOUND)
    return target_found(kind, target, found=True, problem=problem)


def repository_spec_problems(repository: Obj) -> tuple[Problem, ...]:
    """Return what is wrong with a Repository, with its name in front of each path."""
    parsed = parse_spec(RepositorySpec, repository)
    problems = parsed if isinstance(parsed, tuple) else repository_problems(parsed)
    name = dig(repository, "metadata", "name")
    return tuple(Problem(f"Repository {name} {p.path}", p.message) for p in problems)


def task_problems(references: References, task: str) -> tuple[Problem, ...]:
    """Return whether the Task, or a Function that it names, does not exist."""
    if references.task is None:
        return (Problem("spec.task.name", f"Task {task} does not exist: see kubectl get tasks"),)
    parsed = parse_spec(TaskSpec, references.task)
    if isinstance(parsed, tuple):
        return tuple(Problem(f"Task {task} {p.path}", p.message) for p in parsed)
    if not parsed.steps:
        return (Problem(f"Task {task} spec.steps", "name at least one Function"),)
    return tuple(
        Problem(
            f"Task {task} spec.steps[{index}].name",
            f"Function {step.name} does not exist: see kubectl get functions",
        )
        for index, step in enumerate(parsed.steps)
        if step.name not in references.functions
    )


def retry_in_s(conditions: Iterable[Obj], kinds: Iterable[Type], now: datetime) -> float:
    """Return when to look again at something that is missing: 5 s, growing with its age to 60 s.

    The age is that of the youngest False condition, so that no state is kept between turns (D14).
    """
    names = {kind.value for kind in kinds}
    ages = [
        (now - parse_time(entry["lastTransitionTime"])).total_seconds()
        for entry in conditions
        if entry.get("type") in names and entry.get("status") != "True"
    ]
    return min(LATEST_S, max(SOONEST_S, min(ages, default=0.0) / 2))


def first_false(conditions: Iterable[Obj]) -> str:
    """Return the message of the first condition of ours that is not True, empty when all are.

    Of the types of others nobody knows which status is the good one.
    """
    known = {kind.value for kind in Type}
    for entry in conditions:
        if entry.get("type") in known and entry.get("status") != "True":
            return str(entry.get("message") or entry.get("reason") or "")
    return ""


def secret_key(repository: Obj) -> Key:
    """Return the storage Secret of a Repository: always in the Repository's own namespace."""
    name = dig(spec(repository), "backend", "storageSecretName") or ""
    return Key(str(dig(repository, "metadata", "namespace") or ""), str(name))
