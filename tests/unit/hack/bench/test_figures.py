"""Medians, percentiles and the table of `make bench`."""

import pytest

from hack.bench import figures


@pytest.mark.parametrize(
    ("values", "median", "p95"),
    [([2.0], 2.0, 2.0), ([3.0, 1.0, 2.0], 2.0, 3.0), ([float(n) for n in range(20)], 9.5, 18.0)],
)
def test_median_and_p95(values: list[float], median: float, p95: float) -> None:
    """The order of the runs does not matter; of few values p95 is the largest."""
    assert figures.median(values) == median
    assert figures.p95(values) == p95


def test_p95_leaves_one_in_twenty_above() -> None:
    """Of a hundred different values, five are above p95."""
    values = [float(number) for number in range(100)]
    assert sum(value > figures.p95(values) for value in values) == 5


def test_table_and_verdict_are_read_by_people(capsys: pytest.CaptureFixture[str]) -> None:
    """A row has its label, median and p95; a missed aim is said in capitals."""
    figures.table("Title", "s", [("Drey", [1.0, 2.0, 3.0])])
    figures.verdict("ratio", 1.5, "<= 1.25", good=False)
    text = capsys.readouterr().out
    assert "Title" in text
    assert ["Drey", "2.000", "3.000"] in [line.split() for line in text.splitlines()]
    assert "aim <= 1.25: MISSED" in text
