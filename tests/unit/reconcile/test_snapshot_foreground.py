"""What is deleted between the hooks of a session, not in the background (D17)."""

from dataclasses import replace
from typing import Any

import pytest

from controller.api.objects import name_of
from controller.api.resources import BACKUP_SESSION
from controller.plan import CreateOnce, Finalizer, Plan, Refusal
from controller.reconcile.observed import Executor
from controller.reconcile.snapshot_session import plan
from tests.support.builders import NOW, before, pod, running
from tests.support.snapshot_sessions import (
    ENSURED,
    HOOK_ACCESS,
    all_ready,
    begun,
    conditions_in,
    created,
    creation_job,
    hook_entry,
    observed,
    owing,
    post_job,
    snapshot_spec,
    status_in,
    target_in,
)

HELD = "drey.dev/post-hook"
METADATA = {"finalizers": [HELD, "foregroundDeletion"], "deletionTimestamp": before(1)}
CUTTING = begun(hook_entry("Pre"), ENSURED, metadata=METADATA)


def planned(*, refusal: Refusal | None = None, account: str = "", **fields: Any) -> Plan:
    """Return the plan for a session whose VolumeSnapshots are being cut; its invoker is gone."""
    job, carried = creation_job(CUTTING), post_job(CUTTING)
    name = account or "stash-hook-identity-nightly-1"
    carried["spec"] = {"template": {"spec": {"serviceAccountName": name}}}
    usual = {"configuration": None, "reading": None, "refusal": refusal}
    executor = Executor(job, pod(running(), of=job))
    return plan(observed(owing(CUTTING, carried), executor=executor, **{**usual, **fields}), NOW)


def test_it_goes_on_in_the_background() -> None:
    """Else the garbage collector deletes the Job that sets the application going again."""
    first, *_ = found = planned().writes
    assert isinstance(first, Finalizer)
    assert (first.ref.resource, first.name, first.present) == (
        BACKUP_SESSION, "foregroundDeletion", False,
    )  # fmt: skip
    assert first.ref.uid
    assert not first.ref.resource_version
    assert sum(isinstance(write, Finalizer) for write in found) == 1


@pytest.mark.parametrize("access", [(), (HOOK_ACCESS,)], ids=["all gone", "half gone"])
def test_what_lets_the_hook_run_commands_is_there_again(access: Any) -> None:
    """The garbage collector was faster; of binding and ServiceAccount it may have had one."""
    assert created(planned(access=access)) == [
        "stash-hook-identity-nightly-1", "stash-hook-identity-nightly-1",
        "stash-hook-post-nightly-1",
    ]  # fmt: skip


def test_what_was_left_without_an_owner_does_as_well() -> None:
    """Deleted with `--cascade=orphan`: what lets the hook run commands belongs to nobody by now."""
    account, _, job = (w for w in planned().writes if isinstance(w, CreateOnce))
    refused = Refusal(account, "ForeignNamesake", "exists and belongs to somebody else")
    assert created(planned(refusal=refused)) == ["stash-hook-post-nightly-1"]
    for no in (Refusal(account, "Forbidden", "no"), replace(refused, write=job)):
        assert created(planned(refusal=no)) == []
        assert planned(refusal=no).requeue_after_s == 10


def test_it_does_not_go_without_its_children_either() -> None:
    """`--cascade=orphan`: the finalizer goes before the garbage collector has seen it."""
    metadata = {**METADATA, "finalizers": ["orphan", HELD]}
    raw = owing(begun(hook_entry("Pre"), ENSURED, metadata=metadata))
    first, *_ = plan(observed(raw, configuration=None, reading=None), NOW).writes
    assert isinstance(first, Finalizer)
    assert (first.name, first.present) == ("orphan", False)


def test_an_account_that_the_user_gave_is_only_bound() -> None:
    """It is not ours to create."""
    binding, job = (w.body for w in planned(account="robot").writes if isinstance(w, CreateOnce))
    assert binding["kind"] == "RoleBinding"
    assert binding["subjects"][0]["name"] == "robot"
    assert name_of(job) == "stash-hook-post-nightly-1"


def test_a_refusal_does_not_keep_the_application_frozen() -> None:
    """What comes after is tried all the same."""
    refused = Refusal(planned().writes[0], "Forbidden", "no")
    writes = planned(refusal=refused).writes
    assert not any(isinstance(write, Finalizer) for write in writes)
    assert any(isinstance(write, CreateOnce) for write in writes)


def test_one_that_nothing_is_owed_to_is_left_to_the_garbage_collector() -> None:
    """Of a session without hooks, or one that has ended, nothing is to be kept."""
    free = begun(ENSURED, metadata={**METADATA, "finalizers": ["foregroundDeletion"]})
    assert plan(observed(free, reading=None), NOW) == Plan()
    final = begun(hook_entry("Pre"), ENSURED, metadata=METADATA, phase="Failed")
    (write,) = plan(observed(final, reading=None), NOW).writes
    assert isinstance(write, Finalizer)
    assert write.name == HELD


@pytest.mark.parametrize("gone", [{"configuration": None}, {"spec": snapshot_spec()}])
def test_an_application_that_nobody_can_set_going_again_is_told_of(gone: dict[str, Any]) -> None:
    """The first Job, which carries the second one, is gone; so is what the second one is to do."""
    held = begun(hook_entry("Pre"), ENSURED, metadata={"finalizers": [HELD]})
    made = plan(observed(held, snapshots=all_ready(), reading=None, **gone), NOW)
    assert status_in(made)["phase"] == "Failed"
    state, _, text = conditions_in(target_in(made)["conditions"])[
        "PostBackupHookExecutionSucceeded"
    ]
    assert state == "False"
    assert "nothing says any more what it was to do" in text
    free = begun(ENSURED, metadata={"finalizers": [HELD]})
    made = plan(observed(free, snapshots=all_ready(), reading=None, **gone), NOW)
    assert status_in(made)["phase"] == "Succeeded"
