"""RestoreSession: what to restore, and where to."""

from typing import Any

from pydantic import Field

from controller.api.backup import (
    SNAPSHOTTER,
    Driver,
    RuntimeSettings,
    TaskRef,
    TempDir,
    flag_problems,
    host_of,
    is_below,
    mount_path_of,
)
from controller.api.checks import alias_problems, duration_problems, mount_problems
from controller.api.claim_templates import claim_template_problems
from controller.api.hooks import RestoreHooks
from controller.api.model import Model, Problem
from controller.api.names import PVC_RESTORE
from controller.api.objects import Obj
from controller.api.references import (
    RepositoryRef,
    TargetRef,
    repository_ref_problems,
    target_ref_problems,
)


class Rule(Model):
    """What to restore for which hosts. At most one rule may have no `targetHosts`."""

    target_hosts: tuple[str, ...] = ()
    source_host: str = ""
    snapshots: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class RestoreTarget(Model):
    """Where to restore to."""

    ref: TargetRef = TargetRef()
    alias: str = ""
    rules: tuple[Rule, ...] = ()
    volume_mounts: tuple[dict[str, Any], ...] = ()
    volume_claim_templates: tuple[dict[str, Any], ...] = ()
    replicas: int | None = None
    args: tuple[str, ...] = ()


class RestoreSessionSpec(Model):
    """`spec` of a RestoreSession. `rules` is the deprecated place of `target.rules`."""

    driver: Driver = "Restic"
    task: TaskRef = TaskRef()
    repository: RepositoryRef | None = None
    target: RestoreTarget | None = None
    rules: tuple[Rule, ...] = ()
    runtime_settings: RuntimeSettings = RuntimeSettings()
    temp_dir: TempDir = TempDir()
    interim_volume_template: Obj | None = None
    hooks: RestoreHooks | None = None
    time_out: str = Field(default="")


def rules_of(spec: RestoreSessionSpec) -> tuple[Rule, ...]:
    """Return the rules; both places count, the current one first (stash.md 9.2)."""
    return (spec.target.rules if spec.target else ()) or spec.rules


def rule_for(spec: RestoreSessionSpec, host: str) -> Rule | None:
    """Return the rule that applies to a host (stash.md 7.2).

    The first that names the host wins, else the one without `targetHosts`. Without any rule at all
    the newest snapshot is wanted; with rules of which none matches nothing is: None.
    """
    rules = rules_of(spec)
    if not rules:
        return Rule()
    for rule in rules:
        if host in rule.target_hosts:
            return rule
    return next((rule for rule in reversed(rules) if not rule.target_hosts), None)


def restore_session_problems(spec: RestoreSessionSpec, *, namespace: str) -> tuple[Problem, ...]:
    """Return what is wrong with a RestoreSession beyond its schema."""
    problems: list[Problem] = []
    if spec.driver == SNAPSHOTTER:
        problems += _claim_problems(spec, namespace=namespace)
    else:
        problems += _restic_problems(spec, namespace=namespace)
    if spec.hooks is not None and (spec.hooks.pre_restore or spec.hooks.post_restore):
        problems.append(
            Problem("spec.hooks", "hooks of a restore are not supported yet: remove them")
        )
    if spec.interim_volume_template:
        problems.append(Problem("spec.interimVolumeTemplate", "not supported yet: remove it"))
    problems += duration_problems("spec.timeOut", spec.time_out)
    return tuple(problems)


def _claim_problems(spec: RestoreSessionSpec, *, namespace: str) -> list[Problem]:
    """Return what is wrong for VolumeSnapshots; Repository and Task are ignored, as by Stash."""
    target = spec.target
    if target is None:
        return [Problem("spec.target", "give volumeClaimTemplates, the claims to restore")]
    problems: list[Problem] = []
    if target.ref.kind or target.ref.name:
        problems.append(
            Problem(
                "spec.target.ref",
                "VolumeSnapshots are restored to new claims only, those of volumeClaimTemplates: "
                "remove it",
            )
        )
    if rules_of(spec):
        problems.append(
            Problem(
                "spec.target.rules" if target.rules else "spec.rules",
                "rules choose among restic's snapshots: name a VolumeSnapshot in the dataSource of "
                "each claim template and remove them",
            )
        )
    return problems + claim_template_problems(
        target.volume_claim_templates, target.replicas, namespace=namespace
    )


def _restic_problems(spec: RestoreSessionSpec, *, namespace: str) -> list[Problem]:
    problems: list[Problem] = []
    if spec.repository is None:
        problems.append(Problem("spec.repository", "name the Repository to restore from"))
    else:
        problems += repository_ref_problems(spec.repository, namespace=namespace)
    if not spec.task.name:
        problems.append(Problem("spec.task.name", "name the Task, for example pvc-restore"))
    if spec.target is None:
        problems.append(Problem("spec.target", "name the target, for example a PVC"))
    elif spec.target.volume_claim_templates:
        problems.append(
            Problem(
                "spec.target.volumeClaimTemplates",
                "not supported yet with the Restic driver: create the claim and name it in "
                "spec.target.ref",
            )
        )
    else:
        problems += target_ref_problems(spec.target.ref, namespace=namespace)
        problems += alias_problems(spec.target.alias)
        if spec.task.name == PVC_RESTORE:
            problems += flag_problems("restore", spec.target.args)
        problems += mount_problems(spec.target.volume_mounts)
    return problems + _rule_problems(spec)


def _rule_problems(spec: RestoreSessionSpec) -> list[Problem]:
    problems: list[Problem] = []
    where = "spec.target.rules" if spec.target and spec.target.rules else "spec.rules"
    rules = rules_of(spec)
    mount = mount_path_of(spec.target.volume_mounts if spec.target else ())
    hosts: dict[str, int] = {}
    if sum(1 for rule in rules if not rule.target_hosts) > 1:
        problems.append(Problem(where, "at most one rule may be without targetHosts"))
    for index, rule in enumerate(rules):
        path = f"{where}[{index}]"
        if rule.snapshots and rule.paths:
            problems.append(Problem(path, "give snapshots or paths, not both"))
        problems += [
            Problem(
                f"{path}.paths[{number}]",
                f"{value!r} does not lie in the target's volume, which is mounted at {mount}",
            )
            for number, value in enumerate(rule.paths)
            if not is_below(value, mount)
        ]
        for host in rule.target_hosts:
            if host in hosts:
                problems.append(
                    Problem(f"{path}.targetHosts", f"{host} stands in rule {hosts[host]} already")
                )
            hosts[host] = index
    host = host_of(spec.target.alias if spec.target else "")
    if rule_for(spec, host) is None:
        problems.append(Problem(where, f"no rule is for {host}: nothing would be restored"))
    return problems
