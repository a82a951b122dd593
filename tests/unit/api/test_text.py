"""Sizes, durations and times as texts."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api import text


@pytest.mark.parametrize(
    ("size_bytes", "wanted"),
    [
        (0, "0 B"),
        (410, "410 B"),
        (1024, "1024 B"),
        (1025, "1.001 KiB"),
        (2629, "2.567 KiB"),
        (1024**2, "1024.000 KiB"),
        (1391460, "1.327 MiB"),
        (3 * 1024**3, "3.000 GiB"),
        (5 * 1024**4, "5.000 TiB"),
    ],
)
def test_format_size(size_bytes: int, wanted: str) -> None:
    """A unit is used from strictly more than one of it, as Stash prints it."""
    assert text.format_size(size_bytes) == wanted


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        (-1, "0s"),
        (0, "0s"),
        (0.5, "1s"),
        (2.5, "3s"),
        (16.4, "16s"),
        (59.6, "1m0s"),
        (123, "2m3s"),
        (3605, "1h0m5s"),
        (90000, "25h0m0s"),
    ],
)
def test_format_seconds(seconds: float, wanted: str) -> None:
    """Whole seconds as Go prints them; halves are rounded up as Go does."""
    assert text.format_seconds(seconds) == wanted


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        (0, "0s"),
        (-1, "0s"),
        (5e-9, "5ns"),
        (1.5e-6, "1.5µs"),
        (0.822861, "822.861ms"),
        (0.9999999999, "1s"),
        (3.987162395, "3.987162395s"),
        (59.9999999999, "1m0s"),
        (90.5, "1m30.5s"),
        (3661.25, "1h1m1.25s"),
    ],
)
def test_format_duration(seconds: float, wanted: str) -> None:
    """A duration with its fraction, as Go prints it."""
    assert text.format_duration(seconds) == wanted


@pytest.mark.parametrize(
    ("seconds", "wanted"), [(-1, "0:00"), (3.9, "0:03"), (65, "1:05"), (3725, "1:02:05")]
)
def test_format_processing_time(seconds: float, wanted: str) -> None:
    """Minutes and seconds, with hours from one hour on."""
    assert text.format_processing_time(seconds) == wanted


@pytest.mark.parametrize(
    ("given_text", "wanted"),
    [
        ("30m", 1800),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("-5m", -300),
        ("+5m", 300),
        ("0", 0),
        (".5s", 0.5),
        ("100ms", 0.1),
        ("", None),
        ("30", None),
        ("1d", None),
        ("1w", None),
        ("5m0", None),
        ("1h 30m", None),
        ("30M", None),
        ("h", None),
        ("٣s", None),
    ],
)
def test_parse_go_duration(given_text: str, wanted: float | None) -> None:
    """What Go takes is taken, what Go refuses is refused: other units, spaces, bare numbers."""
    assert text.parse_go_duration_s(given_text) == wanted


@given(st.text(alphabet="0123456789.+-hmsnuµd "))
def test_parse_go_duration_never_raises(given_text: str) -> None:
    """Any text gives seconds or None."""
    assert text.parse_go_duration_s(given_text) is None or given_text.strip() == given_text


@given(st.integers(min_value=1, max_value=10**15))
def test_a_formatted_duration_can_be_read_again(nanoseconds: int) -> None:
    """What we print, we and Go can parse."""
    seconds = nanoseconds / 1e9
    parsed = text.parse_go_duration_s(text.format_duration(seconds))
    assert parsed == pytest.approx(seconds, abs=2e-6)


@given(st.integers(min_value=0, max_value=2**60))
def test_a_formatted_size_can_be_read_again(size_bytes: int) -> None:
    """Three decimals of the unit survive: half of 0.001 KiB, and half a byte of the rounding."""
    parsed = text.parse_size_bytes(text.format_size(size_bytes))
    assert parsed == pytest.approx(size_bytes, rel=0.0006, abs=0.512 + 0.5)


@pytest.mark.parametrize("given_text", ["", "12", "1.5 kB", "-1 B", "1 KiB ", "nan B", "1e9 B"])
def test_other_texts_are_no_size(given_text: str) -> None:
    """Only what Stash prints is read."""
    assert text.parse_size_bytes(given_text) is None


@given(st.integers(min_value=0, max_value=10**6))
def test_a_formatted_processing_time_can_be_read_again(seconds: int) -> None:
    """Whole seconds survive, with and without hours."""
    assert text.parse_processing_time_s(text.format_processing_time(seconds)) == seconds


@pytest.mark.parametrize("given_text", ["", "12", "1:2", "1:002", ":12", "1:1:1:11", "a:bb"])
def test_other_texts_are_no_processing_time(given_text: str) -> None:
    """Only what Stash prints is read."""
    assert text.parse_processing_time_s(given_text) is None


def test_format_time() -> None:
    """Times are written in UTC with whole seconds, wherever they come from."""
    moment = datetime(2026, 1, 2, 5, 4, 5, 999999, timezone(timedelta(hours=2)))
    assert text.format_time(moment) == "2026-01-02T03:04:05Z"


def test_parse_time() -> None:
    """RFC 3339 with any offset is one moment; without an offset it is none."""
    wanted = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert text.parse_time("2026-01-02T03:04:05Z") == wanted
    assert text.parse_time("2026-01-02T05:04:05+02:00") == wanted
    with pytest.raises(ValueError, match="no offset"):
        text.parse_time("2026-01-02T03:04:05")
    with pytest.raises(ValueError, match="Invalid isoformat"):
        text.parse_time("yesterday")
