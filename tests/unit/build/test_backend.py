"""Where a repository is."""

from typing import Any

import pytest

from controller.api.repository import RepositorySpec
from controller.build.backend import local_volume, location_of, repository_input
from tests.support.orders import S3_BACKEND, obj, parsed


def spec(backend: dict[str, Any]) -> RepositorySpec:
    """Return a Repository's spec with one backend."""
    return parsed(RepositorySpec, {"backend": {"storageSecretName": "s", **backend}})


@pytest.mark.parametrize(
    ("backend", "url", "bucket", "prefix"),
    [
        ({"local": {"hostPath": {"path": "/x"}, "mountPath": "/safe"}}, "/safe", "/safe", ""),
        (
            {"s3": {"endpoint": "s3.amazonaws.com", "bucket": "b", "prefix": "/demo//x/"}},
            "s3:s3.amazonaws.com/b/demo/x",
            "b",
            "/demo//x/",
        ),
        ({"s3": {"endpoint": "https://m:9000/", "bucket": "b"}}, "s3:https://m:9000/b", "b", ""),
        ({"gcs": {"bucket": "b", "prefix": "/demo/x"}}, "gs:b:/demo/x", "b", "/demo/x"),
        ({"azure": {"container": "c", "prefix": "x"}}, "azure:c:/x", "c", "x"),
        ({"swift": {"container": "c", "prefix": "/x"}}, "swift:c://x", "c", "/x"),
        ({"swift": {"container": "c", "prefix": "x"}}, "swift:c:/x", "c", "x"),
        ({"b2": {"bucket": "b", "prefix": "/x"}}, "b2:b:/x", "b", "/x"),
        ({"rest": {"url": "http://r:8000/demo/"}}, "rest:http://r:8000/demo/", "r:8000", "/demo/"),
    ],
)
def test_urls(backend: dict[str, Any], url: str, bucket: str, prefix: str) -> None:
    """Each provider gets Stash's URL, so that a repository made by Stash is found again."""
    location = location_of(spec(backend))
    assert (location.url, location.bucket, location.prefix) == (url, bucket, prefix)


def test_no_backend_is_a_bug_of_the_caller() -> None:
    """Whoever asks has validated the Repository: anything else is an exception."""
    with pytest.raises(ValueError, match="no backend"):
        location_of(RepositorySpec())


def test_input_holds_everything_but_credentials() -> None:
    """The runner learns where the data goes, and nothing secret."""
    found = repository_input(
        obj("Repository", "repo"),
        spec({"s3": {**S3_BACKEND["s3"], "region": "eu", "insecureTLS": True}}),  # type: ignore[dict-item]  # a dict of two kinds of values
        repository_id="ab" * 32,
        may_initialise=False,
    )
    assert (found.name, found.namespace, found.provider) == ("repo", "demo", "s3")
    assert (found.region, found.insecure_tls, found.id) == ("eu", True, "ab" * 32)
    assert found.secret_name == "s"  # noqa: S105 - a name


def test_local_volume_keeps_the_source_and_moves_the_rest_to_the_mount() -> None:
    """The two paths describe the mount, everything else is the volume source."""
    local = {"persistentVolumeClaim": {"claimName": "c"}, "mountPath": "/safe", "subPath": "a/b"}
    assert local_volume(spec({"local": local})) == (
        {"name": "stash-local", "persistentVolumeClaim": {"claimName": "c"}},
        {"name": "stash-local", "mountPath": "/safe", "subPath": "a/b"},
    )
    assert local_volume(spec({"b2": {"bucket": "b"}})) is None
