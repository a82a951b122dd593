"""controller.engine's reflector and informer against a real API server, also a broken one."""

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from controller.api.objects import Key, Obj, labels_of, meta, name_of, resource_version_of
from controller.api.resources import BACKUP_SESSION, NAMESPACE, SECRET
from controller.engine import reflector as reflector_module
from controller.engine.informer import Informer
from controller.engine.metrics import Metrics
from controller.engine.threads import Supervisor
from controller.kube.client import Client
from controller.kube.config import connect
from controller.kube.errors import Expired
from tests.support.apiserver import ApiServer
from tests.support.clients import patient_client
from tests.support.proxy import Proxy


def eventually(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait until a condition holds."""
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at, "it never came true"
        time.sleep(0.02)


@pytest.fixture
def client(crds: ApiServer) -> Client:
    """Return a client that nobody disturbs."""
    return patient_client(crds.kubeconfig, pool_size=8)


def new_namespace(client: Client) -> str:
    """Create a namespace of the test's own."""
    name = f"informer-{uuid4().hex[:8]}"
    client.create(NAMESPACE, "", {"metadata": {"name": name}})
    return name


@pytest.fixture
def namespace(client: Client) -> str:
    """Create a namespace of the test's own."""
    return new_namespace(client)


def secret(client: Client, namespace: str, name: str, label: str = "") -> Obj:
    """Create a Secret."""
    metadata = {"name": name, "labels": {"l": label} if label else {}}
    return client.create(SECRET, namespace, {"metadata": metadata, "stringData": {"a": "b"}})


class Running:
    """Started informers with what they told."""

    def __init__(self) -> None:
        self.metrics = Metrics(CollectorRegistry())
        self.threads = Supervisor()
        self.seen: list[tuple[str, str]] = []
        self.informers: list[Informer] = []

    def start(self, informer: Informer) -> Informer:
        """Start and wait for the first list."""
        informer.add_handler(lambda c: self.seen.append((str(c.type), c.key.name)))
        informer.start(self.threads)
        self.informers.append(informer)
        eventually(informer.has_synced)
        return informer

    def count(self, metric: str, **labels: str) -> float:
        """Return the value of a metric."""
        return self.metrics.registry.get_sample_value(metric, labels) or 0.0


@pytest.fixture
def running() -> Iterator[Running]:
    """Stop whatever was started, at once, and look at the threads."""
    world = Running()
    yield world
    started = time.monotonic()
    world.threads.stop.set()
    for informer in world.informers:
        informer.stop()
    assert world.threads.join(20.0) == []
    assert time.monotonic() - started < 20.0
    assert world.threads.crashed == ""


def names(informer: Informer) -> list[str]:
    """Return what is in the store."""
    return sorted(name_of(o) for o in informer.lister.all())


def test_the_store_follows_the_server(client: Client, namespace: str, running: Running) -> None:
    """Added, updated, deleted, with indexes and projection, and without managedFields."""
    secret(client, namespace, "a", "p")
    informer = running.start(
        Informer(
            SECRET,
            client,
            namespaces=(namespace,),
            projection=lambda o: {"metadata": o["metadata"]},
            indexes={"label": lambda o: labels_of(o).values()},
            metrics=running.metrics,
        )
    )
    assert running.seen == [("added", "a")]
    secret(client, namespace, "b", "p")
    client.merge_patch(SECRET, namespace, "a", {"metadata": {"labels": {"l": "q"}}})
    eventually(lambda: [name_of(o) for o in informer.lister.by_index("label", "q")] == ["a"])
    assert [name_of(o) for o in informer.lister.by_index("label", "p")] == ["b"]
    client.delete(SECRET, namespace, "a")
    eventually(lambda: names(informer) == ["b"])
    assert running.seen[1:] == [("added", "b"), ("updated", "a"), ("deleted", "a")]
    found = informer.lister.get(Key(namespace, "b"))
    assert found is not None
    assert set(found) == {"metadata"}
    assert "managedFields" not in meta(found)


def test_metadata_only_informers_hold_no_data(
    client: Client, namespace: str, running: Running
) -> None:
    """D30: for CronJobs and RBAC objects; the list and the watch alike."""
    secret(client, namespace, "listed")
    informer = running.start(Informer(SECRET, client, namespaces=(namespace,), metadata_only=True))
    secret(client, namespace, "watched")
    eventually(lambda: names(informer) == ["listed", "watched"])
    assert all("data" not in o for o in informer.lister.all())


def test_all_pages_are_read(
    client: Client, namespace: str, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of many pages is one state."""
    monkeypatch.setattr(reflector_module, "PAGE", 2)
    for n in range(7):
        secret(client, namespace, f"s{n}")
    informer = running.start(Informer(SECRET, client, namespaces=(namespace,)))
    assert names(informer) == [f"s{n}" for n in range(7)]


def test_namespaces_limit_what_is_seen(client: Client, namespace: str, running: Running) -> None:
    """`--namespaces a,b`: a third one is not there, neither by list nor by watch."""
    second, third = new_namespace(client), new_namespace(client)
    for ns in (namespace, second, third):
        secret(client, ns, "listed")
    informer = running.start(Informer(SECRET, client, namespaces=(namespace, second)))
    for ns in (third, namespace, second):
        secret(client, ns, "watched")
    eventually(lambda: len(names(informer)) == 4)
    assert {meta(o)["namespace"] for o in informer.lister.all()} == {namespace, second}


def test_a_label_selector_sees_objects_come_and_go(
    client: Client, namespace: str, running: Running
) -> None:
    """Losing the label is a deletion for us."""
    secret(client, namespace, "a", "p")
    secret(client, namespace, "b")
    informer = running.start(
        Informer(SECRET, client, namespaces=(namespace,), label_selector="l=p")
    )
    assert names(informer) == ["a"]
    client.merge_patch(SECRET, namespace, "a", {"metadata": {"labels": {"l": None}}})
    eventually(lambda: names(informer) == [])


def test_a_cut_connection_resumes_without_a_list(
    crds: ApiServer, client: Client, namespace: str, running: Running, tmp_path: Path
) -> None:
    """The watch goes on at its version; what happened meanwhile is not lost."""
    with Proxy(crds.address, crds.port) as proxy:
        through = tmp_path / "kubeconfig"
        through.write_text(crds.kubeconfig.read_text().replace(f":{crds.port}", f":{proxy.port}"))
        informer = running.start(
            Informer(
                SECRET,
                connect(str(through), pool_size=2),
                namespaces=(namespace,),
                metrics=running.metrics,
            )
        )
        secret(client, namespace, "before")
        eventually(lambda: names(informer) == ["before"])
        proxy.sever()
        secret(client, namespace, "meanwhile")
        client.delete(SECRET, namespace, "before")
        eventually(lambda: names(informer) == ["meanwhile"])
        reflector = informer.reflectors[0].name
        assert running.count("reflector_lists_total", name=reflector) == 1
        assert running.seen == [("added", "before"), ("added", "meanwhile"), ("deleted", "before")]


def test_a_dead_peer_is_left_at_the_inactivity_limit(
    crds: ApiServer, client: Client, namespace: str, running: Running, tmp_path: Path
) -> None:
    """Bytes stop without a FIN: after the limit the watch is opened anew, at the same version."""
    with Proxy(crds.address, crds.port) as proxy:
        through = tmp_path / "kubeconfig"
        through.write_text(crds.kubeconfig.read_text().replace(f":{crds.port}", f":{proxy.port}"))
        impatient = connect(str(through), pool_size=2)
        original = impatient.watch
        impatient.watch = lambda *a, **k: original(*a, **k, inactivity_s=3.0)  # type: ignore[method-assign]  # 150 s are too long for a test
        informer = running.start(
            Informer(SECRET, impatient, namespaces=(namespace,), metrics=running.metrics)
        )
        reflector = informer.reflectors[0].name
        # an event shows that the watch is open: a silence that begins before would only delay it
        secret(client, namespace, "heard")
        eventually(lambda: names(informer) == ["heard"])
        proxy.silent.set()
        secret(client, namespace, "unheard")
        eventually(
            lambda: running.count("reflector_watches_total", name=reflector, end="dead") >= 1
        )
        assert names(informer) == ["heard"]
        proxy.silent.clear()
        proxy.sever()
        eventually(lambda: names(informer) == ["heard", "unheard"])
        assert running.count("reflector_lists_total", name=reflector) == 1


@pytest.mark.parametrize("kill", [False, True], ids=["SIGTERM", "SIGKILL"])
def test_a_restarted_server_loses_no_event(
    crds: ApiServer, client: Client, namespace: str, running: Running, *, kill: bool
) -> None:
    """Written right before and right after the restart: all is there, without a list for each.

    A server that does not watch the kind itself yet may answer 410 twice.
    """
    informer = running.start(
        Informer(BACKUP_SESSION, client, namespaces=(namespace,), metrics=running.metrics)
    )

    def session(name: str) -> None:
        body = {
            "apiVersion": BACKUP_SESSION.api_version,
            "kind": BACKUP_SESSION.kind,
            "metadata": {"name": name},
            "spec": {"invoker": {"kind": "BackupConfiguration", "name": "bc"}},
        }
        client.create(BACKUP_SESSION, namespace, body)

    for n in range(5):
        session(f"before-{n}")
    crds.restart(kill=kill)
    for n in range(5):
        session(f"after-{n}")
    eventually(lambda: len(names(informer)) == 10)
    assert sorted(name for kind, name in running.seen if kind == "added") == names(informer)
    assert running.count("reflector_lists_total", name=informer.reflectors[0].name) <= 3


def compact(crds: ApiServer) -> None:
    """Have etcd forget every revision but the newest."""
    base = f"http://{crds.address}:{crds._etcd_port}/v3"

    def post(path: str, body: object) -> dict[str, dict[str, str]]:
        request = urllib.request.Request(base + path, data=json.dumps(body).encode())  # noqa: S310 - etcd on the loopback
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
            parsed: dict[str, dict[str, str]] = json.load(answer)
            return parsed

    revision = post("/kv/range", {"key": "AA=="})["header"]["revision"]
    post("/kv/compaction", {"revision": revision, "physical": True})


def test_a_compacted_version_is_listed_anew(
    crds: ApiServer, client: Client, namespace: str, running: Running
) -> None:
    """The API server says 410 to a version that is gone: a list, and deletions are found."""
    gone = secret(client, namespace, "gone")
    version = resource_version_of(gone)
    secret(client, namespace, "stays")
    informer = Informer(SECRET, client, namespaces=(namespace,), metrics=running.metrics)
    reflector = informer.reflectors[0]
    reflector._sink.upsert(gone)
    client.delete(SECRET, namespace, "gone")
    crds.stop()
    try:
        compact(crds)
    finally:
        crds.start()
    with client.watch(SECRET, namespace, resource_version=version, timeout_s=5) as stream:
        first = next(iter(stream))
    assert (first["type"], first["object"]["code"]) == ("ERROR", 410)
    reflector._version, reflector._relist = version, False
    running.start(informer)
    assert names(informer) == ["stays"]
    assert ("deleted", "gone") in running.seen
    assert running.count("reflector_watches_total", name=reflector.name, end="expired") == 1


def test_an_expired_page_is_a_410(crds: ApiServer, client: Client, namespace: str) -> None:
    """What the fallback to a full list is for."""
    for n in range(4):
        secret(client, namespace, f"s{n}")
    page = client.list_page(SECRET, namespace, limit=2)
    crds.stop()
    try:
        compact(crds)
    finally:
        crds.start()
    secret(client, namespace, "later")
    compact(crds)
    with pytest.raises(Expired):
        client.list_page(SECRET, namespace, limit=2, continue_token=page["metadata"]["continue"])


def test_rights_that_come_later_are_used(
    crds: ApiServer, client: Client, namespace: str, running: Running, tmp_path: Path
) -> None:
    """403 is retried: the cluster's owner may grant the right at any time."""
    (tmp_path / "token").write_text("unknown")
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(crds.kubeconfig.read_text().replace("token: admin", "tokenFile: token"))
    informer = Informer(SECRET, connect(str(kubeconfig), pool_size=2), namespaces=(namespace,))
    granted = threading.Timer(1.0, lambda: (tmp_path / "token").write_text(crds.token))
    granted.start()
    secret(client, namespace, "a")
    running.start(informer)
    assert names(informer) == ["a"]
