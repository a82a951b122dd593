"""The `${variables}` of Functions and Tasks.

`${X}` needs a value. `${X:=default}`, `${X:-default}` and `${X=default}` mean the same: the default
counts when X is absent, not when it is empty. `$X`, `$(X)` and `$$` are left to the kubelet and to
shells, so that `$${X}` reaches a shell as `${X}`. A value is put in as it is: what it contains is
not expanded again, and no JSON text is ever touched (D25).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from controller.api.model import Problem

_TOKEN = re.compile(r"\$\$|\$\{([^}]*)\}|\$\{", re.DOTALL)
_EXPRESSION = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:(?::=|:-|=)(.*))?", re.DOTALL)
_FORMS = "write ${NAME} or ${NAME:=default}; for a shell's own variable write $${NAME}"


class Template:
    """Expands the texts of one object and collects what is wrong with them.

    `problems` name the object (`subject`, for example `Function pvc-backup`) and the path.
    """

    def __init__(self, subject: str, variables: Mapping[str, str]) -> None:
        self._subject = subject
        self._variables = variables
        self.problems: list[Problem] = []

    def tree(self, value: Any, path: str) -> Any:
        """Return parsed JSON with all its texts expanded; keys are left alone."""
        if isinstance(value, str):
            return self.text(value, path)
        if isinstance(value, Mapping):
            return {key: self.tree(item, f"{path}.{key}") for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.tree(item, f"{path}[{index}]") for index, item in enumerate(value)]
        return value

    def text(self, text: str, path: str) -> str:
        """Return one text expanded; what cannot be expanded is a problem and becomes empty."""

        def replace(match: re.Match[str]) -> str:
            return match[0] if match[0] == "$$" else self._value(match, path)

        return _TOKEN.sub(replace, text)

    def _value(self, match: re.Match[str], path: str) -> str:
        body = match[1]
        if body is None:
            return self._problem(path, f"a ${{ without its }}: {_FORMS}")
        expression = _EXPRESSION.fullmatch(body)
        if expression is None or "${" in body:
            return self._problem(path, f"{match[0]} is not supported: {_FORMS}")
        name, default = expression[1], expression[2]
        if name in self._variables:
            return self._variables[name]
        if default is not None:
            return default
        return self._problem(
            path,
            f"variable {name} has neither a value nor a default: add a param {name} to the Task, "
            f"or write ${{{name}:=default}}",
        )

    def _problem(self, path: str, message: str) -> str:
        self.problems.append(Problem(f"{self._subject} {path}", message))
        return ""


def names_in(value: Any) -> frozenset[str]:
    """Return the names of all variables that parsed JSON asks for."""
    return frozenset(_names(value))


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        for match in _TOKEN.finditer(value):
            if match[1] and (expression := _EXPRESSION.fullmatch(match[1])):
                yield expression[1]
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _names(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _names(item)
