"""`restic forget`, for the snapshots of one configuration only (D1, D5, D6)."""

from collections.abc import Iterable
from dataclasses import dataclass

from controller.api.job_input import BackupInput, Retention
from controller.api.report import StepReport, StepState
from runner.failure import failure_of
from runner.repository import Repository
from runner.restic import command
from runner.restic.documents import ForgetGroup, Snapshot, parse_forget
from runner.restic.outcome import Outcome


@dataclass(frozen=True, slots=True)
class RetentionResult:
    """`kept` and `removed` are None when nothing was learned."""

    step: StepReport
    kept: int | None = None
    removed: int | None = None


class _StepFailed(Exception):
    pass


def apply(
    repository: Repository, backup: BackupInput, rules: Retention, *, incomplete: bool
) -> RetentionResult:
    """Apply the keep rules to each path's snapshots.

    After an incomplete backup the last complete snapshot is protected (D5): the rules then only
    choose, and what they choose is removed by id, without that one. After a complete backup the
    newest snapshot is complete, and every rule keeps the newest.
    """
    if not rules.has_rule:
        text = (
            "the retention policy has no keep rule, so nothing is removed; add keepLast or another"
        )
        return RetentionResult(StepReport(StepState.SKIPPED, text))
    kept = removed = 0
    try:
        for path in backup.paths:
            if incomplete:
                keep, gone = _forget_protected(repository, backup, rules, path)
            else:
                keep, gone = _forget(repository, backup, rules, path, dry_run=rules.dry_run)
            if rules.dry_run:
                keep, gone = keep + gone, 0
            kept, removed = kept + keep, removed + gone
    except _StepFailed as err:
        return RetentionResult(StepReport(StepState.FAILED, str(err)))
    text = "dry run: nothing was removed" if rules.dry_run else ""
    return RetentionResult(StepReport(StepState.DONE, text), kept=kept, removed=removed)


def protect_last_complete(groups: Iterable[ForgetGroup]) -> tuple[list[str], int]:
    """Return the ids to remove, and how many snapshots stay.

    Of each group the newest snapshot without the tag of incomplete ones stays.
    """
    ids: list[str] = []
    kept = 0
    for group in groups:
        complete = [item for item in (*group.keep, *group.remove) if _is_complete(item)]
        last = max(complete, key=lambda item: item.time, default=None)
        gone = [item.id for item in group.remove if last is None or item.id != last.id]
        ids += gone
        kept += len(group.keep) + len(group.remove) - len(gone)
    return ids, kept


def _is_complete(snapshot: Snapshot) -> bool:
    return command.INCOMPLETE_TAG not in snapshot.tags


def _forget(
    repository: Repository, backup: BackupInput, rules: Retention, path: str, *, dry_run: bool
) -> tuple[int, int]:
    groups = _groups(repository, backup, rules, path, dry_run=dry_run)
    return sum(len(group.keep) for group in groups), sum(len(group.remove) for group in groups)


def _forget_protected(
    repository: Repository, backup: BackupInput, rules: Retention, path: str
) -> tuple[int, int]:
    ids, kept = protect_last_complete(_groups(repository, backup, rules, path, dry_run=True))
    if ids and not rules.dry_run:
        outcome = repository.run(command.forget_ids(ids, prune=rules.prune), keep_document=True)
        if not outcome.succeeded:
            raise _failed(repository, outcome)
    return kept, len(ids)


def _groups(
    repository: Repository, backup: BackupInput, rules: Retention, path: str, *, dry_run: bool
) -> tuple[ForgetGroup, ...]:
    arguments = command.forget(
        rules,
        host=repository.job.host,
        path=path,
        config_tag=backup.config_tag,
        claim_untagged=backup.claim_untagged,
        dry_run=dry_run,
    )
    outcome = repository.run(arguments, keep_document=True)
    if not outcome.succeeded:
        raise _failed(repository, outcome)
    try:
        return parse_forget(outcome.document)
    except ValueError as err:
        raise _StepFailed(f"restic forget: {err}") from err


def _failed(repository: Repository, outcome: Outcome) -> _StepFailed:
    why = failure_of(outcome, repository.job, "forget")
    return _StepFailed(f"{why.reason}: {why.text}; the next backup tries again")
