"""Configurations that share a Repository keep apart (D1), and one of them alone makes it (D2)."""

from tests.support.cluster import Space
from tests.support.evidence import job_of, locks, log_of, snapshots

CONFIGURATIONS = ("one", "two", "three", "four")


def content(space: Space, claim: str) -> str:
    """Return what the file of a claim says."""
    return space.exec(f"app-{claim}", "cat /data/file").strip()


def test_neighbours(space: Space) -> None:
    """Retention and restore of one configuration never touch the data of another."""
    claims = ("one", "two")
    space.apply(space.secret(), space.repository(), *(space.pvc(claim) for claim in claims))
    space.apply(*(space.pod(f"app-{claim}", claim=claim) for claim in claims))
    keep_one = {"name": "last", "keepLast": 1, "prune": True}
    for claim in claims:
        space.wait_pod(f"app-{claim}")
        space.exec(f"app-{claim}", f"echo of {claim} > /data/file; sync")
        space.apply(space.configuration(claim, claim=claim, retentionPolicy=keep_one))
    for claim in claims:
        space.wait_phase("backupconfiguration", claim, "Ready")
    of_two = space.back_up("two-first", configuration="two")
    kept = of_two["status"]["targets"][0]["stats"][0]["snapshots"][0]["name"]
    for number in range(3):
        space.back_up(f"one-{number}", configuration="one")
    left = snapshots(space)
    assert len(left) == 2, "one snapshot of each"
    assert left[0]["id"] == kept, "three rounds of retention next door did not touch it"
    assert left[1]["parent"] != kept, "the parent is the configuration's own last snapshot"
    for claim in claims:
        space.exec(f"app-{claim}", "rm /data/file; sync")
        space.apply(space.restore(f"restore-{claim}", claim=claim))
    for claim in claims:
        space.wait_phase("restoresession", f"restore-{claim}", "Succeeded")
        assert content(space, claim) == f"of {claim}", "never the neighbour's newer snapshot"


def test_ambiguous_restore(space: Space) -> None:
    """A restore into a third claim does not guess whose snapshot is meant: it lists them."""
    claims = ("one", "two")
    space.apply(space.secret(), space.repository())
    space.apply(*(space.pvc(claim) for claim in (*claims, "empty")))
    for claim in claims:
        space.wait_phase("pvc", claim, "Bound")
        space.apply(space.configuration(claim, claim=claim))
    made = {}
    for claim in claims:
        space.wait_phase("backupconfiguration", claim, "Ready")
        done = space.back_up(claim, configuration=claim)
        made[claim] = done["status"]["targets"][0]["stats"][0]["snapshots"][0]["name"]
    space.apply(space.restore("guess", claim="empty"))
    failed = space.wait_phase("restoresession", "guess", "Failed")
    error = failed["status"]["stats"][0]["error"]
    assert error.startswith("SnapshotAmbiguous: "), error
    for claim, snapshot in made.items():
        assert snapshot in error
        assert f"{space.name}/{claim}" in error
    space.apply(space.restore("named", claim="empty", rules=[{"snapshots": [made["one"]]}]))
    space.wait_phase("restoresession", "named", "Succeeded")


def test_first_backups_at_once(space: Space) -> None:
    """Of four first backups at once exactly one makes the repository, and all four succeed."""
    space.apply(space.secret(), space.repository())
    space.apply(*(space.pvc(name) for name in CONFIGURATIONS))
    for name in CONFIGURATIONS:
        space.wait_phase("pvc", name, "Bound")
        space.apply(space.configuration(name, claim=name))
    for name in CONFIGURATIONS:
        space.wait_phase("backupconfiguration", name, "Ready")
    space.apply(*(space.session(name, configuration=name) for name in CONFIGURATIONS))
    for name in CONFIGURATIONS:
        space.wait_phase("backupsession", name, "Succeeded", timeout_s=120.0)
    made = [
        line
        for name in CONFIGURATIONS
        for line in log_of(space, job_of(name))
        if line.get("event") == "repository_initialised"
    ]
    assert len(made) == 1, made
    tags = {tag for snapshot in snapshots(space) for tag in snapshot["tags"]}
    assert {f"drey:config={space.name}/{name}" for name in CONFIGURATIONS} <= tags
    assert len(snapshots(space)) == len(CONFIGURATIONS)
    assert locks(space) == []
    assert space.restic("check")["num_errors"] == 0
