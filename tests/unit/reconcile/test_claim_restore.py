"""Restores from VolumeSnapshots until their Job exists: checks, waits, refusals (stash.md 4.5)."""

from datetime import timedelta
from typing import Any

import pytest

from controller.api.creation import CreationInput
from controller.api.job_input import ENVIRONMENT_VARIABLE
from controller.api.objects import Obj, name_of, uid_of
from controller.api.resources import JOB, RESTORE_SESSION, ROLE_BINDING, SERVICE_ACCOUNT
from controller.build.claims import TARGET_HASH, target_hash
from controller.plan import CreateOnce, Delete, Finalizer, Plan, Refusal, SetStatus
from controller.reconcile.claim_restore import plan
from controller.reconcile.observed import Executor, Limits
from tests.support.builders import NOW, before, condition
from tests.support.claim_restores import (
    claim,
    claim_observed,
    claim_restore,
    claim_spec,
    claims,
    content,
    creation_job,
    snapshot,
    storage_class,
    stored,
    template,
)

CONTENTS = ("content-of-snap-0", "content-of-snap-1")
FORMER = {"name": "snap-0", "namespace": "demo", "uid": "former"}
MODE_CHANGE = "snapshot.storage.kubernetes.io/allow-volume-mode-change"
SIZED = {"resources": {"requests": {"storage": "20Gi"}}}


def status_in(planned: Plan) -> dict[str, Any]:
    """Return the status that a plan writes, which is its last write."""
    last = planned.writes[-1]
    assert isinstance(last, SetStatus)
    assert last.ref.resource == RESTORE_SESSION
    return dict(last.status)


def conditions_in(planned: Plan) -> dict[str, tuple[str, str, str]]:
    """Return status, reason and message by type."""
    return {
        entry["type"]: (entry["status"], entry["reason"], entry["message"])
        for entry in status_in(planned)["conditions"]
    }


def errors_in(planned: Plan) -> dict[str, str]:
    """Return the error of each host of a restore that created nothing."""
    new = status_in(planned)
    assert new["phase"] == "Failed"
    assert new["totalHosts"] == len(new["stats"])
    assert {entry["phase"] for entry in new["stats"]} == {"Failed"}
    assert not any(isinstance(write, CreateOnce) for write in planned.writes)
    assert conditions_in(planned)["RestoreExecutorEnsured"][:2] == (
        "False",
        "FailedToEnsureRestoreExecutor",
    )
    return {entry["hostname"]: entry["error"] for entry in new["stats"]}


def test_a_restore_starts_when_all_is_found() -> None:
    """Identity, Job, status: in this order."""
    planned = plan(claim_observed(), NOW)
    created = [write for write in planned.writes if isinstance(write, CreateOnce)]
    assert [(w.resource, name_of(w.body)) for w in created] == [
        (SERVICE_ACCOUNT, "restoresession-bring-back-0"),
        (ROLE_BINDING, "restoresession-bring-back-0"),
        (JOB, "stash-vs-restore-bring-back"),
    ]
    new = status_in(planned)
    assert (new["phase"], new["totalHosts"]) == ("Running", 2)
    assert {kind: entry[0] for kind, entry in conditions_in(planned).items()} == {
        "ValidationPassed": "True",
        "RestoreExecutorEnsured": "True",
    }
    assert conditions_in(planned)["RestoreExecutorEnsured"][2].endswith(
        "ensured successfully for PersistentVolumeClaim demo/data-0, data-1."
    )
    assert (planned.notes, planned.pushes) == ((), ())
    annotations = created[2].body["metadata"]["annotations"]
    assert annotations[TARGET_HASH] == target_hash(claim_restore())


def test_a_timeout_gives_a_deadline() -> None:
    """SessionDeadline is the creation plus timeOut."""
    raw = claim_restore(spec=claim_spec(timeOut="5m"), age_s=30)
    assert status_in(plan(claim_observed(raw), NOW))["sessionDeadline"] == before(30 - 300)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (claim_spec(template("data")), "spec.target.volumeClaimTemplates[0].metadata.name: "),
        (claim_spec(replicas=0), "spec.target.replicas: "),
        ({"driver": "VolumeSnapshotter"}, "spec.target: "),
        (claim_spec(timeOut="-1m"), "spec.timeOut: "),
    ],
)
def test_a_wrong_spec_is_invalid(spec: Obj, said: str) -> None:
    """Nothing is created until it is valid; nothing is asked again, an edit wakes it."""
    planned = plan(claim_observed(claim_restore(spec=spec)), NOW)
    assert status_in(planned)["phase"] == "Invalid"
    assert conditions_in(planned)["ValidationPassed"][2].startswith(said)
    assert planned.requeue_after_s is None
    again = claim_observed(claim_restore(spec=spec, status=status_in(planned)))
    assert plan(again, NOW) == Plan(facts=planned.facts)


MISSING = "VolumeSnapshot demo/snap-0 does not exist"
UNREADY = "VolumeSnapshot demo/snap-0 is not ready to use"
BROKEN = snapshot(ready=False, status={"error": {"message": "out of space"}})
DELETING = snapshot(metadata={"deletionTimestamp": before(5)})


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, MISSING),
        (snapshot(ready=False), UNREADY),
        (BROKEN, f"{UNREADY}: out of space"),
        (DELETING, "VolumeSnapshot demo/snap-0 is being deleted"),
    ],
)
def test_a_snapshot_that_is_no_source_is_waited_for_then_an_error(
    found: Obj | None, said: str
) -> None:
    """Pending with the driver's words; at the deadline Failed with the same (issue, part 4)."""
    storage = stored(snapshots={"snap-0": found, "snap-1": snapshot("snap-1")})
    planned = plan(claim_observed(storage=storage), NOW)
    assert status_in(planned)["phase"] == "Pending"
    assert conditions_in(planned)["ClaimsWaiting"] == (
        "True",
        "VolumeSnapshotsNotReady",
        f"No claim is created yet: {said}.",
    )
    assert (planned.notes, planned.requeue_after_s) == ((), 5.0)
    waits = claim_restore(status=status_in(planned))
    assert plan(claim_observed(waits, storage=storage), NOW).writes == ()

    mended = plan(claim_observed(waits), NOW)
    assert status_in(mended)["phase"] == "Running"
    assert "ClaimsWaiting" not in conditions_in(mended)

    late = claim_restore(spec=claim_spec(timeOut="1m"), age_s=60)
    errors = errors_in(ended := plan(claim_observed(late, storage=storage), NOW))
    assert errors["data-0"] == f"SnapshotNotReady: {said}; spec.timeOut is 1m"
    assert errors["data-1"].startswith("NotCreated: nothing was created")
    assert conditions_in(ended)["DeadlineExceeded"][2] == "Failed to complete restore within 1m0s."
    assert "ClaimsWaiting" not in conditions_in(ended)


def test_words_without_end_are_cut_and_what_is_said_after_them_is_not() -> None:
    """An error has 1,024 characters at most, and still says why it is the end (D32)."""
    wordy = snapshot(ready=False, status={"error": {"message": "e" * 5_000}})
    late = claim_restore(spec=claim_spec(timeOut="1m"), age_s=60)
    storage = stored(snapshots={"snap-0": wordy, "snap-1": wordy})
    planned = plan(claim_observed(late, storage=storage), NOW)
    for error in errors_in(planned).values():
        assert len(error) <= 1024
        assert error.endswith("; spec.timeOut is 1m")
    assert len(planned.facts["error"]) <= 1024
    assert planned.facts["error"].endswith("(and 1 more)")


def test_many_claims_that_wait_make_no_long_line() -> None:
    """The log says as much as the condition does."""
    raw = claim_restore(spec=claim_spec(replicas=300))
    planned = plan(claim_observed(raw, storage=stored(snapshots={})), NOW)
    assert len(planned.facts["waits_for"]) == len(conditions_in(planned)["ClaimsWaiting"][2])


def test_without_a_timeout_the_wait_ends_when_nothing_changes() -> None:
    """Two hours after the last change of a snapshot, not of the session's creation."""
    old = claim_restore(age_s=10_000)
    quiet = stored(snapshots={"snap-0": snapshot(ready=False, age_s=9_000), "snap-1": None})
    errors = errors_in(plan(claim_observed(old, storage=quiet), NOW))
    assert errors["data-0"].endswith("; nothing has changed for 2h0m0s")
    assert errors["data-1"].startswith("SnapshotNotReady: VolumeSnapshot demo/snap-1 does not")
    # Said again in other words it is no progress: a wait for ever otherwise.
    said = {"error": {"message": "request 4711 failed"}}
    noisy = {**snapshot(ready=False, age_s=9_000, status=said), "changedAt": before(10)}
    again = stored(snapshots={"snap-0": noisy, "snap-1": None})
    assert errors_in(plan(claim_observed(old, storage=again), NOW)).keys() == {"data-0", "data-1"}

    cut = {"creationTime": before(7_190)}
    moved = {**snapshot(ready=False, age_s=9_000, status=cut), "changedAt": before(7_190)}
    lively = stored(snapshots={"snap-0": moved, "snap-1": None})
    planned = plan(claim_observed(old, storage=lively), NOW)
    assert status_in(planned)["phase"] == "Pending"
    short = claim_observed(old, storage=lively, limits=Limits(snapshot_s=60))
    assert errors_in(plan(short, NOW))["data-0"].endswith("nothing has changed for 1m0s")


INVALID = {"phase": "Invalid", "conditions": [condition("ValidationPassed", "False")]}


def test_a_spec_that_is_mended_after_hours_has_all_of_its_time() -> None:
    """What was Invalid has not waited for anything: the clock starts when it is valid."""
    raw = claim_restore(spec=claim_spec(timeOut="30m"), status=INVALID, age_s=3 * 3600)
    planned = plan(claim_observed(raw), NOW)
    assert status_in(planned)["sessionDeadline"] == before(-1800)
    (job,) = [w.body for w in planned.writes if isinstance(w, CreateOnce) and w.resource == JOB]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    values = {one["name"]: one.get("value", "") for one in container["env"]}
    assert CreationInput.decode(values[ENVIRONMENT_VARIABLE]).deadline == before(-1800)

    nothing = stored(snapshots={"snap-0": None, "snap-1": None})
    for spec in (claim_spec(timeOut="30m"), claim_spec()):
        raw = claim_restore(spec=spec, status=INVALID, age_s=3 * 3600)
        waits = plan(claim_observed(raw, storage=nothing), NOW)
        assert status_in(waits)["phase"] == "Pending"
        mended = [condition("ValidationPassed", age_s=1790), status_in(waits)["conditions"][-1]]
        later = {"phase": "Pending", "conditions": mended}
        raw = claim_restore(spec=spec, status=later, age_s=3 * 3600)
        planned = plan(claim_observed(raw, storage=nothing), NOW)
        assert planned.requeue_after_s == 5.0
        assert not planned.notes
    mended[0] = condition("ValidationPassed", age_s=1800)
    raw = claim_restore(spec=claim_spec(timeOut="30m"), status=later, age_s=3 * 3600)
    assert errors_in(plan(claim_observed(raw, storage=nothing), NOW))["data-0"].endswith("30m")


def test_no_job_is_created_when_its_time_has_passed() -> None:
    """The controller was away: the Job could only say so."""
    late = claim_restore(spec=claim_spec(timeOut="1m"), age_s=60)
    planned = plan(claim_observed(late), NOW)
    assert set(errors_in(planned).values()) == {"NotCreated: DeadlineExceeded: spec.timeOut is 1m"}
    assert conditions_in(planned)["DeadlineExceeded"][2].endswith("within 1m0s.")
    in_time = claim_restore(spec=claim_spec(timeOut="1m"), age_s=59)
    assert status_in(plan(claim_observed(in_time), NOW))["phase"] == "Running"


def test_what_was_not_looked_at_is_not_judged() -> None:
    """A deadline that passed since the look is judged after the next one."""
    late = claim_restore(spec=claim_spec(timeOut="1m"), age_s=60)
    storage = stored(snapshots={"snap-0": None, "snap-1": None})
    seen = claim_observed(late, storage=storage, looked_at=NOW - timedelta(milliseconds=10))
    planned = plan(seen, NOW)
    assert status_in(planned)["phase"] == "Pending"
    assert planned.requeue_after_s == 0.01


GOING = claim("data-0", labels={}, deletionTimestamp=before(3))


@pytest.mark.parametrize("found", [GOING, claim(deletionTimestamp=before(3))])
def test_a_claim_that_is_being_deleted_is_waited_for(found: Obj) -> None:
    """Whoever destroys and restores need not wait in between; whose it was does not matter."""
    storage = stored(claims=claims(found))
    text = (
        "PersistentVolumeClaim demo/data-0 exists and is being deleted: it goes when no pod uses "
        "it any more"
    )
    planned = plan(claim_observed(storage=storage), NOW)
    assert status_in(planned)["phase"] == "Pending"
    assert conditions_in(planned)["ClaimsWaiting"] == (
        "True", "ClaimsBeingDeleted", f"No claim is created yet: {text}.",
    )  # fmt: skip
    assert planned.requeue_after_s == 5.0
    waits = claim_restore(status=status_in(planned))
    assert plan(claim_observed(waits, storage=storage), NOW).writes == ()
    assert status_in(plan(claim_observed(waits), NOW))["phase"] == "Running"

    late = claim_restore(spec=claim_spec(timeOut="1m"), age_s=60)
    errors = errors_in(plan(claim_observed(late, storage=storage), NOW))
    assert errors["data-0"] == f"AlreadyExists: {text}; spec.timeOut is 1m"


def test_one_that_stays_is_not_waited_for_beside_one_that_goes() -> None:
    """Nothing is gained by waiting."""
    storage = stored(claims=claims(GOING, claim("data-1", labels={}, phase="Bound")))
    errors = errors_in(plan(claim_observed(storage=storage), NOW))
    assert errors["data-1"].startswith("AlreadyExists: PersistentVolumeClaim demo/data-1 exists al")


@pytest.mark.parametrize(("age_s", "look_s"), [(0, 5.0), (40, 20.0), (4_000, 60.0)])
def test_snapshots_that_are_not_watched_are_looked_at_less_and_less(
    age_s: float, look_s: float
) -> None:
    """From 5 s to 60 s (D14), and at the deadline."""
    waits = {
        "phase": "Pending",
        "conditions": [condition("ClaimsWaiting", age_s=age_s, reason="VolumeSnapshotsNotReady")],
    }
    storage = stored(snapshots={"snap-0": None, "snap-1": None})
    raw = claim_restore(status=waits, age_s=age_s)
    assert plan(claim_observed(raw, storage=storage), NOW).requeue_after_s == look_s
    soon = claim_restore(spec=claim_spec(timeOut=f"{int(age_s) + 2}s"), status=waits, age_s=age_s)
    assert plan(claim_observed(soon, storage=storage), NOW).requeue_after_s == 2.0


def test_a_cluster_without_snapshots_is_waited_for() -> None:
    """With the command that installs them; it goes on by itself."""
    storage = stored(snapshots={"snap-0": None, "snap-1": None})
    planned = plan(claim_observed(storage=storage, snapshots_served=False), NOW)
    assert status_in(planned)["phase"] == "Pending"
    state, reason, text = conditions_in(planned)["VolumeSnapshotsServed"]
    assert (state, reason) == ("False", "VolumeSnapshotsNotServed")
    assert "kubectl apply -k" in text
    after = plan(claim_observed(claim_restore(status=status_in(planned))), NOW)
    assert status_in(after)["phase"] == "Running"
    assert conditions_in(after)["VolumeSnapshotsServed"][0] == "True"
    late = claim_restore(spec=claim_spec(timeOut="1m"), age_s=61)
    assert errors_in(plan(claim_observed(late, storage=storage, snapshots_served=False), NOW))


FOREIGN = claim(labels={"drey.dev/session-uid": "another"})
PATH = "spec.target.volumeClaimTemplates[0]"


@pytest.mark.parametrize(
    ("changes", "spec", "said"),
    [
        (
            {"claims": claims(FOREIGN)},
            {},
            (
                "AlreadyExists: PersistentVolumeClaim demo/data-0 exists already and is not this "
                "session's own, so it is not touched. Delete it, or give another name in "
                f"{PATH}.metadata.name"
            ),
        ),
        (
            {"claims": claims(claim(labels={}, phase="Bound"))},
            {},
            "AlreadyExists: PersistentVolumeClaim demo/data-0 exists already",
        ),
        (
            {"classes": {"fast": None}},
            {},
            f"InputInvalid: StorageClass fast not found: create it, or correct {PATH}.spec.",
        ),
        (
            {"classes": {"": None}},
            {"storageClassName": None},
            f"InputInvalid: no StorageClass is the default one: name one in {PATH}.spec.",
        ),
        (
            {},
            {"resources": {"requests": {"storage": "9Gi"}}},
            (
                f"InputInvalid: {PATH}.spec.resources.requests.storage is 9Gi, less than "
                "restoreSize 10Gi of VolumeSnapshot demo/snap-0: give 10Gi or more"
            ),
        ),
        (
            {
                "snapshots": {
                    n: snapshot(n, status={"restoreSize": None}) for n in ("snap-0", "snap-1")
                }
            },
            {},
            f"InputInvalid: VolumeSnapshot demo/snap-0 has no restoreSize: give a size in {PATH}.",
        ),
        (
            {
                "snapshots": {
                    n: snapshot(n, status={"restoreSize": "0"}) for n in ("snap-0", "snap-1")
                }
            },
            {},
            f"InputInvalid: VolumeSnapshot demo/snap-0 has no restoreSize: give a size in {PATH}.",
        ),
        (
            {"classes": {"fast": storage_class(provisioner="other.example")}},
            {},
            (
                "InputInvalid: StorageClass fast is of provisioner other.example, VolumeSnapshot "
                "demo/snap-0 of CSI driver csi.example: name a StorageClass of csi.example in"
            ),
        ),
        (
            {"classes": {"fast": storage_class(provisioner="other.example", waits=True)}},
            {},
            "InputInvalid: StorageClass fast is of provisioner other.example",
        ),
        (
            {},
            {"volumeMode": "Block"},
            (
                f"InputInvalid: {PATH}.spec.volumeMode is Block, but VolumeSnapshot demo/snap-0 "
                "is of a volume with Filesystem: give Filesystem"
            ),
        ),
        (
            {"contents": {"content-of-snap-0": content("content-of-snap-1")}},
            {},
            (
                "InputInvalid: VolumeSnapshotContent content-of-snap-0 is not of VolumeSnapshot "
                "demo/snap-0 (uid uid-of-snap-0): its spec.volumeSnapshotRef names demo/snap-1 "
                "(uid uid-of-snap-1)"
            ),
        ),
        (
            {"contents": {"content-of-snap-0": content(spec={"volumeSnapshotRef": FORMER})}},
            {},
            (
                "InputInvalid: VolumeSnapshotContent content-of-snap-0 is not of VolumeSnapshot "
                "demo/snap-0 (uid uid-of-snap-0): its spec.volumeSnapshotRef names demo/snap-0 "
                "(uid former)"
            ),
        ),
        (
            {"contents": {"content-of-snap-0": content(status={})}},
            {},
            (
                "InputInvalid: VolumeSnapshotContent content-of-snap-0 of VolumeSnapshot "
                "demo/snap-0 has no status.snapshotHandle"
            ),
        ),
        (
            {"contents": {"content-of-snap-0": None}},
            {},
            (
                "InputInvalid: VolumeSnapshotContent content-of-snap-0 of VolumeSnapshot "
                "demo/snap-0 does not exist"
            ),
        ),
    ],
)
def test_what_is_known_to_go_wrong_is_said_before_anything_is_created(
    changes: dict[str, Any], spec: dict[str, Any], said: str
) -> None:
    """Failed at once with the reason, whatever the binding mode; an Event; zeros as metrics."""
    raw = claim_restore(spec=claim_spec(template(**spec)))
    planned = plan(claim_observed(raw, storage=stored(**changes)), NOW)
    errors = errors_in(planned)
    assert errors["data-0"].startswith(said)
    assert conditions_in(planned)["RestoreExecutorEnsured"][2].startswith(
        f"failed to ensure restore executor. Reason: {said}"
    )
    (note,) = planned.notes
    assert (note.type, note.reason) == ("Warning", "Host Restore Failed")
    assert said in note.message
    (push,) = planned.pushes
    assert push.group == "restoresession-demo-bring-back"
    names = {name: value for name, _, value in push.samples}
    assert names["stash_appscode_com_restoresession_success"] == 0.0
    assert plan(claim_observed({**raw, "status": status_in(planned)}), NOW) == Plan()


def test_all_that_is_known_is_said_at_once() -> None:
    """Of every claim, and all of one claim."""
    storage = stored(classes={"fast": storage_class(provisioner="other.example")})
    raw = claim_restore(
        spec=claim_spec(template(volumeMode="Block", resources={"requests": {"storage": 1}}))
    )
    planned = plan(claim_observed(raw, storage=storage), NOW)
    for error in errors_in(planned).values():
        assert "less than restoreSize" in error
        assert "other.example" in error
        assert "volumeMode" in error
    assert planned.facts["error"].endswith("(and 1 more)")


@pytest.mark.parametrize(
    ("changes", "spec"),
    [
        ({}, SIZED),
        ({}, {"resources": {"requests": {"storage": "10Gi"}}}),
        ({}, {"resources": {"requests": {"storage": "10737418240"}}}),
        (
            {
                "snapshots": {
                    n: snapshot(n, status={"restoreSize": None}) for n in ("snap-0", "snap-1")
                }
            },
            SIZED,
        ),
        ({"classes": {"": storage_class()}}, {"storageClassName": None}),
        ({"classes": {"fast": storage_class(waits=True)}}, {}),
        ({"claims": claims(claim())}, {}),
        (
            {
                "contents": {
                    name: content(name, spec={"sourceVolumeMode": None}) for name in CONTENTS
                }
            },
            {"volumeMode": "Block"},
        ),
        *(
            (
                {
                    "contents": {
                        name: content(name, metadata={"annotations": {MODE_CHANGE: text}})
                        for name in CONTENTS
                    }
                },
                {"volumeMode": "Block"},
            )
            for text in ("1", "t", "T", "true", "True", "TRUE")
        ),
    ],
)
def test_what_may_go_well_is_tried(changes: dict[str, Any], spec: dict[str, Any]) -> None:
    """A larger claim, the default class, a claim of the session's own from before a crash."""
    raw = claim_restore(spec=claim_spec(template(**spec)))
    planned = plan(claim_observed(raw, storage=stored(**changes)), NOW)
    assert status_in(planned)["phase"] == "Running"


def test_a_refused_job_is_the_error_of_all() -> None:
    """The API server's words end the restore."""
    refusal = Refusal(CreateOnce(JOB, creation_job(claim_restore())), "Forbidden", "over quota")
    planned = plan(claim_observed(refusal=refusal), NOW)
    assert set(errors_in(planned).values()) == {"NotCreated: over quota"}
    assert planned.facts["error"] == "over quota"


def test_a_job_that_cannot_be_built_is_the_error_of_all() -> None:
    """More claims than one document holds."""
    count = 900
    names = [f"snap-{n}" for n in range(count)]
    storage = stored(
        snapshots={name: snapshot(name) for name in names},
        contents={f"content-of-{name}": content(f"content-of-{name}") for name in names},
    )
    raw = claim_restore(spec=claim_spec(replicas=count))
    planned = plan(claim_observed(raw, storage=storage), NOW)
    assert len(errors_in(planned)) == count
    assert "too many for one Job" in planned.facts["error"]


def test_a_job_that_a_crash_left_behind_is_recorded_and_nothing_else_decided() -> None:
    """Its claims may exist by now, and its snapshots may be gone."""
    executor = Executor(creation_job(claim_restore()))
    storage = stored(snapshots={"snap-0": None, "snap-1": None})
    planned = plan(claim_observed(executor=executor, storage=storage), NOW)
    assert len(planned.writes) == 1
    assert (status_in(planned)["phase"], status_in(planned)["totalHosts"]) == ("Running", 2)
    assert conditions_in(planned)["ValidationPassed"][0] == "True"


def test_a_job_that_a_crash_left_behind_ends_with_a_spec_that_became_invalid() -> None:
    """Nobody would follow it: it creates what the spec does not ask for any more."""
    raw = claim_restore(spec=claim_spec(template("data")))
    job = creation_job(raw)
    planned = plan(claim_observed(raw, executor=Executor(job)), NOW)
    (delete, _) = planned.writes
    assert isinstance(delete, Delete)
    assert delete.ref.uid == uid_of(job)
    assert status_in(planned)["phase"] == "Failed"


def test_deletion_takes_only_the_finalizer_of_stash() -> None:
    """The Job goes with its owner, the claims stay."""
    held = {"deletionTimestamp": "x", "finalizers": ["stash.appscode.com"]}
    (write,) = plan(claim_observed(claim_restore(metadata=held)), NOW).writes
    assert isinstance(write, Finalizer)
    assert not write.present
    gone = claim_observed(claim_restore(metadata={"deletionTimestamp": "x"}))
    assert plan(gone, NOW) == Plan()
