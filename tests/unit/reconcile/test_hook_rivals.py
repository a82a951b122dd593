"""Which session of another configuration a session with hooks waits for."""

from collections.abc import Mapping
from typing import Any

import pytest

from controller.api.backup import BackupConfigurationSpec
from controller.api.model import parse_spec
from controller.api.objects import Obj, name_of
from controller.api.text import parse_time
from controller.plan import Plan, SetStatus
from controller.reconcile.hook_rivals import rival_of
from controller.reconcile.snapshot_observed import Other, SnapshotSessionObserved
from controller.reconcile.snapshot_session import needs_reading, plan
from tests.support.builders import NOW, before, condition, configuration, session
from tests.support.snapshot_sessions import (
    CLAIMS,
    ENSURED,
    begun,
    conditions_in,
    created,
    hook_entry,
    hooks,
    observed,
    owing,
    snapshot_spec,
    status_in,
)

HOOKED = snapshot_spec(hooks=hooks())
HELD = {"finalizers": ["drey.dev/post-hook"]}
INVOKER = {"invoker": {"kind": "BackupConfiguration", "name": "hourly"}}
LEAVING = {"deletionTimestamp": before(1)}
PVC = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": CLAIMS[1]}


def parsed(spec: Obj) -> BackupConfigurationSpec:
    """Return the model of a spec."""
    found = parse_spec(BackupConfigurationSpec, configuration(spec=spec))
    assert isinstance(found, BackupConfigurationSpec)
    return found


def of_target(ref: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return the spec of a configuration of another target."""
    return snapshot_spec(target={"ref": dict(ref)}, hooks=hooks(), **changes)


def other(*entries: Obj, spec: Obj | None = HOOKED, started: bool = True, **fields: Any) -> Other:
    """Return a session of `hourly` that has begun."""
    raw = fields.pop("raw", None) or begun(
        *(entries or (hook_entry("Pre", "Unknown"),)), name="hourly-1", spec=INVOKER, **fields
    )
    return Other(raw, None if spec is None else parsed(spec), is_started=started)


def waits_for(*others: Other, raw: Obj | None = None, spec: Obj = HOOKED) -> str:
    """Return whom a session waits for before its target is read."""
    rival = rival_of(observed(raw, spec=spec, others=others))
    return "" if rival is None else name_of(rival)


def bare(**fields: Any) -> dict[str, Any]:
    """Return a session that a crash kept from saying that it has begun."""
    return session("hourly-1", of="hourly", age_s=90, **fields)


def elsewhere(name: str) -> dict[str, Any]:
    """Return the status of a session of another StatefulSet."""
    made = begun(hook_entry("Pre"), name="hourly-1")
    (target,) = made["status"]["targets"]
    target["ref"] = {**target["ref"], "name": name}
    target["stats"] = []
    return made


@pytest.mark.parametrize(
    ("found", "waits"),
    [
        (other(), True),
        (other(hook_entry("Pre"), ENSURED), True),
        (other(hook_entry("Pre", "False")), True),
        (other(hook_entry("Pre"), ENSURED, hook_entry("Post", "Unknown")), True),
        # what was cut needs hours until it is ready; the application goes on
        (other(hook_entry("Pre"), ENSURED, hook_entry("Post")), False),
        (other(hook_entry("Pre"), ENSURED, hook_entry("Post", "False")), False),
        # one whose only hook is still to come would end what this one began
        (other(ENSURED, spec=snapshot_spec(hooks=hooks(pre=False))), True),
        (other(ENSURED, spec=snapshot_spec()), False),
        (other(ENSURED, spec=None), False),
        # its first Job is there, and its status does not say so
        (other(raw=bare()), True),
        (other(raw=elsewhere("web")), False),
        # what it was begun with counts, whatever its configuration says by now
        (
            other(spec=of_target({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "x"})),
            True,
        ),
        (other(raw=bare(), spec=of_target(PVC)), False),
        # another way to write the same kind
        (
            other(
                raw=bare(),
                spec=of_target({"apiVersion": "apps/v1beta2", "kind": "StatefulSet", "name": "db"}),
            ),
            True,
        ),
        # held: it is about to begin, or nobody knows any more what it has quiesced
        (other(raw=owing(bare()), started=False), True),
        (other(raw=owing(bare()), started=False, spec=None), True),
        (other(metadata=LEAVING), False),
        (other(metadata={**LEAVING, **HELD}), True),
    ],
)
def test_what_has_begun_and_still_has_a_hook_to_run_comes_first(
    found: Other,
    waits: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """Of the same target; its postBackup hook would thaw what this one snapshots."""
    assert waits_for(found) == ("hourly-1" if waits else "")


def test_who_has_no_hooks_waits_for_nobody() -> None:
    """It is not quiesced, and ends nothing."""
    assert waits_for(other(), spec=snapshot_spec()) == ""
    assert waits_for(other(), spec=snapshot_spec(hooks=hooks(pre=False))) == "hourly-1"


def test_a_workload_and_one_of_its_claims_are_one_application() -> None:
    """Either way round: what is recorded says which claims a workload has."""
    assert waits_for(other(), spec=of_target(PVC)) == "hourly-1"
    assert waits_for(other(), spec=of_target({**PVC, "name": "data-web-0"})) == ""
    of_claim = other(raw=bare(), spec=of_target(PVC))
    assert waits_for(of_claim) == ""
    seen = observed(spec=HOOKED, others=(of_claim,))
    assert rival_of(seen, CLAIMS) == of_claim.session
    assert needs_reading(seen, NOW)
    made = plan(seen, NOW)
    assert created(made) == []
    assert status_in(made)["phase"] == "Pending"


def held(name: str, since_s: float) -> dict[str, Any]:
    """Return a session that is held since then."""
    made = owing(session(name, of=name.partition("-")[0], age_s=90))
    entries = made["status"]["conditions"]
    since = {"lastTransitionTime": before(since_s)}
    return {**made, "status": {"conditions": [{**entry, **since} for entry in entries]}}


@pytest.mark.parametrize(("mine_s", "theirs_s"), [(3, 5), (5, 3), (4, 4)])
def test_two_that_are_held_do_not_wait_for_each_other(mine_s: float, theirs_s: float) -> None:
    """An answer was lost: what was written by one was not known when the other was looked at."""
    mine, theirs = held("nightly-1", mine_s), held("hourly-1", theirs_s)
    forth = waits_for(other(raw=theirs, started=False), raw=mine)
    back = waits_for(other(raw=mine, started=False), raw=theirs)
    assert sorted([forth, back]) == ["", "nightly-1" if mine_s > theirs_s else "hourly-1"]
    assert waits_for(other(raw=theirs, started=True), raw=mine) == "hourly-1"


def blocked(raw: Obj | None = None, **fields: Any) -> SnapshotSessionObserved:
    """Return a session that has to wait; nothing was read for it."""
    return observed(raw, **{"spec": HOOKED, "others": (other(),), "reading": None, **fields})


def test_the_wait_says_for_whom_and_costs_nothing() -> None:
    """One write, and no request."""
    seen = blocked()
    assert not needs_reading(seen, NOW)
    made = plan(seen, NOW)
    assert created(made) == []
    waiting = conditions_in(status_in(made)["conditions"])["BackupWaiting"]
    assert waiting[:2] == ("True", "ApplicationInUse")
    assert waiting[2] == (
        "Waiting for BackupSession demo/hourly-1 of BackupConfiguration hourly: its hooks act on "
        "the same application, which one session at a time may quiesce."
    )
    assert made.requeue_after_s == 60
    again = plan(blocked(session(age_s=0, status=status_in(made))), NOW)
    assert again.writes == ()


def starts(plan: Plan) -> dict[str, Any]:
    """Return the conditions of a session that has just begun."""
    (write,) = (write for write in plan.writes if isinstance(write, SetStatus))
    assert write.status["phase"] == "Running"
    return conditions_in(write.status.get("conditions"))


def test_once_it_begins_it_does_not_wait_any_more() -> None:
    """What is recorded is gone with the wait."""
    entry = condition("BackupWaiting", reason="ApplicationInUse")
    raw = session(age_s=0, status={"phase": "Pending", "conditions": [entry]})
    alone = snapshot_spec(hooks=hooks(post=False))
    assert starts(plan(observed(raw, spec=alone), NOW)) == {}


def test_the_timeout_ends_the_wait() -> None:
    """Nothing is quiesced for a backup that comes too late; one that is held has to go on."""
    spec = snapshot_spec(hooks=hooks(), timeOut="2m")
    raw = session(age_s=110)
    assert plan(blocked(raw, spec=spec), NOW).requeue_after_s == 10
    late = session(age_s=120)
    made = plan(blocked(late, spec=spec), NOW)
    assert status_in(made)["phase"] == "Failed"
    assert "timeOut has passed while it waited for BackupSession demo/hourly-1" in str(
        status_in(made)["targets"]
    )
    first = held("nightly-1", 5)
    assert parse_time(first["metadata"]["creationTimestamp"]) <= NOW
    spec = snapshot_spec(hooks=hooks(), timeOut="1m")
    assert status_in(plan(blocked(first, spec=spec), NOW))["phase"] == "Pending"
