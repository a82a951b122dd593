"""Sizes and durations as Stash prints and reads them (reference: stash.md section 6.4)."""

import math
import re
from datetime import UTC, datetime

import durationpy

_KIB = 1024
_UNITS = (("TiB", _KIB**4), ("GiB", _KIB**3), ("MiB", _KIB**2), ("KiB", _KIB))
_SIZE_UNITS = {"B": 1, **dict(_UNITS)}
_SIZE = re.compile(r"(?P<number>[0-9]{1,20}(\.[0-9]{1,9})?) (?P<unit>B|[KMGT]iB)")
_PROCESSING_TIME = re.compile(r"(?:([0-9]{1,9}):)?([0-9]{1,9}):([0-9]{2})", re.ASCII)
# durationpy also accepts units that Go refuses (d, w, mo, y): they are kept out here.
_GO_DURATION = re.compile(r"[+-]?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+")
_MINUTE_S = 60
_HOUR_S = 3600


def format_size(size_bytes: int) -> str:
    """Return a size such as `2.567 KiB`; a unit is used from strictly more than one of it."""
    for unit, unit_bytes in _UNITS:
        if size_bytes > unit_bytes:
            return f"{size_bytes / unit_bytes:.3f} {unit}"
    return f"{size_bytes} B"


def parse_size_bytes(text: str) -> int | None:
    """Return the bytes of a size such as `2.567 KiB`, None when it is none.

    The text has three decimals: up to 0.05 % are lost, of sizes below 10 KiB nothing.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        return None
    return round(float(found["number"]) * _SIZE_UNITS[found["unit"]])


def format_seconds(seconds: float) -> str:
    """Return a duration rounded to whole seconds as Go prints it: `16s`, `2m3s`, `1h0m5s`."""
    total = max(0, math.floor(seconds + 0.5))  # Go rounds halves up, Python's round() to even
    hours, rest = divmod(total, _HOUR_S)
    minutes, whole = divmod(rest, _MINUTE_S)
    if hours:
        return f"{hours}h{minutes}m{whole}s"
    return f"{minutes}m{whole}s" if minutes else f"{whole}s"


def format_duration(seconds: float) -> str:
    """Return a duration with its fraction as Go prints it: `3.987162395s`, `822.861ms`."""
    if seconds <= 0:
        return "0s"
    nanoseconds = round(seconds * 1e9)
    for unit, unit_ns in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if nanoseconds < unit_ns * 1_000:
            return f"{_trim(nanoseconds / unit_ns)}{unit}"
    minutes, rest_ns = divmod(nanoseconds, _MINUTE_S * 1_000_000_000)
    text = f"{_trim(rest_ns / 1e9)}s"
    if minutes:
        hours, left = divmod(minutes, 60)
        text = f"{hours}h{left}m{text}" if hours else f"{left}m{text}"
    return text


def _trim(value: float) -> str:
    return f"{value:.9f}".rstrip("0").rstrip(".")


def format_processing_time(seconds: float) -> str:
    """Return `m:ss`, or `h:mm:ss` from one hour on."""
    total = max(0, int(seconds))
    hours, rest = divmod(total, _HOUR_S)
    minutes, whole = divmod(rest, _MINUTE_S)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"


def parse_processing_time_s(text: str) -> float | None:
    """Return the seconds of `m:ss` or `h:mm:ss`, None when it is neither."""
    found = _PROCESSING_TIME.fullmatch(text)
    if found is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(hours * _HOUR_S + minutes * _MINUTE_S + seconds)


def parse_go_duration_s(text: str) -> float | None:
    """Return the seconds of a Go duration such as `1h30m`, None when Go would refuse it."""
    if not _GO_DURATION.fullmatch(text):
        return None
    try:
        return float(durationpy.from_str(text).total_seconds())
    except (durationpy.DurationError, ValueError, OverflowError):
        return None


def format_time(moment: datetime) -> str:
    """Return RFC 3339 in UTC with whole seconds, as Kubernetes writes times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """Parse RFC 3339.

    Raises:
        ValueError: it is no time, or has no offset from UTC.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset from UTC")
    return moment
