"""Backends that are away, empty, refuse, or hold something else; and each kind that works."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.cluster import Cluster, Space
from tests.support.evidence import (
    backend_folder,
    ended,
    failure_of,
    job_of,
    log_of,
    restic_exits,
    says,
    snapshots,
)
from tests.support.gate import Gate


def prepared(space: Space, repository: dict[str, Any], **spec: Any) -> None:
    """Create Secret, bound claim and a Ready configuration for a Repository."""
    space.apply(space.pvc(), space.secret(), repository)
    space.wait_phase("pvc", "data", "Bound")
    space.apply(space.configuration(**spec))
    space.wait_phase("backupconfiguration", "backup", "Ready")


def s3(space: Space, endpoint: str, **rest: Any) -> dict[str, Any]:
    """Return a Repository behind another endpoint of the S3 server."""
    region = space.cluster.info["s3"]["region"]
    place = {"endpoint": endpoint, "bucket": space.name, "prefix": "repo", "region": region}
    return space.repository(s3={**place, **rest})


@pytest.mark.parametrize("fault", ["closed", "silent"])
def test_unreachable(cluster: Cluster, space: Space, fault: str) -> None:
    """An endpoint that refuses or swallows connections fails the session within two minutes.

    restic's own patience is 15 minutes. Once the endpoint works, nothing else has to be done.
    """
    with Gate(cluster.info["node_address"]) as gate:
        if fault == "silent":
            gate.silence()
        prepared(space, s3(space, gate.endpoint))
        space.apply(space.session("first"))
        failed = space.wait_phase("backupsession", "first", "Failed", timeout_s=120.0)
        error = failure_of(failed)
        assert error.startswith("BackendUnreachable: "), error
        for word in (f"Repository {space.name}/repo", str(gate.port), "check the endpoint"):
            assert word in error
        assert (gate.connections > 0) == (fault == "silent")
        assert ended(space, job_of("first"))["exitCode"] == 1
        said = str(log_of(space, job_of("first")))
        assert ("connection refused" in said) == (fault == "closed"), said
        target = urlsplit(cluster.info["s3"]["host_endpoint"])
        gate.forward(str(target.hostname), int(target.port or 0))
        space.back_up("second")
    assert len(snapshots(space)) == 1


def test_vanished(space: Space) -> None:
    """A repository that was emptied after its first backup is never made anew (D2)."""
    prepared(space, space.repository())
    space.back_up("first")
    folder = backend_folder(space)
    away = folder.with_name("away")
    folder.rename(away)
    failed = space.back_up("second", "Failed")
    error = failure_of(failed)
    assert error.startswith("RepositoryVanished: "), error
    for word in (f"Repository {space.name}/repo", "mend bucket, prefix, endpoint", "another name"):
        assert word in error
    says(failed, "BackendRepositoryInitialized", "False", ["RepositoryVanished"])
    assert restic_exits(space, job_of("second")) == {"backup": 10}
    assert ended(space, job_of("second"))["exitCode"] == 1
    assert not (folder / "config").exists()
    if folder.exists():
        folder.rename(folder.with_name("left"))
    away.rename(folder)
    space.back_up("third")
    assert len(snapshots(space)) == 2


def test_another_repository(space: Space) -> None:
    """Another repository in the place of ours is noticed by its id and left alone (D2)."""
    prepared(space, space.repository())
    space.back_up("first")
    folder = backend_folder(space)
    folder.rename(folder.with_name("away"))
    space.restic("init")
    failed = space.back_up("second", "Failed")
    assert failure_of(failed).startswith("RepositoryVanished: "), failure_of(failed)
    assert "another repository, with id" in failure_of(failed)
    folder.rename(folder.with_name("other"))
    folder.with_name("away").rename(folder)
    space.back_up("third")
    assert len(snapshots(space)) == 2


def test_denied_key(space: Space) -> None:
    """A wrong access key is told from an unreachable server, and named with its Secret."""
    prepared(space, space.repository())
    space.apply(space.secret(AWS_SECRET_ACCESS_KEY="wrong" * 4))
    failed = space.back_up("first", "Failed")
    error = failure_of(failed)
    assert error.startswith("BackendDenied: "), error
    assert f"{space.name}/storage" in error
    log = Path(space.cluster.info["s3"]["access_log"]).read_text()
    assert any(f" {space.name} " in line and " 403 " in line for line in log.splitlines())
    space.apply(space.secret())
    space.back_up("second")


def test_private_ca(space: Space) -> None:
    """A server with a certificate of a private CA works with CA_CERT_DATA, and only with it."""
    info = space.cluster.info["s3"]
    prepared(space, s3(space, info["tls_endpoint"]))
    failed = space.back_up("first", "Failed")
    error = failure_of(failed)
    assert error.startswith("BackendUnreachable: "), error
    assert "certificate" in error
    space.apply(space.secret(CA_CERT_DATA=Path(info["ca_certificate"]).read_bytes()))
    space.back_up("second")
    assert len(snapshots(space)) == 1


def test_insecure_tls(space: Space) -> None:
    """With insecureTLS the certificate is not checked, as asked for."""
    prepared(space, s3(space, space.cluster.info["s3"]["tls_endpoint"], insecureTLS=True))
    space.back_up("first")
    assert len(snapshots(space)) == 1


def test_rest_server(space: Space) -> None:
    """A private REST server takes a user from the Secret; a wrong one is named, then mended."""
    rest = space.cluster.info["rest"]
    user, password = str(rest["user"]), str(rest["password"])
    url = f"{rest['private_endpoint']}/{user}/{space.name}/"
    prepared(space, space.repository(rest={"url": url}))
    space.apply(space.secret(REST_SERVER_USERNAME=user, REST_SERVER_PASSWORD="wrong"))  # noqa: S106 - wrong on purpose
    failed = space.back_up("first", "Failed")
    assert failure_of(failed).startswith("BackendDenied: "), failure_of(failed)
    assert f"{space.name}/storage" in failure_of(failed)
    assert "401" in str(log_of(space, job_of("first")))
    space.apply(space.secret(REST_SERVER_USERNAME=user, REST_SERVER_PASSWORD=password))
    space.back_up("second")
    place = rest["host_private_endpoint"].replace("://", f"://{user}:{password}@")
    found = space.cluster.run(
        *("restic", "--no-cache", "--no-lock", "--quiet", "snapshots"),
        environment={
            "RESTIC_REPOSITORY": f"rest:{place}/{user}/{space.name}/",
            "RESTIC_PASSWORD": space.password,
        },
    )
    assert "1 snapshots" in found.stdout


def test_local_claim(space: Space) -> None:
    """A claim as a local backend is mounted; data comes back from it as from any other."""
    space.apply(space.pvc("backend"))
    space.wait_phase("pvc", "backend", "Bound")
    local = {"mountPath": "/repository", "persistentVolumeClaim": {"claimName": "backend"}}
    space.ready(space.repository(local=local))
    space.exec("app", "echo precious > /data/file; sync")
    space.back_up("first")
    space.exec("app", "rm /data/file; sync")
    space.apply(space.restore())
    space.wait_phase("restoresession", "restore", "Succeeded")
    assert space.exec("app", "cat /data/file").strip() == "precious"


def test_local_host_path(space: Space, tmp_path: Path) -> None:
    """A folder of the node works as a local backend once it may be written; an emptyDir never."""
    folder = tmp_path / "repository"
    folder.mkdir(mode=0o755)
    wrong = space.repository(local={"mountPath": "/repository", "emptyDir": {}})
    space.apply(space.pvc(), space.secret(), wrong)
    space.wait_phase("pvc", "data", "Bound")
    space.apply(space.configuration())
    invalid = space.wait_phase("backupconfiguration", "backup", "Invalid")
    words = ["Repository repo spec.backend.local.emptyDir", "dies with the pod"]
    says(invalid, "ValidationPassed", "False", words)
    space.cluster.kubectl("delete", "repository", "repo", "-n", space.name)
    local = {"mountPath": "/repository", "hostPath": {"path": str(folder)}}
    space.apply(space.repository(local=local))
    space.wait_phase("backupconfiguration", "backup", "Ready")
    failed = space.back_up("first", "Failed")
    assert failure_of(failed).startswith("BackendDenied: "), failure_of(failed)
    assert "owner and mode of the folder" in failure_of(failed)
    assert not list(folder.iterdir())
    folder.chmod(0o777)
    space.back_up("second")
    assert (folder / "config").exists()
