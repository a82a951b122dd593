"""The few requests to the API server that bringing up a cluster needs: standard library only."""

import http.client
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hack.cluster import layout
from hack.cluster.errors import ClusterError

FIELD_MANAGER = "drey-cluster"


class ApiServer:
    """Talks as the administrator. Each call opens its own connection.

    Args:
        pki: the folder of the certificates.
    """

    def __init__(self, pki: Path) -> None:
        self._tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._tls.load_cert_chain(pki / "admin.crt", pki / "admin.key")

    def ready(self) -> bool:
        """Say whether /readyz answers ok."""
        return self._try("/readyz") is not None

    def get(self, path: str) -> Any:
        """Return the object at a path; None when the server or the object is not there."""
        text = self._try(path)
        return None if text is None else json.loads(text)

    def apply(self, path: str, body: bytes) -> None:
        """Create or replace an object (YAML or JSON) through server-side apply.

        Raises:
            ClusterError: the server refused; with its message.
        """
        query = f"{path}?fieldManager={FIELD_MANAGER}&force=true"
        headers = {"Content-Type": "application/apply-patch+yaml"}
        status, text = self._request("PATCH", query, body, headers)
        if status >= http.client.BAD_REQUEST:
            raise ClusterError(f"PATCH {path}: HTTP {status}: {text.decode()[:400]}")

    def _try(self, path: str) -> bytes | None:
        try:
            status, text = self._request("GET", path, None, {})
        except (OSError, http.client.HTTPException):
            return None
        return text if status == http.client.OK else None

    def _request(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", layout.API_PORT, timeout=10, context=self._tls
        )
        try:
            connection.request(method, path, body, {"User-Agent": FIELD_MANAGER, **headers})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def condition(obj: Mapping[str, Any], kind: str) -> bool:
    """Say whether an object's condition of this type is True."""
    conditions = (obj.get("status") or {}).get("conditions") or []
    return any(c.get("type") == kind and c.get("status") == "True" for c in conditions)
