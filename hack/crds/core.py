"""Kubernetes' own types: read from core.json, refreshed from the published OpenAPI.

core.json holds, without the descriptions, the definitions that the kinds embed and all that those
refer to. They come from `api/openapi-spec/v3/api__v1_openapi.json` of the Go module
k8s.io/kubernetes (Apache-2.0) in the version that core.json names.

What differs from the published document, so that an object which Stash accepted stays valid:

- `default` is kept only on optional scalar fields. The document also carries Go zero values
  on required fields, which would make them optional in a CustomResourceDefinition.
- `enum` is dropped: none is published for embedded types, and a newer cluster may know more values.
- ObjectMeta is cut to what a volume claim template may carry; Kubernetes refuses the rest.
"""

import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hack.crds import notation
from hack.crds.notation import Schema

CORE_FILE = Path(__file__).with_name("core.json")
MODULE = "k8s.io/kubernetes"
OPENAPI_FILE = "api/openapi-spec/v3/api__v1_openapi.json"

_PREFIXES = {
    "io.k8s.api.core.v1.": "core/v1.",
    "io.k8s.apimachinery.pkg.apis.meta.v1.": "meta/v1.",
    "io.k8s.apimachinery.pkg.api.resource.": "resource.",
    "io.k8s.apimachinery.pkg.util.intstr.": "intstr.",
}
# Types whose published form is no structural schema.
_BUILTIN = {
    "resource.Quantity": notation.quantity,
    "intstr.IntOrString": notation.int_or_string,
    "meta/v1.Time": notation.moment,
}
_KEPT_FIELDS = {
    "meta/v1.ObjectMeta": {"annotations", "finalizers", "labels", "name", "namespace"},
}
_KEPT_FACTS = ("type", "format", "x-kubernetes-map-type")
_LIST_FACTS = ("x-kubernetes-list-type", "x-kubernetes-list-map-keys")
# Facts that Kubernetes publishes and the API that we are compatible with does not.
_UNPUBLISHED = {
    ("meta/v1.ObjectMeta", "finalizers"): {"x-kubernetes-list-type"},
    ("core/v1.AzureDiskVolumeSource", "cachingMode"): {"default"},
    ("core/v1.AzureDiskVolumeSource", "kind"): {"default"},
}


class UnknownTypeError(Exception):
    """A kind embeds a Kubernetes type that core.json, or the OpenAPI document, lacks."""


def load() -> dict[str, Schema]:
    """Read the committed definitions, by short name such as `core/v1.Affinity`."""
    document = json.loads(CORE_FILE.read_text(encoding="utf-8"))
    definitions: dict[str, Schema] = document["definitions"]
    return definitions


def expand(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """Replace `$ref` and `$extends` by the fields that they stand for, at every depth.

    Raises:
        UnknownTypeError: a name is not among the definitions.
    """
    if "$ref" in schema:
        own = {key: value for key, value in schema.items() if key != "$ref"}
        return {**own, **expand(_named(schema["$ref"], definitions), definitions)}
    result = dict(schema)
    if "$extends" in result:
        base = _named(result.pop("$extends"), definitions)
        without = result.pop("$without")
        inherited = {k: v for k, v in base["properties"].items() if k not in without}
        result["properties"] = {**inherited, **result["properties"]}
        required = {*base.get("required", ()), *result.get("required", ())} - set(without)
        if required:
            result["required"] = sorted(required)
    if "properties" in result:
        result["properties"] = {
            name: expand(field, definitions) for name, field in sorted(result["properties"].items())
        }
    for key in ("items", "additionalProperties"):
        if key in result:
            result[key] = expand(result[key], definitions)
    return result


def _named(name: str, definitions: Mapping[str, Schema]) -> Schema:
    if name in _BUILTIN:
        return _BUILTIN[name]()
    try:
        return definitions[name]
    except KeyError:
        message = f"{CORE_FILE.name} has no {name}: run `python3 hack/crds refresh`"
        raise UnknownTypeError(message) from None


def references(schema: Any) -> Iterator[str]:
    """Yield every `$ref` and `$extends` name inside a schema."""
    if isinstance(schema, Mapping):
        for key in ("$ref", "$extends"):
            if isinstance(schema.get(key), str):
                yield schema[key]
        for value in schema.values():
            yield from references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from references(value)


def refresh(roots: Iterable[str], version: str) -> None:
    """Write core.json anew from the OpenAPI document of one Kubernetes version (`v1.36.3`).

    Downloads the Go module when the module cache lacks it, which needs `go` and a Go proxy.

    Raises:
        subprocess.CalledProcessError: the module cannot be had.
        UnknownTypeError: Kubernetes no longer publishes a type that the kinds embed.
    """
    output = subprocess.run(
        ["go", "mod", "download", "-json", f"{MODULE}@{version}"],
        check=True,
        stdout=subprocess.PIPE,
        cwd="/",  # outside of any module: none of ours takes part
    ).stdout
    path = Path(json.loads(output)["Dir"]) / OPENAPI_FILE
    published = json.loads(path.read_text(encoding="utf-8"))["components"]["schemas"]
    definitions = prune({_short(name): schema for name, schema in published.items()}, roots)
    source = {"module": MODULE, "version": version, "file": OPENAPI_FILE, "licence": "Apache-2.0"}
    CORE_FILE.write_text(_dump(source, definitions), encoding="utf-8")


def prune(published: Mapping[str, Any], roots: Iterable[str]) -> dict[str, Schema]:
    """Take from an OpenAPI document (by short name) what the roots need, in the compact form."""
    found: dict[str, Schema] = {}
    waiting = sorted(set(roots))
    while waiting:
        name = waiting.pop()
        if name in found or name in _BUILTIN:
            continue
        if name not in published:
            raise UnknownTypeError(f"Kubernetes publishes no {name}")
        found[name] = _compact_type(name, published[name])
        waiting += references(found[name])
    return dict(sorted(found.items()))


def _short(name: str) -> str:
    for prefix, short in _PREFIXES.items():
        if name.startswith(prefix):
            return short + name.removeprefix(prefix)
    return name


def _compact_type(name: str, schema: Mapping[str, Any]) -> Schema:
    kept = _KEPT_FIELDS.get(name)
    required = schema.get("required", [])
    result = {key: schema[key] for key in _KEPT_FACTS if key in schema}
    if required:
        result["required"] = sorted(required)
    if "properties" in schema:
        result["properties"] = {
            field: _compact_field(name, field, facts, optional=field not in required)
            for field, facts in sorted(schema["properties"].items())
            if kept is None or field in kept
        }
    return result


def _compact_field(owner: str, name: str, schema: Mapping[str, Any], *, optional: bool) -> Schema:
    if "$ref" in schema:
        return {"$ref": _short(schema["$ref"].rpartition("/")[2])}
    if "allOf" in schema:
        return _compact_field(owner, name, schema["allOf"][0], optional=optional)
    result = {key: schema[key] for key in _KEPT_FACTS if key in schema}
    if optional and "default" in schema and not isinstance(schema["default"], dict):
        result["default"] = schema["default"]
    result |= {key: schema[key] for key in _LIST_FACTS if key in schema}
    for key in _UNPUBLISHED.get((owner, name), ()):
        result.pop(key, None)
    for key in ("items", "additionalProperties"):
        if key in schema:
            result[key] = _compact_field(owner, name, schema[key], optional=False)
    return result


def _dump(source: Mapping[str, str], definitions: Mapping[str, Schema]) -> str:
    """One line for each field, so that a refresh reads well as a diff."""
    lines = ["{", f' "source": {json.dumps(source)},', ' "definitions": {']
    for name, schema in definitions.items():
        fields = schema.get("properties", {})
        facts = {key: value for key, value in schema.items() if key != "properties"}
        head = f"  {json.dumps(name)}: {json.dumps(facts)[:-1]}"
        if not fields:
            lines.append(head + "},")
            continue
        lines.append(head + ', "properties": {')
        lines += [f"   {json.dumps(key)}: {json.dumps(value)}," for key, value in fields.items()]
        lines[-1] = lines[-1].rstrip(",") + "}},"
    lines[-1] = lines[-1].rstrip(",")
    return "\n".join([*lines, " }", "}", ""])
