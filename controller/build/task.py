"""From a Task and its Functions to steps without variables."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from controller.api.backup import is_below
from controller.api.catalog import FunctionSpec, Step
from controller.api.job_input import RESTORE_ROOT
from controller.api.model import Problem
from controller.api.names import container_name
from controller.api.objects import Obj, dig
from controller.api.references import TargetRef
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
OUTPUT_DIR_FLAG = "--output-dir"
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
        resolved, found = _step(order, index, step, function, resolved_volumes)
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
    order: JobOrder, index: int, step: Step, function: FunctionSpec, volumes: tuple[Obj, ...]
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
        problems += _mount_problems(order, subject, resolved, volumes)
    return resolved, problems


def _mount_problems(
    order: JobOrder, subject: str, step: ResolvedStep, volumes: tuple[Obj, ...]
) -> list[Problem]:
    """Return a problem when a step would read, or write, beside the target's volume.

    What lies at the place of the target must be the target's claim: params name volumes, and
    another volume would be backed up, or overwritten, in its name. Nothing may hide a part of it.
    """
    verb = step.args[0] if step.args else ""
    if verb == BACKUP_VERB and order.is_backup:
        place, wanted = order.mount_path, "${TARGET_MOUNT_PATH}"
    elif verb == RESTORE_VERB and not order.is_backup:
        place, wanted = RESTORE_ROOT + order.mount_path, f"{RESTORE_ROOT}${{TARGET_MOUNT_PATH}}"
    else:
        return []
    path = f"{subject} spec.volumeMounts"
    mounts = [(str(m.get("mountPath") or ""), str(m.get("name") or "")) for m in step.volume_mounts]
    above = [m for m in mounts if is_below(place, m[0])]
    if not above or (not order.is_backup and not any(_same(place, m[0]) for m in above)):
        return [Problem(path, f"mount the target's volume at {wanted}")]
    _, name = max(above, key=lambda mount: len(mount[0].strip("/")))
    ref = order.spec.target.ref if order.spec.target else TargetRef()
    claims = [
        dig(volume, "persistentVolumeClaim", "claimName")
        for volume in volumes
        if volume.get("name") == name
    ]
    if claims != [ref.name]:
        message = (
            f"mount the target's volume at {wanted}: {name} is no volume of the Task with "
            f"persistentVolumeClaim.claimName {ref.name}"
        )
        return [Problem(path, message)]
    return [
        Problem(path, f"{mount} would hide a part of the target's volume: mount it elsewhere")
        for mount, _ in mounts
        if is_below(mount, place) and not _same(mount, place)
    ]


def _order_problems(order: JobOrder, subject: str, steps: list[ResolvedStep]) -> list[Problem]:
    if not steps:
        return [Problem(f"{subject} spec.steps", "name at least one Function")]
    if len(steps) > MAX_STEPS:
        message = f"at most {MAX_STEPS} steps: their reports share 12 KiB"
        return [Problem(f"{subject} spec.steps", message)]
    last = steps[-1]
    path = f"{subject} spec.steps[{len(steps) - 1}]"
    if last.own:
        if last.args[:1] in ((BACKUP_VERB,), (RESTORE_VERB,)) and _hands_over(last.args):
            message = (
                "with outputDir a step hands its result to the next and reports nothing: end with "
                "Function update-status, or remove the param outputDir"
            )
            return [Problem(path, message)]
        return []
    return [
        Problem(
            f"{path}.name",
            f"the last step must report the outcome: end with Function update-status, or one of "
            f"image {order.installation.image} without a command",
        )
    ]


def _hands_over(args: Sequence[str]) -> bool:
    """Tell whether `--output-dir`, in any form that argparse takes, names a folder."""
    folder = ""
    for index, arg in enumerate(args):
        name, equals, value = arg.partition("=")
        if len(name) > len("--") and OUTPUT_DIR_FLAG.startswith(name):
            folder = value if equals else "".join(args[index + 1 : index + 2])
    return bool(folder)


def _same(one: str, other: str) -> bool:
    return is_below(one, other) and is_below(other, one)
