"""Creation of all objects of a session, at a scripted API server."""

import json
import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from controller.api.creation import SESSION_UID, CreationInput, NewObject
from controller.api.objects import Obj, labels_of
from controller.api.report import HostReport, Reason
from controller.api.resources import VOLUME_SNAPSHOT, Resource
from controller.kube.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Invalid,
    KubeError,
    NotFound,
    NotServed,
    ServerFault,
    Throttled,
    Unreachable,
)
from runner.creation import PATIENCE_S, Creation
from runner.log import Log
from runner.redaction import Redactor
from runner.retry import DOUBT_S
from tests.support.clock import FakeClock, FakeStop
from tests.support.kube import FakeKube

QUOTA = Forbidden(
    'volumesnapshots.snapshot.storage.k8s.io "data-0-1" is forbidden: exceeded quota: few,'
    " requested: count/volumesnapshots.snapshot.storage.k8s.io=1, used: 2, limited: 2",
    code=403,
)
POLICY = Forbidden(
    'volumesnapshots.snapshot.storage.k8s.io "data-0-1" is forbidden: ValidatingAdmissionPolicy'
    " 'size' with binding 'all' denied request: too large",
    code=403,
)
WEBHOOK = Forbidden('admission webhook "quota.example" denied the request: no', code=403)
RBAC = Forbidden(
    'volumesnapshots.snapshot.storage.k8s.io is forbidden: User "system:serviceaccount:demo:x"'
    ' cannot create resource "volumesnapshots" in the namespace "exceeded-quota"',
    code=403,
)
UNIX_S = 1_700_000_000.0


def order(*claims: str, **changes: Any) -> CreationInput:
    """Return the input for one VolumeSnapshot of each claim."""
    whole = CreationInput(
        group=VOLUME_SNAPSHOT.group,
        version=VOLUME_SNAPSHOT.version,
        kind=VOLUME_SNAPSHOT.kind,
        plural=VOLUME_SNAPSHOT.plural,
        namespace="demo",
        session_uid="u-1",
        common={
            "metadata": {"labels": {"a": "b", SESSION_UID: "u-1"}, "annotations": {"c": "d"}},
            "spec": {"volumeSnapshotClassName": "fast"},
        },
        objects=tuple(
            NewObject(
                claim,
                {
                    "metadata": {"name": f"{claim}-1"},
                    "spec": {"source": {"persistentVolumeClaimName": claim}},
                },
            )
            for claim in claims
        ),
        fallback_suffix="f00d",
    )
    return replace(whole, **changes)


def foreign(name: str, uid: str = "u-2") -> Obj:
    """Return a VolumeSnapshot of another session."""
    return {"metadata": {"name": name, "namespace": "demo", "labels": {SESSION_UID: uid}}}


class Server(FakeKube):
    """An API server whose first answers to the creation of a name are scripted."""

    def __init__(self, script: dict[str, Iterable[KubeError]] | None = None) -> None:
        super().__init__()
        self._script = {name: list(errors) for name, errors in (script or {}).items()}
        self._lock = threading.Lock()
        self.created: list[str] = []

    def create(self, resource: Resource, namespace: str, body: Obj, **_: Any) -> Obj:
        """Fail as scripted; the last error stays."""
        with self._lock:
            errors = self._script.get(body["metadata"]["name"], [])
            if errors:
                raise errors.pop(0) if len(errors) > 1 else errors[0]
            made = super().create(resource, namespace, body)
            self.created.append(body["metadata"]["name"])
            return made

    def of(self, name: str) -> Obj:
        """Return a VolumeSnapshot."""
        return self.objects["VolumeSnapshot", "demo", name]


class Run:
    """One run; time passes in pauses only."""

    def __init__(self, server: FakeKube, told: CreationInput) -> None:
        self.clock = FakeClock()
        self.stop = FakeStop(self.clock)
        self.lines: list[dict[str, Any]] = []
        log = Log(Redactor({}), write=lambda line: self.lines.append(json.loads(line)))
        client: Any = server
        self.failures = Creation(
            client,
            told,
            log,
            wait=self.stop.wait,
            now=lambda: UNIX_S,
            monotonic=self.clock.monotonic,
        ).run()
        self.summary = self.lines[-1]

    @property
    def failure(self) -> HostReport:
        """Return the only failure."""
        (one,) = self.failures
        return one


def passing(error: KubeError) -> list[KubeError]:
    """Return a script that never lets go."""
    return [error]


def test_everything_is_created() -> None:
    """Bodies are the common one with each object's own over it, as the session's own."""
    server = Server()
    run = Run(server, order(*(f"data-{number}" for number in range(20))))
    assert run.failures == ()
    assert sorted(server.created) == sorted(f"data-{number}-1" for number in range(20))
    made = server.of("data-7-1")
    assert (made["apiVersion"], made["kind"]) == ("snapshot.storage.k8s.io/v1", "VolumeSnapshot")
    assert made["metadata"]["namespace"] == "demo"
    assert labels_of(made) == {"a": "b", SESSION_UID: "u-1"}
    assert made["metadata"]["annotations"] == {"c": "d"}
    assert made["spec"] == {
        "volumeSnapshotClassName": "fast",
        "source": {"persistentVolumeClaimName": "data-7"},
    }
    assert [verb for verb, _ in server.calls] == ["create"] * 20
    assert run.lines == [run.summary]
    assert (run.summary["event"], run.summary["created"]) == ("objects_created", 20)


def test_again_after_a_kill() -> None:
    """What an earlier pod of the Job has created is success, and is not created twice."""
    server = Server()
    Run(server, order("data-0", "data-1"))
    run = Run(server, order("data-0", "data-1", "data-2"))
    assert run.failures == ()
    assert (run.summary["created"], run.summary["existed"]) == (1, 2)
    assert sorted(server.created) == ["data-0-1", "data-1-1", "data-2-1"]


def test_foreign_namesake_gets_a_neighbour() -> None:
    """A VolumeSnapshot of another session is left alone; ours gets the suffix, also the next time.

    So it is when two configurations take a snapshot of one claim in the same second.
    """
    server = Server()
    server.put_object(VOLUME_SNAPSHOT, foreign("data-0-1"))
    for _ in range(2):
        run = Run(server, order("data-0"))
        assert run.failures == ()
        assert server.created == ["data-0-1-f00d"]
        assert labels_of(server.of("data-0-1"))[SESSION_UID] == "u-2"
        assert labels_of(server.of("data-0-1-f00d"))[SESSION_UID] == "u-1"
    assert run.lines[0]["event"] == "name_taken"


@pytest.mark.parametrize("suffix", ["", "f00d"])
def test_all_names_are_taken(suffix: str) -> None:
    """Without another name, or with that one taken too, the host fails and the object stays."""
    server = Server()
    for name in ("data-0-1", "data-0-1-f00d"):
        server.put_object(VOLUME_SNAPSHOT, foreign(name))
    run = Run(server, order("data-0", "data-1", fallback_suffix=suffix))
    assert (run.failure.hostname, run.failure.reason) == ("data-0", Reason.ALREADY_EXISTS)
    assert "VolumeSnapshot demo/data-0-1" in run.failure.error
    assert "data-0-1-f00d" in run.failure.error or not suffix
    assert server.created == ["data-1-1"]
    assert run.stop.waits == []


def test_a_claim_that_is_going_is_waited_for_by_the_user() -> None:
    """To delete a foreign namesake that is being deleted already is no advice."""
    server = Server()
    going = foreign("data-0-1")
    going["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    server.put_object(VOLUME_SNAPSHOT, going)
    run = Run(server, order("data-0", fallback_suffix=""))
    assert run.failure.error == (
        "VolumeSnapshot demo/data-0-1: data-0-1 is being deleted, and is not of this session:"
        " wait until it is gone, or choose another name"
    )


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (QUOTA, "; raise the ResourceQuota, or delete what is not needed"),
        (POLICY, "; an admission policy or webhook of the cluster must allow it"),
        (WEBHOOK, "; an admission policy or webhook of the cluster must allow it"),
        (Invalid('VolumeSnapshot "data-0-1" is invalid: spec', code=422), ""),
    ],
    ids=["quota", "policy", "webhook", "invalid"],
)
def test_definite_refusal(error: KubeError, remedy: str) -> None:
    """What is sure is told at once in the server's words, with the fix; the others are created."""
    server = Server({"data-0-1": passing(error)})
    run = Run(server, order("data-0", "data-1"))
    assert (run.failure.hostname, run.failure.reason) == ("data-0", Reason.CREATION_REFUSED)
    assert run.failure.error == error.message + remedy
    assert run.stop.waits == []
    assert server.created == ["data-1-1"]
    assert (run.summary["created"], run.summary["failed"]) == (1, 1)


def test_missing_right_is_doubted_once() -> None:
    """An API server that has just started forbids everything: a minute for all, not for each."""
    names = [f"data-{number}" for number in range(40)]
    server = Server({f"{name}-1": passing(RBAC) for name in names})
    run = Run(server, order(*names))
    assert {failure.reason for failure in run.failures} == {Reason.CREATION_REFUSED}
    assert len(run.failures) == 40
    assert "RoleBinding" in run.failures[0].error
    assert run.clock.monotonic() - 1000.0 < 10 * DOUBT_S


def test_right_that_arrives() -> None:
    """A RoleBinding that the authorizer has not seen yet is waited for."""
    server = Server({"data-0-1": passing(RBAC)})

    class Late(FakeStop):
        """Lets the right arrive in the second pause."""

        def wait(self, timeout: float | None = None) -> bool:
            """Advance."""
            if len(self.waits) == 1:
                server._script.clear()
            return super().wait(timeout)

    clock = FakeClock()
    client: Any = server
    log = Log(Redactor({}), write=lambda _: None)
    failures = Creation(
        client,
        order("data-0"),
        log,
        wait=Late(clock).wait,
        now=lambda: UNIX_S,
        monotonic=clock.monotonic,
    ).run()
    assert failures == ()
    assert server.created == ["data-0-1"]


@pytest.mark.parametrize(
    "error",
    [
        Unreachable("refused"),
        ServerFault("etcd leader changed", code=500),
        Throttled("later", code=429),
        Conflict("quota changed", code=409),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize(
    ("deadline", "limit_s", "reason"),
    [
        ("", PATIENCE_S, Reason.NOT_CREATED),
        ("2023-11-14T22:15:00Z", 100.0, Reason.DEADLINE_EXCEEDED),
    ],
)
def test_api_server_that_stays_away(
    error: KubeError, deadline: str, limit_s: float, reason: Reason
) -> None:
    """It is tried again until `timeOut`, else for an hour, and the last error is told."""
    server = Server({"data-0-1": passing(error)})
    run = Run(server, order("data-0", deadline=deadline))
    assert run.failure.reason == reason
    assert error.message in run.failure.error
    assert deadline in run.failure.error
    assert limit_s - 30.0 <= sum(run.stop.waits) <= limit_s


def test_lost_answer() -> None:
    """A create that was carried out and not answered is found as our own."""

    class Mute(Server):
        """Carries out the first request without an answer."""

        def create(self, resource: Resource, namespace: str, body: Obj, **_: Any) -> Obj:
            """See above."""
            made = super().create(resource, namespace, body)
            if len(self.created) == 1:
                raise Unreachable("reset")
            return made

    server = Mute()
    run = Run(server, order("data-0"))
    assert run.failures == ()
    assert server.created == ["data-0-1"]
    assert run.summary["existed"] == 1


def test_namesake_that_goes_meanwhile() -> None:
    """A namesake that is gone when it is looked at leaves the name free: it is tried again."""

    class Fleeting(Server):
        """Refuses a name whose object nobody can find."""

        def create(self, resource: Resource, namespace: str, body: Obj, **_: Any) -> Obj:
            """See above."""
            self.calls.append(("try", resource.kind))
            if len(self.calls) == 1:
                raise AlreadyExists("it exists")
            return super().create(resource, namespace, body)

    server = Fleeting()
    run = Run(server, order("data-0"))
    assert run.failures == ()
    assert server.created == ["data-0-1"]


def test_deadline_has_passed() -> None:
    """A pod that starts too late creates nothing: the session is over."""
    server = Server()
    run = Run(server, order("data-0", "data-1", deadline="2023-11-14T22:13:19Z"))
    assert [failure.reason for failure in run.failures] == [Reason.DEADLINE_EXCEEDED] * 2
    assert server.calls == []


@pytest.mark.parametrize("kind", [NotServed, NotFound])
def test_no_crds(kind: type[NotFound]) -> None:
    """A kind that the cluster does not serve is named, and a namespace that is gone."""
    gone = kind("the server could not find the requested resource", code=404)
    run = Run(Server({"data-0-1": passing(gone)}), order("data-0"))
    assert run.failure.reason == Reason.CREATION_REFUSED
    assert run.failure.error.startswith("VolumeSnapshot demo/data-0-1: the server could not find")
