"""The run's report: gathers, redacts, writes it where the kubelet reads it."""

import os
from dataclasses import replace
from pathlib import Path

from controller.api.report import HostReport, RunReport, StepReport
from controller.api.report_encoding import encode
from runner.log import Log
from runner.redaction import Redactor


def redacted(report: RunReport, redact: Redactor) -> RunReport:
    """Return the report without secrets in its texts."""

    def host(item: HostReport) -> HostReport:
        paths = tuple(redact(path) for path in item.unreadable)
        return replace(
            item,
            error=redact(item.error),
            unreadable=paths,
            incomplete=redact(item.incomplete),
        )

    def step(item: StepReport | None) -> StepReport | None:
        return item and replace(item, message=redact(item.message))

    return replace(
        report,
        hosts=tuple(host(item) for item in report.hosts),
        retention=step(report.retention),
        verification=step(report.verification),
        metrics=step(report.metrics),
        conditions=tuple(replace(item, message=redact(item.message)) for item in report.conditions),
    )


def write(report: RunReport, path: Path, limit_bytes: int, log: Log) -> RunReport:
    """Write the termination message, also over an earlier one, and return what it says.

    One write and no truncation: whoever reads it meanwhile, or after a kill, finds a whole report.
    JSON ignores the spaces that cover the rest of a longer one.

    Raises:
        OSError: the file cannot be written.
        ValueError: not even the fixed core fits.
    """
    clean = redacted(report, log.redact)
    content = encode(clean, limit_bytes).encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        whole = content.ljust(os.fstat(descriptor).st_size)
        if os.pwrite(descriptor, whole, 0) != len(whole):
            raise OSError(f"{path} took only a part of the report")
    finally:
        os.close(descriptor)
    return clean


def tell(clean: RunReport, log: Log) -> None:
    """Tell the log how the run ended."""
    for item in clean.hosts:
        tell = log.info if item.succeeded else log.error
        tell(
            "host_succeeded" if item.succeeded else "host_failed",
            hostname=item.hostname,
            reason=item.reason,
            error=item.error,
            unreadable=item.unreadable,
            snapshots=[snapshot.id for snapshot in item.snapshots],
            seconds=round(item.duration_s, 3),
        )
    steps = {
        "retention": clean.retention, "verification": clean.verification, "metrics": clean.metrics
    }  # fmt: skip
    for name, result in steps.items():
        if result is not None and result.message:
            log.warning("step_ended", step=name, state=result.state, message=result.message)
