"""`make bench`: what Drey costs beside restic and CSI themselves, on the cluster of `make cluster`.

Run it on a quiet machine. It asserts nothing: tests/e2e/test_counts.py and test_snapshot_counts.py
hold the counts.
"""

import argparse
import sys
import time
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[2])
# `python3 hack/bench` puts this folder on the path: its modules are found through the checkout
sys.path[:1] = [ROOT] if sys.path[0] != ROOT else []

from hack.bench import idle, overhead, snapshots, throughput  # noqa: E402 - the path is set above
from tests.support.cluster import Cluster  # noqa: E402 - as above

PARTS = {
    "overhead": overhead.run,
    "snapshots": snapshots.run,
    "throughput": throughput.run,
    "idle": idle.run,
}
RUNS, QUICK_RUNS = 20, 3


def main() -> int:
    """Run the parts that were asked for; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="hack/bench",
        description="Compares backups by Drey with a bare Job that runs the same two restic "
        "commands in the same image, and VolumeSnapshots with a bare client that asks for them; "
        "measures the operator at rest. Prints median and p95.",
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default"
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RUNS} runs, less data")
    parser.add_argument("--runs", type=int, help=f"how many runs (default {RUNS})")
    arguments = parser.parse_args()
    unknown = [part for part in arguments.parts if part not in PARTS]
    if unknown:
        parser.error(f"{', '.join(unknown)}: not one of {', '.join(PARTS)}")
    runs = arguments.runs or (QUICK_RUNS if arguments.quick else RUNS)
    cluster = Cluster.current()
    started = time.monotonic()
    try:
        for part in arguments.parts or PARTS:
            PARTS[part](cluster, runs, arguments.quick)
    except AssertionError as err:
        print(f"hack/bench: {err}", file=sys.stderr)
        return 1
    print(f"\n{time.monotonic() - started:.0f} s in all", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
