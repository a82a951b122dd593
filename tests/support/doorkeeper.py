"""A door before the API server: what a session creates waits until a test lets it in."""

import base64
import json
import ssl
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.cluster import Space

SNAPSHOT, CLAIM = "VolumeSnapshot", "PersistentVolumeClaim"
_PLACES = {
    SNAPSHOT: ("snapshot.storage.k8s.io", "volumesnapshots"),
    CLAIM: ("", "persistentvolumeclaims"),
}
"""Group and plural name; both kinds are of version v1."""
_PROBE = "door-probe"
WAIT_S = 25.0
"""The API server waits for 30 s at most."""


class Doorkeeper:
    """A validating webhook for one namespace, served by the test itself. It refuses nothing.

    The certificate is the one of the cluster's storage servers, which is good for the loopback.

    Attributes:
        waiting: names of the objects whose creation waits, or waited.
    """

    def __init__(
        self, space: Space, holds: Iterable[str] | None = None, *, kind: str = SNAPSHOT
    ) -> None:
        """Hold the creation of these claims, or of their snapshots; of all when none are named."""
        self._space = space
        self._kind = kind
        self._holds = None if holds is None else frozenset(holds)
        self._open = threading.Event()
        self.waiting: list[str] = []
        pki = Path(space.cluster.info["state"]) / "pki"
        self._authority = pki / "backend-ca.crt"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki / "backend.crt", pki / "backend.key")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._review))
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        """Stand at the door, from the moment that the API server knows of it."""
        self._thread.start()
        self._space.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(self._configuration()))
        group = _PLACES[self._kind][0]
        spec = (
            {"source": {"persistentVolumeClaimName": _PROBE}}
            if self._kind == SNAPSHOT
            else {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
        )
        version = f"{group}/v1" if group else "v1"
        probe = self._space.object(version, self._kind, _PROBE, spec=spec)
        argv = ("create", "--dry-run=server", "-f", "-")

        def knows() -> bool:
            self._space.cluster.kubectl(*argv, stdin=json.dumps(probe))
            return _PROBE in self.waiting

        self._space.cluster.until("the webhook", knows, timeout_s=20.0)
        self.waiting.clear()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let everybody in and leave."""
        self._open.set()
        name = self._configuration()["metadata"]["name"]
        self._space.cluster.kubectl("delete", "validatingwebhookconfiguration", name)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def open(self) -> None:
        """Let everybody in, those too that wait."""
        self._open.set()

    def _review(self, request: dict[str, Any]) -> None:
        name = claim = request["name"]
        if self._kind == SNAPSHOT:
            claim = request["object"]["spec"]["source"].get("persistentVolumeClaimName")
        if claim == _PROBE:
            self.waiting.append(name)
        elif self._holds is None or claim in self._holds:
            self.waiting.append(name)
            self._open.wait(WAIT_S)

    def _configuration(self) -> dict[str, Any]:
        port = self._server.server_address[1]
        authority = self._authority.read_bytes()
        group, plural = _PLACES[self._kind]
        hook = {
            "name": "door.drey.test",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Ignore",
            "timeoutSeconds": 30,
            "clientConfig": {"url": f"https://127.0.0.1:{port}/", "caBundle": _base64(authority)},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self._space.name}},
            "rules": [
                {
                    "apiGroups": [group],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": [plural],
                }
            ],
        }
        return {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": f"door-{self._space.name}"},
            "webhooks": [hook],
        }


def _handler(review: Any) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            request = json.loads(self.rfile.read(length))["request"]
            review(request)
            document = {
                "apiVersion": "admission.k8s.io/v1",
                "kind": "AdmissionReview",
                "response": {"uid": request["uid"], "allowed": True},
            }
            body = json.dumps(document).encode()
            try:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:  # whoever asked was killed meanwhile
                return

        def log_message(self, *arguments: object) -> None:
            del arguments

    return Handler


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
