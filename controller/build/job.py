"""The Jobs of a session: backup, restore, and the removal of a dead pod's lock."""

from collections.abc import Mapping, Sequence
from typing import Any

from controller.api.backup import BackupTarget, flag_problems, is_below, paths_of
from controller.api.job_input import SCRATCH_DIR
from controller.api.model import Problem
from controller.api.names import backup_job_name, pod_hostname, restore_job_name, unlock_job_name
from controller.api.objects import Obj, dig, name_of, namespace_of, uid_of
from controller.api.report_encoding import snapshots_that_fit
from controller.api.resources import JOB
from controller.api.text import parse_go_duration_s
from controller.build.backend import LOCAL_VOLUME, local_volume
from controller.build.child import child
from controller.build.container import (
    RESTORE_VOLUME,
    SCRATCH_VOLUME,
    SECRET_VOLUME,
    environment_problems,
    handler_problems,
    merged_settings,
    own_mounts,
    pinned_environment,
    security_context,
    shared_fields,
    step_container,
)
from controller.build.input import environment_variable, job_input, report_bytes
from controller.build.labels import (
    REPOSITORY_NAME,
    REPOSITORY_PLACE,
    REPOSITORY_UID,
    child_labels,
    own_labels,
)
from controller.build.order import JobOrder
from controller.build.place import place_hash
from controller.build.pod import job_policy, pod_security_context, pod_template
from controller.build.rbac import job_rbac, job_service_account, needs_api_access
from controller.build.task import BACKUP_VERB, RESTORE_VERB, ResolvedTask, resolve

__all__ = [
    "JobOrder",
    "backup_job",
    "job_name",
    "job_rbac",
    "needs_api_access",
    "restore_job",
    "unlock_job",
]

BACKSTOP_S = 900
"""How much longer than `timeOut` a Job may last: the runner keeps the time itself (D9)."""
UNLOCK_DEADLINE_S = 1200
"""It starts, and watches for seven minutes a lock that looks old."""
_SECRET_MODE = 0o444  # the reader is any user, and we never set fsGroup
_OWN_VOLUMES = frozenset({SCRATCH_VOLUME, SECRET_VOLUME, RESTORE_VOLUME, LOCAL_VOLUME})


def backup_job(order: JobOrder) -> Obj | tuple[Problem, ...]:
    """Return the Job of a BackupSession, or everything that keeps it from being built."""
    return _job(order)


def restore_job(order: JobOrder) -> Obj | tuple[Problem, ...]:
    """Return the Job of a RestoreSession, or everything that keeps it from being built."""
    return _job(order)


def job_name(order: JobOrder) -> str:
    """Return the name of the session's Job."""
    name = backup_job_name if order.is_backup else restore_job_name
    return name(name_of(order.session))


def unlock_job(order: JobOrder, *, hostname: str = "") -> Obj | tuple[Problem, ...]:
    """Return the Job that removes the lock of the session's dead pod (D8).

    It has the dead pod's host name, by default the one that we gave it. The caller must know from
    the API server that no pod of that name lives.
    """
    problems = tuple(environment_problems(order, ()))
    if problems:
        return problems
    settings = merged_settings({}, order.spec.runtime_settings.container)
    pod_context = pod_security_context(order.spec.runtime_settings, is_backup=order.is_backup)
    document = job_input(
        order, containers=1, settings=settings, owns_retention=False, does_work=False
    )
    container = {
        "name": "unlock",
        "image": order.installation.image,
        "imagePullPolicy": order.installation.image_pull_policy,
        "args": ["unlock"],
        "env": [
            *settings["env"],
            *pinned_environment(settings),
            environment_variable(document),
        ],
        "volumeMounts": [
            *own_mounts(order),
            {"name": SCRATCH_VOLUME, "mountPath": SCRATCH_DIR},
        ],
        **shared_fields(order.installation, settings),
        "securityContext": security_context(
            settings.get("securityContext") or {},
            own=True,
            is_backup=order.is_backup,
            pod_uid=pod_context.get("runAsUser"),
        ),
    }
    name = job_name(order)
    return _assemble(
        order,
        unlock_job_name(name),
        [container],
        hostname=hostname or pod_hostname(name, uid_of(order.session)),
        deadline_s=UNLOCK_DEADLINE_S,
        security=pod_context,
        service_account=job_service_account(order),
    )


def _job(order: JobOrder) -> Obj | tuple[Problem, ...]:
    resolved = resolve(order)
    if isinstance(resolved, tuple):
        return resolved
    problems = [
        *environment_problems(order, resolved.steps),
        *handler_problems(order, resolved.steps),
        *_flag_problems(order, resolved),
        *_report_problems(order, resolved),
        *_volume_problems(order, resolved),
        *_local_problems(order),
    ]
    if problems:
        return tuple(problems)
    pod_context = pod_security_context(order.spec.runtime_settings, is_backup=order.is_backup)
    containers = [
        step_container(order, step, steps=resolved.steps, pod_uid=pod_context.get("runAsUser"))
        for step in resolved.steps
    ]
    time_out_s = parse_go_duration_s(order.spec.time_out)
    name = job_name(order)
    return _assemble(
        order,
        name,
        containers,
        volumes=resolved.volumes,
        hostname=pod_hostname(name, uid_of(order.session)),
        deadline_s=int(time_out_s) + BACKSTOP_S if time_out_s else None,
        security=pod_context,
        needs_token=needs_api_access(order),
        service_account=job_service_account(order),
    )


def _assemble(
    order: JobOrder,
    name: str,
    containers: Sequence[Obj],
    *,
    hostname: str,
    deadline_s: int | None,
    security: Obj,
    volumes: Sequence[Obj] = (),
    needs_token: bool = False,
    service_account: str = "",
) -> Obj:
    kind = order.invoker_resource.kind
    built_for = {
        REPOSITORY_NAME: name_of(order.repository),
        REPOSITORY_UID: uid_of(order.repository),
        REPOSITORY_PLACE: place_hash(order.repository_spec, namespace_of(order.repository)),
    }
    spec: dict[str, Any] = {
        **job_policy(),
        "template": pod_template(
            order.installation,
            order.spec.runtime_settings,
            labels=own_labels(order.component, kind, order.invoker),
            containers=containers,
            volumes=[*volumes, *_own_volumes(order)],
            security_context=security,
            needs_token=needs_token,
            service_account=service_account,
            hostname=hostname,
            node_name=order.node_name,
            annotations=built_for,  # the pod may outlive the Job
        ),
    }
    if deadline_s is not None:
        spec["activeDeadlineSeconds"] = deadline_s
    return child(
        JOB,
        name,
        (order.session_resource, order.session),
        labels=child_labels(order.component, kind, order.invoker),
        annotations=built_for,
        body={"spec": spec},
    )


def _own_volumes(order: JobOrder) -> list[dict[str, Any]]:
    temp_dir = order.spec.temp_dir
    scratch: dict[str, Any] = {}
    if temp_dir.medium:
        scratch["medium"] = temp_dir.medium
    if temp_dir.size_limit is not None:
        scratch["sizeLimit"] = str(temp_dir.size_limit)
    secret = order.repository_spec.backend.storage_secret_name
    volumes: list[dict[str, Any]] = [
        {"name": SCRATCH_VOLUME, "emptyDir": scratch},
        {
            "name": SECRET_VOLUME,
            "secret": {"secretName": secret, "defaultMode": _SECRET_MODE},
        },
    ]
    if not order.is_backup:
        volumes.append({"name": RESTORE_VOLUME, "emptyDir": {}})
    if local := local_volume(order.repository_spec):
        volumes.append(local[0])
    return volumes


def _volume_problems(order: JobOrder, resolved: ResolvedTask) -> list[Problem]:
    """Return a problem for each volume of ours that a Task redefines, or a Function mounts.

    Params may name volumes: by them nobody shall get at the storage Secret or at the repository
    (D26). The scratch volume is mounted into every container anyway.
    """
    message = "is a volume of the operator"
    return [
        *(
            Problem(
                f"Task {order.spec.task.name} spec.volumes[{index}].name",
                f"{volume.get('name')} {message}: choose another name",
            )
            for index, volume in enumerate(resolved.volumes)
            if volume.get("name") in _OWN_VOLUMES
        ),
        *(
            Problem(
                f"Function {step.function} spec.{field}[{index}].name",
                f"{mount.get('name')} {message}: name a volume of the Task, "
                "also in the params that the name is made of",
            )
            for step in resolved.steps
            for field, mounts in (
                ("volumeMounts", step.volume_mounts),
                ("volumeDevices", step.volume_devices),
            )
            for index, mount in enumerate(mounts)
            if mount.get("name") in _OWN_VOLUMES
        ),
    ]


def _flag_problems(order: JobOrder, resolved: ResolvedTask) -> list[Problem]:
    """Return what is wrong with the target's args when a step of ours gives them to restic."""
    verb = BACKUP_VERB if order.is_backup else RESTORE_VERB
    if not any(step.own and step.args[:1] == (verb,) for step in resolved.steps):
        return []
    user = f"{order.invoker_resource} {namespace_of(order.invoker)}/{name_of(order.invoker)}"
    return [
        Problem(f"{user} {problem.path}", problem.message)
        for problem in flag_problems(verb, order.spec.target.args if order.spec.target else ())
    ]


def _report_problems(order: JobOrder, resolved: ResolvedTask) -> list[Problem]:
    """Return a problem when a container's report cannot hold one snapshot for each path (D11)."""
    target = order.spec.target
    if not isinstance(target, BackupTarget):
        return []
    steps = len(resolved.steps)
    most = snapshots_that_fit(report_bytes(steps))
    if len(paths_of(target)) <= most:
        return []
    return [
        Problem(
            f"BackupConfiguration {namespace_of(order.invoker)}/{name_of(order.invoker)} "
            "spec.target.paths",
            f"at most {most} paths with a Task of {steps} steps: name a folder above them and use "
            "spec.target.exclude, or make another BackupConfiguration",
        )
    ]


def _local_problems(order: JobOrder) -> list[Problem]:
    """Return a problem when the repository would lie in the target itself.

    It would be backed up into itself, overwritten by a restore, and lost with what it is to save.
    """
    local: Mapping[str, Any] | None = order.repository_spec.backend.local
    if local is None:
        return []
    subject = (
        f"Repository {namespace_of(order.repository)}/{name_of(order.repository)} "
        "spec.backend.local"
    )
    problems = []
    claim = dig(local, "persistentVolumeClaim", "claimName")
    if order.spec.target is not None and claim == order.spec.target.ref.name:
        problems.append(
            Problem(
                f"{subject}.persistentVolumeClaim.claimName",
                f"{claim} is the target itself, and the repository would be lost with it: "
                "choose another claim",
            )
        )
    path = str(local["mountPath"])
    if order.is_backup and (is_below(path, order.mount_path) or is_below(order.mount_path, path)):
        problems.append(
            Problem(
                f"{subject}.mountPath",
                f"{path} overlaps {order.mount_path}, where the target is mounted: choose another",
            )
        )
    return problems
