"""The product's client, for what a test does itself."""

from pathlib import Path
from typing import Any

from controller.kube.client import Client
from controller.kube.config import connect

WRITE_S = 30.0


def patient_client(kubeconfig: Path, *, pool_size: int = 4) -> Client:
    """Return a client whose writes take at least 30 s to fail, and may connect for 3 s.

    A leader's must be over after 4.5 s, of which TCP and TLS get 0.9 s: on a busy machine that is
    too little for the first one.
    """
    client = connect(str(kubeconfig), pool_size=pool_size)
    send = client._send_once

    def patiently(verb: str, *args: Any, timeout_s: float, **request: Any) -> Any:
        if verb not in {"get", "list", "watch"}:
            timeout_s = max(timeout_s, WRITE_S)
        return send(verb, *args, timeout_s=timeout_s, **request)

    client._send_once = patiently  # type: ignore[method-assign]  # the seam of all requests
    return client
