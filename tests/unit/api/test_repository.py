"""What is wrong with a Repository beyond its schema."""

from typing import Any

import pytest

from controller.api.model import parse_spec
from controller.api.repository import (
    RepositorySpec,
    backends_of,
    mount_path_problem,
    repository_problems,
)

S3 = {"endpoint": "s3.example", "bucket": "b"}
HOST_PATH = {"hostPath": {"path": "/x"}, "mountPath": "/safe"}


def spec(*, wipe_out: bool = False, secret: str = "s", **backend: Any) -> RepositorySpec:  # noqa: S107 - a name
    """Return a Repository's spec with these backends."""
    raw = {"backend": {"storageSecretName": secret, **backend}, "wipeOut": wipe_out}
    found = parse_spec(RepositorySpec, {"spec": raw})
    assert isinstance(found, RepositorySpec), found
    return found


@pytest.mark.parametrize(
    ("found", "paths"),
    [
        (spec(s3=S3), []),
        (spec(rest={"url": "http://r:8000/x"}), []),
        (spec(local=HOST_PATH), []),
        (spec(gcs={"bucket": "b"}, wipe_out=True), []),
        (spec(), ["spec.backend"]),
        (spec(s3=S3, local=HOST_PATH), ["spec.backend"]),
        (spec(s3=S3, secret=""), ["spec.backend.storageSecretName"]),
        (
            spec(s3={"endpoint": "", "bucket": ""}),
            ["spec.backend.s3.endpoint", "spec.backend.s3.bucket"],
        ),
        (spec(s3={**S3, "endpoint": "https://k:v@s3"}), ["spec.backend.s3.endpoint"]),
        (spec(swift={"container": ""}), ["spec.backend.swift.container"]),
        (spec(rest={}), ["spec.backend.rest.url"]),
        (spec(rest={"url": "http://u:p@r"}), ["spec.backend.rest.url"]),
        (spec(local={**HOST_PATH, "mountPath": "/stash/x"}), ["spec.backend.local.mountPath"]),
        (spec(local={"mountPath": "/safe", "emptyDir": {}}), ["spec.backend.local.emptyDir"]),
        (spec(local={"mountPath": "/safe", "projected": {}}), ["spec.backend.local.projected"]),
        (spec(local={"mountPath": "/safe", "subPath": "a"}), ["spec.backend.local"]),
        (spec(local=HOST_PATH, wipe_out=True), ["spec.wipeOut"]),
        (spec(b2={"bucket": "b"}, wipe_out=True), ["spec.wipeOut"]),
    ],
)
def test_problems(found: RepositorySpec, paths: list[str]) -> None:
    """Each mistake is found at its path, and a right spec has none."""
    problems = repository_problems(found)
    assert [problem.path for problem in problems] == paths
    assert all(problem.message for problem in problems)


def test_no_problem_repeats_a_credential() -> None:
    """A password that was written into a URL is not shown again in a condition."""
    endpoint = {**S3, "endpoint": "k:hunter2@s"}
    for found in (spec(rest={"url": "http://u:hunter2@r"}), spec(s3=endpoint)):
        assert "hunter2" not in "".join(str(problem) for problem in repository_problems(found))


def test_providers_come_in_stashs_order() -> None:
    """When several backends are set the message names them in a fixed order."""
    found = backends_of(spec(rest={"url": "u"}, s3=S3, local=HOST_PATH))
    assert [provider.value for provider in found] == ["local", "s3", "rest"]


@pytest.mark.parametrize(
    ("value", "is_fine"),
    [
        ("/stash-data", True),
        ("/source/data/", True),
        ("/data/etc", True),
        ("/", False),
        ("", False),
        ("data", False),
        ("/a/../etc", False),
        ("/a/./b", False),
        ("/a:b", False),
        ("/etc", False),
        ("//etc/x", False),
        ("/stash-tmp", False),
        ("/drey/secret", False),
        ("/dev/termination-log", False),
    ],
)
def test_mount_paths(value: str, is_fine: bool) -> None:  # noqa: FBT001 - a column of the table
    """A volume of the user never hides the image's programs, our folders or the kubelet's."""
    problem = mount_path_problem("spec.x", value)
    assert (problem is None) is is_fine
