"""Executor, Events and election against a real API server."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from controller.api.objects import (
    Key,
    Obj,
    Uid,
    annotations_of,
    dig,
    finalizers_of,
    meta,
    name_of,
    status,
    uid_of,
)
from controller.api.resources import (
    BACKUP_SESSION,
    EVENT,
    JOB,
    LEASE,
    NAMESPACE,
    ROLE,
    Resource,
)
from controller.engine.clock import SystemClock
from controller.engine.events import Recorder
from controller.engine.executor import FORMER_NAMESAKE, Execution, Executor
from controller.kube.client import Client, find
from controller.kube.errors import Conflict
from controller.plan import (
    FOREIGN_NAMESAKE,
    Apply,
    CreateOnce,
    Delete,
    Finalizer,
    Note,
    Plan,
    Ref,
    SetStatus,
    Write,
)
from tests.support.apiserver import ApiServer
from tests.support.clients import patient_client

LABELS = {"drey.dev/created-by": "drey"}
NOBODY = "00000000-0000-0000-0000-000000000000"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def client(crds: ApiServer) -> Client:
    """Return a client with a pool of its own."""
    return patient_client(crds.kubeconfig, pool_size=4)


@pytest.fixture
def namespace(client: Client) -> str:
    """Create a namespace of the test's own."""
    name = f"writes-{uuid4().hex[:8]}"
    client.create(NAMESPACE, "", {"metadata": {"name": name}})
    return name


@pytest.fixture
def session(client: Client, namespace: str) -> Obj:
    """Create a BackupSession, the owner of what follows."""
    body = {
        "apiVersion": BACKUP_SESSION.api_version,
        "kind": BACKUP_SESSION.kind,
        "metadata": {"name": "s", "labels": {"keep": "me"}},
        "spec": {"invoker": {"kind": "BackupConfiguration", "name": "bc"}},
    }
    return client.create(BACKUP_SESSION, namespace, body)


def owned(owner: Obj, name: str, **rest: Any) -> dict[str, Any]:
    """Return a child of the session."""
    reference = {
        "apiVersion": BACKUP_SESSION.api_version,
        "kind": BACKUP_SESSION.kind,
        "name": name_of(owner),
        "uid": uid_of(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }
    metadata = {
        "namespace": meta(owner)["namespace"],
        "name": name,
        "labels": LABELS,
        "ownerReferences": [reference],
    }
    return {"metadata": metadata, **rest}


def job(owner: Obj, name: str) -> dict[str, Any]:
    """Return a Job of the session."""
    container = {"name": "c", "image": "x"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    return owned(owner, name, spec={"template": template})


def run(client: Client, *writes: Write) -> Execution:
    """Execute a plan of these writes."""
    return Executor(client).execute(Plan(writes))


def read(client: Client, resource: Resource, obj: Obj) -> Obj:
    """Read an object again."""
    return client.get(resource, meta(obj)["namespace"], name_of(obj))


def test_create_once_twice_leaves_one(client: Client, session: Obj) -> None:
    """Acting twice on a stale view is harmless."""
    write = CreateOnce(JOB, job(session, "j"))
    first = run(client, write)
    second = run(client, write)
    assert (first.refusal, first.error, first.writes) == (None, None, 1)
    assert (second.refusal, second.error) == (None, None)
    assert len(first.versions) == 1


def test_create_once_leaves_a_foreign_job_alone(client: Client, session: Obj) -> None:
    """A namesake of somebody else is a refusal that names it."""
    foreign = job(session, "j")
    del foreign["metadata"]["ownerReferences"]
    client.create(JOB, meta(session)["namespace"], foreign)
    done = run(client, CreateOnce(JOB, job(session, "j")))
    assert done.refusal is not None
    assert done.refusal.reason == FOREIGN_NAMESAKE
    assert f"Job {meta(session)['namespace']}/j" in done.refusal.message


def test_an_invalid_job_is_refused_with_the_servers_words(client: Client, session: Obj) -> None:
    """The message names the field: it becomes the condition's text."""
    body = job(session, "j")
    body["spec"]["template"]["spec"]["restartPolicy"] = "Always"
    done = run(client, CreateOnce(JOB, body))
    assert done.refusal is not None
    assert done.refusal.reason == "Invalid"
    assert "spec.template.spec.restartPolicy" in done.refusal.message


def test_apply_sends_the_whole_intent(client: Client, session: Obj) -> None:
    """What the intent no longer has disappears; the same again changes nothing."""
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    body = owned(session, "r", rules=[rule])
    body["metadata"]["annotations"] = {"a": "b"}
    assert run(client, Apply(ROLE, body)).error is None
    before = read(client, ROLE, body)
    assert run(client, Apply(ROLE, body)).error is None
    assert read(client, ROLE, body)["metadata"] == before["metadata"]
    assert run(client, Apply(ROLE, owned(session, "r", rules=[]))).error is None
    after = read(client, ROLE, body)
    assert (after.get("rules"), annotations_of(after)) in (([], {}), (None, {}))


def test_apply_leaves_a_foreign_role_alone(client: Client, session: Obj) -> None:
    """A forced apply would take it over."""
    foreign = owned(session, "r", rules=[])
    foreign["metadata"]["ownerReferences"][0] |= {"name": "another", "uid": NOBODY}
    created = client.create(ROLE, meta(session)["namespace"], foreign)
    done = run(client, Apply(ROLE, owned(session, "r", rules=[])))
    assert done.refusal is not None
    assert done.refusal.reason == FOREIGN_NAMESAKE
    assert read(client, ROLE, created) == created


def test_apply_leaves_alone_what_a_namesake_of_the_owner_left(client: Client, session: Obj) -> None:
    """The garbage collector takes it: until then it is not ours, and has a reason of its own."""
    left = owned(session, "r", rules=[])
    left["metadata"]["ownerReferences"][0]["uid"] = NOBODY
    created = client.create(ROLE, meta(session)["namespace"], left)
    done = run(client, Apply(ROLE, owned(session, "r", rules=[])))
    assert done.refusal is not None
    assert done.refusal.reason == FORMER_NAMESAKE
    assert read(client, ROLE, created) == created


def test_annotating_what_is_gone_leaves_no_husk(client: Client, session: Obj) -> None:
    """With its uid, the apply to a deleted object is a 409."""
    namespace = meta(session)["namespace"]
    client.delete(BACKUP_SESSION, namespace, "s")
    metadata = {
        "namespace": namespace,
        "name": "s",
        "uid": uid_of(session),
        "annotations": {"drey.dev/x": "y"},
    }
    done = run(client, Apply(BACKUP_SESSION, {"metadata": metadata}))
    assert isinstance(done.error, Conflict)
    assert find(client, BACKUP_SESSION, namespace, "s") is None


def test_annotating_somebody_elses_object_touches_nothing_else(
    client: Client, session: Obj
) -> None:
    """Labels, spec and status stay."""
    metadata = {
        "namespace": meta(session)["namespace"],
        "name": "s",
        "uid": uid_of(session),
        "annotations": {"drey.dev/x": "y"},
    }
    assert run(client, Apply(BACKUP_SESSION, {"metadata": metadata})).error is None
    after = read(client, BACKUP_SESSION, session)
    assert annotations_of(after) == {"drey.dev/x": "y"}
    assert (after["spec"], meta(after)["labels"]) == (session["spec"], {"keep": "me"})


def test_annotating_what_has_changed_since_it_was_read_is_stale(
    client: Client, session: Obj
) -> None:
    """The resourceVersion of an apply is a precondition; the plan's own status moves it on."""

    def annotate(seen: Obj, value: str) -> Apply:
        kept = {key: meta(seen)[key] for key in ("namespace", "name", "uid", "resourceVersion")}
        return Apply(BACKUP_SESSION, {"metadata": {**kept, "annotations": {"drey.dev/x": value}}})

    first = SetStatus(Ref.to(BACKUP_SESSION, session), {"phase": "Running"})
    assert run(client, first, annotate(session, "mine")).error is None
    current = read(client, BACKUP_SESSION, session)
    assert annotations_of(current) == {"drey.dev/x": "mine"}
    assert isinstance(run(client, annotate(session, "stale")).error, Conflict)
    assert annotations_of(read(client, BACKUP_SESSION, session)) == {"drey.dev/x": "mine"}
    assert run(client, annotate(current, "seen")).error is None
    client.merge_patch(
        BACKUP_SESSION, meta(session)["namespace"], "s", {"metadata": {"labels": {"a": "b"}}}
    )
    between = run(
        client,
        SetStatus(Ref.to(BACKUP_SESSION, current), {"phase": "Failed"}),
        annotate(current, ""),
    )
    assert isinstance(between.error, Conflict)
    assert annotations_of(read(client, BACKUP_SESSION, session)) == {"drey.dev/x": "seen"}


def test_status_replaces_the_whole_and_only_the_status(client: Client, session: Obj) -> None:
    """PUT /status: old keys go, labels and spec stay, a stale view is a 409."""
    first = run(
        client,
        SetStatus(Ref.to(BACKUP_SESSION, session), {"phase": "Running", "sessionDuration": "1s"}),
    )
    assert first.error is None
    current = read(client, BACKUP_SESSION, session)
    key = Key(meta(session)["namespace"], "s")
    assert first.versions[BACKUP_SESSION, key] == meta(current)["resourceVersion"]
    failed = {"phase": "Failed"}
    stale = run(client, SetStatus(Ref.to(BACKUP_SESSION, session), failed))
    assert isinstance(stale.error, Conflict)
    assert run(client, SetStatus(Ref.to(BACKUP_SESSION, current), failed)).error is None
    after = read(client, BACKUP_SESSION, session)
    assert status(after) == {"phase": "Failed"}
    assert (after["spec"], meta(after)["labels"]) == (session["spec"], {"keep": "me"})


def test_an_invalid_status_is_refused(client: Client, session: Obj) -> None:
    """A phase that the schema does not know: the words come back."""
    done = run(client, SetStatus(Ref.to(BACKUP_SESSION, session), {"phase": 3}))
    assert done.refusal is not None
    assert "status.phase" in done.refusal.message


def test_finalizers_come_and_go_alone(client: Client, session: Obj) -> None:
    """With a foreign one beside it, and bound to the state that was seen."""
    namespace = meta(session)["namespace"]
    client.merge_patch(BACKUP_SESSION, namespace, "s", {"metadata": {"finalizers": ["other.io/x"]}})
    stale = Ref.to(BACKUP_SESSION, session)
    assert isinstance(run(client, Finalizer(stale, "drey.dev/x", present=True)).error, Conflict)
    told = {"drey.dev/x": '{"a": 1}', "drey.dev/y": "2"}
    for annotations in (told, {**told, "drey.dev/y": "3"}):
        seen = Ref.to(BACKUP_SESSION, read(client, BACKUP_SESSION, session))
        add = Finalizer(seen, "drey.dev/x", present=True, annotations=annotations)
        assert run(client, add).error is None
        assert annotations_of(read(client, BACKUP_SESSION, session)) == annotations
    client.delete(BACKUP_SESSION, namespace, "s")
    dying = read(client, BACKUP_SESSION, session)
    assert finalizers_of(dying) == ["other.io/x", "drey.dev/x"]
    seen = Ref.to(BACKUP_SESSION, dying)
    late = run(client, Finalizer(seen, "drey.dev/late", present=True))
    assert isinstance(late.error, Conflict)
    gone = Finalizer(seen, "drey.dev/x", present=False, annotations=told)
    assert run(client, gone).error is None
    assert annotations_of(read(client, BACKUP_SESSION, session)) == {}
    assert finalizers_of(read(client, BACKUP_SESSION, session)) == ["other.io/x"]
    client.merge_patch(BACKUP_SESSION, namespace, "s", {"metadata": {"finalizers": None}})
    assert find(client, BACKUP_SESSION, namespace, "s") is None


def test_delete_spares_a_successor(client: Client, session: Obj) -> None:
    """The uid decides; what is gone is gone."""
    run(client, CreateOnce(JOB, job(session, "j")))
    live = read(client, JOB, job(session, "j"))
    ref = Ref.to(JOB, live)
    older = Ref(JOB, ref.namespace, "j", Uid("00000000-0000-0000-0000-000000000000"))
    assert run(client, Delete(older)) == Execution(writes=1)
    assert read(client, JOB, live) == live
    assert run(client, Delete(ref)) == Execution(writes=1)
    assert find(client, JOB, ref.namespace, "j") is None
    assert run(client, Delete(ref)) == Execution(writes=1)


def test_a_vanished_namespace_is_a_refusal(client: Client, session: Obj) -> None:
    """A Job for nowhere: the API server's words, and no endless retry at full speed."""
    body = job(session, "j")
    body["metadata"]["namespace"] = "absent"
    done = run(client, CreateOnce(JOB, body))
    assert done.refusal is not None
    assert (done.refusal.reason, "absent" in done.refusal.message) == ("NotFound", True)


def test_events_are_accepted_and_shown(crds: ApiServer, client: Client, session: Obj) -> None:
    """Stash's reasons with spaces; a repeated one is counted; kubectl describe shows it."""
    recorder = Recorder(client, SystemClock(), instance="drey-0")
    thread = threading.Thread(target=recorder.run)
    thread.start()
    note = Note(
        Ref.to(BACKUP_SESSION, session),
        "Warning",
        "Host Backup Failed",
        'backup failed for host "host-0". Reason: ' + "ä" * 2000,
        "Status Updater",
    )
    recorder.record(note)
    recorder.record(note)
    assert recorder.close(30.0)
    thread.join(30.0)
    namespace = meta(session)["namespace"]
    (event,) = client.list_page(EVENT, namespace)["items"]
    assert event["reason"] == "Host Backup Failed"
    assert event["series"]["count"] == 2
    assert len(event["note"].encode()) <= 1024
    again = Recorder(client, SystemClock(), instance="drey-1")
    again.record(note)
    thread = threading.Thread(target=again.run)
    thread.start()
    assert again.close(30.0)
    thread.join(30.0)
    (event,) = client.list_page(EVENT, namespace)["items"]
    assert event["series"]["count"] == 3
    described = crds.kubectl("describe", "backupsession", "s", "-n", namespace)
    assert "Host Backup Failed" in described
    assert "Status-Updater" in described


class Candidate:
    """A process that runs for leader."""

    def __init__(self, crds: ApiServer, namespace: str, identity: str) -> None:
        self.identity = identity
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.support.candidate",
                str(crds.kubeconfig),
                namespace,
                identity,
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def says(self) -> tuple[str, float]:
        """Wait for its next line; return it with the time."""
        assert self.process.stdout
        return self.process.stdout.readline().strip(), time.monotonic()

    def close(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


@pytest.fixture
def candidates(crds: ApiServer, namespace: str) -> Iterator[tuple[Candidate, Candidate]]:
    """Start one process that leads, and then one that waits and has seen the first one's Lease."""
    with ExitStack() as stack:
        first = Candidate(crds, namespace, "first")
        stack.callback(first.close)
        assert first.says()[0] == "leading"
        second = Candidate(crds, namespace, "second")
        stack.callback(second.close)
        assert second.says()[0] == "looked"
        yield first, second


def holder(client: Client, namespace: str) -> Any:
    """Return who holds the Lease."""
    return dig(client.get(LEASE, namespace, "drey"), "spec", "holderIdentity")


def test_a_clean_stop_hands_over_before_the_lease_is_over(
    client: Client, namespace: str, candidates: tuple[Candidate, Candidate]
) -> None:
    """SIGTERM: the Lease is given back, and the standby takes it when it looks, not after 15 s."""
    first, second = candidates
    assert holder(client, namespace) == "first"
    started = time.monotonic()
    first.process.send_signal(signal.SIGTERM)
    line, at = second.says()
    assert line == "leading"
    assert at - started < 8.0
    assert first.process.wait(20.0) == 0
    assert holder(client, namespace) == "second"


def test_a_killed_leader_is_followed_after_its_lease(
    client: Client, namespace: str, candidates: tuple[Candidate, Candidate]
) -> None:
    """SIGKILL: about 15 s after its last renewal, which may have been up to 10 s before."""
    first, second = candidates
    first.process.kill()
    killed = time.monotonic()
    line, at = second.says()
    assert line == "leading"
    assert 5.0 < at - killed < 30.0
    spec = client.get(LEASE, namespace, "drey")["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("second", 1)


def test_a_leader_without_an_api_server_ends_itself(
    crds: ApiServer, candidates: tuple[Candidate, Candidate]
) -> None:
    """Before its Lease is over, which lasts for 15 s: within 10 s of its last renewal."""
    first, _ = candidates
    crds.stop(kill=True)
    try:
        stopped = time.monotonic()
        assert first.process.wait(30.0) == 1
        assert time.monotonic() - stopped < 15.0
    finally:
        crds.start()
