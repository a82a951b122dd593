"""controller.kube.config: where the API server is, and fresh tokens."""

import shutil
import socket
from pathlib import Path

import certifi
import pytest

from controller.api.resources import POD
from controller.kube.config import NotConfigured, TokenFile, connect
from controller.kube.errors import Unreachable


class Monotonic:
    """A settable monotonic clock."""

    now_s = 0.0

    def __call__(self) -> float:
        """Return the set time."""
        return self.now_s


def test_a_rotated_token_is_used_within_a_minute(tmp_path: Path) -> None:
    """The kubelet replaces the file; we read it again every 60 s."""
    path, clock = tmp_path / "token", Monotonic()
    path.write_text("one\n")
    token = TokenFile(path, monotonic=clock)
    path.write_text("two")
    clock.now_s = 59.0
    assert token.value() == "one"
    clock.now_s = 60.0
    assert token.value() == "two"


def test_a_forced_refresh_reads_at_once(tmp_path: Path) -> None:
    """After a 401 nobody waits for the minute to pass."""
    path = tmp_path / "token"
    path.write_text("one")
    token = TokenFile(path, monotonic=Monotonic())
    path.write_text("two")
    token.refresh()
    assert token.value() == "two"


@pytest.mark.parametrize("content", ["", None], ids=["empty", "missing"])
def test_a_file_in_the_middle_of_a_rotation_keeps_the_old_token(
    tmp_path: Path, content: str | None
) -> None:
    """An empty or missing file is a moment of the rotation, and not a reason to send nothing."""
    path = tmp_path / "token"
    path.write_text("one")
    token = TokenFile(path, monotonic=Monotonic())
    path.unlink()
    if content is not None:
        path.write_text(content)
    token.refresh()
    assert token.value() == "one"
    path.write_text("two")
    token.refresh()
    assert token.value() == "two"


def test_nothing_configured_says_where_it_looked(tmp_path: Path) -> None:
    """The message names the missing kubeconfig and the way out."""
    missing = tmp_path / "kubeconfig"
    with pytest.raises(NotConfigured, match=r"no kubeconfig at .*kubeconfig.*--kubeconfig"):
        connect(None, pool_size=1, service_account=tmp_path, environ={"KUBECONFIG": str(missing)})


def test_a_pod_without_service_variables_is_told_so(tmp_path: Path) -> None:
    """A token without an address is an error of its own."""
    (tmp_path / "token").write_text("one")
    with pytest.raises(NotConfigured, match="KUBERNETES_SERVICE_HOST"):
        connect(None, pool_size=1, service_account=tmp_path, environ={})


@pytest.mark.parametrize("text", ["{", "apiVersion: v1\nkind: Config\n"])
def test_a_broken_kubeconfig_is_named(tmp_path: Path, text: str) -> None:
    """Broken YAML and a kubeconfig without a context give the same clear error."""
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(NotConfigured, match=r"kubeconfig .* cannot be used"):
        connect(str(path), pool_size=1)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY", "https_proxy"])
def test_a_pod_asks_its_api_server_without_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """A proxy in the environment is meant for a backend: no request and no token passes it."""
    (tmp_path / "token").write_text("one")
    shutil.copy(certifi.where(), tmp_path / "ca.crt")
    for other in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(other, raising=False)
    with (
        socket.create_server(("127.0.0.1", 0)) as proxy,
        socket.create_server(("127.0.0.1", 0)) as api,
    ):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        environ = {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(api.getsockname()[1]),
        }
        client = connect(None, pool_size=1, service_account=tmp_path, environ=environ)
        with pytest.raises(Unreachable):  # neither of the two ever answers
            client.get(POD, "demo", "app-0", timeout_s=0.5)
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()
        api.setblocking(False)
        api.accept()[0].close()
