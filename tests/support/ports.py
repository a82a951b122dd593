"""Ports for servers that are told theirs."""

import itertools
import os
import socket

_FIRST, _COUNT = 20000, 10000  # below those that the kernel gives to outgoing connections
_numbers = itertools.count(os.getpid() * 16)


def free_port() -> int:
    """Return a port that nobody listens on, and that nobody is given until a server binds it.

    The server may do so only seconds later. Other test processes begin elsewhere.
    """
    for number in itertools.islice(_numbers, _COUNT):
        port = _FIRST + number % _COUNT
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("all ports are taken")
