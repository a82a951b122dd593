"""`/metrics`, `/healthz` and `/readyz` over HTTP: for Prometheus and the kubelet.

A probe is a callable that returns what is wrong, or None. Probes read flags; they do no I/O.
"""

import socket
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

log = structlog.get_logger()

Probe = Callable[[], str | None]
CLIENT_TIMEOUT_S = 10.0


class HttpServer(ThreadingHTTPServer):
    """Serves until `shutdown`; `serve_forever` is the body of its thread."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self,
        port: int,
        registry: CollectorRegistry,
        *,
        healthz: Mapping[str, Probe],
        readyz: Mapping[str, Probe],
        address: str = "",
    ) -> None:
        """Listen on all addresses of both families, or on one; port 0 picks a free one.

        Raises:
            OSError: the port is taken.
        """
        self.registry = registry
        self.probes = {"/healthz": healthz, "/readyz": readyz}
        if not address and socket.has_dualstack_ipv6():
            self.address_family = socket.AF_INET6
        super().__init__((address, port), _Handler)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    def server_bind(self) -> None:
        """Bind; an IPv6 socket takes IPv4 connections too."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # not HTTPServer's: it asks DNS for our name, which nobody needs
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "", self.port


class _Handler(BaseHTTPRequestHandler):
    server: HttpServer
    timeout = CLIENT_TIMEOUT_S
    server_version = "drey"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].rstrip("/")
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(HTTPStatus.OK, encode(self.server.registry), content_type)
        elif path in self.server.probes:
            lines, fine = _report(self.server.probes[path])
            status = HTTPStatus.OK if fine else HTTPStatus.SERVICE_UNAVAILABLE
            self._answer(status, lines.encode(), "text/plain; charset=utf-8")
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"try /metrics, /healthz or /readyz\n", "text/plain")

    def _answer(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        log.debug("http_request", request=format % args)


def _report(probes: Mapping[str, Probe]) -> tuple[str, bool]:
    """Return one line per probe, as the API server's own /readyz?verbose has it."""
    lines, fine = [], True
    for name, probe in probes.items():
        problem = probe()
        fine = fine and problem is None
        lines.append(f"[+]{name} ok" if problem is None else f"[-]{name} failed: {problem}")
    return "\n".join([*lines, "ok" if fine else "failed", ""]), fine
