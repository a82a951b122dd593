"""What is wrong with a RestoreSession, and which rule applies."""

from typing import Any

import pytest

from controller.api.model import parse_spec
from controller.api.restore import (
    RestoreSessionSpec,
    Rule,
    restore_session_problems,
    rule_for,
    rules_of,
)

REF = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "data"}


def spec(**changes: Any) -> RestoreSessionSpec:
    """Return a spec without problems, changed."""
    raw = {
        "task": {"name": "pvc-restore"},
        "repository": {"name": "repo"},
        "target": {"ref": REF},
        **changes,
    }
    found = parse_spec(RestoreSessionSpec, {"spec": raw})
    assert isinstance(found, RestoreSessionSpec), found
    return found


def with_rules(*rules: dict[str, Any], **target: Any) -> RestoreSessionSpec:
    """Return a spec with rules in the target."""
    return spec(target={"ref": REF, "rules": list(rules), **target})


def test_the_first_rule_that_names_the_host_wins() -> None:
    """A rule for everybody applies only where no rule names the host."""
    everybody = {"snapshots": ["latest"]}
    found = with_rules(
        everybody,
        {"targetHosts": ["a", "b"], "snapshots": ["aaaaaaaa"]},
        {"targetHosts": ["b"], "snapshots": ["bbbbbbbb"]},
    )
    assert rule_for(found, "b") == Rule(target_hosts=("a", "b"), snapshots=("aaaaaaaa",))
    assert rule_for(found, "c") == Rule(snapshots=("latest",))


def test_no_rule_at_all_means_the_newest_and_no_match_means_nothing() -> None:
    """Nothing is restored only where rules exist and none is for the host."""
    assert rule_for(spec(), "host-0") == Rule()
    assert rule_for(with_rules({"targetHosts": ["a"]}), "host-0") is None


def test_both_places_of_rules_count_the_current_one_first() -> None:
    """Manifests of older guides have their rules at the deprecated place."""
    old = {"rules": [{"snapshots": ["latest"]}]}
    assert rules_of(spec(**old)) == (Rule(snapshots=("latest",)),)
    both = spec(**old, target={"ref": REF, "rules": [{"paths": ["/stash-data"]}]})
    assert rules_of(both) == (Rule(paths=("/stash-data",)),)


SOURCE = {"kind": "VolumeSnapshot", "apiGroup": "snapshot.storage.k8s.io", "name": "snap"}
TEMPLATE = {
    "metadata": {"name": "data-${POD_ORDINAL}"},
    "spec": {"accessModes": ["ReadWriteOnce"], "dataSource": SOURCE},
}


def of_snapshots(**changes: Any) -> RestoreSessionSpec:
    """Return a spec of claims from VolumeSnapshots without problems, changed."""
    raw = {"task": {}, "repository": None, "target": {"volumeClaimTemplates": [TEMPLATE]}}
    return spec(driver="VolumeSnapshotter", **{**raw, **changes})


@pytest.mark.parametrize(
    ("found", "paths"),
    [
        (of_snapshots(), []),
        (of_snapshots(target={"volumeClaimTemplates": [TEMPLATE], "replicas": 3}), []),
        (of_snapshots(repository={"name": "r", "namespace": "other"}), []),
        (of_snapshots(target=None), ["spec.target"]),
        (of_snapshots(target={}), ["spec.target.volumeClaimTemplates"]),
        (
            of_snapshots(target={"ref": REF}),
            ["spec.target.ref", "spec.target.volumeClaimTemplates"],
        ),
        (
            of_snapshots(target={"volumeClaimTemplates": [TEMPLATE], "replicas": 0}),
            ["spec.target.replicas"],
        ),
        (
            of_snapshots(target={"volumeClaimTemplates": [{"metadata": {"name": "a"}}]}),
            ["spec.target.volumeClaimTemplates[0].spec.dataSource"],
        ),
        (of_snapshots(rules=[{"snapshots": ["latest"]}]), ["spec.rules"]),
        (
            of_snapshots(target={"volumeClaimTemplates": [TEMPLATE], "rules": [{}]}),
            ["spec.target.rules"],
        ),
        (of_snapshots(timeOut="soon"), ["spec.timeOut"]),
        (of_snapshots(interimVolumeTemplate={"spec": {}}), ["spec.interimVolumeTemplate"]),
        (of_snapshots(hooks={}), []),
        (of_snapshots(hooks={"preRestore": {"tcpSocket": {"port": 1}}}), ["spec.hooks"]),
    ],
)
def test_problems_of_the_snapshotter(found: RestoreSessionSpec, paths: list[str]) -> None:
    """It needs claim templates, and neither target, rules, Task nor Repository."""
    problems = restore_session_problems(found, namespace="demo")
    assert [problem.path for problem in problems] == paths


@pytest.mark.parametrize(
    ("found", "paths"),
    [
        (spec(), []),
        (with_rules({"targetHosts": ["host-0"], "snapshots": ["latest"]}), []),
        (spec(repository=None), ["spec.repository"]),
        (spec(repository={"name": "r", "namespace": "x"}), ["spec.repository.namespace"]),
        (spec(task={}), ["spec.task.name"]),
        (spec(hooks={"preRestore": {}}), ["spec.hooks"]),
        (spec(interimVolumeTemplate={"spec": {}}), ["spec.interimVolumeTemplate"]),
        (spec(target=None), ["spec.target"]),
        (
            spec(target={"volumeClaimTemplates": [{"metadata": {"name": "x"}}]}),
            ["spec.target.volumeClaimTemplates"],
        ),
        (spec(target={"ref": {**REF, "kind": "Secret"}}), ["spec.target.ref.kind"]),
        (
            with_rules(volumeMounts=[{"name": "x", "mountPath": "relative"}]),
            ["spec.target.volumeMounts[0].mountPath"],
        ),
        (
            with_rules(volumeMounts=[{"name": "x", "mountPath": "/a", "subPath": "b"}]),
            ["spec.target.volumeMounts[0].subPath"],
        ),
        (with_rules(alias="a/b"), ["spec.target.alias"]),
        (with_rules(args=["--delete"]), ["spec.target.args"]),
        (with_rules(args=["--sparse"]), []),
        (spec(task={"name": "db"}, target={"ref": REF, "args": ["--drop"]}), []),
        (with_rules({}, {}), ["spec.target.rules"]),
        (spec(rules=[{}, {}]), ["spec.rules"]),
        (
            with_rules({"snapshots": ["latest"], "paths": ["/stash-data"]}),
            ["spec.target.rules[0]"],
        ),
        (with_rules({"paths": ["/stash-data", "/x"]}), ["spec.target.rules[0].paths[1]"]),
        (
            with_rules({"targetHosts": ["host-0"]}, {"targetHosts": ["host-0"]}),
            ["spec.target.rules[1].targetHosts"],
        ),
        (with_rules({"targetHosts": ["db"]}), ["spec.target.rules"]),
        (with_rules({"targetHosts": ["db"]}, alias="db"), []),
        (spec(timeOut="soon"), ["spec.timeOut"]),
    ],
)
def test_problems(found: RestoreSessionSpec, paths: list[str]) -> None:
    """Each mistake is found at its path, and a right spec has none."""
    problems = restore_session_problems(found, namespace="demo")
    assert [problem.path for problem in problems] == paths
    assert all(problem.message for problem in problems)
