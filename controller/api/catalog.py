"""Function and Task: container templates, and the order in which they make a pod."""

from typing import Any

from controller.api.backup import Param
from controller.api.model import Model
from controller.api.objects import Obj


class Step(Model):
    """One Function of a Task, and the parameters that it gets."""

    name: str
    params: tuple[Param, ...] = ()


class TaskSpec(Model):
    """`spec` of a Task. `volumes` may hold `${variables}`."""

    steps: tuple[Step, ...] = ()
    volumes: tuple[dict[str, Any], ...] = ()


class FunctionSpec(Model):
    """`spec` of a Function. All texts may hold `${variables}`."""

    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    ports: tuple[dict[str, Any], ...] = ()
    volume_mounts: tuple[dict[str, Any], ...] = ()
    volume_devices: tuple[dict[str, Any], ...] = ()
    runtime_settings: Obj | None = None
