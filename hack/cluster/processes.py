"""Daemons of the cluster: started detached, found again, ended, whatever happened in between.

A process is ours if its environment says so (`DREY_CLUSTER_STATE=<state folder>`): a pid alone
proves nothing, because the kernel gives it to somebody else once its process is gone.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.errors import ClusterError

MARKER = "DREY_CLUSTER_STATE"
PROC = Path("/proc")
POLL_S = 0.02
START_S = 5


@dataclass(frozen=True)
class Identity:
    """A process for as long as the machine runs: the pid, and when it was started.

    `start_ticks` is field 22 of /proc/<pid>/stat (proc(5)): clock ticks since boot.
    """

    pid: int
    start_ticks: int


def parse_start_ticks(stat: str) -> int:
    """Return the start time from the text of /proc/<pid>/stat.

    The command name may hold spaces and parentheses, so fields are counted after the last `)`.
    """
    return int(stat.rpartition(")")[2].split()[19])


def identity_of(pid: int) -> Identity | None:
    """Return the identity of a running process; None when it is gone or a zombie."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if stat.rpartition(")")[2].split()[0] in {"Z", "X"}:
        return None
    return Identity(pid, parse_start_ticks(stat))


def is_marked(pid: int, state: Path) -> bool:
    """Say whether the process was started by the cluster whose state folder this is."""
    try:
        environment = (PROC / str(pid) / "environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    return f"{MARKER}={state}".encode() in environment.split(b"\0")


def marked(state: Path) -> list[int]:
    """Return the pids of all processes that this cluster's daemons are or have started."""
    pids = (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())
    return [pid for pid in pids if pid != os.getpid() and is_marked(pid, state)]


def command_of(pid: int) -> str:
    """Return the command line, for a message; empty when the process is gone."""
    try:
        raw = (PROC / str(pid) / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()


def kill(pids: Iterable[int], *, timeout_s: float = 10) -> None:
    """End processes with SIGKILL and wait until they are gone.

    Raises:
        ClusterError: some process is still there at the end (it hangs in the kernel).
    """
    identities = [i for i in map(identity_of, pids) if i is not None]
    for identity in identities:
        send(identity, signal.SIGKILL)
    deadline = time.monotonic() + timeout_s
    while rest := [i for i in identities if identity_of(i.pid) == i]:
        if time.monotonic() > deadline:
            names = ", ".join(f"{i.pid} ({command_of(i.pid)[:60]})" for i in rest)
            raise ClusterError(f"processes do not end after SIGKILL: {names}")
        time.sleep(POLL_S)


def send(identity: Identity, number: signal.Signals) -> None:
    """Send a signal to exactly this process; one that is gone is no error."""
    if identity_of(identity.pid) == identity:
        try:
            os.kill(identity.pid, number)
        except ProcessLookupError:
            return


@dataclass(frozen=True)
class Daemon:
    """How one daemon is started. `environment` is added to the little that every daemon gets."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    port: int = 0  # where it listens, when a successor must wait for it to be free


class Supervisor:
    """Starts and ends the daemons of one state folder.

    Args:
        state: the state folder.
        path: folders of executables, before the system's.
    """

    def __init__(self, state: Path, path: Path) -> None:
        self._state = state
        self._path = path

    def log_file(self, name: str) -> Path:
        """Return the log file of a daemon."""
        return self._state / "log" / f"{name}.log"

    def start(self, daemon: Daemon) -> None:
        """Start a daemon unless it runs. It survives this process and has the marker."""
        if self.running(daemon.name):
            return
        environment = {
            "PATH": f"{self._path}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self._state),
            MARKER: str(self._state),
            **daemon.environment,
        }
        with self.log_file(daemon.name).open("ab") as log:
            process = subprocess.Popen(
                list(daemon.argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._state,
                env=environment,
                start_new_session=True,
            )
        identity = identity_of(process.pid)
        process.returncode = 0  # it is meant to outlive us: no warning about that at exit
        # exec(2) lets us go on before the kernel shows the new environment: until then the process
        # would not be known as ours
        deadline = time.monotonic() + START_S
        while identity is not None and not is_marked(process.pid, self._state):
            if identity_of(process.pid) != identity or time.monotonic() > deadline:
                break
            time.sleep(POLL_S / 10)
        if identity is not None:
            record = {"pid": identity.pid, "start_ticks": identity.start_ticks}
            self._record(daemon.name).write_text(json.dumps(record))

    def running(self, name: str) -> Identity | None:
        """Return the daemon's identity if it runs: same pid, same start, our marker."""
        try:
            record = json.loads(self._record(name).read_text())
            known = Identity(int(record["pid"]), int(record["start_ticks"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        if identity_of(known.pid) != known or not is_marked(known.pid, self._state):
            return None
        return known

    def stop(self, name: str, *, timeout_s: float = 60) -> bool:
        """End a daemon with SIGTERM, then SIGKILL. Return whether it ran."""
        identity = self.running(name)
        if identity is None:
            return False
        send(identity, signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while identity_of(identity.pid) == identity and time.monotonic() < deadline:
            time.sleep(POLL_S)
        kill([identity.pid] if identity_of(identity.pid) == identity else [])
        self._record(name).unlink(missing_ok=True)
        return True

    def wait(
        self, what: str, probe: Callable[[], bool], *, needs: Sequence[str], timeout_s: float = 90
    ) -> None:
        """Wait until the probe holds.

        Raises:
            ClusterError: a daemon in `needs` has ended, or the time is over; with its last lines.
        """
        deadline = time.monotonic() + timeout_s
        while not probe():
            for name in needs:
                if not self.running(name):
                    raise ClusterError(f"{what}: {name} has ended.\n{self.tail(name)}")
            if time.monotonic() > deadline:
                tails = "\n".join(self.tail(name) for name in needs)
                raise ClusterError(f"{what}: not after {timeout_s:.0f} s.\n{tails}")
            time.sleep(POLL_S)

    def tail(self, name: str, lines: int = 8) -> str:
        """Return the end of a daemon's log, with the path of the whole."""
        path = self.log_file(name)
        try:
            text = path.read_text(errors="replace").splitlines()[-lines:]
        except FileNotFoundError:
            text = []
        return "\n".join([f"--- {path}", *(line[:400] for line in text)])

    def _record(self, name: str) -> Path:
        return self._state / "run" / f"{name}.json"


def parse_listeners(table: str) -> set[int]:
    """Return the ports in state LISTEN of the text of /proc/net/tcp or tcp6 (proc(5))."""
    rows = (line.split() for line in table.splitlines()[1:])
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}


def listening_on(port: int) -> bool:
    """Say whether some process of this network namespace listens on a TCP port."""
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    return any(port in parse_listeners(t.read_text()) for t in tables if t.exists())
