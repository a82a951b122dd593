"""controller.log: one JSON line each, secrets masked."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from controller.log import MASK, set_up_log


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """Log into a string, and restore the world afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    set_up_log("info", stream=stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def line(out: io.StringIO) -> dict[str, object]:
    """Return the one line that was logged."""
    (text,) = out.getvalue().splitlines()
    parsed: dict[str, object] = json.loads(text)
    return parsed


def test_a_line_is_one_json_object(out: io.StringIO) -> None:
    """Event, level, time, and the keys of the turn."""
    with structlog.contextvars.bound_contextvars(kind="BackupSession"):
        structlog.get_logger().info("reconciled", writes=2, text="ä\nb")
    logged = line(out)
    assert logged.pop("timestamp")
    assert logged == {
        "event": "reconciled",
        "level": "info",
        "kind": "BackupSession",
        "writes": 2,
        "text": "ä\nb",
    }


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "RESTIC_PASSWORD",
        "token",
        "secret",
        "AWS_SECRET_ACCESS_KEY",
        "accessKey",
        "aws_credentials",
        "Authorization",
    ],
)
def test_values_of_secret_keys_are_masked(out: io.StringIO, key: str) -> None:
    """At the top, in mappings and in lists."""
    structlog.get_logger().info("x", **{key: "hunter2"}, deep={"a": [{key: "hunter2"}]})
    assert "hunter2" not in out.getvalue()
    assert line(out)[key] == MASK


def test_names_of_secrets_are_no_secrets(out: io.StringIO) -> None:
    """Which Secret is missing is what a reader needs."""
    structlog.get_logger().info("x", secret_name="s3", secret_found=False)  # noqa: S106 - a name
    assert (line(out)["secret_name"], line(out)["secret_found"]) == ("s3", False)


def test_user_info_in_urls_is_masked(out: io.StringIO) -> None:
    """Repository URLs of rest servers carry passwords."""
    url = "rest:https://user:hunter2@host:8000/x and s3:https://host/b"
    structlog.get_logger().info("x", url=url, urls=[url])
    assert "hunter2" not in out.getvalue()
    assert line(out)["url"] == f"rest:https://{MASK}@host:8000/x and s3:https://host/b"


def test_the_standard_library_is_routed_in_from_warning_on(out: io.StringIO) -> None:
    """urllib3 and the client library log as we do, redacted too."""
    logging.getLogger("urllib3").info("noise")
    logging.getLogger("urllib3").warning("retry of %s", "https://u:hunter2@host/")
    logged = line(out)
    assert (logged["logger"], logged["level"]) == ("urllib3", "warning")
    assert logged["event"] == f"retry of https://{MASK}@host/"


def test_tracebacks_are_one_line(out: io.StringIO) -> None:
    """A traceback is a value, so that a log collector keeps it together."""
    try:
        int("x")
    except ValueError:
        structlog.get_logger().exception("panicked")
    assert "ValueError: invalid" in str(line(out)["exception"])


def test_debug_is_off_by_default(out: io.StringIO) -> None:
    """INFO tells the story; DEBUG is for us."""
    structlog.get_logger().debug("detail")
    assert out.getvalue() == ""


def test_a_terminal_gets_readable_lines() -> None:
    """JSON is for machines."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    set_up_log("info", stream=stream)
    structlog.get_logger().info("reconciled", writes=2, password="hunter2")  # noqa: S106 - a bait
    structlog.reset_defaults()
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    assert "reconciled" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
    assert "hunter2" not in stream.getvalue()
