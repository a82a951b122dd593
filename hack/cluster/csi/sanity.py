"""Run the CSI conformance suite (csi-sanity) against the driver on a real, temporary btrfs pool.

    python hack/cluster/csi/sanity.py [-- arguments of csi-sanity]

The suite decides by what the driver claims which cases run; none is left out here. Pool, loop
device, mounts and processes are gone afterwards, whatever the outcome.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET  # the file is written by the suite that we started
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_SUITE = _HERE.parents[1] / "tools" / "csi-sanity"
_PACKAGE = "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity"
_POOL_BYTES = 64 << 30  # sparse: the suite asks for volumes of 10 GiB and of 20 GiB
_START_S = 60


class SanityFailed(Exception):
    """The suite could not run; the message says why."""


def build(binary: Path) -> None:
    """Build the suite from its pinned module."""
    env = {**os.environ, "CGO_ENABLED": "0"}
    argv = ["go", "build", "-o", str(binary), _PACKAGE]
    if subprocess.run(argv, cwd=_SUITE, env=env, check=False).returncode != 0:
        raise SanityFailed(f"go build {_PACKAGE} in {_SUITE} failed: its output is above")


@contextmanager
def mounted_pool(scratch: Path) -> Iterator[Path]:
    """Provide a fresh btrfs on a sparse loop file, and leave no mount below `scratch`."""
    image, pool = scratch / "pool.img", scratch / "pool"
    pool.mkdir()
    with image.open("wb") as file:
        file.truncate(_POOL_BYTES)
    _run("mkfs.btrfs", "-q", str(image))
    _run("mount", "-o", "loop", str(image), str(pool))
    try:
        yield pool
    finally:
        unmount_below(scratch)


def unmount_below(scratch: Path) -> None:
    """Unmount everything below a folder, the last mounted first; the loop device goes along."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    targets = [line.split(" ")[4] for line in lines]
    for target in reversed(targets):
        if Path(target).is_relative_to(scratch):
            _run("umount", target)


@contextmanager
def running_driver(scratch: Path, pool: Path, log: Path) -> Iterator[Path]:
    """Run the driver as the cluster does, and provide its socket once it listens."""
    socket = scratch / "csi.sock"
    argv = [sys.executable, str(_HERE / "driver.py"), "--name", "btrfs.csi.drey.test"]
    argv += ["--node", "sanity", "--pool", str(pool), "--socket", str(socket)]
    argv += ["--registration", str(scratch / "registration.sock")]
    argv += ["--faults", str(scratch / "no-faults.json")]
    with log.open("w") as output:
        driver = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + _START_S
        while not socket.exists():
            if driver.poll() is not None or time.monotonic() > deadline:
                raise SanityFailed(f"the driver did not start: {log.read_text().strip()}")
            time.sleep(0.05)
        yield socket
    finally:
        driver.terminate()
        try:
            driver.wait(10)
        except subprocess.TimeoutExpired:
            driver.kill()
            driver.wait()


def outcomes(report: Path) -> Counter[str]:
    """Count the cases of a JUnit report by their status: passed, failed, skipped, pending."""
    cases = ET.parse(report).getroot().iter("testcase")  # noqa: S314  # our own suite wrote it
    return Counter(
        case.get("status", "unknown") for case in cases if case.get("name", "").startswith("[It]")
    )


def run_suite(binary: Path, scratch: Path, socket: Path, arguments: list[str]) -> int:
    """Run the suite against the socket, print its counts and return its exit code."""
    report = scratch / "report.xml"
    argv = [str(binary), f"--csi.endpoint={socket}"]
    argv += [f"--csi.mountdir={scratch}/mount", f"--csi.stagingdir={scratch}/staging"]
    argv += [f"--ginkgo.junit-report={report}", "--ginkgo.no-color", *arguments]
    code = subprocess.run(argv, check=False).returncode
    if not report.exists():
        raise SanityFailed("csi-sanity wrote no report: its output is above")
    counts = outcomes(report)
    listed = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    print(f"csi-sanity: {listed}", flush=True)
    if not counts["passed"]:
        raise SanityFailed("csi-sanity passed nothing")
    return code


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SanityFailed(f"{' '.join(argv)}: {done.stderr.strip()}")


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise SanityFailed("needs root: it mounts a file system")
    for tool in ("mkfs.btrfs", "btrfs", "go"):
        if shutil.which(tool) is None:
            raise SanityFailed(f"{tool} is missing: install Go and btrfs-progs")


def main() -> int:
    """Build, run, clean up; return 0 only if every case that ran has passed."""
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--binary", type=Path, help="a csi-sanity that was built before")
    flags.add_argument("arguments", nargs="*", help="for csi-sanity, after --")
    chosen = flags.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the clean-up runs
    try:
        _check_machine()
        with ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="csi-sanity-")))
            binary = chosen.binary or scratch / "csi-sanity"
            if chosen.binary is None:
                build(binary)
            pool = stack.enter_context(mounted_pool(scratch))
            log = scratch / "driver.log"
            socket = stack.enter_context(running_driver(scratch, pool, log))
            code = run_suite(binary, scratch, socket, chosen.arguments)
            if code != 0:
                print(f"the driver's log:\n{log.read_text()}", flush=True)
            return code
    except SanityFailed as err:
        print(f"csi-sanity: {err}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
