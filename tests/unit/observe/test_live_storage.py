"""Live reads of storage: what is asked for, how often, and what of it comes back."""

from typing import Any

import pytest

from controller.api.objects import Key, Obj, Uid, name_of
from controller.api.resources import (
    CORE_EVENT,
    DEPLOYMENT,
    PVC,
    STATEFUL_SET,
    STORAGE_CLASS,
    VOLUME_SNAPSHOT,
    VOLUME_SNAPSHOT_CONTENT,
    Resource,
)
from controller.kube.client import KubeClient
from controller.kube.errors import KubeError, NotServed
from controller.observe.live_storage import (
    read_claim_words,
    read_claims,
    read_default_storage_class,
    read_snapshot_content,
    read_snapshots,
    read_storage_class,
    read_target,
)
from tests.support.read_server import ReadServer
from tests.support.unreadable import Unreadable, each_refusal


def server(*objects: tuple[Resource, Obj]) -> Any:
    """Return a server that is used as a client."""
    return ReadServer(*objects)


def named(resource: Resource, *names: str) -> list[tuple[Resource, Obj]]:
    """Return objects that have a name."""
    return [(resource, {"metadata": {"name": name}}) for name in names]


def test_targets_are_read_by_their_kind() -> None:
    """A claim or one of the workloads; other kinds have no claims and are not asked for."""
    found = server(*named(PVC, "data"), *named(STATEFUL_SET, "db"), *named(DEPLOYMENT, "db"))
    assert read_target(found, "PersistentVolumeClaim", Key("demo", "data")) is not None
    assert read_target(found, "StatefulSet", Key("demo", "db")) is not None
    assert read_target(found, "Deployment", Key("demo", "web")) is None
    asked = len(found.asked)
    assert read_target(found, "Pod", Key("demo", "db")) is None
    assert read_target(found, "Deployment", Key("demo", "")) is None
    assert len(found.asked) == asked == 3


def test_few_claims_are_read_one_by_one_and_many_by_one_list() -> None:
    """Three is a few; what does not exist is left out; each is read once."""
    found = server(*named(PVC, "a", "b", "c", "d", "other"))
    assert list(read_claims(found, "demo", ["a", "c", "a", "gone"])) == ["a", "c"]
    assert [asked.split()[0] for asked in found.asked] == ["get"] * 3
    found.asked.clear()
    assert list(read_claims(found, "demo", ["d", "a", "b", "gone"])) == ["d", "a", "b"]
    assert all(asked.startswith("list PersistentVolumeClaim demo") for asked in found.asked)
    assert read_claims(found, "demo", []) == {}


def test_snapshots_are_read_by_label_or_by_name() -> None:
    """As the cache would hold them."""
    found = server(*named(VOLUME_SNAPSHOT, "a", "b"))
    both = read_snapshots(found, "demo", label_selector="x=y")
    assert [name_of(snapshot) for snapshot in both] == ["a", "b"]
    assert all(snapshot["changedAt"] == "" for snapshot in both)
    assert "('label_selector', 'x=y')" in found.asked[0]
    (one,) = read_snapshots(found, "demo", names=["b", "gone"])
    assert (name_of(one), one["kind"]) == ("b", "VolumeSnapshot")
    many = read_snapshots(found, "demo", names=["gone", "b", "c", "a"])
    assert [name_of(snapshot) for snapshot in many] == ["b", "a"]


@pytest.mark.parametrize(
    "given",
    [{"names": ["a"]}, {"names": ["a", "b", "c", "d"]}, {"label_selector": "x=y"}],
    ids=["few", "many", "all"],
)
def test_that_the_kind_is_not_served_is_no_empty_list(given: Any) -> None:
    """An API server that has just started says so too: whoever asked decides what it means."""
    found = server()
    found.not_served.add(VOLUME_SNAPSHOT)
    with pytest.raises(NotServed):
        read_snapshots(found, "demo", **given)


def test_that_nobody_knows_a_kind_is_no_verdict_on_an_object() -> None:
    """What a restore needs is not gone because an API server has just started."""
    found = server(*named(VOLUME_SNAPSHOT_CONTENT, "content"), *named(STORAGE_CLASS, "fast"))
    found.not_served |= {VOLUME_SNAPSHOT_CONTENT, STORAGE_CLASS}
    for read, name in ((read_snapshot_content, "content"), (read_storage_class, "fast")):
        with pytest.raises(NotServed):
            read(found, name)


def test_classes_and_contents_are_read_by_name() -> None:
    """An empty name would be a list."""
    found = server(*named(STORAGE_CLASS, "fast"), *named(VOLUME_SNAPSHOT_CONTENT, "content"))
    assert read_storage_class(found, "fast") is not None
    assert read_storage_class(found, "slow") is None
    assert read_snapshot_content(found, "content") is not None
    asked = len(found.asked)
    assert read_storage_class(found, "") is None
    assert read_snapshot_content(found, "") is None
    assert len(found.asked) == asked


def storage_class(name: str, created: str, default: str, *, beta: bool = False) -> Any:
    """Return a StorageClass; `default` is the text of its annotation."""
    key = "storageclass.beta.kubernetes.io" if beta else "storageclass.kubernetes.io"
    metadata = {"name": name, "creationTimestamp": created}
    return STORAGE_CLASS, {
        "metadata": {**metadata, "annotations": {f"{key}/is-default-class": default}}
    }


@pytest.mark.parametrize(
    ("classes", "chosen"),
    [
        ([], None),
        ([storage_class("a", "2026-01-01T00:00:00Z", "false")], None),
        ([storage_class("a", "2026-01-01T00:00:00Z", "true", beta=True)], "a"),
        (
            [
                storage_class("old", "2026-01-01T00:00:00Z", "true"),
                storage_class("new", "2026-02-01T00:00:00Z", "true"),
                storage_class("none", "2026-03-01T00:00:00Z", "no"),
            ],
            "new",
        ),
        (
            [
                storage_class("b", "2026-01-01T00:00:00Z", "true"),
                storage_class("a", "2026-01-01T00:00:00Z", "true"),
            ],
            "a",
        ),
    ],
)
def test_the_default_class_is_the_one_that_kubernetes_takes(
    classes: list[tuple[Resource, Obj]], chosen: str | None
) -> None:
    """Of several the newest, then the first by name."""
    found = read_default_storage_class(server(*classes))
    assert (name_of(found) if found else None) == chosen


def test_a_claim_s_words_are_its_warnings_first() -> None:
    """At most three texts, newest first, no double."""
    texts = [
        ("Normal", "waiting for a volume to be created"),
        ("Warning", "snapshot is not ready"),
        ("Warning", "snapshot is not ready"),
        ("Warning", "pool is full"),
        ("Normal", "Provisioning"),
        ("Warning", ""),
    ]
    found = server(*(event_of("u", kind, text) for kind, text in texts))
    assert read_claim_words(found, "demo", {"data": Uid("u")}) == {
        "data": ("pool is full", "snapshot is not ready", "Provisioning")
    }
    assert "involvedObject.kind=PersistentVolumeClaim,involvedObject.uid=u" in found.asked[0]
    client: KubeClient = server()
    assert read_claim_words(client, "demo", {"data": Uid("u")}) == {"data": ()}


@each_refusal
@pytest.mark.parametrize("count", [1, 5])
def test_words_that_cannot_be_read_are_none(error: KubeError, count: int) -> None:
    """They only explain: a right to list Events that is gone ends no restore."""
    found = server(event_of("u-0", "Warning", "pool is full"))
    Unreadable(found, error, CORE_EVENT)
    uids = {f"data-{n}": Uid(f"u-{n}") for n in range(count)}
    assert read_claim_words(found, "demo", uids) == dict.fromkeys(uids, ())


def event_of(uid: str, kind: str, text: str) -> tuple[Resource, Obj]:
    """Return an Event about a claim."""
    about = {"kind": "PersistentVolumeClaim", "name": "data", "uid": uid}
    return CORE_EVENT, {
        "metadata": {"name": "e"}, "type": kind, "message": text, "involvedObject": about,
    }  # fmt: skip


@pytest.mark.parametrize(("more", "lists"), [(0, 1), (2, 3), (3, 1)])
def test_words_about_a_former_claim_of_the_name_are_not_told(more: int, lists: int) -> None:
    """Its Events outlive it by an hour. Of many claims they are read by one list."""
    found = server(
        event_of("former", "Warning", "the pool was full"),
        event_of("u", "Normal", "Provisioning"),
    )
    uids = {"data": Uid("u"), **{f"data-{n}": Uid(f"u-{n}") for n in range(more)}}
    said = read_claim_words(found, "demo", uids)
    assert said == {name: ("Provisioning",) if uid == "u" else () for name, uid in uids.items()}
    first_pages = {asked for asked in found.asked if "field_selector" in asked}
    assert len(first_pages) == lists
