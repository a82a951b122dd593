"""Repeats a request until the API server has answered it for good.

Only for what may be done twice: the answer to a request that was carried out can get lost.
"""

import random
import re
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from controller.kube.errors import Forbidden, KubeError, NotFound, Verdict, classify
from runner.log import Log

LIMIT_S = 500.0
"""Below the 600 s of the Job (controller.build.cronjob), which also cover the start of its pod."""
DOUBT_S = 60.0
"""For so long a refusal is doubted: until its caches are filled, a kube-apiserver that has just
started forbids everything to everybody but its admins (RBAC) and may not know our kinds (CRDs)."""
FIRST_S = 0.5
MOST_S = 15.0
"""The pauses double from FIRST_S to MOST_S, each plus up to as much again: after an outage at
midnight the triggers of the whole cluster do not come back at once."""

_DEFINITE = re.compile(
    r"exceeded quota|failed quota|denied (the )?request|being terminated|usage per \w+ is"
)
"""Refusals that no start of a kube-apiserver explains: quotas, webhooks ("denied the request"),
admission policies ("denied request"), LimitRanges, a namespace that is going."""

_Answer = TypeVar("_Answer")
_pause = threading.Event()  # never set: its `wait` ends by time, or by an exception from a signal


def is_refusal(err: KubeError) -> bool:
    """Tell whether an API server says that it may not be, or that it does not know the kind."""
    return isinstance(err, Forbidden | NotFound)


def is_doubtful(err: KubeError) -> bool:
    """Tell whether a refusal may come from an API server that knows our rights or kinds not yet."""
    return is_refusal(err) and not _DEFINITE.search(err.message)


def remedy(err: KubeError) -> str:
    """Return what to do about a refusal, to be put behind the server's words; may be empty."""
    if not isinstance(err, Forbidden):
        return ""
    if re.search("(exceeded|failed) quota", err.message):
        return "; raise the ResourceQuota, or delete what is not needed"
    if re.search("denied (the )?request", err.message):
        return "; an admission policy or webhook of the cluster must allow it"
    if is_doubtful(err):
        return "; the Job's ServiceAccount lacks the right: check its RoleBinding"
    return ""


def until_answered(
    request: Callable[[], _Answer],
    log: Log,
    fields: dict[str, Any],
    *,
    limit_s: float = LIMIT_S,
    doubt_s: float = DOUBT_S,
    doubts: Callable[[KubeError], bool] = is_doubtful,
    wait: Callable[[float], object] = _pause.wait,
    monotonic: Callable[[], float] = time.monotonic,
    rng: random.Random | None = None,
) -> _Answer:
    """Return the answer; each kind of failure on the way is logged once, with the next try.

    Raises:
        KubeError: nothing that passes by itself, or it lasted for `limit_s`, a refusal that
            `doubts` doubts for `doubt_s`.
    """
    rng = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
    started_s = monotonic()
    refused_at_s: float | None = None
    next_s = FIRST_S
    told: set[str] = set()
    while True:
        try:
            return request()
        except KubeError as err:
            pause_s = max(next_s * (1.0 + rng.random()), getattr(err, "retry_after_s", 0.0))
            next_s = min(next_s * 2.0, MOST_S)
            now_s = monotonic()
            if doubts(err):
                # counted from the first in a row: the API server may be away for long before
                refused_at_s = now_s if refused_at_s is None else refused_at_s
                ends_s = min(refused_at_s + doubt_s, started_s + limit_s)
            else:
                refused_at_s = None
                ends_s = started_s + (0.0 if classify(err) is Verdict.REFUSED else limit_s)
            if now_s + pause_s > ends_s:
                raise
            if str(err) not in told:
                told.add(str(err))
                log.warning(
                    "api_server_refuses" if refused_at_s is not None else "api_server_fails",
                    **fields,
                    error=str(err),
                    retry_s=round(pause_s, 1),
                    gives_up_s=round(ends_s - now_s),
                )
        wait(pause_s)
