"""restic's status messages as log lines at a human rate."""

from collections.abc import Callable
from time import monotonic

from runner.log import Log
from runner.restic.messages import Message, Status

FIRST_S = 10.0
SOON_S = 30.0
LATER_S = 60.0
LATER_FROM_S = 300.0


class Progress:
    """Logs the first status after about 10 s, then one each 30 s, from 5 minutes on each 60 s."""

    def __init__(self, log: Log, verb: str, *, clock: Callable[[], float] = monotonic) -> None:
        self._log = log
        self._verb = verb
        self._clock = clock
        self._start = clock()
        self._due = self._start + FIRST_S - 1
        self._last = (self._start, 0)

    def __call__(self, message: Message) -> None:
        """Take any message of restic."""
        now = self._clock()
        if not isinstance(message, Status) or now < self._due:
            return
        then, bytes_then = self._last
        rate = (message.bytes_done - bytes_then) / max(now - then, 0.001)
        self._log.info(
            f"{self._verb}_progress",
            percent=round(message.done * 100, 1),
            files_done=message.files_done,
            files_total=message.files_total,
            bytes_done=message.bytes_done,
            bytes_total=message.bytes_total,
            bytes_per_s=max(0, round(rate)),
            remaining_s=message.remaining_s,
            elapsed_s=round(now - self._start),
        )
        self._last = (now, message.bytes_done)
        # A second less, because restic's own statuses come in steps of ten seconds.
        self._due = now + (SOON_S if now - self._start < LATER_FROM_S else LATER_S) - 1
