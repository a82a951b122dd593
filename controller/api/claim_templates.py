"""The claims that a RestoreSession makes from VolumeSnapshots (stash.md 4.5).

Each ordinal of each template is one claim. `${POD_ORDINAL}` is replaced in every text of a
template, so that names, labels and snapshots can follow a StatefulSet's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from controller.api.checks import name_problems, replicas_problems
from controller.api.model import Problem
from controller.api.objects import Obj, annotations_of, dig, meta, spec
from controller.api.quantity import parse_quantity
from controller.api.resources import VOLUME_SNAPSHOT
from controller.api.workload import MAX_CLAIMS

POD_ORDINAL = "${POD_ORDINAL}"
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_WHERE = "spec.target.volumeClaimTemplates"


def with_ordinal(value: Any, ordinal: int) -> Any:
    """Return a template, or a part of it, for an ordinal. Keys of maps are left alone."""
    if isinstance(value, str):
        return value.replace(POD_ORDINAL, str(ordinal))
    if isinstance(value, Mapping):
        return {key: with_ordinal(item, ordinal) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [with_ordinal(item, ordinal) for item in value]
    return value


def claims_of(templates: Sequence[Obj], replicas: int | None) -> tuple[Obj, ...]:
    """Return the claims of all ordinals: each ordinal's together, in the templates' order."""
    return tuple(
        with_ordinal(template, ordinal)
        for ordinal in range(1 if replicas is None else replicas)
        for template in templates
    )


def source_of(claim: Obj) -> Obj:
    """Return what a claim or a template is filled from; both fields name the same."""
    wanted = spec(claim)
    return wanted.get("dataSource") or wanted.get("dataSourceRef") or {}


def claim_template_problems(
    templates: Sequence[Obj], replicas: int | None, *, namespace: str
) -> list[Problem]:
    """Return what keeps claims from being made, as far as the spec alone can tell."""
    if not templates:
        return [Problem(_WHERE, "give the claims to restore, each with a dataSource")]
    most = MAX_CLAIMS // len(templates)
    problems = replicas_problems("spec.target.replicas", replicas, most=most)
    if most == 0:
        return [Problem(_WHERE, f"at most {MAX_CLAIMS} claims: use several RestoreSessions")]
    if problems:
        return problems
    for index, template in enumerate(templates):
        problems += _template_problems(f"{_WHERE}[{index}]", template, replicas or 1, namespace)
    return problems or _namesakes(templates, replicas or 1)


def _template_problems(path: str, template: Obj, replicas: int, namespace: str) -> list[Problem]:
    name = str(meta(template).get("name") or "")
    place = f"{path}.metadata.name"
    problems: list[Problem] = []
    if not name:
        problems.append(Problem(place, "name the claim; generateName does not do"))
    elif replicas > 1 and POD_ORDINAL not in name:
        problems.append(
            Problem(
                place,
                f"{name} would be {replicas} claims of one name: add {POD_ORDINAL}, for example "
                f"{name}-{POD_ORDINAL}",
            )
        )
    else:
        problems += _expanded_name_problems(place, name, replicas)
    own = meta(template).get("namespace")
    if own and own != namespace:
        problems.append(
            Problem(
                f"{path}.metadata.namespace",
                f"claims are made in the RestoreSession's namespace, {namespace}: remove it",
            )
        )
    if _CLASS_ANNOTATION in annotations_of(template):
        problems.append(
            Problem(
                f"{path}.metadata.annotations", f"{_CLASS_ANNOTATION}: use spec.storageClassName"
            )
        )
    if spec(template).get("storageClassName") == "":
        problems.append(
            Problem(
                f"{path}.spec.storageClassName",
                "without a StorageClass nothing makes a volume: name one, or remove it",
            )
        )
    size = dig(spec(template), "resources", "requests", "storage")
    if size is not None and (parse_quantity(str(size)) or 0) <= 0:
        problems.append(
            Problem(
                f"{path}.spec.resources.requests.storage",
                f"{size!r} is no size: give one such as 10Gi, or leave it out",
            )
        )
    problems += [
        Problem(f"{path}.spec.{field}", f"{why}, not from the snapshot: remove it")
        for field, why in (
            ("volumeName", "a claim that names its volume has that one's data"),
            ("selector", "a claim that selects a volume has that one's data"),
        )
        if spec(template).get(field)
    ]
    return problems + _source_problems(path, template, replicas, namespace)


def _source_problems(path: str, template: Obj, replicas: int, namespace: str) -> list[Problem]:
    fields = [field for field in ("dataSource", "dataSourceRef") if spec(template).get(field)]
    if not fields:
        return [
            Problem(f"{path}.spec.dataSource", "name the VolumeSnapshot to fill the claim from")
        ]
    problems: list[Problem] = []
    for field in fields:
        source = spec(template)[field]
        place = f"{path}.spec.{field}"
        if source.get("kind") != VOLUME_SNAPSHOT.kind:
            problems.append(
                Problem(f"{place}.kind", f"give {VOLUME_SNAPSHOT.kind}, not {source.get('kind')}")
            )
        if source.get("apiGroup") not in (None, VOLUME_SNAPSHOT.group):
            problems.append(Problem(f"{place}.apiGroup", f"give {VOLUME_SNAPSHOT.group}"))
        if source.get("namespace") not in (None, "", namespace):
            problems.append(
                Problem(
                    f"{place}.namespace",
                    f"a VolumeSnapshot of another namespace is not supported: it must be in "
                    f"{namespace}",
                )
            )
        problems += _expanded_name_problems(
            f"{place}.name", str(source.get("name") or ""), replicas
        )
    if len({str(spec(template)[field].get("name")) for field in fields}) > 1:
        problems.append(
            Problem(f"{path}.spec.dataSourceRef", "differs from dataSource: give one of them")
        )
    return problems


def _expanded_name_problems(path: str, name: str, replicas: int) -> list[Problem]:
    # The last ordinal is the longest; any digits are as good as any others otherwise.
    return name_problems(path, with_ordinal(name, replicas - 1))


def _namesakes(templates: Sequence[Obj], replicas: int) -> list[Problem]:
    """Return a problem for each template that makes a claim of a name that is taken already."""
    first: dict[str, int] = {}
    problems: dict[int, Problem] = {}
    for ordinal in range(replicas):
        for index, template in enumerate(templates):
            name = with_ordinal(meta(template)["name"], ordinal)
            if first.setdefault(name, index) != index:
                problems.setdefault(
                    index,
                    Problem(
                        f"{_WHERE}[{index}].metadata.name",
                        f"{name} is a claim of volumeClaimTemplates[{first[name]}] already",
                    ),
                )
    return list(problems.values())
