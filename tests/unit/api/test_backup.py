"""What is wrong with a BackupConfiguration beyond its schema."""

from typing import Any

import pytest

from controller.api.backup import (
    BackupConfigurationSpec,
    backup_configuration_problems,
    host_of,
    is_below,
    mount_path_of,
    paths_of,
)
from controller.api.model import parse_spec

REF = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "data"}
MOUNT = {"name": "x", "mountPath": "/stash-data"}
KEEP = {"name": "keep", "prune": True}


def spec(**changes: Any) -> BackupConfigurationSpec:
    """Return a spec without problems, changed."""
    raw = {
        "schedule": "*/5 * * * *",
        "task": {"name": "pvc-backup"},
        "repository": {"name": "repo"},
        "target": {"ref": REF},
        "retentionPolicy": {"name": "keep", "prune": True},
        **changes,
    }
    found = parse_spec(BackupConfigurationSpec, {"spec": raw})
    assert isinstance(found, BackupConfigurationSpec), found
    return found


def problems(**changes: Any) -> list[str]:
    """Return the paths of the problems."""
    found = backup_configuration_problems(spec(**changes), namespace="demo")
    assert all(problem.message for problem in found)
    return [problem.path for problem in found]


@pytest.mark.parametrize(
    ("changes", "paths"),
    [
        ({}, []),
        ({"repository": {"name": "repo", "namespace": "demo"}, "timeOut": "1h"}, []),
        ({"repository": None}, ["spec.repository"]),
        ({"task": {}}, ["spec.task.name"]),
        ({"driver": "VolumeSnapshotter", "repository": None, "task": {}}, []),
        ({"hooks": {"preBackup": {}}}, ["spec.hooks"]),
        ({"interimVolumeTemplate": {"spec": {}}}, ["spec.interimVolumeTemplate"]),
        ({"repository": {"name": "r", "namespace": "other"}}, ["spec.repository.namespace"]),
        ({"target": None}, ["spec.target"]),
        ({"target": {"ref": {}}}, ["spec.target.ref"]),
        ({"target": {"ref": {**REF, "namespace": "other"}}}, ["spec.target.ref.namespace"]),
        ({"target": {"ref": {**REF, "kind": "Deployment"}}}, ["spec.target.ref.kind"]),
        (
            {"target": {"ref": REF, "volumeMounts": [{"name": "x", "mountPath": "/etc/x"}]}},
            ["spec.target.volumeMounts[0].mountPath"],
        ),
        (
            {"target": {"ref": REF, "paths": ["/stash-data/a", "/source"]}},
            ["spec.target.paths[1]"],
        ),
        (
            {"target": {"ref": REF, "paths": [f"/stash-data/{i}" for i in range(20)]}},
            [],
        ),
        (
            {"target": {"ref": REF, "paths": [f"/stash-data/{i}" for i in range(21)]}},
            ["spec.target.paths"],
        ),
        ({"target": {"ref": REF, "alias": "DB_1.prod-0"}}, []),
        ({"target": {"ref": REF, "alias": "d" * 253}}, []),
        ({"target": {"ref": REF, "alias": "d" * 254}}, ["spec.target.alias"]),
        ({"target": {"ref": REF, "alias": "a b"}}, ["spec.target.alias"]),
        ({"target": {"ref": REF, "alias": "db\n"}}, ["spec.target.alias"]),
        ({"target": {"ref": REF, "alias": "-db"}}, ["spec.target.alias"]),
        ({"target": {"ref": REF, "volumeMounts": [MOUNT]}}, []),
        (
            {"target": {"ref": REF, "volumeMounts": [{**MOUNT, "subPath": "a"}]}},
            ["spec.target.volumeMounts[0].subPath"],
        ),
        (
            {"target": {"ref": REF, "volumeMounts": [{**MOUNT, "subPathExpr": "$(A)"}]}},
            ["spec.target.volumeMounts[0].subPathExpr"],
        ),
        (
            {"target": {"ref": REF, "volumeMounts": [MOUNT, {**MOUNT, "mountPath": "/b"}]}},
            ["spec.target.volumeMounts[1]"],
        ),
        (
            {"retentionPolicy": {**KEEP, "keepLast": 1, "keepTags": ["a", "", "a,b"]}},
            ["spec.retentionPolicy.keepTags[1]"],
        ),
        (
            {"retentionPolicy": {**KEEP, "keepTags": [" , ", "\t"]}},
            ["spec.retentionPolicy.keepTags[0]", "spec.retentionPolicy.keepTags[1]"],
        ),
        *(
            ({"retentionPolicy": {**KEEP, name: -1}}, [f"spec.retentionPolicy.{name}"])
            for name in (
                "keepLast",
                "keepHourly",
                "keepDaily",
                "keepWeekly",
                "keepMonthly",
                "keepYearly",
            )
        ),
        ({"target": {"ref": REF, "args": ["--limit-upload=10"]}}, []),
        ({"target": {"ref": REF, "args": ["--password-command=id"]}}, ["spec.target.args"]),
        ({"target": {"ref": REF, "args": ["--all-databases"]}, "task": {"name": "db"}}, []),
        ({"timeOut": "1 hour"}, ["spec.timeOut"]),
        ({"timeOut": "-1h"}, ["spec.timeOut"]),
        ({"retryConfig": {"delay": "0"}}, ["spec.retryConfig.delay"]),
    ],
)
def test_problems(changes: dict[str, Any], paths: list[str]) -> None:
    """Each mistake is found at its path, and a right spec has none."""
    assert problems(**changes) == paths


def snapshotter(hooks: Any = None, **target: Any) -> dict[str, Any]:
    """Return what makes the spec one of VolumeSnapshots of a StatefulSet."""
    ref = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db"}
    return {
        "driver": "VolumeSnapshotter",
        "repository": None,
        "task": {},
        "target": {"ref": ref, **target},
        "hooks": hooks,
    }


def of(kind: str, api_version: str = "", **ref: Any) -> dict[str, Any]:
    """Return the same for another target."""
    return snapshotter(ref={"apiVersion": api_version, "kind": kind, "name": "db", **ref})


HOOK = {"exec": {"command": ["sync"]}}


@pytest.mark.parametrize(
    ("changes", "paths"),
    [
        (snapshotter(), []),
        (snapshotter(replicas=3, snapshotClassName="fast"), []),
        (of("PersistentVolumeClaim", "v1"), []),
        (of("Deployment", "apps/v1"), []),
        (of("DaemonSet", "apps/v1beta2"), []),
        (of("ReplicaSet"), []),
        (of("ReplicationController", "v1", namespace="demo"), []),
        (of("Pod", "v1"), ["spec.target.ref.kind"]),
        (of("DeploymentConfig", "apps.openshift.io/v1"), ["spec.target.ref.kind"]),
        (of("Deployment", "v1"), ["spec.target.ref.apiVersion"]),
        (of("PersistentVolumeClaim", "apps/v1"), ["spec.target.ref.apiVersion"]),
        (of("Deployment", namespace="other"), ["spec.target.ref.namespace"]),
        (of("Deployment", name="a/b"), ["spec.target.ref.name"]),
        (of("Deployment", name=""), ["spec.target.ref"]),
        (snapshotter(ref={}), ["spec.target.ref"]),
        ({**snapshotter(), "target": None}, ["spec.target"]),
        (snapshotter(replicas=0), ["spec.target.replicas"]),
        (snapshotter(replicas=-1), ["spec.target.replicas"]),
        (snapshotter(replicas=1001), ["spec.target.replicas"]),
        (
            {**of("Deployment"), "target": {**of("Deployment")["target"], "replicas": 1}},
            ["spec.target.replicas"],
        ),
        (snapshotter(snapshotClassName="Fast!"), ["spec.target.snapshotClassName"]),
        # what only restic reads is ignored
        ({**snapshotter(), "repository": {"name": "r", "namespace": "other"}}, []),
        (snapshotter(alias="a b", paths=["/x"], args=["--password-command=id"]), []),
        (snapshotter(volumeMounts=[{"name": "x", "mountPath": "relative"}]), []),
        ({**snapshotter(), "timeOut": "soon"}, ["spec.timeOut"]),
        (
            {**snapshotter(), "retentionPolicy": {**KEEP, "keepLast": -1}},
            ["spec.retentionPolicy.keepLast"],
        ),
        (
            {**snapshotter(), "interimVolumeTemplate": {"spec": {}}},
            ["spec.interimVolumeTemplate"],
        ),
        (snapshotter({"preBackup": HOOK, "postBackup": HOOK}), []),
        (snapshotter({"preBackup": {}, "postBackup": HOOK}), ["spec.hooks.preBackup"]),
        (
            snapshotter({"postBackup": {"executionPolicy": "Always"}}),
            ["spec.hooks.postBackup"],
        ),
        (snapshotter({}), []),
        ({"hooks": {}}, []),
        ({"hooks": {"postBackup": HOOK}}, ["spec.hooks"]),
    ],
)
def test_problems_of_the_snapshotter(changes: dict[str, Any], paths: list[str]) -> None:
    """Its targets are workloads and claims, it needs no Repository, and it may have hooks."""
    assert problems(**changes) == paths


def test_defaults_of_a_target() -> None:
    """Host, mount path and paths have Stash's defaults; paths follow the mount path."""
    target = spec().target
    assert target is not None
    assert (host_of(""), host_of("db")) == ("host-0", "db")
    assert mount_path_of(target.volume_mounts) == "/stash-data"
    assert paths_of(target) == ("/stash-data",)
    mounts = [{"name": "x", "mountPath": "/source"}]
    moved = spec(target={"ref": REF, "volumeMounts": mounts}).target
    assert moved is not None
    assert paths_of(moved) == ("/source",)


def test_history_limit() -> None:
    """One ended session is kept by default, and 0 is a wish."""
    assert spec().history_limit == 1
    assert spec(backupHistoryLimit=0).history_limit == 0


@pytest.mark.parametrize(
    ("path", "folder", "wanted"),
    [
        ("/a", "/a", True),
        ("/a/", "/a", True),
        ("/a/b", "/a", True),
        ("/ab", "/a", False),
        ("/a/../b", "/a", False),
        ("a/b", "/a", False),
        ("/", "/a", False),
    ],
)
def test_is_below(path: str, folder: str, wanted: bool) -> None:  # noqa: FBT001 - a column
    """Whole names count, and nothing escapes by `..`."""
    assert is_below(path, folder) is wanted
