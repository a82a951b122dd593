"""controller.kube.stream: bytes to JSON objects, with every way to end."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.exceptions import ProtocolError, ReadTimeoutError

from controller.kube.errors import ServerFault, Unreachable
from controller.kube.stream import JsonLines


class Body:
    """A scripted response body: byte chunks, exceptions, or calls to make while reading."""

    def __init__(self, *script: bytes | Exception | Callable[[], bytes]) -> None:
        self.script = list(script)
        self.closed = False

    def read1(self, amt: int | None = None) -> bytes:
        """Play the next step."""
        assert amt
        step = self.script.pop(0) if self.script else b""
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, bytes) else step()

    def shutdown(self) -> None:
        """End the script, as a socket that is shut down."""
        self.script.clear()

    def close(self) -> None:
        """Note it."""
        self.closed = True


def lines(body: Body, limit_s: float = 60.0) -> JsonLines:
    """Return the reader of a body."""
    return JsonLines(body, limit_s=limit_s)


@given(
    st.lists(st.dictionaries(st.text(), st.integers(), max_size=3), max_size=6),
    st.lists(st.integers(1, 40)),
)
def test_any_split_of_the_bytes_gives_the_same_objects(
    objects: list[dict[str, int]], cuts: list[int]
) -> None:
    """Chunks are not lines: where the bytes are cut does not matter."""
    data = b"".join(json.dumps(o, ensure_ascii=False).encode() + b"\n" for o in objects)
    chunks = []
    for cut in cuts:
        chunks.append(data[:cut])
        data = data[cut:]
    body = Body(*filter(None, [*chunks, data]))
    assert list(lines(body)) == objects
    assert body.closed


def test_blank_lines_are_skipped() -> None:
    """An empty line is a keep-alive, no event."""
    assert list(lines(Body(b'\n\r\n{"a": 1}\n\n'))) == [{"a": 1}]


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ((b'{"a": 1}\n{"b": ',), Unreachable),
        ((b'{"a": 1}\n', ProtocolError("reset")), Unreachable),
        ((b'{"a": 1}\n', ConnectionResetError()), Unreachable),
        ((b'{"a": 1}\n', ReadTimeoutError(None, "", "silent")), Unreachable),  # type: ignore[arg-type]  # no pool is needed to raise it
        ((b'{"a": 1}\nnonsense\n',), ServerFault),
    ],
    ids=["partial line", "protocol", "reset", "silent", "not JSON"],
)
def test_what_came_before_the_failure_is_delivered(
    script: tuple[Any, ...], error: type[Exception]
) -> None:
    """A stream that breaks gives its whole lines, then an error of our tree."""
    body = Body(*script)
    stream = lines(body)
    assert next(stream) == {"a": 1}
    with pytest.raises(error):
        next(stream)
    assert body.closed


def test_a_silent_peer_is_told_from_a_broken_one() -> None:
    """Metrics tell dead peers apart by the reason."""
    with pytest.raises(Unreachable) as caught:
        next(lines(Body(TimeoutError())))
    assert caught.value.reason == "Silent"


def test_the_whole_stream_has_a_bound() -> None:
    """A peer that dribbles for ever does not hold the reader for ever."""
    now = iter([0.0, 5.0, 11.0])
    stream = JsonLines(
        Body(b'{"a": 1}\n', b'{"a": 2}\n'), limit_s=10.0, monotonic=lambda: next(now)
    )
    assert next(stream) == {"a": 1}
    with pytest.raises(Unreachable):
        next(stream)


def test_close_is_a_normal_end_even_within_a_line() -> None:
    """Our own shutdown is no failure."""
    body = Body(b'{"a": 1}\n{"b"')
    stream = lines(body)
    assert next(stream) == {"a": 1}
    stream.close()
    assert list(stream) == []
    assert body.closed


def test_close_during_a_read_hides_its_error() -> None:
    """What a socket says when it is shut down under a read is no failure either."""

    def read() -> bytes:
        stream.close()
        raise OSError(9, "bad file descriptor")

    stream = lines(Body(read))
    assert list(stream) == []


def test_leaving_the_block_closes_the_connection() -> None:
    """A reader that stops early does not leak its connection."""
    body = Body(b'{"a": 1}\n{"a": 2}\n')
    with lines(body) as stream:
        next(stream)
    assert body.closed
