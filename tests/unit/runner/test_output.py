"""`output.json` of anybody's step: strict, bounded, and exact for our own."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.job_input import Target
from controller.api.report import (
    ConditionReport,
    HostReport,
    Reason,
    RepositoryReport,
    RunReport,
    SnapshotReport,
)
from runner import output
from runner.failure import RunError

TARGET = Target("v1", "PersistentVolumeClaim", "demo", "data")
ID = "ab" * 32
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
)
OURS = RunReport(
    hosts=(
        HostReport(
            "host-0",
            succeeded=False,
            reason=Reason.BACKUP_INCOMPLETE,
            error="1 file",
            duration_s=3.25,
            snapshots=(SnapshotReport(ID, "/p", 1_390_000, 711, 65.4, 5, 1, 2, 2),),
            unreadable=("/p/x",),
            incomplete="Snapshot x is incomplete",
        ),
    ),
    repository=RepositoryReport(id="cd" * 32, initialised=True),
)


def third_party() -> dict[str, Any]:
    """Return what a step of somebody else writes."""
    return {
        "targetStatus": {
            "ref": {"kind": "AppBinding"},
            "stats": [
                {
                    "hostname": "host-0",
                    "phase": "Succeeded",
                    "duration": "1m2.5s",
                    "snapshots": [
                        {
                            "name": "1a2b3c4d",
                            "path": "dump.sql",
                            "totalSize": "1.327 MiB",
                            "uploaded": "2.567 KiB",
                            "processingTime": "1:00:05",
                            "fileStats": {"totalFiles": 1, "newFiles": 1},
                        }
                    ],
                }
            ],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "x"}],
        }
    }


def test_third_party() -> None:
    """Stash's format is read: sizes, durations, times and counts in their units."""
    report = output.parse(json.dumps(third_party()).encode())
    (host,) = report.hosts
    assert (host.succeeded, host.duration_s) == (True, 62.5)
    assert host.snapshots == (
        SnapshotReport("1a2b3c4d", "dump.sql", 1391460, 2629, 3605.0, files_total=1, files_new=1),
    )
    assert report.conditions == (ConditionReport("Ready", "True"),)


def test_own_report_is_exact(tmp_path: Path) -> None:
    """Between our own steps reason, unreadable paths, warnings and repository id survive."""
    output.write(tmp_path, OURS, TARGET)
    assert output.read(tmp_path) == OURS


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
COUNTS = st.integers(min_value=0, max_value=2**50)
IDS = st.text("0123456789abcdef", min_size=64, max_size=64)
HOSTS = st.builds(
    HostReport,
    hostname=NAMES,
    succeeded=st.booleans(),
    reason=st.sampled_from([Reason.BACKUP_INCOMPLETE, Reason.STEP_FAILED]),
    error=NAMES,
    duration_s=st.floats(0, 1e6),
    snapshots=st.lists(
        st.builds(SnapshotReport, IDS, NAMES, COUNTS, COUNTS, files_total=COUNTS), max_size=3
    ).map(tuple),
    unreadable=st.lists(NAMES, max_size=3).map(tuple),
)


@given(
    st.lists(HOSTS, min_size=1, max_size=3, unique_by=lambda host: host.hostname).map(tuple),
    st.lists(IDS, max_size=3).map(tuple),
)
def test_round_trip(hosts: tuple[HostReport, ...], untagged: tuple[str, ...]) -> None:
    """Whatever our own step says is read again, accepted incomplete backups too."""
    repository = RepositoryReport(id="cd" * 32, untagged_incomplete=untagged)
    report = RunReport(hosts=hosts, repository=repository)
    assert output.parse(output.encode(report, TARGET).encode()) == report


def test_a_link_in_the_files_place_is_replaced(tmp_path: Path) -> None:
    """A link that another container left is not followed, whatever its name."""
    other = tmp_path / "other"
    other.write_text("precious")
    folder = tmp_path / "output"
    folder.mkdir()
    for name in ("output.json", ".output.json.partial"):
        (folder / name).symlink_to(other)
    output.write(folder, OURS, TARGET)
    assert other.read_text() == "precious"
    assert output.read(folder) == OURS


def test_stash_keys_decide(tmp_path: Path) -> None:
    """A step in between may turn success into failure: our own detail is then ignored."""
    output.write(tmp_path, OURS, TARGET)
    path = tmp_path / "output.json"
    raw = json.loads(path.read_text())
    raw["targetStatus"]["stats"][0]["hostname"] = "other"
    path.write_text(json.dumps(raw))
    report = output.read(tmp_path)
    assert [(host.hostname, host.reason) for host in report.hosts] == [("other", "StepFailed")]
    assert report.repository == RepositoryReport()


def test_written_in_stash_format(tmp_path: Path) -> None:
    """Readers of Stash's format find its keys, indented, whole and readable by others."""
    path = output.write(tmp_path, OURS, TARGET)
    stats = json.loads(path.read_text())["targetStatus"]["stats"]
    assert path.read_text().startswith('{\n  "targetStatus"')
    assert path.stat().st_mode & 0o777 == 0o666
    assert stats == [
        {
            "hostname": "host-0",
            "phase": "Failed",
            "duration": "3.25s",
            "error": "1 file",
            "snapshots": [
                {
                    "name": ID,
                    "path": "/p",
                    "totalSize": "1.326 MiB",
                    "uploaded": "711 B",
                    "processingTime": "1:05",
                    "fileStats": {
                        "totalFiles": 5,
                        "newFiles": 1,
                        "modifiedFiles": 2,
                        "unmodifiedFiles": 2,
                    },
                }
            ],
        }
    ]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("stats", [], "nothing is proven"),
        ("stats", {}, "stats: a list of at most 64"),
        ("stats", [{"hostname": "a", "phase": "Succeeded"}] * 2, "two entries"),
        ("stats", [{"hostname": str(i), "phase": "Failed"} for i in range(65)], "at most 64"),
        ("stats.0.phase", "Running", r"stats\[0\]\.phase is 'Running'"),
        ("stats.0.hostname", "", r"hostname is missing"),
        ("stats.0.hostname", "x" * 300, "at most 253"),
        ("stats.0.error", "but", "Succeeded, but has an error"),
        ("stats.0.duration", "soon", "duration such as"),
        ("stats.0.duration", "9" * 12 + "h", "duration such as"),
        ("stats.0.snapshots.0.totalSize", "-1 B", "size such as"),
        ("stats.0.snapshots.0.uploaded", "1 PB", "size such as"),
        ("stats.0.snapshots.0.processingTime", "x", "m:ss"),
        ("stats.0.snapshots.0.fileStats.totalFiles", -1, "whole number"),
        ("stats.0.snapshots.0.fileStats.totalFiles", True, "whole number"),
        ("conditions.0.status", "Maybe", "needs a type"),
    ],
)
def test_mistakes_are_named(path: str, value: Any, said: str) -> None:
    """A wrong value is OUTPUT_INVALID, with its place."""
    raw = third_party()
    holder: Any = raw["targetStatus"]
    *parents, last = path.split(".")
    for parent in parents:
        holder = holder[int(parent) if parent.isdigit() else parent]
    holder[last] = value
    with pytest.raises(RunError, match=said) as caught:
        output.parse(json.dumps(raw).encode())
    assert caught.value.reason is Reason.OUTPUT_INVALID


@given(st.binary() | JSON.map(lambda raw: json.dumps({"targetStatus": raw}).encode()))
def test_anything_else_is_invalid(content: bytes) -> None:
    """No content raises anything but OUTPUT_INVALID."""
    with pytest.raises(RunError) as caught:
        output.parse(content)
    assert caught.value.reason is Reason.OUTPUT_INVALID


@given(JSON)
def test_any_foreign_detail_is_harmless(own: Any) -> None:
    """Whatever a step writes under our own key changes nothing and raises nothing."""
    raw = third_party()
    expected = output.parse(json.dumps(raw).encode())
    assert output.parse(json.dumps({**raw, "drey": own}).encode()) == expected


@pytest.mark.parametrize("content", [b"[" * 100_000, b"{}" + b" " * (1 << 20), b"\xff\xfe"])
def test_hostile_files(content: bytes) -> None:
    """Deep nesting, giant files and other encodings are OUTPUT_INVALID."""
    with pytest.raises(RunError) as caught:
        output.parse(content)
    assert caught.value.reason is Reason.OUTPUT_INVALID


def test_missing_file(tmp_path: Path) -> None:
    """A step that wrote nothing is STEP_FAILED, and the text says where to look."""
    with pytest.raises(RunError, match="logs of the pod's other containers") as caught:
        output.read(tmp_path)
    assert caught.value.reason is Reason.STEP_FAILED


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_no_ordinary_file(tmp_path: Path, kind: str) -> None:
    """A link, a pipe or a folder in its place is refused without waiting or following."""
    place = tmp_path / "output.json"
    if kind == "link":
        (tmp_path / "secret").write_text(json.dumps(third_party()))
        place.symlink_to(tmp_path / "secret")
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.mkdir()
    with pytest.raises(RunError) as caught:
        output.read(tmp_path)
    assert caught.value.reason is Reason.OUTPUT_INVALID
