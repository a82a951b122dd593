"""Puts together what a Job is built from: parsed specs, or the first thing that is wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.api.catalog import FunctionSpec, TaskSpec
from controller.api.model import parse_spec
from controller.api.objects import Obj, dig
from controller.api.repository import RepositorySpec
from controller.reconcile.observed import References

SINGLE_NODE_MODES = {"ReadWriteOnce", "ReadWriteOncePod"}


@dataclass(frozen=True, slots=True)
class Parts:
    """The specs of the objects that an invoker names."""

    repository: Obj
    repository_spec: RepositorySpec
    task: TaskSpec
    functions: Mapping[str, FunctionSpec]


def parts_of(references: References) -> Parts | str:
    """Return the parsed specs, or what is wrong with them."""
    if references.repository is None or references.task is None:
        return "its Repository or its Task does not exist"
    repository = parse_spec(RepositorySpec, references.repository)
    task = parse_spec(TaskSpec, references.task)
    if isinstance(repository, tuple) or isinstance(task, tuple):
        return "its Repository or its Task is malformed"
    functions: dict[str, FunctionSpec] = {}
    for name, function in references.functions.items():
        parsed = parse_spec(FunctionSpec, function)
        if isinstance(parsed, tuple):
            return "; ".join(f"Function {name} {problem}" for problem in parsed)
        functions[name] = parsed
    return Parts(references.repository, repository, task, functions)


def node_for(pvc: Obj | None, nodes: Sequence[str]) -> str:
    """Return the node that a pod must run on to mount a claim that is in use (D18), or ""."""
    modes = set(dig(pvc, "spec", "accessModes") or ())
    return nodes[0] if nodes and modes <= SINGLE_NODE_MODES else ""


def use_problem(pvc: Obj, pods: Sequence[str], target: str) -> str | None:
    """Say why a claim that is in use cannot be mounted by a pod of ours, None when it can."""
    if "ReadWriteOncePod" in (dig(pvc, "spec", "accessModes") or ()) and pods:
        return (
            f"{target} has accessMode ReadWriteOncePod and is in use by pod {pods[0]}: "
            "no second pod can mount it. Use ReadWriteOnce, or stop the pod"
        )
    return None
