"""Time as an argument: the only reader of the wall clock and of the monotonic clock."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Two clocks that must not be mixed up."""

    def now(self) -> datetime:
        """Return the wall clock, aware, UTC: for what people and the API read."""

    def monotonic(self) -> float:
        """Return seconds that never go back: for delays and deadlines."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """See `Clock.now`."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic()
