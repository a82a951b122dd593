"""The observers: cached where it is cheap, live where a verdict depends on it (D10)."""

from typing import Any

import pytest

from controller.api.model import parse_spec
from controller.api.names import pod_hostname
from controller.api.objects import Key, Obj, Uid, key_of, name_of
from controller.api.repository import RepositorySpec
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    BACKUP_SESSION,
    CORE_EVENT,
    CRON_JOB,
    FUNCTION,
    JOB,
    POD,
    PVC,
    REPOSITORY,
    RESTORE_SESSION,
    ROLE,
    ROLE_BINDING,
    SECRET,
    TASK,
    Resource,
)
from controller.build.hook import POST_HOOK
from controller.build.place import place_hash
from controller.kube.errors import KubeError
from controller.observe.caches import project_job
from controller.observe.routes import (
    CONFIGURATION_LANE,
    REPOSITORY_LANE,
    RESTORE_LANE,
    SESSION_LANE,
    Route,
)
from controller.plan import Ref
from controller.reconcile.observed import Executor, SessionObserved
from tests.support.builders import (
    NAMESPACE,
    before,
    catalog,
    configuration,
    configuration_spec,
    job,
    job_complete,
    job_failed,
    pod,
    pvc,
    repository,
    restore,
    restore_spec,
    running,
    running_status,
    session,
    terminated,
)
from tests.support.toy_cluster import CACHED, ToyCluster
from tests.support.unreadable import REFUSALS, Unreadable, each_refusal

KEY = Key(NAMESPACE, "nightly-1")
RUNNING = session(status=running_status())


def world(*more: tuple[Resource, Obj], without: Resource | None = None) -> ToyCluster:
    """Return a cluster that a controller has just listed, and in which nothing happened yet."""
    secret: Obj = {
        "metadata": {"name": "s3-secret", "namespace": NAMESPACE, "uid": "u"},
        "data": {"RESTIC_PASSWORD": "cGFzc3dvcmQ="},
    }
    usual: list[tuple[Resource, Obj]] = [
        (SECRET, secret),
        (PVC, pvc()),
        (REPOSITORY, repository()),
        (BACKUP_CONFIGURATION, configuration()),
    ]
    listed = {(kind, key_of(item)) for kind, item in more}
    usual = [(kind, item) for kind, item in usual if (kind, key_of(item)) not in listed]
    usual += [
        (kind, {**item, "metadata": {**item["metadata"], "namespace": ""}})
        for kind in (FUNCTION, TASK)
        for item in catalog(kind.kind).values()
    ]
    return ToyCluster(*(pair for pair in usual if pair[0] != without), *more)


def seen(cluster: ToyCluster, key: Key = KEY) -> SessionObserved:
    """Return what the observer of sessions sees."""
    found = cluster.process.lanes[SESSION_LANE].observe(key, None)
    assert isinstance(found, SessionObserved)
    return found


def requests(cluster: ToyCluster) -> list[str]:
    """Write down the reads from now on."""
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
    return asked


def test_a_new_session_is_seen_with_all_it_names() -> None:
    """Two live reads, and one list where the claim binds to a node."""
    cluster = world((BACKUP_SESSION, session()))
    asked = requests(cluster)
    found = seen(cluster)
    assert found.references.secret is not None
    assert found.references.secret.problem is None
    assert found.references.functions.keys() == {"pvc-backup"}
    assert asked == ["get PersistentVolumeClaim data", "get Secret s3-secret", "list Pod"]


def test_a_session_that_runs_is_seen_without_a_request() -> None:
    """Nothing is read while a backup runs (D13)."""
    owner = job(RUNNING)
    cluster = world((BACKUP_SESSION, RUNNING), (JOB, owner), (POD, pod(running(), of=owner)))
    asked = requests(cluster)
    found = seen(cluster)
    assert found.executor.pod is not None
    assert found.references.repository is not None
    assert asked == []


def test_the_end_of_a_pod_that_no_cache_has_seen_is_read() -> None:
    """Its Job has failed: the watch of pods lags, and the pod holds the reason (D10)."""
    owner = job(RUNNING)
    cluster = world(
        (BACKUP_SESSION, RUNNING),
        (JOB, job(RUNNING, conditions=job_failed())),
        (POD, pod(running(), of=owner)),
    )
    cluster.server.put_object(POD, pod(terminated(1, "its report"), phase="Failed", of=owner))
    asked = requests(cluster)
    found = seen(cluster).executor.pod
    assert asked == ["list Pod"]
    assert found is not None
    assert found["status"]["phase"] == "Failed"
    cluster.deliver(POD)
    asked.clear()
    assert seen(cluster).executor.pod is not None
    assert asked == []


def test_an_ended_session_is_seen_without_a_request() -> None:
    """It needs nothing any more, also when its configuration is gone."""
    done = session(status={**running_status(), "phase": "Succeeded"})
    cluster = world((BACKUP_SESSION, done), without=BACKUP_CONFIGURATION)
    asked = requests(cluster)
    seen(cluster)
    assert asked == []


def test_a_job_is_gone_only_when_a_live_read_says_so() -> None:
    """The cache of Jobs may lag behind the session's own (D10)."""
    cluster = world((BACKUP_SESSION, RUNNING))
    cluster.server.put_object(JOB, job(RUNNING))
    assert seen(cluster).executor.job is not None
    cluster.server.remove(JOB, key_of(job(RUNNING)))
    assert seen(cluster).executor.job_gone


def test_a_pod_that_outlives_its_job_keeps_its_lock() -> None:
    """Only when no live pod has the session's host name is the lock nobody's (D8)."""
    cluster = world((BACKUP_SESSION, RUNNING))
    live = pod(running(), of=job(RUNNING))
    live["spec"]["hostname"] = pod_hostname("stash-backup-nightly-1-0", "uid-of-nightly-1")
    cluster.server.put_object(POD, live)
    found = seen(cluster).executor
    assert found == Executor(job_gone=True, survivor=found.survivor)
    assert name_of(found.survivor or {}) == name_of(live)
    ended = {**live, "status": {"phase": "Failed"}}
    cluster.server.put_object(POD, ended)
    found = seen(cluster).executor
    assert (found.job_gone, found.pods_gone) == (True, False)
    assert found.pod is not None
    stranger = {**live, "spec": {"hostname": "that-of-a-namesake-in-another-life"}}
    cluster.server.put_object(POD, stranger)
    assert seen(cluster).executor == Executor(job_gone=True, pods_gone=True)


def role(kind: Resource, owner: str = "uid-of-nightly-1") -> Obj:
    """Return the Role or the RoleBinding of the session's Job."""
    owners = [{"kind": "BackupSession", "name": "nightly-1", "uid": owner, "controller": True}]
    name = "stash-backup-nightly-1-0"
    metadata = {"name": name, "namespace": NAMESPACE, "uid": f"uid-of-{kind}"}
    return {"metadata": {**metadata, "ownerReferences": owners}}


def test_the_right_to_read_the_secret_is_seen_while_it_exists() -> None:
    """By its binding, which is cached; the Role is deleted first, so that none stays behind."""
    names = (NAMESPACE, "stash-backup-nightly-1-0")
    running_job: list[tuple[Resource, Obj]] = [(BACKUP_SESSION, RUNNING), (JOB, job(RUNNING))]
    binding = (ROLE_BINDING, role(ROLE_BINDING))
    both = (
        Ref(ROLE, *names, Uid("uid-of-Role")),
        Ref(ROLE_BINDING, *names, Uid(f"uid-of-{ROLE_BINDING}")),
    )
    for more, expected in (
        ([binding, (ROLE, role(ROLE))], both),
        ([binding], both[1:]),
        ([binding, (ROLE, role(ROLE, "somebody-else"))], both[1:]),
        ([(ROLE_BINDING, role(ROLE_BINDING, "somebody-else")), (ROLE, role(ROLE))], ()),
        ([(ROLE, role(ROLE))], ()),
    ):
        assert seen(world(*running_job, *more)).access == expected


def test_a_first_backup_looks_for_the_pods_of_all_users_of_its_repository() -> None:
    """Live, because a pod's cache may lag: of ended sessions too, and of those that are gone."""
    labels = {
        "stash.appscode.com/invoker-type": "BackupConfiguration",
        "stash.appscode.com/invoker-name": "weekly",
    }
    cluster = world(
        (REPOSITORY, repository(used=False)),
        (BACKUP_CONFIGURATION, configuration("weekly")),
        (BACKUP_SESSION, session()),
    )
    live = pod(running(), of=job(session("weekly-0", of="weekly")))
    live["metadata"]["labels"] = labels
    cluster.server.put_object(POD, live)
    assert [name_of(found) for found in seen(cluster).movers] == [name_of(live)]
    used = world((BACKUP_SESSION, session()))
    used.server.put_object(POD, live)
    assert seen(used).movers == ()


def test_a_namesake_of_another_session_is_not_its_job() -> None:
    """A Job that was created for a session of that name which is gone."""
    other = job({**RUNNING, "metadata": {**RUNNING["metadata"], "uid": "another"}})
    cluster = world((BACKUP_SESSION, RUNNING), (JOB, other))
    assert seen(cluster).executor.job_gone


def test_a_pod_is_gone_only_when_a_live_read_says_so() -> None:
    """A Job that ended has a pod, until the API server says that it has none."""
    owner = job(RUNNING, conditions=job_complete())
    cluster = world((BACKUP_SESSION, RUNNING), (JOB, owner))
    cluster.server.put_object(POD, pod(running(), of=owner))
    assert seen(cluster).executor.pod is not None
    cluster.server.remove(POD, key_of(pod(of=owner)))
    assert seen(cluster).executor.pods_gone


def test_a_pod_is_looked_for_live_before_its_job_is_ended() -> None:
    """A watch of pods that hangs must not kill a backup that runs."""
    owner = job(RUNNING, age_s=601)
    cluster = world((BACKUP_SESSION, RUNNING), (JOB, owner))
    cluster.server.put_object(POD, pod(running(), of=owner))
    assert seen(cluster).executor.pod is not None


def test_events_are_read_when_no_pod_appears() -> None:
    """Not in the first five seconds."""
    for age_s, words in ((1, ()), (6, ("exceeded quota",))):
        cluster = world((BACKUP_SESSION, RUNNING), (JOB, job(RUNNING, age_s=age_s)))
        cluster.server.quota_full = True
        assert seen(cluster).executor.words == words


@each_refusal
@pytest.mark.parametrize(
    ("owner", "refused"),
    [
        (None, JOB),
        (None, POD),
        (job(RUNNING, conditions=job_complete()), POD),
        (job(RUNNING, conditions=job_failed("BackoffLimitExceeded")), POD),
        (job(RUNNING, age_s=601), POD),
    ],
    ids=["job", "pods of no job", "complete", "failed", "late"],
)
def test_nothing_follows_from_what_cannot_be_read(
    owner: Obj | None, refused: Resource, error: KubeError
) -> None:
    """Not that a Job is gone, nor that it has no pod; and the session goes on waiting."""
    cluster = world((BACKUP_SESSION, RUNNING), *([(JOB, owner)] if owner else ()))
    server = Unreadable(cluster.server, error, refused)
    found = seen(cluster).executor
    assert server.count == 1
    assert found.unreadable == str(error)
    assert (found.job is None) is (owner is None)
    assert (found.job_gone, found.pods_gone, found.pod) == (False, False, None)
    plan = cluster.planned(Route(SESSION_LANE, KEY))
    assert plan is not None
    assert (plan.writes, plan.requeue_after_s) == ((), 10.0)
    assert str(error) in plan.facts["words"]
    server.error = None
    assert not seen(cluster).executor.unreadable


def test_events_that_cannot_be_read_leave_the_job_as_it_is() -> None:
    """An administrator took the right to list them: they only explain."""
    cluster = world((BACKUP_SESSION, RUNNING), (JOB, job(RUNNING, age_s=6)))
    Unreadable(cluster.server, REFUSALS[0], CORE_EVENT)
    found = seen(cluster).executor
    assert found.job is not None
    assert (found.words, found.unreadable) == ((), "")


def test_a_job_that_the_status_does_not_know_is_seen() -> None:
    """The controller ended between the two writes; the neighbours learn of it as well."""
    older, younger = session("nightly-0", age_s=9), session()
    cluster = world((BACKUP_SESSION, older), (BACKUP_SESSION, younger), (JOB, job(younger)))
    assert seen(cluster).executor.job is not None
    assert seen(cluster, Key(NAMESPACE, "nightly-0")).started == {"uid-of-nightly-1"}


def test_a_configuration_is_looked_for_live_before_it_is_missed() -> None:
    """The session may be in its cache before the configuration is in another (D10)."""
    cluster = world((BACKUP_SESSION, session()), without=BACKUP_CONFIGURATION)
    assert seen(cluster).configuration is None
    cluster.server.put_object(BACKUP_CONFIGURATION, configuration())
    assert seen(cluster).configuration is not None


@each_refusal
@pytest.mark.parametrize("is_held", [False, True])
def test_a_configuration_that_cannot_be_read_is_gone_for_a_session_that_is_held(
    error: KubeError, *, is_held: bool
) -> None:
    """Its cache has had it. Our definitions may be gone as well: an application does not wait."""
    raw = session(metadata={"finalizers": [POST_HOOK]} if is_held else {})
    cluster = world((BACKUP_SESSION, raw), without=BACKUP_CONFIGURATION)
    Unreadable(cluster.server, error, BACKUP_CONFIGURATION)
    if is_held:
        assert seen(cluster).configuration is None
    else:
        with pytest.raises(type(error)):
            seen(cluster)


@pytest.mark.parametrize("kind", [REPOSITORY, TASK, FUNCTION], ids=str)
def test_what_a_cache_misses_is_looked_for_live_before_it_is_missed(kind: Resource) -> None:
    """A session fails for good by it, and the caches of different kinds are not ordered (D10)."""
    complete = world()
    cluster = world((BACKUP_SESSION, session()), without=kind)
    for item in complete.server.all(kind):
        cluster.server.put_object(kind, item)
    found = seen(cluster).references
    assert found.repository is not None
    assert found.task is not None
    assert found.functions.keys() == {"pvc-backup"}
    lane = cluster.process.lanes[CONFIGURATION_LANE]
    assert lane.observe(Key(NAMESPACE, "nightly"), None).references.repository is not None


def test_the_repository_of_a_run_is_that_of_its_job() -> None:
    """Whatever its configuration says by now: another one, nothing that can be parsed, or none."""
    ours = [(BACKUP_SESSION, RUNNING), (JOB, job(RUNNING)), (REPOSITORY, repository("other"))]
    for spec in (configuration_spec(repository={"name": "other"}), {"target": "text"}):
        cluster = world(*ours, (BACKUP_CONFIGURATION, configuration(spec=spec)))
        found = seen(cluster)
        assert found.repository is not None
        assert found.repository is found.references.repository
        assert name_of(found.repository) == "repo"
    gone = seen(world(*ours, without=BACKUP_CONFIGURATION)).repository
    assert gone is not None
    assert name_of(gone) == "repo"


def test_a_namesake_of_the_repository_is_not_that_of_the_run() -> None:
    """It may be of another backend; a cache that misses it is not believed."""
    raw = repository()
    namesake = {**raw, "metadata": {**raw["metadata"], "uid": "uid-of-a-namesake"}}
    ours = [(BACKUP_SESSION, RUNNING), (JOB, job(RUNNING))]
    cluster = world(*ours, (REPOSITORY, namesake), without=REPOSITORY)
    assert (seen(cluster).repository, seen(cluster).references.repository) == (None, None)
    cluster = world(*ours, without=REPOSITORY)
    assert seen(cluster).repository is None
    cluster.server.put_object(REPOSITORY, raw)
    assert seen(cluster).repository is not None
    foreign = job(RUNNING)
    foreign["metadata"]["annotations"] = {}
    assert seen(world((BACKUP_SESSION, RUNNING), (JOB, foreign))).repository is None


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("spec", [None, {"target": "text"}], ids=["deleted", "garbled"])
def test_a_job_is_seen_whatever_became_of_its_configuration(
    spec: Obj | None,
    cached: bool,  # noqa: FBT001 - a parameter
) -> None:
    """Else its session would be Skipped, and the Job run on."""
    more = [(BACKUP_CONFIGURATION, configuration(spec=spec))] if spec else []
    more += [(JOB, job(session()))] if cached else []
    cluster = world((BACKUP_SESSION, session()), *more, without=BACKUP_CONFIGURATION)
    cluster.server.put_object(JOB, job(session()))
    assert seen(cluster).executor.job is not None


def test_siblings_rivals_and_neighbours() -> None:
    """By the spec's invoker, by the repository's URL, by the Repository: each without itself."""
    same = repository("copy", used=False)
    same["spec"] = repository(used=False)["spec"]
    elsewhere = repository("elsewhere", used=False)
    cluster = world(
        (REPOSITORY, repository(used=False)),
        (REPOSITORY, same),
        (REPOSITORY, elsewhere),
        *(
            (
                BACKUP_CONFIGURATION,
                configuration(of, spec=configuration_spec(repository={"name": repo})),
            )
            for of, repo in (("weekly", "copy"), ("other", "elsewhere"))
        ),
        *(
            (BACKUP_SESSION, session(f"{of}-{n}", of=of))
            for of in ("nightly", "weekly", "other")
            for n in (1, 2)
        ),
        (BACKUP_SESSION, session("weekly-3", of="weekly", status={"phase": "Failed"})),
    )
    found = seen(cluster)
    assert [name_of(o) for o in found.siblings] == ["nightly-2"]
    assert sorted(name_of(o) for o in found.rivals) == ["nightly-2", "weekly-1", "weekly-2"]
    assert [name_of(o) for o in found.neighbours] == ["weekly"]


def test_a_used_repository_has_no_rivals() -> None:
    """Only initialising is exclusive; nothing is computed for it later."""
    cluster = world((BACKUP_SESSION, session()), (BACKUP_SESSION, session("nightly-0")))
    assert seen(cluster).rivals == ()


ELSEWHERE = configuration_spec(repository={"name": "elsewhere"})
SNAPSHOTS = configuration_spec(driver="VolumeSnapshotter", task=None)
WEEKLY = session("weekly-1", of="weekly", status=running_status())


@pytest.mark.parametrize(
    "spec", [ELSEWHERE, SNAPSHOTS, {"target": "text"}, None], ids=lambda spec: str(spec)[:20]
)
def test_a_first_backup_waits_for_a_job_whatever_became_of_its_configuration(
    spec: Obj | None,
) -> None:
    """D2: what it began it may end, also where its configuration names something else by now."""
    more = [(BACKUP_CONFIGURATION, configuration("weekly", spec=spec))] if spec else []
    cluster = world(
        (REPOSITORY, repository(used=False)),
        (REPOSITORY, repository("elsewhere", used=False)),
        (BACKUP_SESSION, session()),
        (BACKUP_SESSION, WEEKLY),
        (JOB, job(WEEKLY)),
        *more,
    )
    assert seen(cluster).rivals == ()
    assert [key_of(mover) for mover in seen(cluster).movers] == [key_of(job(WEEKLY))]


def moved(made: Obj, namespace: str) -> dict[str, Any]:
    """Return a Job or a pod in another namespace."""
    return {**made, "metadata": {**made["metadata"], "namespace": namespace}}


@pytest.mark.parametrize("namespace", [NAMESPACE, "elsewhere"])
@pytest.mark.parametrize(
    ("url", "since", "waits"),
    [
        ("repo", None, True),
        ("repo", "moved-on", True),
        ("repo", "repo", True),
        ("other", None, False),
        ("other", "moved-on", False),
    ],
)
def test_a_first_backup_waits_for_what_was_begun_at_its_url(
    url: str, since: str | None, namespace: str, *, waits: bool
) -> None:
    """D2: also when the Repository of the other is gone, or is of another backend by now.

    For the Job, and for a pod that has outlived its Job.
    """

    def at(prefix: str) -> Obj:
        s3 = {"endpoint": "https://s3.example", "bucket": "backups", "prefix": prefix}
        return {"backend": {"storageSecretName": "s3-secret", "s3": s3}}

    spec = parse_spec(RepositorySpec, {"spec": at(url)})
    assert isinstance(spec, RepositorySpec)
    annotations = {
        "drey.dev/repository": "old",
        "drey.dev/repository-place": place_hash(spec, NAMESPACE),
    }
    weekly = moved(WEEKLY, namespace)
    begun, live = job(weekly), moved(pod(running(), of=job(weekly)), namespace)
    live["metadata"]["labels"] = {
        "stash.appscode.com/invoker-type": "BackupConfiguration",
        "stash.appscode.com/invoker-name": "weekly",
    }
    old = moved(repository("old", used=False, spec=at(since or "")), namespace)
    for resource, made in ((JOB, begun), (POD, live)):
        made["metadata"]["annotations"] = annotations
        cluster = world(
            (REPOSITORY, repository(used=False)),
            *([(REPOSITORY, old)] if since else []),
            (BACKUP_SESSION, session()),
            (BACKUP_SESSION, weekly),
            (resource, made),
        )
        expected = [key_of(made)] if waits else []
        assert [key_of(mover) for mover in seen(cluster).movers] == expected


def of_another_repository() -> Obj:
    """Return the Job of a backup that goes elsewhere."""
    made = job(WEEKLY)
    made["metadata"]["annotations"] = {"drey.dev/repository": "elsewhere"}
    return made


def of_an_unlock() -> Obj:
    """Return the Job that removes the lock of a session's pod."""
    made = job(WEEKLY)
    made["metadata"]["name"] = "stash-unlock-backup-weekly-1-0"
    return made


ENDED = {**WEEKLY, "status": {**running_status(), "phase": "Failed"}}
NAMESAKE = {**ENDED, "metadata": {**ENDED["metadata"], "uid": "uid-of-a-namesake"}}


@pytest.mark.parametrize(
    ("other", "made", "waits"),
    [
        (WEEKLY, job(WEEKLY), True),
        (WEEKLY, job(WEEKLY, conditions=[{"type": "FailureTarget", "status": "True"}]), True),
        (WEEKLY, job(WEEKLY, conditions=[{"type": "Failed", "status": "False"}]), True),
        (WEEKLY, job(WEEKLY, conditions=job_complete()), False),
        (WEEKLY, job(WEEKLY, conditions=job_failed()), False),
        (WEEKLY, of_another_repository(), False),
        (WEEKLY, of_an_unlock(), False),
        (WEEKLY, job(restore()), False),
        (WEEKLY, job(session()), False),
        (ENDED, job(WEEKLY), False),
        (NAMESAKE, job(WEEKLY), True),
        (None, job(WEEKLY), True),
    ],
)
def test_which_jobs_a_first_backup_waits_for(other: Obj | None, made: Obj, *, waits: bool) -> None:
    """Those of other backups to its Repository that may have a pod yet.

    One whose session was deleted is waited for too, until the garbage collector has come by.
    """
    cluster = world(
        (REPOSITORY, repository(used=False)),
        (BACKUP_SESSION, session()),
        *([(BACKUP_SESSION, other)] if other else []),
        (JOB, made),
    )
    assert seen(cluster).movers == ((project_job(cluster.server.all(JOB)[0]),) if waits else ())


def test_who_saves_by_volume_snapshots_uses_no_repository() -> None:
    """It initialises none, and is not among its references; what it saved before stays its own."""
    cluster = world(
        (REPOSITORY, repository(used=False)),
        (BACKUP_CONFIGURATION, configuration("weekly", spec=SNAPSHOTS)),
        (RESTORE_SESSION, restore(spec=restore_spec(driver="VolumeSnapshotter"))),
        (BACKUP_SESSION, session()),
        (BACKUP_SESSION, WEEKLY),
    )
    assert seen(cluster).rivals == ()
    assert [name_of(o) for o in seen(cluster).neighbours] == ["weekly"]
    found = cluster.process.lanes[REPOSITORY_LANE].observe(Key(NAMESPACE, "repo"), None)
    assert [name_of(o) for o in found.invokers] == ["nightly"]


@pytest.mark.parametrize(
    ("mine", "other", "shared"),
    [
        # two objects for one share, wherever each mounts it
        ({"nfs": {"server": "n", "path": "/x"}}, {"nfs": {"server": "n", "path": "/x/"}}, True),
        (
            {"nfs": {"server": "n", "path": "/x"}},
            {"nfs": {"server": "n", "path": "/"}, "subPath": "x", "mountPath": "/elsewhere"},
            True,
        ),
        ({"hostPath": {"path": "/x"}}, {"hostPath": {"path": "/x"}}, True),
        # two volumes at one mount path
        ({"nfs": {"server": "n", "path": "/x"}}, {"nfs": {"server": "n", "path": "/y"}}, False),
        ({"hostPath": {"path": "/x"}}, {"hostPath": {"path": "/x"}, "subPath": "a"}, False),
        # a claim is its namespace's
        (
            {"persistentVolumeClaim": {"claimName": "c"}},
            {"persistentVolumeClaim": {"claimName": "c"}},
            False,
        ),
    ],
    ids=str,
)
def test_a_local_place_is_its_volume(mine: Obj, other: Obj, *, shared: bool) -> None:
    """D1, D2: Repositories of two namespaces may name one repository on one volume.

    Their first backups take turns, and none claims snapshots without a tag.
    """

    def at(local: Obj) -> Obj:
        return {"backend": {"storageSecretName": "s", "local": {"mountPath": "/backup", **local}}}

    weekly = moved(session("weekly-1", of="weekly"), "elsewhere")
    second = configuration_spec(repository={"name": "second"})
    cluster = world(
        (REPOSITORY, repository(used=False, spec=at(mine))),
        (REPOSITORY, moved(repository("second", used=False, spec=at(other)), "elsewhere")),
        (BACKUP_CONFIGURATION, moved(configuration("weekly", spec=second), "elsewhere")),
        (BACKUP_SESSION, session()),
        (BACKUP_SESSION, weekly),
    )
    found = seen(cluster)
    assert [name_of(o) for o in found.rivals] == (["weekly-1"] if shared else [])
    assert [name_of(o) for o in found.neighbours] == (["weekly"] if shared else [])
    assert [key_of(o).namespace for o in found.rivals] == (["elsewhere"] if shared else [])


def test_what_is_gone_is_not_observed() -> None:
    """None tells the loop to forget the key."""
    cluster = world()
    for lane in cluster.process.lanes.values():
        assert lane.observe(Key(NAMESPACE, "nothing"), None) is None


def test_a_restore_that_runs_is_seen_without_a_request() -> None:
    """As a backup is."""
    conditions = [
        {"type": "RestoreExecutorEnsured", "status": "True", "lastTransitionTime": before(0)}
    ]
    raw = restore(status={"phase": "Running", "conditions": conditions})
    owner = job(raw)
    cluster = world((RESTORE_SESSION, raw), (JOB, owner), (POD, pod(running(), of=owner)))
    asked = requests(cluster)
    found = cluster.process.lanes[RESTORE_LANE].observe(Key(NAMESPACE, "bring-back"), None)
    assert found.executor.pod is not None
    assert asked == []


def test_a_restore_that_runs_is_seen_with_what_its_lock_is_removed_with() -> None:
    """Repository, Task and Functions, from the caches."""
    conditions = [
        {"type": "RestoreExecutorEnsured", "status": "True", "lastTransitionTime": before(0)}
    ]
    raw = restore(status={"phase": "Running", "conditions": conditions})
    cluster = world((RESTORE_SESSION, raw), (JOB, job(raw)))
    found = cluster.process.lanes[RESTORE_LANE].observe(Key(NAMESPACE, "bring-back"), None)
    assert found.references.repository is not None
    assert found.references.functions.keys() == {"pvc-restore"}


def deliver(cluster: ToyCluster) -> list[Route]:
    """Return what is due after all events that nobody has heard of yet."""
    cluster.process.due.clear()
    for resource in CACHED:
        cluster.deliver(resource)
    return cluster.due()


def test_the_end_of_a_session_or_pod_wakes_those_that_wait_everywhere() -> None:
    """One repository may have users in several namespaces; the timer is only the last resort."""
    elsewhere = session("far-1", of="far", metadata={"namespace": "elsewhere"})
    mover = pod(running(), of=job(RUNNING))
    cluster = world((BACKUP_SESSION, RUNNING), (BACKUP_SESSION, elsewhere), (POD, mover))
    far = Route(SESSION_LANE, Key("elsewhere", "far-1"))
    failed = {**RUNNING, "status": {**running_status(), "phase": "Failed"}}
    cluster.server.put_object(BACKUP_SESSION, failed)
    assert far in deliver(cluster)
    cluster.server.put_object(POD, {**mover, "status": {"phase": "Failed"}})
    assert far in deliver(cluster)
    trigger = {**mover, "metadata": {**mover["metadata"], "name": "t", "uid": "t"}, "spec": {}}
    cluster.server.put_object(POD, trigger)
    cluster.server.put_object(POD, {**trigger, "status": {"phase": "Succeeded"}})
    assert far not in deliver(cluster)


def test_a_pod_wakes_its_session() -> None:
    """The only thing that happens while a backup runs is the end of its pod."""
    owner = job(RUNNING)
    cluster = world((BACKUP_SESSION, RUNNING), (JOB, owner))
    cluster.process.due.clear()
    cluster.server.put_object(POD, pod(running(), of=owner))
    for resource in CACHED:
        cluster.deliver(resource)
    assert cluster.due() == [Route(SESSION_LANE, KEY)]


def test_a_cron_job_wakes_its_configuration_when_it_does_something_else() -> None:
    """Its status, which changes at every slot, wakes nobody; a change by hand is put right."""
    cluster = world()
    assert cluster.settle(cluster.remove_pod)
    (made,) = cluster.server.all(CRON_JOB)
    fired = {**made, "status": {"lastScheduleTime": before(1)}}
    cluster.server.put_object(CRON_JOB, fired)
    assert deliver(cluster) == []
    by_hand = {**fired, "spec": {**fired["spec"], "suspend": True}}
    cluster.server.put_object(CRON_JOB, by_hand)
    assert deliver(cluster) == [Route(CONFIGURATION_LANE, Key(NAMESPACE, "nightly"))]
    assert cluster.settle(cluster.remove_pod)
    (found,) = cluster.server.all(CRON_JOB)
    assert found["spec"]["suspend"] is False
