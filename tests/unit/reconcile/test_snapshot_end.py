"""The end of a session with VolumeSnapshots: retention, history, metrics, and what is refused."""

from typing import Any

import pytest

from controller.api.creation import QUIESCED_UNTIL
from controller.api.objects import Obj, uid_of
from controller.api.resources import BACKUP_SESSION, ROLE_BINDING, VOLUME_SNAPSHOT
from controller.plan import Delete, Plan, Ref, Refusal, SetStatus
from controller.reconcile.snapshot_end import adopts, is_of_stash
from controller.reconcile.snapshot_session import plan
from tests.support.builders import NOW, before, configuration, session
from tests.support.snapshot_sessions import (
    CLAIMS,
    all_ready,
    begun,
    conditions_in,
    created,
    creation_job,
    ended_job,
    failed_entry,
    observed,
    snapshot_spec,
    status_in,
    volume_snapshot,
)

RUN = begun()
GOOD = ended_job(creation_job(RUN))
HOUR_S = 3600


def older(claim: str, hours: int, **fields: Any) -> dict[str, Any]:
    """Return a VolumeSnapshot of an earlier session."""
    return volume_snapshot(
        claim, age_s=hours * HOUR_S, of=f"uid-{hours}", name=f"{claim}-{hours}", **fields
    )


HISTORY = tuple(older(claim, hours) for claim in CLAIMS for hours in (1, 2, 3))


def end(**fields: Any) -> Plan:
    """Return the plan of a session in which all is ready; two of each claim are kept."""
    usual = {"executor": GOOD, "snapshots": all_ready(), "kept": HISTORY, "reading": None}
    return plan(observed(fields.pop("raw", RUN), **{**usual, **fields}), NOW)


def gone(plan: Plan) -> list[str]:
    """Return the names of the VolumeSnapshots that a plan deletes."""
    return [
        w.ref.name
        for w in plan.writes
        if isinstance(w, Delete) and w.ref.resource == VOLUME_SNAPSHOT
    ]


def retention(plan: Plan) -> tuple[str, str, str]:
    """Return RetentionPolicyApplied."""
    return conditions_in(status_in(plan)["conditions"])["RetentionPolicyApplied"]


def test_each_claim_keeps_its_own() -> None:
    """With the uid as precondition, and before the final status: a crash does it again."""
    made = end()
    assert gone(made) == [f"{claim}-{hours}" for claim in CLAIMS for hours in (3, 2)]
    deletes = [w for w in made.writes if isinstance(w, Delete)]
    assert all(w.ref.uid for w in deletes)
    assert isinstance(made.writes[-1], SetStatus)
    assert retention(made)[:2] == ("True", "SuccessfullyAppliedRetentionPolicy")
    assert made.facts["removed"] == 6


PART = begun(stats=(failed_entry(CLAIMS[0]), *({"hostname": c} for c in CLAIMS[1:])))
"""A session that has no VolumeSnapshot of the first claim."""
ONE = snapshot_spec(retentionPolicy={"name": "one", "prune": True, "keepLast": 1})


def test_of_a_claim_that_failed_nothing_goes() -> None:
    """Its older ones are all it has; of the others goes what no rule keeps."""
    made = end(raw=PART, snapshots=all_ready()[1:])
    assert gone(made) == [f"{claim}-{hours}" for claim in CLAIMS[1:] for hours in (3, 2)]
    assert status_in(made)["phase"] == "Failed"
    assert "Left" not in retention(made)[2]  # the rules themselves keep the last whole set


def test_a_part_never_pushes_out_the_last_set_that_belongs_together() -> None:
    """An application with several volumes is restored from VolumeSnapshots of one moment."""
    made = end(raw=PART, snapshots=all_ready()[1:], spec=ONE)
    assert gone(made) == [f"{claim}-{hours}" for claim in CLAIMS[1:] for hours in (3, 2)]
    status, _, text = retention(made)
    assert status == "True"
    assert text.endswith(
        "Left because this session has none of data-db-0, so that the last that belong together "
        "are older: data-db-1-1, data-db-2-1."
    )
    whole = end(spec=ONE)
    assert gone(whole) == [f"{claim}-{hours}" for claim in CLAIMS for hours in (3, 2, 1)]
    assert "Left" not in retention(whole)[2]


def test_many_parts_in_a_row_leave_the_last_set_that_belongs_together() -> None:
    """Parts give way to parts."""
    parts = tuple(older(claim, hours) for claim in CLAIMS[1:] for hours in (1, 2))
    kept = (*parts, *(older(claim, 3) for claim in CLAIMS))
    made = end(raw=PART, snapshots=all_ready()[1:], spec=ONE, kept=kept)
    assert gone(made) == [f"{claim}-{hours}" for claim in CLAIMS[1:] for hours in (2, 1)]


def test_a_dry_run_does_not_name_what_would_be_left() -> None:
    """It says what a real one would do, and why it leaves more."""
    policy = {"name": "dry", "prune": True, "keepLast": 1, "dryRun": True}
    spec = snapshot_spec(retentionPolicy=policy)
    text = retention(end(raw=PART, snapshots=all_ready()[1:], spec=spec))[2]
    assert text.startswith(
        "dryRun: 4 would be deleted: data-db-1-3, data-db-1-2, data-db-2-3, data-db-2-2. "
        "Left because this session has none of data-db-0,"
    )


def test_where_nobody_knows_the_claims_nothing_goes() -> None:
    """What is whole cannot be told."""
    made = end(raw=begun(stats=()), spec=ONE)
    assert status_in(made)["phase"] == "Failed"
    assert gone(made) == []
    assert "RetentionPolicyApplied" not in conditions_in(status_in(made)["conditions"])


def test_what_was_cut_after_the_application_went_on_pushes_out_nothing() -> None:
    """It is not quiesced, although it became ready; of this session the session itself says so."""
    late = {QUIESCED_UNTIL: before(HOUR_S + 10)}
    kept = (older(CLAIMS[0], 1, annotations=late), older(CLAIMS[0], 2), older(CLAIMS[0], 3))
    assert gone(end(kept=kept)) == ["data-db-0-3"]
    own = tuple(volume_snapshot(c, annotations={QUIESCED_UNTIL: before(60)}) for c in CLAIMS)
    assert gone(end(kept=kept, snapshots=own)) == ["data-db-0-3"]


def test_without_any_success_nothing_is_said_of_retention() -> None:
    """It was not applied."""
    raw = begun(stats=tuple(failed_entry(claim) for claim in CLAIMS))
    made = end(raw=raw, snapshots=())
    assert gone(made) == []
    assert "RetentionPolicyApplied" not in conditions_in(status_in(made)["conditions"])


def test_without_a_rule_all_stay() -> None:
    """And the condition says so (D6)."""
    made = end(spec=snapshot_spec(retentionPolicy={"name": "all", "prune": True}))
    assert gone(made) == []
    assert retention(made)[:2] == ("True", "Skipped")


def test_a_dry_run_names_what_would_go() -> None:
    """And deletes nothing."""
    policy = {"name": "dry", "prune": True, "keepLast": 3, "dryRun": True}
    made = end(spec=snapshot_spec(retentionPolicy=policy))
    assert gone(made) == []
    status, reason, text = retention(made)
    assert (status, reason) == ("True", "DryRun")
    assert text == "dryRun: 3 would be deleted: data-db-0-3, data-db-1-3, data-db-2-3."


def test_what_is_about_to_be_restored_is_left_for_the_next_run() -> None:
    """And the condition names it; a dry run tells the same."""
    used = frozenset({"data-db-0-3", "data-db-1-1"})
    made = end(in_use=used)
    assert gone(made) == [*("data-db-0-2", "data-db-1-3", "data-db-1-2"), *gone(end())[-2:]]
    assert retention(made) == (
        "True",
        "SuccessfullyAppliedRetentionPolicy",
        "Successfully applied retention policy. Left until they are restored: data-db-0-3.",
    )
    policy = {"name": "dry", "prune": True, "keepLast": 3, "dryRun": True}
    text = retention(end(spec=snapshot_spec(retentionPolicy=policy), in_use=used))[2]
    assert text == (
        "dryRun: 2 would be deleted: data-db-1-3, data-db-2-3. "
        "Left until they are restored: data-db-0-3."
    )


def test_this_sessions_own_stays_whatever_the_clocks_say() -> None:
    """Others may claim to be newer."""
    future = tuple(older(CLAIMS[0], -hours) for hours in (1, 2, 3))
    made = end(kept=future)
    assert not set(gone(made)) & {f"{claim}-1700000000" for claim in CLAIMS}


def test_one_that_is_not_ready_never_pushes_out_a_good_one() -> None:
    """It goes when it is older than all that stay."""
    kept = (older(CLAIMS[0], 1, ready=False), older(CLAIMS[0], 2), older(CLAIMS[0], 5, ready=False))
    assert gone(end(kept=kept)) == ["data-db-0-5"]


def test_a_refused_delete_is_a_condition_not_a_failure() -> None:
    """The result is written first then, and the others go: one alone stops no retention."""
    first, *others = (
        w for w in end().writes if isinstance(w, Delete) and w.ref.resource == VOLUME_SNAPSHOT
    )
    made = end(refusal=Refusal(first, "Forbidden", "may not delete"))
    assert isinstance(made.writes[0], SetStatus)
    assert list(made.writes[1:]) == others
    assert made.facts["removed"] == len(others) == 5
    assert status_in(made)["phase"] == "Succeeded"
    assert retention(made)[0] == "False"
    assert "VolumeSnapshot demo/data-db-0-3: may not delete" in retention(made)[2]


def test_a_refused_history_delete_does_not_hold_up_the_result() -> None:
    """The VolumeSnapshots go all the same."""
    old = session("nightly-0", age_s=9000, status={"phase": "Succeeded"})
    made = end(siblings=(old,))
    (write,) = (w for w in made.writes if isinstance(w, Delete) and w.ref.name == "nightly-0")
    assert write.ref.resource == BACKUP_SESSION
    again = end(siblings=(old,), refusal=Refusal(write, "Forbidden", "no"))
    assert len(gone(again)) == 6
    entries = conditions_in(status_in(again)["conditions"])
    assert entries["BackupHistoryCleaned"][0] == "False"
    assert status_in(again)["phase"] == "Succeeded"


def test_the_right_to_run_commands_ends_with_the_session() -> None:
    """The binding is deleted."""
    ref = Ref(ROLE_BINDING, "demo", "stash-hook-identity-nightly-1", uid_of({}))
    made = end(access=(ref,))
    assert Delete(ref) in made.writes


def samples(plan: Plan) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return what is pushed, by name."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for push in plan.pushes:
        assert push.group == "backupconfiguration-demo-nightly"
        for name, labels, value in push.samples:
            found.setdefault(name, []).append((dict(labels), value))
    return found


def test_the_controller_pushes_the_metrics() -> None:
    """Of the session, of the target, and of each claim as a host; no sizes, which nobody knows."""
    made = end()
    found = samples(made)
    ((labels, value),) = found["stash_appscode_com_backupsession_success"]
    assert (labels["driver"], labels["kind"], labels["group"]) == (
        "VolumeSnapshotter", "PersistentVolumeClaim", "",
    )  # fmt: skip
    assert value == 1
    assert "repository" not in labels
    ((labels, value),) = found["stash_appscode_com_backupsession_target_host_count_total"]
    assert (labels["kind"], labels["group"], labels["name"], value) == (
        "StatefulSet",
        "apps",
        "db",
        3,
    )
    hosts = found["stash_appscode_com_backupsession_host_backup_duration_seconds"]
    assert [(labels["hostname"], value) for labels, value in hosts] == [(c, 10) for c in CLAIMS]
    assert not any("data_size" in name for name in found)
    ((_, at),) = found["stash_appscode_com_backupsession_last_success_time_seconds"]
    assert at == NOW.timestamp()
    entries = conditions_in(status_in(made)["conditions"])
    assert entries["MetricsPushed"][:2] == ("True", "MetricsHandedOver")


def test_a_failure_pushes_zeros() -> None:
    """The last success stays in the gateway."""
    raw = begun(stats=(failed_entry(CLAIMS[0]), *({"hostname": c} for c in CLAIMS[1:])))
    found = samples(end(raw=raw, snapshots=all_ready()[1:]))
    assert [value for _, value in found["stash_appscode_com_backupsession_success"]] == [0]
    hosts = found["stash_appscode_com_backupsession_host_backup_success"]
    assert [value for _, value in hosts] == [0, 1, 1]
    assert "stash_appscode_com_backupsession_last_success_time_seconds" not in found
    assert samples(end(configuration=None)) == {}


def test_the_event_names_the_first_errors_and_how_many_more() -> None:
    """One for the whole session."""
    many = [f"data-db-{number}" for number in range(6)]
    raw = begun(stats=tuple(failed_entry(name, f"CreationRefused: {name}") for name in many))
    made = end(raw=raw, snapshots=())
    (note,) = made.notes
    assert note.type == "Warning"
    assert note.message == (
        'backup failed for 6 of 6 hosts ("data-db-0", "data-db-1", "data-db-2" and 3 more) of '
        '"StatefulSet"/"db". Reason: data-db-0: CreationRefused: data-db-0; '
        "data-db-1: CreationRefused: data-db-1; data-db-2: CreationRefused: data-db-2; and 3 more"
    )


@pytest.mark.parametrize(
    ("name", "labels", "wanted"),
    [
        ("data-db-0-1700000000", {}, True),
        ("data-db-0-by-hand", {}, False),
        ("data-db-01700000000", {}, False),
        ("other-1700000000", {}, False),
        ("data-db-0-1700000000", {"owner": "me"}, False),
        ("data-db-0-", {}, False),
    ],
)
def test_what_stash_made_has_its_name_and_no_label(
    name: str,
    labels: dict[str, str],
    wanted: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """Nothing else is ever taken for one."""
    found: Obj = volume_snapshot(CLAIMS[0], name=name, labels=labels)
    assert is_of_stash(found) is wanted


def test_only_an_annotation_lets_them_count() -> None:
    """Word for word."""
    for text, wanted in (("true", True), ("yes", False)):
        annotated = configuration(
            metadata={"annotations": {"drey.dev/adopt-stash-snapshots": text}}
        )
        assert adopts(observed(configuration=annotated)) is wanted
    assert not adopts(observed())


def test_a_finished_session_creates_nothing() -> None:
    """Its plan is deletions and one status."""
    assert created(end()) == []
