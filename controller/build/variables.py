"""The values of the `${variables}` that Functions and Tasks may use (stash.md 3.4).

An absent variable takes the default that the text gives; one that is present but empty stays empty.
So which of them are present is part of the contract.
"""

from collections.abc import Iterable

from controller.api.backup import (
    BackupConfigurationSpec,
    Param,
    RetentionPolicy,
    paths_of,
)
from controller.api.model import Problem
from controller.api.objects import name_of, namespace_of
from controller.api.references import TargetRef
from controller.api.restore import RestoreSessionSpec
from controller.build.backend import location_of
from controller.build.order import JobOrder

ADDON_IMAGE = "ADDON_IMAGE"
SECRET_NAME = "REPOSITORY_SECRET_NAME"  # noqa: S105 - a variable's name
INTERIM_DATA_DIR = "/stash-tmp/stash-interim-volume/data"

_IDENTITY_PREFIXES = ("REPOSITORY_", "TARGET_")
_IDENTITY_SUFFIXES = ("_SESSION",)
_IDENTITY_NAMES = frozenset(
    {
        "NAMESPACE",
        "INVOKER_KIND",
        "INVOKER_NAME",
        "STASH_DOCKER_REGISTRY",
        "STASH_DOCKER_IMAGE",
        "STASH_IMAGE_TAG",
        ADDON_IMAGE,
    }
)


def is_identity(name: str) -> bool:
    """Tell whether a variable says whose data goes where, or which image runs (D25)."""
    return (
        name in _IDENTITY_NAMES
        or name.startswith(_IDENTITY_PREFIXES)
        or name.endswith(_IDENTITY_SUFFIXES)
    )


def param_problems(order: JobOrder) -> tuple[Problem, ...]:
    """Return a problem for each param of the invoker that would change an identity variable."""
    subject = f"{order.invoker_resource} {namespace_of(order.invoker)}/{name_of(order.invoker)}"
    return tuple(
        Problem(
            f"{subject} spec.task.params[{index}].name",
            f"{param.name} is set by the operator and cannot be overridden: remove the param",
        )
        for index, param in enumerate(order.spec.task.params)
        if is_identity(param.name)
    )


def task_variables(order: JobOrder) -> dict[str, str]:
    """Return the variables of the Task's own texts: the operator's and the invoker's."""
    return operator_variables(order) | _values(order.spec.task.params)


def step_variables(order: JobOrder, params: Iterable[Param]) -> dict[str, str]:
    """Return the variables of a step; later ones win: step, operator, invoker.

    A step cannot set an identity variable, not even one that is absent.
    """
    own = {name: value for name, value in _values(params).items() if not is_identity(name)}
    return own | task_variables(order)


def operator_variables(order: JobOrder) -> dict[str, str]:
    """Return the variables that the operator sets."""
    spec = order.spec
    ref = spec.target.ref if spec.target else TargetRef()
    values = {
        **_repository(order),
        "HOSTNAME": order.host,
        "ENABLE_CACHE": _flag(not spec.temp_dir.disable_caching),
        "INTERIM_DATA_DIR": INTERIM_DATA_DIR,
        "TARGET_KIND": ref.kind,
        "TARGET_NAME": ref.name,
        "TARGET_NAMESPACE": order.target_namespace,
        "TARGET_MOUNT_PATH": order.mount_path,
        "NAMESPACE": order.namespace,
        "INVOKER_KIND": order.invoker_resource.kind,
        "INVOKER_NAME": name_of(order.invoker),
        "STASH_DOCKER_REGISTRY": order.installation.docker_registry,
        "STASH_DOCKER_IMAGE": order.installation.docker_image,
        "STASH_IMAGE_TAG": order.installation.image_tag,
        "LICENSE_APISERVICE": "",
        "PROMETHEUS_PUSHGATEWAY_URL": order.installation.pushgateway_url,
        "PROMETHEUS_JOB_NAME": name_of(order.invoker),
    }
    if spec.target is not None and spec.target.args:
        values["DRIVER_ARGS"] = " ".join(spec.target.args)
    if isinstance(spec, BackupConfigurationSpec):
        return values | _backup(order, spec)
    return values | _restore(order, spec)


def _repository(order: JobOrder) -> dict[str, str]:
    location = location_of(order.repository_spec)
    values = {
        "REPOSITORY_NAME": name_of(order.repository),
        "REPOSITORY_NAMESPACE": namespace_of(order.repository),
        "REPOSITORY_PROVIDER": location.provider.value,
        "REPOSITORY_BUCKET": location.bucket,
        "REPOSITORY_PREFIX": location.prefix,
        "REPOSITORY_INSECURE_TLS": _flag(location.insecure_tls),
        "MAX_CONNECTIONS": str(location.max_connections),
    }
    if location.endpoint is not None:
        values["REPOSITORY_ENDPOINT"] = location.endpoint
    if location.region is not None:
        values["REPOSITORY_REGION"] = location.region
    if secret := order.repository_spec.backend.storage_secret_name:
        values[SECRET_NAME] = secret
        values["REPOSITORY_SECRET_NAMESPACE"] = namespace_of(order.repository)
    return values


def _backup(order: JobOrder, spec: BackupConfigurationSpec) -> dict[str, str]:
    values = {"BACKUP_SESSION": name_of(order.session), **_retention(spec.retention_policy)}
    if spec.target is not None:
        values["TARGET_PATHS"] = ",".join(paths_of(spec.target))
        if spec.target.exclude:
            values["EXCLUDE_PATTERNS"] = ",".join(spec.target.exclude)
    return values


def _restore(order: JobOrder, spec: RestoreSessionSpec) -> dict[str, str]:
    replicas = spec.target.replicas if spec.target else None
    return {
        "RESTORE_SESSION": name_of(order.session),
        "SOURCE_HOSTNAME": order.rule.source_host or order.host,
        "EXCLUDE_PATTERNS": ",".join(order.rule.exclude),
        "INCLUDE_PATTERNS": ",".join(order.rule.include),
        "RESTORE_PATHS": ",".join(order.rule.paths),
        "RESTORE_SNAPSHOTS": ",".join(order.rule.snapshots),
        "TARGET_APP_REPLICAS": str(1 if replicas is None else replicas),
    }


def _retention(policy: RetentionPolicy) -> dict[str, str]:
    numbers = {
        "RETENTION_KEEP_LAST": policy.keep_last,
        "RETENTION_KEEP_HOURLY": policy.keep_hourly,
        "RETENTION_KEEP_DAILY": policy.keep_daily,
        "RETENTION_KEEP_WEEKLY": policy.keep_weekly,
        "RETENTION_KEEP_MONTHLY": policy.keep_monthly,
        "RETENTION_KEEP_YEARLY": policy.keep_yearly,
    }
    values = {name: str(number) for name, number in numbers.items() if number > 0}
    if policy.keep_tags:
        values["RETENTION_KEEP_TAGS"] = ",".join(policy.keep_tags)
    if policy.prune:
        values["RETENTION_PRUNE"] = "true"
    if policy.dry_run:
        values["RETENTION_DRY_RUN"] = "true"
    return values


def _values(params: Iterable[Param]) -> dict[str, str]:
    return {param.name: param.value for param in params}


def _flag(value: bool) -> str:  # noqa: FBT001 - it is the value, not a switch
    return "true" if value else "false"
