"""What is asked of the API server for a session with VolumeSnapshots, and when."""

from collections.abc import Iterator
from typing import Any

import pytest

from controller.api.creation import SESSION_UID
from controller.api.objects import Key, Obj, key_of, status, uid_of
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    BACKUP_SESSION,
    JOB,
    POD,
    PVC,
    STATEFUL_SET,
    VOLUME_SNAPSHOT,
    Resource,
)
from controller.build.hook import POST_HOOK
from controller.build.labels import BACKUP, CREATED_BY, own_labels
from controller.kube.errors import Forbidden, KubeError, NotFound, ServerFault
from controller.observe.routes import SESSION_LANE, Route
from controller.reconcile.observed import SessionObserved
from controller.reconcile.snapshot_observed import SnapshotSessionObserved
from tests.support.builders import NAMESPACE, before, configuration
from tests.support.reads import Reads
from tests.support.snapshot_cluster import SnapshotCluster
from tests.support.snapshot_sessions import CLAIMS, bound_claim, snapshot_spec, workload
from tests.support.toy_cluster import CACHED

KEY = Key(NAMESPACE, "nightly-1")
ROUTE = Route(SESSION_LANE, KEY)


def catch_up(cluster: SnapshotCluster, *, but: Resource | None = None) -> None:
    """Let every cache catch up, or every one but one."""
    for resource in CACHED:
        if resource != but:
            cluster.deliver(resource)


def step(cluster: SnapshotCluster, *, but: Resource | None = None) -> None:
    """Let pods begin, caches catch up (or all but one), and the session have its turn."""
    for job in cluster.server.all(JOB):
        cluster.sync_job(job)
    for pod in cluster.server.all(POD):
        cluster.start_pod(pod)
    catch_up(cluster, but=but)
    cluster.turn(ROUTE)


@pytest.fixture
def cluster() -> Iterator[SnapshotCluster]:
    """Return a cluster with a session that was just created."""
    made = SnapshotCluster(with_hooks=False)
    assert made.settle(made.remove_pod)
    made.new_session(1, is_owned=False)
    catch_up(made)
    yield made
    assert not made.server.violations


def seen(cluster: SnapshotCluster) -> SnapshotSessionObserved:
    """Return what is observed."""
    found = cluster.process.lanes[SESSION_LANE].observe(KEY, None)
    assert isinstance(found, SnapshotSessionObserved)
    return found


def test_a_session_costs_two_requests_that_read(
    cluster: SnapshotCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target, and one list of claims or a few single ones; none while it is waited for."""
    reads = Reads(cluster, monkeypatch)
    cluster.turn(ROUTE)
    assert reads.take() == ["get StatefulSet", *["get PersistentVolumeClaim"] * len(CLAIMS)]
    step(cluster)
    step(cluster)
    (pod,) = cluster.server.all(POD)
    cluster.work(pod)
    for index in range(3):
        step(cluster)
        cluster.cut(cluster.snapshots(index) or {})
        cluster.server.wait(30)
        step(cluster)
    for index in range(3):
        cluster.ready(cluster.snapshots(index) or {})
        step(cluster)
    assert reads.take() == []
    assert status(cluster.server.objects[BACKUP_SESSION, KEY])["phase"] == "Succeeded"


def test_a_missing_volume_snapshot_is_looked_for_once_its_job_ended_a_while_ago(
    cluster: SnapshotCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one list with the session's label; then the verdict is recorded, and nobody asks again."""
    step(cluster)
    step(cluster)
    (pod,) = cluster.server.all(POD)
    cluster.work(pod)
    cluster.server.remove(VOLUME_SNAPSHOT, key_of(cluster.snapshots(0) or {}))
    reads = Reads(cluster, monkeypatch)
    step(cluster)
    assert reads.take() == []
    cluster.server.wait(2)
    step(cluster)
    assert reads.take() == ["list VolumeSnapshot"]
    (target,) = status(cluster.server.objects[BACKUP_SESSION, KEY])["targets"]
    assert "SnapshotDeleted" in target["stats"][0]["error"]
    step(cluster)
    assert reads.take() == []


def test_nobody_asks_for_the_job_of_volume_snapshots_that_are_all_there(
    cluster: SnapshotCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for its pod: both may be gone for hours before the driver is done."""
    step(cluster)
    step(cluster)
    (pod,) = cluster.server.all(POD)
    cluster.work(pod)
    step(cluster)
    reads = Reads(cluster, monkeypatch)
    cluster.server.remove(POD, key_of(cluster.server.all(POD)[0]))
    step(cluster)
    cluster.server.remove(JOB, key_of(cluster.server.all(JOB)[0]))
    step(cluster)
    assert reads.take() == []
    assert status(cluster.server.objects[BACKUP_SESSION, KEY])["phase"] == "Running"


def test_the_first_job_of_a_session_that_is_held_is_looked_for_live(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A session that is held must not be let go because a cache is late."""
    cluster = SnapshotCluster(with_hooks=True)
    assert cluster.settle(cluster.remove_pod)
    cluster.new_session(1, is_owned=False)
    catch_up(cluster)
    cluster.turn(ROUTE)
    cluster.turn(ROUTE)
    (job,) = cluster.server.all(JOB)
    old = cluster.server.objects[BACKUP_SESSION, KEY]
    cluster.server.put_object(BACKUP_SESSION, {**old, "status": {}})
    catch_up(cluster)
    cluster.process.stores[JOB].delete(job)
    reads = Reads(cluster, monkeypatch)
    assert uid_of(seen(cluster).pre.job or {}) == uid_of(job)
    assert "get Job" in reads.take()


def created_unseen(cluster: SnapshotCluster) -> None:
    """Let the Job create all and end; the cache of VolumeSnapshots has heard of none."""
    step(cluster)
    step(cluster)
    (pod,) = cluster.server.all(POD)
    cluster.work(pod)
    cluster.server.wait(5)
    for resource in (JOB, POD):
        cluster.deliver(resource)


def test_a_late_cache_is_no_missing_volume_snapshot(cluster: SnapshotCluster) -> None:
    """The list finds what no event has told of yet."""
    created_unseen(cluster)
    found = seen(cluster)
    assert found.looked
    assert len(found.snapshots) == 3


NOT_FOUND = NotFound("the server could not find the requested resource", code=404)
NO_LIST = (NOT_FOUND, Forbidden("no right to list", code=403), ServerFault("webhook", code=500))


class Unserved:
    """Has the API server refuse lists of VolumeSnapshots, until it is told to serve them."""

    def __init__(
        self, cluster: SnapshotCluster, patch: pytest.MonkeyPatch, error: KubeError = NOT_FOUND
    ) -> None:
        self.is_served = False
        list_page = cluster.server.list_page

        def list_or_refuse(resource: Any, namespace: str = "", **options: Any) -> Obj:
            if resource == VOLUME_SNAPSHOT and not self.is_served:
                raise error
            return list_page(resource, namespace, **options)

        patch.setattr(cluster.server, "list_page", list_or_refuse)


def test_a_kind_that_is_not_served_yet_is_no_verdict_on_what_it_holds(
    cluster: SnapshotCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API server that has just started: it is asked again, and the session succeeds."""
    created_unseen(cluster)
    api = Unserved(cluster, monkeypatch)
    cluster.turn(ROUTE)
    assert status(cluster.server.objects[BACKUP_SESSION, KEY])["phase"] == "Running"
    api.is_served = True
    assert cluster.settle(cluster.work)
    assert status(cluster.server.objects[BACKUP_SESSION, KEY])["phase"] == "Succeeded"


def test_a_kind_that_was_removed_took_its_objects_along(
    cluster: SnapshotCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its definition is gone: there is nothing to wait for."""
    created_unseen(cluster)
    Unserved(cluster, monkeypatch)
    cluster.snapshots_defined = False
    found = seen(cluster)
    assert (found.looked, found.snapshots) == (True, ())


@pytest.mark.parametrize("error", NO_LIST, ids=["404", "403", "500"])
def test_the_doubt_ends_with_the_session(
    cluster: SnapshotCluster, monkeypatch: pytest.MonkeyPatch, error: KubeError
) -> None:
    """A definition without our version, or rights that are gone, may stay so for ever."""
    created_unseen(cluster)
    Unserved(cluster, monkeypatch, error)
    cluster.server.wait(7201)
    found = seen(cluster)
    assert (found.looked, found.unlistable) == (False, str(error))
    cluster.turn(ROUTE)
    made = status(cluster.server.objects[BACKUP_SESSION, KEY])
    assert made["phase"] == "Failed"
    for stat in made["targets"][0]["stats"]:
        assert f"cannot be read: {error}" in stat["error"]


@pytest.mark.parametrize("error", NO_LIST, ids=["404", "403", "500"])
def test_an_application_does_not_stand_still_for_a_list_that_is_refused(
    monkeypatch: pytest.MonkeyPatch, error: KubeError
) -> None:
    """Ten minutes after the preBackup hook it goes on; what nobody can see was not cut."""
    cluster = SnapshotCluster(with_hooks=True)
    assert cluster.settle(cluster.remove_pod)
    cluster.new_session(1, is_owned=False)
    while not cluster.server.all(VOLUME_SNAPSHOT):
        for pod in cluster.server.all(POD):
            cluster.work(pod)
        step(cluster, but=VOLUME_SNAPSHOT)
    Unserved(cluster, monkeypatch, error)
    post = Key(NAMESPACE, "stash-hook-post-nightly-1")
    for seconds, is_thawed in ((500, False), (200, True)):
        cluster.server.wait(seconds)
        for _ in range(3):
            step(cluster, but=VOLUME_SNAPSHOT)
        assert ((JOB, post) in cluster.server.objects) == is_thawed


def test_a_session_that_will_be_skipped_reads_nothing(
    cluster: SnapshotCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one runs."""
    cluster.turn(ROUTE)
    cluster.server.wait(5)
    cluster.new_session(2, is_owned=False)
    catch_up(cluster)
    reads = Reads(cluster, monkeypatch)
    cluster.turn(Route(SESSION_LANE, Key(NAMESPACE, "nightly-2")))
    assert reads.take() == []
    later = cluster.server.objects[BACKUP_SESSION, Key(NAMESPACE, "nightly-2")]
    assert status(later)["phase"] == "Skipped"


def test_a_run_stays_what_it_is_when_its_configuration_changes_or_goes(
    cluster: SnapshotCluster,
) -> None:
    """Another driver, nothing that can be parsed, nothing at all."""
    cluster.turn(ROUTE)
    catch_up(cluster)
    assert isinstance(seen(cluster), SnapshotSessionObserved)
    key = Key(NAMESPACE, "nightly")
    old = cluster.server.objects[BACKUP_CONFIGURATION, key]
    for spec in ({**snapshot_spec(), "driver": "Restic"}, {"target": "text"}):
        cluster.server.put_object(BACKUP_CONFIGURATION, {**old, "spec": spec})
        catch_up(cluster)
        seen(cluster)
    cluster.server.remove(BACKUP_CONFIGURATION, key)
    catch_up(cluster)
    assert seen(cluster).configuration is None


def test_a_job_that_a_crash_hid_tells_what_a_session_is(cluster: SnapshotCluster) -> None:
    """Its configuration is gone, its status empty."""
    cluster.turn(ROUTE)
    job = cluster.server.all(JOB)[0]
    old = cluster.server.objects[BACKUP_SESSION, KEY]
    cluster.server.put_object(BACKUP_SESSION, {**old, "status": {}})
    cluster.server.remove(BACKUP_CONFIGURATION, Key(NAMESPACE, "nightly"))
    catch_up(cluster)
    found = seen(cluster)
    assert uid_of(found.executor.job or {}) == uid_of(job)
    cluster.server.remove(JOB, key_of(job))
    catch_up(cluster)
    without = cluster.process.lanes[SESSION_LANE].observe(KEY, None)
    assert isinstance(without, SessionObserved)


@pytest.mark.parametrize("begun", [False, True], ids=["new", "with restic"])
def test_a_finalizer_alone_makes_no_session_one_of_volume_snapshots(
    cluster: SnapshotCluster, *, begun: bool
) -> None:
    """Who may create sessions may give them any finalizer; their configuration says restic."""
    cluster.server.put_object(BACKUP_CONFIGURATION, configuration())
    old = cluster.server.objects[BACKUP_SESSION, KEY]
    done = {"type": "BackupExecutorEnsured", "status": "True", "lastTransitionTime": before(5)}
    target = {"preBackupActions": ["InitializeBackendRepository"], "conditions": [done]}
    held = {**old["metadata"], "finalizers": [POST_HOOK]}
    new = {**old, "metadata": held, "status": {"targets": [target]} if begun else {}}
    cluster.server.put_object(BACKUP_SESSION, new)
    catch_up(cluster)
    assert isinstance(cluster.process.lanes[SESSION_LANE].observe(KEY, None), SessionObserved)


def test_what_a_hidden_job_was_told_is_read_from_itself(
    cluster: SnapshotCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that was added since is no host that its Job forgot."""
    cluster.turn(ROUTE)
    old = cluster.server.objects[BACKUP_SESSION, KEY]
    cluster.server.put_object(BACKUP_SESSION, {**old, "status": {}})
    cluster.server.put_object(STATEFUL_SET, workload(replicas=4))
    cluster.server.put_object(PVC, bound_claim("data-db-3"))
    catch_up(cluster)
    reads = Reads(cluster, monkeypatch)
    found = seen(cluster)
    assert found.reading is not None
    assert found.reading.told == CLAIMS
    assert reads.take().count("get Job") == 1
    step(cluster)
    (target,) = status(cluster.server.objects[BACKUP_SESSION, KEY])["targets"]
    assert [stat["hostname"] for stat in target["stats"] if "error" in stat] == ["data-db-3"]
    reads.take()
    step(cluster)
    assert reads.take() == []


def test_what_a_job_that_was_hidden_after_a_hook_was_told_is_read_from_itself() -> None:
    """The session had begun, for the claims that there were before the hook."""
    cluster = SnapshotCluster(with_hooks=True)
    assert cluster.settle(cluster.remove_pod)
    cluster.new_session(1, is_owned=False)
    before: Any = {}
    job = Key(NAMESPACE, "stash-vs-nightly-1")
    while (JOB, job) not in cluster.server.objects:
        for pod in cluster.server.all(POD):
            cluster.work(pod)
        before = cluster.server.objects.get((BACKUP_SESSION, KEY))
        step(cluster)
    cluster.server.put_object(BACKUP_SESSION, before)
    catch_up(cluster)
    found = seen(cluster)
    assert found.reading is not None
    assert found.reading.told == CLAIMS


def put_old(
    cluster: SnapshotCluster,
    name: str,
    *,
    namespace: str = NAMESPACE,
    labels: Obj | None = None,
    day: int = 1,
) -> Key:
    """Let a VolumeSnapshot of the first claim have been made in 2020; return its key."""
    body = {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": f"2020-01-{day:02}T00:00:00Z",
            **({"labels": labels} if labels else {}),
        },
        "spec": {"source": {"persistentVolumeClaimName": CLAIMS[0]}},
        "status": {"readyToUse": True},
    }
    cluster.server.put_object(VOLUME_SNAPSHOT, body)
    return Key(namespace, name)


def labels_of_ours(invoker: str, kind: str = "BackupConfiguration") -> dict[str, str]:
    """Return the labels of a VolumeSnapshot that an earlier session of an invoker made."""
    made = configuration(invoker, spec=snapshot_spec())
    return {**own_labels(BACKUP, kind, made), SESSION_UID: f"earlier-of-{invoker}"}


def adopt(cluster: SnapshotCluster) -> None:
    """Annotate the configuration: what Stash made counts."""
    old = cluster.server.objects[BACKUP_CONFIGURATION, Key(NAMESPACE, "nightly")]
    annotations = {"drey.dev/adopt-stash-snapshots": "true"}
    metadata = {**old["metadata"], "annotations": annotations}
    cluster.server.put_object(BACKUP_CONFIGURATION, {**old, "metadata": metadata})


def finish(cluster: SnapshotCluster) -> None:
    """Let a session that has not begun succeed."""
    step(cluster)
    step(cluster)
    (pod,) = cluster.server.all(POD)
    cluster.work(pod)
    step(cluster)
    for found in cluster.server.all(VOLUME_SNAPSHOT):
        if not status(found).get("readyToUse"):
            cluster.ready(found)
    step(cluster)
    assert status(cluster.server.objects[BACKUP_SESSION, KEY])["phase"] == "Succeeded"


@pytest.mark.parametrize("is_adopting", [False, True])
def test_retention_sees_the_snapshots_of_its_own_configuration_only(
    cluster: SnapshotCluster,
    is_adopting: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """All of one claim: of keepLast 2 the session's own and the newest before it stay.

    Neighbours are another configuration, another namespace, another kind of invoker of the same
    name, somebody who only has a label of ours, and people.
    """
    neighbours = {
        put_old(cluster, "of-another", labels=labels_of_ours("other")),
        put_old(cluster, "of-a-longer-name", labels=labels_of_ours("nightly-2")),
        put_old(cluster, "elsewhere", namespace="prod", labels=labels_of_ours("nightly")),
        put_old(cluster, "of-a-batch", labels=labels_of_ours("nightly", "BackupBatch")),
        put_old(cluster, f"{CLAIMS[0]}-1577800000", labels={CREATED_BY: "drey"}),
        put_old(cluster, "by-hand"),
    }
    old, newer = (
        put_old(cluster, f"{CLAIMS[0]}-{n}", labels=labels_of_ours("nightly"), day=n)
        for n in (10, 11)
    )
    if is_adopting:
        adopt(cluster)
    finish(cluster)
    left = {key_of(found) for found in cluster.server.all(VOLUME_SNAPSHOT)}
    assert neighbours <= left
    assert (old in left, newer in left) == (False, True)


def test_what_stash_made_is_listed_only_when_asked_for(
    cluster: SnapshotCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request, in the turn that applies retention; by its name and by having no label."""
    adopt(cluster)
    made = [put_old(cluster, f"{CLAIMS[0]}-160000000{n}", day=n) for n in (1, 2, 3)]
    others = {
        put_old(cluster, "mine"),
        put_old(cluster, f"{CLAIMS[0]}-mine"),
        put_old(cluster, f"{CLAIMS[0]}-1600000000", labels={"app": "neighbour"}),
    }
    reads = Reads(cluster, monkeypatch)
    finish(cluster)
    assert [read for read in reads.take() if "list" in read] == ["list VolumeSnapshot"]
    left = {key_of(found) for found in cluster.server.all(VOLUME_SNAPSHOT)}
    # keepLast 2: this session's and the newest that Stash made
    assert left & {*made, *others} == {made[2], *others}


def test_without_the_annotation_what_stash_made_is_nobodys_business(
    cluster: SnapshotCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither listed nor deleted."""
    made = {put_old(cluster, f"{CLAIMS[0]}-160000000{n}", day=n) for n in (1, 2, 3)}
    reads = Reads(cluster, monkeypatch)
    finish(cluster)
    assert not [read for read in reads.take() if "list" in read]
    assert made <= {key_of(found) for found in cluster.server.all(VOLUME_SNAPSHOT)}


def test_what_stash_made_waits_for_the_next_session_while_it_cannot_be_listed(
    cluster: SnapshotCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result does not wait for an API server that does not serve the kind yet."""
    adopt(cluster)
    made = {put_old(cluster, f"{CLAIMS[0]}-160000000{n}", day=n) for n in (1, 2, 3)}
    Unserved(cluster, monkeypatch)
    finish(cluster)
    assert made <= {key_of(found) for found in cluster.server.all(VOLUME_SNAPSHOT)}


def test_many_claims_are_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty replicas."""
    cluster = SnapshotCluster(with_hooks=False, replicas=20)
    assert cluster.settle(cluster.remove_pod)
    cluster.new_session(1, is_owned=False)
    catch_up(cluster)
    reads = Reads(cluster, monkeypatch)
    cluster.turn(ROUTE)
    assert reads.take() == ["get StatefulSet", "list PersistentVolumeClaim"]
    assert len(cluster.server.all(PVC)) == 20
