"""Claims from VolumeSnapshots: what is wrong with their templates, and what they become."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.claim_templates import (
    POD_ORDINAL,
    claim_template_problems,
    claims_of,
    source_of,
    with_ordinal,
)
from controller.api.objects import Obj, name_of
from controller.api.workload import MAX_CLAIMS

SOURCE = {"kind": "VolumeSnapshot", "apiGroup": "snapshot.storage.k8s.io", "name": "snap"}
BETA = "volume.beta.kubernetes.io/storage-class"
ORDINAL = "data-${POD_ORDINAL}"


def template(name: str = "data", /, *, metadata: Any = (), **spec: Any) -> Obj:
    """Return a template without problems, changed; None takes a field away."""
    body = {"accessModes": ["ReadWriteOnce"], "dataSource": SOURCE, **spec}
    return {
        "metadata": {"name": name, **dict(metadata)},
        "spec": {key: value for key, value in body.items() if value is not None},
    }


def sized(size: Any) -> Obj:
    """Return a template that asks for a size."""
    return template(resources={"requests": {"storage": size}})


def problems(*templates: Obj, replicas: int | None = None) -> list[str]:
    """Return the paths of the problems, below the target."""
    found = claim_template_problems(templates, replicas, namespace="demo")
    assert all(problem.message for problem in found)
    return [problem.path.removeprefix("spec.target.") for problem in found]


FIRST = "volumeClaimTemplates[0]"


@pytest.mark.parametrize(
    ("one", "replicas", "paths"),
    [
        (template(), None, []),
        (template(), 1, []),
        (template(ORDINAL), 3, []),
        (template(ORDINAL, dataSource={**SOURCE, "name": "snap-${POD_ORDINAL}-17"}), 3, []),
        (template(dataSource=None, dataSourceRef=SOURCE), None, []),
        (template(dataSourceRef={**SOURCE, "namespace": "demo"}), None, []),
        (template(metadata={"namespace": "demo"}), None, []),
        (template(), 0, ["replicas"]),
        (template(), -1, ["replicas"]),
        (template(ORDINAL), MAX_CLAIMS, []),
        (template(ORDINAL), MAX_CLAIMS + 1, ["replicas"]),
        (template(ORDINAL), 2**31 - 1, ["replicas"]),
        (template(), 2, [f"{FIRST}.metadata.name"]),
        (template(""), 2, [f"{FIRST}.metadata.name"]),
        (template("", metadata={"generateName": "data-"}), 1, [f"{FIRST}.metadata.name"]),
        (template("Data"), 1, [f"{FIRST}.metadata.name"]),
        (template("data-${ORDINAL}"), 1, [f"{FIRST}.metadata.name"]),
        (template("d" * 254), 1, [f"{FIRST}.metadata.name"]),
        (template("d" * 251 + "-" + POD_ORDINAL), 10, []),
        (template("d" * 251 + "-" + POD_ORDINAL), 11, [f"{FIRST}.metadata.name"]),
        (template(metadata={"namespace": "other"}), None, [f"{FIRST}.metadata.namespace"]),
        (template(accessModes=None), None, []),  # ReadWriteOnce
        (
            template(metadata={"annotations": {BETA: "fast"}}),
            None,
            [f"{FIRST}.metadata.annotations"],
        ),
        (template(storageClassName="fast"), None, []),
        (template(storageClassName=""), None, [f"{FIRST}.spec.storageClassName"]),
        (sized("10Gi"), None, []),
        *(
            (sized(size), None, [f"{FIRST}.spec.resources.requests.storage"])
            for size in ("0", 0, "-1Gi", "much", "")
        ),
        (template(volumeName="pv"), None, [f"{FIRST}.spec.volumeName"]),
        (template(selector={"matchLabels": {}}), None, [f"{FIRST}.spec.selector"]),
        (template(dataSource=None), None, [f"{FIRST}.spec.dataSource"]),
        (template(dataSource={}), None, [f"{FIRST}.spec.dataSource"]),
        (
            template(dataSource={"name": "Snap", "apiGroup": ""}),
            None,
            [f"{FIRST}.spec.dataSource.{name}" for name in ("kind", "apiGroup", "name")],
        ),
        (template(dataSource={"kind": "VolumeSnapshot", "name": "snap"}), None, []),
        (
            template(dataSource={**SOURCE, "kind": "PersistentVolumeClaim"}),
            None,
            [f"{FIRST}.spec.dataSource.kind"],
        ),
        (
            template(dataSourceRef={**SOURCE, "namespace": "x"}, dataSource=None),
            None,
            [f"{FIRST}.spec.dataSourceRef.namespace"],
        ),
        (
            template(dataSourceRef={**SOURCE, "name": "other"}),
            None,
            [f"{FIRST}.spec.dataSourceRef"],
        ),
    ],
)
def test_problems_of_one(one: Obj, replicas: int | None, paths: list[str]) -> None:
    """Each mistake is found at its path, and a right template has none."""
    assert problems(one, replicas=replicas) == paths


def test_a_name_without_the_ordinal_is_a_problem_that_says_how_to_mend_it() -> None:
    """Several claims of one name cannot be."""
    (problem,) = claim_template_problems([template("db")], 3, namespace="demo")
    assert "add ${POD_ORDINAL}, for example db-${POD_ORDINAL}" in problem.message


@pytest.mark.parametrize(
    ("names", "replicas", "paths"),
    [
        ((), None, ["volumeClaimTemplates"]),
        (("a", "b"), None, []),
        (("a", "a"), None, ["volumeClaimTemplates[1].metadata.name"]),
        ((ORDINAL, "log-${POD_ORDINAL}"), 5, []),
        # data-10 is ordinal 10 of the one and ordinal 0 of the other
        ((ORDINAL, "data-1${POD_ORDINAL}"), 11, ["volumeClaimTemplates[0].metadata.name"]),
        ((ORDINAL, "data-1${POD_ORDINAL}"), 10, []),
        (("data-3", ORDINAL), None, []),
        (("data-0", ORDINAL), None, ["volumeClaimTemplates[1].metadata.name"]),
        (tuple(f"a{number}" for number in range(MAX_CLAIMS + 1)), None, ["volumeClaimTemplates"]),
    ],
)
def test_problems_of_several(
    names: tuple[str, ...], replicas: int | None, paths: list[str]
) -> None:
    """Their claims' names must differ over all ordinals."""
    assert problems(*(template(name) for name in names), replicas=replicas) == paths


def test_claims_are_made_ordinal_by_ordinal() -> None:
    """The ordinal stands wherever it is wanted; two templates alternate."""
    one = template(
        ORDINAL,
        metadata={"labels": {"ordinal": "x${POD_ORDINAL}y${POD_ORDINAL}"}},
        dataSource={**SOURCE, "name": "snap-${POD_ORDINAL}"},
    )
    found = claims_of((one, template("log-${POD_ORDINAL}")), 2)
    assert [name_of(claim) for claim in found] == ["data-0", "log-0", "data-1", "log-1"]
    assert found[2]["metadata"]["labels"] == {"ordinal": "x1y1"}
    assert [source_of(claim)["name"] for claim in found] == ["snap-0", "snap", "snap-1", "snap"]
    assert [name_of(claim) for claim in claims_of((one,), None)] == ["data-0"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("a${POD_ORDINAL}", max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(JSON, st.integers(0, 20))
def test_nothing_but_the_ordinal_changes(value: Any, ordinal: int) -> None:
    """A template without it stays as it is, and none is left over."""
    found = with_ordinal(value, ordinal)
    if POD_ORDINAL not in repr(value):
        assert found == value
    assert with_ordinal(value, 10**9) == value or found != value


@given(
    st.lists(
        st.lists(st.sampled_from(["a", "1", "0", POD_ORDINAL]), min_size=1, max_size=4),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 25),
)
def test_templates_without_problems_make_claims_of_different_names(
    parts: list[list[str]], replicas: int
) -> None:
    """Exactly then: a name is refused only for a namesake, or where the ordinal is missing."""
    templates = [template("".join(name)) for name in parts]
    names = [name_of(claim) for claim in claims_of(templates, replicas)]
    assert (problems(*templates, replicas=replicas) == []) is (len(set(names)) == len(names))
