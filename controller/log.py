"""Logging of the controller and of the trigger: one JSON object per line on standard output.

The runner's restic path has its own, on the standard library alone. Event names are constants in
snake case; data goes into keys. What may be a secret is masked by key and by form, as a last line
of defence: nobody should log one in the first place.
"""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog

MASK = "***"
_SECRET_KEY = re.compile(
    r"password|secret|token|credential|access_?key|authorization", re.IGNORECASE
)
_NAMES_A_SECRET = re.compile(r"(_name|_names|_ref|_found)$", re.IGNORECASE)
_USER_INFO = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^/\s@]+@", re.IGNORECASE)


def set_up_log(level: str = "info", *, stream: TextIO | None = None) -> None:
    """Route everything, also the standard library's loggers from WARNING on, to one stream.

    Pretty on a terminal, JSON elsewhere.
    """
    out = stream or sys.stdout
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redact,
    ]
    renderer: Any
    if out.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    else:
        shared.insert(-1, structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared[:2], structlog.stdlib.add_logger_name, *shared[2:]],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(threshold, logging.WARNING))


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Mask values under keys that sound secret, and user info in URLs, at any depth."""
    return {key: _redacted(key, value) for key, value in event.items()}


def _redacted(key: str, value: Any) -> Any:
    if _SECRET_KEY.search(key) and not _NAMES_A_SECRET.search(key) and value:
        return MASK
    if isinstance(value, str):
        return _USER_INFO.sub(rf"\g<scheme>{MASK}@", value)
    if isinstance(value, Mapping):
        return {str(k): _redacted(str(k), v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(key, item) for item in value]
    return value
