"""The real csi-sanity against the driver; its runner's verdict, and that nothing stays behind.

Needs root and btrfs.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.apiserver import bin_folder

PROGRAM = Path(__file__).resolve().parents[3] / "hack" / "cluster" / "csi" / "sanity.py"
REAL_CASES = 59
"""Cases that the driver's claims call for: a claim that is lost would leave some out."""


@pytest.fixture
def scratch() -> Iterator[Path]:
    """An empty folder with a short name: the path of a socket is limited."""
    with tempfile.TemporaryDirectory(prefix="s-") as folder:
        yield Path(folder)


def suite(path: Path, body: str) -> Path:
    """Write a program in the place of csi-sanity; `$report` is where it has to report."""
    path.write_text(
        "#!/bin/sh\nfor a; do case $a in --ginkgo.junit-report=*) report=${a#*=};; esac; done\n"
        + body
    )
    path.chmod(0o755)
    return path


def run(binary: Path, scratch: Path) -> subprocess.Popen[str]:
    """Start the runner with its temporary folder below `scratch`."""
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), "--binary", str(binary)],
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def left_behind(scratch: Path) -> list[str]:
    """Return mounts, loop devices, processes and files that still refer to the folder."""
    mounts = [
        line for line in Path("/proc/mounts").read_text().splitlines() if str(scratch) in line
    ]
    loops = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout
    argvs = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            argv = each.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if f"{scratch}/csi-sanity-" in argv:
            argvs.append(argv)
    files = [str(path) for path in scratch.iterdir()]
    return mounts + [line for line in loops.splitlines() if str(scratch) in line] + argvs + files


def report(*statuses: str) -> str:
    """Return shell that writes a JUnit report with cases of these statuses."""
    cases = "".join(f'<testcase name="[It] {at}" status="{s}"/>' for at, s in enumerate(statuses))
    return f"echo '<testsuites><testsuite>{cases}</testsuite></testsuites>' >$report\n"


def test_the_driver_passes_the_real_suite(scratch: Path) -> None:
    """csi-sanity finds nothing wrong with all that the driver claims, on a real btrfs."""
    with run(bin_folder() / "csi-sanity", scratch) as process:
        output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    counted = re.search(r"csi-sanity: (\d+) passed", output)
    assert counted is not None, output  # a failed or pending case would be counted before
    assert int(counted[1]) >= REAL_CASES, output
    assert left_behind(scratch) == []


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (report("passed", "passed", "skipped") + "exit 0", 0, "csi-sanity: 2 passed, 1 skipped"),
        (report("passed", "failed") + "exit 1", 1, "csi-sanity: 1 failed, 1 passed"),
        (report("skipped") + "exit 0", 2, "csi-sanity passed nothing"),
        ("exit 0", 2, "csi-sanity wrote no report"),
    ],
)
def test_the_verdict_is_the_suites_and_nothing_stays(
    tmp_path: Path, scratch: Path, body: str, code: int, words: str
) -> None:
    """Only a suite that reports passed cases and exits with 0 counts as success."""
    with run(suite(tmp_path / "suite", body), scratch) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    assert words in output
    assert ("the driver's log" in output) == (code == 1)
    assert left_behind(scratch) == []


def test_a_stop_in_the_middle_cleans_up(tmp_path: Path, scratch: Path) -> None:
    """SIGTERM while the suite runs ends suite and driver, and removes pool, loop and folder."""
    body = f"touch {tmp_path}/started; exec sleep 600"
    with run(suite(tmp_path / "suite", body), scratch) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "started").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        before = left_behind(scratch)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert len(before) >= 4  # mount, loop device, processes, folder: it did run
    assert left_behind(scratch) == []
