"""Which warnings do not fail a test: sockets that CPython forgets, none that we forget."""

import gc
import socket
import ssl
import struct
import warnings
from collections.abc import Iterator

import pytest

CONTEXT = ssl.create_default_context()
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Listen on a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_connection_that_is_reset_before_the_handshake(listener: socket.socket) -> None:
    """Where CPython forgets the socket, its warning would come with the collection."""
    client = socket.create_connection(listener.getsockname())
    peer, _ = listener.accept()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    peer.close()
    with pytest.raises(OSError, match="reset"):
        CONTEXT.wrap_socket(client, server_hostname="localhost")
    gc.collect()


def test_a_connection_that_we_forget_fails_a_test(listener: socket.socket) -> None:
    """The text is that of the deallocator's warning, which nobody could catch."""
    client = socket.create_connection(listener.getsockname())
    peer, _ = listener.accept()
    with peer, _wrapped(client) as wrapped, pytest.raises(ResourceWarning):
        warnings.warn(f"unclosed {wrapped!r}", ResourceWarning, stacklevel=1)


def _wrapped(client: socket.socket) -> ssl.SSLSocket:
    return CONTEXT.wrap_socket(client, server_hostname="localhost", do_handshake_on_connect=False)
