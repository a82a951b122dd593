"""The one place that starts processes, with real ones."""

import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from runner.restic.process import DRAIN_S, Ending, Interruption, Stop, run
from tests.support.runner import ROOT


def shell(
    script: str,
    *,
    interruption: Interruption | None = None,
    deadline_s: float = math.inf,
    patience: Callable[[float], float] = lambda _: math.inf,
    grace_s: float = 5,
) -> tuple[Ending, bytes, bytes]:
    """Run a script, and return its end and its output."""
    out, err = bytearray(), bytearray()
    ending = run(
        ["/bin/sh", "-c", script],
        {"PATH": b"/usr/bin:/bin"},
        on_stdout=out.extend,
        on_stderr=err.extend,
        interruption=interruption or Interruption(),
        deadline_s=deadline_s,
        patience=patience,
        grace_s=grace_s,
    )
    return ending, bytes(out), bytes(err)


def test_output_and_code() -> None:
    """Both streams arrive whole and apart, with the exit code."""
    ending, out, err = shell("printf out; printf err >&2; exit 3")
    assert (ending, out, err) == (Ending(3), b"out", b"err")


def test_both_pipes_are_drained() -> None:
    """10 MB on each stream, written at once, do not block the writer."""
    code = "import os,threading as t\nf=lambda d:[os.write(d,b'x'*65536) for _ in range(160)]\n"
    code += "a=t.Thread(target=f,args=(1,)); a.start(); f(2); a.join()"
    ending, out, err = shell(f'{sys.executable} -c "{code}"')
    assert (ending.code, len(out), len(err)) == (0, 160 << 16, 160 << 16)


def test_interruption_is_sigint() -> None:
    """A request becomes SIGINT, and the process may clean up."""
    interruption = Interruption()
    threading.Timer(3.0, interruption.request).start()  # when the shell has its trap
    script = "trap 'echo cleaned; exit 130' INT; sleep 30 & wait"
    ending, out, _ = shell(script, interruption=interruption)
    assert (ending, out) == (Ending(130, Stop.SIGNAL), b"cleaned\n")


IGNORED = """
import os, signal, threading
from runner.restic.process import Interruption, run

assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
interruption, drop = Interruption(), bytearray().extend
interruption.install()
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
print(run(["/bin/sleep", "30"], {}, on_stdout=drop, on_stderr=drop, interruption=interruption))
"""


def test_sigint_ignored_at_the_start() -> None:
    """A runner that was started with SIGINT ignored ends its process with it all the same."""
    shell = ["/bin/sh", "-c", 'trap \'\' INT; exec "$0" -c "$1"', sys.executable, IGNORED]
    done = subprocess.run(shell, capture_output=True, check=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout == f"{Ending(-signal.SIGINT, Stop.SIGNAL)}\n"


UNSEEN = """
import signal, threading
from runner.restic.process import Interruption, run

interruption, drop = Interruption(), bytearray().extend
interruption.install()
threading.Timer(0.3, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)).start()
print(run(["/bin/sleep", "30"], {}, on_stdout=drop, on_stderr=drop, interruption=interruption))
"""


def test_a_signal_that_does_not_wake_the_main_thread() -> None:
    """A signal that comes between the last look and the sleep interrupts all the same.

    Sent to another thread: like in that moment, the main one sleeps on while it is pending.
    """
    command = [sys.executable, "-c", UNSEEN]
    done = subprocess.run(command, capture_output=True, check=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout == f"{Ending(-signal.SIGINT, Stop.SIGNAL)}\n"


def test_nothing_starts_after_an_interruption() -> None:
    """After the request no further process is started."""
    interruption = Interruption()
    interruption.request()
    ending, out, _ = shell("echo started", interruption=interruption)
    assert (ending.stop, out) == (Stop.SIGNAL, b"")


def test_deaf_process_is_killed() -> None:
    """A process that ignores SIGINT is killed after the grace time, with its children."""
    started = time.monotonic()
    ending, _, _ = shell(
        "trap '' INT; sleep 60 & wait; sleep 60", deadline_s=started + 3.0, grace_s=0.5
    )
    assert ending == Ending(-signal.SIGKILL, Stop.DEADLINE, killed=True)
    assert time.monotonic() - started < 30


def test_past_deadline_starts_nothing() -> None:
    """A deadline in the past starts no process."""
    ending, out, _ = shell("echo started", deadline_s=time.monotonic() - 1)
    assert (ending.stop, out) == (Stop.DEADLINE, b"")


def test_patience() -> None:
    """Patience is asked as often as it wants, and 0 ends the process."""
    asked: list[float] = []

    def patience(elapsed_s: float) -> float:
        asked.append(elapsed_s)
        return 0.0 if elapsed_s > 0.5 else 0.1

    ending, _, _ = shell("exec sleep 30", patience=patience)
    assert ending == Ending(-signal.SIGINT, Stop.PATIENCE)
    assert 2 <= len(asked) <= 8


def test_grandchild_that_keeps_a_pipe() -> None:
    """A pipe held open by somebody else does not keep the run alive."""
    started = time.monotonic()
    ending, out, _ = shell("echo done; sleep 30 & exit 0")
    assert (ending.code, out) == (0, b"done\n")
    assert time.monotonic() - started < DRAIN_S + 15


def test_missing_program() -> None:
    """A program that does not exist is an OSError."""
    with pytest.raises(FileNotFoundError):
        run(
            ["/no/such/program"],
            {},
            on_stdout=bytearray().extend,
            on_stderr=bytearray().extend,
            interruption=Interruption(),
        )
