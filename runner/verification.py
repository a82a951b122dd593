"""Integrity and size of the repository, on the controller's interval."""

import json
from dataclasses import dataclass

from controller.api.report import StepReport, StepState
from runner.failure import failure_of
from runner.repository import Repository
from runner.restic import command
from runner.restic.process import Stop


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """None where nothing was learned. `size_bytes` is what the backend stores."""

    step: StepReport
    integrity: bool | None = None
    size_bytes: int | None = None
    snapshot_count: int | None = None


def verify(repository: Repository) -> VerificationResult:
    """Check the structure, then measure. A repository with errors is a result, not a failure."""
    checked = repository.run(command.check())
    if checked.summary is None or checked.stop is not Stop.NO:
        why = failure_of(checked, repository.job, "check")
        return VerificationResult(StepReport(StepState.FAILED, f"{why.reason}: {why.text}"))
    integrity = checked.succeeded and checked.summary.errors == 0
    damage = "" if integrity else f"restic check found errors: {checked.last_words()}"
    measured = repository.run(command.stats(), keep_document=True)
    if not measured.succeeded:
        why = failure_of(measured, repository.job, "stats")
        text = "; ".join(filter(None, (damage, f"{why.reason}: {why.text}")))
        return VerificationResult(StepReport(StepState.FAILED, text), integrity=integrity)
    size_bytes, count = _numbers(measured.document)
    return VerificationResult(
        StepReport(StepState.DONE, damage), integrity, size_bytes=size_bytes, snapshot_count=count
    )


def _numbers(document: bytes) -> tuple[int | None, int | None]:
    try:
        raw = json.loads(document)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(raw, dict):
        return None, None
    size, count = raw.get("total_size"), raw.get("snapshots_count")
    return (size if isinstance(size, int) else None), (count if isinstance(count, int) else None)
