"""`restic forget`, for the snapshots of one configuration only (D1, D5, D6)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from controller.api import restic_id
from controller.api.job_input import BackupInput, Retention
from controller.api.report import StepReport, StepState
from runner.failure import failure_of
from runner.log import now_s
from runner.repository import Repository
from runner.restic import command
from runner.restic.documents import (
    ForgetGroup,
    Snapshot,
    is_complete,
    parse_forget,
    parse_snapshots,
)
from runner.restic.exits import Exit
from runner.restic.outcome import Outcome


@dataclass(frozen=True, slots=True)
class RetentionResult:
    """`kept`, `removed` and `ahead` are None when nothing was learned.

    `ahead`: a snapshot in scope is later than this run's own. `lost` are ids of this run's own
    snapshots that are gone: never a success.
    """

    step: StepReport
    kept: int | None = None
    removed: int | None = None
    ahead: bool | None = None
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """What this run knows about snapshots that restic cannot know.

    `own` are ids of this run's snapshots (a third party's step may give the first 8 digits only),
    `incomplete` are incomplete ones without their tag. `careful`: the rules only choose, and what
    they choose is removed by id, without this run's snapshots and the last complete one.
    """

    own: tuple[str, ...] = ()
    incomplete: frozenset[str] = frozenset()
    careful: bool = False

    def owns(self, snapshot: Snapshot) -> bool:
        """Tell whether this run made the snapshot."""
        return any(restic_id.is_snapshot(own) and snapshot.id.startswith(own) for own in self.own)

    def is_complete(self, snapshot: Snapshot) -> bool:
        """Tell whether the snapshot is known to hold everything."""
        return is_complete(snapshot, self.incomplete)


class _StepFailed(Exception):
    pass


def apply(
    repository: Repository, backup: BackupInput, rules: Retention, run: Run
) -> RetentionResult:
    """Apply the keep rules to each path's snapshots.

    Not `careful` is right while times can be trusted and this run's snapshots are complete: every
    rule keeps the newest. What restic then says it removed is compared with this run's snapshots.
    """
    if not rules.has_rule:
        text = (
            "the retention policy has no keep rule, so nothing is removed; add keepLast or another"
        )
        return RetentionResult(StepReport(StepState.SKIPPED, text))
    work = _Work(repository, backup, rules, run)
    try:
        for path in backup.paths:
            work.path(path)
    except _StepFailed as err:
        step = StepReport(StepState.FAILED, str(err))
        return RetentionResult(step, ahead=work.ahead, lost=tuple(work.lost))
    text = "dry run: nothing was removed" if rules.dry_run else ""
    return RetentionResult(
        StepReport(StepState.DONE, text), work.kept, work.removed, work.ahead, tuple(work.lost)
    )


def removable(groups: Iterable[ForgetGroup], run: Run) -> tuple[list[str], int]:
    """Return the ids to remove, and how many snapshots stay.

    Of what the rules chose these stay: this run's snapshots, each group's newest complete one, and
    its newest complete one that is not later than this run's, as clocks may have been ahead.
    """
    ids: list[str] = []
    kept = 0
    for group in groups:
        everything = (*group.keep, *group.remove)
        complete = [item for item in everything if run.is_complete(item)]
        own = [item for item in everything if run.owns(item)]
        moment = max((item.time for item in own), default=None)
        earlier = [item for item in complete if moment is None or item.time <= moment]
        stay = {item.id for item in own}
        for items in (complete, earlier):
            if items:
                stay.add(max(items, key=lambda item: item.time).id)
        gone = [item.id for item in group.remove if item.id not in stay]
        ids += gone
        kept += len(everything) - len(gone)
    return ids, kept


def is_ahead(groups: Iterable[ForgetGroup], run: Run) -> bool:
    """Tell whether a snapshot is later than this run's; than now, where none of it is listed."""
    everything = [item for group in groups for item in (*group.keep, *group.remove)]
    own = [item.time for item in everything if run.owns(item)]
    moment = max(own, default=datetime.fromtimestamp(now_s(), UTC))
    return any(item.time > moment for item in everything)


@dataclass(slots=True)
class _Work:
    """The work on all paths, as far as it got."""

    repository: Repository
    backup: BackupInput
    rules: Retention
    run: Run
    kept: int = 0
    removed: int = 0
    ahead: bool | None = None
    lost: list[str] = field(default_factory=list)

    def path(self, path: str) -> None:
        """Apply the rules to one path's snapshots."""
        pretended = self.run.careful or self.rules.dry_run
        groups = self._groups(path, dry_run=pretended)
        self.ahead = bool(self.ahead) or is_ahead(groups, self.run)
        kept = sum(len(group.keep) for group in groups)
        removed = sum(len(group.remove) for group in groups)
        if self.run.careful:
            ids, kept = removable(groups, self.run)
            removed = len(ids)
            if ids and not self.rules.dry_run:
                self._forget(ids)
        if self.rules.dry_run:
            kept, removed = kept + removed, 0
        elif not self.run.careful:
            self._note_lost(groups)
        self.kept += kept
        self.removed += removed

    def _groups(self, path: str, *, dry_run: bool) -> tuple[ForgetGroup, ...]:
        arguments = command.forget(
            self.rules,
            host=self.repository.job.host,
            path=path,
            config_tag=self.backup.config_tag,
            claim_untagged=self.backup.claim_untagged,
            dry_run=dry_run,
        )
        outcome = self.repository.run(arguments, keep_document=True)
        groups: tuple[ForgetGroup, ...] | None = None
        why = ""
        try:
            # Printed before the prune: known also when that failed.
            groups = parse_forget(outcome.document) if outcome.document.strip() else None
        except ValueError as err:
            why = f"restic forget: {err}"
        if outcome.succeeded and not why:
            return groups or ()
        if not dry_run and outcome.exit is not Exit.LOCKED:
            if groups is None:
                self._look_for_own()
            else:
                self._note_lost(groups)
        raise _StepFailed(why) if why else self._failed(outcome)

    def _forget(self, ids: Sequence[str]) -> None:
        arguments = command.forget_ids(ids, prune=self.rules.prune)
        outcome = self.repository.run(arguments, keep_document=True)
        if not outcome.succeeded:
            raise self._failed(outcome)

    def _note_lost(self, groups: Iterable[ForgetGroup]) -> None:
        gone = [item for group in groups for item in group.remove if self.run.owns(item)]
        self.lost += [own for own in self.run.own if any(i.id.startswith(own) for i in gone)]

    def _look_for_own(self) -> None:
        """After a forget of which nothing is known: see whether this run's snapshots are there."""
        own = [snapshot for snapshot in self.run.own if restic_id.is_snapshot(snapshot)]
        if not own:
            return
        outcome = self.repository.run(command.snapshots(own), keep_document=True)
        if not outcome.succeeded:
            return
        try:
            left = parse_snapshots(outcome.document)
        except ValueError:
            return
        self.lost += [item for item in own if not any(s.id.startswith(item) for s in left)]

    def _failed(self, outcome: Outcome) -> _StepFailed:
        why = failure_of(outcome, self.repository.job, "forget")
        return _StepFailed(f"{why.reason}: {why.text}; the next backup tries again")
