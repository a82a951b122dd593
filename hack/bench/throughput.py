"""How fast much data goes through: restic below the runner, and restic in a bare Job."""

import contextlib
import time
from dataclasses import dataclass

from hack.bench import bare, figures
from tests.support.cluster import Cluster, Space
from tests.support.node import Process, processes

LARGE_BYTES, QUICK_BYTES = 2 * 10**9, 200 * 10**6
MOST_RUNS = 5
"""Each run writes the whole data anew, for Drey and for the bare Job."""
LEAST_RATIO, MOST_GROWTH = 0.98, 1.05
STEP_S = 0.02
RUNNERS = ("drey", "bare")


@dataclass
class Run:
    """How long `restic backup` lived, as the kernel shows it, and what was used meanwhile.

    `cpu_s` is restic's processor time, which other work on the machine hardly changes;
    `runner_cpu_s` that of the process above it.
    """

    seconds: float
    cpu_s: float
    runner_cpu_s: float
    rss_bytes: list[int]


def run(cluster: Cluster, runs: int, quick: bool) -> None:  # noqa: FBT001 - one of four alike
    """Measure in turns, with a new repository for each, and print."""
    size_bytes = QUICK_BYTES if quick else LARGE_BYTES
    runs = min(runs, MOST_RUNS)
    ours: list[Run] = []
    theirs: list[Run] = []
    with cluster.space("bench-throughput") as space:
        space.apply(space.secret(), space.pvc(size="4Gi"), space.pod())
        space.wait_pod("app")
        figures.progress(f"throughput: writing {size_bytes / 1e9:g} GB")
        space.cluster.kubectl(
            "exec", "-n", space.name, "app", "--", "sh", "-c",
            f"head -c {size_bytes} /dev/urandom > /data/large; sync", timeout_s=600.0,
        )  # fmt: skip
        bare.initialise(space, "new", *(f"{who}-{n}" for n in range(runs) for who in RUNNERS))
        for number in range(runs):
            figures.progress(f"throughput: run {number} of {runs}")
            pair = [(_drey, ours), (_bare, theirs)]
            for measure, results in pair if number % 2 else reversed(pair):
                results.append(measure(space, number))
    speeds = [[size_bytes / 1e6 / run.seconds for run in series] for series in (ours, theirs)]
    figures.table(
        f"Backup of {size_bytes / 1e9:g} GB of random data into a new repository, {runs} runs",
        "MB/s",
        [("Drey", speeds[0]), ("bare Job", speeds[1])],
    )
    figures.table(
        "Processor time of it",
        "s",
        [
            ("Drey: restic", [run.cpu_s for run in ours]),
            ("Drey: runner", [run.runner_cpu_s for run in ours]),
            ("bare Job: restic", [run.cpu_s for run in theirs]),
        ],
    )
    ratio = figures.median(speeds[0]) / figures.median(speeds[1])
    figures.verdict("Drey / bare Job", ratio, ">= 0.98", good=ratio >= LEAST_RATIO)
    growth = max(max(run.rss_bytes) / run.rss_bytes[0] for run in ours)
    peak = max(max(run.rss_bytes) for run in ours) / 1e6
    figures.verdict(
        f"runner's RSS, largest / first (peak {peak:.1f} MB)",
        growth, "<= 1.05: constant", good=growth <= MOST_GROWTH,
    )  # fmt: skip


def _drey(space: Space, number: int) -> Run:
    name = f"{RUNNERS[0]}-{number}"
    space.apply(space.repository(name), space.configuration(name, repository=name))
    space.wait_phase("backupconfiguration", name, "Ready")
    space.apply(space.session(name, configuration=name))
    measured = _watch(space, f"batch.kubernetes.io/job-name=stash-backup-{name}-0")
    space.wait_phase("backupsession", name, "Succeeded", timeout_s=600.0)
    _forget(space, name)
    return measured


def _bare(space: Space, number: int) -> Run:
    name = f"{RUNNERS[1]}-{number}"
    space.apply(bare.job(space, name, repository=name))
    measured = _watch(space, f"bench={name}")
    bare.wait(space, name)
    _forget(space, name)
    return measured


def _forget(space: Space, repository: str) -> None:
    """Free the disk: the server keeps a repository as a folder."""
    space.cluster.run("rm", "-rf", f"{space.cluster.info['s3']['data']}/{space.name}/{repository}")


def _watch(space: Space, selector: str) -> Run:
    """Follow the one process `restic backup` of a pod to its end."""

    def first() -> tuple[Process, Process | None] | None:
        for pod in space.cluster.list("pod", space.name, selector):
            found = processes(pod["metadata"]["uid"])
            restic = [p for p in found if p.program == "restic" and "backup" in p.argv]
            if restic:
                return restic[0], next((p for p in found if p.program == "python3"), None)
        return None

    restic, runner = space.cluster.until("restic backup", first, timeout_s=60.0)
    started_s, rss_bytes, cpu_s = restic.started_s(), [], 0.0
    before_s = runner.cpu_s() if runner else 0.0
    runner_cpu_s = before_s
    with contextlib.suppress(OSError):  # how its end shows
        while True:
            cpu_s = restic.cpu_s()
            if runner:
                rss_bytes.append(runner.rss_bytes())
                runner_cpu_s = runner.cpu_s()
            time.sleep(STEP_S)
    seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - started_s
    return Run(seconds, cpu_s, runner_cpu_s - before_s, rss_bytes)
