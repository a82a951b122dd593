"""docs/usage.md against the code: nothing that a user may meet is left out."""

import re
from pathlib import Path

from controller.settings import _parser

ROOT = Path(__file__).parents[3]
USAGE = (ROOT / "docs" / "usage.md").read_text()
_KEY = re.compile(r'"(drey\.dev/[a-z-]+)"')


def test_every_key_of_ours_is_explained() -> None:
    """Labels, annotations and finalizers that the code names."""
    sources = [*(ROOT / "controller").rglob("*.py"), *(ROOT / "runner").rglob("*.py")]
    found = {key for source in sources for key in _KEY.findall(source.read_text())}
    assert "drey.dev/repository-id" in found
    explained = set(re.findall(r"drey\.dev/[a-z-]+", USAGE))
    assert found - explained == set()
    assert explained - found == set(), "what is explained and does not exist any more"


def test_every_flag_of_the_controller_is_explained() -> None:
    """All flags but `--help`."""
    flags = {
        option
        for action in _parser({})._actions
        for option in action.option_strings
        if option.startswith("--") and not option.startswith("--no-")
    }
    assert {flag for flag in flags - {"--help"} if f"`{flag}`" not in USAGE} == set()
