"""`output.json`, which one step of a Task hands to the next: Stash's format, in and out.

It may come from anybody's container: sizes and types are checked, nothing is trusted. Our own
steps add the key `drey` with the exact report; Stash's keys decide where the two differ.
"""

import json
import math
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controller.api import report_encoding
from controller.api.job_input import Target
from controller.api.report import (
    LONGEST_S,
    ConditionReport,
    HostReport,
    Reason,
    RunReport,
    SnapshotReport,
)
from controller.api.report_parsing import parse_report
from runner.failure import RunError

FILE = "output.json"
LARGEST_BYTES = 1 << 20
MOST_HOSTS = 64
MOST_SNAPSHOTS = 64
MOST_CONDITIONS = 32
_MINUTE_S = 60
_LONGEST_NAME = 253
_LONGEST_PATH = 1024
_OWN_BYTES = 64 << 10
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?(B|KiB|MiB|GiB|TiB)")
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)(ns|us|µs|μs|ms|s|m|h)")
_DURATION_S = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1,
    "m": 60,
    "h": 3600,
}
_CLOCK = re.compile(r"(?:([0-9]{1,6}):)?([0-9]{1,6}):([0-9]{2})")


def write(folder: Path, report: RunReport, target: Target) -> Path:
    """Write the file so that no reader ever sees half of it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    partial = folder / f".{FILE}.{os.urandom(8).hex()}"
    # Any container of the Job can write there: a link must not be followed.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(partial, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(encode(report, target))
        # The next step may run as another user, and may replace the file (Stash: mode 0777).
        os.fchmod(file.fileno(), 0o666)
    return partial.replace(path)


def encode(report: RunReport, target: Target) -> str:
    """Return the document, indented as Stash writes it."""
    status = {
        "ref": {
            "apiVersion": target.api_version,
            "kind": target.kind,
            "namespace": target.namespace,
            "name": target.name,
        },
        "stats": [_stat(host) for host in report.hosts],
    }
    own = json.loads(report_encoding.encode(report, _OWN_BYTES))
    return json.dumps({"targetStatus": status, "drey": own}, indent=2) + "\n"


def read(folder: Path) -> RunReport:
    """Read the file of an earlier step.

    Raises:
        RunError: there is none (STEP_FAILED), or it is malformed (OUTPUT_INVALID).
    """
    path = folder / FILE
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as err:
        raise RunError(
            Reason.STEP_FAILED,
            f"{path} is missing: an earlier step of the Task ended without writing it; see the"
            " logs of the pod's other containers, and outputDir in the Task",
        ) from err
    except OSError as err:
        raise _invalid(f"{path} cannot be opened: {err.strerror}") from err
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _invalid(f"{path} is no ordinary file")
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(LARGEST_BYTES + 1)
    return parse(content, str(path))


def parse(content: bytes, path: str = FILE) -> RunReport:
    """Parse the document.

    Raises:
        RunError: it is malformed; the text names the place in it.
    """
    if len(content) > LARGEST_BYTES:
        raise _invalid(f"{path} is larger than {LARGEST_BYTES} bytes")
    try:
        raw = json.loads(content)
    except (ValueError, RecursionError) as err:
        raise _invalid(f"{path} is no JSON: {err}") from err
    try:
        status = _object(raw, "document").get("targetStatus")
        status = _object(status, "targetStatus")
        hosts = tuple(
            _host(item, f"targetStatus.stats[{index}]")
            for index, item in enumerate(_list(status, "stats", MOST_HOSTS))
        )
        conditions = tuple(
            _condition(item, f"targetStatus.conditions[{index}]")
            for index, item in enumerate(_list(status, "conditions", MOST_CONDITIONS))
        )
    except ValueError as err:
        raise _invalid(f"{path}: {err}") from err
    if not hosts:
        raise _invalid(f"{path}: targetStatus.stats has no entry, so nothing is proven")
    names = [host.hostname for host in hosts]
    if len(set(names)) != len(names):
        raise _invalid(f"{path}: targetStatus.stats has two entries with one hostname")
    return _refined(RunReport(hosts=hosts, conditions=conditions), raw.get("drey"))


def _refined(report: RunReport, own: Any) -> RunReport:
    """Use the exact report of our own step, as long as nobody changed what it says."""
    if own is None:
        return report
    try:
        exact = parse_report(json.dumps(own))
    except (ValueError, RecursionError):
        return report
    if [_fingerprint(host) for host in exact.hosts] != [
        _fingerprint(host) for host in report.hosts
    ]:
        return report
    return RunReport(hosts=exact.hosts, repository=exact.repository, conditions=report.conditions)


def _fingerprint(host: HostReport) -> tuple[Any, ...]:
    return host.hostname, host.succeeded, tuple((item.id, item.path) for item in host.snapshots)


def _invalid(text: str) -> RunError:
    return RunError(Reason.OUTPUT_INVALID, f"{text}; mend the step of the Task that writes it")


def _stat(host: HostReport) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "hostname": host.hostname,
        "phase": "Succeeded" if host.succeeded else "Failed",
        "duration": f"{host.duration_s:.9f}".rstrip("0").rstrip(".") + "s",
    }
    # Stash knows no success with an error; an accepted incomplete backup keeps it under our key.
    if host.error and not host.succeeded:
        entry["error"] = host.error
    if host.snapshots:
        entry["snapshots"] = [_snapshot_stat(item) for item in host.snapshots]
    return entry


def _snapshot_stat(item: SnapshotReport) -> dict[str, Any]:
    minutes, rest = divmod(int(item.processing_s), _MINUTE_S)
    hours, left = divmod(minutes, 60)
    clock = f"{hours}:{left:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
    return {
        "name": item.id,
        "path": item.path,
        "totalSize": _size(item.total_bytes),
        "uploaded": _size(item.uploaded_bytes),
        "processingTime": clock,
        "fileStats": {
            "totalFiles": item.files_total,
            "newFiles": item.files_new,
            "modifiedFiles": item.files_modified,
            "unmodifiedFiles": item.files_unmodified,
        },
    }


def _size(size_bytes: int) -> str:
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size_bytes > _UNITS[unit]:
            return f"{size_bytes / _UNITS[unit]:.3f} {unit}"
    return f"{size_bytes} B"


def _host(raw: Any, path: str) -> HostReport:
    entry = _object(raw, path)
    phase = _text(entry, "phase", path, 64)
    if phase not in {"Succeeded", "Failed"}:
        raise ValueError(f"{path}.phase is {phase!r}; Succeeded or Failed is wanted")
    hostname = _text(entry, "hostname", path, _LONGEST_NAME)
    if not hostname:
        raise ValueError(f"{path}.hostname is missing")
    succeeded = phase == "Succeeded"
    error = _text(entry, "error", path, LARGEST_BYTES)
    if succeeded and error:
        raise ValueError(f"{path} is Succeeded, but has an error")
    return HostReport(
        hostname=hostname,
        succeeded=succeeded,
        reason="" if succeeded else Reason.STEP_FAILED,
        error=error if succeeded or error else "the step reports Failed without an error text",
        duration_s=_duration(_text(entry, "duration", path, 64), f"{path}.duration"),
        snapshots=tuple(
            _snapshot(item, f"{path}.snapshots[{index}]")
            for index, item in enumerate(_list(entry, "snapshots", MOST_SNAPSHOTS))
        ),
    )


def _snapshot(raw: Any, path: str) -> SnapshotReport:
    entry = _object(raw, path)
    files = _object(entry.get("fileStats") or {}, f"{path}.fileStats")
    return SnapshotReport(
        id=_text(entry, "name", path, 64),
        path=_text(entry, "path", path, _LONGEST_PATH),
        total_bytes=_bytes(_text(entry, "totalSize", path, 64), f"{path}.totalSize"),
        uploaded_bytes=_bytes(_text(entry, "uploaded", path, 64), f"{path}.uploaded"),
        processing_s=_clock(_text(entry, "processingTime", path, 64), f"{path}.processingTime"),
        files_total=_count(files, "totalFiles", path),
        files_new=_count(files, "newFiles", path),
        files_modified=_count(files, "modifiedFiles", path),
        files_unmodified=_count(files, "unmodifiedFiles", path),
    )


def _condition(raw: Any, path: str) -> ConditionReport:
    entry = _object(raw, path)
    condition = ConditionReport(
        type=_text(entry, "type", path, 316),
        status=_text(entry, "status", path, 16),
        reason=_text(entry, "reason", path, 1024),
        message=_text(entry, "message", path, LARGEST_BYTES),
    )
    if not condition.type or condition.status not in {"True", "False", "Unknown"}:
        raise ValueError(f"{path} needs a type, and a status True, False or Unknown")
    return condition


def _object(raw: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: an object is wanted")  # noqa: TRY004 - one kind of error for all
    return raw


def _list(raw: Mapping[str, Any], key: str, most: int) -> list[Any]:
    value = raw.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"{key}: a list of at most {most} is wanted")
    return value


def _text(raw: Mapping[str, Any], key: str, path: str, longest: int) -> str:
    value = raw.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(f"{path}.{key}: a string of at most {longest} characters is wanted")
    return value


def _count(raw: Mapping[str, Any], key: str, path: str) -> int:
    value = raw.get(key)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise ValueError(f"{path}.fileStats.{key}: a whole number is wanted")
    return value


def _bytes(text: str, path: str) -> int:
    if not text:
        return 0
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"{path} is {text!r}; a size such as 2.567 KiB is wanted")
    return min(round(float(match[1]) * _UNITS[match[2]]), (1 << 62) - 1)


def _duration(text: str, path: str) -> float:
    if not text or text == "0":
        return 0.0
    parts = _DURATION.findall(text)
    total = math.fsum(float(number) * _DURATION_S[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or total >= LONGEST_S:
        raise ValueError(f"{path} is {text!r}; a duration such as 1m2.5s is wanted")
    return total


def _clock(text: str, path: str) -> float:
    if not text:
        return 0.0
    match = _CLOCK.fullmatch(text)
    if not match:
        raise ValueError(f"{path} is {text!r}; m:ss or h:mm:ss is wanted")
    total = int(match[1] or 0) * 3600 + int(match[2]) * 60 + int(match[3])
    return float(min(total, int(LONGEST_S) - 1))
