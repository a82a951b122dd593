"""Storage backends on demand: an S3 server (versitygw) and restic's REST server, on the host.

Pods reach them at the bridge's address, under names that the cluster's DNS knows. Keys are fixed
test values: the servers listen on the bridge alone.
"""

import base64
import functools
import hashlib
from pathlib import Path
from typing import Any

from hack.cluster import layout
from hack.cluster.layout import Layout
from hack.cluster.processes import Daemon, Supervisor, listening_on

ACCESS_KEY = "drey-test-access"
SECRET_KEY = "drey-test-secret-key"  # noqa: S105 - a fixed value of the test server
REGION = "us-east-1"
REST_USER = "drey"
REST_PASSWORD = "drey-test-rest"  # noqa: S105 - a fixed value of the test server
S3_PORT = 7070
S3_TLS_PORT = 7071
REST_PORT = 8000
REST_PRIVATE_PORT = 8001

GROUPS = {"s3": ("s3", "s3-tls"), "rest": ("rest", "rest-private")}


class Backends:
    """The backends of one cluster.

    Args:
        paths: the cluster's folders; the pki must be there.
        address: the host's address that pods can reach.
    """

    def __init__(self, paths: Layout, address: str = layout.NODE_ADDRESS) -> None:
        self._paths = paths
        self._address = address
        self._supervisor = Supervisor(paths.state, paths.binaries)

    def start(self, group: str) -> None:
        """Start the servers `s3` or `rest` and wait until they listen."""
        (self._paths.backends / group).mkdir(parents=True, exist_ok=True)
        if group == "rest":
            (self._paths.backends / "htpasswd").write_text(htpasswd(REST_USER, REST_PASSWORD))
        daemons = self.daemons()
        for name in GROUPS[group]:
            self._supervisor.start(daemons[name])
        for name in GROUPS[group]:
            port = daemons[name].port
            listens = functools.partial(listening_on, port)
            self._supervisor.wait(f"{name} on port {port}", listens, needs=[name])

    def stop(self, group: str) -> None:
        """Stop the servers; their data stays until the cluster is removed."""
        for name in GROUPS[group]:
            self._supervisor.stop(name, timeout_s=10)

    def running(self, group: str) -> bool:
        """Say whether all servers of the group run."""
        return all(self._supervisor.running(name) for name in GROUPS[group])

    def daemons(self) -> dict[str, Daemon]:
        """Return name → daemon."""
        paths = self._paths
        keys = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
        tls = (f"--cert={paths.pki}/backend.crt", f"--key={paths.pki}/backend.key")

        def s3(name: str, port: int, *options: str) -> Daemon:
            argv = (
                "versitygw",
                f"--port={self._address}:{port}",
                f"--access-log={paths.log}/{name}-access.log",
                f"--region={REGION}",
                "--quiet",
                *options,
                "posix",
                str(paths.backends / "s3"),
            )
            return Daemon(name, argv, keys, port)

        def rest(name: str, port: int, *options: str) -> Daemon:
            argv = (
                "rest-server",
                f"--listen={self._address}:{port}",
                f"--path={paths.backends / 'rest'}",
                f"--log={paths.log}/{name}-access.log",
                *options,
            )
            return Daemon(name, argv, {}, port)

        daemons = [
            s3("s3", S3_PORT),
            s3("s3-tls", S3_TLS_PORT, *tls),
            rest("rest", REST_PORT, "--no-auth"),
            rest("rest-private", REST_PRIVATE_PORT, "--private-repos",
                 f"--htpasswd-file={paths.backends}/htpasswd"),
        ]  # fmt: skip
        return {daemon.name: daemon for daemon in daemons}

    def describe(self) -> dict[str, Any]:
        """Return what a client needs to know: endpoints, keys, CA, logs."""
        log = self._paths.log
        folder: Path = self._paths.backends
        return {
            "s3": {
                "endpoint": f"http://{layout.S3_HOST}:{S3_PORT}",
                "tls_endpoint": f"https://{layout.S3_HOST}:{S3_TLS_PORT}",
                "host_endpoint": f"http://{self._address}:{S3_PORT}",
                "host_tls_endpoint": f"https://{self._address}:{S3_TLS_PORT}",
                "ca_certificate": str(self._paths.backend_ca),
                "access_key": ACCESS_KEY,
                "secret_key": SECRET_KEY,
                "region": REGION,
                "data": str(folder / "s3"),
                "access_log": str(log / "s3-access.log"),
                "tls_access_log": str(log / "s3-tls-access.log"),
                "running": self.running("s3"),
            },
            "rest": {
                "endpoint": f"http://{layout.REST_HOST}:{REST_PORT}",
                "private_endpoint": f"http://{layout.REST_HOST}:{REST_PRIVATE_PORT}",
                "host_endpoint": f"http://{self._address}:{REST_PORT}",
                "host_private_endpoint": f"http://{self._address}:{REST_PRIVATE_PORT}",
                "user": REST_USER,
                "password": REST_PASSWORD,
                "data": str(folder / "rest"),
                "access_log": str(log / "rest-access.log"),
                "private_access_log": str(log / "rest-private-access.log"),
                "running": self.running("rest"),
            },
        }


def htpasswd(user: str, password: str) -> str:
    """Return a line of an htpasswd file, scheme {SHA}: rest-server reads it, and it is quick."""
    digest = hashlib.sha1(password.encode()).digest()  # noqa: S324 - the file format's own hash
    return f"{user}:{{SHA}}{base64.b64encode(digest).decode()}\n"
