"""A barrier before the node: pods of Jobs wait in the scheduler until a test opens it."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.cluster import Cluster, Space


class Barrier:
    """A label that no node has yet. Pods with `settings` start once it is open.

    Attributes:
        settings: `runtimeSettings` that make Jobs wait.
    """

    def __init__(self, space: Space) -> None:
        """Choose a label of the namespace's own."""
        self._cluster: Cluster = space.cluster
        self._label = f"barrier.drey.test/{space.name}"
        self.settings = {"pod": {"nodeSelector": {self._label: "open"}}}

    def open(self) -> None:
        """Let in all that wait."""
        self._cluster.kubectl("label", "node", "--all", f"{self._label}=open", "--overwrite")

    def remove(self) -> None:
        """Take the label away again."""
        self._cluster.kubectl("label", "node", "--all", f"{self._label}-")


@contextmanager
def barrier(space: Space) -> Iterator[Barrier]:
    """Yield a closed barrier, which leaves nothing behind."""
    found = Barrier(space)
    try:
        yield found
    finally:
        found.remove()
