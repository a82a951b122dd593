"""controller.engine.events: one POST per note, counts for repetition, limits for spam."""

import threading
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from controller.api.objects import Uid
from controller.api.resources import BACKUP_SESSION, TASK
from controller.engine.events import BURST, COMBINED, TRIES, Recorder, cut
from controller.engine.metrics import Metrics
from controller.kube.errors import Forbidden, Unreachable
from controller.plan import Note, Ref
from tests.support.clock import FakeClock, FakeStop
from tests.support.kube import FakeKube

NOTE = Note(
    Ref(BACKUP_SESSION, "ns", "a", Uid("u1"), "7"),
    "Normal",
    "Host Backup Succeeded",
    "backup succeeded for host host-0",
    "Status Updater",
)


class World:
    """A recorder whose thread is the test."""

    def __init__(self, kube: FakeKube | None = None) -> None:
        self.clock = FakeClock()
        self.kube = kube or FakeKube()
        self.stop = FakeStop(self.clock)
        self.metrics = Metrics(CollectorRegistry())
        self.recorder = Recorder(
            self.kube, self.clock, instance="drey-0", metrics=self.metrics, stop=self.stop
        )

    def post(self, *notes: Note) -> None:
        """Record notes and post them."""
        for note in notes:
            self.recorder.record(note)
        while not self.recorder._queue.empty():
            item = self.recorder._queue.get()
            assert item
            self.recorder._post(*item)
            self.recorder._finish()

    @property
    def events(self) -> list[Any]:
        """What the API server has."""
        return [o for (kind, _, _), o in self.kube.objects.items() if kind == "Event"]

    def dropped(self, why: str) -> float:
        """Return how many were dropped for a reason."""
        found = self.metrics.registry.get_sample_value("drey_events_dropped_total", {"why": why})
        return found or 0.0


def test_a_note_is_one_post() -> None:
    """D13: an Event is one write; reasons keep Stash's spaces, the controller's name cannot."""
    world = World()
    world.post(NOTE)
    assert world.kube.calls == [("create", "Event")]
    (event,) = world.events
    assert event["reason"] == "Host Backup Succeeded"
    assert event["reportingController"] == "Status-Updater"
    assert event["reportingInstance"] == "drey-0"
    assert event["regarding"] == {
        "apiVersion": "stash.appscode.com/v1beta1",
        "kind": "BackupSession",
        "namespace": "ns",
        "name": "a",
        "uid": "u1",
        "resourceVersion": "7",
    }
    assert event["eventTime"] == "2026-11-22T04:00:00.000000Z"


def test_the_same_note_again_is_counted() -> None:
    """A series, and no second object."""
    world = World()
    world.post(NOTE, NOTE)
    world.clock.advance(60)
    world.post(NOTE)
    (event,) = world.events
    assert event["series"] == {"count": 3, "lastObservedTime": "2026-11-22T04:01:00.000000Z"}


def test_a_restart_does_not_double_an_event() -> None:
    """The name says what the Event says: the next process finds it."""
    world = World()
    world.post(NOTE, NOTE)
    World(world.kube).post(NOTE)
    (event,) = world.events
    assert event["series"]["count"] == 3


def test_an_expired_event_is_created_anew() -> None:
    """Events live for an hour."""
    world = World()
    world.post(NOTE)
    world.kube.objects.clear()
    world.post(NOTE)
    assert len(world.events) == 1
    assert "series" not in world.events[0]


def test_similar_notes_are_combined() -> None:
    """Ten texts in ten minutes; the eleventh and later ones share one Event."""
    world = World()
    world.post(*(replace(NOTE, message=f"attempt {n}") for n in range(15)))
    combined = [e for e in world.events if e["note"].startswith(COMBINED)]
    assert len(world.events) == 11
    assert [e["series"]["count"] for e in combined] == [5]
    world.clock.advance(601.0)
    world.post(replace(NOTE, message="attempt 99"))
    assert len(world.events) == 12


def test_one_object_cannot_flood() -> None:
    """A burst of 25, then one in five minutes; other objects are not touched."""
    world = World()
    world.post(*(NOTE for _ in range(30)))
    assert len(world.kube.calls) == BURST
    assert world.dropped("too many") == 5
    other = replace(NOTE, regarding=replace(NOTE.regarding, uid=Uid("u2")))
    world.post(other)
    world.clock.advance(300.0)
    world.post(NOTE, NOTE)
    assert len(world.kube.calls) == BURST + 2


def test_a_full_queue_drops_and_does_not_block() -> None:
    """A reconcile never waits for an Event."""
    world = World()
    for _ in range(1005):
        world.recorder.record(NOTE)
    assert world.dropped("queue full") == 5


def test_an_outage_is_waited_out_within_limits() -> None:
    """Twelve tries, ten seconds apart, then it is dropped."""
    world = World()
    world.kube.fail("create", *[Unreachable("down")] * 3)
    world.post(NOTE)
    assert world.stop.waits == [10.0] * 3
    assert len(world.events) == 1
    world.kube.fail("create", *[Unreachable("down")] * TRIES)
    world.post(replace(NOTE, message="other"))
    assert len(world.events) == 1
    assert world.dropped("refused") == 1


def test_a_refused_event_is_dropped_at_once() -> None:
    """A namespace that is being deleted takes none."""
    world = World()
    world.kube.fail("create", Forbidden("namespace is being terminated"))
    world.post(NOTE)
    assert (world.stop.waits, world.dropped("refused")) == ([], 1.0)


def test_cluster_objects_have_their_events_in_default() -> None:
    """As the API server demands."""
    world = World()
    world.post(replace(NOTE, regarding=Ref(TASK, "", "pvc-backup")))
    (event,) = world.events
    assert event["metadata"]["namespace"] == "default"
    assert "namespace" not in event["regarding"]


def test_close_posts_what_is_queued() -> None:
    """The last Event of a leader is not lost, and a dead API server does not hold it up."""
    kube, clock = FakeKube(), FakeClock()
    recorder = Recorder(kube, clock, instance="drey-0")
    recorder.record(NOTE)
    thread = threading.Thread(target=recorder.run)
    thread.start()
    assert recorder.close(5.0)
    thread.join(5.0)
    assert not thread.is_alive()
    assert kube.calls == [("create", "Event")]
    idle = Recorder(kube, clock, instance="drey-0")
    idle.record(NOTE)
    assert not idle.close(0.01)


@given(st.text(st.characters(codec=None)), st.integers(0, 40))
def test_a_cut_text_fits_and_is_whole(text: str, limit: int) -> None:
    """Bytes count, half characters are left out, and what is no Unicode does not hurt."""
    result = cut(text, limit)
    assert len(result.encode()) <= limit


@pytest.mark.parametrize("name", ["a" * 253, "a" * 240 + ".b"])
def test_names_stay_legal(name: str) -> None:
    """The object's name is cut where the whole would be too long."""
    world = World()
    world.post(replace(NOTE, regarding=replace(NOTE.regarding, name=name)))
    made = world.events[0]["metadata"]["name"]
    assert len(made) <= 253
    assert ".." not in made
