"""Masks what a hook's command or answer may disclose (D32). Pure.

No storage Secret is mounted where hooks run. What they are told may hold secrets all the same, and
what the application prints may name them.
"""

import re
from collections.abc import Iterator

from controller.api.hook_input import HookInput, HttpInput
from runner.redaction import MASK, Redactor

_WORDS = r"pass(?:word|wd|phrase)?|pwd|secret|token|credentials?|api[_-]?key|access[_-]?key"
_NAME = re.compile(rf"{_WORDS}|auth|cookie|session", re.IGNORECASE)
_ASSIGNED = re.compile(
    rf"(?P<name>(?:{_WORDS})[\"']?\s*[:=]\s*[\"']?)(?P<value>[^\s\"',;&]+)", re.IGNORECASE
)
_OPTION = re.compile(rf"--?[\w-]*(?:{_WORDS})", re.IGNORECASE)
_SCHEME = re.compile(r"\b(?P<name>(?:Bearer|Basic)\s+)(?P<value>[\w.~+/=-]{8,})", re.IGNORECASE)


class HookRedactor(Redactor):
    """Knows what a hook was told, and masks what looks like an assignment of a secret."""

    def __init__(self, hook: HookInput) -> None:
        values = {str(number): text.encode() for number, text in enumerate(_told(hook))}
        super().__init__(values)

    def __call__(self, text: str) -> str:
        """Return the text without secrets."""
        for pattern in (_SCHEME, _ASSIGNED):
            text = pattern.sub(rf"\g<name>{MASK}", text)
        return super().__call__(text)


def _told(hook: HookInput) -> Iterator[str]:
    for before, word in zip(("", *hook.command), hook.command, strict=False):
        if _OPTION.fullmatch(before):
            yield word
        yield from _assigned(word)
    for request in (hook.http_get, hook.http_post):
        if request is not None:
            yield from _sent(request)


def _sent(request: HttpInput) -> Iterator[str]:
    for name, value in request.headers:
        if _NAME.search(name):
            yield value
            yield from value.split()[1:]
    for key, values in request.form.items():
        if _NAME.search(key):
            yield from values
    yield from _assigned(f"{request.path} {request.body}")


def _assigned(text: str) -> Iterator[str]:
    for found in _ASSIGNED.finditer(text):
        yield found["value"]
