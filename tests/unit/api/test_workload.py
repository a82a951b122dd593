"""Claims of each kind of target, and the selector of its pods."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.objects import Obj
from controller.api.workload import MAX_CLAIMS, WORKLOADS, Volumes, selector_of, volumes_of

PVC = "PersistentVolumeClaim"


def volume(name: str, claim: str) -> Obj:
    """Return a volume of a pod that is a claim."""
    return {"name": name, "persistentVolumeClaim": {"claimName": claim}}


def workload(*volumes: Obj, templates: tuple[str, ...] = (), **spec: Any) -> Obj:
    """Return a workload called `db`."""
    claims = [{"metadata": {"name": name}, "spec": {}} for name in templates]
    return {
        "metadata": {"name": "db", "namespace": "demo"},
        "spec": {
            "template": {"spec": {"volumes": list(volumes)}},
            **({"volumeClaimTemplates": claims} if templates else {}),
            **spec,
        },
    }


DATA, LOGS = volume("data", "data-claim"), volume("logs", "logs-claim")


@pytest.mark.parametrize("kind", sorted(WORKLOADS))
def test_every_kind_has_the_claims_of_its_pod_template(kind: str) -> None:
    """In the order of its volumes; `replicas` of what is no StatefulSet multiplies nothing."""
    found = volumes_of(kind, workload(LOGS, DATA, replicas=3), None)
    assert found == Volumes(("logs-claim", "data-claim"))


def test_a_claim_is_its_own() -> None:
    """Whatever its spec says."""
    target = {"metadata": {"name": "data", "namespace": "demo"}, "spec": {"accessModes": []}}
    assert volumes_of(PVC, target, None) == Volumes(("data",))


@pytest.mark.parametrize(
    ("spec", "replicas", "claims"),
    [
        ({"replicas": 2}, None, ["a-db-0", "b-db-0", "a-db-1", "b-db-1"]),
        ({}, None, ["a-db-0", "b-db-0"]),
        ({"replicas": 3}, 1, ["a-db-0", "b-db-0"]),
        ({"replicas": 0}, None, []),
        ({"replicas": 0}, 1, ["a-db-0", "b-db-0"]),
        ({"replicas": 1, "ordinals": {"start": 5}}, None, ["a-db-5", "b-db-5"]),
        ({"ordinals": {"start": 5}}, 2, ["a-db-5", "b-db-5", "a-db-6", "b-db-6"]),
    ],
)
def test_claims_of_a_stateful_set(
    spec: dict[str, Any], replicas: int | None, claims: list[str]
) -> None:
    """Ordinal by ordinal, from the first of its own; then the pod template's."""
    found = volumes_of("StatefulSet", workload(DATA, templates=("a", "b"), **spec), replicas)
    assert found.claims == (*claims, "data-claim")


def test_a_claim_template_takes_the_place_of_the_volume_of_its_name() -> None:
    """So the StatefulSet controller does it: the volume of the pod template is never mounted."""
    shadowed = volume("a", "never-mounted")
    cache = {"name": "b", "emptyDir": {}}
    found = volumes_of("StatefulSet", workload(shadowed, cache, templates=("a", "b")), None)
    assert found == Volumes(("a-db-0", "b-db-0"))


def test_a_claim_counts_once() -> None:
    """Two volumes of one claim, or a volume that is an ordinal's claim."""
    twice = (volume("x", "data-claim"), DATA, volume("y", "a-db-0"))
    assert volumes_of("Deployment", workload(*twice), None).claims == ("data-claim", "a-db-0")
    found = volumes_of("StatefulSet", workload(*twice, templates=("a",)), None)
    assert found.claims == ("a-db-0", "data-claim")


def test_other_volumes_are_left_out_and_named() -> None:
    """With what they are; a volume without a source is an emptyDir."""
    others: tuple[Obj, ...] = (
        {"name": "cache", "emptyDir": {}},
        {"name": "conf", "configMap": {"name": "conf"}},
        {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}},
        {"hostPath": {"path": "/x"}, "name": "host"},
        {"name": "bare"},
    )
    found = volumes_of("DaemonSet", workload(others[0], DATA, *others[1:]), None)
    assert found.claims == ("data-claim",)
    assert found.left_out == (
        "cache (emptyDir)",
        "conf (configMap)",
        "scratch (ephemeral)",
        "host (hostPath)",
        "bare (emptyDir)",
    )


@pytest.mark.parametrize("kind", sorted(WORKLOADS))
def test_a_target_without_volumes_has_no_claim(kind: str) -> None:
    """Neither with an empty pod template nor with none."""
    bare: Obj = {"metadata": {"name": "db"}, "spec": {}}
    for target in (workload(), bare, {"metadata": {"name": "db"}}):
        assert volumes_of(kind, target, None) == Volumes(())


def test_a_huge_number_of_ordinals_is_cut() -> None:
    """What no session could tell of is not listed, and is still too much for one."""
    found = volumes_of("StatefulSet", workload(templates=("a",), replicas=2**31 - 1), None)
    assert len(found.claims) == MAX_CLAIMS + 1


@given(
    st.lists(st.sampled_from("abc"), unique=True),
    st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from(["x", "y", None]))),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_claims_are_each_templates_ordinals_and_what_is_mounted(
    templates: list[str], mounts: list[tuple[str, str | None]], start: int, replicas: int
) -> None:
    """No claim twice, none forgotten, and every volume is one of taken, shadowed and left out."""
    volumes = [
        {"name": name, "emptyDir": {}} if claim is None else volume(name, claim)
        for name, claim in mounts
    ]
    target = workload(*volumes, templates=tuple(templates), ordinals={"start": start})
    found = volumes_of("StatefulSet", target, replicas)
    assert len(set(found.claims)) == len(found.claims)
    assert set(found.claims) == {
        f"{name}-db-{number}" for name in templates for number in range(start, start + replicas)
    } | {claim for name, claim in mounts if claim and name not in templates}
    assert len(found.left_out) == sum(
        1 for name, claim in mounts if claim is None and name not in templates
    )


@pytest.mark.parametrize(
    ("kind", "selector", "text"),
    [
        ("Deployment", {"matchLabels": {"b": "2", "a": "1"}}, "a=1,b=2"),
        ("ReplicationController", {"b": "2", "a": "1"}, "a=1,b=2"),
        (
            "StatefulSet",
            {
                "matchLabels": {"app.kubernetes.io/name": "db"},
                "matchExpressions": [
                    {"key": "tier", "operator": "In", "values": ["a", "b"]},
                    {"key": "zone", "operator": "NotIn", "values": ["c"]},
                    {"key": "on", "operator": "Exists"},
                    {"key": "off", "operator": "DoesNotExist"},
                ],
            },
            "app.kubernetes.io/name=db,tier in (a,b),zone notin (c),on,!off",
        ),
        (PVC, {"matchLabels": {"volume": "x"}}, ""),
        ("DaemonSet", None, ""),
    ],
)
def test_selector(kind: str, selector: Any, text: str) -> None:
    """As a query takes it. That of a claim selects volumes, not pods."""
    target = {"metadata": {"name": "db"}, "spec": {"selector": selector}}
    assert selector_of(kind, target) == text
