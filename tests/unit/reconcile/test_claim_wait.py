"""Restores from VolumeSnapshots whose Job was created: claim by claim, until the end."""

import json
from datetime import timedelta
from typing import Any

import pytest

from controller.api.objects import Obj, Uid, name_of
from controller.api.report import ConditionReport, HostReport, RunReport
from controller.api.report_encoding import REPORT_CUT, encode
from controller.api.resources import JOB, RESTORE_SESSION, ROLE_BINDING
from controller.build.claims import TARGET_HASH, target_hash
from controller.plan import Delete, Plan, Ref, Refusal, SetStatus
from controller.reconcile.claim_observed import Storage
from controller.reconcile.claim_restore import plan
from controller.reconcile.observed import Executor, Limits
from tests.support.builders import (
    DISRUPTED,
    NOW,
    before,
    condition,
    job_complete,
    job_failed,
    pod,
    running,
    terminated,
    waiting,
)
from tests.support.claim_restores import (
    claim,
    claim_observed,
    claim_restore,
    claim_spec,
    claims,
    creation_job,
    creation_reported,
    snapshot,
    storage_class,
    stored,
    template,
)

ENSURED = {
    "phase": "Running",
    "totalHosts": 2,
    "conditions": [condition("RestoreExecutorEnsured")],
}
RUNNING = claim_restore(status=ENSURED, age_s=17)
DONE = creation_reported(RUNNING)
BOUND = [claim(name, phase="Bound") for name in ("data-0", "data-1")]
LATE_SPEC = claim_spec(timeOut="1m")
CLAIMS_WAIT = condition("ClaimsWaiting", reason="ClaimsNotBound")
DELETED: dict[str, Any] = {"deletionTimestamp": before(3)}


def status_in(planned: Plan) -> dict[str, Any]:
    """Return the status that a plan writes."""
    (write,) = (write for write in planned.writes if isinstance(write, SetStatus))
    assert write.ref.resource == RESTORE_SESSION
    return dict(write.status)


def conditions_in(planned: Plan) -> dict[str, tuple[str, str, str]]:
    """Return status, reason and message by type."""
    return {
        entry["type"]: (entry["status"], entry["reason"], entry["message"])
        for entry in status_in(planned)["conditions"]
    }


def stats_in(planned: Plan) -> list[tuple[str, str, str]]:
    """Return host, phase and error, in order."""
    return [
        (entry["hostname"], entry["phase"], entry.get("error", ""))
        for entry in status_in(planned)["stats"]
    ]


def planned_for(*found: Obj, raw: Obj = RUNNING, executor: Executor = DONE, **more: Any) -> Plan:
    """Return the plan with these claims."""
    limits = more.pop("limits", Limits())
    access = more.pop("access", ())
    refusal = more.pop("refusal", None)
    storage = stored(**{"claims": claims(*found), "classes": {"fast": storage_class()}, **more})
    return plan(
        claim_observed(
            raw, executor=executor, storage=storage, limits=limits, access=access, refusal=refusal
        ),
        NOW,
    )


def next_of(planned: Plan, **changes: Any) -> Obj:
    """Return the session with the status that was written."""
    return claim_restore(**{"status": status_in(planned), "age_s": 17, **changes})


def test_bound_claims_are_a_success() -> None:
    """Stats in Stash's shape, a duration for each, one Event, metrics by the controller."""
    planned = planned_for(*BOUND)
    new = status_in(planned)
    assert (new["phase"], new["totalHosts"], new["sessionDuration"]) == ("Succeeded", 2, "17s")
    assert new["stats"] == [
        {"hostname": name, "phase": "Succeeded", "duration": "2s"} for name in ("data-0", "data-1")
    ]
    found = conditions_in(planned)
    assert found.keys() == {"RestoreExecutorEnsured", "MetricsPushed"}
    assert found["MetricsPushed"][:2] == ("True", "MetricsHandedOver")
    assert [(n.type, n.reason, n.message) for n in planned.notes] == [
        (
            "Normal",
            "Host Restore Succeeded",
            "restore succeeded for 2 of 2 claims (data-0, data-1).",
        )
    ]
    (push,) = planned.pushes
    values = {(name, labels.get("hostname")): value for name, labels, value in push.samples}
    prefix = "stash_appscode_com_restoresession_"
    assert values[f"{prefix}success", None] == 1.0
    assert values[f"{prefix}duration_seconds", None] == 17.0
    assert values[f"{prefix}host_restore_success", "data-1"] == 1.0
    assert plan(claim_observed(next_of(planned)), NOW) == Plan()


def test_a_time_that_nobody_recorded_is_now() -> None:
    """The duration is as far as known."""
    unknown = [{**one, "changedAt": ""} for one in BOUND]
    assert status_in(planned_for(*unknown))["stats"][0]["duration"] == "3s"


def test_a_job_that_runs_costs_nothing() -> None:
    """No write, no timer."""
    executor = Executor(creation_job(RUNNING), pod(running()))
    planned = planned_for(executor=executor)
    assert (planned.writes, planned.requeue_after_s) == ((), None)


def test_a_pod_that_does_not_start_says_why() -> None:
    """As in flow A."""
    executor = Executor(creation_job(RUNNING, age_s=17), words=("exceeded quota: small",))
    planned = planned_for(executor=executor)
    assert conditions_in(planned)["RestoreWaiting"][1] == "PodNotStarted"
    assert "RestoreWaiting" not in conditions_in(planned_for(*BOUND, raw=next_of(planned)))


@pytest.mark.parametrize(
    "lost",
    [
        pod(terminated(137), phase="Failed", of=creation_job(RUNNING)),
        pod(terminated(137), phase="Failed", conditions=(DISRUPTED,), of=creation_job(RUNNING)),
    ],
)
def test_a_killed_pod_is_replaced(lost: Obj) -> None:
    """Before, between or after creation: the next one finds the claims of its own session."""
    planned = planned_for(executor=Executor(creation_job(RUNNING), lost))
    assert status_in(planned)["phase"] == "Running"
    assert conditions_in(planned)["RestoreWaiting"][:2] == ("True", "PodDisrupted")


def test_claims_that_are_not_bound_are_waited_for() -> None:
    """One write when the Job ends; then nothing until something is known."""
    planned = planned_for(claim(), BOUND[1])
    new = status_in(planned)
    assert (new["phase"], new["totalHosts"]) == ("Running", 2)
    assert stats_in(planned) == [("data-0", "Running", ""), ("data-1", "Succeeded", "")]
    assert conditions_in(planned)["ClaimsWaiting"] == (
        "True",
        "ClaimsNotBound",
        "Waiting until claims are bound.",
    )
    assert (planned.notes, planned.pushes) == ((), ())
    # ten seconds after the last progress, which was a second ago
    assert planned.requeue_after_s == 9.0
    waits = next_of(planned)
    again = planned_for(claim(), BOUND[1], raw=waits, executor=Executor())
    assert (again.writes, again.requeue_after_s) == ((), 9.0)
    done = planned_for(*BOUND, raw=waits, executor=Executor())
    assert status_in(done)["phase"] == "Succeeded"
    assert "ClaimsWaiting" not in conditions_in(done)


def test_what_events_say_is_shown_once_for_each_text() -> None:
    """At growing intervals; a look that brings nothing new changes nothing."""
    quiet = [claim(name, age_s=20) for name in ("data-0", "data-1")]
    begun = claim_restore(status=ENSURED, age_s=30)
    waits = next_of(planned_for(*quiet, raw=begun), age_s=30)
    words = {"data-0": ("driver: out of space",), "data-1": ()}
    planned = planned_for(*quiet, raw=waits, words=words)
    assert conditions_in(planned)["ClaimsWaiting"][2] == (
        "Waiting until claims are bound. data-0: driver: out of space"
    )
    assert planned.requeue_after_s == 10.0
    said = next_of(planned, age_s=5_000)
    for same in (words, {}):
        assert planned_for(*quiet, raw=said, words=same).writes == ()
    other = planned_for(*quiet, raw=said, words={"data-0": ("still none",)})
    assert conditions_in(other)["ClaimsWaiting"][2].endswith("data-0: still none")
    old = [claim(name, age_s=4_000) for name in ("data-0", "data-1")]
    assert planned_for(*old, raw=said).requeue_after_s == 60.0


@pytest.mark.parametrize(
    ("changes", "age_s", "limits", "why", "is_time_out"),
    [
        ({"spec": LATE_SPEC}, 60, Limits(), "spec.timeOut is 1m", True),
        ({}, 7_200, Limits(), "nothing has changed for 2h0m0s", False),
        ({}, 90, Limits(snapshot_s=90), "nothing has changed for 1m30s", False),
    ],
)
def test_a_claim_that_is_not_bound_in_time_fails_with_the_words_of_its_events(
    changes: Any,
    age_s: float,
    limits: Limits,
    why: str,
    is_time_out: bool,  # noqa: FBT001 - a parameter
) -> None:
    """The others keep their outcome; the claims stay."""
    raw = claim_restore(**changes, status=ENSURED, age_s=age_s)
    late = claim(age_s=age_s)
    good = {**claim("data-1", phase="Bound", age_s=age_s), "changedAt": before(age_s)}
    words = {"data-0": ("out of space",)}
    planned = planned_for(late, good, raw=raw, limits=limits, words=words)
    assert status_in(planned)["phase"] == "Failed"
    text = f"ClaimNotBound: PersistentVolumeClaim demo/data-0 is not bound: out of space; {why}"
    assert stats_in(planned) == [("data-0", "Failed", text), ("data-1", "Succeeded", "")]
    assert ("DeadlineExceeded" in conditions_in(planned)) is is_time_out
    assert planned.notes[0].message == (
        f"restore failed for 1 of 2 claims (data-0). Reason: {text}"
    )
    assert not any(isinstance(write, Delete) for write in planned.writes)


def test_progress_of_one_claim_gives_the_others_time() -> None:
    """Slow drivers bind one after another."""
    raw = claim_restore(status=ENSURED, age_s=9_000)
    bound = {**claim("data-1", phase="Bound", age_s=8_990), "changedAt": before(100)}
    planned = planned_for(claim(age_s=8_990), bound, raw=raw)
    assert status_in(planned)["phase"] == "Running"


WAITS: dict[str, Any] = {"classes": {"fast": storage_class(waits=True)}}


def test_claims_that_wait_for_a_consumer_are_unknown_at_once() -> None:
    """It does not hang (D23); the condition names them."""
    planned = planned_for(claim(), claim("data-1"), **WAITS)
    new = status_in(planned)
    assert new["phase"] == "Unknown"
    assert {entry["phase"] for entry in new["stats"]} == {"Unknown"}
    assert "WaitForFirstConsumer" in new["stats"][0]["error"]
    state, reason, text = conditions_in(planned)["ClaimsUnverified"]
    assert (state, reason) == ("True", "WaitForFirstConsumer")
    assert "data-0, data-1" in text
    assert "no reason is known why it would be refused" in text
    assert [(n.type, n.reason) for n in planned.notes] == [("Warning", "Host Restore Unknown")]
    (push,) = planned.pushes
    values = {name: value for name, _, value in push.samples}
    assert values["stash_appscode_com_restoresession_success"] == 0.0
    assert plan(claim_observed(next_of(planned)), NOW) == Plan()


def test_a_claim_of_such_a_class_that_is_bound_all_the_same_is_a_success() -> None:
    """A pod waited for it already. Any Unknown makes the session Unknown (stash.md 4.5)."""
    assert status_in(planned_for(*BOUND, **WAITS))["phase"] == "Succeeded"
    mixed = planned_for(BOUND[0], claim("data-1"), **WAITS)
    assert status_in(mixed)["phase"] == "Unknown"
    assert stats_in(mixed)[0] == ("data-0", "Succeeded", "")


def test_one_that_waits_for_a_consumer_stays_unknown_while_another_is_waited_for() -> None:
    """Its class is read once."""
    names = ("slow", "lazy")
    templates = [template(name, storageClassName=name) for name in names]
    spec = claim_spec(*templates, replicas=1)
    raw = claim_restore(spec=spec, status=ENSURED, age_s=17)
    made = []
    for name in names:
        one = claim(name)
        source = {"name": "snap-0"}
        made.append({**one, "spec": {"storageClassName": name, "dataSource": source}})
    found = {name_of(one): one for one in made}
    classes = {"slow": storage_class("slow"), "lazy": storage_class("lazy", waits=True)}
    planned = planned_for(raw=raw, executor=creation_reported(raw), claims=found, classes=classes)
    assert [entry[:2] for entry in stats_in(planned)] == [("slow", "Running"), ("lazy", "Unknown")]
    waits = next_of(planned, spec=spec)
    bound = {**found, "slow": claim("slow", phase="Bound", source="snap-0")}
    done = planned_for(raw=waits, executor=Executor(), claims=bound, classes={})
    assert status_in(done)["phase"] == "Unknown"
    assert [entry[:2] for entry in stats_in(done)] == [("slow", "Succeeded"), ("lazy", "Unknown")]


REFUSED = HostReport("data-0", succeeded=False, reason="CreationRefused", error="over quota")
TAKEN = HostReport("data-0", succeeded=False, reason="AlreadyExists", error="taken")


@pytest.mark.parametrize(
    ("said", "found", "text"),
    [
        (REFUSED, None, "CreationRefused: over quota"),
        (TAKEN, claim(labels={}, phase="Bound"), "AlreadyExists: taken"),
    ],
)
def test_what_could_not_be_created_is_told_by_the_job(
    said: HostReport, found: Obj | None, text: str
) -> None:
    """The others are waited for, and keep their outcome; the pod may be gone meanwhile."""
    executor = creation_reported(RUNNING, [said])
    others = [found] if found else []
    first = planned_for(*others, claim("data-1"), executor=executor)
    assert stats_in(first) == [("data-0", "Failed", text), ("data-1", "Running", "")]
    then = planned_for(*others, BOUND[1], raw=next_of(first), executor=Executor(job_gone=True))
    assert status_in(then)["phase"] == "Failed"
    assert stats_in(then) == [("data-0", "Failed", text), ("data-1", "Succeeded", "")]
    assert then.facts["error"] == text


def test_a_claim_that_exists_is_believed_before_the_report() -> None:
    """A request that timed out may have been carried out."""
    planned = planned_for(*BOUND, executor=creation_reported(RUNNING, [REFUSED]))
    assert status_in(planned)["phase"] == "Succeeded"


def test_a_report_that_was_cut_says_so() -> None:
    """Of a claim that does not exist it is told what refused another one, if anything is known."""
    cut = (ConditionReport(REPORT_CUT, "True"),)
    for hosts, known in (((), ""), ((REFUSED,), "; of data-0: CreationRefused: over quota")):
        text = encode(RunReport(hosts, conditions=cut), 4096)
        ended = pod(terminated(1, text), phase="Failed", of=creation_job(RUNNING))
        found = () if hosts else BOUND[:1]
        planned = planned_for(*found, executor=Executor(creation_job(RUNNING), ended))
        unnamed = f"NotCreated: the report had no room to say why{known}"
        assert stats_in(planned)[1] == ("data-1", "Failed", unnamed)


def test_the_deadline_that_the_runner_kept_is_told() -> None:
    """It says that it could not create a claim in time."""
    late = HostReport("data-0", succeeded=False, reason="DeadlineExceeded", error="late")
    raw = claim_restore(spec=LATE_SPEC, status=ENSURED, age_s=17)
    planned = planned_for(BOUND[1], raw=raw, executor=creation_reported(raw, [late]))
    assert conditions_in(planned)["DeadlineExceeded"][2].endswith("within 1m0s.")


OLD = claim(phase="Bound", annotations={})
NEW = claim(phase="Bound", uid="70cd236f-624f-4fa2-8e71-2f17b4c1411d")
BY = {"pv.kubernetes.io/provisioned-by": "csi.example"}


def bound_to(volume: str) -> dict[str, Any]:
    """Return a claim for which a provisioner was asked, bound to a volume."""
    return {**NEW, "spec": {**NEW["spec"], "volumeName": volume}}


def volume(*, age_s: float = 2, **metadata: Any) -> dict[str, Any]:
    """Return the PersistentVolume `pv`."""
    return {"metadata": {"name": "pv", "creationTimestamp": before(age_s), **metadata}}


def test_long_words_are_said_once() -> None:
    """A condition holds less than several Events may say: what was cut is no news."""
    bound = {**BOUND[1], "changedAt": ""}  # whose duration ends now, whenever that is
    raw = claim_restore(status=ENSURED, age_s=60)
    words = {"data-0": ("x" * 600, "y" * 600)}
    first = planned_for(claim(age_s=50), bound, raw=raw, words=words)
    later = next_of(first, age_s=61)
    assert planned_for(claim(age_s=51), bound, raw=later, words=words).writes == ()


@pytest.mark.parametrize(
    ("name", "found", "phase"),
    [
        ("pvc-70cd236f-624f-4fa2-8e71-2f17b4c1411d", None, "Succeeded"),
        ("of-us-70cd236f624f", None, "Succeeded"),
        ("pv", volume(annotations=BY), "Succeeded"),
        ("pv", volume(age_s=9, annotations=BY), "Failed"),
        ("pv", volume(), "Failed"),
        ("pv", None, "Failed"),
        ("pv-7", None, "Failed"),
    ],
)
def test_a_volume_that_came_while_the_provisioner_was_busy_is_no_success(
    name: str, found: Obj | None, phase: str
) -> None:
    """Kubernetes takes any that fits; only one that was made for the claim has the data."""
    planned = planned_for(bound_to(name), BOUND[1], volumes={"pv": found})
    assert stats_in(planned)[0][1] == phase


NO_RIGHT = "Forbidden: no right"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"volumes": {}},
            "whether PersistentVolume pv was made for PersistentVolumeClaim demo/data-0",
        ),
        ({"claims": {"data-1": BOUND[1]}}, "PersistentVolumeClaim demo/data-0"),
    ],
    ids=["volume", "claim"],
)
def test_what_cannot_be_read_is_no_verdict_before_the_deadline(
    given: dict[str, Any], said: str
) -> None:
    """It is waited for, and told; then it is no success."""
    text = f"{said} cannot be read: {NO_RIGHT}"
    planned = planned_for(bound_to("pv"), BOUND[1], unreadable=NO_RIGHT, **given)
    assert status_in(planned)["phase"] == "Running"
    assert f"data-0: {text}" in conditions_in(planned)["ClaimsWaiting"][2]
    assert planned.requeue_after_s is not None
    late = claim_restore(spec=LATE_SPEC, status=status_in(planned), age_s=61)
    ended = planned_for(bound_to("pv"), BOUND[1], raw=late, unreadable=NO_RIGHT, **given)
    assert status_in(ended)["phase"] == "Failed"
    host, phase, error = stats_in(ended)[0]
    assert (host, phase) == ("data-0", "Failed")
    assert error == f"ClaimNotBound: {text}; spec.timeOut is 1m"
    assert stats_in(ended)[1][1] == "Succeeded"


def test_what_the_job_could_not_create_need_not_be_read() -> None:
    """Its own words come first."""
    no = HostReport("data-0", succeeded=False, reason="CreationRefused", error="over quota")
    planned = planned_for(
        executor=creation_reported(RUNNING, [no]),
        claims={"data-1": BOUND[1]},
        unreadable=NO_RIGHT,
    )
    assert stats_in(planned)[0] == ("data-0", "Failed", "CreationRefused: over quota")


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (None, "ClaimMissing: PersistentVolumeClaim demo/data-0 was deleted before the restore"),
        (
            claim(labels={"drey.dev/session-uid": "another"}, phase="Bound"),
            (
                "ClaimMissing: PersistentVolumeClaim demo/data-0 was deleted before the restore "
                "ended, and another has its name"
            ),
        ),
        (claim(**DELETED), "ClaimMissing: PersistentVolumeClaim demo/data-0 is being deleted"),
        (
            claim(phase="Bound", **DELETED),
            "ClaimMissing: PersistentVolumeClaim demo/data-0 is being deleted",
        ),
        (claim(phase="Lost"), "ClaimNotBound: PersistentVolumeClaim demo/data-0 is Lost"),
        (
            OLD,
            (
                "ClaimNotBound: PersistentVolumeClaim demo/data-0 was bound to PersistentVolume "
                "pvc-uid-of-data-0, which was not made for it"
            ),
        ),
    ],
)
def test_a_claim_that_is_no_proof_has_failed(found: Obj | None, text: str) -> None:
    """Deleted, replaced, lost, or bound to a volume that was there before."""
    planned = planned_for(*([found] if found else []), BOUND[1])
    assert status_in(planned)["phase"] == "Failed"
    host, phase, error = stats_in(planned)[0]
    assert (host, phase) == ("data-0", "Failed")
    assert error.startswith(text)
    assert stats_in(planned)[1][1] == "Succeeded"


GONE = [
    (None, "VolumeSnapshot demo/snap-0 does not exist"),
    (snapshot(metadata=DELETED), "VolumeSnapshot demo/snap-0 is being deleted"),
]


@pytest.mark.parametrize(("source", "said"), GONE)
def test_a_claim_whose_snapshot_is_gone_is_given_little_time(source: Obj | None, said: str) -> None:
    """It may be in the making; then it never will be bound, and the snapshot is named."""
    snapshots = {"snap-0": source, "snap-1": snapshot("snap-1")}
    planned = planned_for(claim(), claim("data-1"), snapshots=snapshots)
    assert status_in(planned)["phase"] == "Running"
    assert conditions_in(planned)["ClaimsWaiting"][2].endswith(f"data-0: {said}")
    raw = claim_restore(status=status_in(planned), age_s=130)
    old = [claim(name, age_s=125) for name in ("data-0", "data-1")]
    still = planned_for(*old, raw=raw, snapshots=snapshots)
    assert still.writes == ()
    one = {**claim("data-1", phase="Bound", age_s=125), "changedAt": before(121)}
    done = planned_for(old[0], one, raw=raw, snapshots=snapshots)
    assert stats_in(done)[0] == (
        "data-0",
        "Failed",
        f"ClaimNotBound: PersistentVolumeClaim demo/data-0 is not bound: {said}",
    )
    bound = planned_for(*BOUND, raw=raw, snapshots=snapshots)
    assert status_in(bound)["phase"] == "Succeeded"


@pytest.mark.parametrize(("source", "said"), GONE)
def test_one_that_waits_for_a_consumer_is_refused_without_its_snapshot(
    source: Obj | None, said: str
) -> None:
    """A reason that is known is no Unknown."""
    snapshots = {"snap-0": source, "snap-1": source}
    planned = planned_for(claim(), claim("data-1"), snapshots=snapshots, **WAITS)
    assert status_in(planned)["phase"] == "Failed"
    assert stats_in(planned)[0][2].endswith(said)


def test_a_deadline_looks_at_the_right_moment() -> None:
    """The next look is never after the end."""
    raw = claim_restore(spec=claim_spec(timeOut="20s"), status=ENSURED, age_s=17)
    assert planned_for(claim(), BOUND[1], raw=raw).requeue_after_s == 3.0
    gone = {"snap-0": None, "snap-1": snapshot("snap-1")}
    old = [claim(name, age_s=119) for name in ("data-0", "data-1")]
    raw = claim_restore(status=ENSURED, age_s=130)
    assert planned_for(*old, raw=raw, snapshots=gone).requeue_after_s == 1.0


FAILED = Executor(
    creation_job(RUNNING, conditions=job_failed("BackoffLimitExceeded")),
    pod(terminated(137, reason="OOMKilled"), phase="Failed", of=creation_job(RUNNING)),
)


@pytest.mark.parametrize(
    ("executor", "reason"),
    [
        (FAILED, "OOMKilled: "),
        (Executor(job_gone=True, pods_gone=True), "JobDeleted: "),
        (
            Executor(creation_job(RUNNING, conditions=job_complete()), pods_gone=True),
            "ReportLost: ",
        ),
    ],
)
def test_a_job_that_died_fails_what_it_did_not_create(executor: Executor, reason: str) -> None:
    """What exists counts: no loss, and none is deleted."""
    planned = planned_for(BOUND[0], executor=executor)
    assert status_in(planned)["phase"] == "Failed"
    assert stats_in(planned)[0][1] == "Succeeded"
    assert stats_in(planned)[1][2].startswith(f"NotCreated: {reason}")
    assert (
        "Claims that were created before are kept" in conditions_in(planned)["RestoreDisrupted"][2]
    )
    good = planned_for(*BOUND, executor=executor)
    assert status_in(good)["phase"] == "Succeeded"
    assert "RestoreDisrupted" not in conditions_in(good)


def test_what_died_is_remembered_while_others_are_waited_for() -> None:
    """Its Job is stopped at once; a refused delete does not hold up the status."""
    stuck = pod(waiting("ImagePullBackOff", "no"), phase="Pending", age_s=700)
    executor = Executor(creation_job(RUNNING, age_s=700), stuck)
    planned = planned_for(claim(), executor=executor)
    assert [type(write) for write in planned.writes] == [Delete, SetStatus]
    assert stats_in(planned)[0][1] == "Running"
    assert stats_in(planned)[1][2].startswith("NotCreated: PodNotStarted: ")
    refusal = Refusal(planned.writes[0], "Forbidden", "a webhook says no")
    assert [type(w) for w in planned_for(claim(), executor=executor, refusal=refusal).writes] == [
        SetStatus
    ]
    then = planned_for(BOUND[0], raw=next_of(planned), executor=Executor(job_gone=True))
    assert stats_in(then)[1][2].startswith("NotCreated: PodNotStarted: ")
    assert "RestoreDisrupted" in conditions_in(then)


def test_the_right_to_create_claims_ends_with_the_session() -> None:
    """Not before: the Job may start another pod. A refused delete is left out."""
    ref = Ref(ROLE_BINDING, "demo", "restoresession-bring-back-0", Uid("u"))
    planned = planned_for(*BOUND, access=(ref,))
    assert planned.writes[0] == Delete(ref)
    assert isinstance(planned.writes[-1], SetStatus)
    waits = planned_for(claim(), BOUND[1], access=(ref,))
    assert not any(isinstance(write, Delete) for write in waits.writes)
    refusal = Refusal(Delete(ref), "Forbidden", "no")
    assert len(planned_for(*BOUND, access=(ref,), refusal=refusal).writes) == 1


STATS = [{"hostname": "data-0", "phase": "Running"}, {"hostname": "data-1", "phase": "Succeeded"}]


def test_a_spec_that_became_invalid_ends_the_restore_and_its_job() -> None:
    """Nobody knows which claims it means; what was said of hosts that have ended is kept."""
    spec = claim_spec(template("data"))
    raw = claim_restore(spec=spec, status={**ENSURED, "stats": STATS})
    planned = plan(claim_observed(raw, executor=Executor(creation_job(raw))), NOW)
    assert [type(write) for write in planned.writes] == [Delete, SetStatus]
    assert status_in(planned)["phase"] == "Failed"
    error = planned.facts["error"]
    assert error.startswith("spec was changed: spec.target.volumeClaimTemplates")
    assert stats_in(planned) == [("data-0", "Failed", error), ("data-1", "Succeeded", "")]


def hashed_job(of: Obj) -> dict[str, Any]:
    """Return the Job that makes the claims of a restore."""
    made = creation_job(of)
    return {**made, "metadata": {**made["metadata"], "annotations": {TARGET_HASH: target_hash(of)}}}


@pytest.mark.parametrize(
    "edited",
    [
        claim_spec(replicas=1),
        claim_spec(replicas=3),
        claim_spec(template(storageClassName="slow")),
        claim_spec(template(dataSource={"kind": "VolumeSnapshot", "name": "b-${POD_ORDINAL}"})),
    ],
)
def test_a_target_that_was_edited_is_not_restored(edited: Obj) -> None:
    """Its claims are those of the spec before. The Job goes if it may still run, they stay."""
    job = hashed_job(RUNNING)
    same = planned_for(raw=RUNNING, executor=Executor(job, pod(running(), of=job)))
    assert same.writes == ()
    raw = claim_restore(spec=edited, status=ENSURED, age_s=17)
    planned = planned_for(*BOUND, raw=raw, executor=Executor(job, pod(running(), of=job)))
    (delete, _) = planned.writes
    assert isinstance(delete, Delete)
    assert delete.ref.resource == JOB
    assert status_in(planned)["phase"] == "Failed"
    assert planned.facts["error"].startswith("spec.target was changed while the restore ran")

    waits = next_of(planned_for(claim(), BOUND[1]), spec=edited)
    ended = planned_for(*BOUND, raw=waits, executor=Executor(job))
    assert [type(write) for write in ended.writes] == [SetStatus]
    assert [entry[:2] for entry in stats_in(ended)] == [
        ("data-0", "Failed"),
        ("data-1", "Succeeded"),
    ]
    longer = claim_restore(spec=claim_spec(timeOut="5m"), status=ENSURED, age_s=17)
    done = planned_for(*BOUND, raw=longer, executor=Executor(job, DONE.pod))
    assert status_in(done)["phase"] == "Succeeded"


@pytest.mark.parametrize("phase", ["Bound", "Pending"])
def test_a_claim_from_another_snapshot_is_no_success(phase: str) -> None:
    """Also when the Job, which says what it was built from, is gone."""
    planned = planned_for(claim(source="before", phase=phase), BOUND[1])
    assert status_in(planned)["phase"] == "Failed"
    assert stats_in(planned)[0][2].startswith(
        "InputInvalid: PersistentVolumeClaim demo/data-0 was made from VolumeSnapshot before, and "
        "spec.target.volumeClaimTemplates[0].spec.dataSource names snap-0 by now"
    )


def test_errors_have_an_end_each_and_together() -> None:
    """A status above etcd's limit would be refused for ever."""
    count = 1000
    spec = claim_spec(replicas=count, timeOut="1m")
    waiting_ = [condition("RestoreExecutorEnsured"), CLAIMS_WAIT]
    raw = claim_restore(spec=spec, status={**ENSURED, "conditions": waiting_}, age_s=60)
    found = {f"data-{n}": claim(f"data-{n}", age_s=50) for n in range(count)}
    words = dict.fromkeys(found, ("\N{SNOWMAN}" * 900, "y" * 900, "z" * 900))
    planned = planned_for(raw=raw, executor=Executor(), claims=found, words=words)
    new = status_in(planned)
    assert (new["phase"], len(new["stats"])) == ("Failed", count)
    assert len(json.dumps(new, ensure_ascii=False).encode()) < 768 * 1024
    assert all("\N{SNOWMAN}" in entry["error"] for entry in new["stats"])
    one = planned_for(claim(), BOUND[1], raw=claim_restore(
        spec=LATE_SPEC, status=ENSURED, age_s=60), words={"data-0": ("x" * 5_000,)})  # fmt: skip
    error = stats_in(one)[0][2]
    assert len(error) <= 1024
    assert error.endswith("; spec.timeOut is 1m")
    assert len(one.facts["error"]) <= 1024


def test_what_was_not_looked_at_is_not_judged() -> None:
    """A pod is given up at a moment of the clock: its claims are read when that has come."""
    lost = pod(running(), of=creation_job(RUNNING))
    lost["metadata"]["deletionTimestamp"] = before(300)
    executor = Executor(creation_job(RUNNING), lost)
    early = claim_observed(
        RUNNING, executor=executor, storage=Storage(), looked_at=NOW - timedelta(milliseconds=10)
    )
    planned = plan(early, NOW)
    assert planned.writes == ()
    assert planned.requeue_after_s == 0.01
    assert status_in(planned_for(*BOUND, executor=executor))["phase"] == "Succeeded"


def test_a_job_that_was_deleted_is_waited_for_while_a_pod_of_it_lives() -> None:
    """What it still creates would be said not to exist."""
    left = Executor(job_gone=True, survivor=pod(running(), of=creation_job(RUNNING)))
    planned = planned_for(BOUND[0], executor=left)
    assert (planned.writes, planned.requeue_after_s) == ((), 5.0)


def test_a_lost_pod_ends_with_its_job() -> None:
    """A dead node says nothing more."""
    stuck = pod(running(), of=creation_job(RUNNING))
    stuck["metadata"]["deletionTimestamp"] = before(300)
    planned = planned_for(*BOUND, executor=Executor(creation_job(RUNNING), stuck))
    (delete, _) = planned.writes
    assert isinstance(delete, Delete)
    assert delete.ref.resource == JOB
