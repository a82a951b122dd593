"""What is kept in annotations of a Repository, and what the next run is told of it."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.objects import Key, Obj
from controller.api.report import MAX_UNTAGGED, RepositoryReport
from controller.reconcile import backup_session
from controller.reconcile.observed import Executor
from controller.reconcile.repository_record import (
    MAX_CONFIGURATIONS,
    SNAPSHOTS_AHEAD,
    UNTAGGED_INCOMPLETE,
    differs,
    has_snapshots_ahead,
    record,
    recorded_id,
    untagged_incomplete,
    verification_due,
    was_used,
)
from tests.support.builders import (
    NOW,
    REPOSITORY_ID,
    VERIFIED_AT,
    before,
    job,
    references,
    report,
    reported,
    repository,
    running_status,
    session,
    session_observed,
)

NIGHTLY, WEEKLY = Key("demo", "nightly"), Key("demo", "weekly")
GOOD = "ab" * 32


def ids(count: int, start: int = 0) -> tuple[str, ...]:
    """Return some ids."""
    return tuple(f"{number:064x}" for number in range(start, start + count))


def after(raw: Obj, key: Key, **learned: Any) -> dict[str, Any]:
    """Return the Repository as a run leaves it."""
    kept = record(raw, key, RepositoryReport(**{"id": GOOD, **learned}), NOW)
    return repository(metadata={"annotations": dict(kept)})


def test_a_damaged_repository_is_looked_at_with_every_backup() -> None:
    """A run that does not look would succeed, a minute after one that found the damage."""
    for integrity, due in ((False, True), (True, False), (None, False)):
        raw = repository(status={} if integrity is None else {"integrity": integrity})
        assert verification_due(raw, NOW, 86_400) is due


@pytest.mark.parametrize("garbled", ["", "ab" * 31, "AB" * 32, "ab" * 32 + "\n", "x" * 64])
def test_only_an_id_of_64_hex_digits_is_one(garbled: str) -> None:
    """Another text would make every run fail for good; it still says that there was a use."""
    fresh = repository(used=False)
    assert REPOSITORY_ID not in record(fresh, NIGHTLY, RepositoryReport(id=garbled), NOW)
    edited = repository(metadata={"annotations": {REPOSITORY_ID: garbled}})
    assert recorded_id(edited) == ""
    assert was_used(edited)
    kept = record(edited, NIGHTLY, RepositoryReport(), NOW)
    assert kept == {REPOSITORY_ID: garbled}
    assert record(edited, NIGHTLY, RepositoryReport(id=GOOD), NOW) == {REPOSITORY_ID: GOOD}


def test_snapshots_ahead_stay_known_until_a_run_of_the_same_configuration_misses_them() -> None:
    """A run that did not look changes nothing, and neither does a neighbour's."""
    ahead = after(repository(), NIGHTLY, snapshots_ahead=True)
    assert has_snapshots_ahead(ahead, NIGHTLY)
    assert not has_snapshots_ahead(ahead, WEEKLY)
    assert has_snapshots_ahead(after(ahead, NIGHTLY), NIGHTLY)
    assert has_snapshots_ahead(after(ahead, WEEKLY, snapshots_ahead=False), NIGHTLY)
    gone = after(ahead, NIGHTLY, snapshots_ahead=False)
    assert SNAPSHOTS_AHEAD not in gone["metadata"]["annotations"]
    assert differs(ahead, gone["metadata"]["annotations"])
    assert not differs(gone, gone["metadata"]["annotations"])


def test_untagged_snapshots_stay_known_until_a_report_leaves_them_out() -> None:
    """They would count as complete. A report without the repository's id clears nothing."""
    two = after(repository(), NIGHTLY, untagged_incomplete=ids(2))
    assert untagged_incomplete(two, NIGHTLY) == ids(2)
    assert untagged_incomplete(two, WEEKLY) == ()
    assert untagged_incomplete(after(two, NIGHTLY, id=""), NIGHTLY) == ids(2)
    assert untagged_incomplete(after(two, WEEKLY), NIGHTLY) == ids(2)
    failed = after(two, NIGHTLY, id="", untagged_incomplete=ids(3))
    assert untagged_incomplete(failed, NIGHTLY) == ids(3)
    assert UNTAGGED_INCOMPLETE not in after(two, NIGHTLY)["metadata"]["annotations"]


def test_the_record_is_bounded() -> None:
    """Annotations of an object have 256 KiB in all; the run's own ids come first."""
    raw: dict[str, Any] = repository()
    for number in range(MAX_CONFIGURATIONS + 20):
        key = Key("n" * 63, f"{number:0253}")
        untagged = ids(MAX_UNTAGGED + 5, number * 100)
        raw = after(raw, key, snapshots_ahead=True, untagged_incomplete=untagged)
        assert untagged_incomplete(raw, key) == untagged[5:]
        assert has_snapshots_ahead(raw, key)
    size = sum(len(text) for text in raw["metadata"]["annotations"].values())
    assert size < 100_000


@given(
    st.one_of(
        st.text(),
        st.recursive(
            st.one_of(st.none(), st.integers(), st.text(), st.just("cd" * 32)),
            lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
        ).map(json.dumps),
    )
)
def test_edited_annotations_never_stop_a_backup(text: str) -> None:
    """What is not in order counts as absent."""
    raw = repository(metadata={"annotations": {SNAPSHOTS_AHEAD: text, UNTAGGED_INCOMPLETE: text}})
    assert set(untagged_incomplete(raw, NIGHTLY)) <= {"cd" * 32}
    has_snapshots_ahead(raw, NIGHTLY)
    record(raw, NIGHTLY, RepositoryReport(id=GOOD), NOW)


def job_input(raw: Obj) -> Mapping[str, Any]:
    """Return what the runner of the next backup is told."""
    seen = session_observed(references=references(repository=raw))
    planned: Any = backup_session.plan(seen, NOW)
    (container,) = planned.writes[0].body["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = json.loads(
        next(v["value"] for v in container["env"] if v["name"] == "DREY_INPUT")
    )
    return found


def test_the_next_run_is_told() -> None:
    """From one run's report through the Repository to the next run's input."""
    learned = RepositoryReport(id=GOOD, snapshots_ahead=True, untagged_incomplete=ids(2))
    running = session(status=running_status())
    seen = session_observed(
        running, executor=Executor(job(running), reported(report(repository=learned)))
    )
    planned: Any = backup_session.plan(seen, NOW)
    (body,) = [w.body for w in planned.writes if hasattr(w, "body")]
    backup = job_input(repository(metadata={"annotations": body["metadata"]["annotations"]}))
    assert backup["backup"]["careful"] is True
    assert backup["backup"]["known_incomplete"] == list(ids(2))
    usual = job_input(repository())
    assert (usual["backup"]["careful"], usual["backup"]["known_incomplete"]) == (False, [])
    assert (
        job_input(repository(metadata={"annotations": {REPOSITORY_ID: "text"}}))["repository"]["id"]
        == ""
    )


def test_nothing_new_is_no_write() -> None:
    """The annotations of a usual run are those that are there (D13)."""
    raw = repository(metadata={"annotations": {REPOSITORY_ID: GOOD, VERIFIED_AT: before(60)}})
    learned = RepositoryReport(id=GOOD, snapshots_ahead=False)
    assert not differs(raw, record(raw, NIGHTLY, learned, NOW))
