"""A TCP port that plays a bad server: it refuses, is silent, or forwards to a good one."""

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

CHUNK_BYTES = 1 << 16


class Gate:
    """One port of an address. Nothing listens on it until `silence` or `forward` is called.

    Attributes:
        port: the port, the same through all changes.
        connections: how many were accepted.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, 0))
            self.port: int = probe.getsockname()[1]
        self.connections = 0
        self._target: tuple[str, int] | None = None
        self._server: socket.socket | None = None
        self._held: list[socket.socket] = []

    def __enter__(self) -> Self:
        """Return the gate, closed."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close everything."""
        self.close()

    @property
    def endpoint(self) -> str:
        """Return the URL of the gate."""
        return f"http://{self._address}:{self.port}"

    def silence(self) -> None:
        """Accept connections and never answer."""
        self._target = None
        self._listen()

    def forward(self, host: str, port: int) -> None:
        """Hand connections on, also those that were held so far."""
        self._target = (host, port)
        held, self._held = self._held, []
        for connection in held:
            connection.close()
        self._listen()

    def close(self) -> None:
        """Stop listening: from now on connections are refused."""
        server, self._server = self._server, None
        if server is not None:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()
        for connection in self._held:
            connection.close()
        self._held = []

    def _listen(self) -> None:
        if self._server is None:
            self._server = socket.create_server((self._address, self.port), backlog=64)
            threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):  # closed: the end
            while True:
                connection, _ = server.accept()
                self.connections += 1
                if self._target is None:
                    self._held.append(connection)
                else:
                    pump = (connection, self._target)
                    threading.Thread(target=_pump, args=pump, daemon=True).start()


def _pump(client: socket.socket, target: tuple[str, int]) -> None:
    """Copy both ways until one side ends."""
    with contextlib.suppress(OSError), client, socket.create_connection(target) as server:
        other = {client: server, server: client}
        with selectors.DefaultSelector() as selector:
            for side in other:
                selector.register(side, selectors.EVENT_READ)
            for side in _readable(selector):
                chunk = side.recv(CHUNK_BYTES)
                if not chunk:
                    return
                other[side].sendall(chunk)


def _readable(selector: selectors.BaseSelector) -> Iterator[socket.socket]:
    while True:
        for key, _ in selector.select():
            side = key.fileobj
            assert isinstance(side, socket.socket)
            yield side
