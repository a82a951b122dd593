"""From a Task and its Functions to steps without variables."""

from dataclasses import dataclass
from typing import Any

from controller.api.backup import is_below
from controller.api.catalog import FunctionSpec, Step
from controller.api.job_input import RESTORE_ROOT
from controller.api.model import Problem
from controller.api.names import container_name
from controller.api.objects import Obj
from controller.build.order import JobOrder
from controller.build.template import Template, names_in
from controller.build.variables import (
    ADDON_IMAGE,
    SECRET_NAME,
    param_problems,
    step_variables,
    task_variables,
)

BACKUP_VERB = "backup"
RESTORE_VERB = "restore"
MAX_STEPS = 10


@dataclass(frozen=True, slots=True)
class ResolvedStep:
    """One container-to-be.

    `own` says that our entrypoint runs in our image: only then may it see the storage Secret (D26).
    An image of ours with another command is somebody else's program.
    """

    container: str
    function: str
    own: bool
    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    working_dir: str
    ports: tuple[Obj, ...]
    volume_mounts: tuple[dict[str, Any], ...]
    volume_devices: tuple[Obj, ...]
    settings: Obj


@dataclass(frozen=True, slots=True)
class ResolvedTask:
    """The steps in order, and the volumes of the Task."""

    steps: tuple[ResolvedStep, ...]
    volumes: tuple[Obj, ...]


def resolve(order: JobOrder) -> ResolvedTask | tuple[Problem, ...]:
    """Return the Task without variables, or everything that is wrong with it."""
    subject = f"Task {order.spec.task.name}"
    problems = list(param_problems(order))
    volumes = Template(subject, task_variables(order))
    resolved_volumes = tuple(volumes.tree(order.task.volumes, "spec.volumes"))
    problems += volumes.problems
    steps = []
    for index, step in enumerate(order.task.steps):
        function = order.functions.get(step.name)
        if function is None:
            problems.append(
                Problem(
                    f"{subject} spec.steps[{index}].name",
                    f"Function {step.name} does not exist: create it, or name another",
                )
            )
            continue
        resolved, found = _step(order, index, step, function)
        problems += found
        steps.append(resolved)
    if not problems:
        problems += _order_problems(order, subject, steps)
    if problems:
        return tuple(problems)
    return ResolvedTask(tuple(steps), resolved_volumes)


def uses_secret_name(order: JobOrder) -> bool:
    """Tell whether a Function of a third party asks for the storage Secret's name (D26)."""
    resolved = resolve(order)
    if isinstance(resolved, tuple):
        return False
    asking = (
        SECRET_NAME in names_in(order.functions[step.function].model_dump())
        for step in resolved.steps
        if not step.own
    )
    return any(asking)


def has_third_party(order: JobOrder) -> bool:
    """Tell whether a step of the Task is not ours."""
    resolved = resolve(order)
    return not isinstance(resolved, tuple) and not all(step.own for step in resolved.steps)


def _step(
    order: JobOrder, index: int, step: Step, function: FunctionSpec
) -> tuple[ResolvedStep, list[Problem]]:
    variables = step_variables(order, step.params)
    subject = f"Function {step.name}"
    images = Template(subject, variables)
    image = images.text(function.image, "spec.image")
    template = Template(subject, variables | {ADDON_IMAGE: image})
    command = tuple(template.tree(function.command, "spec.command"))
    resolved = ResolvedStep(
        container=container_name(step.name, index),
        function=step.name,
        own=order.installation.is_own(image) and not command,
        image=image,
        command=command,
        args=tuple(template.tree(function.args, "spec.args")),
        working_dir=template.text(function.working_dir, "spec.workingDir"),
        ports=tuple(template.tree(function.ports, "spec.ports")),
        volume_mounts=tuple(template.tree(function.volume_mounts, "spec.volumeMounts")),
        volume_devices=tuple(template.tree(function.volume_devices, "spec.volumeDevices")),
        settings=template.tree(function.runtime_settings or {}, "spec.runtimeSettings"),
    )
    problems = images.problems + template.problems
    if not image and not problems:
        problems.append(Problem(f"{subject} spec.image", "name the image"))
    if resolved.own and not problems:
        problems += _mount_problems(order, subject, resolved)
    return resolved, problems


def _mount_problems(order: JobOrder, subject: str, step: ResolvedStep) -> list[Problem]:
    """Return a problem when a step would read, or write, beside the target's volume."""
    verb = step.args[0] if step.args else ""
    paths = [str(mount.get("mountPath") or "") for mount in step.volume_mounts]
    if verb == BACKUP_VERB and order.is_backup:
        if any(is_below(order.mount_path, path) for path in paths):
            return []
        wanted = "${TARGET_MOUNT_PATH}"
    elif verb == RESTORE_VERB and not order.is_backup:
        if any(_same(RESTORE_ROOT + order.mount_path, path) for path in paths):
            return []
        wanted = f"{RESTORE_ROOT}${{TARGET_MOUNT_PATH}}"
    else:
        return []
    return [Problem(f"{subject} spec.volumeMounts", f"mount the target's volume at {wanted}")]


def _order_problems(order: JobOrder, subject: str, steps: list[ResolvedStep]) -> list[Problem]:
    if not steps:
        return [Problem(f"{subject} spec.steps", "name at least one Function")]
    if len(steps) > MAX_STEPS:
        message = f"at most {MAX_STEPS} steps: their reports share 12 KiB"
        return [Problem(f"{subject} spec.steps", message)]
    if steps[-1].own:
        return []
    return [
        Problem(
            f"{subject} spec.steps[{len(steps) - 1}].name",
            f"the last step must report the outcome: end with Function update-status, or one of "
            f"image {order.installation.image} without a command",
        )
    ]


def _same(one: str, other: str) -> bool:
    return is_below(one, other) and is_below(other, one)
