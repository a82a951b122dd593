"""What a backup imports (D31)."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HEAVY = {
    "asyncio", "concurrent", "ctypes", "email", "http", "kubernetes", "logging", "multiprocessing",
    "pydantic", "shutil", "socket", "ssl", "structlog", "tempfile", "tenacity", "urllib3",
}  # fmt: skip
LIST = "import sys, json, {modules}\nprint(json.dumps(sorted(sys.modules)))"


def loaded(modules: str) -> set[str]:
    """Return the top-level modules after an import in a fresh isolated interpreter."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + LIST.format(modules=modules)
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, check=True, text=True
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


@pytest.mark.parametrize(
    "modules", ["runner.__main__", "runner.execution", "runner.execution, runner.restore"]
)
def test_standard_library_only(modules: str) -> None:
    """The restic path imports no third party's module and nothing heavy."""
    base = loaded("runner")
    ours = loaded(modules) - base
    assert ours - set(sys.stdlib_module_names) <= {"controller", "runner"}
    assert ours & HEAVY == set()


def test_help_starts_quickly() -> None:
    """`python -m runner --help` takes less than 0.2 s; the best of five, on a busy machine."""
    seconds = []
    for _ in range(5):
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "runner", "--help"], cwd=ROOT, capture_output=True, check=True
        )
        seconds.append(time.monotonic() - started)
        assert b"backup" in done.stdout
    assert min(seconds) < 0.2
