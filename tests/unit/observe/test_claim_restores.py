"""What is read for a restore from VolumeSnapshots, and when: caches first, live for verdicts."""

from typing import Any

import pytest

from controller.api.creation import SESSION_UID
from controller.api.objects import Key, Obj, key_of, name_of, status
from controller.api.resources import (
    CORE_EVENT,
    JOB,
    PERSISTENT_VOLUME,
    POD,
    PVC,
    RESTORE_SESSION,
    ROLE_BINDING,
    STORAGE_CLASS,
    VOLUME_SNAPSHOT,
    VOLUME_SNAPSHOT_CONTENT,
    Resource,
)
from controller.build.labels import CREATED_BY
from controller.kube.errors import KubeError
from controller.observe.routes import RESTORE_LANE, Route
from controller.plan import Ref, SetStatus
from controller.reconcile.claim_observed import ClaimRestoreObserved
from controller.reconcile.observed import RestoreObserved
from tests.support.builders import NAMESPACE, NOW, before, condition, job, pod, running
from tests.support.claim_restores import (
    claim,
    claim_restore,
    claim_spec,
    content,
    creation_job,
    creation_reported,
    snapshot,
    storage_class,
    template,
)
from tests.support.toy_cluster import ToyCluster
from tests.support.unreadable import NOT_SERVED, REFUSALS, Unreadable, each_refusal

KEY = Key(NAMESPACE, "bring-back")
ENSURED = {"phase": "Running", "conditions": [condition("RestoreExecutorEnsured")]}
RUNNING = claim_restore(status=ENSURED, age_s=40)
WAITS = {
    **ENSURED,
    "conditions": [
        condition("RestoreExecutorEnsured"),
        condition("ClaimsWaiting", reason="ClaimsNotBound"),
    ],
}
OURS: dict[str, Any] = {"metadata": {"labels": {CREATED_BY: "drey", SESSION_UID: "u"}}}


def sources(**changes: Any) -> list[tuple[Resource, Obj]]:
    """Return two VolumeSnapshots that we did not make, their contents, and the StorageClass."""
    return [
        *((VOLUME_SNAPSHOT, snapshot(f"snap-{n}", **changes)) for n in (0, 1)),
        *((VOLUME_SNAPSHOT_CONTENT, content(f"content-of-snap-{n}")) for n in (0, 1)),
        (STORAGE_CLASS, storage_class()),
    ]


def look(cluster: ToyCluster) -> tuple[ClaimRestoreObserved, list[str]]:
    """Return what the observer sees, and what it asked the API server for."""
    asked: list[str] = []
    server: Any = cluster.server
    get, list_page = server.get, server.list_page

    def counted_get(resource: Resource, namespace: str, name: str, **more: Any) -> Obj:
        asked.append(f"get {resource} {name}")
        found: Obj = get(resource, namespace, name, **more)
        return found

    def counted_list(resource: Resource, namespace: str = "", **more: Any) -> Obj:
        asked.append(f"list {resource}")
        found: Obj = list_page(resource, namespace, **more)
        return found

    server.get, server.list_page = counted_get, counted_list
    found = cluster.process.lanes[RESTORE_LANE].observe(KEY, None)
    server.get, server.list_page = get, list_page
    assert isinstance(found, ClaimRestoreObserved)
    return found, asked


def test_everything_is_read_before_the_job() -> None:
    """Snapshots that are not ours, claims of these names, class and contents: each once."""
    foreign = claim(labels={})
    cluster = ToyCluster((RESTORE_SESSION, claim_restore()), (PVC, foreign), *sources())
    seen, asked = look(cluster)
    assert asked == [
        "get VolumeSnapshot snap-0",
        "get VolumeSnapshot snap-1",
        "get PersistentVolumeClaim data-0",
        "get PersistentVolumeClaim data-1",
        "get StorageClass fast",
        "get VolumeSnapshotContent content-of-snap-0",
        "get VolumeSnapshotContent content-of-snap-1",
    ]
    storage = seen.storage
    assert [name for name, found in storage.claims.items() if found] == ["data-0"]
    assert all(storage.classes.values())
    assert all(storage.contents.values())


def test_many_claims_are_read_by_few_requests() -> None:
    """One list of snapshots, one of claims; one snapshot may seed them all."""
    source = {"kind": "VolumeSnapshot", "name": "snap-0"}
    spec = claim_spec(template(dataSource=source, storageClassName=None), replicas=20)
    default = storage_class(
        metadata={
            "name": "main",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        }
    )
    cluster = ToyCluster(
        (RESTORE_SESSION, claim_restore(spec=spec)), *sources(), (STORAGE_CLASS, default)
    )
    seen, asked = look(cluster)
    assert asked == [
        "get VolumeSnapshot snap-0",
        "list PersistentVolumeClaim",
        "list StorageClass",
        "get VolumeSnapshotContent content-of-snap-0",
    ]
    assert name_of(seen.storage.classes[""] or {}) == "main"


def test_our_own_snapshots_are_cached() -> None:
    """While one is not ready nothing is asked: a change of it wakes the restore."""
    cluster = ToyCluster((RESTORE_SESSION, claim_restore()), *sources(ready=False, **OURS))
    seen, asked = look(cluster)
    assert asked == []
    assert [dict(found or {})["status"]["readyToUse"] for found in seen.storage.snapshots.values()]
    assert seen.storage.claims == {}


def test_snapshots_are_read_live_before_the_verdict() -> None:
    """A watch that lags must not be the reason of a failure (D10)."""
    late = claim_restore(spec=claim_spec(timeOut="1m"), age_s=61)
    cluster = ToyCluster((RESTORE_SESSION, late), *sources(ready=False, **OURS))
    for name in ("snap-0", "snap-1"):
        cluster.server.put_object(VOLUME_SNAPSHOT, snapshot(name, **OURS))
    seen, asked = look(cluster)
    assert asked[:2] == ["get VolumeSnapshot snap-0", "get VolumeSnapshot snap-1"]
    assert seen.storage.classes.keys() == {"fast"}


def test_an_informer_without_its_first_list_is_no_verdict() -> None:
    """After a start the VolumeSnapshots may be listed last; what was read is served (D10)."""
    late = claim_restore(spec=claim_spec(timeOut="1m"), age_s=61)
    cluster = ToyCluster((RESTORE_SESSION, late), *sources())
    cluster.snapshots_served = False
    seen, _ = look(cluster)
    assert seen.snapshots_served
    assert seen.storage.classes.keys() == {"fast"}


def test_without_the_kind_nothing_is_asked() -> None:
    """The informer of its definition says so."""
    cluster = ToyCluster((RESTORE_SESSION, claim_restore()))
    cluster.snapshots_served = False
    seen, asked = look(cluster)
    assert (asked, seen.snapshots_served) == ([], False)
    assert seen.storage.snapshots == {"snap-0": None, "snap-1": None}


@pytest.mark.parametrize(
    "raw",
    [
        claim_restore(spec=claim_spec(template("data"))),
        claim_restore(status={**ENSURED, "phase": "Succeeded"}),
        claim_restore(metadata={"deletionTimestamp": before(1)}),
    ],
)
def test_what_needs_nothing_is_seen_without_a_request(raw: Obj) -> None:
    """Invalid, ended, deleted."""
    assert look(ToyCluster((RESTORE_SESSION, raw)))[1] == []


def test_a_job_that_the_status_does_not_know_is_seen() -> None:
    """The controller ended between the two writes; nothing else is read."""
    cluster = ToyCluster((RESTORE_SESSION, claim_restore()), (JOB, creation_job(claim_restore())))
    seen, asked = look(cluster)
    assert seen.executor.job is not None
    assert asked == []


def test_the_job_of_a_spec_that_became_invalid_is_not_overlooked() -> None:
    """It goes on creating claims: from the cache, and before the end of it live."""
    spec = claim_spec(template("data"))
    raw = claim_restore(spec=spec, status=ENSURED)
    for known in (raw, claim_restore(spec=spec)):
        seen, asked = look(ToyCluster((RESTORE_SESSION, known), (JOB, creation_job(known))))
        assert seen.executor.job is not None
        assert asked == []
    cluster = ToyCluster((RESTORE_SESSION, raw))
    cluster.server.put_object(JOB, creation_job(raw))
    seen, asked = look(cluster)
    assert seen.executor.job is not None
    assert asked == ["get Job stash-vs-restore-bring-back"]


def test_the_job_is_known_by_the_cache_alone_once_it_has_ended() -> None:
    """It says what it was built from, as long as it is there."""
    raw = claim_restore(status=WAITS, age_s=5)
    made = [(PVC, claim(name, of=raw)) for name in ("data-0", "data-1")]
    seen, asked = look(ended(*made, raw=raw))
    assert seen.executor.job is not None
    assert asked == []


def test_the_time_of_the_look_is_told() -> None:
    """What is judged later by the clock is judged as of then."""
    cluster = ToyCluster((RESTORE_SESSION, RUNNING))
    assert look(cluster)[0].looked_at == cluster.server.now


def test_a_job_that_runs_is_seen_without_a_request() -> None:
    """Claims appear one after another: nobody has to be asked for the others."""
    owner = creation_job(RUNNING)
    cluster = ToyCluster(
        (RESTORE_SESSION, RUNNING),
        (JOB, owner),
        (POD, pod(running(), of=owner)),
        (PVC, claim(of=RUNNING)),
    )
    seen, asked = look(cluster)
    assert asked == []
    assert seen.storage.claims == {}


def ended(*more: tuple[Resource, Obj], raw: Obj = RUNNING) -> ToyCluster:
    """Return a cluster in which the Job has just reported."""
    executor = creation_reported(raw)
    assert executor.job is not None
    assert executor.pod is not None
    return ToyCluster(
        (RESTORE_SESSION, raw), (JOB, executor.job), (POD, executor.pod), *sources(), *more
    )


def test_claims_come_from_the_cache_once_the_job_has_ended() -> None:
    """Of those that are bound nothing else is asked."""
    made = [(PVC, claim(name, phase="Bound", of=RUNNING)) for name in ("data-0", "data-1")]
    seen, asked = look(ended(*made))
    assert asked == []
    assert all(seen.storage.claims.values())


def test_the_class_of_a_claim_that_is_not_bound_is_read_once() -> None:
    """And whether its snapshot is still there; later the status has it."""
    made = [(PVC, claim(name, of=RUNNING)) for name in ("data-0", "data-1")]
    seen, asked = look(ended(*made))
    assert asked == [
        "get VolumeSnapshot snap-0",
        "get VolumeSnapshot snap-1",
        "get StorageClass fast",
    ]
    assert seen.storage.classes.keys() == {"fast"}
    waits = claim_restore(status=WAITS, age_s=40)
    assert look(ended(*made, raw=waits))[1] == []


def test_a_claim_is_gone_only_when_a_live_read_says_so() -> None:
    """The cache of claims may lag behind the Job's end (D10); a foreign one is seen, too."""
    cluster = ended((PVC, claim("data-1", phase="Bound", of=RUNNING)))
    seen, asked = look(cluster)
    assert asked == ["get PersistentVolumeClaim data-0"]
    assert seen.storage.claims["data-0"] is None
    late = claim(phase="Bound", of=RUNNING)
    late["metadata"]["managedFields"] = [{"subresource": "status", "time": before(7)}]
    cluster.server.put_object(PVC, late)
    found = look(cluster)[0].storage.claims["data-0"]
    assert found is not None
    assert found["changedAt"] == before(7)


def test_what_failed_before_is_not_asked_for_again() -> None:
    """The Job said that it could not create it."""
    stats = [{"hostname": "data-0", "phase": "Failed", "error": "CreationRefused: over quota"}]
    raw = claim_restore(status={**WAITS, "stats": stats}, age_s=40)
    cluster = ended((PVC, claim("data-1", phase="Bound", of=raw)), raw=raw)
    assert look(cluster)[1] == []


def test_a_volume_of_another_name_is_looked_at() -> None:
    """Whether it was made for the claim is not to be seen from the claim."""
    odd = claim(phase="Bound", of=RUNNING)
    odd["spec"]["volumeName"] = "pv"
    cluster = ended((PVC, odd), (PVC, claim("data-1", phase="Bound", of=RUNNING)))
    seen, asked = look(cluster)
    assert asked == ["get PersistentVolume pv"]
    assert seen.storage.volumes == {"pv": None}


@each_refusal
@pytest.mark.parametrize(
    "refused", [VOLUME_SNAPSHOT, PVC, STORAGE_CLASS, VOLUME_SNAPSHOT_CONTENT], ids=str
)
def test_what_a_restore_needs_and_cannot_be_read_is_no_verdict_before_its_time_out(
    refused: Resource, error: KubeError
) -> None:
    """An API server that has just started knows no kind: it is asked again, then time is up."""
    for age_s, is_over in ((59, False), (61, True)):
        raw = claim_restore(spec=claim_spec(timeOut="1m"), age_s=age_s)
        cluster = ToyCluster((RESTORE_SESSION, raw), *sources())
        server = Unreadable(cluster.server, error, refused)
        if not is_over:
            with pytest.raises(type(error)):
                look(cluster)
            server.error = None
            assert all(look(cluster)[0].storage.contents.values())
            continue
        assert look(cluster)[0].storage.unreadable == str(error)
        cluster.turn(Route(RESTORE_LANE, KEY))
        made = status(cluster.server.objects[RESTORE_SESSION, KEY])
        assert made["phase"] == "Failed"
        assert f"cannot be read: {error}; spec.timeOut is 1m" in made["stats"][0]["error"]
        assert "DeadlineExceeded" in {entry["type"] for entry in made["conditions"]}


def test_without_a_time_out_what_a_restore_needs_is_asked_for_again_and_again() -> None:
    """Nothing stands still, and nothing was done: whoever mends it need do no more."""
    raw = claim_restore(age_s=7300)
    cluster = ToyCluster((RESTORE_SESSION, raw), *sources())
    Unreadable(cluster.server, REFUSALS[0], VOLUME_SNAPSHOT_CONTENT)
    with pytest.raises(type(REFUSALS[0])):
        look(cluster)


def test_snapshots_of_a_definition_that_was_removed_are_gone() -> None:
    """It took them along, whatever is said of the kind: its informer may be late."""
    cluster = ToyCluster((RESTORE_SESSION, claim_restore()))
    cluster.snapshots_defined = False
    Unreadable(cluster.server, NOT_SERVED, VOLUME_SNAPSHOT)
    assert look(cluster)[0].storage.snapshots == {"snap-0": None, "snap-1": None}


@each_refusal
def test_snapshots_that_cannot_be_read_after_the_job_are_not_gone(error: KubeError) -> None:
    """A restore fails at once, for good, when they are: so they were not looked at."""
    raw = claim_restore(status=WAITS, age_s=600)
    made = [(PVC, claim(name, of=raw, age_s=500)) for name in ("data-0", "data-1")]
    cluster = ended(*made, raw=raw)
    server = Unreadable(cluster.server, error, VOLUME_SNAPSHOT)
    seen, _ = look(cluster)
    assert server.count == 1
    assert seen.storage.snapshots == {}
    cluster.turn(Route(RESTORE_LANE, KEY))
    assert status(cluster.server.objects[RESTORE_SESSION, KEY])["phase"] == "Running"


@each_refusal
@pytest.mark.parametrize("refused", [PERSISTENT_VOLUME, PVC], ids=str)
def test_what_was_made_and_cannot_be_read_is_waited_for_until_the_deadline(
    refused: Resource, error: KubeError
) -> None:
    """Neither a success nor a failure; one can be read again in time."""
    for age_s, phase in ((59, "Running"), (61, "Failed")):
        raw = claim_restore(spec=claim_spec(timeOut="1m"), status=ENSURED, age_s=age_s)
        odd = claim(phase="Bound", of=raw)
        odd["spec"]["volumeName"] = "pv"
        known = [(PVC, claim("data-1", phase="Bound", of=raw))]
        cluster = ended(*known, *([] if refused == PVC else [(PVC, odd)]), raw=raw)
        Unreadable(cluster.server, error, refused)
        seen, _ = look(cluster)
        assert seen.storage.unreadable == str(error)
        assert ("data-0" in seen.storage.claims) is (refused != PVC)
        assert seen.storage.volumes == {}
        cluster.turn(Route(RESTORE_LANE, KEY))
        made = status(cluster.server.objects[RESTORE_SESSION, KEY])
        assert made["phase"] == phase
        assert f"cannot be read: {error}" in str(made)


@each_refusal
def test_the_class_of_a_claim_is_read_again_until_the_deadline(error: KubeError) -> None:
    """It is looked at once: that a claim waits for a pod must not be missed for a moment's 500."""
    for age_s, is_over in ((59, False), (61, True)):
        raw = claim_restore(spec=claim_spec(timeOut="1m"), status=ENSURED, age_s=age_s)
        made = [(PVC, claim(name, of=raw)) for name in ("data-0", "data-1")]
        cluster = ended(*made, raw=raw)
        server = Unreadable(cluster.server, error, STORAGE_CLASS)
        if is_over:
            cluster.turn(Route(RESTORE_LANE, KEY))
            assert status(cluster.server.objects[RESTORE_SESSION, KEY])["phase"] == "Failed"
            continue
        with pytest.raises(type(error)):
            look(cluster)
        server.error = None
        assert look(cluster)[0].storage.classes.keys() == {"fast"}


@each_refusal
def test_events_that_cannot_be_read_end_no_wait(error: KubeError) -> None:
    """They only explain: the deadline comes all the same."""
    raw = claim_restore(spec=claim_spec(timeOut="1m"), status=WAITS, age_s=61)
    made = [(PVC, claim(name, of=raw, age_s=60)) for name in ("data-0", "data-1")]
    cluster = ended(*made, raw=raw)
    server = Unreadable(cluster.server, error, CORE_EVENT)
    cluster.turn(Route(RESTORE_LANE, KEY))
    assert server.count
    assert status(cluster.server.objects[RESTORE_SESSION, KEY])["phase"] == "Failed"


def test_events_are_asked_only_when_nothing_changes() -> None:
    """After ten seconds, of three claims; at the deadline of all, by one list (D14)."""
    names = [f"data-{n}" for n in range(5)]
    for age_s, time_out, lists, told in ((9, "", 0, 0), (10, "", 3, 3), (60, "1m", 1, 5)):
        spec = claim_spec(replicas=5, timeOut=time_out)
        raw = claim_restore(spec=spec, status=WAITS, age_s=age_s)
        made = [(PVC, claim(name, of=raw, age_s=age_s)) for name in names]
        cluster = ended(*made, raw=raw)
        cluster.server.quota_full = True
        seen, asked = look(cluster)
        assert asked.count(f"list {CORE_EVENT}") == lists
        assert len(seen.storage.words) == told
        assert (seen.storage.snapshots.keys() >= {"snap-0"}) is bool(lists)


def test_a_cached_snapshot_that_is_being_deleted_is_seen_at_once() -> None:
    """Without a request."""
    raw = claim_restore(status=WAITS, age_s=5)
    gone: dict[str, Any] = {
        **OURS,
        "metadata": {**OURS["metadata"], "deletionTimestamp": before(1)},
    }
    cluster = ended((PVC, claim(of=raw)), (PVC, claim("data-1", of=raw)), raw=raw)
    cluster.server.put_object(VOLUME_SNAPSHOT, snapshot("snap-0", **gone))
    cluster.deliver(VOLUME_SNAPSHOT)
    seen, asked = look(cluster)
    assert asked == []
    assert seen.storage.snapshots.keys() == {"snap-0"}


def test_the_binding_is_seen_while_it_exists() -> None:
    """Of this session only."""
    for owner, found in (("uid-of-bring-back", True), ("another", False)):
        metadata = {
            "name": "restoresession-bring-back-0",
            "namespace": NAMESPACE,
            "uid": "u",
            "ownerReferences": [{"uid": owner, "controller": True}],
        }
        cluster = ended((ROLE_BINDING, {"metadata": metadata}))
        seen, _ = look(cluster)
        ref = (
            Ref(ROLE_BINDING, NAMESPACE, "restoresession-bring-back-0", seen.access[0].uid)
            if found
            else None
        )
        assert seen.access == ((ref,) if ref else ())


@pytest.mark.parametrize(
    ("made", "expected"), [(job, RestoreObserved), (creation_job, ClaimRestoreObserved)]
)
@pytest.mark.parametrize("driver", ["Restic", "VolumeSnapshotter"])
def test_a_restore_is_what_it_has_begun(made: Any, expected: type[Any], driver: str) -> None:
    """Another driver meanwhile: the Job that runs is the one to follow."""
    raw = claim_restore(spec={**claim_spec(), "driver": driver}, status=ENSURED, age_s=40)
    cluster = ToyCluster((RESTORE_SESSION, raw), (JOB, made(raw)))
    lane = cluster.process.lanes[RESTORE_LANE]
    found = lane.observe(KEY, None)
    assert isinstance(found, expected)
    if expected is RestoreObserved:
        assert found.executor.job is not None
        assert not any(isinstance(write, SetStatus) for write in lane.plan(found, NOW).writes)


def test_a_claim_of_a_namesake_in_another_life_is_not_ours() -> None:
    """The uid decides, not the name."""
    other = claim_restore(metadata={"uid": "another"})
    cluster = ended((PVC, claim(of=other)), (PVC, claim("data-1", phase="Bound", of=RUNNING)))
    seen, asked = look(cluster)
    assert asked == ["get PersistentVolumeClaim data-0"]
    assert key_of(seen.storage.claims["data-0"] or {}) == Key(NAMESPACE, "data-0")
