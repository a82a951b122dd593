"""A clock that stands still until a test moves it, and an Event whose waits move it."""

import threading
from datetime import UTC, datetime, timedelta


class FakeClock:
    """`controller.engine.clock.Clock`; both readings advance together."""

    def __init__(self, start: datetime = datetime(2026, 11, 22, 4, 0, tzinfo=UTC)) -> None:
        self._start = start
        self._passed_s = 0.0

    def now(self) -> datetime:
        """Return the start plus what has passed."""
        return self._start + timedelta(seconds=self._passed_s)

    def monotonic(self) -> float:
        """Return what has passed, from 1,000 s on (a machine is never just born)."""
        return 1000.0 + self._passed_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._passed_s += seconds


class FakeStop(threading.Event):
    """A stop event: waiting takes no time, but advances the clock and is written down."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        """Advance the clock by the timeout unless the event is set."""
        if timeout is not None and not self.is_set():
            self.waits.append(timeout)
            self.clock.advance(timeout)
        return self.is_set()
