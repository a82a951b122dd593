"""The restore of one host: below the target's mount only; overwrites, never deletes (D4)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import monotonic

from controller.api.job_input import JobInput, RestoreInput
from controller.api.report import HostReport, Reason, SnapshotReport
from runner.backup import flags_of
from runner.failure import RunError, failure_of, repository_name
from runner.link import LinkFinder
from runner.progress import Progress
from runner.repository import Repository
from runner.restic import command
from runner.restic.documents import Snapshot, is_complete, parse_snapshots
from runner.restic.exits import Exit
from runner.restic.outcome import Outcome
from runner.restic.process import Stop
from runner.selection import (
    LATEST,
    by_id,
    check_id,
    check_inside,
    newest,
    warning_of,
)

UNWRITTEN = 20
_INCLUDES = ("--include=", "--iinclude=")


class Restore:
    """Restores the snapshots that one rule names."""

    def __init__(self, repository: Repository, plan: RestoreInput, root: Path) -> None:
        self._repository = repository
        self._plan = plan
        self._root = root
        self._name = repository_name(repository.job.repository)
        self._restored: list[SnapshotReport] = []
        self._unwritten: tuple[str, ...] = ()
        self._incomplete = ""
        self._listed: tuple[Snapshot, ...] | None = None

    def run(self) -> HostReport:
        """Restore; the first failure ends it."""
        started = monotonic()
        reason = error = ""
        try:
            flags = flags_of("restore", self._plan.args)
            chosen = self._choose()
            for snapshot in chosen:
                check_inside(snapshot, self._plan.mount_path)
            self._incomplete = self._warning(chosen)
            for snapshot in chosen:
                self._restore(snapshot, flags)
        except RunError as err:
            reason, error = err.reason, err.text
        return HostReport(
            hostname=self._repository.job.host,
            succeeded=not reason,
            reason=reason,
            error=error,
            duration_s=round(monotonic() - started, 6),
            snapshots=tuple(self._restored),
            unreadable=self._unwritten,
            incomplete=self._incomplete,
        )

    def _choose(self) -> list[Snapshot]:
        """Resolve names to snapshots before anything is written; one listing in all."""
        plan = self._plan
        wanted = [snapshot for snapshot in plan.snapshots if snapshot != LATEST]
        for snapshot in wanted:
            check_id(snapshot)
        only_ids = bool(wanted) and len(wanted) == len(plan.snapshots)
        known = self._list(tuple(wanted) if only_ids else ())
        if not only_ids:
            self._listed = known
        self._repository.identify()
        paths = plan.paths or (plan.mount_path,)
        chosen = []
        for snapshot in plan.snapshots or (LATEST,):
            if snapshot != LATEST:
                chosen.append(by_id(known, snapshot, self._name))
                continue
            chosen += [
                newest(
                    known,
                    host=plan.source_host,
                    path=path.rstrip("/") or "/",
                    target_tag=plan.target_tag,
                    repository=self._name,
                )
                for path in paths
            ]
        return list(dict.fromkeys(chosen))

    def _warning(self, chosen: Sequence[Snapshot]) -> str:
        """Return what to say of incomplete snapshots among the chosen ones, nothing of others.

        They are restored all the same: they are what was asked for (D1), and may be all there is.
        """
        untagged = frozenset(self._plan.known_incomplete)
        incomplete = [snapshot for snapshot in chosen if not is_complete(snapshot, untagged)]
        if not incomplete:
            return ""
        known = self._listed
        if known is None:
            try:
                known = self._list(())
            except RunError as err:
                # Nothing depends on it but the advice.
                self._repository.log.warning("complete_snapshots_unknown", error=err.text)
        text = warning_of(incomplete, known, untagged)
        self._repository.log.warning("snapshot_incomplete", message=text)
        return text

    def _list(self, ids: tuple[str, ...]) -> tuple[Snapshot, ...]:
        arguments = command.snapshots(
            ids, host="" if self._plan.snapshots else self._plan.source_host
        )
        outcome = self._repository.run(arguments, keep_document=True)
        if outcome.exit is Exit.NO_REPOSITORY and not self._repository.job.repository.id:
            raise RunError(
                Reason.SNAPSHOT_NOT_FOUND,
                f"{self._name} does not exist yet, so there is nothing to restore; check the"
                " backend, or run a backup first",
            )
        if not outcome.succeeded:
            raise failure_of(outcome, self._repository.job, "snapshots")
        try:
            return parse_snapshots(outcome.document)
        except ValueError as err:
            raise RunError(Reason.RESTIC_FAILED, f"restic snapshots: {err}") from err

    def _restore(self, snapshot: Snapshot, flags: tuple[str, ...]) -> None:
        started = monotonic()
        log = self._repository.log
        arguments = partial(
            command.restore,
            snapshot.id,
            target=str(self._root),
            include=self._plan.include,
            exclude=self._plan.exclude,
            user_flags=flags,
        )
        if self._plan.include or any(flag.startswith(_INCLUDES) for flag in flags):
            # Folders that are not selected themselves are passed through, also where the volume
            # has a link in their place. Without include restic replaces such links.
            links = LinkFinder(self._root)
            self._check(snapshot, self._repository.run(arguments(rehearsal=True), on_message=links))
            links.check(snapshot.id)
        outcome = self._repository.run(arguments(), on_message=Progress(log, "restore"))
        self._check(snapshot, outcome)
        assert outcome.summary is not None  # noqa: S101 - _check raised else
        summary = outcome.summary
        self._restored.append(
            SnapshotReport(
                id=snapshot.id,
                path=snapshot.paths[0] if snapshot.paths else "",
                total_bytes=summary.bytes_restored,
                processing_s=round(monotonic() - started, 3),
                files_total=summary.files_restored + summary.files_skipped,
            )
        )
        log.info(
            "snapshot_restored",
            id=snapshot.id,
            files=summary.files_restored,
            files_unchanged=summary.files_skipped,
            bytes=summary.bytes_restored,
            seconds=round(monotonic() - started, 3),
        )

    def _check(self, snapshot: Snapshot, outcome: Outcome) -> None:
        """Raise unless the restore is proven (rule 5)."""
        if outcome.item_count and outcome.stop is Stop.NO:
            self._unwritten = tuple(item.item for item in outcome.items[:UNWRITTEN])
            first = "; ".join(f"{item.item}: {item.message}" for item in outcome.items[:3])
            raise RunError(
                Reason.RESTORE_INCOMPLETE,
                f"{outcome.item_count} files or folders of snapshot {snapshot.id} were not restored"
                f" as they were: {first}; the others were. Owners need root: see runtimeSettings",
            )
        if not outcome.succeeded or outcome.summary is None:
            raise failure_of(outcome, self._repository.job, "restore")
        if outcome.summary.files_restored + outcome.summary.files_skipped == 0:
            raise RunError(
                Reason.NOTHING_TO_RESTORE,
                f"no file of snapshot {snapshot.id} matches the rule's include and exclude"
                " patterns; they are absolute paths as in the backup",
            )


def restore_plan(job: JobInput) -> RestoreInput:
    """Return the plan of a restore.

    Raises:
        RunError: the Job is none.
    """
    if job.restore is None:
        raise RunError(Reason.INPUT_INVALID, "DREY_INPUT: restore is wanted")
    return job.restore
