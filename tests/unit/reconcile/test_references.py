"""What is said about what an invoker names."""

from datetime import timedelta

import pytest

from controller.api.conditions import Type
from controller.api.objects import Obj
from controller.reconcile.order import node_for, parts_of, use_problem
from controller.reconcile.references import (
    first_false,
    pvc_problem,
    retry_in_s,
    secret_condition,
    target_condition,
)
from tests.support.builders import (
    NOW,
    TARGET_TEXT,
    catalog,
    condition,
    pvc,
    references,
    repository,
)


@pytest.mark.parametrize(
    ("claim", "backup", "restore"),
    [
        (pvc(), None, None),
        (pvc(phase="Pending"), "is Pending, not Bound: start a pod that uses it", None),
        (pvc(phase="Lost"), "is Lost", "is Lost"),
        (pvc(volumeMode="Block"), "has volumeMode Block", "has volumeMode Block"),
        ({**pvc(), "status": {}}, "is Pending", None),
        (
            {
                **pvc(),
                "metadata": {"name": "data", "namespace": "demo", "deletionTimestamp": "x"},
            },
            "is being deleted",
            "is being deleted",
        ),
    ],
)
def test_what_claim_can_be_read_or_written(
    claim: Obj, backup: str | None, restore: str | None
) -> None:
    """D3: only a bound file system is a source; a restore's pod is what a pending claim awaits."""
    for found, expected in (
        (pvc_problem(claim, restore=False), backup),
        (pvc_problem(claim, restore=True), restore),
    ):
        assert (found is None) == (expected is None)
        assert found is None or f"{TARGET_TEXT} {expected}" in found


def test_a_target_condition_follows_the_claim() -> None:
    """Backup and restore have conditions of their own."""
    pending = references(pvc=pvc(phase="Pending"))
    backup = target_condition(Type.BACKUP_TARGET_FOUND, pending, TARGET_TEXT)
    restore = target_condition(Type.RESTORE_TARGET_FOUND, pending, TARGET_TEXT)
    assert (backup.status, backup.reason) == (False, "TargetNotUsable")
    assert (restore.status, restore.reason) == (True, "TargetAvailable")


def test_a_secret_that_nobody_named_has_no_condition() -> None:
    """Without a Repository it is not known which Secret is meant."""
    assert secret_condition(references(secret=None)) is None


def test_a_read_write_once_claim_binds_to_a_node() -> None:
    """D18: only where a second node could not mount it."""
    assert node_for(pvc(), ("n1", "n2")) == "n1"
    assert node_for(pvc(modes=("ReadWriteOncePod",)), ("n1",)) == "n1"
    assert node_for(pvc(modes=("ReadWriteOnce", "ReadWriteMany")), ("n1",)) == ""
    assert node_for(pvc(), ()) == ""
    assert use_problem(pvc(), ("app",), TARGET_TEXT) is None
    assert use_problem(pvc(modes=("ReadWriteOncePod",)), (), TARGET_TEXT) is None


@pytest.mark.parametrize(("age_s", "wait_s"), [(0, 5), (8, 5), (30, 15), (10_000, 60)])
def test_the_wait_grows_with_the_age_of_what_is_missing(age_s: float, wait_s: float) -> None:
    """5 s to 60 s, from the condition itself: no state between turns (D14)."""
    entries = [
        condition("RepositoryFound", "False"),
        condition("BackupSkipped", "False"),
        condition("ValidationPassed", "True"),
    ]
    now = NOW + timedelta(seconds=age_s)
    assert retry_in_s(entries, [Type.REPOSITORY_FOUND], now) == wait_s


def test_the_youngest_cause_sets_the_pace() -> None:
    """A person who mends one thing after another is not kept waiting."""
    entries = [
        condition("RepositoryFound", "False", age_s=5000),
        condition("BackendSecretFound", "Unknown", age_s=20),
    ]
    kinds = [Type.REPOSITORY_FOUND, Type.BACKEND_SECRET_FOUND]
    assert retry_in_s(entries, kinds, NOW) == 10.0


def test_the_first_false_condition_is_quoted() -> None:
    """Its message, else its reason; nothing when all is well."""
    good = condition("RepositoryFound", message="fine")
    bad = condition("BackupTargetFound", "False", message="no b")
    assert first_false([good, bad]) == "no b"
    assert first_false([condition("BackupTargetFound", "Unknown", reason="Why")]) == "Why"
    assert first_false([good]) == ""


def test_the_conditions_of_others_are_not_quoted() -> None:
    """Nobody knows whether theirs are good when they are True."""
    foreign = condition("Degraded", "False", message="all is well")
    bad = condition("BackupTargetFound", "False", message="no b")
    assert first_false([foreign, bad]) == "no b"
    assert first_false([foreign]) == ""


def test_parts_are_parsed_or_named() -> None:
    """A malformed Function is named with its path."""
    assert not isinstance(parts_of(references()), str)
    assert parts_of(references(task=None)) == "its Repository or its Task does not exist"
    odd = repository(spec={"backend": {"s3": 7}})
    assert parts_of(references(repository=odd)) == "its Repository or its Task is malformed"
    function = {**catalog("Function")["pvc-backup"], "spec": {"image": 7}}
    said = parts_of(references(functions={"pvc-backup": function}))
    assert isinstance(said, str)
    assert said.startswith("Function pvc-backup spec.image: ")
