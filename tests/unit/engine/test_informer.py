"""controller.engine.informer: delivery, sync, resync, several namespaces."""

import threading
from typing import Any

import pytest

from controller.api.objects import Key, Obj, name_of
from controller.api.resources import JOB, TASK, VOLUME_SNAPSHOT
from controller.engine.informer import RESYNC_S, Informer, wait_for_sync
from controller.engine.store import Change
from controller.engine.threads import Supervisor
from tests.support.clock import FakeClock, FakeStop

NO_CLIENT: Any = None


def obj(name: str, version: int, ns: str = "ns") -> Obj:
    """Return an object."""
    metadata = {"name": name, "namespace": ns, "uid": name, "resourceVersion": str(version)}
    return {"metadata": metadata}


def scope(informer: Informer, index: int = 0) -> Any:
    """Return what a reflector of the informer delivers to."""
    return informer.reflectors[index]._sink


def test_a_late_handler_gets_what_is_there() -> None:
    """As initial additions, and then the changes like everybody."""
    informer = Informer(JOB, NO_CLIENT, clock=FakeClock())
    scope(informer).replace([obj("a", 1)], "")
    seen: list[tuple[str, str, bool]] = []
    informer.add_handler(lambda c: seen.append((c.type, c.key.name, c.initial)))
    scope(informer).upsert(obj("b", 2))
    assert seen == [("added", "a", True), ("added", "b", False)]


def test_handlers_run_after_the_store_has_changed() -> None:
    """A handler that reads the lister sees at least what it is told."""
    informer = Informer(JOB, NO_CLIENT, clock=FakeClock())
    seen: list[Obj | None] = []
    informer.add_handler(lambda c: seen.append(informer.lister.get(c.key)))
    scope(informer).upsert(obj("a", 1))
    scope(informer).delete(obj("a", 2))
    assert seen == [obj("a", 1), None]


def test_a_handler_that_raises_is_not_swallowed() -> None:
    """A lost key is lost for ever: the reflector's thread crashes, and with it the process."""

    def broken(_: Change) -> None:
        raise RuntimeError("bug")

    informer = Informer(JOB, NO_CLIENT, clock=FakeClock())
    informer.add_handler(broken)
    with pytest.raises(RuntimeError):
        scope(informer).upsert(obj("a", 1))


def test_namespaces_share_a_store_and_sync_together() -> None:
    """One reflector for each; synced when all have listed."""
    informer = Informer(JOB, NO_CLIENT, namespaces=("two", "one", "two"), clock=FakeClock())
    assert [r.name for r in informer.reflectors] == ["jobs/one", "jobs/two"]
    scope(informer, 0).replace([obj("a", 1, "one")], "")
    scope(informer, 1).replace([obj("a", 2, "two")], "")
    scope(informer, 1).replace([], "")
    assert informer.lister.get(Key("one", "a"))
    assert not informer.lister.get(Key("two", "a"))
    informer.reflectors[0].listed.set()
    assert not informer.has_synced()
    informer.reflectors[1].listed.set()
    assert informer.has_synced()


def test_cluster_resources_ignore_namespaces() -> None:
    """`--namespaces` cannot limit what has none."""
    informer = Informer(TASK, NO_CLIENT, namespaces=("one",), clock=FakeClock())
    assert [r.name for r in informer.reflectors] == ["tasks"]


def test_resync_delivers_everything_again_when_due() -> None:
    """A repair after our own mistakes, from the store and not from the server."""
    clock = FakeClock()
    informer = Informer(JOB, NO_CLIENT, clock=clock)
    scope(informer).replace([obj("a", 1)], "")
    seen: list[tuple[str, str]] = []
    informer.add_handler(lambda c: seen.append((c.type, name_of(c.obj))))
    seen.clear()
    scope(informer).pause()
    assert seen == []
    clock.advance(RESYNC_S * 1.1)
    scope(informer).pause()
    scope(informer).pause()
    assert seen == [("resync", "a")]


def test_waiting_for_sync_is_bounded_and_names_what_is_missing() -> None:
    """A missing CRD ends the start with a name, and not in a hang."""
    clock = FakeClock()
    informer = Informer(JOB, NO_CLIENT, clock=clock)
    assert wait_for_sync([informer], FakeStop(clock), timeout_s=1.0, clock=clock) == ["Job"]
    informer.reflectors[0].listed.set()
    assert wait_for_sync([informer], FakeStop(clock), timeout_s=1.0, clock=clock) == ()


@pytest.mark.parametrize("ending", ["raises", "returns"])
def test_no_thread_ends_quietly(ending: str) -> None:
    """A crash or an unexpected return stops the process and is told to /healthz."""
    threads = Supervisor()

    def target() -> None:
        if ending == "raises":
            raise ValueError("bug")

    threads.start("worker", target)
    assert threads.stop.wait(5.0)
    assert threads.crashed == "worker"
    assert threads.problem() == "thread worker has crashed"


def test_an_ordered_end_is_no_crash() -> None:
    """After the stop, and where it is allowed, a thread may end."""
    threads = Supervisor()
    threads.start("once", lambda: None, may_end=True)
    release = threading.Event()
    threads.start("worker", release.wait)
    assert threads.join(0.05) == ["worker"]
    threads.stop.set()
    release.set()
    assert threads.join(5.0) == []
    assert (threads.crashed, threads.problem()) == ("", None)


def test_a_list_that_is_older_than_our_own_write_does_not_undo_it() -> None:
    """Who may initialise a repository is seen by the Jobs that this process has created (D2)."""
    informer = Informer(JOB, NO_CLIENT, namespaces=("ns", "other"), clock=FakeClock())
    told: list[tuple[str, str]] = []
    informer.add_handler(lambda c: told.append((str(c.type), c.key.name)))
    scope(informer).replace([obj("a", 1)], "")
    informer.take(obj("a", 12))
    informer.take(obj("made", 11))
    scope(informer).replace([obj("a", 8), obj("b", 9)], "10")
    assert told == [("added", "a"), ("updated", "a"), ("added", "made"), ("added", "b")]
    found = informer.lister.get(Key("ns", "a"))
    assert found is not None
    assert found["metadata"]["resourceVersion"] == "12"
    scope(informer).replace([obj("a", 12), obj("b", 9)], "13")
    assert told[4:] == [("deleted", "made")]


def test_an_optional_informer_waits_until_it_is_admitted() -> None:
    """Its store can be believed once it has listed, and no longer when it is shut."""
    informer = Informer(VOLUME_SNAPSHOT, NO_CLIENT, optional=True, clock=FakeClock())
    told: list[bool] = []
    informer.on_served(lambda: told.append(informer.is_served()))
    assert (informer.is_optional, informer.is_shut, informer.is_served()) == (True, True, False)
    informer.admit()
    assert (informer.is_shut, informer.is_served()) == (False, False)
    (reflector,) = informer.reflectors
    reflector.listed.set()
    reflector._on_listed()
    assert informer.is_served()
    informer.shut()
    assert (informer.is_shut, informer.is_served()) == (True, False)
    reflector._lose()
    assert told == [True, False]
    informer.admit()
    assert not informer.is_served()


def test_most_informers_cannot_be_shut() -> None:
    """A kind that must be there is served when it has synced."""
    informer = Informer(JOB, NO_CLIENT, clock=FakeClock())
    informer.shut()
    informer.admit()
    assert (informer.is_optional, informer.is_shut, informer.is_served()) == (False, False, False)
    informer.reflectors[0].listed.set()
    assert informer.is_served()


def test_a_shut_informer_ends_in_good_order() -> None:
    """The thread that stands by sees the stop."""
    threads = Supervisor()
    informer = Informer(VOLUME_SNAPSHOT, NO_CLIENT, optional=True, stop=threads.stop)
    informer.start(threads)
    assert threads.join(0.05) == ["reflector-volumesnapshots"]
    informer.stop()
    assert threads.join(5.0) == []
    assert threads.crashed == ""
