"""controller.engine.reflector: list, watch, and every way in which they fail (scripted)."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from controller.api.objects import Obj, name_of
from controller.api.resources import JOB
from controller.engine.backoff import Backoff
from controller.engine.metrics import Metrics
from controller.engine.reflector import Reflector
from controller.kube.errors import (
    Expired,
    Forbidden,
    KubeError,
    NotFound,
    ServerFault,
    Throttled,
    Unreachable,
    VersionTooLarge,
)
from tests.support.clock import FakeClock, FakeStop


def obj(name: str, version: int) -> Obj:
    """Return an object."""
    return {"metadata": {"name": name, "namespace": "ns", "resourceVersion": str(version)}}


def event(kind: str, name: str, version: int) -> Obj:
    """Return a watch event."""
    return {"type": kind, "object": obj(name, version)}


def bookmark(version: int) -> Obj:
    """Return a bookmark: an object without a name."""
    return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(version)}}}


def error(**status: Any) -> Obj:
    """Return an ERROR event."""
    return {"type": "ERROR", "object": {"kind": "Status", **status}}


def page(*names: str, version: int, more: str = "") -> Obj:
    """Return a page of a list."""
    items = [obj(name, version) for name in names]
    return {"metadata": {"resourceVersion": str(version), "continue": more}, "items": items}


class Stream:
    """Watch events, then an exception or an orderly end."""

    def __init__(self, steps: Sequence[Obj | KubeError], lasts: Callable[[], None]) -> None:
        self.steps = steps
        self.lasts = lasts
        self.closed = False

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Note the end."""
        self.closed = True

    def __iter__(self) -> Iterator[Any]:
        """Play the script."""
        self.lasts()
        for step in self.steps:
            if isinstance(step, KubeError):
                raise step
            yield step

    def close(self) -> None:
        """Note the end."""
        self.closed = True


class Script:
    """A client whose lists and watches are scripted; the world stops when the script ends."""

    def __init__(self, lists: Sequence[Obj | KubeError], watches: Sequence[Any]) -> None:
        self.clock = FakeClock()
        self.stop = FakeStop(self.clock)
        self.lists, self.watches = list(lists), list(watches)
        self.asked: list[tuple[str, int, str]] = []
        self.watched: list[str] = []
        self.streams: list[Stream] = []
        self.objects: dict[str, Obj] = {}
        self.replaced = 0
        self.versions: list[str] = []
        """Those that the lists came with: empty where a list may go back."""
        self.pauses = 0
        self.watch_lasts_s = 400.0
        self.served: threading.Event | None = None
        self.told: list[bool] = []
        """Whether there was a list, each time that this changed."""

    def list_page(self, _resource: object, **scope: Any) -> Obj:
        """Answer with the next list."""
        self.asked.append((scope["resource_version"], scope["limit"], scope["continue_token"]))
        step = self.lists.pop(0)
        if isinstance(step, KubeError):
            raise step
        return step

    def watch(self, _resource: object, **scope: Any) -> Stream:
        """Answer with the next watch; the last one is the end of the test."""
        assert 300 <= scope["timeout_s"] <= 600
        self.watched.append(scope["resource_version"])
        if not self.watches:
            self.stop.set()
            return Stream([], lambda: None)
        steps = self.watches.pop(0)
        if isinstance(steps, KubeError):
            raise steps
        self.streams.append(Stream(steps, lambda: self.clock.advance(self.watch_lasts_s)))
        return self.streams[-1]

    def replace(self, items: Sequence[Obj], version: str) -> None:
        """Take a list."""
        self.replaced += 1
        self.versions.append(version)
        self.objects = {name_of(o): o for o in items}

    def upsert(self, o: Obj) -> None:
        """Take an event."""
        self.objects[name_of(o)] = o

    def delete(self, o: Obj) -> None:
        """Take a deletion."""
        self.objects.pop(name_of(o), None)

    def pause(self) -> None:
        """Count."""
        self.pauses += 1

    def run(self) -> Reflector:
        """Run a reflector to the end of the script."""
        client: Any = self
        self.metrics = Metrics(CollectorRegistry())
        reflector = Reflector(
            JOB,
            client,
            self,
            clock=self.clock,
            stop=self.stop,
            served=self.served,
            on_listed=lambda: self.told.append(reflector.listed.is_set()),
            metrics=self.metrics,
            rng=random.Random(1),  # noqa: S311 - test data
        )
        reflector.run()
        assert not self.lists, "not everything was asked for"
        return reflector

    def ended(self, how: str) -> float:
        """Return how many watches ended so."""
        labels = {"name": "jobs", "end": how}
        return self.metrics.registry.get_sample_value("reflector_watches_total", labels) or 0.0


def test_a_list_then_a_watch_from_its_version() -> None:
    """The watch starts at the version of the list, not of its objects, and moves with events."""
    script = Script(
        [page("a", "b", version=10)],
        [[event("ADDED", "c", 11), event("MODIFIED", "a", 12), event("DELETED", "b", 13)]],
    )
    reflector = script.run()
    assert (script.asked, script.watched) == ([("", 500, "")], ["10", "13"])
    assert sorted(script.objects) == ["a", "c"]
    assert reflector.listed.is_set()
    assert script.stop.waits == []
    assert script.pauses == 2


def test_pages_are_collected_before_the_store_changes() -> None:
    """The store never holds half a list."""
    script = Script([page("a", version=10, more="t"), page("b", version=10)], [])
    script.run()
    assert script.asked == [("", 500, ""), ("", 500, "t")]
    assert (script.replaced, sorted(script.objects)) == (1, ["a", "b"])


def test_an_expired_continue_token_falls_back_to_one_full_list() -> None:
    """410 in the middle of a list: everything again, unpaged."""
    script = Script(
        [page("a", version=10, more="t"), Expired("old"), page("a", "b", version=12)], []
    )
    script.run()
    assert script.asked == [("", 500, ""), ("", 500, "t"), ("", 0, "")]
    assert (script.replaced, script.watched) == (1, ["12"])


def test_a_failed_list_keeps_the_cache() -> None:
    """What is no list (an error body, a proxy's page) never empties the store."""
    script = Script(
        [
            page("a", version=10),
            ServerFault("the answer to list Job is a 'Status', no list"),
            Unreachable("refused"),
            page("a", "b", version=20),
        ],
        [[error(code=410, reason="Expired")]],
    )
    seen: list[list[str]] = []
    original = script.stop.wait

    def wait(timeout: float | None = None) -> bool:
        seen.append(sorted(script.objects))
        return original(timeout)

    script.stop.wait = wait  # type: ignore[method-assign]  # to look at the store in each pause
    script.run()
    assert seen == [["a"]] * 2
    assert sorted(script.objects) == ["a", "b"]


@pytest.mark.parametrize(
    "failure",
    [
        [error(code=410, reason="Expired", message="too old")],
        [error(reason="Gone")],
        [Expired("in a status")],
        Expired("as an HTTP status"),
    ],
)
def test_expiry_in_any_form_lists_again_not_older_than_known(failure: Any) -> None:
    """410 comes inside of a 200 stream, or as the answer; the next list does not go back."""
    script = Script([page("a", version=10), page("b", version=30)], [failure])
    script.run()
    assert script.asked == [("", 500, ""), ("10", 0, "")]
    assert (script.watched, sorted(script.objects)) == (["10", "30"], ["b"])
    assert script.versions == ["", "30"]
    assert script.ended("expired") == 1
    assert script.stop.waits == []


def test_expiry_again_and_again_does_not_spin() -> None:
    """The first one is mended at once by a list; a loop of them is slowed down."""
    script = Script([page("a", version=10)] * 4, [Expired("old")] * 3)
    script.run()
    assert len(script.stop.waits) == 2


@pytest.mark.parametrize(
    ("steps", "end"),
    [
        ([event("ADDED", "b", 11), Unreachable("silent", reason="Silent")], "dead"),
        ([event("ADDED", "b", 11), Unreachable("the stream ended within a line")], "error"),
        ([event("ADDED", "b", 11), ServerFault("a line of the stream is not JSON")], "error"),
        ([event("ADDED", "b", 11), error()], "error"),
        ([event("ADDED", "b", 11), error(code="what")], "error"),
        ([event("ADDED", "b", 11), error(code=500)], "error"),
        ([event("ADDED", "b", 11), {"type": "ERROR"}], "error"),
        ([event("ADDED", "b", 11), []], "error"),
        ([event("ADDED", "b", 11), {"type": "ADDED", "object": {"metadata": {}}}], "error"),
    ],
)
def test_other_failures_resume_where_the_store_is(steps: Any, end: str) -> None:
    """A dead peer, a cut line, nonsense: reconnect after a pause, without a list."""
    script = Script([page("a", version=10)], [steps])
    script.run()
    assert script.watched == ["10", "11"]
    assert len(script.asked) == 1
    assert len(script.stop.waits) == 1
    assert 0.8 <= script.stop.waits[0] <= 1.6
    assert script.ended(end) == 1
    assert script.streams[0].closed


def test_bookmarks_move_the_version_alone() -> None:
    """A bookmark is no object; it keeps the version from expiring."""
    script = Script([page("a", version=10)], [[bookmark(99)]])
    script.run()
    assert (script.watched, sorted(script.objects)) == (["10", "99"], ["a"])


def test_an_unknown_event_type_is_skipped() -> None:
    """A newer API server may have more to say."""
    script = Script([page("a", version=10)], [[event("NEWS", "b", 11), event("ADDED", "c", 12)]])
    script.run()
    assert (script.watched, sorted(script.objects)) == (["10", "12"], ["a", "c"])


def test_instant_ends_do_not_spin() -> None:
    """A server that closes at once is asked less and less often."""
    script = Script([page("a", version=10)], [[] for _ in range(8)])
    script.watch_lasts_s = 0.0
    script.run()
    waits = script.stop.waits
    assert len(waits) == 8
    assert waits[0] >= 0.8
    assert all(wait <= 60.0 for wait in waits)
    assert sum(waits) > 60.0
    assert script.ended("short") == 8


def test_a_throttling_server_sets_the_pace() -> None:
    """Retry-After is a lower bound of the pause; the watch resumes."""
    script = Script(
        [page("a", version=10)],
        [Throttled("slow down", retry_after_s=20.0), [error(code=429)]],
    )
    script.run()
    assert script.stop.waits[0] == 20.0
    assert script.watched == ["10", "10", "10"]


def test_a_server_that_was_set_back_is_listed_anew() -> None:
    """After a restore of etcd our version lies in its future: the newest list is the truth."""
    script = Script(
        [page("a", version=100), VersionTooLarge("100"), page("b", version=50)],
        [Expired("compacted")],
    )
    script.run()
    assert script.asked == [("", 500, ""), ("100", 0, ""), ("", 0, "")]
    assert (script.watched, sorted(script.objects)) == (["100", "50"], ["b"])
    assert script.versions == ["", ""]


def test_refusals_are_retried_for_ever() -> None:
    """Missing rights may be granted later: the thread does not give up."""
    script = Script([*[Forbidden("no")] * 20, page("a", version=1)], [])
    reflector = script.run()
    assert reflector.listed.is_set()
    assert len(script.stop.waits) == 20


def test_backoff_starts_over_after_calm() -> None:
    """Two quiet minutes forgive old failures."""
    clock = FakeClock()
    backoff = Backoff(clock, random.Random(1))  # noqa: S311 - test data
    for _ in range(10):
        clock.advance(backoff.delay_s())
    assert backoff.delay_s() >= 30.0
    clock.advance(200.0)
    assert backoff.delay_s() <= 1.6


def test_a_stop_before_the_stream_is_there_is_not_lost() -> None:
    """`wake` that finds no stream leaves the stop to be seen right after the connect."""
    script = Script([page("a", version=10)], [])
    script.run()
    assert script.ended("closed") == 1
    assert script.watched == ["10"]


class Door(threading.Event):
    """Of a resource that is absent at first: who waits for it is let in after so long."""

    def __init__(self, script: Script, opens_after_s: float = 5000.0) -> None:
        super().__init__()
        self.script, self.opens_after_s = script, opens_after_s
        self.held: list[list[str]] = []
        """What was in the store while somebody waited."""

    def wait(self, timeout: float | None = None) -> bool:
        """Let time pass and open."""
        assert timeout is None
        self.held.append(sorted(self.script.objects))
        self.script.clock.advance(self.opens_after_s)
        self.set()
        return True


def test_what_is_not_served_is_not_asked_for() -> None:
    """No request before the door opens, and then a list at once."""
    script = Script([page("a", version=10)], [])
    script.served = door = Door(script)
    reflector = script.run()
    assert door.held == [[]]
    assert (script.asked, script.watched) == ([("", 500, "")], ["10"])
    assert (script.stop.waits, script.told) == ([], [True])
    assert reflector.listed.is_set()


def test_what_went_away_leaves_nothing_behind_and_may_come_again() -> None:
    """The stream ends, the store is emptied; the next list is a first one."""
    script = Script([page("a", version=10), page("b", version=5)], [[event("ADDED", "c", 11)]])
    script.served = door = Door(script)
    door.set()
    upsert = script.upsert

    def shut(o: Obj) -> None:
        upsert(o)
        door.clear()

    script.upsert = shut  # type: ignore[method-assign]  # somebody shuts it during the watch
    script.run()
    assert door.held == [[]]
    assert (script.asked, script.watched) == ([("", 500, "")] * 2, ["10", "5"])
    assert sorted(script.objects) == ["b"]
    assert script.told == [True, False, True]
    assert script.ended("closed") == 2
    assert script.stop.waits == []


def test_a_kind_that_is_defined_but_not_served_is_tried_again_quietly() -> None:
    """A 404 is an answer: the API server was heard. It is logged now and then, not each time."""
    script = Script([*[NotFound("no such page", code=404)] * 40, page("a", version=1)], [])
    script.served = door = Door(script)
    door.set()
    quiet: list[float] = []
    wait = script.stop.wait

    def pause(timeout: float | None = None) -> bool:
        quiet.append(timeout or 0.0)
        return wait(timeout)

    script.stop.wait = pause  # type: ignore[method-assign]  # to write down the pauses
    with capture_logs() as logged:
        reflector = script.run()
    lines = [line["event"] for line in logged].count("resource_not_served")
    assert len(quiet) == 40
    assert sum(quiet) / 600 - 1 <= lines <= sum(quiet) / 600 + 1
    assert script.ended("absent") == 40
    assert script.told == [True]
    assert reflector.listed.is_set()


def test_a_404_in_a_watch_means_that_the_list_is_no_longer_true() -> None:
    """The version of the kind that we watch is served no more; what is stored waits for a list."""
    script = Script(
        [page("a", version=10), NotFound("no", code=404), page("b", version=20)],
        [NotFound("no", code=404)],
    )
    script.served = door = Door(script)
    door.set()
    script.run()
    assert script.asked == [("", 500, ""), ("", 500, ""), ("", 500, "")]
    assert script.told == [True, False, True]
    assert sorted(script.objects) == ["b"]


def test_who_stands_by_is_never_quiet_and_sees_the_stop() -> None:
    """Health does not depend on a kind that a cluster need not have."""
    script = Script([], [])
    script.served = threading.Event()
    client: Any = script
    reflector = Reflector(
        JOB, client, script, clock=script.clock, stop=script.stop, served=script.served
    )
    script.clock.advance(10_000.0)
    assert reflector.quiet_s() == 0.0
    script.stop.set()
    reflector.wake()
    reflector.run()
    assert script.asked == []
    script.served.clear()
    assert reflector.quiet_s() == 0.0
