"""What a report proves. One rule for who decides, the controller, and who tells, the runner.

Standard library only (D31).
"""

from dataclasses import replace

from controller.api import restic_id
from controller.api.report import HostReport, Reason, RunReport


def error_text(host: HostReport) -> str:
    """Return `Reason: text` of a host that failed."""
    return f"{host.reason}: {host.error}" if host.reason else host.error


def proven(report: RunReport) -> RunReport:
    """Return the report of a backup in which no host succeeds without a snapshot's id.

    Rule 5 of the architecture, for every step that may write a report: not only for ours.
    """
    return replace(
        report,
        hosts=tuple(
            host
            if not host.succeeded or any(restic_id.is_snapshot(s.id) for s in host.snapshots)
            else replace(
                host,
                succeeded=False,
                reason=Reason.NO_SUMMARY.value,
                error="success was reported, but no snapshot",
            )
            for host in report.hosts
        ),
    )


def failure_of(report: RunReport) -> str | None:
    """Return why a run failed, None when it succeeded. The text may be empty.

    Retention and metrics never decide (architecture, rule 5); a repository in which `restic check`
    found damage does: what lies in it may not be restorable.
    """
    for host in report.hosts:
        if not host.succeeded:
            return error_text(host)
    if not report.hosts:
        return "the report names no host"
    if report.repository.integrity is False:
        said = report.verification.message if report.verification else ""
        return f"the repository is damaged: {said}".rstrip(": ")
    return None
