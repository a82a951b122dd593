"""Live reads: what is taken along, and above all what is not."""

from typing import Any

import pytest

from controller.api.names import bounded
from controller.api.objects import Key, Obj, annotations_of, name_of
from controller.api.resources import CORE_EVENT, POD, PVC, SECRET, Resource
from controller.kube.errors import KubeError, NotServed, Throttled, Unreachable
from controller.observe.live import read_movers, read_pvc, read_secret, read_use, read_words
from tests.support.builders import job, pvc, session
from tests.support.read_server import ReadServer
from tests.support.unreadable import Unreadable, each_refusal


def client(*objects: tuple[Resource, Obj]) -> Any:
    """Return a client of such a server."""
    return ReadServer(*objects)


def test_the_values_of_a_secret_go_nowhere() -> None:
    """Only the names of its keys are known afterwards, and which of them are empty."""
    raw = {
        "metadata": {"name": "s", "namespace": "demo"},
        "data": {"RESTIC_PASSWORD": "c2VjcmV0", "EMPTY": "", "NULL": None, "ODD": "%"},
    }
    found = read_secret(client((SECRET, raw)), Key("demo", "s"))
    assert found.found
    assert found.keys == {"RESTIC_PASSWORD", "EMPTY", "NULL", "ODD"}
    assert "RESTIC_PASSWORD" not in found.empty_keys
    assert {"EMPTY", "NULL"} <= found.empty_keys
    assert "c2VjcmV0" not in repr(found)
    assert "secret" not in repr(found)


def test_a_secret_without_data_lacks_everything() -> None:
    """`data` may be absent."""
    found = read_secret(client((SECRET, {"metadata": {"name": "s"}})), Key("demo", "s"))
    assert (found.found, found.keys) == (True, frozenset())
    assert found.problem is not None


def test_what_nobody_named_is_not_asked_for() -> None:
    """An empty name would be a list."""
    server = client()
    assert not read_secret(server, Key("demo", "")).found
    assert read_pvc(server, Key("demo", "")) is None
    assert server.asked == []


def test_what_does_not_exist_is_none() -> None:
    """A 404 is a value, not an error."""
    assert read_pvc(client(), Key("demo", "data")) is None
    assert read_pvc(client((PVC, pvc())), Key("demo", "data")) == pvc()
    assert not read_secret(client(), Key("demo", "s")).found


def test_that_nobody_knows_a_kind_says_nothing_about_its_objects() -> None:
    """A 404 that names nothing, of an API server that has just started, or of a proxy."""
    server = client((PVC, pvc()))
    server.not_served.add(PVC)
    with pytest.raises(NotServed):
        read_pvc(server, Key("demo", "data"))


def user(name: str, claim: str, node: str) -> tuple[Resource, Obj]:
    """Return a pod that mounts a claim."""
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": claim}}
    return POD, {
        "metadata": {"name": name},
        "spec": {"volumes": [{"name": "t", "emptyDir": {}}, volume], "nodeName": node},
    }


def test_the_users_of_a_claim_are_found_on_all_pages() -> None:
    """Names of pods, each node once."""
    server = client(
        user("a", "data", "n1"),
        user("b", "other", "n2"),
        user("c", "data", "n1"),
        user("d", "data", "n3"),
    )
    found = read_use(server, Key("demo", "data"))
    assert (found.pods, found.nodes) == (("a", "c", "d"), ("n1", "n3"))


def test_our_own_pods_hold_a_claim_to_its_node_and_are_not_named() -> None:
    """A backup that is just ending is no user whom a restore would disturb."""
    resource, ours = user("stash-backup-x", "data", "n1")
    ours = {**ours, "metadata": {**ours["metadata"], "labels": {"drey.dev/created-by": "drey"}}}
    found = read_use(client((resource, ours)), Key("demo", "data"))
    assert (found.pods, found.nodes) == ((), ("n1",))


def mover(
    name: str, of: str, *, phase: str = "Running", hostname: str = "h", repository: str = ""
) -> tuple[Resource, Obj]:
    """Return the pod of a backup of one configuration, to one Repository."""
    metadata = {
        "name": name,
        "namespace": "demo",
        "labels": {"stash.appscode.com/invoker-name": of},
        "annotations": {"drey.dev/repository": repository},
    }
    return POD, {"metadata": metadata, "spec": {"hostname": hostname}, "status": {"phase": phase}}


def test_the_pods_of_backups_are_found_on_all_pages() -> None:
    """Live ones with a host name: neither those that ended nor those of triggers.

    Those of configurations under their cut name, and those that were made for the Repository.
    """

    def is_for(pod: Obj) -> bool:
        return bool(annotations_of(pod)["drey.dev/repository"] == "repo")

    server = client(
        mover("trigger", "nightly", hostname=""),
        mover("ended", "nightly", phase="Failed"),
        mover("runs", "nightly"),
        mover("starts", bounded("n" * 70, 63), phase="Pending"),
        mover("edited", "since-edited", repository="repo"),
        mover("neighbour", "other", repository="other"),
    )
    keys = [Key("demo", "nightly"), Key("demo", "n" * 70)]
    movers = read_movers(server, keys, is_for, ["demo"])
    assert [pod["metadata"]["name"] for pod in movers] == ["runs", "starts", "edited"]
    assert len(server.asked) == 6
    assert all("invoker-type=BackupConfiguration" in asked for asked in server.asked)
    assert read_movers(server, (), is_for, ()) == ()


def test_a_pod_that_an_injected_container_keeps_alive_is_no_backup_any_more() -> None:
    """It cannot initialise a repository; of one that names no container of ours nobody knows."""
    states = [
        {"name": "a-proxy", "state": {"running": {}}},
        {"name": "pvc-backup-0", "state": {"terminated": {"exitCode": 1}}},
    ]
    for steps, found in (("pvc-backup-0", 0), ("a-proxy,pvc-backup-0", 0), ("a-proxy", 1), ("", 1)):
        kind, pod = mover("runs", "nightly")
        metadata = {**pod["metadata"], "annotations": {"drey.dev/steps": steps}}
        status = {**pod["status"], "containerStatuses": states}
        server = client((kind, {**pod, "metadata": metadata, "status": status}))
        movers = read_movers(server, [Key("demo", "nightly")], lambda _: False, ["demo"])
        assert len(movers) == found, steps


def test_the_pods_of_backups_are_looked_for_where_the_repositories_are() -> None:
    """Nobody may name a Repository any more whose first backup still runs."""
    server = client()
    users = [Key("b", "x"), Key("b", "y")]
    assert read_movers(server, users, lambda _: True, ["a", "b"]) == ()
    assert [asked.split()[:3] for asked in server.asked] == [["list", "Pod", at] for at in "ab"]


def test_events_are_quoted_once_and_newest_first() -> None:
    """At most three texts, no double, only what happened to this Job."""
    texts = ["old", "same", "same", "", "newer", "newest"]
    server = client(*((CORE_EVENT, {"metadata": {"name": "e"}, "message": text}) for text in texts))
    server.list_page = lambda _resource, _namespace, **given: {
        "items": [{"message": text} for text in texts],
        "given": server.asked.append(given["field_selector"]),
    }
    assert read_words(server, job(session())) == ("newest", "newer", "same")
    name = name_of(job(session()))
    selector = (
        f"involvedObject.kind=Job,involvedObject.name={name},involvedObject.uid=uid-of-{name}"
    )
    assert server.asked == [f"{selector},type=Warning"]


@each_refusal
def test_words_that_cannot_be_read_are_none(error: KubeError) -> None:
    """They only explain: a right to list Events that is gone must not stop a session."""
    server = client((CORE_EVENT, {"metadata": {"name": "e"}, "message": "quota"}))
    Unreadable(server, error, CORE_EVENT)
    assert read_words(server, job(session())) == ()


@pytest.mark.parametrize("error", [Unreachable("reset"), Throttled("later", code=429)])
def test_what_is_not_answered_at_all_is_asked_again(error: KubeError) -> None:
    """Nothing else would work either."""
    server = client()
    Unreadable(server, error, CORE_EVENT)
    with pytest.raises(type(error)):
        read_words(server, job(session()))
