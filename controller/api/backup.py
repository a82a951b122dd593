"""BackupConfiguration: what to back up, when, where to, and what to keep."""

from typing import Any, Final, Literal

from pydantic import Field

from controller.api.checks import (
    alias_problems,
    duration_problems,
    mount_problems,
    name_problems,
    replicas_problems,
)
from controller.api.flags import user_flags
from controller.api.hooks import BackupHooks, hook_problems
from controller.api.job_input import is_keep_tag
from controller.api.model import Model, Problem
from controller.api.names import PVC_BACKUP
from controller.api.objects import Obj
from controller.api.references import (
    RepositoryRef,
    TargetRef,
    repository_ref_problems,
    target_ref_problems,
    workload_ref_problems,
)
from controller.api.resources import STATEFUL_SET
from controller.api.workload import MAX_CLAIMS

DEFAULT_MOUNT_PATH = "/stash-data"
DEFAULT_HOST = "host-0"
DEFAULT_HISTORY_LIMIT = 1
MAX_PATHS = 20
"""What one report holds with sizes and the ends of the paths (D11, D33)."""
Driver = Literal["Restic", "VolumeSnapshotter"]
SNAPSHOTTER: Final = "VolumeSnapshotter"


class Param(Model):
    """One variable of a Task."""

    name: str
    value: str


class TaskRef(Model):
    """The Task to run, and what overrides its variables."""

    name: str = ""
    params: tuple[Param, ...] = ()


class BackupTarget(Model):
    """What of the target is backed up. `alias` becomes restic's host name."""

    ref: TargetRef = TargetRef()
    alias: str = ""
    paths: tuple[str, ...] = ()
    volume_mounts: tuple[dict[str, Any], ...] = ()
    replicas: int | None = None
    snapshot_class_name: str = Field(default="", alias="snapshotClassName")
    exclude: tuple[str, ...] = ()
    args: tuple[str, ...] = ()


class RetentionPolicy(Model):
    """The keep rules. `name` is for people only."""

    name: str
    prune: bool
    keep_last: int = 0
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    keep_tags: tuple[str, ...] = ()
    dry_run: bool = False


class RuntimeSettings(Model):
    """Settings of the Jobs' pods and containers, in Kubernetes' own shapes."""

    pod: dict[str, Any] = Field(default_factory=dict)
    container: dict[str, Any] = Field(default_factory=dict)


class TempDir(Model):
    """The emptyDir for caches and temporary files."""

    medium: str = ""
    size_limit: str | int | None = None
    disable_caching: bool = False


class RetryConfig(Model):
    """How often, and how long after a failure, a session is tried again."""

    max_retry: int = 1
    delay: str = ""


class BackupConfigurationSpec(Model):
    """`spec` of a BackupConfiguration."""

    schedule: str = ""
    driver: Driver = "Restic"
    task: TaskRef = TaskRef()
    repository: RepositoryRef | None = None
    target: BackupTarget | None = None
    retention_policy: RetentionPolicy
    runtime_settings: RuntimeSettings = RuntimeSettings()
    temp_dir: TempDir = TempDir()
    interim_volume_template: Obj | None = None
    hooks: BackupHooks | None = None
    paused: bool = False
    backup_history_limit: int | None = None
    time_out: str = ""
    retry_config: RetryConfig | None = None

    @property
    def history_limit(self) -> int:
        """Return how many ended sessions are kept; Stash's default is 1."""
        limit = self.backup_history_limit
        return DEFAULT_HISTORY_LIMIT if limit is None else limit


def host_of(alias: str) -> str:
    """Return restic's host name of a PVC target (stash.md 7.1)."""
    return alias or DEFAULT_HOST


def mount_path_of(volume_mounts: tuple[dict[str, Any], ...]) -> str:
    """Return where the target's volume is mounted: the first mount path, by default /stash-data."""
    return str(volume_mounts[0].get("mountPath")) if volume_mounts else DEFAULT_MOUNT_PATH


def paths_of(target: BackupTarget) -> tuple[str, ...]:
    """Return the paths to back up: one snapshot each (D33). By default the whole mount.

    Stash falls back to /stash-data even under another mount path, which can only fail; we fall
    back to the mount path.
    """
    return target.paths or (mount_path_of(target.volume_mounts),)


def backup_configuration_problems(
    spec: BackupConfigurationSpec, *, namespace: str
) -> tuple[Problem, ...]:
    """Return what is wrong with a BackupConfiguration beyond its schema."""
    problems: list[Problem] = []
    if spec.driver == SNAPSHOTTER:
        problems += _snapshot_problems(spec, namespace=namespace)
    else:
        problems += _restic_problems(spec, namespace=namespace)
    if spec.interim_volume_template:
        problems.append(Problem("spec.interimVolumeTemplate", "not supported yet: remove it"))
    problems += _retention_problems(spec.retention_policy)
    problems += duration_problems("spec.timeOut", spec.time_out)
    if spec.retry_config is not None:
        problems += duration_problems("spec.retryConfig.delay", spec.retry_config.delay)
    return tuple(problems)


def _restic_problems(spec: BackupConfigurationSpec, *, namespace: str) -> list[Problem]:
    problems: list[Problem] = []
    if spec.repository is None:
        problems.append(Problem("spec.repository", "name the Repository to back up to"))
    if not spec.task.name:
        problems.append(Problem("spec.task.name", "name the Task, for example pvc-backup"))
    if spec.hooks is not None and (spec.hooks.pre_backup or spec.hooks.post_backup):
        problems.append(
            Problem("spec.hooks", "hooks are not supported yet with the Restic driver: remove them")
        )
    if spec.repository is not None:
        problems += repository_ref_problems(spec.repository, namespace=namespace)
    return problems + _target_problems(spec, namespace=namespace)


def _snapshot_problems(spec: BackupConfigurationSpec, *, namespace: str) -> list[Problem]:
    """Return what is wrong for VolumeSnapshots; what only restic reads is ignored, as by Stash."""
    problems: list[Problem] = []
    target = spec.target
    if target is None:
        problems.append(Problem("spec.target", "name the target, for example a StatefulSet"))
    else:
        problems += workload_ref_problems(target.ref, namespace=namespace)
        path = "spec.target.replicas"
        if target.replicas is not None and target.ref.kind != STATEFUL_SET.kind:
            problems.append(Problem(path, f"only for a {STATEFUL_SET.kind}: remove it"))
        else:
            problems += replicas_problems(path, target.replicas, most=MAX_CLAIMS)
        if target.snapshot_class_name:
            problems += name_problems("spec.target.snapshotClassName", target.snapshot_class_name)
    if spec.hooks is not None:
        for name, hook in (
            ("preBackup", spec.hooks.pre_backup),
            ("postBackup", spec.hooks.post_backup),
        ):
            if hook is not None:
                problems += hook_problems(f"spec.hooks.{name}", hook)
    return problems


def _target_problems(spec: BackupConfigurationSpec, *, namespace: str) -> list[Problem]:
    target = spec.target
    if target is None:
        return [Problem("spec.target", "name the target, for example a PVC")]
    problems = [
        *target_ref_problems(target.ref, namespace=namespace),
        *alias_problems(target.alias),
        *(flag_problems("backup", target.args) if spec.task.name == PVC_BACKUP else ()),
        *mount_problems(target.volume_mounts),
    ]
    if len(target.paths) > MAX_PATHS:
        problems.append(
            Problem(
                "spec.target.paths",
                f"at most {MAX_PATHS} paths, each is a snapshot of its own: name a folder above "
                "them and use spec.target.exclude, or make another BackupConfiguration",
            )
        )
    mount = mount_path_of(target.volume_mounts)
    problems += [
        Problem(
            f"spec.target.paths[{index}]",
            f"{path!r} does not lie in the target's volume, which is mounted at {mount}",
        )
        for index, path in enumerate(target.paths)
        if not is_below(path, mount)
    ]
    return problems


def _retention_problems(policy: RetentionPolicy) -> list[Problem]:
    """Return what is wrong with the keep rules: a slip here deletes snapshots (D6)."""
    numbers = {
        "keepLast": policy.keep_last,
        "keepHourly": policy.keep_hourly,
        "keepDaily": policy.keep_daily,
        "keepWeekly": policy.keep_weekly,
        "keepMonthly": policy.keep_monthly,
        "keepYearly": policy.keep_yearly,
    }
    where = "spec.retentionPolicy"
    return [
        *(
            Problem(f"{where}.{name}", f"give a positive number, or leave it out, not {number}")
            for name, number in numbers.items()
            if number < 0
        ),
        *(
            Problem(f"{where}.keepTags[{index}]", f"{tag!r} names no tag: remove it")
            for index, tag in enumerate(policy.keep_tags)
            if not is_keep_tag(tag)
        ),
    ]


def flag_problems(verb: str, args: tuple[str, ...]) -> list[Problem]:
    """Return what is wrong with a target's `args` where they are flags of `restic <verb>` (D25).

    Elsewhere they belong to somebody else's program: a Task of a third party gets them as
    DRIVER_ARGS.
    """
    try:
        user_flags(verb, args)
    except ValueError as err:
        return [Problem("spec.target.args", str(err))]
    return []


def is_below(path: str, folder: str) -> bool:
    """Tell whether an absolute path is a folder or lies below it, `..` excluded."""
    parts = [part for part in path.split("/") if part]
    base = [part for part in folder.split("/") if part]
    return path.startswith("/") and ".." not in parts and parts[: len(base)] == base
