"""The notation in which the kinds are written down: one short call for each OpenAPI schema.

Every function returns a structural schema (a dict) that Kubernetes' CustomResourceDefinition
accepts, with two additions that `core.expand` replaces: `$ref` names a Kubernetes type, and
`$extends` takes over the fields of one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Schema = dict[str, Any]

# The form that the published lists give for every resource.Quantity.
QUANTITY_PATTERN = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
    r"(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)


def _schema(about: str, facts: Mapping[str, Any]) -> Schema:
    return {**({"description": about} if about else {}), **facts}


def text(about: str = "", *, one_of: Sequence[str] = (), default: str | None = None) -> Schema:
    """A string; `one_of` becomes its enum, in this order."""
    facts: Schema = {"type": "string"}
    if one_of:
        facts["enum"] = list(one_of)
    if default is not None:
        facts["default"] = default
    return _schema(about, facts)


def int32(about: str = "", *, default: int | None = None) -> Schema:
    """A 32-bit integer."""
    facts: Schema = {"type": "integer", "format": "int32"}
    if default is not None:
        facts["default"] = default
    return _schema(about, facts)


def int64(about: str = "") -> Schema:
    """A 64-bit integer."""
    return _schema(about, {"type": "integer", "format": "int64"})


def flag(about: str = "") -> Schema:
    """A boolean."""
    return _schema(about, {"type": "boolean"})


def moment(about: str = "") -> Schema:
    """A point in time, RFC 3339."""
    return _schema(about, {"type": "string", "format": "date-time"})


def int_or_string(about: str = "") -> Schema:
    """An integer or a string, such as a port's number or name."""
    facts = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
    return _schema(about, facts)


def quantity(about: str = "") -> Schema:
    """A Kubernetes quantity such as `500m` or `10Gi`."""
    return {**int_or_string(about), "pattern": QUANTITY_PATTERN}


def strings(about: str = "") -> Schema:
    """A list of strings."""
    return array(about, text())


def string_map(about: str = "") -> Schema:
    """A map from strings to strings."""
    return _schema(about, {"type": "object", "additionalProperties": text()})


def array(about: str, items: Schema, *, keys: Sequence[str] = ()) -> Schema:
    """A list; `keys` makes server-side apply merge it by these fields.

    Without keys there is no list type, that is, the list is atomic: so it is published, and a
    stored object must not change its owner's meaning (D12).
    """
    facts: Schema = {"type": "array", "items": items}
    if keys:
        facts |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}
    return _schema(about, facts)


def record(about: str, fields: Mapping[str, Schema]) -> Schema:
    """An object with named fields; a name that ends in `!` is required."""
    required = [name[:-1] for name in fields if name.endswith("!")]
    facts: Schema = {"type": "object"}
    if required:
        facts["required"] = sorted(required)
    facts["properties"] = {name.rstrip("!"): schema for name, schema in fields.items()}
    return _schema(about, facts)


def core(name: str, about: str = "") -> Schema:
    """A type of Kubernetes' own, such as `core/v1.Affinity`."""
    return _schema(about, {"$ref": name})


def extending(name: str, own: Schema, *, without: Sequence[str] = ()) -> Schema:
    """The record `own` plus the fields of a Kubernetes type, save those `without`."""
    return {**own, "$extends": name, "$without": list(without)}
