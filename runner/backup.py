"""The backup of one host: one snapshot of each path (D33)."""

import time
from time import monotonic

from controller.api.flags import user_flags
from controller.api.job_input import BackupInput, JobInput
from controller.api.report import HostReport, Reason, SnapshotReport
from runner.failure import RunError, failure_of
from runner.progress import Progress
from runner.repository import Repository, parse_unix_s
from runner.restic import command
from runner.restic.exits import Exit
from runner.restic.outcome import Outcome
from runner.restic.process import Stop
from runner.source import check_source

UNREADABLE = 20


class Backup:
    """Collects what the report says, so that a failure keeps what came before it."""

    def __init__(self, repository: Repository, plan: BackupInput) -> None:
        self._repository = repository
        self._plan = plan
        self._snapshots: list[SnapshotReport] = []
        self._unreadable: list[str] = []
        self._unreadable_count = 0
        self._time = ""
        self.incomplete = False
        """A snapshot lacks files."""
        self.untagged: list[str] = []
        """Incomplete snapshots that could not be tagged, so that retention cannot tell them."""

    def run(self) -> HostReport:
        """Back up every path; the first failure ends it."""
        started = monotonic()
        try:
            flags = flags_of("backup", self._plan.args)
            moment_s = parse_unix_s(self._repository.job.session_created)
            self._time = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(moment_s))
            self._repository.open()
            for path in self._plan.paths:
                self._path(path, flags)
            self._repository.identify()
        except RunError as err:
            return self._report(started, reason=err.reason, error=err.text)
        if self.incomplete:
            return self._report(started, reason=Reason.BACKUP_INCOMPLETE, error=self._incomplete())
        return self._report(started)

    def _path(self, path: str, flags: tuple[str, ...]) -> None:
        check_source(path, self._plan.mount_path)
        arguments = command.backup(
            path,
            time=self._time,
            host=self._repository.job.host,
            tags=(self._plan.config_tag, self._plan.target_tag),
            exclude=self._plan.exclude,
            user_flags=flags,
        )
        outcome = self._start(arguments)
        if outcome.exit is Exit.NO_REPOSITORY and not self._repository.initialised:
            self._repository.initialise(outcome)
            outcome = self._start(arguments)
        written = outcome.exit in {Exit.OK, Exit.INCOMPLETE} and outcome.stop is Stop.NO
        if not written or outcome.summary is None or not outcome.summary.snapshot_id:
            raise failure_of(outcome, self._repository.job, "backup")
        snapshot_id = outcome.summary.snapshot_id
        if outcome.exit is Exit.INCOMPLETE:
            self.incomplete = True
            self._unreadable_count += outcome.item_count
            self._unreadable += [item.item for item in outcome.items]
            snapshot_id = self._tag(snapshot_id)
        summary = outcome.summary
        self._snapshots.append(
            SnapshotReport(
                id=snapshot_id,
                path=path,
                total_bytes=summary.bytes_total,
                uploaded_bytes=summary.added_bytes,
                processing_s=summary.duration_s,
                files_total=summary.files_total,
                files_new=summary.files_new,
                files_modified=summary.files_changed,
                files_unmodified=summary.files_unmodified,
            )
        )
        self._repository.log.info(
            "snapshot_saved",
            id=snapshot_id,
            path=path,
            total_bytes=summary.bytes_total,
            added_bytes=summary.added_bytes,
            files=summary.files_total,
            seconds=round(summary.duration_s, 3),
        )

    def _start(self, arguments: tuple[str, ...]) -> Outcome:
        return self._repository.run(arguments, on_message=Progress(self._repository.log, "backup"))

    def _tag(self, snapshot_id: str) -> str:
        """Mark the snapshot as incomplete (D5); its id changes with its tags."""
        outcome = self._repository.run(command.tag_incomplete((snapshot_id,)))
        if outcome.succeeded and outcome.changed:
            return outcome.changed[0].new_id
        self.untagged.append(snapshot_id)
        self._repository.log.warning("incomplete_not_tagged", error=outcome.last_words())
        return snapshot_id

    def _incomplete(self) -> str:
        first = ", ".join(self._unreadable[:3])
        more = self._unreadable_count - min(len(self._unreadable), 3)
        rest = f" and {more} more" if more > 0 else ""
        return (
            f"the snapshot lacks {self._unreadable_count} files or folders that could not be read:"
            f" {first}{rest}; run the backup as a user who may read them (runtimeSettings), or"
            " exclude them"
        )

    def _report(self, started: float, *, reason: str = "", error: str = "") -> HostReport:
        accepted = reason == Reason.BACKUP_INCOMPLETE and self._plan.accept_incomplete
        return HostReport(
            hostname=self._repository.job.host,
            succeeded=not reason or accepted,
            reason=reason,
            error=error,
            duration_s=round(monotonic() - started, 6),
            snapshots=tuple(self._snapshots),
            unreadable=tuple(self._unreadable[:UNREADABLE]),
        )


def flags_of(verb: str, args: tuple[str, ...]) -> tuple[str, ...]:
    """Return the user's flags.

    Raises:
        RunError: one is refused (D25).
    """
    try:
        return user_flags(verb, args)
    except ValueError as err:
        raise RunError(Reason.FLAG_REFUSED, f"spec.target.args: {err}") from err


def backup_plan(job: JobInput) -> BackupInput:
    """Return the plan of a backup.

    Raises:
        RunError: the Job is none, or has no path.
    """
    if job.backup is None or not job.backup.paths:
        raise RunError(Reason.INPUT_INVALID, "DREY_INPUT: backup with at least one path is wanted")
    return job.backup
