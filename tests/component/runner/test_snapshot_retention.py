"""Retention of VolumeSnapshots chooses what a real `restic forget` chooses."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from controller.api.backup import RetentionPolicy
from controller.api.objects import meta
from controller.api.text import parse_time
from controller.reconcile.snapshot_retention import removable
from tests.support.histories import Histories, history, snapshots_at
from tests.support.runner import restic_program

SEED = 20261124
HOSTS = 300
RULES = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


def policies() -> Iterator[dict[str, int]]:
    """Return each rule alone, and mixes as people write them and as nobody would."""
    for number, rule in enumerate(RULES):
        yield {rule: 1}
        yield {rule: 2 + number % 2}
        yield {rule: 10_000}
    yield {"last": 3, "daily": 7, "weekly": 4, "monthly": 12, "yearly": 5}
    yield dict.fromkeys(RULES, 1)
    random = Random(SEED)  # noqa: S311 - varied, not secret
    for _ in range(12):
        rules = random.sample(RULES, random.randint(2, len(RULES)))
        yield {rule: random.choice((1, 1, 2, 3, 5, 8)) for rule in rules}


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> Histories:
    """Return one repository with a host for each history."""
    place: Path = tmp_path_factory.mktemp("histories")
    found = Histories(restic_program(), place / "repository")
    random = Random(SEED)  # noqa: S311 - varied, not secret
    for number in range(HOSTS):
        found.add(f"host-{number}", history(random))
    return found


def ours(times: tuple[datetime, ...], rules: dict[str, int]) -> list[datetime]:
    """Return the times of the VolumeSnapshots that we keep of a history."""
    numbers: dict[str, Any] = {f"keep_{rule}": number for rule, number in rules.items()}
    policy = RetentionPolicy(name="keep", prune=False, **numbers)
    snapshots = snapshots_at(times)
    gone = {meta(one)["name"] for one in removable(snapshots, (), policy)}
    return sorted(
        parse_time(meta(one)["creationTimestamp"])
        for one in snapshots
        if meta(one)["name"] not in gone
    )


def test_our_choice_is_restics(histories: Histories) -> None:
    """For every policy and every history; of equal times, which restic leaves open, as many."""

    def differing(rules: dict[str, int]) -> list[str]:
        theirs = histories.kept(*(f"--keep-{rule}={number}" for rule, number in rules.items()))
        assert theirs.keys() == histories.times.keys()
        return [
            f"{rules} {host}: {times}"
            for host, times in histories.times.items()
            if theirs[host] != ours(times, rules)
        ]

    with ThreadPoolExecutor(2) as pool:
        found = [text for texts in pool.map(differing, policies()) for text in texts]
    assert found == []


def test_the_histories_are_varied(histories: Histories) -> None:
    """They have what the rules are about: equal times, edges of years and leap days among them."""
    moments = [moment for times in histories.times.values() for moment in times]
    assert len(moments) > 10 * HOSTS / 2
    assert any(len(set(times)) < len(times) for times in histories.times.values())
    assert {moment.isocalendar().week for moment in moments} >= {1, 52, 53}
    assert any((moment.month, moment.day) == (2, 29) for moment in moments)
    assert any(moment.isocalendar().year != moment.year for moment in moments)
