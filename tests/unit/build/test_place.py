"""Which Repositories are one restic repository."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.repository import RepositorySpec
from controller.build.backend import location_of
from controller.build.place import place_hash
from tests.support.orders import parsed


def spec(backend: dict[str, Any]) -> RepositorySpec:
    """Return a Repository's spec with one backend."""
    return parsed(RepositorySpec, {"backend": {"storageSecretName": "s", **backend}})


def place(backend: dict[str, Any], namespace: str = "demo") -> str:
    """Return the hash of a backend."""
    return place_hash(spec(backend), namespace)


def s3(endpoint: str, bucket: str = "b", prefix: str = "", **more: Any) -> dict[str, Any]:
    """Return an S3 backend."""
    return {"s3": {"endpoint": endpoint, "bucket": bucket, "prefix": prefix, **more}}


def rest(url: str) -> dict[str, Any]:
    """Return the backend of a REST server."""
    return {"rest": {"url": url}}


def local(kind: str, source: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a local backend."""
    return {"local": {kind: source, "mountPath": "/safe", **more}}


def claim(name: str, **more: Any) -> dict[str, Any]:
    """Return a local backend on a claim."""
    return local("persistentVolumeClaim", {"claimName": name}, **more)


def nfs(server: str = "n", path: str = "/x", subPath: str = "", **more: Any) -> dict[str, Any]:  # noqa: N803 - as in the API
    """Return a local backend on an NFS share."""
    return local("nfs", {"server": server, "path": path, **more}, subPath=subPath)


ONE_PLACE: dict[str, tuple[dict[str, Any], ...]] = {
    "S3 schemes and hosts": (
        s3("https://host"),
        s3("host"),
        s3("//host"),
        s3("https://host/"),
        s3("https://HOST"),
        s3("https://host:443"),
        s3("host:443"),
        s3("host."),
        s3("http://host"),
        s3("http://host:80/"),
    ),
    "S3 ports": (s3("host:9000"), s3("http://host:9000"), s3("https://Host:9000/")),
    "S3 paths": (
        s3("h", "b", "p/q"),
        s3("h", "b", "/p//q/"),
        s3("h", "b/p/q"),
        s3("h/b", "p", "q"),
        s3("h", "b", "./p/x/../q"),
        s3("https://h", "b", "p/%71"),
        s3("https://h", "b", "p/q?x"),
        s3("https://h", "b", "p/q#x"),
        s3("h", "b", "p/q", region="eu", insecureTLS=True),
    ),
    "S3 at Amazon": (
        s3("s3.amazonaws.com"),
        s3("https://s3.eu-west-1.amazonaws.com"),
        s3("s3.dualstack.eu-west-1.amazonaws.com"),
    ),
    "Google": (
        {"gcs": {"bucket": "b", "prefix": "/p"}},
        {"gcs": {"bucket": "b", "prefix": "p/", "maxConnections": 3}},
        s3("https://storage.googleapis.com", "b", "p"),
    ),
    "Backblaze": (
        {"b2": {"bucket": "b", "prefix": "p"}},
        s3("s3.us-west-004.backblazeb2.com", "b", "p"),
    ),
    "REST": (
        rest("http://h/x"),
        rest("http://h/x/"),
        rest("http://H:80/x"),
        rest("HTTP://h//x//"),
        rest("https://h:443/x"),
        rest("http://h/%78"),
    ),
    "REST ports": (rest("http://h:8000"), rest("http://h:8000/"), rest("https://h:8000")),
    "Azure": (
        {"azure": {"container": "c", "prefix": "x"}},
        {"azure": {"container": "c", "prefix": "/x/", "maxConnections": 1}},
    ),
    "NFS": (
        nfs(),
        nfs(readOnly=False),
        nfs("N."),
        nfs(path="/x/"),
        nfs(path="/", subPath="x"),
        local("nfs", {"server": "n", "path": "/x"}, mountPath="/elsewhere"),
    ),
    "hostPath": (
        local("hostPath", {"path": "/srv/x"}),
        local("hostPath", {"path": "/srv/x/", "type": "Directory"}),
        local("hostPath", {"path": "/srv"}, subPath="x/"),
    ),
    "claim": (
        claim("c"),
        local("persistentVolumeClaim", {"claimName": "c", "readOnly": False}),
        claim("c", mountPath="/elsewhere", subPath=""),
    ),
    "CephFS": (
        local("cephfs", {"monitors": ["a", "b"], "path": "/x", "user": "u"}),
        local("cephfs", {"monitors": ["B"], "secretRef": {"name": "s"}}, subPath="x"),
    ),
    "GlusterFS": (
        local("glusterfs", {"endpoints": "e", "path": "vol/x"}),
        local("glusterfs", {"endpoints": "f", "path": "vol"}, subPath="x"),
    ),
    "CSI": (
        local("csi", {"driver": "d", "volumeAttributes": {"share": "/x"}}),
        local(
            "csi",
            {
                "driver": "d", "readOnly": True, "nodePublishSecretRef": {"name": "s"},
                "volumeAttributes": {"share": "/x", "mountOptions": "nolock"},
            },
        ),
    ),
    "Azure Files": (
        local("azureFile", {"shareName": "x", "secretName": "a"}),
        local("azureFile", {"shareName": "x", "secretName": "b", "readOnly": True}),
    ),
    "RBD": (
        local("rbd", {"image": "i", "monitors": ["a"]}),
        local("rbd", {"image": "i", "pool": "rbd"}),
    ),
    "a source of tomorrow": (
        local("tomorrow", {"id": "x", "fsType": "ext4", "readOnly": True}),
        local("tomorrow", {"id": "x", "secretRef": {"name": "s"}}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("backends", ONE_PLACE.values(), ids=ONE_PLACE)
def test_spellings_of_one_place(backends: tuple[dict[str, Any], ...]) -> None:
    """D1, D2: whatever leads to one restic repository has one hash."""
    assert {place(backend): backend for backend in backends}.keys() == {place(backends[0])}
    assert len(place(backends[0])) == 16


def test_other_places() -> None:
    """What is another repository has another hash: it need not wait, and keeps its snapshots."""
    backends = [
        *(found[0] for found in ONE_PLACE.values()),
        s3("h", "b", "p"),
        s3("h", "c", "p"),
        s3("h", "b", "P"),
        s3("o", "b", "p"),
        s3("h:9000", "b", "p"),
        s3("s3.cn-north-1.amazonaws.com.cn"),
        s3("fakeamazonaws.com"),
        rest("http://h/y"),
        rest("http://h:8000/x"),
        {"gcs": {"bucket": "b", "prefix": "q"}},
        {"azure": {"container": "c", "prefix": "y"}},
        # to restic these are two (stash.md 5.1)
        {"swift": {"container": "c", "prefix": "x"}},
        {"swift": {"container": "c", "prefix": "/x"}},
        nfs("other"),
        nfs(path="/y"),
        nfs(subPath="y"),
        local("hostPath", {"path": "/srv/y"}),
        claim("d"),
        claim("c", subPath="x"),
        local("cephfs", {"path": "/y"}),
        local("csi", {"driver": "d", "volumeAttributes": {"share": "/y"}}),
        local("csi", {"driver": "e", "volumeAttributes": {"share": "/x"}}),
        local("tomorrow", {"id": "y"}),
    ]
    assert len({place(backend) for backend in backends}) == len(backends)


def test_namespaces() -> None:
    """A claim is its namespace's; everything else is the same from everywhere."""
    assert place(claim("c"), "a") != place(claim("c"), "b")
    for backend in (nfs(), s3("h"), rest("http://h/x"), local("hostPath", {"path": "/x"})):
        assert place(backend, "a") == place(backend, "b")


FOLDERS = st.lists(st.text("abxy01", min_size=1, max_size=4), max_size=4)


@given(st.sampled_from(["s3", "rest", "nfs", "hostPath"]), FOLDERS, FOLDERS, st.data())
def test_a_spelling_changes_nothing_and_a_name_does(
    kind: str, mine: list[str], other: list[str], data: st.DataObject
) -> None:
    """Slashes, dots, case of hosts, schemes: one place. Another folder: another one."""

    def spelled(folders: list[str]) -> dict[str, Any]:
        slash = st.sampled_from(["/", "//", "/./", "/zz/../"])
        end = data.draw(st.sampled_from(["", "/"]))
        path = "".join(data.draw(slash) + folder for folder in folders) + end
        host = data.draw(st.sampled_from(["host", "Host", "HOST."]))
        scheme = data.draw(st.sampled_from(["http://", "https://"]))
        match kind:
            case "s3":
                return s3(data.draw(st.sampled_from([scheme, ""])) + host, "b", path)
            case "rest":
                return rest(f"{scheme}{host}/b{path}")
            case "nfs":
                return nfs(host, "/b", path.lstrip("/"))
        return local("hostPath", {"path": "/b"}, subPath=path.lstrip("/"))

    first = place(spelled(mine))
    assert place(spelled(mine)) == first
    assert (place(spelled(other)) == first) is (mine == other)


def test_restic_gets_what_the_user_wrote() -> None:
    """Spellings are made equal for the comparison only: a server may tell them apart."""
    assert location_of(spec(rest("http://H:80/x"))).url == "rest:http://H:80/x"
    assert location_of(spec(s3("https://H:443", "b"))).url == "s3:https://H:443/b"
