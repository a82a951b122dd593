"""Orders for Jobs, for tests of the manifest builders."""

from collections.abc import Mapping
from typing import Any

from controller.api.backup import BackupConfigurationSpec
from controller.api.catalog import FunctionSpec, TaskSpec
from controller.api.model import SpecT, parse_spec
from controller.api.objects import Obj
from controller.api.repository import RepositorySpec
from controller.api.restore import RestoreSessionSpec, rule_for
from controller.build.catalog import catalogue
from controller.build.installation import Installation
from controller.build.order import JobOrder

INSTALLATION = Installation(
    image="registry.example/drey:1.2.3",
    namespace="drey-system",
    pushgateway_url="http://drey.drey-system.svc:56789",
)
S3_BACKEND = {
    "storageSecretName": "s3-secret",
    "s3": {"endpoint": "https://s3.example", "bucket": "backups", "prefix": "/demo/data"},
}
TARGET = {"ref": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "data"}}
CREATED = "2026-01-02T03:04:05Z"


def parsed(model: type[SpecT], spec: Any) -> SpecT:
    """Return a parsed spec; a problem in it is a mistake of the test."""
    value = parse_spec(model, {"spec": spec})
    assert not isinstance(value, tuple), value
    return value


def obj(kind: str, name: str, spec: Any = None, **metadata: Any) -> Obj:
    """Return an object of namespace `demo` as an informer would hand it out."""
    return {
        "apiVersion": "stash.appscode.com/v1beta1",
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": "demo",
            "uid": f"uid-of-{name}",
            "creationTimestamp": CREATED,
            **metadata,
        },
        "spec": spec or {},
    }


def configuration_spec(**changes: Any) -> dict[str, Any]:
    """Return the spec of a BackupConfiguration of the claim `data`."""
    return {
        "schedule": "*/5 * * * *",
        "task": {"name": "pvc-backup"},
        "repository": {"name": "repo"},
        "target": TARGET,
        "retentionPolicy": {"name": "keep-last-5", "keepLast": 5, "prune": True},
        **changes,
    }


def restore_spec(**changes: Any) -> dict[str, Any]:
    """Return the spec of a RestoreSession into the claim `data`."""
    return {
        "task": {"name": "pvc-restore"},
        "repository": {"name": "repo"},
        "target": {**TARGET, "rules": [{"snapshots": ["latest"]}]},
        **changes,
    }


def functions(own: Mapping[str, Any] | None = None) -> dict[str, FunctionSpec]:
    """Return the Functions of the catalogue and those given, by name."""
    specs = {
        item["metadata"]["name"]: item["spec"]
        for item in catalogue(INSTALLATION)
        if item["kind"] == "Function"
    }
    return {name: parsed(FunctionSpec, spec) for name, spec in {**specs, **(own or {})}.items()}


def task(name: str) -> TaskSpec:
    """Return a Task of the catalogue."""
    (spec,) = (
        item["spec"]
        for item in catalogue(INSTALLATION)
        if item["kind"] == "Task" and item["metadata"]["name"] == name
    )
    return parsed(TaskSpec, spec)


def backup_order(
    spec: Mapping[str, Any] | None = None, backend: Mapping[str, Any] | None = None, **fields: Any
) -> JobOrder:
    """Return the order for a backup; `spec` and `backend` change the default ones."""
    raw = configuration_spec(**(spec or {}))
    values: dict[str, Any] = {
        "session": obj("BackupSession", "nightly-1700000000"),
        "invoker": obj("BackupConfiguration", "nightly", raw),
        "spec": parsed(BackupConfigurationSpec, raw),
        "repository": obj("Repository", "repo"),
        "repository_spec": parsed(RepositorySpec, {"backend": backend or S3_BACKEND}),
        "task": task("pvc-backup"),
        "functions": functions(),
        "installation": INSTALLATION,
        **fields,
    }
    return JobOrder(**values)


def restore_order(
    spec: Mapping[str, Any] | None = None, backend: Mapping[str, Any] | None = None, **fields: Any
) -> JobOrder:
    """Return the order for a restore; `spec` and `backend` change the default ones."""
    raw = restore_spec(**(spec or {}))
    model = parsed(RestoreSessionSpec, raw)
    session = obj("RestoreSession", "bring-back", raw)
    rule = rule_for(model, model.target.alias if model.target and model.target.alias else "host-0")
    values: dict[str, Any] = {
        "session": session,
        "invoker": session,
        "spec": model,
        "repository": obj("Repository", "repo"),
        "repository_spec": parsed(RepositorySpec, {"backend": backend or S3_BACKEND}),
        "task": task("pvc-restore"),
        "functions": functions(),
        "installation": INSTALLATION,
        "rule": rule,
        **fields,
    }
    return JobOrder(**values)
