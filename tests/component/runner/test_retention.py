"""`restic forget` in repositories that are shared (D1), with a real restic."""

from dataclasses import replace
from typing import Any

from controller.api.job_input import JobInput, Retention
from controller.api.report import StepState
from tests.support.runner import Place


def of(place: Place, name: str, **plan: Any) -> JobInput:
    """Return the input of another configuration with the same host and path."""
    job = place.job_of(name)
    assert job.backup is not None
    return replace(job, backup=replace(job.backup, **plan))


def tagged(place: Place) -> dict[str, int]:
    """Return how many snapshots each configuration has; "" for those without tags."""
    counts: dict[str, int] = {}
    for item in place.snapshots():
        tags = [tag for tag in item.get("tags") or () if tag.startswith("drey:config=")]
        name = tags[0].removeprefix("drey:config=demo/") if tags else ""
        counts[name] = counts.get(name, 0) + 1
    return counts


def test_configurations_never_prune_each_other(place: Place) -> None:
    """Same repository, host and path: each policy sees its own configuration's snapshots."""
    for name in ("a", "b", "ab"):
        for _ in range(2):
            assert place.run("backup", job=of(place, name)).code == 0
    run = place.run("backup", job=of(place, "a", retention=Retention(keep_last=1, prune=True)))
    assert run.report is not None
    assert (run.report.repository.snapshots_kept, run.report.repository.snapshots_removed) == (1, 2)
    assert tagged(place) == {"a": 1, "b": 2, "ab": 2}


def test_parent_is_the_configurations_own_snapshot(place: Place) -> None:
    """An unchanged file is not read again after a neighbour's backup of other data."""
    place.run("backup", job=of(place, "a"))
    place.run("backup", job=of(place, "b"))
    run = place.run("backup", job=of(place, "a"))
    first, _, third = place.snapshots()
    assert third["parent"] == first["id"]
    assert run.host.snapshots[0].files_unmodified == 1


def test_untagged_snapshots_only_when_claimed(place: Place) -> None:
    """Snapshots that Stash made are left alone unless the configuration is the only owner."""
    assert place.run("backup", job=of(place, "a")).code == 0
    for _ in range(2):
        place.restic("backup", "--host=host-0", str(place.source))
    keep_one = Retention(keep_last=1)
    assert place.run("backup", job=of(place, "a", retention=keep_one)).code == 0
    assert tagged(place) == {"a": 1, "": 2}
    claimed = of(place, "a", retention=keep_one, claim_untagged=True)
    assert place.run("backup", job=claimed).code == 0
    assert tagged(place) == {"a": 1}


def test_claiming_spares_other_hosts_paths_and_tags(place: Place) -> None:
    """A claim reaches only untagged snapshots of the same host and path."""
    place.run("backup", job=of(place, "b"))
    other = place.root / "other"
    other.mkdir()
    for _ in range(2):
        place.restic("backup", "--host=host-1", str(place.source))
        place.restic("backup", "--host=host-0", str(other))
        place.restic("backup", "--host=host-0", "--tag=mine", str(place.source))
    before = {item["id"] for item in place.snapshots()}
    job = of(place, "a", retention=Retention(keep_last=1), claim_untagged=True)
    run = place.run("backup", job=job)
    assert {item["id"] for item in place.snapshots()} == before | {run.host.snapshots[0].id}


def test_no_keep_rule_removes_nothing(place: Place) -> None:
    """A policy without a keep rule is skipped, with the reason (D6)."""
    place.run("backup", job=of(place, "a"))
    run = place.run("backup", job=of(place, "a", retention=Retention(prune=True)))
    assert run.report is not None
    assert run.report.retention is not None
    assert run.report.retention.state is StepState.SKIPPED
    assert run.verbs() == ["backup"]


def test_keep_tags_alone_keep_the_newest(place: Place) -> None:
    """A policy of tags that match nothing never removes the snapshot just made."""
    place.run("backup", job=of(place, "a"))
    run = place.run("backup", job=of(place, "a", retention=Retention(keep_tags=("gold",))))
    assert [item["id"] for item in place.snapshots()] == [run.host.snapshots[0].id]


def test_dry_run_removes_nothing(place: Place) -> None:
    """A dry run says so and leaves every snapshot."""
    place.run("backup", job=of(place, "a"))
    job = of(place, "a", retention=Retention(keep_last=1, dry_run=True, prune=True))
    run = place.run("backup", job=job)
    assert run.report is not None
    assert run.report.retention is not None
    assert "dry run" in run.report.retention.message
    assert run.report.repository.snapshots_removed == 0
    assert tagged(place) == {"a": 2}


def test_verification(place: Place) -> None:
    """Integrity and size come with the backup when asked for; damage is a result."""
    run = place.run("backup", job=of(place, "a", verify=True))
    assert run.report is not None
    assert run.report.repository.integrity is True
    assert run.report.repository.snapshot_count == 1
    assert (run.report.repository.size_bytes or 0) > 0
    for pack in (place.repository / "data").rglob("*"):
        if pack.is_file():
            pack.unlink()
            break
    (place.source / "new").write_text("new")
    damaged = place.run("backup", job=of(place, "a", verify=True))
    assert damaged.report is not None
    assert damaged.report.repository.integrity is False
    assert damaged.host.succeeded
