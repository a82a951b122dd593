"""JSON documents that one of our programs writes for another, as dataclasses.

Strict in both directions: an unknown, missing or mistyped field is an error that names its path.
Standard library only, because the runner's restic path imports nothing else (D31).
"""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

Document = TypeVar("Document")


def encoded(document: Any) -> str:
    """Return a dataclass as JSON with sorted keys, so that equal inputs give equal Jobs."""
    return json.dumps(_plain(document), sort_keys=True, separators=(",", ":"))


def decoded(kind: type[Document], text: str, *, name: str, schema: int) -> Document:
    """Parse the document that the environment variable `name` carries.

    Raises:
        ValueError: it is no JSON, or of another schema, or a field is missing or unknown.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise ValueError(f"{name} is no JSON: {err}") from err
    if not isinstance(raw, dict) or raw.get("schema") != schema:
        raise ValueError(f"{name}: this image reads schema {schema} only")
    value = _typed(kind, raw, path=name)
    assert isinstance(value, kind)  # noqa: S101 - narrows the type for mypy
    return value


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def _typed(hint: Any, raw: Any, *, path: str) -> Any:
    """Build the value of a type hint from JSON; only the hints used so far are known."""
    if hint is Any:
        return raw
    options = get_args(hint)
    if type(None) in options:
        if raw is None:
            return None
        (hint,) = (option for option in options if option is not type(None))
    if is_dataclass(hint):
        return _object(hint, raw, path=path)
    origin = get_origin(hint)
    if origin is tuple:
        if not isinstance(raw, list):
            raise ValueError(f"{path}: a list is wanted")
        return tuple(_typed(get_args(hint)[0], item, path=path) for item in raw)
    if origin is Mapping:
        if not isinstance(raw, dict):
            raise ValueError(f"{path}: an object is wanted")
        item_hint = get_args(hint)[1]
        return {k: _typed(item_hint, item, path=f"{path}.{k}") for k, item in raw.items()}
    if not isinstance(raw, hint) or (hint is int and isinstance(raw, bool)):
        raise ValueError(f"{path}: {hint.__name__} is wanted")
    return raw


def _object(hint: Any, raw: Any, *, path: str) -> Any:
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: an object is wanted")  # noqa: TRY004 - bad input, one error type
    hints = get_type_hints(hint)
    if unknown := raw.keys() - hints.keys():
        raise ValueError(f"{path}: unknown {', '.join(sorted(unknown))}")
    values = {key: _typed(hints[key], raw[key], path=f"{path}.{key}") for key in raw}
    try:
        return hint(**values)
    except TypeError as err:
        raise ValueError(f"{path}: {err}") from err
