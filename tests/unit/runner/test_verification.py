"""What the output of `restic check` proves."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from controller.api.report import StepState
from runner.redaction import Redactor
from runner.restic.outcome import Collector
from runner.restic.process import Ending
from runner.verification import Check, check
from tests.support.job_inputs import JOB

VERDICT = "Fatal: repository contains errors"
PACK = f"pack {'ab' * 32}: does not exist"
REFUSED = "Load(<index/2dfeeb2b57>, 0, 0) failed: unexpected HTTP response (403): 403 Forbidden"
ADVICE = "The repository is damaged and must be repaired."


def checked(*lines: str, code: int = 1, verdict: str = VERDICT, errors: int = 1) -> Check:
    """Return what is made of the output of a check."""
    collector = Collector(lambda _: None, redact=Redactor({}), keep_document=False)
    messages: list[dict[str, Any]] = [{"message_type": "error", "message": line} for line in lines]
    messages.append({"message_type": "summary", "num_errors": errors})
    if verdict:
        messages.append({"message_type": "exit_error", "code": code, "message": verdict})
    for message in messages:
        collector.stderr(json.dumps(message).encode() + b"\n")
    outcome = collector.outcome(Ending(code=code))
    repository: Any = SimpleNamespace(run=lambda _: outcome, job=JOB)
    return check(repository)


def test_intact() -> None:
    """A check that ends well is proof, also after a read that was given up and taken up again."""
    found = checked(REFUSED, code=0, verdict="", errors=0)
    assert (found.integrity, found.doubtful) == (True, False)
    assert found.step.message == ""


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((PACK, ADVICE), f"restic check found errors: {PACK}; {ADVICE}"),
        ((REFUSED, PACK, ADVICE), f"restic check found errors: {PACK}; {REFUSED}; {ADVICE}"),
        ((PACK, *(f"error {n}" for n in range(40)), ADVICE), "…; The repository is damaged"),
        ((PACK, ADVICE, "Remove(<lock/ab>) failed: 403 Forbidden"), f"{PACK}; {ADVICE}"),
        ((), "restic check found errors: Fatal: repository contains errors"),
    ],
)
def test_damage(lines: tuple[str, ...], words: str) -> None:
    """Its proof comes first, restic's advice last."""
    found = checked(*lines)
    assert (found.integrity, found.doubtful) == (False, True)
    assert found.step.state is StepState.DONE
    assert words in found.step.message


@pytest.mark.parametrize(
    ("lines", "code", "verdict", "reason"),
    [
        ((REFUSED, ADVICE), 1, VERDICT, "BackendDenied"),
        (("List(data) failed: EOF", PACK), 1, VERDICT, "BackendUnreachable"),
        ((), 1, "unable to create lock in backend: (507)", "ResticFailed"),
        ((), 130, "context canceled", "ResticFailed"),
        ((), -9, "", "ResticFailed"),
        ((), 10, "Fatal: repository does not exist", "RepositoryVanished"),
        ((), 12, "Fatal: wrong password", "WrongPassword"),
    ],
)
def test_no_verdict(lines: tuple[str, ...], code: int, verdict: str, reason: str) -> None:
    """One error is counted whatever ended the check; what it could not read may be intact."""
    found = checked(*lines, code=code, verdict=verdict)
    assert (found.integrity, found.doubtful) == (None, True)
    assert found.step.state is StepState.FAILED
    assert found.step.message.startswith(f"{reason}: ")


@pytest.mark.parametrize(
    "name", ["salary.xlsx", 'say \\"salary\\" twice', "salary " * 80, "salary \\"]
)
@pytest.mark.parametrize("code", [1, -9])
def test_names_of_files(name: str, code: int) -> None:
    """Who reads the status of a session may not be who may read the volume of another one."""
    line = f'tree f6: file "{name}" blob 98ea not found in index'
    found = checked(line, code=code, verdict=VERDICT if code > 0 else "")
    assert "tree f6: file" in found.step.message
    assert "salary" not in found.step.message
