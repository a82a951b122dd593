"""Named threads under one roof: none ends quietly.

A thread whose target raises, or returns before the stop, has crashed: the supervisor logs it, sets
the stop event, and the process ends with a failure. A restart by the kubelet is the repair.
"""

import threading
from collections.abc import Callable, Sequence

import structlog

log = structlog.get_logger()


class Supervisor:
    """Starts threads and notices when one dies.

    Invariant: `stop` is set as soon as a thread has crashed, and `crashed` names the first one.
    """

    def __init__(self, stop: threading.Event | None = None) -> None:
        self.stop = stop or threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._crashed = ""

    @property
    def crashed(self) -> str:
        """The name of the first thread that crashed, or nothing."""
        return self._crashed

    def start(self, name: str, target: Callable[[], object], *, may_end: bool = False) -> None:
        """Start a daemon thread; one that `may_end` crashes only by raising."""

        def run() -> None:
            try:
                target()
            except BaseException as err:  # noqa: BLE001 - thread boundary
                self._crash(name, err)
            else:
                if not (may_end or self.stop.is_set()):
                    self._crash(name, None)

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self, timeout_s: float) -> Sequence[str]:
        """Wait for all threads, at most so long altogether; return the names of those alive."""
        pause = threading.Event()
        step_s = 0.02
        while timeout_s > 0 and any(thread.is_alive() for thread in self._threads):
            pause.wait(step_s)
            timeout_s -= step_s
        return [thread.name for thread in self._threads if thread.is_alive()]

    def problem(self) -> str | None:
        """Return what is wrong, for `/healthz`."""
        return f"thread {self._crashed} has crashed" if self._crashed else None

    def _crash(self, name: str, err: BaseException | None) -> None:
        with self._lock:
            self._crashed = self._crashed or name
        log.error("thread_crashed", thread=name, exc_info=err)
        self.stop.set()
