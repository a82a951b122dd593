"""Medians, percentiles, and lines that a person can compare."""

import math
import statistics
from collections.abc import Sequence

Row = tuple[str, Sequence[float]]
_LABEL = 52


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def p95(values: Sequence[float]) -> float:
    """Return the value that 95 % of all are not above (nearest rank): of few the largest."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def table(title: str, unit: str, rows: Sequence[Row]) -> None:
    """Print a row of median and p95 for each series."""
    print(f"\n{title}\n{'':{_LABEL}}{'median':>10}{'p95':>10}  {unit}")
    for label, values in rows:
        print(f"  {label:{_LABEL - 2}}{median(values):10.3f}{p95(values):10.3f}")


def verdict(label: str, value: float, aim: str, *, good: bool, unit: str = "") -> None:
    """Print a figure beside what it should be."""
    word = "reached" if good else "MISSED"
    print(f"  {label:{_LABEL - 2}}{value:10.3f} {unit:<4} aim {aim}: {word}", flush=True)


def progress(text: str) -> None:
    """Show that something happens, without leaving a line behind on a terminal."""
    print(f"  … {text}", flush=True)
