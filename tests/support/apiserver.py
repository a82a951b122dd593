"""A real kube-apiserver with its etcd and nothing else, for component tests.

The binaries come from the folder that the environment variable DREY_BIN names, else from the
per-user cache that `python3 hack/cluster tools` fills for this checkout. No nodes and no
controllers run: nothing is scheduled, no garbage is collected, no ServiceAccount tokens are made,
namespaces stay Terminating.

Every server has a loopback address of its own, derived from the process id: parallel test
processes cannot take each other's ports, and a restarted server gets its old port for sure.
"""

import http.client
import itertools
import json
import os
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import yaml

from controller.api.resources import NAMESPACE, VOLUME_SNAPSHOT
from hack.cluster import tools
from hack.crds.kinds import GROUP, KINDS

ADMIN_TOKEN = "admin"  # noqa: S105 - known to a server on the loopback interface only
CRDS = Path(__file__).resolve().parents[2] / "manifests" / "crds"
START_TIMEOUT_S = 120.0  # a cold start on two busy cores; a warm one takes about five seconds
STOP_TIMEOUT_S = 30.0
_POLL_S = 0.05
_DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_TAIL_BYTES = 4000
_FIRST_PORT = 10000
_PORTS_PER_SERVER = 3
_counter = itertools.count()


class ApiServerError(Exception):
    """The API server or its etcd cannot be found or does not start; the text has the log's end."""


@dataclass(frozen=True)
class Response:
    """An answer of the API server; `body` is None where it is not JSON, see `text`."""

    status: int
    body: Any
    text: str
    warnings: tuple[str, ...] = ()


def bin_folder() -> Path:
    """Return the folder with kube-apiserver, etcd, kubectl, restic and the other binaries.

    Raises:
        ApiServerError: there is none; the text says how to get one.
    """
    chosen = os.environ.get("DREY_BIN")
    folder = Path(chosen) if chosen else tools.binaries_folder()
    if (folder / "kube-apiserver").is_file() and (folder / "etcd").is_file():
        return folder
    message = f"no kube-apiserver and etcd in {folder}: run `make component` or set DREY_BIN"
    raise ApiServerError(message)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # plain text such as that of /readyz, or the lines of a watch
        return None


class _Process:
    """A child process with its log file; it dies with the test process, even on SIGKILL."""

    def __init__(self, name: str, argv: list[str], log: Path) -> None:
        self.name = name
        self._log = log
        guard = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [*guard, *argv], stdout=output, stderr=subprocess.STDOUT, cwd=log.parent
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    def check(self) -> None:
        if self._child.poll() is not None:
            raise ApiServerError(f"{self.name} ended with {self._child.returncode}\n{self.tail()}")

    def tail(self) -> str:
        return self._log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")

    def stop(self, *, kill: bool = False) -> None:
        if kill:
            self._child.kill()
        else:
            self._child.terminate()
        try:
            self._child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


class ApiServer:
    """A running API server; use `running()` to get one.

    `url`, `ca_file`, `token` (of a cluster admin) and `kubeconfig` stay the same over `restart`.
    """

    def __init__(self, folder: Path, binaries: Path) -> None:
        """Prepare keys and files below `folder`; nothing is started."""
        pid = os.getpid()
        self.address = f"127.{64 + (pid >> 16) % 128}.{(pid >> 8) % 256}.{pid % 256}"
        ports = _FIRST_PORT + _PORTS_PER_SERVER * next(_counter)
        self.port, self._etcd_port, self._peer_port = ports, ports + 1, ports + 2
        self.url = f"https://{self.address}:{self.port}"
        self.token = ADMIN_TOKEN
        self.folder = folder
        self.binaries = binaries
        self.ca_file = folder / "server.crt"
        self.kubeconfig = folder / "kubeconfig"
        self._etcd: _Process | None = None
        self._server: _Process | None = None
        # "ready" says nothing of these: the namespace is made, the kinds are found, a little later
        self._paths = [NAMESPACE.path("", "default")]
        self._make_keys()
        self._write_files()
        self._tls = ssl.create_default_context(cafile=str(self.ca_file))

    def _make_keys(self) -> None:
        curve = ["-pkeyopt", "ec_paramgen_curve:prime256v1"]
        names = ["-subj", "/CN=drey-test", "-addext", f"subjectAltName=IP:{self.address}"]
        files = ["-keyout", "server.key", "-out", "server.crt"]
        for arguments in (
            ["req", "-x509", "-newkey", "ec", *curve, "-nodes", "-days", "30", *names, *files],
            ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "sa.key"],
        ):
            subprocess.run(
                ["openssl", *arguments], cwd=self.folder, check=True, capture_output=True
            )

    def _write_files(self) -> None:
        (self.folder / "tokens.csv").write_text(f"{ADMIN_TOKEN},admin,admin,system:masters\n")
        cluster = {"server": self.url, "certificate-authority": str(self.ca_file)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "admin",
            "clusters": [{"name": "component", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": self.token}}],
            "contexts": [{"name": "admin", "context": {"cluster": "component", "user": "admin"}}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(config))

    def start(self) -> None:
        """Start what is not running; returns when it is ready and serves what it served before.

        To be called from a thread that outlives the server: the kernel ends a child with it.

        Raises:
            ApiServerError: a process ended, or is not ready in time.
        """
        if self._etcd is None:
            self._etcd = self._start_etcd()
        if self._server is None:
            self._server = self._start_server()
        self._wait_for("/readyz?verbose", *self._paths)

    def _wait_for(self, *paths: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        for path in paths:
            while problem := self._problem(path):
                if time.monotonic() > deadline:
                    message = f"{path} is not served after {START_TIMEOUT_S} s: {problem}"
                    raise ApiServerError(message)
                time.sleep(_POLL_S)

    def _problem(self, path: str) -> str:
        """Return why a path is not served; empty when it is."""
        assert self._etcd is not None
        assert self._server is not None
        self._etcd.check()
        self._server.check()
        try:
            response = self.request("GET", path)
        except (OSError, http.client.HTTPException) as error:
            return f"{error!r}\n{self._server.tail()}"
        ok = response.status == http.HTTPStatus.OK
        return "" if ok else f"{response.text}\n{self._server.tail()}"

    def _start_etcd(self) -> _Process:
        client = f"http://{self.address}:{self._etcd_port}"
        peer = f"http://{self.address}:{self._peer_port}"
        argv = [
            str(self.binaries / "etcd"),
            "--data-dir=etcd",
            "--unsafe-no-fsync",  # a crash of the machine ends the test anyway
            "--log-level=warn",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        ]
        return _Process("etcd", argv, self.folder / "etcd.log")

    def _start_server(self) -> _Process:
        argv = [
            str(self.binaries / "kube-apiserver"),
            f"--etcd-servers=http://{self.address}:{self._etcd_port}",
            f"--bind-address={self.address}",
            f"--secure-port={self.port}",
            "--advertise-address=192.0.2.1",  # documentation range: nobody connects to it
            "--endpoint-reconciler-type=none",
            "--cert-dir=.",
            "--tls-cert-file=server.crt",
            "--tls-private-key-file=server.key",
            "--token-auth-file=tokens.csv",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=sa.key",
            "--service-account-signing-key-file=sa.key",
            "--service-cluster-ip-range=10.0.0.0/24",
            # as OpenShift has it: admins may do everything, ServiceAccounts need owners' finalizers
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
            "--disable-admission-plugins=ServiceAccount",  # no controller makes `default`
            "--allow-privileged=true",
            "--shutdown-watch-termination-grace-period=1s",  # without it, watches hold it up
        ]
        return _Process("kube-apiserver", argv, self.folder / "apiserver.log")

    def stop(self, *, kill: bool = False) -> None:
        """End the API server and leave its etcd running, so that clients see an outage."""
        if self._server is not None:
            self._server.stop(kill=kill)
            self._server = None

    def restart(self, *, kill: bool = False) -> None:
        """End the API server and start it again: same address, token and data.

        With `kill` it gets SIGKILL, else SIGTERM, upon which it ends watches in an orderly way.
        """
        self.stop(kill=kill)
        self.start()

    def close(self) -> None:
        """End both processes."""
        self.stop(kill=True)
        if self._etcd is not None:
            self._etcd.stop(kill=True)
            self._etcd = None

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout_s: float = 30.0,
    ) -> Response:
        """Send one request as admin. Statuses of 400 and above are values, not exceptions.

        Raises:
            OSError: no answer.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": content_type,
            "Accept": accept,
        }
        request = urllib.request.Request(  # noqa: S310 - the URL is our own https server's
            self.url + path, data=data, headers=headers, method=method
        )
        try:
            answer = urllib.request.urlopen(  # noqa: S310 - as above
                request, timeout=timeout_s, context=self._tls
            )
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            text = answer.read().decode()
            warnings = tuple(answer.headers.get_all("Warning") or ())
        return Response(answer.status, _json(text), text, warnings)

    def apply(self, path: str, manifest: Mapping[str, Any]) -> Response:
        """Server-side apply of one object at its full path; the field manager is `test`."""
        separator = "&" if "?" in path else "?"
        return self.request(
            "PATCH",
            f"{path}{separator}fieldManager=test&force=true",
            manifest,
            content_type="application/apply-patch+yaml",
        )

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as admin and return its output.

        Raises:
            subprocess.CalledProcessError: it failed; `stderr` says why.
        """
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.folder)}
        return subprocess.run(
            [str(self.binaries / "kubectl"), *arguments],
            input=stdin,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def __enter__(self) -> Self:
        """Start."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End both processes, whatever happened."""
        self.close()

    def install_crds(self) -> None:
        """Install manifests/crds as a user does, and wait until all kinds are served and shown.

        Raises:
            subprocess.CalledProcessError: a definition was refused; `stderr` says why.
            ApiServerError: the kinds are not served in time.
        """
        self.kubectl("apply", "--server-side", "-k", str(CRDS))
        self._serve(*(f"/apis/{GROUP}/{kind.version}/{kind.plural}" for kind in KINDS))
        wanted = {path.stem for path in CRDS.glob("*.yaml")} - {"kustomization"}
        deadline = time.monotonic() + START_TIMEOUT_S
        while missing := wanted - self._discovered():
            if time.monotonic() > deadline:
                raise ApiServerError(f"established but not served: {', '.join(sorted(missing))}")
            time.sleep(_POLL_S)
        # kubectl has kept what discovery showed before.
        shutil.rmtree(self.folder / ".kube", ignore_errors=True)

    def install_snapshot_crds(self) -> None:
        """Install the external-snapshotter's definitions, and wait for VolumeSnapshots.

        Raises:
            subprocess.CalledProcessError: a definition was refused; `stderr` says why.
            ApiServerError: VolumeSnapshots are not served in time.
        """
        for file in sorted((self.binaries / "crd").glob("*.yaml")):
            self.kubectl("apply", "--server-side", "-f", str(file))
        self._serve(VOLUME_SNAPSHOT.path())

    def _serve(self, *collections: str) -> None:
        """Wait until kinds are served, now and after each start to come."""
        added = [
            path for path in (f"{it}?limit=1" for it in collections) if path not in self._paths
        ]
        self._paths += added
        self._wait_for(*self._paths)

    def _discovered(self) -> set[str]:
        groups = self.request("GET", "/apis", accept=_DISCOVERY).body["items"]
        versions = [version for group in groups for version in group["versions"]]
        return {entry["resource"] for version in versions for entry in version["resources"]}


@contextmanager
def running() -> Iterator[ApiServer]:
    """Run an API server in a temporary folder; all is gone when the block ends."""
    with (
        TemporaryDirectory(prefix="drey-apiserver-") as folder,
        ApiServer(Path(folder), bin_folder()) as server,
    ):
        yield server
