"""controller.engine.leader_label: the label is as wanted, whatever happens to it."""

import random
import threading
from typing import Any

import pytest

from controller.api.resources import POD
from controller.engine.leader_label import LEADER_LABEL, LeaderLabel
from controller.engine.threads import Supervisor
from controller.kube.errors import Forbidden, Unreachable
from tests.support.clock import FakeClock, FakeStop
from tests.support.kube import FakeKube


class World:
    """A pod, its label, and what the watch shows of it, when the test says so."""

    def __init__(self, *, labelled: bool = False) -> None:
        self.kube = FakeKube()
        self.clock = FakeClock()
        self.stop = FakeStop(self.clock)
        labels = {"app": "drey", **({LEADER_LABEL: "true"} if labelled else {})}
        self.kube.put_object(
            POD, {"metadata": {"namespace": "drey", "name": "drey-0", "labels": labels}}
        )
        client: Any = self.kube
        self.label = LeaderLabel(
            client,
            self.clock,
            self.stop,
            namespace="drey",
            pod_name="drey-0",
            rng=random.Random(1),  # noqa: S311 - a script
        )

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the pod as the API server has it."""
        return dict(self.kube.objects["Pod", "drey", "drey-0"]["metadata"]["labels"])

    @property
    def patches(self) -> int:
        """How many PATCHes were sent."""
        return self.kube.calls.count(("patch", "Pod"))

    def show(self) -> None:
        """Have the watch show the pod as it is."""
        self.label.upsert(self.kube.objects["Pod", "drey", "drey-0"])

    def strip(self) -> None:
        """Take the label off, as somebody else."""
        self.kube.merge_patch(POD, "drey", "drey-0", {"metadata": {"labels": {LEADER_LABEL: None}}})
        self.kube.calls.clear()
        self.show()


def test_leader_is_labelled_at_once_and_once() -> None:
    """The label does not wait for the watch; once that shows it, there is nothing to do."""
    world = World()
    assert world.label.ensure() == 0.0
    assert world.patches == 0, "a standby without the label has nothing to write"
    world.label.lead()
    assert world.label.ensure() > 0
    assert world.labels == {"app": "drey", LEADER_LABEL: "true"}
    world.show()
    assert world.label.ensure() == 0.0
    assert world.patches == 1


def test_failed_patch_is_repeated() -> None:
    """An API server that is away, or refuses, is asked again, less and less often."""
    world = World()
    world.kube.fail("patch", *[Unreachable("refused")] * 5, Forbidden("RBAC"))
    world.label.lead()
    delays = []
    while LEADER_LABEL not in world.labels:
        delays.append(world.label.ensure())
        world.stop.wait(delays[-1])
    assert world.patches == 7
    assert 0.8 <= delays[0] <= 1.6
    assert delays[5] > 10


def test_stripped_label_comes_back() -> None:
    """Whoever takes the label off sees it again; if he insists, not at once for ever."""
    world = World()
    world.label.lead()
    delays = [world.label.ensure()]
    for _ in range(5):
        world.stop.wait(delays[-1])
        world.strip()
        delays.append(world.label.ensure())
        assert world.labels[LEADER_LABEL] == "true"
        world.show()
    assert delays[-1] > 10


def test_label_of_an_earlier_life_is_removed() -> None:
    """A container that was killed as the leader comes back as a standby: its label goes."""
    world = World(labelled=True)
    world.label.replace([world.kube.objects["Pod", "drey", "drey-0"]], "")
    assert world.label.ensure() > 0
    assert world.labels == {"app": "drey"}


def test_answer_to_a_patch_is_not_taken_for_the_state() -> None:
    """Somebody strips the label right after our PATCH: the watch knows it, the answer does not."""
    world = World()
    world.label.lead()
    world.label.ensure()
    world.strip()
    assert world.label.ensure() > 0
    assert world.labels[LEADER_LABEL] == "true"


def test_close_has_the_last_word() -> None:
    """A leader that stops takes its label off, by one attempt; nothing puts it on again."""
    world = World()
    world.label.lead()
    world.label.ensure()
    world.show()
    world.stop.set()
    world.label.close()
    assert world.labels == {"app": "drey"}
    assert world.label.ensure() == 0.0
    world.label.run()
    assert world.patches == 2


def test_close_survives_a_failure() -> None:
    """Without an API server the stop goes on: the pod's end takes the label along."""
    world = World(labelled=True)
    world.show()
    world.stop.set()
    world.kube.fail("patch", Unreachable("refused"))
    world.label.close()
    assert world.patches == 1


def test_close_of_a_standby_writes_nothing() -> None:
    """A process that never led has no label to take off."""
    world = World()
    world.stop.set()
    world.label.close()
    assert world.patches == 0


@pytest.mark.timeout(10)
def test_threads_end() -> None:
    """The writing thread sleeps until there is something to do, and ends with `close`."""
    world = World()
    stop = threading.Event()
    client: Any = world.kube
    label = LeaderLabel(client, world.clock, stop, namespace="drey", pod_name="drey-0")
    thread = threading.Thread(target=label.run)
    thread.start()
    label.lead()
    while LEADER_LABEL not in world.labels:
        stop.wait(0.01)
    stop.set()
    label.close()
    thread.join()
    assert world.labels == {"app": "drey"}


def test_outside_of_a_cluster() -> None:
    """Without a pod's name there is neither a thread nor a request."""
    world = World()
    client: Any = world.kube
    label = LeaderLabel(client, world.clock, world.stop, namespace="drey", pod_name="")
    threads = Supervisor(world.stop)
    label.start(threads)
    label.lead()
    world.stop.set()
    label.close()
    assert threads.join(0) == []
    assert world.kube.calls == []
