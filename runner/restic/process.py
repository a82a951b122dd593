"""The one place that starts processes.

One thread waits for everything at once: both pipes, the end of the process, signals and clocks.
Both pipes are always drained, so a full one cannot stop restic.
"""

import math
import os
import selectors
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from time import monotonic
from types import FrameType

CHUNK_BYTES = 1 << 16
GRACE_S = 90.0
"""How long restic may take to release its lock; the pod has 120 s (D9)."""
DRAIN_S = 5.0
"""How long a pipe that a grandchild holds open is read after restic's end."""


class Stop(Enum):
    """Why we ended a process; NO: it ended by itself."""

    NO = "no"
    SIGNAL = "signal"
    DEADLINE = "deadline"
    PATIENCE = "patience"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended. `code` is negative for a signal; `killed`: SIGINT did not help."""

    code: int
    stop: Stop = Stop.NO
    killed: bool = False


class Interruption:
    """SIGTERM and SIGINT as something that a selector can wait for."""

    def __init__(self) -> None:
        self.requested = False
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def install(self) -> None:
        """Take over the signals; process 1 of a container ignores those without a handler."""
        signal.signal(signal.SIGTERM, self._handle)
        signal.signal(signal.SIGINT, self._handle)
        # Written at once, on whichever thread: a handler alone would not wake a selector that the
        # signal found just before its sleep.
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def request(self) -> None:
        """Ask for the end."""
        if not self.requested:
            self.requested = True
            os.write(self._write, b"x")

    def fileno(self) -> int:
        """Return the descriptor that is readable from the request on."""
        return self._read

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.request()


def _never(elapsed_s: float) -> float:
    del elapsed_s
    return math.inf


def run(
    argv: Sequence[str],
    environment: Mapping[str, bytes],
    *,
    on_stdout: Callable[[bytes], None],
    on_stderr: Callable[[bytes], None],
    interruption: Interruption,
    deadline_s: float = math.inf,
    patience: Callable[[float], float] = _never,
    grace_s: float = GRACE_S,
) -> Ending:
    """Run a command to its end and hand over what it prints, in chunks.

    `deadline_s` is on the monotonic clock. `patience` is asked with the seconds since the start
    and returns in how many seconds to ask again; 0 means that it is exhausted.

    Raises:
        OSError: the program cannot be started.
    """
    if interruption.requested:
        return Ending(code=-signal.SIGINT, stop=Stop.SIGNAL)
    if monotonic() >= deadline_s:
        return Ending(code=-signal.SIGINT, stop=Stop.DEADLINE)
    process = subprocess.Popen(
        argv,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        return _Watch(process, interruption, deadline_s, patience, grace_s).run(
            on_stdout, on_stderr
        )
    finally:
        if process.poll() is None:
            _kill(process)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()


class _Watch:
    def __init__(
        self,
        process: subprocess.Popen[bytes],
        interruption: Interruption,
        deadline_s: float,
        patience: Callable[[float], float],
        grace_s: float,
    ) -> None:
        self._process = process
        self._interruption = interruption
        self._deadline = deadline_s
        self._patience = patience
        self._grace = grace_s
        self._start = monotonic()
        self._ask_at = self._start + patience(0.0)
        self._kill_at = math.inf
        self._drain_until = math.inf
        self._stop = Stop.NO
        self._killed = False

    def run(self, on_stdout: Callable[[bytes], None], on_stderr: Callable[[bytes], None]) -> Ending:
        assert self._process.stdout is not None  # noqa: S101 - narrows the type for mypy
        assert self._process.stderr is not None  # noqa: S101 - narrows the type for mypy
        pidfd = os.pidfd_open(self._process.pid)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._process.stdout, selectors.EVENT_READ, on_stdout)
                selector.register(self._process.stderr, selectors.EVENT_READ, on_stderr)
                selector.register(pidfd, selectors.EVENT_READ)
                selector.register(self._interruption, selectors.EVENT_READ)
                self._loop(selector, pidfd)
        finally:
            os.close(pidfd)
        return Ending(self._process.wait(), self._stop, self._killed)

    def _loop(self, selector: selectors.BaseSelector, pidfd: int) -> None:
        pipes = 2
        while (pipes or self._process.poll() is None) and monotonic() < self._drain_until:
            for key, _ in selector.select(self._wait_s()):
                if key.data is not None:
                    chunk = os.read(key.fd, CHUNK_BYTES)
                    if chunk:
                        key.data(chunk)
                    else:
                        selector.unregister(key.fileobj)
                        pipes -= 1
                else:
                    selector.unregister(key.fileobj)
                    if key.fd == pidfd:
                        self._drain_until = monotonic() + DRAIN_S
            if math.isinf(self._drain_until):
                self._check(monotonic())

    def _wait_s(self) -> float | None:
        due = min(self._deadline, self._ask_at, self._kill_at, self._drain_until)
        return None if math.isinf(due) else max(0.0, due - monotonic())

    def _check(self, now: float) -> None:
        if now >= self._kill_at:
            self._kill_at = math.inf
            self._killed = True
            _kill(self._process)
        elif self._stop is Stop.NO:
            if now >= self._ask_at:
                again_s = self._patience(now - self._start)
                self._ask_at = now + again_s
                if again_s == 0:
                    self._end(Stop.PATIENCE, now)
            if self._interruption.requested:
                self._end(Stop.SIGNAL, now)
            elif now >= self._deadline:
                self._end(Stop.DEADLINE, now)

    def _end(self, why: Stop, now: float) -> None:
        self._stop = why
        self._ask_at = self._deadline = math.inf
        self._kill_at = now + self._grace
        self._process.send_signal(signal.SIGINT)
