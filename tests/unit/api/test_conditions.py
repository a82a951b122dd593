"""Condition lists: Stash's words, and what may change when."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.conditions import (
    MAX_MESSAGE,
    Condition,
    Type,
    deadline_exceeded,
    merged,
    outcome,
    repository_found,
    restore_executor_ensured,
    secret_found,
    status_of,
    target_found,
    validation,
    without,
)
from controller.api.objects import Obj
from controller.api.text import format_time
from tests.support.builders import NOW, condition
from tests.support.strategies import conditions, entries, moments

LATER = NOW + timedelta(hours=1)


@given(st.lists(entries), st.lists(conditions, max_size=4), moments, moments)
def test_merging_again_changes_nothing(
    old: list[Obj], new: list[Condition], now: object, later: object
) -> None:
    """An unchanged world gives an unchanged list at any later time: no write follows."""
    distinct = list({c.type: c for c in new}.values())
    once = merged(old, distinct, now)  # type: ignore[arg-type] # moments are datetimes
    assert merged(once, distinct, later) == once  # type: ignore[arg-type] # as above


@given(st.lists(entries, unique_by=lambda e: e["type"]), st.lists(conditions, max_size=4))
def test_transition_time_moves_with_the_status_only(old: list[Obj], new: list[Condition]) -> None:
    """LastTransitionTime changes exactly when a status flips or a type is new."""
    before = {entry["type"]: entry for entry in old}
    last = {c.type.value: c for c in new}
    distinct = list(last.values())
    for entry in merged(old, distinct, LATER):
        known = before.get(entry["type"])
        if known is not None and known["status"] == entry["status"]:
            assert entry["lastTransitionTime"] == known["lastTransitionTime"]
        else:
            assert entry["lastTransitionTime"] == format_time(LATER)


@given(st.lists(entries), st.lists(conditions, max_size=4))
def test_foreign_entries_stay_in_their_order(old: list[Obj], new: list[Condition]) -> None:
    """What we do not set is kept as it was, in the same order: the list is replaced as a whole."""
    ours = {c.type.value for c in new}
    result = merged(old, new, NOW)

    def foreign(items: list[Obj]) -> list[Obj]:
        kept: list[Obj] = [entry for entry in items if entry["type"] not in ours]
        return kept

    assert foreign(result) == foreign(old)


@given(st.lists(entries), st.lists(conditions, max_size=4))
def test_every_condition_is_what_a_reader_finds(old: list[Obj], new: list[Condition]) -> None:
    """After a merge the first entry of a type, which readers see, is the one that was merged."""
    last = {c.type: c for c in new}
    result = merged(old, new, NOW)
    for kind, wanted in last.items():
        assert status_of(result, kind) == wanted.status_text


def test_of_two_entries_of_a_type_the_first_lives_on() -> None:
    """A list that another writer left with a double is mended and not forked further."""
    old = [condition("MetricsPushed", "False"), condition("MetricsPushed", "True")]
    (entry,) = merged(old, [outcome(Type.METRICS_PUSHED, failure=None)], LATER)
    assert (entry["status"], entry["lastTransitionTime"]) == ("True", format_time(LATER))


def test_an_entry_that_says_the_same_keeps_fields_that_are_not_ours() -> None:
    """Severity and observedGeneration of another writer survive while nothing changes."""
    good = outcome(Type.METRICS_PUSHED, failure=None)
    old = [{**merged((), [good], NOW)[0], "severity": "Info", "observedGeneration": 3}]
    assert merged(old, [good], LATER) == old


def test_a_long_message_is_cut_and_then_stable() -> None:
    """Messages end at 1,024 characters, and a cut one does not look changed in the next turn."""
    long = validation(["x" * 3000])
    once = merged((), [long], NOW)
    assert len(once[0]["message"]) == MAX_MESSAGE
    assert merged(once, [long], LATER) == once


def test_without_drops_the_named_types() -> None:
    """Conditions that no longer apply are taken out, all others stay."""
    left = without([condition("A"), condition("MetricsPushed")], Type.METRICS_PUSHED)
    assert [entry["type"] for entry in left] == ["A"]


PVC = "PersistentVolumeClaim demo/data"


@pytest.mark.parametrize(
    ("made", "status", "reason", "message"),
    [
        (
            repository_found("demo/repo", found=True),
            "True",
            "RepositoryAvailable",
            "Repository demo/repo exist.",
        ),
        (
            repository_found("demo/repo", found=False),
            "False",
            "RepositoryNotAvailable",
            "Repository demo/repo does not exist. Create it, or correct spec.repository.name.",
        ),
        (
            secret_found("demo/s", found=True, problem=None),
            "True",
            "BackendSecretAvailable",
            "Backend Secret demo/s exist.",
        ),
        (
            secret_found("demo/s", found=False, problem=None),
            "False",
            "BackendSecretNotAvailable",
            (
                "Backend Secret demo/s does not exist. Create it with RESTIC_PASSWORD and the "
                "backend's credentials, or correct spec.backend.storageSecretName of the "
                "Repository."
            ),
        ),
        (
            secret_found("demo/s", found=True, problem="no key"),
            "False",
            "BackendSecretNotUsable",
            "no key",
        ),
        (validation([]), "True", "ResourceValidationPassed", "Successfully validated."),
        (validation(["a: b", "c: d"]), "False", "ResourceValidationFailed", "a: b; c: d"),
        (
            target_found(Type.BACKUP_TARGET_FOUND, PVC, found=True, problem=None),
            "True",
            "TargetAvailable",
            f"Backup target {PVC} found.",
        ),
        (
            target_found(Type.RESTORE_TARGET_FOUND, PVC, found=False, problem=None),
            "False",
            "TargetNotAvailable",
            f"Restore target {PVC} does not exist. Create it, or correct spec.target.ref.",
        ),
        (
            outcome(Type.CRON_JOB_CREATED, failure=None),
            "True",
            "CronJobCreationSucceeded",
            "Successfully created backup triggering CronJob.",
        ),
        (
            outcome(Type.CRON_JOB_CREATED, failure="no"),
            "False",
            "CronJobCreationFailed",
            "Failed to create backup triggering CronJob. Reason: no",
        ),
        (
            outcome(Type.BACKEND_REPOSITORY_INITIALIZED, failure=None),
            "True",
            "BackendRepositoryFound",
            "Repository exist in the backend.",
        ),
        (
            outcome(Type.BACKUP_HISTORY_CLEANED, failure="no"),
            "False",
            "FailedToCleanBackupHistory",
            "Failed to cleanup old BackupSessions. Reason: no",
        ),
        (
            restore_executor_ensured(PVC, failure=None),
            "True",
            "SuccessfullyEnsuredRestoreExecutor",
            f"Restorer job/init-container has been ensured successfully for {PVC}.",
        ),
        (
            restore_executor_ensured(PVC, failure="no"),
            "False",
            "FailedToEnsureRestoreExecutor",
            "failed to ensure restore executor. Reason: no",
        ),
        (
            deadline_exceeded("2m0s", restore=False),
            "True",
            "FailedToCompleteWithinDeadline",
            "Failed to complete backup within 2m0s.",
        ),
        (
            deadline_exceeded("2m0s", restore=True),
            "True",
            "FailedToCompleteWithinDeadline",
            "Failed to complete restore within 2m0s.",
        ),
    ],
)
def test_words_are_those_of_stash(made: Condition, status: str, reason: str, message: str) -> None:
    """Dashboards and people match on Stash's reasons and messages (stash.md 1.3 to 1.5).

    What is missing also gets the fix, after Stash's own sentence.
    """
    assert (made.status_text, made.reason) == (status, reason)
    assert made.message == message or made.message.startswith(f"{message} Create it")
