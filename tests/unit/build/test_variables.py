"""The values that Functions and Tasks may use."""

import dataclasses
from typing import Any

import pytest

from controller.api.backup import Param
from controller.build.variables import (
    is_identity,
    operator_variables,
    param_problems,
    step_variables,
    task_variables,
)
from tests.support.orders import TARGET, backup_order, restore_order

COMMON = {
    "REPOSITORY_NAME": "repo",
    "REPOSITORY_NAMESPACE": "demo",
    "REPOSITORY_PROVIDER": "s3",
    "REPOSITORY_BUCKET": "backups",
    "REPOSITORY_PREFIX": "/demo/data",
    "REPOSITORY_ENDPOINT": "https://s3.example",
    "REPOSITORY_REGION": "",
    "REPOSITORY_INSECURE_TLS": "false",
    "REPOSITORY_SECRET_NAME": "s3-secret",
    "REPOSITORY_SECRET_NAMESPACE": "demo",
    "MAX_CONNECTIONS": "0",
    "HOSTNAME": "host-0",
    "ENABLE_CACHE": "true",
    "INTERIM_DATA_DIR": "/stash-tmp/stash-interim-volume/data",
    "TARGET_KIND": "PersistentVolumeClaim",
    "TARGET_NAME": "data",
    "TARGET_NAMESPACE": "demo",
    "TARGET_MOUNT_PATH": "/stash-data",
    "NAMESPACE": "demo",
    "STASH_DOCKER_REGISTRY": "registry.example",
    "STASH_DOCKER_IMAGE": "drey",
    "STASH_IMAGE_TAG": "1.2.3",
    "LICENSE_APISERVICE": "",
    "PROMETHEUS_PUSHGATEWAY_URL": "http://drey.drey-system.svc:56789",
}


def test_a_plain_backup_has_exactly_these() -> None:
    """What is absent takes a Function's default, so the set of names is part of the contract."""
    assert operator_variables(backup_order()) == {
        **COMMON,
        "INVOKER_KIND": "BackupConfiguration",
        "INVOKER_NAME": "nightly",
        "PROMETHEUS_JOB_NAME": "nightly",
        "BACKUP_SESSION": "nightly-1700000000",
        "TARGET_PATHS": "/stash-data",
        "RETENTION_KEEP_LAST": "5",
        "RETENTION_PRUNE": "true",
    }


def test_a_plain_restore_has_exactly_these() -> None:
    """A restore always has the rule's lists, possibly empty."""
    assert operator_variables(restore_order()) == {
        **COMMON,
        "INVOKER_KIND": "RestoreSession",
        "INVOKER_NAME": "bring-back",
        "PROMETHEUS_JOB_NAME": "bring-back",
        "RESTORE_SESSION": "bring-back",
        "SOURCE_HOSTNAME": "host-0",
        "EXCLUDE_PATTERNS": "",
        "INCLUDE_PATTERNS": "",
        "RESTORE_PATHS": "",
        "RESTORE_SNAPSHOTS": "latest",
        "TARGET_APP_REPLICAS": "1",
    }


def test_everything_that_a_backup_may_set() -> None:
    """Optional fields add their variables."""
    order = backup_order(
        spec={
            "target": {
                **TARGET,
                "alias": "db",
                "paths": ["/src/a", "/src/b"],
                "volumeMounts": [{"name": "x", "mountPath": "/src"}],
                "exclude": ["*.tmp", "cache"],
                "args": ["--tag=t1", "--no-scan"],
            },
            "tempDir": {"disableCaching": True},
            "retentionPolicy": {
                "name": "all",
                "prune": False,
                "dryRun": True,
                "keepHourly": 1,
                "keepDaily": 2,
                "keepWeekly": 3,
                "keepMonthly": 4,
                "keepYearly": 5,
                "keepTags": ["a", "b"],
            },
        }
    )
    values = operator_variables(order)
    assert {
        name: values[name] for name in values if name.startswith(("RETENTION_", "TARGET_P"))
    } == {
        "TARGET_PATHS": "/src/a,/src/b",
        "RETENTION_KEEP_HOURLY": "1",
        "RETENTION_KEEP_DAILY": "2",
        "RETENTION_KEEP_WEEKLY": "3",
        "RETENTION_KEEP_MONTHLY": "4",
        "RETENTION_KEEP_YEARLY": "5",
        "RETENTION_KEEP_TAGS": "a,b",
        "RETENTION_DRY_RUN": "true",
    }
    assert values["HOSTNAME"] == "db"
    assert values["TARGET_MOUNT_PATH"] == "/src"
    assert values["EXCLUDE_PATTERNS"] == "*.tmp,cache"
    assert values["DRIVER_ARGS"] == "--tag=t1 --no-scan"
    assert values["ENABLE_CACHE"] == "false"


def test_everything_that_a_restore_may_set() -> None:
    """The rule for the host and the replicas reach the variables."""
    rules = [
        {
            "targetHosts": ["db"],
            "sourceHost": "old",
            "paths": ["/stash-data/a", "/stash-data/b"],
            "include": ["i"],
            "exclude": ["e", "f"],
        }
    ]
    target = {**TARGET, "alias": "db", "rules": rules, "replicas": 3}
    values = operator_variables(restore_order(spec={"target": target}))
    assert values["HOSTNAME"] == "db"
    assert values["SOURCE_HOSTNAME"] == "old"
    assert values["RESTORE_PATHS"] == "/stash-data/a,/stash-data/b"
    assert values["RESTORE_SNAPSHOTS"] == ""
    assert (values["INCLUDE_PATTERNS"], values["EXCLUDE_PATTERNS"]) == ("i", "e,f")
    assert values["TARGET_APP_REPLICAS"] == "3"


@pytest.mark.parametrize(
    ("backend", "absent"),
    [
        ({"gcs": {"bucket": "b", "maxConnections": 7}}, {"ENDPOINT", "REGION"}),
        ({"rest": {"url": "http://r/x"}}, {"REGION"}),
        ({"local": {"hostPath": {"path": "/x"}, "mountPath": "/safe"}}, {"ENDPOINT", "REGION"}),
    ],
)
def test_what_a_provider_has_not_is_absent(backend: dict[str, Any], absent: set[str]) -> None:
    """Endpoint and region are absent, not empty, where the provider has none."""
    values = operator_variables(backup_order(backend={"storageSecretName": "s", **backend}))
    found = {name for name in ("ENDPOINT", "REGION") if f"REPOSITORY_{name}" not in values}
    assert found == absent
    assert values["MAX_CONNECTIONS"] == ("7" if "gcs" in backend else "0")


def test_later_ones_win_step_then_operator_then_invoker() -> None:
    """A step's param gives way to the operator's value, and that to the invoker's param."""
    params = [{"name": "ENABLE_CACHE", "value": "invoker"}, {"name": "own", "value": "invoker"}]
    order = backup_order(spec={"task": {"name": "pvc-backup", "params": params}})
    step = (
        Param(name="ENABLE_CACHE", value="step"),
        Param(name="HOSTNAME", value="step"),
        Param(name="own", value="step"),
        Param(name="outputDir", value="step"),
    )
    values = step_variables(order, step)
    assert values["ENABLE_CACHE"] == "invoker"
    assert values["HOSTNAME"] == "host-0"
    assert values["own"] == "invoker"
    assert values["outputDir"] == "step"
    assert "outputDir" not in task_variables(order)


IDENTITY = [
    "REPOSITORY_BUCKET",
    "REPOSITORY_ANYTHING",
    "TARGET_NAME",
    "NAMESPACE",
    "BACKUP_SESSION",
    "RESTORE_SESSION",
    "STASH_IMAGE_TAG",
    "ADDON_IMAGE",
]


@pytest.mark.parametrize("name", IDENTITY)
def test_identity_cannot_be_overridden(name: str) -> None:
    """Whose data goes where, and which image runs, is not for params to say (D25)."""
    assert is_identity(name)
    params = [{"name": "fine", "value": "x"}, {"name": name, "value": "evil"}]
    order = backup_order(spec={"task": {"name": "pvc-backup", "params": params}})
    (problem,) = param_problems(order)
    assert problem.path == "BackupConfiguration demo/nightly spec.task.params[1].name"
    assert problem.message == (
        f"{name} is set by the operator and cannot be overridden: remove the param"
    )


def test_a_step_cannot_set_an_identity_variable_that_is_absent() -> None:
    """An S3 region for a backend without regions would be a lie, even from a Task."""
    order = backup_order(backend={"storageSecretName": "s", "gcs": {"bucket": "b"}})
    step = (Param(name="REPOSITORY_REGION", value="evil"),)
    assert "REPOSITORY_REGION" not in step_variables(order, step)


def test_no_secret_name_without_a_secret() -> None:
    """Without storageSecretName both of its variables are absent."""
    order = backup_order()
    backend = order.repository_spec.backend.model_copy(update={"storage_secret_name": ""})
    spec = order.repository_spec.model_copy(update={"backend": backend})
    values = operator_variables(dataclasses.replace(order, repository_spec=spec))
    assert not {"REPOSITORY_SECRET_NAME", "REPOSITORY_SECRET_NAMESPACE"} & values.keys()
