"""Stash's metrics (reference/stash.md section 8) in the text format, pushed once at the end."""

from collections.abc import Iterator, Mapping
from time import monotonic

from controller.api.job_input import JobInput
from controller.api.report import HostReport, RepositoryReport, RunReport, StepReport, StepState
from runner.log import Log

TIMEOUT_S = 5.0
RESTORE = "RestoreSession"
_SESSION = {
    "backup": ("stash_appscode_com_backupsession_", "stash_backup_"),
    "restore": ("stash_appscode_com_restoresession_", "stash_restore_"),
}
_REPOSITORY = ("stash_appscode_com_repository_", "stash_repository_")

Sample = tuple[str, Mapping[str, str], float]


def push(
    report: RunReport, job: JobInput, *, now_s: float, created_s: float, log: Log
) -> StepReport | None:
    """Push the report's metrics; None when no Pushgateway is configured. Never raises for I/O."""
    if not job.pushgateway_url:
        return None
    body = exposition(samples(report, job, now_s=now_s, created_s=created_s))
    started = monotonic()
    try:
        status = _post(job.pushgateway_url, job.metrics_group, body.encode())
    except (OSError, ValueError) as err:
        failed = str(err) or type(err).__name__
    else:
        if status < 300:  # noqa: PLR2004 - HTTP success
            log.info("metrics_pushed", seconds=round(monotonic() - started, 3))
            return StepReport(StepState.DONE)
        failed = f"HTTP status {status}"
    text = f"the metrics could not be pushed to {job.pushgateway_url}: {failed}"
    return StepReport(StepState.FAILED, text)


def samples(
    report: RunReport, job: JobInput, *, now_s: float, created_s: float
) -> Iterator[Sample]:
    """Yield name, labels and value of every sample, under the current and the legacy name.

    What is not known after a failure is left out, so that the gateway keeps the old value.
    """
    verb = "restore" if job.session_kind == RESTORE else "backup"
    current, legacy = _SESSION[verb]
    succeeded = bool(report.hosts) and all(host.succeeded for host in report.hosts)
    session = _labels(job)
    group = job.target.api_version.partition("/")[0] if "/" in job.target.api_version else ""
    target = {**session, "kind": job.target.kind, "group": group, "name": job.target.name}

    def both(name: str, labels: Mapping[str, str], value: float) -> Iterator[Sample]:
        yield current + name, labels, value
        yield legacy + name, labels, value

    yield current + "success", session, float(succeeded)
    yield legacy + "session_success", session, float(succeeded)
    yield from both("target_success", target, float(succeeded))
    if succeeded:
        duration_s = max(0.0, now_s - created_s)
        yield current + "duration_seconds", session, duration_s
        yield legacy + "session_duration_seconds", session, duration_s
        yield from both("target_count_total", session, 1)
        yield from both("target_host_count_total", target, len(report.hosts))
        if verb == "backup":
            yield from both("last_success_time_seconds", session, now_s)
            yield from both("target_last_success_time_seconds", target, now_s)
    for host in report.hosts:
        for name, value in _host(host, verb):
            yield from both(name, {**target, "hostname": host.hostname}, value)
    if verb == "backup":
        labels = _repository_labels(job, session)
        for name, value in _repository(report.repository):
            for prefix in _REPOSITORY:
                yield prefix + name, labels, value


def exposition(values: Iterator[Sample]) -> str:
    """Return the Prometheus text format: all are gauges, samples of one name stand together."""
    families: dict[str, list[str]] = {}
    for name, labels, value in values:
        pairs = ",".join(f'{key}="{_escape(text)}"' for key, text in sorted(labels.items()))
        families.setdefault(name, []).append(f"{name}{{{pairs}}} {value!r}")
    return "".join(
        f"# TYPE {name} gauge\n" + "\n".join(lines) + "\n" for name, lines in families.items()
    )


def _labels(job: JobInput) -> dict[str, str]:
    return {
        **job.metrics_labels,
        "invoker_kind": job.invoker.kind,
        "invoker_name": job.invoker.name,
        "namespace": job.invoker.namespace,
        "driver": "Restic",
        "repository": job.repository.name,
    }


def _repository_labels(job: JobInput, session: Mapping[str, str]) -> dict[str, str]:
    repository = job.repository
    labels = {
        **session,
        "name": repository.name,
        "namespace": repository.namespace,
        "backend": repository.provider,
    }
    if repository.bucket:
        labels["bucket"] = repository.bucket
    if repository.prefix:
        labels["prefix"] = repository.prefix
    return labels


def _host(host: HostReport, verb: str) -> Iterator[tuple[str, float]]:
    yield f"host_{verb}_success", float(host.succeeded)
    if not host.succeeded:
        return
    yield f"host_{verb}_duration_seconds", host.duration_s
    if verb == "restore":
        return
    of = host.snapshots
    yield "host_data_size_bytes", sum(item.total_bytes for item in of)
    yield "host_data_uploaded_bytes", sum(item.uploaded_bytes for item in of)
    yield "host_data_processing_time_seconds", sum(item.processing_s for item in of)
    yield "host_files_total", sum(item.files_total for item in of)
    yield "host_files_new", sum(item.files_new for item in of)
    yield "host_files_modified", sum(item.files_modified for item in of)
    yield "host_files_unmodified", sum(item.files_unmodified for item in of)


def _repository(repository: RepositoryReport) -> Iterator[tuple[str, float]]:
    known = (
        ("integrity", None if repository.integrity is None else int(repository.integrity)),
        ("size_bytes", repository.size_bytes),
        ("snapshot_count", repository.snapshots_kept),
        ("snapshot_cleaned", repository.snapshots_removed),
    )
    for name, value in known:
        if value is not None:
            yield name, value


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


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
        connection.request("POST", path, body, {"Content-Type": "text/plain; version=0.0.4"})
        return connection.getresponse().status
    except HTTPException as err:
        raise ValueError(f"{type(err).__name__} {err}") from err
    finally:
        connection.close()
