"""Processes are told apart by pid, start time and marker; /proc is parsed as proc(5) says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hack.cluster import processes
from hack.cluster.errors import ClusterError
from hack.cluster.processes import MARKER, Daemon, Supervisor

FIELDS = " ".join(["S", *map(str, range(4, 22)), "4711", "23"])


@given(st.text(st.characters(blacklist_characters="\0\n"), max_size=15))
def test_the_start_time_is_found_behind_any_command_name(name: str) -> None:
    """The name in /proc/<pid>/stat may hold blanks and parentheses."""
    assert processes.parse_start_ticks(f"12 ({name}) {FIELDS}") == 4711


def test_listening_ports_are_those_in_state_listen() -> None:
    """State 0A is LISTEN; a connection from the same port is none."""
    table = (
        "  sl  local_address rem_address   st\n"
        "   0: 0100007F:192B 00000000:0000 0A 0\n"
        "   1: 0100007F:0050 0100007F:C350 01 0\n"
    )
    assert processes.parse_listeners(table) == {6443}


@pytest.fixture
def supervisor(tmp_path: Path) -> Supervisor:
    """A supervisor over an empty state folder."""
    for folder in ("log", "run"):
        (tmp_path / folder).mkdir()
    return Supervisor(tmp_path, tmp_path / "bin")


def test_a_daemon_is_started_once_found_again_and_ended(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    """A second start is a no-op; the marker finds the process; stop ends it."""
    sleeper = Daemon("sleeper", ("sleep", "60"), {})
    supervisor.start(sleeper)
    first = supervisor.running("sleeper")
    supervisor.start(sleeper)
    assert first is not None
    assert supervisor.running("sleeper") == first
    assert processes.marked(tmp_path) == [first.pid]
    assert supervisor.stop("sleeper")
    assert supervisor.running("sleeper") is None
    assert processes.marked(tmp_path) == []
    assert not supervisor.stop("sleeper")


@pytest.mark.parametrize("shift", [0, -1])
def test_a_pid_that_belongs_to_somebody_else_is_not_the_daemon(
    supervisor: Supervisor, tmp_path: Path, shift: int
) -> None:
    """Neither a reused pid nor a process without our marker is taken for a daemon, or ended."""
    own = processes.identity_of(os.getpid())
    assert own is not None
    record = {"pid": own.pid, "start_ticks": own.start_ticks + shift}
    (tmp_path / "run" / "etcd.json").write_text(json.dumps(record))
    assert supervisor.running("etcd") is None
    assert not supervisor.stop("etcd")


def test_a_stubborn_daemon_is_killed(supervisor: Supervisor) -> None:
    """SIGTERM ignored: SIGKILL after the time given."""
    program = "import signal, sys; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True)"
    argv = (sys.executable, "-c", f"{program}; signal.pause()")
    supervisor.start(Daemon("deaf", argv, {}))
    log = supervisor.log_file("deaf")
    supervisor.wait("deaf", lambda: "deaf" in log.read_text(), needs=["deaf"])
    assert supervisor.stop("deaf", timeout_s=0.2)
    assert supervisor.running("deaf") is None


def test_a_daemon_is_known_as_soon_as_it_was_started(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    """The kernel shows a new program's environment a moment late: no start is taken for a death."""
    for number in range(40):
        supervisor.start(Daemon(f"daemon-{number}", ("sleep", "60"), {}))
        assert supervisor.running(f"daemon-{number}")
    processes.kill(processes.marked(tmp_path))


def test_waiting_ends_at_once_when_the_daemon_ends(supervisor: Supervisor) -> None:
    """The error has the daemon's last lines and the path of its log."""
    supervisor.start(Daemon("broken", ("sh", "-c", "echo no such option >&2; exit 2"), {}))
    with pytest.raises(ClusterError, match=r"(?s)broken has ended.*broken\.log.*no such option"):
        supervisor.wait("broken ready", lambda: False, needs=["broken"], timeout_s=30)


def test_children_of_a_daemon_carry_its_marker(supervisor: Supervisor, tmp_path: Path) -> None:
    """What a daemon starts is found through the environment that it inherits."""
    supervisor.start(Daemon("parent", ("sh", "-c", "sleep 61 & wait"), {}))
    supervisor.wait("both", lambda: len(processes.marked(tmp_path)) == 2, needs=["parent"])
    processes.kill(processes.marked(tmp_path))
    assert processes.marked(tmp_path) == []


def test_a_folder_whose_name_only_begins_the_same_is_another_cluster(tmp_path: Path) -> None:
    """The marker is compared as a whole."""
    environment = {MARKER: f"{tmp_path}-other", "PATH": os.environ["PATH"]}
    with subprocess.Popen(["sleep", "60"], env=environment) as process:
        assert not processes.is_marked(process.pid, tmp_path)
        process.kill()
