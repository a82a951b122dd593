"""controller.engine.leader_label on a real API server: stripped, refused, away."""

import time
from collections.abc import Callable, Iterator

import pytest

from controller.api.objects import Obj, dig, labels_of
from controller.api.resources import POD
from controller.engine.clock import SystemClock
from controller.engine.leader_label import LEADER_LABEL, LeaderLabel
from controller.engine.threads import Supervisor
from controller.kube.client import Client
from tests.support import apiserver as support
from tests.support.apiserver import ApiServer
from tests.support.clients import patient_client

HERE = "default"
DEADLINE_S = 120.0
"""The label is written again up to 51 s after a write that failed."""


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    """Run an API server that this module may stop."""
    with support.running() as running:
        yield running


@pytest.fixture
def client(server: ApiServer) -> Client:
    """Return a client that may do everything, with two pods like those of the operator there."""
    made = patient_client(server.kubeconfig, pool_size=4)
    for name in ("drey-0", "drey-1"):
        body = {
            "metadata": {"name": name, "namespace": HERE, "labels": {"app": "drey"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }
        made.apply(POD, body)
    return made


def labelled(client: Client) -> list[str]:
    """Return the pods with the label."""
    page = client.list_page(POD, HERE, label_selector=f"{LEADER_LABEL}=true")
    return [str(dig(pod, "metadata", "name")) for pod in page["items"]]


def eventually(check: Callable[[], bool]) -> None:
    """Wait for what another thread brings about."""
    deadline = time.monotonic() + DEADLINE_S
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def set_label(client: Client, name: str, value: str | None) -> Obj:
    """Write the label as somebody else does."""
    return client.merge_patch(POD, HERE, name, {"metadata": {"labels": {LEADER_LABEL: value}}})


def test_label_is_kept(server: ApiServer, client: Client) -> None:
    """Put on, put back when stripped or when the API server was away, taken off at the end."""
    # what a killed leader leaves behind, on this pod and on one that is not ours
    set_label(client, "drey-0", "true")
    set_label(client, "drey-1", "true")
    threads = Supervisor()
    label = LeaderLabel(client, SystemClock(), threads.stop, namespace=HERE, pod_name="drey-0")
    label.start(threads)
    eventually(lambda: labelled(client) == ["drey-1"])
    set_label(client, "drey-1", None)
    label.lead()
    eventually(lambda: labelled(client) == ["drey-0"])
    for value in (None, "false"):
        # by its answer: a look may come after the label is back
        assert labels_of(set_label(client, "drey-0", value)).get(LEADER_LABEL) == value
        eventually(lambda: labelled(client) == ["drey-0"])
    set_label(client, "drey-0", None)
    server.restart(kill=True)
    eventually(lambda: labelled(client) == ["drey-0"])
    threads.stop.set()
    label.close()
    assert threads.join(DEADLINE_S) == []
    assert labelled(client) == []
    assert threads.crashed == ""


def test_label_is_put_on_when_the_api_server_is_back(server: ApiServer, client: Client) -> None:
    """Who becomes the leader and cannot say so says it as soon as it can be heard."""
    threads = Supervisor()
    label = LeaderLabel(client, SystemClock(), threads.stop, namespace=HERE, pod_name="drey-0")
    server.stop(kill=True)
    label.lead()
    label.start(threads)
    threads.stop.wait(1.0)
    server.start()
    eventually(lambda: labelled(client) == ["drey-0"])
    threads.stop.set()
    label.close()
    assert threads.join(DEADLINE_S) == []
