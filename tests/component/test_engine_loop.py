"""All engine parts together, with a toy reconciler, against a real API server."""

import time
from collections.abc import Iterator
from datetime import datetime
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from controller.api.objects import Key, Obj, dig, name_of, namespace_of, status
from controller.api.resources import BACKUP_SESSION, NAMESPACE
from controller.engine.clock import SystemClock
from controller.engine.events import Recorder
from controller.engine.executor import Executor
from controller.engine.informer import Informer, Lister
from controller.engine.loop import Loop
from controller.engine.metrics import Metrics
from controller.engine.queue import Priority, WorkQueue
from controller.engine.threads import Supervisor
from controller.kube.client import Client
from controller.plan import Note, Plan, Ref, Refusal, SetStatus
from tests.support.apiserver import ApiServer
from tests.support.clients import patient_client

NEXT = {None: "Pending", "Pending": "Running", "Running": "Succeeded"}


class Stepper:
    """Moves a session one phase per turn, and tells the last one in an Event."""

    lane = "sessions"

    def __init__(self, lister: Lister) -> None:
        self.lister = lister

    def observe(self, key: Key, _refusal: Refusal | None) -> Obj | None:
        """Return the cached object."""
        return self.lister.get(key)

    def plan(self, observed: Obj, _now: datetime) -> Plan:
        """Take the next step."""
        phase = status(observed).get("phase")
        if phase not in NEXT:
            return Plan(facts={"phase": phase})
        ref = Ref.to(BACKUP_SESSION, observed)
        done = NEXT[phase] == "Succeeded"
        return Plan(
            writes=(SetStatus(ref, {"phase": NEXT[phase]}),),
            notes=(Note(ref, "Normal", "Done", "all done"),) if done else (),
            facts={"phase": NEXT[phase]},
        )


class Controller:
    """A small `app`."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.metrics = Metrics(CollectorRegistry())
        clock = SystemClock()
        self.threads = Supervisor()
        self.queue = WorkQueue((Stepper.lane,), clock, metrics=self.metrics)
        self.metrics.watch_queue(self.queue)
        self.recorder = Recorder(client, clock, instance="drey-0", metrics=self.metrics)
        self.informer = Informer(
            BACKUP_SESSION, client, namespaces=(namespace,), metrics=self.metrics
        )
        self.informer.add_handler(
            lambda c: self.queue.add(
                Stepper.lane, c.key, Priority.LOW if c.initial else Priority.NORMAL
            )
        )
        loop = Loop(
            Stepper(self.informer.lister),
            BACKUP_SESSION,
            queue=self.queue,
            executor=Executor(client, metrics=self.metrics),
            record=self.recorder.record,
            clock=clock,
            lister=self.informer.lister,
            metrics=self.metrics,
        )
        self.informer.start(self.threads)
        self.threads.start("events", self.recorder.run)
        for n in range(2):
            self.threads.start(f"sessions-{n}", loop.run)

    def close(self) -> None:
        """Stop in the order of the data's way."""
        self.threads.stop.set()
        assert self.queue.drain(30.0)
        assert self.recorder.close(30.0)  # an Event that failed is posted again after 10 s
        self.informer.stop()
        assert self.threads.join(20.0) == []
        assert self.threads.crashed == ""

    def count(self, metric: str, **labels: str) -> float:
        """Return the value of a metric."""
        return self.metrics.registry.get_sample_value(metric, labels) or 0.0


@pytest.fixture
def client(crds: ApiServer) -> Client:
    """Return a client with a pool of its own."""
    return patient_client(crds.kubeconfig, pool_size=8)


@pytest.fixture
def namespace(client: Client) -> str:
    """Create a namespace of the test's own."""
    name = f"loop-{uuid4().hex[:8]}"
    client.create(NAMESPACE, "", {"metadata": {"name": name}})
    return name


@pytest.fixture
def controller(client: Client, namespace: str) -> Iterator[Controller]:
    """Run a controller; at the end it stops in good order and in time."""
    running = Controller(client, namespace)
    yield running
    running.close()


def create(client: Client, namespace: str, *names: str) -> None:
    """Create sessions."""
    for name in names:
        body = {
            "apiVersion": BACKUP_SESSION.api_version,
            "kind": BACKUP_SESSION.kind,
            "metadata": {"name": name},
            "spec": {"invoker": {"kind": "BackupConfiguration", "name": "bc"}},
        }
        client.create(BACKUP_SESSION, namespace, body)


def phases(client: Client, namespace: str) -> dict[str, str | None]:
    """Return the phase of each session, as the server has it."""
    items = client.list_page(BACKUP_SESSION, namespace)["items"]
    return {name_of(item): dig(item, "status", "phase") for item in items}


def wait_until_succeeded(client: Client, namespace: str, count: int, timeout_s: float) -> float:
    """Return how long it took."""
    started = time.monotonic()
    while list(phases(client, namespace).values()) != ["Succeeded"] * count:
        assert time.monotonic() - started < timeout_s, phases(client, namespace)
        time.sleep(0.01)
    return time.monotonic() - started


def test_each_step_is_one_write(client: Client, namespace: str, controller: Controller) -> None:
    """Three phases, three PUTs, one Event: no conflict, no write on a stale cache."""
    names = [f"s{n}" for n in range(10)]
    create(client, namespace, *names)
    wait_until_succeeded(client, namespace, len(names), 60.0)
    writes = "drey_api_writes_total"
    ends_at = time.monotonic() + 60.0
    while controller.count(writes, verb="create", kind="Event") < 10:
        assert time.monotonic() < ends_at
        time.sleep(0.01)
    assert controller.count(writes, verb="update_status", kind="BackupSession") == 30
    assert controller.count(writes, verb="create", kind="Event") == 10
    for outcome in ("stale", "retry", "refused", "panic"):
        assert controller.count("reconcile_total", kind="BackupSession", outcome=outcome) == 0


def test_work_goes_on_after_an_outage(
    crds: ApiServer, client: Client, namespace: str, controller: Controller
) -> None:
    """The API server is killed in the middle: everything ends well, without a hand on it."""
    create(client, namespace, *(f"before-{n}" for n in range(10)))
    crds.stop(kill=True)
    try:
        time.sleep(1.0)
    finally:
        crds.start()
    create(client, namespace, *(f"after-{n}" for n in range(3)))
    wait_until_succeeded(client, namespace, 13, 60.0)
    assert controller.count("reconcile_panics_total", kind="BackupSession") == 0
    assert controller.threads.crashed == ""


def test_a_restarted_controller_goes_on_where_the_objects_are(
    client: Client, namespace: str
) -> None:
    """Everything is a function of what is observed: nothing is remembered, nothing is lost."""
    create(client, namespace, "a")
    item = client.list_page(BACKUP_SESSION, namespace)["items"][0]
    ref = Ref.to(BACKUP_SESSION, item)
    Executor(client).execute(Plan((SetStatus(ref, {"phase": "Running"}),)))
    assert namespace_of(item) == namespace
    controller = Controller(client, namespace)
    wait_until_succeeded(client, namespace, 1, 60.0)
    controller.close()
    assert (
        controller.count("drey_api_writes_total", verb="update_status", kind="BackupSession") == 1
    )
