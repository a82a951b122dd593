"""The report of a Job: exact round trips, a hard budget, and hostile input."""

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.api.report import (
    MAX_TEXT,
    MAX_UNTAGGED,
    ConditionReport,
    HostReport,
    RepositoryReport,
    RunReport,
    SnapshotReport,
    StepReport,
    StepState,
)
from controller.api.report_encoding import SMALLEST_BYTES, encode, snapshots_that_fit
from controller.api.report_parsing import parse_report

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
COUNTS = st.integers(min_value=0, max_value=2**62)
IDS = st.text("0123456789abcdef", min_size=64, max_size=64)
SECONDS = st.floats(min_value=0, max_value=1e9)
SNAPSHOTS = st.builds(
    SnapshotReport,
    id=IDS,
    path=TEXTS,
    total_bytes=COUNTS,
    uploaded_bytes=COUNTS,
    processing_s=SECONDS,
    files_total=COUNTS,
    files_new=COUNTS,
    files_modified=COUNTS,
    files_unmodified=COUNTS,
)
HOSTS = st.builds(
    HostReport,
    hostname=TEXTS,
    succeeded=st.booleans(),
    reason=TEXTS,
    error=TEXTS,
    duration_s=SECONDS,
    snapshots=st.lists(SNAPSHOTS, max_size=3).map(tuple),
    unreadable=st.lists(TEXTS, max_size=5).map(tuple),
    incomplete=TEXTS,
)
STEPS = st.none() | st.builds(StepReport, state=st.sampled_from(StepState), message=TEXTS)
REPORTS = st.builds(
    RunReport,
    hosts=st.lists(HOSTS, max_size=3).map(tuple),
    repository=st.builds(
        RepositoryReport,
        id=st.just("") | IDS,
        initialised=st.booleans(),
        integrity=st.none() | st.booleans(),
        size_bytes=st.none() | COUNTS,
        snapshot_count=st.none() | COUNTS,
        snapshots_kept=st.none() | COUNTS,
        snapshots_removed=st.none() | COUNTS,
        snapshots_ahead=st.none() | st.booleans(),
        untagged_incomplete=st.lists(IDS, max_size=3).map(tuple),
    ),
    retention=STEPS,
    verification=STEPS,
    metrics=STEPS,
    conditions=st.lists(
        st.builds(ConditionReport, type=TEXTS, status=TEXTS, reason=TEXTS, message=TEXTS),
        max_size=2,
    ).map(tuple),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
)
ID = "ab" * 32


@given(REPORTS)
def test_round_trip(report: RunReport) -> None:
    """What was encoded without a cut is parsed to the same value; zero and unknown differ."""
    assert parse_report(encode(report, 1 << 20)) == report


def protecting(learned: RepositoryReport) -> RepositoryReport:
    """Return what was learned without what may be learned again."""
    return replace(
        learned,
        id="",
        size_bytes=None,
        snapshot_count=None,
        snapshots_kept=None,
        snapshots_removed=None,
    )


@settings(deadline=None)
@given(REPORTS, st.integers(min_value=0, max_value=12288))
def test_budget(report: RunReport, limit_bytes: int) -> None:
    """A document never exceeds its budget, is never missing, and never turns a failure around."""
    try:
        document = encode(report, limit_bytes)
    except ValueError:
        assert limit_bytes < SMALLEST_BYTES
        return
    assert len(document.encode()) <= limit_bytes
    parsed = parse_report(document)
    assert all(h.succeeded for h in parsed.hosts) == all(h.succeeded for h in report.hosts)
    if limit_bytes >= SMALLEST_BYTES:
        assert protecting(parsed.repository) == protecting(report.repository)
    known = {snapshot.id for host in report.hosts for snapshot in host.snapshots}
    assert known >= {snapshot.id for host in parsed.hosts for snapshot in host.snapshots}


@settings(deadline=None)
@given(
    st.sampled_from('x\x00"é😀'),
    st.booleans(),
    st.integers(0, 20),
    st.integers(1, 20),
    st.integers(0, 32),
)
def test_the_largest_foreign_report_fits_somehow(
    char: str,
    failed: bool,  # noqa: FBT001 - drawn
    snapshots: int,
    hosts: int,
    conditions: int,
) -> None:
    """Whatever a third party's output.json may hold: a report is written, with the outcome."""
    text = char * 1024
    taken = (SnapshotReport(ID, text, 2**62),) * snapshots
    good = HostReport(text, True, text, text, 9e9, taken, incomplete=text)
    report = RunReport(
        hosts=(good,) * (hosts - 1) + (replace(good, succeeded=not failed),),
        repository=RepositoryReport(text, True, False, 2**62, 2**62, 2**62, 2**62),
        retention=StepReport(StepState.FAILED, text),
        conditions=(ConditionReport(text, text, text, text),) * conditions,
    )
    parsed = parse_report(encode(report, SMALLEST_BYTES))
    assert all(host.succeeded for host in parsed.hosts) is not failed
    assert parsed.repository.integrity is False
    assert bool(parsed.hosts[0].snapshots) is bool(snapshots)
    assert parsed.hosts[0].incomplete
    if len(parsed.hosts) < hosts or len(parsed.hosts[0].snapshots) < snapshots:
        assert [condition.type for condition in parsed.conditions] in ([], ["ReportCut"])


@settings(deadline=None)
@given(REPORTS, st.integers(0, 4 * MAX_UNTAGGED), st.integers(SMALLEST_BYTES, 12288))
def test_the_newest_incomplete_snapshots_are_kept(
    report: RunReport, count: int, limit_bytes: int
) -> None:
    """However many snapshots lack their tag: a report is written, with the last that have room."""
    ids = tuple(f"{number:064x}" for number in range(count))
    learned = replace(report.repository, untagged_incomplete=ids)
    found = parse_report(encode(replace(report, repository=learned), limit_bytes)).repository
    kept = found.untagged_incomplete
    assert kept == ids[count - len(kept) :]
    fitting = (limit_bytes - SMALLEST_BYTES) // (64 + len('"",'))
    assert len(kept) >= min(count, MAX_UNTAGGED, 3 + fitting)
    assert protecting(replace(found, untagged_incomplete=ids)) == protecting(learned)


@settings(deadline=None)
@given(st.integers(SMALLEST_BYTES, 12288), st.text("äb", max_size=300))
def test_ids_of_as_many_snapshots_as_are_allowed_are_kept(limit_bytes: int, path: str) -> None:
    """The largest number of paths that a configuration may have loses no id and no outcome."""
    count = snapshots_that_fit(limit_bytes)
    snapshots = tuple(
        SnapshotReport(f"{i:064x}", f"/stash-data/{path}/{i}", 2**62, 2**62, 9e9, 2**62, 2**62)
        for i in range(count)
    )
    host = HostReport(
        "h" * 253, False, "BackupIncomplete", "é" * 1024, 9e9, snapshots, ("/ü" * 200,) * 20
    )
    step = StepReport(StepState.SKIPPED, "é" * 1024)
    learned = RepositoryReport(
        ID,
        True,
        True,
        size_bytes=2**62,
        snapshot_count=2**62,
        snapshots_kept=2**62,
        snapshots_removed=2**62,
    )
    report = RunReport((host,), learned, step, step, step)
    (found,) = parse_report(encode(report, limit_bytes)).hosts
    assert (found.hostname, found.reason) == (host.hostname, host.reason)
    assert [item.id for item in found.snapshots] == [item.id for item in snapshots]


def test_sizes_of_twenty_paths_are_kept() -> None:
    """Up to the limit of paths, one container's report keeps sizes and the ends of the paths."""
    snapshots = tuple(
        SnapshotReport(f"{i:064x}", f"/stash-data/{'deep/' * 9}{i:02}", 10**12, 10**10, 99.5, 10**6)
        for i in range(20)
    )
    report = RunReport((HostReport("host-0", True, duration_s=99.123456, snapshots=snapshots),))
    (found,) = parse_report(encode(report, 4096)).hosts
    assert [item.total_bytes for item in found.snapshots] == [10**12] * 20
    assert [item.path[-8:] for item in found.snapshots] == [f"/deep/{i:02}" for i in range(20)]


@settings(deadline=None)
@given(st.integers(SMALLEST_BYTES, 12288), st.integers(0, 40), st.integers(0, 1000))
def test_a_warning_about_incomplete_snapshots_is_never_lost(
    limit_bytes: int, count: int, more: int
) -> None:
    """However short the report: that the restored data is incomplete, and which snapshot is."""
    text = f"Snapshot {ID} of /stash-data is incomplete. " + "x" * more
    snapshots = tuple(SnapshotReport(f"{i:064x}", f"/stash-data/{i}", 2**62) for i in range(count))
    host = HostReport("host-0", True, duration_s=1.5, snapshots=snapshots, incomplete=text)
    report = RunReport((host,), RepositoryReport(ID), metrics=StepReport(StepState.FAILED, text))
    (found,) = parse_report(encode(report, limit_bytes)).hosts
    assert text.startswith(found.incomplete)
    assert f"Snapshot {ID[:50]}" in found.incomplete


def test_detail_is_cut_before_the_core() -> None:
    """A long error and many paths shrink until the core of one host fits into 1 KiB (D11)."""
    paths = tuple(f"/stash-data/{'x' * 300}/{number}" for number in range(20))
    snapshot = SnapshotReport(ID, "/stash-data", 2**62, 2**62, 1.5, 2**62, 2**62, 2**62, 2**62)
    host = HostReport(
        "host-0",
        succeeded=False,
        reason="BackupIncomplete",
        error="é" * 5000,
        snapshots=(snapshot,),
        unreadable=paths,
    )
    report = RunReport(hosts=(host,))
    whole = parse_report(encode(report, 1 << 16)).hosts[0]
    assert (len(whole.error), len(whole.unreadable)) == (MAX_TEXT, 20)
    tight = parse_report(encode(report, 1024)).hosts[0]
    assert (tight.reason, tight.snapshots, tight.unreadable) == (host.reason, (snapshot,), ())


def test_many_snapshots_fit() -> None:
    """Sixteen paths fit into the message that the kubelet allows one container."""
    snapshots = tuple(SnapshotReport(ID, f"/stash-data/{i}", 10**9, 10**6) for i in range(16))
    report = RunReport(hosts=(HostReport("host-0", succeeded=True, snapshots=snapshots),))
    assert parse_report(encode(report, 4096)) == report


QUOTA = (
    'volumesnapshots.snapshot.storage.k8s.io "{name}-1700000000" is forbidden: exceeded quota: few,'
    " requested: count/volumesnapshots.snapshot.storage.k8s.io=1, used: 2, limited: 2;"
    " raise the ResourceQuota, or delete what is not needed"
)
RBAC = (
    'volumesnapshots.snapshot.storage.k8s.io is forbidden: User "system:serviceaccount:demo:'
    'backupconfiguration-backup-0" cannot create resource "volumesnapshots" in API group'
    ' "snapshot.storage.k8s.io" in the namespace "demo";'
    " the Job's ServiceAccount lacks the right: check its RoleBinding"
)


@pytest.mark.parametrize("count", [1, 10, 20, 35, 50, 100, 1000])
@pytest.mark.parametrize("words", [QUOTA, RBAC], ids=["quota", "RBAC"])
def test_many_refused_objects_say_why(words: str, count: int) -> None:
    """However many hosts failed alike: one says object, cause and fix; up to 35 all are named."""
    names = [f"data-db-{number}" for number in range(count)]
    hosts = [HostReport(n, False, "CreationRefused", words.format(name=n)) for n in names]
    found = parse_report(encode(RunReport(tuple(hosts)), 4096))
    assert found.hosts[0] == hosts[0]
    assert [host.hostname for host in found.hosts] == names[: len(found.hosts)]
    assert len(found.hosts) >= (count if count <= 35 else 20)
    for said, wanted in zip(found.hosts[1:], hosts[1:], strict=False):
        assert said in (wanted, replace(wanted, error="same as data-db-0"))
    cut = [condition.type for condition in found.conditions]
    assert cut == (["ReportCut"] if len(found.hosts) < count else [])


def test_each_cause_is_told_once() -> None:
    """Hosts that failed for another reason keep it, and refer to the first of their own kind."""
    names = [f"data-db-{number}" for number in range(30)]
    texts = [(QUOTA, RBAC)[number % 2].format(name=name) for number, name in enumerate(names)]
    hosts = [HostReport(n, False, "Refused", text) for n, text in zip(names, texts, strict=True)]
    found = parse_report(encode(RunReport(tuple(hosts)), 4096))
    assert [host.error for host in found.hosts] == [
        *texts[:2],
        *(f"same as data-db-{number % 2}" for number in range(2, 30)),
    ]


def test_a_failed_host_among_many_snapshots_says_why() -> None:
    """A report that is too long for its hosts keeps the first failure with its own words."""
    snapshots = tuple(SnapshotReport(f"{number:064x}", "/data") for number in range(20))
    good = HostReport("good", succeeded=True, snapshots=snapshots)
    bad = HostReport("bad", False, "StepFailed", "mount /data of Pod a/b again", 0.0, snapshots)
    found = parse_report(encode(RunReport((*(good,) * 9, bad, bad)), 4096))
    assert [host.error for host in found.hosts] == [
        "2 of 11 hosts failed: mount /data of Pod a/b again"
    ]
    assert found.hosts[0].snapshots == tuple(replace(item, path="") for item in snapshots)


def test_core_that_does_not_fit() -> None:
    """A core larger than the budget is refused, not cut."""
    with pytest.raises(ValueError, match="does not fit into 64 bytes"):
        encode(RunReport(hosts=(HostReport("host-0", succeeded=True),)), 64)


@given(st.text() | JSON.map(json.dumps))
def test_anything_else_is_a_value_error(text: str) -> None:
    """A third party's message is a report or a ValueError, never another exception."""
    try:
        parse_report(text)
    except ValueError:
        return
    assert json.loads(text)["schema"] == 1


@given(REPORTS, st.data())
def test_one_field_of_another_type(report: RunReport, data: st.DataObject) -> None:
    """A report with any one value replaced by other JSON never raises but ValueError."""
    raw = json.loads(encode(report, 1 << 20))
    holder: Any = raw
    key: Any = data.draw(st.sampled_from(sorted(raw)))
    while isinstance(holder[key], dict | list) and holder[key] and data.draw(st.booleans()):
        holder = holder[key]
        key = data.draw(
            st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder)))
        )
    holder[key] = data.draw(JSON)
    with suppress(ValueError):
        parse_report(json.dumps(raw))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        '{"schema": 1, "hosts": [{"hostname": "a", "succeeded": 1}]}',
        '{"schema": 1, "hosts": [{"hostname": "a", "succeeded": true, "duration_s": Infinity}]}',
        '{"schema": 1, "hosts": [{"hostname": "a", "succeeded": true, "duration_s": NaN}]}',
        '{"schema": 1, "repository": {"size_bytes": -1}}',
        '{"schema": 1, "repository": {"id": "../../etc"}}',
        '{"schema": 1, "repository": {"id": "ABCD"}}',
        '{"schema": 1, "repository": {"untagged_incomplete": ["deadbeef"]}}',
        '{"schema": 1, "repository": {"snapshots_ahead": "yes"}}',
        '{"schema": 1, "repository": {"size_bytes": 1' + "0" * 30 + "}}",
        '{"schema": 1, "retention": {"state": "Perhaps"}}',
        '{"schema": 2, "hosts": []}',
    ],
)
def test_refused(text: str) -> None:
    """Missing, foreign, endless and impossible values are refused."""
    with pytest.raises(ValueError, match=r"report|JSON|Perhaps"):
        parse_report(text)


def test_texts_are_bounded() -> None:
    """No text of a foreign report is longer than an error text of ours (D32)."""
    raw = json.loads(encode(RunReport(hosts=(HostReport("a", succeeded=False),)), 4096))
    raw["hosts"][0]["error"] = "x" * 5000
    (host,) = parse_report(json.dumps(raw)).hosts
    assert replace(host, error="") == HostReport("a", succeeded=False)
    assert len(host.error) == MAX_TEXT
