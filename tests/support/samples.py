"""Objects that have every field of a published field list (tests/unit/hack/fields)."""

import re
from pathlib import Path
from typing import Any

FIELDS = Path(__file__).resolve().parents[1] / "unit" / "hack" / "fields"
_LINE = re.compile(r"^\.(?P<path>[^:]+): (?P<facts>.*)$")
_ENUM = re.compile(r"enum=\['(?P<first>[^']+)'")


def full(plural: str) -> dict[str, Any]:
    """Return an object with a value of the right type at every field path; `metadata` is left out.

    Lists have one entry, maps the one key `key`; an enum gives its first value.
    """
    result: dict[str, Any] = {}
    for line in (FIELDS / f"{plural}.txt").read_text("utf-8").splitlines():
        match = _LINE.match(line)
        assert match, line
        path = match["path"].replace("[]", ".[]").split(".")
        if path[0] in {"apiVersion", "kind", "metadata"}:
            continue
        _put(result, path, _value(match["facts"]))
    return result


def _put(owner: Any, path: list[str], value: Any) -> None:
    """Set a value; what is above it was set by an earlier line of the list."""
    for step in path[:-1]:
        owner = owner[0 if step == "[]" else step]
    owner["key" if path[-1] == "{}" else path[-1]] = value


def _value(facts: str) -> Any:
    kind, _, items = facts.partition(" of ")
    if kind.startswith("array"):
        return [_value(items)]
    enum = _ENUM.search(facts)
    if enum:
        return enum["first"]
    if "format=date-time" in facts:
        return "2026-01-02T03:04:05Z"
    if facts.startswith("?"):
        return "1Gi" if "pattern=" in facts else 8080
    first_word = facts.split(maxsplit=1)[0]
    return {"string": "text", "boolean": True, "integer": 7, "object": {}}[first_word]
