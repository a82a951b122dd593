"""controller.engine.executor: each verb's preconditions and verdicts (scripted API server)."""

from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controller.api.objects import Obj, Uid, annotations_of, finalizers_of
from controller.api.resources import BACKUP_SESSION, JOB, ROLE, Resource
from controller.engine.executor import FORMER_NAMESAKE, Execution, Executor
from controller.engine.metrics import Metrics
from controller.kube.errors import Conflict, Forbidden, Invalid, ServerFault, Unreachable
from controller.plan import (
    FOREIGN_NAMESAKE,
    Apply,
    CreateOnce,
    Delete,
    Finalizer,
    Plan,
    Ref,
    SetStatus,
    Write,
)
from tests.support.kube import FakeKube

OURS = {"drey.dev/created-by": "drey"}


def child(name: str, owner: str = "owner", labels: dict[str, str] | None = None) -> Obj:
    """Return a child as a plan has it."""
    metadata: dict[str, Any] = {"namespace": "ns", "name": name, "labels": labels or OURS}
    if owner:
        metadata["ownerReferences"] = [{"controller": True, "uid": owner}]
    return {"metadata": metadata}


def run(kube: FakeKube, *writes: Write) -> Execution:
    """Execute a plan of these writes."""
    return Executor(kube).execute(Plan(writes))


def ref(kube: FakeKube, resource: Resource, name: str = "a") -> Ref:
    """Return the reference to a stored object."""
    return Ref.to(resource, kube.objects[resource.kind, "ns", name])


def test_writes_go_left_to_right_and_stop_at_the_first_failure() -> None:
    """What is behind a failure is not tried, what is before it counts."""
    kube = FakeKube()
    kube.fail("apply", ServerFault("boom"))
    done = run(
        kube,
        CreateOnce(JOB, child("a")),
        Apply(ROLE, child("b", owner="")),
        CreateOnce(JOB, child("c")),
    )
    assert kube.calls == [("create", "Job"), ("apply", "Role")]
    assert isinstance(done.error, ServerFault)
    assert done.refusal is None
    assert done.writes == 2
    assert [key.name for _, key in done.versions] == ["a"]


def test_writes_are_counted() -> None:
    """`drey_api_writes_total` has verb and kind; reads are none."""
    kube, metrics = FakeKube(), Metrics(CollectorRegistry())
    Executor(kube, metrics=metrics).execute(Plan((Apply(ROLE, child("a")),)))
    labels = {"verb": "apply", "kind": "Role"}
    assert metrics.registry.get_sample_value("drey_api_writes_total", labels) == 1
    assert kube.calls == [("get", "Role"), ("apply", "Role")]


def test_nothing_is_written_once_the_lease_may_be_lost() -> None:
    """The fence is asked before each write."""
    kube, answers = FakeKube(), [True, False]
    executor = Executor(kube, may_write=lambda: answers.pop(0))
    done = executor.execute(Plan((CreateOnce(JOB, child("a")), CreateOnce(JOB, child("b")))))
    assert isinstance(done.error, Unreachable)
    assert kube.calls == [("create", "Job")]


def test_create_once_twice_is_success() -> None:
    """A stale view creates again what is there: ours, so all is well."""
    kube = FakeKube()
    assert run(kube, CreateOnce(JOB, child("a"))) == Execution(1, {(JOB, ("ns", "a")): "2"})  # type: ignore[dict-item]  # a Key equals its tuple
    again = run(kube, CreateOnce(JOB, child("a")))
    assert (again.refusal, again.error) == (None, None)


@pytest.mark.parametrize(
    "namesake",
    [child("a", owner="other"), child("a", owner=""), child("a", labels={"x": "y"})],
    ids=["another owner", "no owner", "our owner, not our label"],
)
def test_create_once_refuses_a_foreign_namesake(namesake: Obj) -> None:
    """Ours means our label and our owner's uid (D21)."""
    kube = FakeKube()
    kube.put_object(JOB, namesake)
    write = CreateOnce(JOB, child("a"))
    done = run(kube, write)
    assert done.refusal is not None
    assert (done.refusal.write, done.refusal.reason) == (write, FOREIGN_NAMESAKE)
    assert "Job ns/a exists" in done.refusal.message


def test_create_once_of_something_that_vanishes_is_stale() -> None:
    """Exists for the POST, gone for the GET: look again."""
    kube = FakeKube()
    kube.put_object(JOB, child("a"))
    original = kube.get

    def get(*args: Any, **kwargs: Any) -> Obj:
        kube.objects.clear()
        return original(*args, **kwargs)

    kube.get = get  # type: ignore[method-assign]  # the race
    assert isinstance(run(kube, CreateOnce(JOB, child("a"))).error, Conflict)


def owned(name: str, uid: str, owner_name: str = "session") -> Obj:
    """Return a child with a whole reference to its owner."""
    reference = {
        "apiVersion": "stash.appscode.com/v1beta1",
        "kind": "RestoreSession",
        "name": owner_name,
        "uid": uid,
        "controller": True,
    }
    metadata = {"namespace": "ns", "name": name, "labels": OURS, "ownerReferences": [reference]}
    return {"metadata": metadata}


@pytest.mark.parametrize(
    "write", [CreateOnce(JOB, owned("a", "new")), Apply(JOB, owned("a", "new"))]
)
def test_what_an_owner_of_this_name_left_behind_is_waited_for(write: Write) -> None:
    """Deleted and made again at once: the garbage collector is not through yet."""
    kube = FakeKube()
    kube.put_object(JOB, owned("a", "old"))
    left = run(kube, write).refusal
    assert left is not None
    assert left.reason == FORMER_NAMESAKE
    assert "Job ns/a was made for a namesake" in left.message
    kube.put_object(JOB, owned("a", "old", owner_name="another"))
    foreign = run(kube, write).refusal
    assert foreign is not None
    assert foreign.reason == FOREIGN_NAMESAKE


@pytest.mark.parametrize("owner", ["other", ""])
def test_apply_refuses_a_foreign_namesake(owner: str) -> None:
    """A forced apply would take it over: it is looked at first (D20)."""
    kube = FakeKube()
    kube.put_object(ROLE, child("a", owner=owner))
    done = run(kube, Apply(ROLE, child("a")))
    assert done.refusal is not None
    assert done.refusal.reason == FOREIGN_NAMESAKE
    assert kube.calls == [("get", "Role")]
    assert done.writes == 0


def test_apply_of_an_existing_child_carries_its_uid() -> None:
    """Replaced between the look and the write: a 409, no takeover."""
    kube = FakeKube()
    live = kube.put_object(ROLE, child("a"))
    assert run(kube, Apply(ROLE, child("a"))).error is None
    assert kube.bodies[-1]["metadata"]["uid"] == live["metadata"]["uid"]


@pytest.mark.parametrize("touched", [False, True], ids=["as read", "changed since"])
def test_apply_with_a_version_is_of_what_was_read(*, touched: bool) -> None:
    """But for what the same plan wrote before; a change of somebody else is a 409."""
    kube = FakeKube()
    live = kube.put_object(BACKUP_SESSION, {"metadata": {"namespace": "ns", "name": "a"}})
    ref = Ref.to(BACKUP_SESSION, live)
    metadata = {**live["metadata"], "annotations": {"a": "b"}}
    annotate = Apply(BACKUP_SESSION, {"metadata": metadata})
    if touched:
        kube.put_object(BACKUP_SESSION, live)
        assert isinstance(run(kube, annotate).error, Conflict)
        return
    assert run(kube, SetStatus(ref, {"phase": "Running"}), annotate).error is None
    assert isinstance(run(kube, annotate).error, Conflict)


def test_apply_with_a_uid_creates_no_husk() -> None:
    """Annotating an object that is gone is stale, not a creation."""
    body = {"metadata": {"namespace": "ns", "name": "a", "uid": "gone", "annotations": {"a": "b"}}}
    kube = FakeKube()
    assert isinstance(run(kube, Apply(BACKUP_SESSION, body)).error, Conflict)
    assert kube.objects == {}


def test_status_is_put_with_identity_alone() -> None:
    """Uid and resourceVersion are preconditions; the spec stays at home."""
    kube = FakeKube()
    kube.put_object(BACKUP_SESSION, {**child("a"), "spec": {"x": 1}})
    before = ref(kube, BACKUP_SESSION)
    done = run(kube, SetStatus(before, {"phase": "Running"}))
    assert done.error is None
    assert set(kube.bodies[-1]) == {"metadata", "status"}
    assert set(kube.bodies[-1]["metadata"]) == {"namespace", "name", "uid", "resourceVersion"}
    assert isinstance(run(kube, SetStatus(before, {})).error, Conflict)


def test_status_of_a_gone_object_is_stale() -> None:
    """Its deletion is on the way to us."""
    done = run(FakeKube(), SetStatus(Ref(JOB, "ns", "a", Uid("u"), "1"), {}))
    assert isinstance(done.error, Conflict)


def test_status_without_preconditions_is_a_bug() -> None:
    """D12: a planner that forgets them must not get through."""
    with pytest.raises(ValueError, match="without uid and resourceVersion"):
        run(FakeKube(), SetStatus(Ref(JOB, "ns", "a"), {}))


@pytest.mark.parametrize("others", [[], ["x"], ["x", "y"]])
def test_a_finalizer_comes_and_goes_alone(others: list[str]) -> None:
    """Other people's finalizers stay where they are."""
    kube = FakeKube()
    body = child("a")
    kube.put_object(
        BACKUP_SESSION, {**body, "metadata": {**body["metadata"], "finalizers": others}}
    )
    run(kube, Finalizer(ref(kube, BACKUP_SESSION), "ours", present=True))
    assert finalizers_of(kube.objects["BackupSession", "ns", "a"]) == [*others, "ours"]
    assert run(kube, Finalizer(ref(kube, BACKUP_SESSION), "ours", present=True)).writes == 0
    run(kube, Finalizer(ref(kube, BACKUP_SESSION), "ours", present=False))
    assert list(finalizers_of(kube.objects["BackupSession", "ns", "a"])) == others
    assert run(kube, Finalizer(ref(kube, BACKUP_SESSION), "ours", present=False)).writes == 0


@pytest.mark.parametrize("others", [None, {}, {"mine": "yes"}])
def test_annotations_come_and_go_with_a_finalizer(others: dict[str, str] | None) -> None:
    """In one request; other people's stay, and what is there already costs none."""
    kube = FakeKube()
    body = child("a")
    metadata = {**body["metadata"], **({} if others is None else {"annotations": others})}
    kube.put_object(BACKUP_SESSION, {**body, "metadata": metadata})

    def write(*, present: bool, **changes: str) -> int:
        told = {"drey.dev/a": "1", "drey.dev/b~": "2", **changes}
        write = Finalizer(ref(kube, BACKUP_SESSION), "ours", present=present, annotations=told)
        return run(kube, write).writes

    def found() -> tuple[Any, Any]:
        live = kube.objects["BackupSession", "ns", "a"]
        return list(finalizers_of(live)), annotations_of(live)

    first = {"drey.dev/a": "1", "drey.dev/b~": "2"}
    assert (write(present=True), found()) == (1, (["ours"], {**(others or {}), **first}))
    assert write(present=True) == 0
    assert write(present=True, **{"drey.dev/a": "3"}) == 1
    assert found()[1]["drey.dev/a"] == "3"
    assert (write(present=False), found()) == (1, ([], others or {}))
    assert write(present=False) == 0


def test_a_finalizer_on_a_changed_object_is_stale() -> None:
    """The decision was made on another state, whether that shows before or during the patch."""
    kube = FakeKube()
    kube.put_object(BACKUP_SESSION, child("a"))
    old = ref(kube, BACKUP_SESSION)
    kube.put_object(BACKUP_SESSION, child("a"))
    assert isinstance(run(kube, Finalizer(old, "ours", present=True)).error, Conflict)
    kube.fail("patch", Invalid("the server rejected our request due to an error in our request"))
    now = ref(kube, BACKUP_SESSION)
    assert isinstance(run(kube, Finalizer(now, "ours", present=True)).error, Conflict)


def test_no_finalizer_is_added_to_what_is_being_deleted() -> None:
    """The API server would refuse it: the next turn sees the deletionTimestamp."""
    kube = FakeKube()
    body = child("a")
    dying = {**body["metadata"], "deletionTimestamp": "2026-11-22T04:00:00Z"}
    kube.put_object(BACKUP_SESSION, {**body, "metadata": dying})
    done = run(kube, Finalizer(ref(kube, BACKUP_SESSION), "ours", present=True))
    assert isinstance(done.error, Conflict)
    assert done.writes == 0


def test_a_finalizer_of_a_gone_object_is_gone() -> None:
    """Removing is done; adding is stale; a namesake's is not touched."""
    kube = FakeKube()
    gone = Ref(JOB, "ns", "a", Uid("u"), "1")
    assert run(kube, Finalizer(gone, "ours", present=False)) == Execution()
    assert isinstance(run(kube, Finalizer(gone, "ours", present=True)).error, Conflict)
    kube.put_object(JOB, child("a"))
    assert run(kube, Finalizer(gone, "ours", present=False)) == Execution()


def test_delete_is_bound_to_the_uid() -> None:
    """Gone is success, and so is a successor of the same name, which stays."""
    kube = FakeKube()
    kube.put_object(JOB, child("a"))
    old = ref(kube, JOB)
    assert run(kube, Delete(replace(old, uid=Uid("older")))).error is None
    assert kube.objects
    assert run(kube, Delete(old)).error is None
    assert not kube.objects
    assert run(kube, Delete(old)).error is None


@pytest.mark.parametrize("error", [Forbidden("no rights"), Invalid("spec.x: no")])
def test_what_the_server_refuses_is_told_with_its_words(error: Any) -> None:
    """The next plan makes a condition of it."""
    kube = FakeKube()
    kube.fail("create", error)
    done = run(kube, CreateOnce(JOB, child("a")))
    assert done.refusal is not None
    assert (done.refusal.reason, done.refusal.message) == (error.reason, error.message)
    assert done.error is None
