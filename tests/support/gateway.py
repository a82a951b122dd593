"""A local HTTP server in the Pushgateway's place, which writes down what it is asked."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Gateway(ThreadingHTTPServer):
    """`requests` holds method, path and body in order; `status` is the answer to all of them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, str, str]] = []
        self.status = 202

    @property
    def url(self) -> str:
        """Return where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Gateway

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.server.requests.append((self.command, self.path, body))
        self.send_response(self.server.status)
        self.end_headers()

    do_POST = do_DELETE = _answer  # noqa: N815 - the base class's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Gateway]:
    """Serve on a free port."""
    with Gateway() as gateway:
        thread = threading.Thread(target=gateway.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield gateway
        finally:
            gateway.shutdown()
            thread.join(5.0)
