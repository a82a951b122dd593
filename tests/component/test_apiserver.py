"""The support for component tests keeps what it promises to them."""

import re
import socket
import time
from pathlib import Path

import pytest

from controller.api.objects import name_of
from controller.api.resources import NAMESPACE
from controller.kube.config import connect
from hack.cluster import tools
from tests.support import apiserver as support


def test_restart_keeps_address_token_and_data() -> None:
    """After an orderly and after a violent end the same clients find the same objects."""
    with support.running() as server:
        path = "/api/v1/namespaces/kept"
        document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kept"}}
        created = server.apply(path, document)
        assert created.status == 201, created.text
        for kill in (False, True):
            server.stop(kill=kill)
            with pytest.raises(OSError, match="refused"):
                server.request("GET", path)
            server.start()
            uid = server.request("GET", path).body["metadata"]["uid"]
            assert uid == created.body["metadata"]["uid"]
        folder = server.folder
        address = (server.address, server.port)
    assert not folder.exists()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(address)


def test_orderly_stop_ends_watches_at_once() -> None:
    """An open watch gets a clean end of its stream and does not hold up the server's end."""
    with support.running() as server:
        client = connect(str(server.kubeconfig), pool_size=1)
        with client.watch(NAMESPACE, resource_version="", timeout_s=60) as stream:
            assert name_of(next(stream)["object"])
            before = time.monotonic()
            server.stop()
            assert time.monotonic() - before < 25
            # one that was cut would raise
            assert "ERROR" not in {event["type"] for event in stream}


def test_failed_start_shows_the_log_and_ends_etcd(tmp_path: Path) -> None:
    """A server that cannot start ends the test at once with its own words, and leaves nothing."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "etcd").symlink_to(support.bin_folder() / "etcd")
    broken = binaries / "kube-apiserver"
    broken.write_text("#!/bin/sh\necho no such flag\nexit 3\n")
    broken.chmod(0o755)
    server = support.ApiServer(tmp_path, binaries)
    with pytest.raises(support.ApiServerError, match=r"(?s)ended with 3.*no such flag"):
        server.__enter__()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((server.address, server.port + 1))


def test_missing_binaries_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without binaries the error says where they were looked for and what to do."""
    monkeypatch.setenv("DREY_BIN", str(tmp_path / "none"))
    with pytest.raises(support.ApiServerError, match=r"none: run `make component` or set DREY_BIN"):
        support.bin_folder()
    monkeypatch.delenv("DREY_BIN")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built = tools.binaries_folder()
    with pytest.raises(support.ApiServerError, match=re.escape(str(built))):
        support.bin_folder()
    assert built.is_relative_to(tmp_path)
    built.mkdir(parents=True)
    (built / "kube-apiserver").touch()
    (built / "etcd").touch()
    assert support.bin_folder() == built
