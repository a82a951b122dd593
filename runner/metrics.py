"""Pushes Stash's metrics (reference/stash.md section 8) to the Pushgateway, once, at the end."""

from collections.abc import Callable, Iterator
from time import monotonic

from controller.api.job_input import JobInput
from controller.api.metrics import (
    CONTENT_TYPE,
    Sample,
    Subject,
    exposition,
    repository_samples,
    session_samples,
)
from controller.api.proof import failure_of, proven
from controller.api.report import RunReport, StepReport, StepState
from runner.log import Log

TIMEOUT_S = 5.0
"""For the whole push: the resolver, and a gateway that answers byte by byte, know no timeout."""
RESTORE = "RestoreSession"


def push(
    report: RunReport, job: JobInput, *, now_s: float, created_s: float, log: Log
) -> StepReport | None:
    """Push the report's metrics; None when no Pushgateway is configured. Never raises for I/O."""
    if not job.pushgateway_url:
        return None
    started = monotonic()

    def deliver() -> int:
        body = exposition(samples(report, job, now_s=now_s, created_s=created_s))
        return _post(job.pushgateway_url, job.metrics_group, body.encode())

    status, failed = _within(TIMEOUT_S, deliver)
    if not failed:
        if status < 300:  # noqa: PLR2004 - HTTP success
            log.info("metrics_pushed", seconds=round(monotonic() - started, 3))
            return StepReport(StepState.DONE)
        failed = f"HTTP status {status}"
    text = f"the metrics could not be pushed to {job.pushgateway_url}: {failed}"
    return StepReport(StepState.FAILED, text)


def samples(
    report: RunReport, job: JobInput, *, now_s: float, created_s: float
) -> Iterator[Sample]:
    """Yield what a report says, as `controller.api.metrics` names it.

    Of success it says what the controller will conclude from it, and not only what its hosts say.
    """
    subject = Subject(
        job.invoker,
        job.target,
        job.repository.name,
        is_restore=job.session_kind == RESTORE,
        user_labels=job.metrics_labels,
    )
    if not subject.is_restore:
        report = proven(report)
    yield from session_samples(
        subject,
        report.hosts,
        duration_s=max(0.0, now_s - created_s),
        ended_s=now_s,
        succeeded=failure_of(report) is None,
    )
    if not subject.is_restore:
        yield from repository_samples(subject, job.repository, report.repository)


def _within(limit_s: float, act: Callable[[], int]) -> tuple[int, str]:
    """Return the status, or why there is none. What is late is left to end with the process."""
    from threading import Thread  # noqa: PLC0415 - D31: imported when needed

    done: list[tuple[int, str]] = []

    def run() -> None:
        try:
            done.append((act(), ""))
        except Exception as err:  # noqa: BLE001 - a thread's boundary: metrics decide nothing
            done.append((0, str(err) or type(err).__name__))

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit_s)
    return done[0] if done else (0, f"no answer within {limit_s:g} s")


def _post(url: str, group: str, body: bytes) -> int:
    """POST: replaces metrics of the same name in the group, keeps the others."""
    from http.client import HTTPConnection, HTTPException, HTTPSConnection  # noqa: PLC0415 - D31
    from urllib.parse import quote, urlsplit  # noqa: PLC0415 - D31: imported when needed

    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("the URL is neither http nor https")
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_S)
    path = f"{parts.path.rstrip('/')}/metrics/job/{quote(group, safe='')}"
    try:
        connection.request("POST", path, body, {"Content-Type": CONTENT_TYPE})
        return connection.getresponse().status
    except HTTPException as err:
        raise ValueError(f"{type(err).__name__} {err}") from err
    finally:
        connection.close()
