"""restic's JSON lines: nothing that is printed may break the parser."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.restic.messages import (
    Changed,
    ExitError,
    Initialized,
    ItemError,
    LineSplitter,
    Message,
    Status,
    Summary,
    Text,
    parse_line,
)

CHUNKS = st.lists(st.binary(max_size=40), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
)
FIELDS = st.sampled_from([
    "percent_done", "total_files", "seconds_remaining", "snapshot_id", "total_duration", "error",
    "item", "code", "message", "id", "new_snapshot_id", "files_new", "num_errors",
])  # fmt: skip
TYPES = st.sampled_from(["status", "summary", "error", "exit_error", "initialized", "changed", "x"])


def lines(chunks: list[bytes], longest_bytes: int = 1 << 20) -> list[bytes]:
    """Return what a splitter makes of the chunks."""
    splitter = LineSplitter(longest_bytes)
    return [line for chunk in chunks for line in splitter.feed(chunk)] + list(splitter.finish())


@given(CHUNKS, st.integers(1, 30))
def test_any_split_gives_the_same_lines(chunks: list[bytes], longest_bytes: int) -> None:
    """How the pipe cuts the stream never changes a line, whatever bytes it holds."""
    whole = b"".join(chunks)
    expected = whole.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert lines(chunks, longest_bytes) == [line[:longest_bytes] for line in expected]


def test_giant_line_costs_no_memory() -> None:
    """A line without an end is cut, and what follows it is read again."""
    splitter = LineSplitter(1000)
    for _ in range(1000):
        assert list(splitter.feed(b"x" * 65536)) == []
        assert len(splitter._line) == 1000
    assert list(splitter.feed(b"\nnext\n")) == [b"x" * 1000, b"next"]


@given(st.binary())
def test_any_bytes_are_a_message(line: bytes) -> None:
    """Invalid UTF-8 and broken JSON are text, not an exception."""
    parse_line(line)
    parse_line(b"{" + line)


@given(TYPES, st.dictionaries(FIELDS, JSON))
def test_any_value_of_a_known_field_is_a_message(kind: str, fields: dict[str, Any]) -> None:
    """A field of another type than restic's gives zero or an empty text."""
    message = parse_line(json.dumps({"message_type": kind, **fields}).encode())
    if isinstance(message, Status):
        assert 0 <= message.done <= 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            (
                b'{"message_type":"status","percent_done":0.5,"total_files":4,"files_done":2,'
                b'"total_bytes":10,"bytes_done":5,"seconds_remaining":3}'
            ),
            Status(0.5, 2, 4, 5, 10, 3),
        ),
        (
            (
                b'{"message_type":"status","percent_done":1,"total_files":4,"files_restored":1,'
                b'"files_skipped":3,"total_bytes":10,"bytes_restored":4,"bytes_skipped":6}'
            ),
            Status(1.0, 4, 4, 10, 10, 0),
        ),
        (
            (
                b'{"message_type":"summary","files_new":2,"data_added":1746,"total_duration":0.5,'
                b'"total_files_processed":2,"total_bytes_processed":4,"snapshot_id":"e6"}'
            ),
            Summary(
                "e6", files_new=2, added_bytes=1746, duration_s=0.5, files_total=2, bytes_total=4
            ),
        ),
        (
            (
                b'{"message_type":"error","error":{"message":"open /a: permission denied"},'
                b'"during":"archival","item":"/a"}'
            ),
            ItemError("/a", "open /a: permission denied"),
        ),
        (b'{"message_type":"error","error":{},"item":"/a"}', ItemError("/a", "")),
        (
            b'{"message_type":"error","message":"pack ab: does not exist\\n"}',
            Text("pack ab: does not exist"),
        ),
        (
            b'{"message_type":"exit_error","code":10,"message":"Fatal: x"}',
            ExitError(10, "Fatal: x"),
        ),
        (b'{"message_type":"initialized","id":"53"}', Initialized("53")),
        (
            b'{"message_type":"changed","old_snapshot_id":"a","new_snapshot_id":"b"}',
            Changed("a", "b"),
        ),
        (b"/nope does not exist, skipping", Text("/nope does not exist, skipping")),
        (b'{"message_type":"verbose_status"}', Text('{"message_type":"verbose_status"}')),
        (b'{"message_type":["status"]}', Text('{"message_type":["status"]}')),
    ],
)
def test_what_restic_prints(line: bytes, message: Message) -> None:
    """The lines of restic 0.19.1 mean what they say."""
    assert parse_line(line) == message


def test_deep_nesting_is_text() -> None:
    """Nesting deeper than the parser's stack is text."""
    assert isinstance(parse_line(b'{"a":' * 100_000), Text)
