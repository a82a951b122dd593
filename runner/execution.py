"""One verb from its input to its report. The controller decides; this carries out (D16)."""

import os
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from controller.api.job_input import JobInput
from controller.api.report import (
    ExitCode,
    HostReport,
    Reason,
    RepositoryReport,
    RunReport,
    StepReport,
    StepState,
)
from runner import aftercare, metrics, report
from runner.backup import Backup, backup_plan
from runner.failure import RunError
from runner.log import Log, now_s
from runner.redaction import Redactor
from runner.repository import Repository, parse_unix_s
from runner.restic.process import Interruption
from runner.secret import read_secret
from runner.settings import Settings

SMALL_BYTES = 4096
"""The kubelet's limit of one message; for a run whose input, with its share, is unreadable."""


class Execution:
    """Everything that the verbs of one Job share."""

    def __init__(self, settings: Settings, interruption: Interruption) -> None:
        self._settings = settings
        self._interruption = interruption
        self._secret = dict(read_secret(settings.secret_dir))
        self._opened: list[Repository] = []
        self.log = Log(Redactor(self._secret))

    def backup(self, output_dir: Path | None) -> ExitCode:
        """Back up; without an output folder also retention, verification, metrics and report."""
        if output_dir is None:
            return self._reported(self._backup_and_care)
        return self._handed_over(self._backup_only, output_dir)

    def restore(self, output_dir: Path | None) -> ExitCode:
        """Restore; without an output folder also metrics and report."""
        if output_dir is None:
            return self._reported(self._restore)
        return self._handed_over(self._restore, output_dir)

    def update_status(self, output_dir: Path) -> ExitCode:
        """Take an earlier step's output; retention, verification, metrics and report."""
        return self._reported(lambda job: self._take_over(job, output_dir))

    def unlock(self) -> ExitCode:
        """Remove stale locks and report."""
        from runner.unlock import unlock  # noqa: PLC0415 - not for a backup (D31)

        def act(job: JobInput) -> RunReport:
            repository = self._repository(job)
            return RunReport(hosts=(unlock(repository),), repository=_known(repository))

        return self._reported(act, push=False)

    def _reported(self, act: Callable[[JobInput], RunReport], *, push: bool = True) -> ExitCode:
        job: JobInput | None = None
        try:
            job = self._settings.document(JobInput.decode)
            result = act(job)
        except RunError as err:
            result = _failed(job, err.reason, err.text)
        except Exception as err:  # noqa: BLE001 - the outermost boundary: a bug must be reported too
            result = self._crashed(job, err)
        finally:
            self._close()
        limit_bytes = job.report_bytes if job is not None else SMALL_BYTES
        path = self._settings.termination_log
        try:
            clean = report.write(result, path, limit_bytes, self.log)
            # Told to end, it cannot know whether its Job goes on, nor whether the metrics' group is
            # being deleted with its object: the controller knows, and pushes for it.
            if job is not None and push and not _was_interrupted(result):
                # The report is there already: a slow gateway can only cost the news about itself.
                result = replace(result, metrics=self._push(job, result))
                if result.metrics is not None:
                    clean = report.write(result, path, limit_bytes, self.log)
        except (OSError, ValueError) as err:
            self.log.error("report_not_written", error=str(err))  # noqa: TRY400 - not logging.Logger
            return ExitCode.FAILED
        report.tell(clean, self.log)
        return exit_code(result)

    def _handed_over(self, act: Callable[[JobInput], RunReport], folder: Path) -> ExitCode:
        """Write `output.json` and exit with 0 whatever happened, so that the next step runs."""
        from runner import output  # noqa: PLC0415 - only in a Task with several steps (D31)

        try:
            job = self._settings.document(JobInput.decode)
        except RunError as err:
            self.log.error("input_invalid", error=err.text)  # noqa: TRY400 - not logging.Logger: ours
            return ExitCode.USAGE
        try:
            result = act(job)
        except RunError as err:
            result = _failed(job, err.reason, err.text)
        except Exception as err:  # noqa: BLE001 - the outermost boundary: a bug must be reported too
            result = self._crashed(job, err)
        finally:
            self._close()
        clean = report.redacted(result, self.log.redact)
        path = output.write(folder, clean, job.target)
        self.log.info(
            "output_written", path=str(path), succeeded=[h.succeeded for h in clean.hosts]
        )
        return ExitCode.OK

    def _crashed(self, job: JobInput | None, err: Exception) -> RunReport:
        self.log.error("crashed", traceback="".join(traceback.format_exception(err)))
        return _failed(job, Reason.STEP_FAILED, f"{type(err).__name__}: {err}")

    def _repository(self, job: JobInput) -> Repository:
        if job.nice is not None:
            try:
                os.nice(job.nice)
            except OSError as err:
                self.log.warning("nice_refused", nice=job.nice, error=str(err))
        repository = Repository(job, self._settings, self._secret, self.log, self._interruption)
        self._opened.append(repository)
        return repository

    def _close(self) -> None:
        for repository in self._opened:
            try:
                repository.close()
            except OSError as err:
                self.log.warning("temporary_files_left", error=str(err))

    def _backup_only(self, job: JobInput) -> RunReport:
        return self._backup(job, care=False)

    def _backup_and_care(self, job: JobInput) -> RunReport:
        return self._backup(job, care=True)

    def _backup(self, job: JobInput, *, care: bool) -> RunReport:
        plan = backup_plan(job)
        repository = self._repository(job)
        backup = Backup(repository, plan)
        host = backup.run()
        untagged = aftercare.all_untagged(plan, backup.untagged)
        result = RunReport(hosts=(host,), repository=_known(repository, untagged))
        written = host.succeeded or host.reason == Reason.BACKUP_INCOMPLETE
        return aftercare.care(repository, plan, result) if care and written else result

    def _restore(self, job: JobInput) -> RunReport:
        from runner.restore import Restore, restore_plan  # noqa: PLC0415 - not for a backup (D31)

        plan = restore_plan(job)
        repository = self._repository(job)
        host = Restore(repository, plan, self._settings.restore_root).run()
        return RunReport(hosts=(host,), repository=_known(repository))

    def _take_over(self, job: JobInput, folder: Path) -> RunReport:
        from runner import output  # noqa: PLC0415 - only in a Task with several steps (D31)

        result = output.read(folder)
        told, plan = result.repository, job.backup
        untagged = aftercare.all_untagged(plan, told.untagged_incomplete) if plan else ()
        # Any step may have written the file: only what is recorded already is taken from it.
        known = told.id if told.id == job.repository.id else ""
        result = replace(
            result, repository=RepositoryReport(id=known, untagged_incomplete=untagged)
        )
        failed = any(
            not host.succeeded and host.reason != Reason.BACKUP_INCOMPLETE for host in result.hosts
        )
        if plan is None or failed:
            return result
        wanted = plan.retention or plan.verify or plan.known_incomplete
        if job.repository.id and not wanted:
            return result
        try:
            repository = self._repository(job)
            own = replace(result.repository, id=repository.confirm())
        except RunError as err:
            self.log.warning("repository_unconfirmed", reason=err.reason, error=err.text)
            return aftercare.unconfirmed(result, plan, err)
        own = replace(own, initialised=told.initialised and told.id == own.id)
        return aftercare.care(repository, plan, replace(result, repository=own))

    def _push(self, job: JobInput, result: RunReport) -> StepReport | None:
        try:
            created_s = parse_unix_s(job.session_created)
        except RunError as err:
            return StepReport(StepState.FAILED, f"session_created: {err.text}")
        return metrics.push(result, job, now_s=now_s(), created_s=created_s, log=self.log)


def exit_code(result: RunReport) -> ExitCode:
    """Return what the process exits with; the report decides, the code is for people."""
    if all(host.succeeded for host in result.hosts):
        return ExitCode.OK
    return ExitCode.INTERRUPTED if _was_interrupted(result) else ExitCode.FAILED


def _was_interrupted(result: RunReport) -> bool:
    return any(host.reason == Reason.INTERRUPTED for host in result.hosts)


def _known(repository: Repository, untagged: tuple[str, ...] = ()) -> RepositoryReport:
    try:
        return RepositoryReport(
            id=repository.known_id(),
            initialised=repository.initialised,
            untagged_incomplete=untagged,
        )
    except RunError:
        # Another repository's id must never be recorded; the host says what happened.
        return RepositoryReport(untagged_incomplete=untagged)


def _failed(job: JobInput | None, reason: Reason, text: str) -> RunReport:
    hostname = job.host if job is not None else ""
    plan = job.backup if job is not None else None
    untagged = aftercare.all_untagged(plan, ()) if plan is not None else ()
    return RunReport(
        hosts=(HostReport(hostname, succeeded=False, reason=reason, error=text),),
        repository=RepositoryReport(untagged_incomplete=untagged),
    )
