"""`restic forget` in repositories that are shared (D1), with a real restic."""

import re
from dataclasses import replace
from typing import Any

import pytest

from controller.api.job_input import JobInput, Retention
from controller.api.report import Reason, RunReport, StepState
from tests.component.runner.test_faults import SHORT_RETRY, holding
from tests.support.runner import Place, Run


def of(place: Place, name: str, **plan: Any) -> JobInput:
    """Return the input of another configuration with the same host and path."""
    job = place.job_of(name)
    assert job.backup is not None
    return replace(job, backup=replace(job.backup, **plan))


def reported(run: Run) -> RunReport:
    """Return the report, which there is."""
    assert run.report is not None, run.text
    return run.report


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
    job = of(place, "a", verify=True, retention=Retention(keep_last=1, prune=True))
    damaged = place.run("backup", job=job)
    assert reported(damaged).repository.integrity is False
    assert damaged.host.succeeded
    found = reported(damaged).verification
    assert found is not None
    assert re.search("restic check found errors: pack [0-9a-f]{64}: does not exist", found.message)
    # A prune in a damaged repository could take away what can still be read.
    assert damaged.verbs() == ["backup", "check", "stats"]
    assert len(place.snapshots()) == 2
    skipped = reported(damaged).retention
    assert skipped is not None
    assert skipped.state is StepState.SKIPPED
    assert "intact" in skipped.message


SIGNALLED = """echo '{"message_type":"summary","num_errors":1}'
echo '{"message_type":"exit_error","code":130,"message":"context canceled"}' >&2; exit 130"""
NO_LOCK = """echo '{"message_type":"summary","num_errors":1}'
echo '{"message_type":"exit_error","code":1,"message":"cannot create lock"}' >&2; exit 1"""


@pytest.mark.parametrize("end", ["echo broken >&2; exit 1", SIGNALLED, NO_LOCK])
@pytest.mark.parametrize("damaged", [False, True])
def test_no_retention_after_a_check_that_broke_off(
    place: Place, end: str, *, damaged: bool
) -> None:
    """A check without a verdict leaves doubt: nothing is removed. Known damage stays known.

    restic counts one error whatever ended its check.
    """
    place.run("backup", job=of(place, "a"))
    place.shim(f'[ "$1" = check ] && {{ {end}; }}\nexec "$REAL" "$@"')
    job = of(place, "a", verify=True, damaged=damaged, retention=Retention(keep_last=1))
    run = place.run("backup", job=job)
    assert run.verbs() == ["backup", "check", "stats"]
    assert len(place.snapshots()) == 2
    assert reported(run).repository.integrity is (False if damaged else None)
    verification = reported(run).verification
    assert verification is not None
    assert verification.state is StepState.FAILED
    assert verification.message.startswith("damaged when last checked") is damaged


def test_no_retention_in_a_damaged_repository_that_is_locked(place: Place) -> None:
    """Its check was kept out; what it would have found is known."""
    place.run("backup", job=of(place, "a"))
    locked = """echo '{"message_type":"exit_error","code":11,"message":"locked"}' >&2; exit 11"""
    place.shim(f'[ "$1" = check ] && {{ {locked}; }}\nexec "$REAL" "$@"')
    job = of(place, "a", verify=True, damaged=True, retention=Retention(keep_last=1))
    run = place.run("backup", job=job)
    assert "forget" not in run.verbs()
    assert len(place.snapshots()) == 2
    assert reported(run).repository.integrity is False


def refusing(place: Place, folder: str) -> str:
    """Return a shim whose `check` may not read what is in a folder of the repository."""
    return f"""
[ "$1" = check ] || exec "$REAL" "$@"
chmod 000 {place.repository}/{folder}/*
setpriv --bounding-set=-dac_override,-dac_read_search "$REAL" "$@"
code=$?
chmod 700 {place.repository}/{folder}/*
exit $code"""


def test_a_backend_that_went_away_is_no_damage(place: Place) -> None:
    """What a check could not read may be intact: integrity is not known, nothing is removed."""
    place.run("backup", job=of(place, "a"))
    place.shim(refusing(place, "index"))
    run = place.run("backup", job=of(place, "a", verify=True, retention=Retention(keep_last=1)))
    assert reported(run).repository.integrity is None
    verification = reported(run).verification
    assert verification is not None
    assert verification.state is StepState.FAILED
    assert verification.message.startswith("BackendDenied: ")
    assert "permission denied" in verification.message
    assert len(place.snapshots()) == 2


def test_damage_beside_what_could_not_be_read(place: Place) -> None:
    """A pack that is missing from the list is lost, whatever else was refused."""
    place.run("backup", job=of(place, "a"))
    packs = [path for path in (place.repository / "data").rglob("*") if path.is_file()]
    packs[0].unlink()
    place.shim(refusing(place, "snapshots"))
    run = place.run("backup", job=of(place, "a", verify=True, retention=Retention(keep_last=1)))
    assert reported(run).repository.integrity is False
    verification = reported(run).verification
    assert verification is not None
    assert f"pack {packs[0].name}: does not exist" in verification.message
    assert "permission denied" in verification.message


FROM_2099 = ("--time=2099-01-01 00:00:00", "--host=host-0", "--tag=drey:config=demo/a")


def test_time_of_a_snapshot_is_the_api_servers(place: Place) -> None:
    """Neither the node's clock nor a zone in the environment decides which snapshot is newest."""
    place.environment = {"TZ": "Asia/Tokyo"}
    job = replace(of(place, "a"), session_created="2026-01-02T03:04:05Z")
    place.run("backup", job=job)
    (listed,) = place.snapshots()
    assert listed["time"] == "2026-01-02T03:04:05Z"


def test_a_snapshot_that_retention_removed_is_no_success(place: Place) -> None:
    """With a snapshot of the future, keepLast 1 takes the new one: the host fails and says why."""
    place.restic("init")
    place.restic("backup", *FROM_2099, str(place.source))
    job = of(place, "a", retention=Retention(keep_last=1, prune=True))
    run = place.run("backup", job=job)
    assert run.verbs() == ["backup", "forget"]
    assert (run.code, run.host.reason) == (1, Reason.SNAPSHOT_REMOVED)
    assert "clock was ahead" in run.host.error
    assert run.host.snapshots == ()
    assert reported(run).repository.snapshots_ahead is True


@pytest.mark.parametrize("plan", [{"careful": True}, {"verify": True}])
def test_careful_retention_keeps_what_this_run_made(place: Place, plan: dict[str, bool]) -> None:
    """With a snapshot of the future the rules only choose; this run's own snapshot stays."""
    place.run("backup", job=of(place, "a"))
    place.restic("backup", *FROM_2099, str(place.source))
    job = of(place, "a", retention=Retention(keep_last=1, prune=True), **plan)
    run = place.run("backup", job=job)
    own = run.host.snapshots[0].id
    assert run.code == 0
    assert own in {item["id"] for item in place.snapshots()}
    assert len(place.snapshots()) == 2
    known = reported(run).repository
    assert (known.snapshots_ahead, known.snapshots_kept, known.snapshots_removed) == (True, 2, 1)
    (future,) = (item["id"] for item in place.snapshots() if item["id"] != own)
    place.restic("forget", future)
    again = place.run("backup", job=job)
    assert reported(again).repository.snapshots_ahead is False


@pytest.mark.parametrize("printed", ["", ">/dev/null"])
def test_loss_is_seen_although_forget_failed(place: Place, printed: str) -> None:
    """A forget that removed the new snapshot and then broke off, with or without a word."""
    place.restic("init")
    place.restic("backup", *FROM_2099, str(place.source))
    place.shim(f'[ "$1" = forget ] || exec "$REAL" "$@"\n"$REAL" "$@" {printed}; exit 1')
    run = place.run("backup", job=of(place, "a", retention=Retention(keep_last=1)))
    assert (run.code, run.host.reason) == (1, Reason.SNAPSHOT_REMOVED)
    failed = reported(run).retention
    assert failed is not None
    assert failed.state is StepState.FAILED


RETRY = SHORT_RETRY.partition("exec")[0]


def incomplete_shim(place: Place, *, tag: str = ":") -> None:
    """Let backups miss the file: without root's right to read all of it. `tag` runs before tags."""
    (place.source / "file").chmod(0)
    drop = "setpriv --bounding-set=-dac_override,-dac_read_search"
    place.shim(
        f'[ "$1" = tag ] && {{ {tag}; }}\n[ "$1" = backup ] && DROP="{drop}"\n'
        f'{RETRY}\nexec $DROP "$REAL" "$@"'
    )


@pytest.mark.parametrize("steps", [1, 2])
def test_untagged_incomplete_snapshots_stay_known(place: Place, steps: int) -> None:
    """A neighbour's lock keeps the tag off: retention waits, and later runs know the snapshot.

    It never counts as the last complete one, gets its tag as soon as that is possible, and the
    report tells the whole list each time (D5).
    """
    rules = Retention(keep_last=1, prune=True)
    complete = place.run("backup", job=of(place, "a", retention=rules)).host.snapshots[0].id
    incomplete_shim(place)
    job = of(place, "a", retention=rules, verify=True, damaged=True)
    with holding(place, "backup", "--stdin"):
        if steps == 1:
            run = place.run("backup", job=job)
        else:
            folder = str(place.root / "output")
            place.run("backup", "--output-dir", folder, job=job)
            run = place.run("update-status", "--output-dir", folder, job=job)
    untagged = run.host.snapshots[0].id
    assert run.host.reason == Reason.BACKUP_INCOMPLETE
    assert reported(run).repository.untagged_incomplete == (untagged,)
    skipped = reported(run).retention
    assert skipped is not None
    assert skipped.state is StepState.SKIPPED
    assert "forget" not in run.verbs()
    assert reported(run).repository.integrity is False, "what nobody looked at stays damaged"

    place.restic("unlock")
    incomplete_shim(place, tag="exit 1")
    known = of(place, "a", retention=rules, known_incomplete=(untagged,))
    again = place.run("backup", job=known)
    second = again.host.snapshots[0].id
    assert complete in {item["id"] for item in place.snapshots()}
    assert reported(again).repository.untagged_incomplete == (untagged, second)

    incomplete_shim(place)
    both = of(place, "a", retention=rules, known_incomplete=(untagged, second))
    third = place.run("backup", job=both)
    assert third.verbs() == ["backup", "tag", "tag", "forget", "forget"]
    assert reported(third).repository.untagged_incomplete == ()
    left = {item["id"]: item.get("tags") or () for item in place.snapshots()}
    assert set(left) == {complete, third.host.snapshots[0].id}


def test_known_incomplete_protects_while_it_cannot_be_tagged(place: Place) -> None:
    """An untagged incomplete snapshot is not taken for the last complete one (D5)."""
    complete = place.run("backup", job=of(place, "a")).host.snapshots[0].id
    bad = place.run("backup", job=of(place, "a")).host.snapshots[0].id
    marker = place.root / "tagged"
    # The new snapshot gets its tag, the older one does not.
    incomplete_shim(place, tag=f"[ -e {marker} ] && exit 1; touch {marker}")
    rules = Retention(keep_last=1)
    run = place.run("backup", job=of(place, "a", retention=rules, known_incomplete=(bad,)))
    assert reported(run).repository.untagged_incomplete == (bad,)
    left = {item["id"] for item in place.snapshots()}
    assert left == {complete, run.host.snapshots[0].id}


def test_a_failed_run_keeps_what_is_known(place: Place) -> None:
    """The list of untagged snapshots survives a run that never got as far as a repository."""
    ids = ("ab" * 32,)
    missing = of(place, "a", paths=(str(place.source / "nope"),), known_incomplete=ids)
    assert reported(place.run("backup", job=missing)).repository.untagged_incomplete == ids
    place.secret = {}
    unreadable = of(place, "a", known_incomplete=ids)
    assert reported(place.run("backup", job=unreadable)).repository.untagged_incomplete == ids


def test_known_incomplete_that_is_gone_is_forgotten(place: Place) -> None:
    """An id that retention has removed meanwhile is told no longer."""
    place.run("backup", job=of(place, "a"))
    run = place.run("backup", job=of(place, "a", known_incomplete=("ab" * 32,)))
    assert (run.code, run.verbs()) == (0, ["backup", "tag"])
    assert reported(run).repository.untagged_incomplete == ()
