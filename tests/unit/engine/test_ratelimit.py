"""controller.engine.ratelimit: backoff per key, and a bucket over all."""

import pytest

from controller.engine.ratelimit import RateLimiter


def test_delays_double_up_to_the_cap() -> None:
    """5 ms, doubled with each failure in a row, never above 300 s."""
    limiter = RateLimiter()
    delays = [limiter.delay_s("a", 1000.0 * n) for n in range(100)]
    assert delays[:4] == [0.005, 0.01, 0.02, 0.04]
    assert max(delays) == delays[-1] == 300.0


def test_forget_starts_over() -> None:
    """After a success the next failure is a first one."""
    limiter = RateLimiter()
    for _ in range(10):
        limiter.delay_s("a", 0.0)
    limiter.forget("a")
    assert limiter.delay_s("a", 0.0) == 0.005


def test_keys_fail_apart() -> None:
    """One broken object does not slow another."""
    limiter = RateLimiter()
    for _ in range(10):
        limiter.delay_s("a", 0.0)
    assert limiter.delay_s("b", 0.0) == 0.005


def test_the_bucket_bounds_all_retries_together() -> None:
    """A hundred at once, then ten per second, however many keys fail."""
    limiter = RateLimiter()
    delays = [limiter.delay_s(n, 0.0) for n in range(120)]
    assert delays[:100] == [0.005] * 100
    assert delays[100] == pytest.approx(0.1)
    assert delays[119] == pytest.approx(2.0)
    assert limiter.delay_s("later", 60.0) == 0.005
