"""What the operator needs while nothing happens, with many configurations."""

import time

from hack.bench import figures
from tests.support.cluster import Cluster, Space
from tests.support.node import Process, processes

CONFIGURATIONS = 100
SETTLE_S = 15.0
LONG_S, QUICK_S = 60.0, 15.0
MOST_RSS_MB, MOST_CPU_PERCENT = 90.0, 1.0


def run(cluster: Cluster, runs: int, quick: bool) -> None:  # noqa: FBT001 - one of four alike
    """Measure with the configurations that are there, then with a hundred more, and print."""
    del runs
    window_s = QUICK_S if quick else LONG_S
    operator = _operator(cluster)
    figures.progress(f"idle: {window_s:.0f} s without configurations")
    before = _measure(operator, window_s)
    with cluster.space("bench-idle") as space:
        figures.progress(f"idle: {CONFIGURATIONS} configurations")
        space.apply(space.secret(), space.pvc(), space.pod())
        space.wait_pod("app")
        _configure(space)
        time.sleep(SETTLE_S)
        figures.progress(f"idle: {window_s:.0f} s with {CONFIGURATIONS} configurations")
        after = _measure(operator, window_s)
    print(f"\nThe operator at rest, measured for {window_s:.0f} s by the kernel", flush=True)
    for label, (rss_mb, cpu_percent), aims in (
        ("as found", before, False),
        (f"{CONFIGURATIONS} configurations more", after, True),
    ):
        if not aims:
            print(f"  {label}: {rss_mb:.1f} MB RSS, {cpu_percent:.2f} % of a core")
            continue
        figures.verdict(
            f"{label}: RSS", rss_mb, "< 90 MB", good=rss_mb < MOST_RSS_MB, unit="MB"
        )  # fmt: skip
        figures.verdict(
            f"{label}: CPU", cpu_percent, "< 1 %", good=cpu_percent < MOST_CPU_PERCENT, unit="%"
        )  # fmt: skip


def _operator(cluster: Cluster) -> Process:
    (pod,) = cluster.list(
        "pod", "drey", "app.kubernetes.io/component=operator,drey.dev/leader=true"
    )
    found = processes(pod["metadata"]["uid"])
    (process,) = [p for p in found if "controller" in p.argv]
    return process


def _measure(process: Process, window_s: float) -> tuple[float, float]:
    """Return RSS in MB at the end, and the percentage of one core.

    Raises:
        AssertionError: the operator restarted meanwhile.
    """
    begun_s, used_s = time.monotonic(), process.cpu_s()
    time.sleep(window_s)
    if not process.folder.exists():
        raise AssertionError(
            "the operator restarted meanwhile: run this again when it is left alone"
        )
    percent = 100 * (process.cpu_s() - used_s) / (time.monotonic() - begun_s)
    return process.rss_bytes() / 1e6, percent


def _configure(space: Space) -> None:
    names = [f"c-{number}" for number in range(CONFIGURATIONS)]
    space.apply(*(space.repository(name) for name in names))
    space.apply(*(space.configuration(name, repository=name) for name in names))
    for name in names:
        space.wait_phase("backupconfiguration", name, "Ready")
