"""Places for the runner's component tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.runner import Place


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
