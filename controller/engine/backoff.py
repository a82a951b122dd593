"""How long to wait after a failure of something that is tried for ever."""

import random
from dataclasses import dataclass

from controller.engine.clock import Clock

CALM_S = 120.0


@dataclass(slots=True)
class Backoff:
    """0.8 s to 30 s, doubled each time, plus up to as much again; starts over after 2 calm min."""

    clock: Clock
    rng: random.Random
    base_s: float = 0.8
    cap_s: float = 30.0
    _next_s: float = 0.0
    _last: float = float("-inf")

    def delay_s(self) -> float:
        """Return the delay after one more failure."""
        now_s = self.clock.monotonic()
        if now_s - self._last > CALM_S:
            self._next_s = self.base_s
        delay_s = self._next_s * (1.0 + self.rng.random())
        self._next_s = min(self._next_s * 2.0, self.cap_s)
        self._last = now_s + delay_s
        return delay_s
