"""A schema as a field list: one line for each field path, with its facts.

The same notation as the published lists in tests/unit/hack/fields: `[]` after a list of objects,
`.{}` for a map's values, `?` as the type of an int-or-string.
"""

from collections.abc import Iterator
from typing import Any

from hack.crds.notation import Schema

_FACTS = (
    "enum",
    "default",
    "format",
    "pattern",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
)


def flatten(schema: Schema, path: str = "") -> Iterator[str]:
    """Yield `<path>: <type> <facts>` for every field below a schema, sorted within each object."""
    required = schema.get("required", ())
    for name, field in sorted(schema.get("properties", {}).items()):
        yield from _field(f"{path}.{name}", field, required=name in required)
    extra = schema.get("additionalProperties")
    if extra is not None:
        yield from _field(f"{path}.{{}}", extra, required=False)


def _field(path: str, schema: Schema, *, required: bool) -> Iterator[str]:
    items = schema.get("items")
    line = f"{path}: {_facts(schema)}{' REQUIRED' if required else ''}"
    yield line if items is None else f"{line} of {_facts(items)}"
    if items is not None:
        yield from flatten(items, f"{path}[]")
    else:
        yield from flatten(schema, path)


def _facts(schema: dict[str, Any]) -> str:
    words = [schema.get("type", "?")]
    words += [f"{key}={schema[key]}" for key in _FACTS if key in schema]
    return " ".join(words)
