"""How the specs of our kinds are parsed: strictly, with every problem named by its path.

Status is never parsed by models: objects written by another operator may hold anything there.
Pod-shaped subtrees (`runtimeSettings`, volumes) stay raw: the API server validates them.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from controller.api.objects import Obj


class Model(BaseModel):
    """The root of all spec models: frozen, camelCase in JSON, unknown fields ignored."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", alias_generator=to_camel, populate_by_name=True
    )


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a user's object: where it is, and what to do about it."""

    path: str
    message: str

    def __str__(self) -> str:
        """Return `path: message`."""
        return f"{self.path}: {self.message}"


SpecT = TypeVar("SpecT", bound=Model)


def parse_spec(model: type[SpecT], obj: Obj) -> SpecT | tuple[Problem, ...]:
    """Return the typed `spec` of an object, or every problem that it has."""
    try:
        return model.model_validate(_mutable(obj.get("spec") or {}))
    except ValidationError as err:
        return tuple(
            Problem(path=_path(error["loc"]), message=error["msg"]) for error in err.errors()
        )


def _path(location: tuple[int | str, ...]) -> str:
    path = "spec"
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    return path


def _mutable(value: Any) -> Any:
    # Tuples are what frozen models hold, lists are what JSON has: strict mode wants the former.
    if isinstance(value, list):
        return tuple(_mutable(item) for item in value)
    if isinstance(value, dict):
        return {key: _mutable(item) for key, item in value.items()}
    return value
