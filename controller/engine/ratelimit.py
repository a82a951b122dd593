"""How long a failed key waits: exponential per key, and a token bucket over all retries.

Numbers of client-go's DefaultTypedControllerRateLimiter (util/workqueue), except that the cap is
300 s and not 1,000 s: a backup that could run again should not wait a quarter of an hour.
Pure: the caller passes the time and holds the lock.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field

BASE_S = 0.005
CAP_S = 300.0
PER_S = 10.0
BURST = 100


@dataclass(slots=True)
class RateLimiter:
    """`delay_s` counts a failure; `forget` ends the count.

    Invariant: a key is in `_failures` from its first failure until it is forgotten.
    """

    base_s: float = BASE_S
    cap_s: float = CAP_S
    per_s: float = PER_S
    burst: int = BURST
    _failures: dict[Hashable, int] = field(default_factory=dict)
    _tokens: float = field(init=False)
    _filled_at: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._tokens = float(self.burst)

    def delay_s(self, key: Hashable, now_s: float) -> float:
        """Return how long this failure of `key` has to wait: the longer of the two limits."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        # 2 ** 60 is beyond every cap; a larger exponent would overflow a float
        exponential = min(self.base_s * 2.0 ** min(failures, 60), self.cap_s)
        return max(exponential, self._reserve(now_s))

    def forget(self, key: Hashable) -> None:
        """End the count of a key."""
        self._failures.pop(key, None)

    def _reserve(self, now_s: float) -> float:
        """Take a token, on credit if there is none; return the wait until it is there."""
        passed = max(0.0, now_s - self._filled_at)
        self._tokens = min(float(self.burst), self._tokens + passed * self.per_s) - 1.0
        self._filled_at = now_s
        return max(0.0, -self._tokens / self.per_s)
