"""One operation at a time for each volume and snapshot; a second is told to come again."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hack.cluster.csi.refusal import Code, Refusal


class Busy:
    """The volumes and snapshots that are being worked on. Safe to use from threads."""

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """Hold `key` for the time of the block.

        Raises:
            Refusal: ABORTED, as the CSI specification asks, while another call holds it.
        """
        with self._lock:
            if key in self._held:
                raise Refusal(Code.ABORTED, f"{key}: another call works on it: try again")
            self._held.add(key)
        try:
            yield
        finally:
            with self._lock:
                self._held.discard(key)
