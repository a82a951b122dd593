"""Places for the runner's component tests."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.runner import Place


@pytest.fixture(autouse=True)
def default_sigint() -> Iterator[None]:
    """Let children have the default SIGINT, also where pytest itself was told to ignore it.

    A shell's background job is; children inherit what is ignored, and lose what has a handler.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def make_place(tmp_path: Path) -> Callable[[str], Place]:
    """Make places that share nothing."""

    def make(name: str) -> Place:
        root = tmp_path / name
        (root / "volume").mkdir(parents=True)
        (root / "volume" / "file").write_text("content\n")
        return Place(root)

    return make


@pytest.fixture
def place(make_place: Callable[[str], Place]) -> Place:
    """Return one place with a volume of one file."""
    return make_place("place")
