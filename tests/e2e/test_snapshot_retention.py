"""Which VolumeSnapshots go: those of the configuration alone, and Stash's only where asked for."""

from typing import Any

import pytest

from tests.support.cluster import Space, condition
from tests.support.snapshots import (
    bound,
    claims,
    configuration,
    named,
    names,
    readiness,
    ready,
    snapshots,
    taken,
)

ADOPT = {"drey.dev/adopt-stash-snapshots": "true"}
ONE: dict[str, Any] = {"name": "one", "keepLast": 1, "prune": True}
STASHS = "data-1600000000"
"""As Stash names one. It has no label, and neither have those that people make."""
BY_HAND = ("data-by-hand", "mine")


@pytest.fixture
def data(space: Space) -> Space:
    """A namespace with one bound claim."""
    space.apply(*claims(space, "data"))
    bound(space, "data")
    return space


def made_elsewhere(space: Space, *wanted: str, labels: dict[str, str] | None = None) -> None:
    """Take VolumeSnapshots of the claim that are not Drey's, and wait until they are ready."""
    space.apply(
        *(
            space.object(
                "snapshot.storage.k8s.io/v1", "VolumeSnapshot", name,
                metadata={"labels": labels or {}},
                spec={"source": {"persistentVolumeClaimName": "data"}},
            )
            for name in wanted
        )
    )  # fmt: skip
    space.cluster.until(
        "those of others", lambda: all(readiness(space).get(name) for name in wanted)
    )


def left(space: Space, *wanted: str) -> None:
    """Wait until exactly these VolumeSnapshots are left: the driver takes a moment to end one."""
    space.cluster.until(
        f"only {sorted(wanted)} left", lambda: names(snapshots(space)) == sorted(wanted)
    )


def applied(session: dict[str, Any]) -> dict[str, Any]:
    """Return RetentionPolicyApplied of a session that succeeded."""
    assert session["status"]["phase"] == "Succeeded", session["status"]
    return condition(session, "RetentionPolicyApplied")


def test_neighbours_on_one_claim(data: Space) -> None:
    """Two configurations keep one each: sessions of the first never touch that of the second."""
    ready(data, *(configuration(data, name=name, retentionPolicy=ONE) for name in ("one", "two")))
    first = taken(data, "one-1", configuration="one")
    neighbour = taken(data, "two-1", configuration="two")
    (kept,) = snapshots(data, neighbour)
    left(data, *named(first, "data"), *named(neighbour, "data"))
    for name in ("one-2", "one-3"):
        last = taken(data, name, configuration="one")
        assert applied(last)["status"] == "True"
        left(data, *named(last, "data"), *named(neighbour, "data"))
    (still,) = snapshots(data, neighbour)
    assert still["metadata"]["uid"] == kept["metadata"]["uid"]
    assert still["status"]["readyToUse"] is True


def test_what_stash_made(data: Space) -> None:
    """It stays until the annotation asks for it; what people made stays in any case."""
    made_elsewhere(data, STASHS, *BY_HAND)
    made_elsewhere(data, "data-1500000000", labels={"app": "neighbour"})
    others = (*BY_HAND, "data-1500000000")
    ready(data, configuration(data, retentionPolicy=ONE))
    first = taken(data, "first")
    assert applied(first)["status"] == "True"
    second = taken(data, "second")
    left(data, STASHS, *others, *named(second, "data"))
    ready(data, configuration(data, retentionPolicy=ONE, annotations=ADOPT))
    third = taken(data, "third")
    assert applied(third)["status"] == "True"
    left(data, *others, *named(third, "data"))


def test_what_stash_made_counts(data: Space) -> None:
    """Of three to be kept it is one, while it is among the three newest."""
    made_elsewhere(data, STASHS)
    three = {**ONE, "name": "three", "keepLast": 3}
    ready(data, configuration(data, retentionPolicy=three, annotations=ADOPT))
    first, second = taken(data, "first"), taken(data, "second")
    assert applied(second)["status"] == "True"
    made = [name for session in (first, second) for name in named(session, "data")]
    left(data, STASHS, *made)
    third = taken(data, "third")
    left(data, *made, *named(third, "data"))


def test_a_dry_run_deletes_nothing(data: Space) -> None:
    """It names what would go, of Stash's too; without it, that is what goes."""
    made_elsewhere(data, STASHS, *BY_HAND)
    dry = {**ONE, "dryRun": True}
    ready(data, configuration(data, retentionPolicy=dry, annotations=ADOPT))
    first, second = taken(data, "first"), taken(data, "second")
    found = applied(second)
    assert (found["status"], found["reason"]) == ("True", "DryRun")
    would_go = (STASHS, *named(first, "data"))
    assert found["message"] == f"dryRun: 2 would be deleted: {', '.join(would_go)}."
    left(data, *would_go, *BY_HAND, *named(second, "data"))
    ready(data, configuration(data, retentionPolicy=ONE, annotations=ADOPT))
    third = taken(data, "third")
    left(data, *BY_HAND, *named(third, "data"))
