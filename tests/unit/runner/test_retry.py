"""Repeating a request: what is worth it, how often, for how long, and what is told about it."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.kube.errors import (
    Conflict,
    Forbidden,
    Invalid,
    KubeError,
    NotFound,
    ServerFault,
    Throttled,
    Unauthorized,
    Unreachable,
)
from runner.log import Log
from runner.redaction import Redactor
from runner.retry import (
    DOUBT_S,
    LIMIT_S,
    MOST_S,
    is_doubtful,
    is_refusal,
    until_answered,
)
from tests.support.clock import FakeClock, FakeStop

PASSING: list[KubeError] = [
    Unreachable("refused"),
    ServerFault("etcd leader changed", code=500),
    Throttled("later", code=429),
    Unauthorized("no", code=401),
    Conflict("quota changed", code=409),
]
REFUSING: list[KubeError] = [Forbidden("RBAC", code=403), NotFound("no such resource", code=404)]
DEFINITE = [
    "exceeded quota: few, requested: count/x=1, used: 2, limited: 2",
    "failed quota: few: must specify limits.cpu",
    'admission webhook "a.b" denied the request: no',
    "ValidatingAdmissionPolicy 'size' with binding 'all' denied request: too large",
    "unable to create new content in namespace demo because it is being terminated",
    "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi",
]
"""As kube-apiserver 1.36 says it, behind `<resource> "<name>" is forbidden: `."""


class Outage:
    """Requests that fail as scripted, the last failure for ever; time passes in pauses only."""

    def __init__(self, *failures: KubeError | None, seed: int = 0) -> None:
        self.clock = FakeClock()
        self.stop = FakeStop(self.clock)
        self.lines: list[dict[str, Any]] = []
        self.tries = 0
        self._failures = list(failures)
        self._seed = seed

    def run(self, **more: Any) -> str:
        """Ask until answered."""
        log = Log(Redactor({}), write=lambda line: self.lines.append(json.loads(line)))
        return until_answered(
            self._ask,
            log,
            {"name": "data-1"},
            wait=self.stop.wait,
            monotonic=self.clock.monotonic,
            rng=random.Random(self._seed),  # noqa: S311 - a script
            **more,
        )

    def _ask(self) -> str:
        self.tries += 1
        failure = self._failures.pop(0) if len(self._failures) > 1 else self._failures[0]
        if failure is not None:
            raise failure
        return "done"


@pytest.mark.parametrize("failure", [*PASSING, *REFUSING], ids=lambda e: type(e).__name__)
def test_failure_that_passes(failure: KubeError) -> None:
    """What is nobody's mistake, or a start of the API server, is survived and told once."""
    outage = Outage(failure, failure, None)
    assert outage.run() == "done"
    (line,) = outage.lines
    assert (line["level"], line["name"], line["error"]) == ("warning", "data-1", str(failure))
    assert line["retry_s"] == pytest.approx(outage.stop.waits[0], abs=0.06)


def test_each_failure_is_told_once() -> None:
    """Three kinds of failure are three warnings, however often each comes."""
    refused, starting, forbidden = Unreachable("refused"), ServerFault("starting"), REFUSING[0]
    outage = Outage(refused, refused, starting, forbidden, refused, forbidden, None)
    outage.run()
    assert [line["error"] for line in outage.lines] == [
        "Unreachable: refused",
        "ServerFault: starting",
        "Forbidden: RBAC",
    ]
    assert [line["event"] for line in outage.lines] == [
        "api_server_fails",
        "api_server_fails",
        "api_server_refuses",
    ]


@pytest.mark.parametrize("failure", PASSING, ids=lambda e: type(e).__name__)
def test_end_of_patience(failure: KubeError) -> None:
    """It gives up with the last failure, shortly before the Job's deadline would end it."""
    outage = Outage(failure)
    with pytest.raises(type(failure)):
        outage.run()
    assert LIMIT_S - 2 * MOST_S <= sum(outage.stop.waits) <= LIMIT_S
    assert 20 <= outage.tries <= 40


@pytest.mark.parametrize("failure", REFUSING, ids=lambda e: type(e).__name__)
def test_refusal_that_stays(failure: KubeError) -> None:
    """A refusal is doubted for a minute, counted from the first in a row, not from the start."""
    outage = Outage(failure)
    with pytest.raises(type(failure)):
        outage.run()
    assert DOUBT_S - 2 * MOST_S <= sum(outage.stop.waits) <= DOUBT_S
    away = [Unreachable("refused")] * 15
    outage = Outage(*away, failure, None)
    assert outage.run() == "done"
    assert sum(outage.stop.waits) > 2 * DOUBT_S


@pytest.mark.parametrize("words", DEFINITE)
def test_refusal_that_no_start_explains(words: str) -> None:
    """Quota and admission are believed at once, but by who has no second chance: the trigger."""
    failure = Forbidden(f'things "data-1" is forbidden: {words}', code=403)
    assert not is_doubtful(failure)
    outage = Outage(failure)
    with pytest.raises(Forbidden):
        outage.run()
    assert outage.stop.waits == []
    assert Outage(failure, failure, None).run(doubts=is_refusal) == "done"
    outage = Outage(failure)
    with pytest.raises(Forbidden):
        outage.run(doubts=is_refusal)
    assert DOUBT_S - 2 * MOST_S <= sum(outage.stop.waits) <= DOUBT_S


def test_mistake_is_not_repeated() -> None:
    """What the API server calls wrong fails at once."""
    outage = Outage(Invalid("spec.invoker: required", code=422))
    with pytest.raises(Invalid):
        outage.run()
    assert (outage.tries, outage.stop.waits, outage.lines) == (1, [], [])


def test_server_names_the_pause() -> None:
    """Retry-After is respected where it is longer than our own pause."""
    outage = Outage(Throttled("later", code=429, retry_after_s=30.0), None)
    outage.run()
    assert outage.stop.waits == [30.0]


@given(st.integers())
def test_pauses(seed: int) -> None:
    """Pauses double from 0.5 s to 15 s, each plus up to as much again, differently each time."""
    outage = Outage(Unreachable("refused"), seed=seed)
    with pytest.raises(Unreachable):
        outage.run()
    for number, pause_s in enumerate(outage.stop.waits):
        least_s = min(0.5 * 2**number, MOST_S)
        assert least_s <= pause_s <= 2 * least_s
