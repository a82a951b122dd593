"""S3 and REST backends, with and without TLS, on real servers."""

import base64
import hashlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from controller.api.job_input import JobInput
from controller.api.report import Reason
from tests.support.ports import free_port
from tests.support.runner import PASSWORD, Place, restic_program

KEY, SECRET = "backup-key", "backup-secret-key"


@contextmanager
def serving(argv: list[str], port: int, environment: dict[str, str]) -> Iterator[None]:
    """Run a server until the block ends."""
    program = restic_program().parent / argv[0]
    process = subprocess.Popen(
        [str(program), *argv[1:]],
        env={"PATH": os.environ["PATH"], **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        ends_at = time.monotonic() + 60.0
        while True:
            assert process.poll() is None, f"{argv[0]} ended with {process.returncode}"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < ends_at, f"{argv[0]} does not listen on port {port}"
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait()


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for 127.0.0.1."""
    cert, key = folder / "tls.crt", folder / "tls.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=drey", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out",
         str(cert)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return cert, key


@contextmanager
def s3(place: Place, *, tls: bool) -> Iterator[str]:
    """Run an S3 server, and return its URL."""
    (place.root / "s3" / "bucket").mkdir(parents=True)
    port = free_port()
    options = (
        []
        if not tls
        else [f"--{n}={p}" for n, p in zip(("cert", "key"), certificate(place.root), strict=True)]
    )
    argv = ["versitygw", f"--port=127.0.0.1:{port}", *options, "posix", str(place.root / "s3")]
    with serving(argv, port, {"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}):
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"


def at(place: Place, provider: str, url: str, **changes: bool) -> JobInput:
    """Return a backup to a place."""
    repository = replace(place.job().repository, provider=provider, url=url, **changes)  # type: ignore[arg-type]  # flags only
    return place.job(repository=repository)


def test_s3(place: Place) -> None:
    """First backup, second backup and restore over S3; a bucket's prefix is made."""
    place.secret |= {"AWS_ACCESS_KEY_ID": KEY.encode(), "AWS_SECRET_ACCESS_KEY": SECRET.encode()}
    with s3(place, tls=False) as url:
        job = at(place, "s3", f"s3:{url}/bucket/prefix")
        assert place.run("backup", job=job).verbs() == ["backup", "init", "backup"]
        run = place.run("backup", job=job)
        assert (run.code, run.verbs()) == (0, ["backup"])
        restore = replace(place.restore_job(), repository=job.repository)
        assert place.run("restore", job=restore).code == 0


def test_s3_with_wrong_keys(place: Place) -> None:
    """Keys that the server refuses are BackendDenied within a minute, with the Secret named."""
    place.secret |= {"AWS_ACCESS_KEY_ID": KEY.encode(), "AWS_SECRET_ACCESS_KEY": b"not the secret"}
    started = time.monotonic()
    with s3(place, tls=False) as url:
        run = place.run("backup", job=at(place, "s3", f"s3:{url}/bucket/prefix"))
    assert run.host.reason == Reason.BACKEND_DENIED, run.host
    assert time.monotonic() - started < 60
    assert "Secret demo/repo-secret" in run.host.error
    assert "not the secret" not in run.text


def test_s3_with_own_ca(place: Place) -> None:
    """An unknown CA fails and says so; CA_CERT_DATA or insecureTLS mends it."""
    place.secret |= {"AWS_ACCESS_KEY_ID": KEY.encode(), "AWS_SECRET_ACCESS_KEY": SECRET.encode()}
    with s3(place, tls=True) as url:
        job = at(place, "s3", f"s3:{url}/bucket/prefix")
        failed = place.run("backup", job=job)
        assert failed.host.reason == Reason.BACKEND_UNREACHABLE
        assert "x509" in failed.host.error
        assert "CA_CERT_DATA" in failed.host.error
        place.secret["CA_CERT_DATA"] = (place.root / "tls.crt").read_bytes()
        assert place.run("backup", job=job).code == 0
        del place.secret["CA_CERT_DATA"]
        insecure = at(place, "s3", f"s3:{url}/bucket/prefix", insecure_tls=True)
        assert place.run("backup", job=insecure).code == 0


@pytest.mark.parametrize("password", ["right", "wrong"])
def test_rest(place: Place, password: str) -> None:
    """The REST server's user comes from the Secret; a wrong one is BackendDenied."""
    digest = base64.b64encode(hashlib.sha1(b"right").digest()).decode()  # noqa: S324 - htpasswd's own
    (place.root / "htpasswd").write_text(f"me:{{SHA}}{digest}\n")
    port = free_port()
    place.secret |= {
        "REST_SERVER_USERNAME": b"me",
        "REST_SERVER_PASSWORD": password.encode(),
        "RESTIC_PASSWORD": PASSWORD,
    }
    options = [f"--listen=127.0.0.1:{port}", f"--path={place.root}/rest"]
    with serving(["rest-server", *options, f"--htpasswd-file={place.root}/htpasswd"], port, {}):
        run = place.run("backup", job=at(place, "rest", f"rest:http://127.0.0.1:{port}/demo/"))
    if password == "right":  # noqa: S105 - test data
        assert run.code == 0
    else:
        assert run.host.reason == Reason.BACKEND_DENIED, run.host


def test_metrics_in_a_real_pushgateway(place: Place) -> None:
    """What is pushed is accepted, under the group of the invoker; a dead gateway fails nothing."""
    import urllib.request  # noqa: PLC0415 - used here only

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    job = replace(place.job(), pushgateway_url=url)
    dead = place.run("backup", job=job)
    assert dead.code == 0
    assert dead.report is not None
    assert dead.report.metrics is not None
    assert (dead.report.metrics.state, url in dead.report.metrics.message) == ("Failed", True)
    with serving(["pushgateway", f"--web.listen-address=127.0.0.1:{port}"], port, {}):
        run = place.run("backup", job=job)
        assert run.report is not None
        assert run.report.metrics is not None
        assert run.report.metrics.state == "Done", run.report.metrics
        with urllib.request.urlopen(f"{url}/metrics") as answer:  # noqa: S310 - our own server
            text = answer.read().decode()
    (line,) = [x for x in text.splitlines() if x.startswith("stash_backup_session_success{")]
    assert 'job="backupconfiguration-demo-data"' in line
    assert line.endswith(" 1")


def test_silent_pushgateway_costs_five_seconds(place: Place) -> None:
    """A gateway that accepts and never answers is given up after its timeout."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        started = time.monotonic()
        run = place.run("backup", job=replace(place.job(), pushgateway_url=url))
    assert run.code == 0
    assert run.report is not None
    assert run.report.metrics is not None
    assert run.report.metrics.state == "Failed"
    assert 5 < time.monotonic() - started < 90
