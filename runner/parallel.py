"""One call for each of many things at once, with an end that no hanging call can delay."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, Queue, SimpleQueue
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def spread(
    act: Callable[[_Item], _Result],
    items: Sequence[_Item],
    done: dict[int, _Result],
    *,
    threads: int,
    limit_s: float = math.inf,
    monotonic: Callable[[], float] = time.monotonic,
) -> bool:
    """Put the result of each item into `done`, by its index; False when time was up before.

    The threads end with the process. So a call that hangs delays nobody, and after an exception
    from a signal `done` has what was known by then.

    Raises:
        Exception: what `act` raised first.
    """
    ends_s = monotonic() + limit_s
    waiting: SimpleQueue[tuple[int, _Item]] = SimpleQueue()
    ended: Queue[Exception | None] = Queue()
    for numbered in enumerate(items):
        waiting.put(numbered)
    for _ in range(min(threads, len(items))):
        arguments = (act, waiting, done, ended)
        threading.Thread(target=_work, args=arguments, daemon=True).start()
    for _ in items:
        left_s = ends_s - monotonic()
        try:
            failure = ended.get(timeout=None if math.isinf(left_s) else max(0.0, left_s))
        except Empty:
            return False
        if failure is not None:
            raise failure
    return True


def _work(
    act: Callable[[_Item], _Result],
    waiting: "SimpleQueue[tuple[int, _Item]]",
    done: dict[int, _Result],
    ended: "Queue[Exception | None]",
) -> None:
    while True:
        try:
            index, item = waiting.get_nowait()
        except Empty:
            return
        try:
            done[index] = act(item)
        except Exception as err:  # noqa: BLE001 - a thread's boundary: told to the caller
            ended.put(err)
        else:
            ended.put(None)
