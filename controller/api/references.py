"""How a spec names a Repository or a target, and what is wrong with such a name."""

from controller.api.checks import name_problems
from controller.api.model import Model, Problem
from controller.api.resources import PVC
from controller.api.workload import WORKLOADS


class RepositoryRef(Model):
    """The Repository; its namespace defaults to that of the object that names it."""

    name: str
    namespace: str = ""


class TargetRef(Model):
    """The object that is protected; its namespace defaults to that of the object that names it."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""


def repository_ref_problems(ref: RepositoryRef, *, namespace: str) -> list[Problem]:
    """Return what is wrong with a reference to a Repository (D24)."""
    if ref.namespace in ("", namespace):
        return []
    return [
        Problem(
            "spec.repository.namespace",
            f"a Repository of another namespace ({ref.namespace}) is not supported yet: "
            f"create one in {namespace}",
        )
    ]


def target_ref_problems(ref: TargetRef, *, namespace: str) -> list[Problem]:
    """Return what is wrong with a reference to a target of restic."""
    problems = _ref_problems(ref, namespace=namespace)
    if ref.kind and ref.kind != PVC.kind:
        problems.append(
            Problem(
                "spec.target.ref.kind",
                f"{ref.kind} is not supported yet with the Restic driver: name a {PVC.kind}",
            )
        )
    return problems


def workload_ref_problems(ref: TargetRef, *, namespace: str) -> list[Problem]:
    """Return what is wrong with a reference to a target of VolumeSnapshots."""
    problems = _ref_problems(ref, namespace=namespace)
    resource = PVC if ref.kind == PVC.kind else WORKLOADS.get(ref.kind)
    if ref.kind and resource is None:
        kinds = ", ".join((PVC.kind, *WORKLOADS))
        problems.append(
            Problem("spec.target.ref.kind", f"{ref.kind} is not supported: name one of {kinds}")
        )
    elif resource and ref.api_version and _group(ref.api_version) != resource.group:
        problems.append(
            Problem(
                "spec.target.ref.apiVersion",
                f"{ref.api_version} is not the one of a {ref.kind}: give {resource.api_version}",
            )
        )
    if ref.name:
        problems += name_problems("spec.target.ref.name", ref.name)
    return problems


def _ref_problems(ref: TargetRef, *, namespace: str) -> list[Problem]:
    problems = []
    if not ref.name or not ref.kind:
        problems.append(Problem("spec.target.ref", "give apiVersion, kind and name"))
    if ref.namespace not in ("", namespace):
        problems.append(
            Problem(
                "spec.target.ref.namespace",
                f'cross-namespace target reference is not allowed for "{ref.kind}"',
            )
        )
    return problems


def _group(api_version: str) -> str:
    return api_version.rpartition("/")[0]
