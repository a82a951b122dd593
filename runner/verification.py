"""Integrity and size of the repository, on the controller's interval."""

import json
from dataclasses import dataclass

from controller.api.report import StepReport, StepState
from runner.failure import failure_of
from runner.repository import Repository
from runner.restic import command
from runner.restic.exits import Exit
from runner.restic.outcome import Outcome
from runner.restic.process import Stop

_NOT_BEGUN = frozenset({Exit.LOCKED, Exit.NO_REPOSITORY, Exit.WRONG_PASSWORD})
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Check:
    """`integrity` is None where nothing was learned.

    `doubtful`: damaged, or the check broke off by itself. Nothing may be removed then.
    """

    step: StepReport
    integrity: bool | None = None
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Measure:
    """None where nothing was learned. `size_bytes` is what the backend stores."""

    error: str = ""
    size_bytes: int | None = None
    snapshot_count: int | None = None


def check(repository: Repository) -> Check:
    """Check the structure. A repository with errors is a result, not a failure."""
    outcome = repository.run(command.check())
    # restic prints a summary with one error also where it could not even begin.
    begun = outcome.exit not in _NOT_BEGUN
    # It counts as an error of the repository what a backend that went away did not hand out.
    blind = bool(outcome.outage) and not outcome.succeeded
    if outcome.summary is None or not begun or blind or outcome.stop is not Stop.NO:
        why = failure_of(outcome, repository.job, "check")
        broke_off = outcome.stop is Stop.NO and outcome.exit is not Exit.LOCKED
        step = StepReport(StepState.FAILED, f"{why.reason}: {why.text}")
        return Check(step, doubtful=broke_off)
    integrity = outcome.succeeded and outcome.summary.errors == 0
    damage = "" if integrity else _damage(outcome)
    return Check(StepReport(StepState.DONE, damage), integrity, doubtful=not integrity)


def _damage(outcome: Outcome) -> str:
    """Return what is wrong in restic's words: a few errors, and its advice, which comes last."""
    lines = [" ".join(line.split()) for line in outcome.tail]
    shown = lines if len(lines) <= _SHOWN else [*lines[: _SHOWN - 1], "…", lines[-1]]
    return f"restic check found errors: {'; '.join(shown) or outcome.last_words()}"


def measure(repository: Repository) -> Measure:
    """Measure what the repository occupies."""
    outcome = repository.run(command.stats(), keep_document=True)
    if not outcome.succeeded:
        why = failure_of(outcome, repository.job, "stats")
        return Measure(f"{why.reason}: {why.text}")
    size_bytes, count = _numbers(outcome.document)
    return Measure(size_bytes=size_bytes, snapshot_count=count)


def _numbers(document: bytes) -> tuple[int | None, int | None]:
    try:
        raw = json.loads(document)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(raw, dict):
        return None, None
    size, count = raw.get("total_size"), raw.get("snapshots_count")
    return (size if isinstance(size, int) else None), (count if isinstance(count, int) else None)
