"""A response body as JSON lines; another thread may end it.

Every read has a bound (the socket's read timeout, which the caller set to its inactivity limit),
and so has the whole stream. It ends in one of these ways only: StopIteration when the server has
closed it between two lines or when `close()` was called, `Unreachable` or `ServerFault` otherwise.
"""

import contextlib
import json
from collections.abc import Callable, Generator
from http.client import HTTPException
from threading import Event
from time import monotonic
from typing import Any, Protocol, Self

from urllib3.exceptions import HTTPError, ReadTimeoutError

from controller.kube.errors import ServerFault, Unreachable

CHUNK_BYTES = 1 << 16
LINE_BYTES = 16 << 20


class Body(Protocol):
    """What we need of `urllib3.HTTPResponse`."""

    def read1(self, amt: int | None = None) -> bytes:
        """Return what is there, at least one byte, or nothing at the end."""

    def shutdown(self) -> None:
        """Shut down the receiving side of the socket, which wakes a blocked read."""

    def close(self) -> None:
        """Close the connection."""


class JsonLines:
    """Iterator over the JSON objects of a streamed body."""

    def __init__(
        self, body: Body, *, limit_s: float, monotonic: Callable[[], float] = monotonic
    ) -> None:
        self._body = body
        self._monotonic = monotonic
        self._ends_at = monotonic() + limit_s
        self._closed = Event()
        self._lines = self._read()

    def close(self) -> None:
        """End the stream from any thread: a blocked read returns at once."""
        self._closed.set()
        # ValueError, RuntimeError: it has ended by itself; OSError: the peer was faster
        with contextlib.suppress(ValueError, RuntimeError, OSError):
            self._body.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection; for the reading thread only."""
        self.close()
        self._lines.close()
        self._body.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """Return the next object.

        Raises:
            Unreachable: the peer is silent, dead, over its time, or stopped within a line.
            ServerFault: a line is not JSON.
        """
        return next(self._lines)

    def _read(self) -> Generator[Any, None, None]:
        rest = b""
        try:
            while chunk := self._chunk():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield _parse(line)
                if len(rest) > LINE_BYTES:
                    raise ServerFault(f"a line of the stream is over {LINE_BYTES} bytes")
            if rest.strip() and not self._closed.is_set():
                raise Unreachable("the stream ended within a line")
        finally:
            self._body.close()

    def _chunk(self) -> bytes:
        if self._closed.is_set():
            return b""
        if self._monotonic() > self._ends_at:
            raise Unreachable("the stream is over its time", reason="StreamTimeout")
        try:
            return self._body.read1(CHUNK_BYTES)
        except (HTTPError, HTTPException, OSError, ValueError, AttributeError) as err:
            # ValueError and AttributeError are what a socket says that was closed under a read
            if self._closed.is_set():
                return b""
            if isinstance(err, ReadTimeoutError | TimeoutError):
                raise Unreachable("no byte within the inactivity limit", reason="Silent") from err
            if isinstance(err, HTTPError | HTTPException | OSError):
                raise Unreachable(f"the stream broke off: {type(err).__name__}") from err
            raise


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError as err:
        raise ServerFault("a line of the stream is not JSON") from err
