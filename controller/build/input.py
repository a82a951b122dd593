"""The JobInput of a session: what the containers of our image are told."""

from datetime import timedelta
from typing import Any

from controller.api.backup import BackupConfigurationSpec, RetentionPolicy, paths_of
from controller.api.job_input import (
    ENVIRONMENT_VARIABLE,
    BackupInput,
    Invoker,
    JobInput,
    RestoreInput,
    Retention,
    Target,
)
from controller.api.objects import Obj, dig, meta, name_of, namespace_of
from controller.api.references import TargetRef
from controller.api.restore import RestoreSessionSpec
from controller.api.text import format_time, parse_go_duration_s, parse_time
from controller.build.backend import repository_input
from controller.build.order import JobOrder

POD_REPORT_BYTES = 12_288
CONTAINER_REPORT_BYTES = 4_096


def report_bytes(containers: int) -> int:
    """Return a container's share of the termination messages that the kubelet keeps (D11)."""
    return min(CONTAINER_REPORT_BYTES, POD_REPORT_BYTES // containers)


def environment_variable(document: JobInput) -> dict[str, str]:
    """Return the environment variable that carries the document.

    The kubelet expands `$(NAME)` and halves `$$` in values: the dollar is written as JSON's escape,
    so that an exclude pattern arrives as it was written.
    """
    return named_environment_variable(ENVIRONMENT_VARIABLE, document.encode())


def named_environment_variable(name: str, document: str) -> dict[str, str]:
    """Return an environment variable that carries a JSON document past the kubelet unchanged."""
    return {"name": name, "value": document.replace("$", "\\u0024")}


def job_input(
    order: JobOrder, *, containers: int, settings: Obj, owns_retention: bool, does_work: bool = True
) -> JobInput:
    """Return what one container is told.

    `settings` are its merged runtime settings, of which nice and ionice are ours to keep.
    `owns_retention` is False when a later step applies retention and verifies (D16). Without
    `does_work` it gets no BackupInput and no RestoreInput: it only cleans up.
    """
    spec = order.spec
    ref = spec.target.ref if spec.target else TargetRef()
    is_backup = isinstance(spec, BackupConfigurationSpec)
    return JobInput(
        session_kind=order.session_resource.kind,
        session_namespace=order.namespace,
        session_name=name_of(order.session),
        session_created=str(meta(order.session).get("creationTimestamp") or ""),
        invoker=Invoker(
            order.invoker_resource.kind, namespace_of(order.invoker), name_of(order.invoker)
        ),
        target=Target(ref.api_version, ref.kind, order.target_namespace, ref.name),
        host=order.host,
        repository=repository_input(
            order.repository,
            order.repository_spec,
            repository_id=order.repository_id,
            may_initialise=order.may_initialise and is_backup and does_work,
        ),
        backup=_backup(order, spec, owns_retention=owns_retention)
        if isinstance(spec, BackupConfigurationSpec) and does_work
        else None,
        restore=_restore(order, spec)
        if isinstance(spec, RestoreSessionSpec) and does_work
        else None,
        cache=not spec.temp_dir.disable_caching,
        deadline=_deadline(order),
        nice=_whole(settings, "nice", "adjustment"),
        ionice_class=_whole(settings, "ionice", "class"),
        ionice_level=_whole(settings, "ionice", "classData"),
        report_bytes=report_bytes(containers),
        pushgateway_url=order.installation.pushgateway_url,
        metrics_group=metrics_group(
            order.invoker_resource.kind, namespace_of(order.invoker), name_of(order.invoker)
        ),
        metrics_labels={
            "invoker_kind": order.invoker_resource.kind,
            "invoker_name": name_of(order.invoker),
            "namespace": namespace_of(order.invoker),
            "driver": "Restic",
            "repository": name_of(order.repository),
        },
    )


def metrics_group(kind: str, namespace: str, name: str) -> str:
    """Return the Pushgateway's job label of an invoker (stash.md 8.1)."""
    return f"{kind.lower()}-{namespace}-{name}"


def config_tag(namespace: str, name: str) -> str:
    """Return the tag that says which configuration a snapshot belongs to (D1)."""
    return f"drey:config={namespace}/{name}"


def target_tag(kind: str, namespace: str, name: str) -> str:
    """Return the tag that says of what a snapshot was taken (D1)."""
    return f"drey:target={kind}/{namespace}/{name}"


def _target_tag(order: JobOrder) -> str:
    ref = order.spec.target.ref if order.spec.target else TargetRef()
    return target_tag(ref.kind, order.target_namespace, ref.name)


def _backup(order: JobOrder, spec: BackupConfigurationSpec, *, owns_retention: bool) -> BackupInput:
    target = spec.target
    return BackupInput(
        paths=paths_of(target) if target else (order.mount_path,),
        mount_path=order.mount_path,
        config_tag=config_tag(namespace_of(order.invoker), name_of(order.invoker)),
        target_tag=_target_tag(order),
        exclude=target.exclude if target else (),
        args=target.args if target else (),
        retention=_retention(spec.retention_policy) if owns_retention else None,
        claim_untagged=order.claim_untagged,
        verify=order.verify and owns_retention,
        damaged=order.damaged and owns_retention,
        accept_incomplete=order.accept_incomplete,
        careful=order.careful,
        known_incomplete=order.known_incomplete,
    )


def _restore(order: JobOrder, spec: RestoreSessionSpec) -> RestoreInput:
    rule = order.rule
    return RestoreInput(
        mount_path=order.mount_path,
        target_tag=_target_tag(order),
        source_host=rule.source_host or order.host,
        snapshots=rule.snapshots,
        # a rule without snapshots and paths restores nothing in Stash, and calls that a success
        paths=rule.paths if rule.snapshots or rule.paths else (order.mount_path,),
        include=rule.include,
        exclude=rule.exclude,
        args=spec.target.args if spec.target else (),
        known_incomplete=order.known_incomplete,
    )


def _retention(policy: RetentionPolicy) -> Retention:
    return Retention(
        keep_last=policy.keep_last,
        keep_hourly=policy.keep_hourly,
        keep_daily=policy.keep_daily,
        keep_weekly=policy.keep_weekly,
        keep_monthly=policy.keep_monthly,
        keep_yearly=policy.keep_yearly,
        keep_tags=policy.keep_tags,
        prune=policy.prune,
        dry_run=policy.dry_run,
    )


def _deadline(order: JobOrder) -> str:
    seconds = parse_go_duration_s(order.spec.time_out)
    created = meta(order.session).get("creationTimestamp")
    if not seconds or not created:
        return ""
    return format_time(parse_time(created) + timedelta(seconds=seconds))


def _whole(settings: Obj, *path: str) -> int | None:
    value: Any = dig(settings, *path)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
