"""From an outcome to a reason and a remedy (D32)."""

import pytest

from controller.api.report import Reason
from runner.failure import failure_of
from runner.restic.exits import Exit
from runner.restic.outcome import Outcome
from runner.restic.process import Stop
from tests.support.job_inputs import JOB


def failed(code: int, error: str = "", backend_error: str = "") -> Outcome:
    """Return the outcome of a command that failed by itself."""
    return Outcome(Exit.of(code), code, error=error, backend_error=backend_error)


@pytest.mark.parametrize(
    ("outcome", "reason", "said"),
    [
        (failed(0), Reason.NO_SUMMARY, "nothing is proven"),
        (failed(10), Reason.REPOSITORY_VANISHED, "not made anew"),
        (failed(11, "locked by PID 7"), Reason.REPOSITORY_LOCKED, "locked by PID 7"),
        (failed(12), Reason.WRONG_PASSWORD, "RESTIC_PASSWORD of the storage Secret of Repository"),
        (failed(-9), Reason.RESTIC_FAILED, "resources.limits.memory"),
        (failed(2, "panic"), Reason.RESTIC_FAILED, "failed with 2: panic"),
        (failed(1, "Fatal: Access Denied."), Reason.BACKEND_DENIED, "check the keys"),
        (failed(1, "dial tcp: lookup x: no such host"), Reason.BACKEND_UNREACHABLE, "DNS"),
        (failed(1, "gave up", "EOF"), Reason.BACKEND_UNREACHABLE, "gave up; EOF"),
        (
            Outcome(Exit.FATAL, 1, error="repository contains errors", outage="dial tcp: refused"),
            Reason.BACKEND_UNREACHABLE,
            "contains errors; dial tcp: refused",
        ),
        (failed(1, "Fatal: all sources are gone"), Reason.RESTIC_FAILED, "all sources are gone"),
        (Outcome(Exit.UNKNOWN, -2, Stop.SIGNAL), Reason.INTERRUPTED, "told to stop"),
        (
            Outcome(Exit.UNKNOWN, -9, Stop.SIGNAL, killed=True),
            Reason.INTERRUPTED,
            "its lock may remain",
        ),
        (Outcome(Exit.UNKNOWN, 130, Stop.DEADLINE), Reason.DEADLINE_EXCEEDED, "raise timeOut"),
        (
            Outcome(Exit.INTERRUPTED, 130, Stop.PATIENCE, backend_error="HTTP 403 Forbidden"),
            Reason.BACKEND_DENIED,
            "check the keys",
        ),
    ],
)
def test_reasons(outcome: Outcome, reason: Reason, said: str) -> None:
    """Each way to fail has its own reason and says what to do."""
    error = failure_of(outcome, JOB, "backup")
    assert error.reason is reason
    assert said in error.text
