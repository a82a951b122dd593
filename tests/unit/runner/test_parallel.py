"""Many calls at once, one end."""

import threading
import time

import pytest

from runner.parallel import spread


def test_all_results_by_their_index() -> None:
    """Each item is done once, whichever thread takes it."""
    done: dict[int, int] = {}
    assert spread(lambda item: item * item, range(100), done, threads=7)
    assert done == {index: index * index for index in range(100)}


def test_calls_overlap() -> None:
    """As many calls as there are threads run at the same time."""
    meeting = threading.Barrier(4, timeout=30.0)
    done: dict[int, int] = {}
    assert spread(lambda _: meeting.wait(), range(4), done, threads=4)
    assert sorted(done.values()) == [0, 1, 2, 3]


def test_a_call_that_hangs_is_left_behind() -> None:
    """When time is up, what is done is there, and what is not is not."""
    never = threading.Event()

    def act(item: int) -> int:
        if item:
            never.wait()
        return item

    done: dict[int, int] = {}
    began = time.monotonic()
    assert not spread(act, (0, 1), done, threads=2, limit_s=3.0)
    assert time.monotonic() - began < 30.0
    assert done == {0: 0}
    never.set()


def test_bug_is_told() -> None:
    """What a call raises is raised here, at the caller's boundary."""
    with pytest.raises(ZeroDivisionError):
        spread(lambda item: 1 // item, (0,), {}, threads=2)


def test_nothing_to_do() -> None:
    """No items are done at once."""
    assert spread(lambda item: item, (), {}, threads=2)
