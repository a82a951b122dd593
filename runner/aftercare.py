"""What follows a backup: tags, verification, retention, size.

None of it decides about the backup, with one exception: a snapshot of this run that is gone
afterwards is no success.
"""

from collections.abc import Sequence
from dataclasses import replace

from controller.api import restic_id
from controller.api.job_input import BackupInput, Retention
from controller.api.report import HostReport, Reason, RunReport, StepReport, StepState
from runner import retention
from runner.failure import RunError
from runner.repository import Repository
from runner.restic import command
from runner.verification import Check, check, measure


def care(repository: Repository, plan: BackupInput, result: RunReport) -> RunReport:
    """Complete the report of a backup whose snapshots are written.

    Verification comes before retention: in a damaged repository nothing is removed.
    """
    untagged = result.repository.untagged_incomplete
    if set(untagged) - set(plan.known_incomplete):
        text = "skipped: an incomplete snapshot could not be marked as such; the next run tries"
        skipped = StepReport(StepState.SKIPPED, text)
        if plan.verify:
            result = _verified(result, plan, Check(skipped))
        return _with_retention(result, plan, skipped)
    if untagged:
        untagged = _tag_again(repository, untagged)
        result = _learned(result, untagged_incomplete=untagged)
    doubt = False
    if plan.verify:
        checked = check(repository)
        result = _verified(result, plan, checked)
        doubt = checked.doubtful or result.repository.integrity is False
    if doubt:
        text = "skipped: the repository is not known to be intact; nothing is removed until it is"
        result = _with_retention(result, plan, StepReport(StepState.SKIPPED, text))
    elif plan.retention is not None:
        result = _retain(repository, plan, plan.retention, result)
    return _measured(repository, result) if plan.verify else result


def unconfirmed(result: RunReport, plan: BackupInput, why: RunError) -> RunReport:
    """Complete the report where the repository could not be used after the backup.

    What the hosts report stays, except that another repository than the recorded one proves that
    nothing was written to the right one (D2).
    """
    failed = StepReport(StepState.FAILED, f"{why.reason}: {why.text}")
    if plan.verify:
        result = _verified(result, plan, Check(failed))
    if why.reason is Reason.REPOSITORY_VANISHED:
        hosts = tuple(
            replace(host, succeeded=False, reason=why.reason, error=why.text)
            for host in result.hosts
        )
        result = replace(result, hosts=hosts)
    return _with_retention(result, plan, failed)


def all_untagged(plan: BackupInput, new: Sequence[str]) -> tuple[str, ...]:
    """Return the ids of all incomplete snapshots without their tag, as the report wants them."""
    return tuple(dict.fromkeys((*filter(restic_id.is_full, plan.known_incomplete), *new)))


def _retain(
    repository: Repository, plan: BackupInput, rules: Retention, result: RunReport
) -> RunReport:
    untagged = result.repository.untagged_incomplete
    incomplete = any(host.reason == Reason.BACKUP_INCOMPLETE for host in result.hosts)
    run = retention.Run(
        own=tuple(snapshot.id for host in result.hosts for snapshot in host.snapshots),
        incomplete=frozenset(untagged),
        careful=plan.careful or plan.verify or incomplete or bool(untagged),
    )
    done = retention.apply(repository, plan, rules, run)
    if done.lost:
        hosts = tuple(_without(host, done.lost) for host in result.hosts)
        result = replace(result, hosts=hosts)
    return _learned(
        replace(result, retention=done.step),
        snapshots_kept=done.kept,
        snapshots_removed=done.removed,
        snapshots_ahead=done.ahead,
    )


def _without(host: HostReport, lost: Sequence[str]) -> HostReport:
    gone = [snapshot.id for snapshot in host.snapshots if snapshot.id in lost]
    if not gone:
        return host
    return replace(
        host,
        succeeded=False,
        reason=Reason.SNAPSHOT_REMOVED,
        error=f"retention removed the snapshot that this backup made ({', '.join(gone)}): the"
        " repository holds snapshots with later times, made by a node whose clock was ahead."
        " Remove those with `restic forget <id>`, or wait for the next backup, which keeps its own",
        snapshots=tuple(item for item in host.snapshots if item.id not in lost),
    )


def _tag_again(repository: Repository, ids: tuple[str, ...]) -> tuple[str, ...]:
    """Tag snapshots that an earlier run could not, and return those still without.

    restic ignores ids that are gone; one whose id did not change bears its tag.
    """
    outcome = repository.run(command.tag_incomplete(ids))
    if outcome.succeeded:
        return ()
    repository.log.warning("incomplete_not_tagged", error=outcome.last_words(), ids=ids)
    changed = {item.old_id for item in outcome.changed}
    return tuple(item for item in ids if item not in changed)


def _measured(repository: Repository, result: RunReport) -> RunReport:
    measured = measure(repository)
    if measured.error:
        said = result.verification.message if result.verification is not None else ""
        text = "; ".join(filter(None, (said, measured.error)))
        result = replace(result, verification=StepReport(StepState.FAILED, text))
    return _learned(result, size_bytes=measured.size_bytes, snapshot_count=measured.snapshot_count)


def _with_retention(result: RunReport, plan: BackupInput, step: StepReport) -> RunReport:
    return result if plan.retention is None else replace(result, retention=step)


def _verified(result: RunReport, plan: BackupInput, checked: Check) -> RunReport:
    step, integrity = checked.step, checked.integrity
    if integrity is None and plan.damaged:
        integrity = False
        step = replace(step, message=f"damaged when last checked, not checked now: {step.message}")
    return _learned(replace(result, verification=step), integrity=integrity)


def _learned(result: RunReport, **facts: object) -> RunReport:
    repository = replace(result.repository, **facts)  # type: ignore[arg-type] # names are ours
    return replace(result, repository=repository)
