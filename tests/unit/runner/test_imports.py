"""What a backup imports (D31)."""

import json
import resource
import subprocess
import sys
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
    """`python -m runner --help` costs less than 0.2 s of processor time, however busy the machine.

    The best of three: the first one may have to compile.
    """
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "runner", "--help"], cwd=ROOT, capture_output=True, check=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert b"backup" in done.stdout
    assert min(seconds) < 0.2
