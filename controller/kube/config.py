"""How to reach the API server: as a pod's ServiceAccount, or with a kubeconfig.

One configuration, one pool of connections, built once and passed on; the library's global defaults
are never touched (they are not thread-safe). Tokens from files are read again every minute: the
kubelet rotates a ServiceAccount's token before it expires.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any

import yaml
from kubernetes.client import ApiClient, Configuration
from kubernetes.config import load_kube_config
from kubernetes.config.config_exception import ConfigException
from kubernetes.utils.keepalive import tcp_keepalive_socket_options

from controller.kube.client import Client, RequestHook

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_MAX_AGE_S = 60.0


class NotConfigured(Exception):
    """There is no usable way to an API server; the message says what was looked for."""


class TokenFile:
    """A bearer token in a file that somebody else replaces from time to time."""

    def __init__(self, path: Path, *, monotonic: Callable[[], float] = monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        self._lock = Lock()
        self._token = self._read()
        self._read_at = monotonic()

    def value(self) -> str:
        """Return the token, not older than a minute."""
        with self._lock:
            if self._monotonic() - self._read_at >= TOKEN_MAX_AGE_S:
                self._renew()
            return self._token

    def refresh(self) -> None:
        """Read the file now."""
        with self._lock:
            self._renew()

    def _renew(self) -> None:
        try:
            self._token = self._read()
        except (OSError, NotConfigured):
            return  # being replaced right now: the old one is still the best there is
        self._read_at = self._monotonic()

    def _read(self) -> str:
        token = self._path.read_text(encoding="utf-8").strip()
        if not token:
            raise NotConfigured(f"token file {self._path} is empty")
        return token


def connect(
    kubeconfig: str | None,
    *,
    pool_size: int,
    service_account: Path = SERVICE_ACCOUNT,
    environ: Mapping[str, str] = os.environ,
    on_request: RequestHook = lambda *_: None,
) -> Client:
    """Build the client.

    Args:
        kubeconfig: path of a kubeconfig; None or empty for a pod's ServiceAccount, or outside of a
            pod for `$KUBECONFIG` and then `~/.kube/config`.
        pool_size: connections to keep; each watch holds one, so informers + workers + 8.
        service_account: where the kubelet mounts the ServiceAccount.
        environ: where to look for KUBECONFIG and KUBERNETES_SERVICE_*.
        on_request: called after each request, for metrics.

    Raises:
        NotConfigured: neither is there, or the kubeconfig is unusable.
    """
    configuration: Any = Configuration()
    configuration.retries = False  # urllib3 would repeat PUT and DELETE three times, at once
    configuration.connection_pool_maxsize = pool_size
    configuration.socket_options = tcp_keepalive_socket_options(idle=30, interval=10, count=3)
    if not kubeconfig and (service_account / "token").exists():
        token: TokenFile | None = _in_cluster(configuration, service_account, environ)
    else:
        path = Path(kubeconfig or environ.get("KUBECONFIG") or "~/.kube/config").expanduser()
        token = _from_kubeconfig(configuration, path)
    if token is not None:
        source = token

        def bearer(target: Any) -> None:
            target.api_key["BearerToken"] = "Bearer " + source.value()

        bearer(configuration)  # without a first one, the library sends no credentials at all
        configuration.refresh_api_key_hook = bearer
    api: Any = ApiClient(configuration)
    api.user_agent = "drey"
    return Client(api, token=token, on_request=on_request)


def _in_cluster(configuration: Any, service_account: Path, environ: Mapping[str, str]) -> TokenFile:
    host = environ.get("KUBERNETES_SERVICE_HOST", "")
    port = environ.get("KUBERNETES_SERVICE_PORT", "")
    ca = service_account / "ca.crt"
    if not (host and port and ca.exists()):
        raise NotConfigured(
            f"{service_account} holds a token, but KUBERNETES_SERVICE_HOST and _PORT"
            f" or {ca} are missing"
        )
    configuration.host = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    configuration.ssl_ca_cert = str(ca)
    # HTTPS_PROXY of a pod is for what lies outside of the cluster; its own API server is not to be
    # reached through it, and the token is nothing for it.
    configuration.proxy = None
    return TokenFile(service_account / "token")


def _from_kubeconfig(configuration: Any, path: Path) -> TokenFile | None:
    if not path.exists():
        raise NotConfigured(
            f"no ServiceAccount token in this pod and no kubeconfig at {path}:"
            " pass --kubeconfig or set KUBECONFIG"
        )
    load: Any = load_kube_config
    try:
        load(str(path), client_configuration=configuration, persist_config=False)
        token_file = _token_file(path)
    except (ConfigException, yaml.YAMLError, OSError) as err:
        raise NotConfigured(f"kubeconfig {path} cannot be used: {type(err).__name__}") from err
    return TokenFile(token_file) if token_file else None


def _token_file(path: Path) -> Path | None:
    """Return the current user's tokenFile: the library reads it once and never again."""
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    by_name = {context["name"]: context["context"] for context in loaded["contexts"]}
    user_name = by_name[loaded["current-context"]].get("user")
    for user in loaded.get("users") or ():
        if user["name"] == user_name and user["user"].get("tokenFile"):
            return path.parent / str(user["user"]["tokenFile"])
    return None
