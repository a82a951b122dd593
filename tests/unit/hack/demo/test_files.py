"""Scripts on the node: a failure ends the demo in one line."""

from pathlib import Path

import pytest

from hack.demo.files import NodeError, shell_on


def test_a_script_runs_with_the_volume_in_root(tmp_path: Path) -> None:
    """$ROOT is the volume's folder."""
    assert shell_on([], str(tmp_path))('echo "$ROOT"') == f"{tmp_path}\n"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo first >&2; echo last words >&2; exit 3", r"^on the node: last words$"),
        ("exit 3", r"^on the node: exit code 3$"),
    ],
)
def test_a_failing_script_is_told_in_one_line(tmp_path: Path, script: str, words: str) -> None:
    """The error has the script's last line, or its exit code when it printed none."""
    with pytest.raises(NodeError, match=words):
        shell_on([], str(tmp_path))(script)
