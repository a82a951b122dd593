"""One JSON object per line on stdout, redacted. Standard library only (D31)."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from runner.redaction import Redactor


def now_s() -> float:
    """Return the time of day in Unix seconds."""
    return time.time()  # noqa: TID251 - the runner's one clock; tests pass another


def rfc3339(unix_s: float) -> str:
    """Return RFC 3339 in UTC with whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_s))


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Log:
    """`event` is a constant phrase, data goes into fields."""

    def __init__(
        self,
        redact: Redactor,
        *,
        write: Callable[[str], None] = _print,
        now: Callable[[], float] = now_s,
    ) -> None:
        self.redact = redact
        self._write = write
        self._now = now

    def info(self, event: str, **fields: Any) -> None:
        """Say what happened."""
        self._line("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Say what went wrong without ending the run."""
        self._line("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Say what ended the run."""
        self._line("error", event, fields)

    def _line(self, level: str, event: str, fields: dict[str, Any]) -> None:
        clean = {key: self._clean(value) for key, value in fields.items()}
        line = {"timestamp": rfc3339(self._now()), "level": level, "event": event, **clean}
        self._write(json.dumps(line))

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, tuple | list):
            return [self._clean(item) for item in value]
        return value
