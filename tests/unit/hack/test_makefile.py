"""The Makefile on a fresh clone: each verb makes first what it needs."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
VENV = "-m venv .venv"
PACKAGES = "hack/cluster packages"


def recipe(target: str) -> list[str]:
    """Return what a fresh clone would run: no `.venv` is up to date beside a newer project."""
    argv = ["make", "--no-print-directory", "-n", "-W", "pyproject.toml", target]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def first(lines: list[str], pattern: str) -> int:
    """Return the number of the first line with the pattern; the number of lines without one."""
    return next((at for at, line in enumerate(lines) if re.search(pattern, line)), len(lines))


@pytest.mark.parametrize(
    "target",
    ["fmt", "lint", "unit", "component", "install", "uninstall", "e2e", "bench", "demo",
     "demo-snapshot", "cluster", "test-cluster", "image", "csi-sanity"],
)  # fmt: skip
def test_the_venv_is_made_once_and_before_it_is_used(target: str) -> None:
    """Also what runs with the system's Python reaches programs that need the venv's."""
    lines = recipe(target)
    assert sum(VENV in line for line in lines) == 1
    used = first(lines, r"^\.venv/bin/(?!python -m pip)|hack/(demo|image|cluster (up|tools))")
    assert first(lines, VENV) < used < len(lines)


@pytest.mark.parametrize(
    "target",
    ["component", "e2e", "bench", "demo", "demo-snapshot", "cluster", "test-cluster", "csi-sanity"],
)
def test_debian_packages_come_before_all_that_takes_long(target: str) -> None:
    """A machine that lacks root, Docker or a package is told so before anything is built."""
    assert first(recipe(target), PACKAGES) == 0


def test_make_test_begins_with_packages_and_venv() -> None:
    """`make test` has these two as parts of their own, so their time is shown."""
    (line,) = recipe("test")
    assert line.split()[:3] == ["hack/test.sh", "packages", "venv"]


def test_the_order_holds_with_parallel_make() -> None:
    """-j must not install the image in a cluster that is still starting."""
    assert ".NOTPARALLEL:" in (ROOT / "Makefile").read_text().splitlines()


def test_help_lists_every_verb() -> None:
    """Each phony target has a line of help."""
    text = (ROOT / "Makefile").read_text()
    verbs = " ".join(re.findall(r"^\.PHONY:(.*)$", text, re.MULTILINE)).split()
    argv = ["make", "--no-print-directory", "help"]  # `make unit` is its parent
    listed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    assert sorted(verbs) == sorted(line.split()[0] for line in listed.stdout.splitlines())


def test_parts_that_run_at_once_are_told_apart(tmp_path: Path) -> None:
    """The second one's output comes whole, a failure of either ends the run and is named."""
    (tmp_path / "hack").mkdir()
    script = tmp_path / "hack" / "test.sh"
    script.write_bytes((ROOT / "hack" / "test.sh").read_bytes())
    script.chmod(0o755)
    verbs = ("a:", "\t@echo a1; sleep 0.5; echo a2", "b:", "\t@echo b1; false", "c:", "\t@echo c1")
    (tmp_path / "Makefile").write_text("\n".join([*verbs, ""]))
    argv = [str(script), "c", "a+b", "c"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    said = [line for line in done.stdout.splitlines() if line]
    assert said[:7] == ["== c", "c1", "== a", "a1", "a2", "== b", "b1"]
    outcomes = [(line.split()[0], line.split()[-1]) for line in said[-4:-1]]
    assert outcomes == [("c", "passed"), ("a", "passed"), ("b", "FAILED")]
    assert said[-1] == "b failed"
