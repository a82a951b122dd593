"""controller.kube against a real API server: paging, watches, tokens, preconditions."""

import dataclasses
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from controller.api.objects import Obj, meta, name_of, resource_version_of, uid_of
from controller.api.resources import (
    BACKUP_SESSION,
    CRD,
    NAMESPACE,
    ROLE,
    SECRET,
    STORAGE_CLASS,
    Resource,
)
from controller.kube.client import Client, find
from controller.kube.config import TokenFile, connect
from controller.kube.errors import (
    AlreadyExists,
    Conflict,
    Invalid,
    NotFound,
    NotServed,
    Throttled,
    Unauthorized,
    Unreachable,
)
from controller.kube.exec import run_in_pod
from tests.support.apiserver import ApiServer
from tests.support.clients import patient_client

OTHER_UID = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def client(crds: ApiServer) -> Client:
    """Return a client with a pool of its own."""
    return patient_client(crds.kubeconfig, pool_size=4)


@pytest.fixture
def namespace(client: Client) -> str:
    """Create a namespace of the test's own."""
    name = f"kube-{uuid4().hex[:8]}"
    client.create(NAMESPACE, "", {"metadata": {"name": name}})
    return name


def session(namespace: str, name: str) -> Obj:
    """Return a valid BackupSession."""
    return {
        "apiVersion": BACKUP_SESSION.api_version,
        "kind": BACKUP_SESSION.kind,
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"invoker": {"kind": "BackupConfiguration", "name": "bc"}},
    }


def secret(namespace: str, name: str) -> Obj:
    """Return a Secret."""
    return {"metadata": {"namespace": namespace, "name": name}, "stringData": {"a": "b"}}


def fill_watch_cache(client: Client, resource: Resource, body: Callable[[str, str], Obj]) -> None:
    """Return when the server watches the kind itself, in a namespace of its own.

    It starts to when the kind is first asked for, also after a restart. Until it has, it answers
    429, and then 410 to a version from before. A reflector lists again then, and so does this;
    what is listed later has a version that the server knows.
    """
    namespace = f"cache-{uuid4().hex[:8]}"
    client.create(NAMESPACE, "", {"metadata": {"name": namespace}})
    answers: list[Obj | Throttled] = []
    for n in range(20):
        version = resource_version_of(client.list_page(resource, namespace))
        client.create(resource, namespace, body(namespace, f"o{n}"))
        try:
            with client.watch(
                resource, namespace, resource_version=version, timeout_s=30
            ) as stream:
                answer = next(iter(stream))
        except Throttled as err:
            answers.append(err)
            time.sleep(err.retry_after_s)
            continue
        if answer["type"] == "ADDED":
            return
        answers.append(answer)
    pytest.fail(f"the server does not watch {resource.plural}: {answers}")


def test_exec_speaks_tls_of_its_own(
    client: Client, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server is verified, knows who asks, and answers: there is no such pod."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with pytest.raises(NotFound, match="nobody"):
        run_in_pod(client, namespace, "nobody", "app", ("true",), timeout_s=10.0)
    monkeypatch.setattr(client.configuration, "ssl_ca_cert", None)
    monkeypatch.setattr(client.configuration, "ca_cert_data", None)
    with pytest.raises(Unreachable, match="SSL"):
        run_in_pod(client, namespace, "nobody", "app", ("true",), timeout_s=10.0)
    monkeypatch.setattr(client.configuration, "verify_ssl", False)
    with pytest.raises(NotFound, match="nobody"):
        run_in_pod(client, namespace, "nobody", "app", ("true",), timeout_s=10.0)


def test_pages_together_are_the_whole_list(client: Client, namespace: str) -> None:
    """`continue` is followed by whoever asks: each page carries the token of the next."""
    for i in range(5):
        client.create(SECRET, namespace, secret(namespace, f"s{i}"))
    names, token = [], ""
    for size in (2, 2, 1):
        page = client.list_page(SECRET, namespace, limit=2, continue_token=token)
        assert len(page["items"]) == size
        names += [name_of(item) for item in page["items"]]
        token = page["metadata"].get("continue", "")
    assert (names, token) == ([f"s{i}" for i in range(5)], "")


def test_metadata_only_leaves_the_data_at_the_server(client: Client, namespace: str) -> None:
    """Lists and watches of PartialObjectMetadata carry no spec, data or status."""
    fill_watch_cache(client, SECRET, secret)
    client.create(SECRET, namespace, secret(namespace, "s"))
    page = client.list_page(SECRET, namespace, metadata_only=True)
    assert page["kind"] == "PartialObjectMetadataList"
    assert set(page["items"][0]) == {"apiVersion", "kind", "metadata"}
    client.create(SECRET, namespace, secret(namespace, "t"))
    version = resource_version_of(page)
    with client.watch(
        SECRET, namespace, resource_version=version, timeout_s=30, metadata_only=True
    ) as stream:
        event = next(iter(stream))
    assert (event["type"], name_of(event["object"])) == ("ADDED", "t")
    assert set(event["object"]) == {"apiVersion", "kind", "metadata"}


def test_a_watch_ends_with_a_bookmark(client: Client, namespace: str) -> None:
    """The API server sends one two seconds before the watch's time is over.

    It does so only if its own cache has seen an event since that was filled: hence some.
    """
    fill_watch_cache(client, BACKUP_SESSION, session)
    version = resource_version_of(client.list_page(BACKUP_SESSION, namespace))

    def write() -> None:
        for n in range(4):
            client.create(BACKUP_SESSION, namespace, session(namespace, f"s{n}"))
            time.sleep(0.5)

    writer = threading.Thread(target=write)
    writer.start()
    with client.watch(BACKUP_SESSION, namespace, resource_version=version, timeout_s=12) as stream:
        types = [event["type"] for event in stream]
    writer.join()
    assert types[:4] == ["ADDED"] * 4
    assert set(types[4:]) == {"BOOKMARK"}  # the server's regular one, of each minute, may join it


def test_close_wakes_a_blocked_watch_at_once(client: Client, namespace: str) -> None:
    """A shutdown does not wait for the next event."""
    fill_watch_cache(client, SECRET, secret)
    version = resource_version_of(client.list_page(SECRET, namespace))
    stream = client.watch(SECRET, namespace, resource_version=version, timeout_s=300)
    timer = threading.Timer(0.5, stream.close)
    started = time.monotonic()
    timer.start()
    assert list(stream) == []
    assert 0.4 < time.monotonic() - started < 30.0


def test_a_silent_watch_ends_at_the_inactivity_limit(client: Client, namespace: str) -> None:
    """No byte within the limit means that the peer may be dead.

    The answer's head must come within it, too; the first bookmark comes after a minute.
    """
    fill_watch_cache(client, SECRET, secret)
    version = resource_version_of(client.list_page(SECRET, namespace))
    with (
        client.watch(
            SECRET, namespace, resource_version=version, timeout_s=300, inactivity_s=5.0
        ) as stream,
        pytest.raises(Unreachable) as caught,
    ):
        next(iter(stream))
    assert caught.value.reason == "Silent"


def test_a_status_put_needs_no_spec_and_keeps_the_rest(client: Client, namespace: str) -> None:
    """PUT /status takes identity and status alone, even where the schema requires a spec."""
    body = dict(session(namespace, "s"))
    body["metadata"] = {**body["metadata"], "labels": {"keep": "me"}}
    created = client.create(BACKUP_SESSION, namespace, body)
    identity = {k: meta(created)[k] for k in ("name", "namespace", "uid", "resourceVersion")}
    updated = client.put_status(
        BACKUP_SESSION, {"metadata": identity, "status": {"phase": "Running"}}
    )
    assert updated["status"] == {"phase": "Running"}
    assert updated["spec"] == created["spec"]
    assert meta(updated)["labels"] == {"keep": "me"}
    with pytest.raises(Conflict):
        client.put_status(BACKUP_SESSION, {"metadata": identity, "status": {}})
    current = identity | {"resourceVersion": resource_version_of(updated), "uid": OTHER_UID}
    with pytest.raises(Conflict):
        client.put_status(BACKUP_SESSION, {"metadata": current, "status": {}})


def test_refusals_have_their_class(client: Client, namespace: str) -> None:
    """Namesakes, foreign uids, missing namespaces and bad bodies are told apart."""
    created = client.create(SECRET, namespace, secret(namespace, "s"))
    with pytest.raises(AlreadyExists):
        client.create(SECRET, namespace, secret(namespace, "s"))
    with pytest.raises(Conflict):
        client.delete(SECRET, namespace, "s", uid=OTHER_UID)
    with pytest.raises(NotFound):
        client.get(SECRET, namespace, "absent")
    with pytest.raises(NotFound):
        client.apply(ROLE, {"metadata": {"namespace": "absent", "name": "r"}, "rules": []})
    with pytest.raises(Invalid):
        client.json_patch(
            SECRET, namespace, "s", [{"op": "test", "path": "/metadata/uid", "value": OTHER_UID}]
        )
    broken = {"metadata": {"namespace": namespace, "name": "x"}, "spec": {"invoker": 3}}
    with pytest.raises(Invalid, match="expected map"):
        client.apply(BACKUP_SESSION, broken)
    client.delete(SECRET, namespace, "s", uid=uid_of(created))
    with pytest.raises(NotFound):
        client.get(SECRET, namespace, "s")


def test_only_an_object_that_does_not_exist_is_none(client: Client, namespace: str) -> None:
    """A resource that is not served answers 404 as well: nobody knows its objects then."""
    for resource in (SECRET, BACKUP_SESSION):
        assert find(client, resource, namespace, "absent") is None
        assert find(client, resource, "absent", "absent") is None
    assert find(client, STORAGE_CLASS, "", "absent") is None
    no_version = dataclasses.replace(BACKUP_SESSION, version="v9")
    no_group = dataclasses.replace(SECRET, group="nobody.example")
    no_kind = dataclasses.replace(STORAGE_CLASS, plural="nothings")
    for resource, where in ((no_version, namespace), (no_group, namespace), (no_kind, "")):
        with pytest.raises(NotServed, match="could not find the requested resource"):
            find(client, resource, where, "absent")
        with pytest.raises(NotServed):
            client.list_page(resource, where)
    with pytest.raises(NotFound) as missing:
        client.create(SECRET, "absent", secret("absent", "s"))
    assert not isinstance(missing.value, NotServed)


def test_a_definition_that_was_made_again_is_no_proof_that_an_object_is_gone(
    client: Client, namespace: str
) -> None:
    """Until its kind is served each answer is NotServed, then NotFound: never before."""
    group = f"g{uuid4().hex[:8]}.example"
    things = Resource(group, "v1", "Thing", "things")
    with pytest.raises(NotServed):
        find(client, things, namespace, "x")
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema},
    }  # fmt: skip
    spec = {
        "group": group, "scope": "Namespaced", "versions": [version],
        "names": {"kind": "Thing", "plural": "things", "singular": "thing"},
    }  # fmt: skip
    name = f"things.{group}"
    client.create(CRD, "", {"metadata": {"name": name}, "spec": spec})
    ends_at = time.monotonic() + 30.0
    while True:
        try:
            assert find(client, things, namespace, "x") is None
            break
        except NotServed:
            assert time.monotonic() < ends_at, "it is not served"
            time.sleep(0.05)
    client.create(things, namespace, {
        "apiVersion": things.api_version, "kind": "Thing", "metadata": {"name": "x"},
    })  # fmt: skip
    assert find(client, things, namespace, "x") is not None
    client.delete(CRD, "", name)


def test_no_server_is_unreachable(tmp_path: Path, crds: ApiServer) -> None:
    """A refused connection and an untrusted certificate are errors of our tree, and quick."""
    refused = tmp_path / "refused"
    refused.write_text(crds.kubeconfig.read_text().replace(f":{crds.port}", ":1"))
    with pytest.raises(Unreachable):
        connect(str(refused), pool_size=1).get(NAMESPACE, "", "default")
    other = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "k", "-out", "other.crt"]
    subprocess.run(
        ["openssl", *other, "-subj", "/CN=x"], cwd=tmp_path, check=True, capture_output=True
    )
    untrusted = tmp_path / "untrusted"
    text = crds.kubeconfig.read_text()
    untrusted.write_text(text.replace(str(crds.ca_file), str(tmp_path / "other.crt")))
    with pytest.raises(Unreachable):
        connect(str(untrusted), pool_size=1).get(NAMESPACE, "", "default")


def in_pod(crds: ApiServer, mount: Path, token: str) -> Client:
    """Connect as a pod does, with a ServiceAccount folder as the kubelet mounts it."""
    shutil.copy(crds.ca_file, mount / "ca.crt")
    (mount / "token").write_text(token)
    environ = {
        "KUBERNETES_SERVICE_HOST": crds.address,
        "KUBERNETES_SERVICE_PORT": str(crds.port),
    }
    return connect(None, pool_size=2, service_account=mount, environ=environ)


def test_a_rotated_token_heals_a_401_within_the_same_request(
    crds: ApiServer, tmp_path: Path
) -> None:
    """The token is read again after a 401, and the caller does not notice."""
    client = in_pod(crds, tmp_path, "expired")
    with pytest.raises(Unauthorized):
        client.get(NAMESPACE, "", "default")
    time.sleep(0.05)
    assert client.unauthorized_for_s() > 0
    (tmp_path / "token").write_text(crds.token)
    assert name_of(client.get(NAMESPACE, "", "default")) == "default"
    assert client.unauthorized_for_s() == 0


def test_a_rotated_token_is_sent_without_a_401(
    crds: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a minute the next request carries the new token by itself."""
    codes: list[int] = []
    now_s = [0.0]
    monkeypatch.setattr(TokenFile.__init__, "__kwdefaults__", {"monotonic": lambda: now_s[0]})
    shutil.copy(crds.ca_file, tmp_path / "ca.crt")
    (tmp_path / "token").write_text("expired")
    client = connect(
        None,
        pool_size=2,
        service_account=tmp_path,
        environ={
            "KUBERNETES_SERVICE_HOST": crds.address,
            "KUBERNETES_SERVICE_PORT": str(crds.port),
        },
        on_request=lambda _verb, _kind, code, _seconds: codes.append(code),
    )
    (tmp_path / "token").write_text(crds.token)
    now_s[0] = 61.0
    client.get(NAMESPACE, "", "default")
    assert codes == [200]


def test_a_kubeconfig_with_token_file_follows_its_rotation(crds: ApiServer, tmp_path: Path) -> None:
    """The library reads a tokenFile once; we read it again."""
    (tmp_path / "token").write_text("expired")
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(crds.kubeconfig.read_text().replace("token: admin", "tokenFile: token"))
    client = connect(str(kubeconfig), pool_size=1)
    (tmp_path / "token").write_text(crds.token)
    assert name_of(client.get(NAMESPACE, "", "default")) == "default"


def test_every_request_is_reported(crds: ApiServer) -> None:
    """The hook sees verb, kind and status, also of failures."""
    seen: list[tuple[str, str, int]] = []
    client = connect(
        str(crds.kubeconfig), pool_size=1, on_request=lambda v, k, c, _: seen.append((v, k, c))
    )
    client.get(NAMESPACE, "", "default")
    with pytest.raises(NotFound):
        client.get(NAMESPACE, "", "absent")
    assert seen == [("get", "Namespace", 200), ("get", "Namespace", 404)]
