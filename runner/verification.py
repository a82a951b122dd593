"""Integrity and size of the repository, on the controller's interval."""

import json
import re
from dataclasses import dataclass

from controller.api.report import StepReport, StepState
from runner.failure import failure_of
from runner.repository import Repository
from runner.restic import command
from runner.restic.exits import Exit
from runner.restic.outcome import Outcome
from runner.restic.process import Stop

_VERDICT = "repository contains errors"
"""The end of restic's last words after a check that came to its end."""
_SHOWN = 4
_NOISE = re.compile(r"<lock/|, retrying after |^error while unlocking")
_NAMES = re.compile(r'\b(file|node|dir node|dir) "(?:[^"\\]|\\.)*(?:"|\\?$)')


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
    """Check the structure. A repository with errors is a result, not a failure.

    restic counts as an error of the repository whatever ends a check (a lock that it cannot make, a
    signal), and what a backend that went away did not hand out. So only its own verdict counts, and
    of a check that could not read everything only what is proven.
    """
    outcome = repository.run(command.check())
    judged = outcome.succeeded or outcome.error.rstrip().endswith(_VERDICT)
    blind = bool(outcome.outage) and not outcome.damage and not outcome.succeeded
    if outcome.summary is None or not judged or blind or outcome.stop is not Stop.NO:
        why = failure_of(outcome, repository.job, "check")
        broke_off = outcome.stop is Stop.NO and outcome.exit is not Exit.LOCKED
        step = StepReport(StepState.FAILED, f"{why.reason}: {_nameless(why.text)}")
        return Check(step, doubtful=broke_off)
    integrity = outcome.succeeded and outcome.summary.errors == 0
    damage = "" if integrity else _damage(outcome)
    return Check(StepReport(StepState.DONE, damage), integrity, doubtful=not integrity)


def _nameless(text: str) -> str:
    """Leave names of files out: who reads this may not be who may read the volume."""
    return _NAMES.sub(r"\g<1>", text)


def _damage(outcome: Outcome) -> str:
    """Return what is wrong in restic's words: a proof, more errors, and its advice at the end."""
    lines = dict.fromkeys(
        _nameless(" ".join(line.split())).rstrip(":")
        for line in (outcome.damage, outcome.outage, *outcome.tail)
        if line and not _NOISE.search(line)
    )
    *errors, last = lines or [outcome.last_words()]
    shown = errors if len(errors) < _SHOWN else [*errors[: _SHOWN - 1], "…"]
    return f"restic check found errors: {'; '.join([*shown, last])}"


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
