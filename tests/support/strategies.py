"""Hypothesis strategies for what planners read: conditions, reports, times."""

from datetime import datetime, timedelta

from hypothesis import strategies as st

from controller.api.conditions import Condition, Type
from controller.api.objects import Obj
from controller.api.report import (
    HostReport,
    Reason,
    RepositoryReport,
    RunReport,
    SnapshotReport,
    StepReport,
    StepState,
)
from tests.support.builders import NOW, SNAPSHOT_ID, before

texts = st.text(max_size=30)
moments: st.SearchStrategy[datetime] = st.integers(0, 10**6).map(
    lambda seconds: NOW + timedelta(seconds=seconds)
)
conditions: st.SearchStrategy[Condition] = st.builds(
    Condition,
    type=st.sampled_from([Type.REPOSITORY_FOUND, Type.VALIDATION_PASSED, Type.METRICS_PUSHED]),
    status=st.sampled_from([True, False, None]),
    reason=st.sampled_from(["A", "B"]),
    message=st.one_of(texts, st.just("x" * 2000)),
)
entries: st.SearchStrategy[Obj] = st.fixed_dictionaries(
    {
        "type": st.one_of(st.sampled_from([str(kind) for kind in Type]), texts),
        "status": st.sampled_from(["True", "False", "Unknown"]),
        "lastTransitionTime": st.integers(0, 10**6).map(before),
    },
    optional={"reason": texts, "message": texts, "severity": texts},
)

_counts = st.integers(0, 2**63 - 1)
_steps = st.one_of(
    st.none(), st.builds(StepReport, state=st.sampled_from(StepState), message=texts)
)
_snapshots = st.builds(
    SnapshotReport,
    id=st.one_of(st.just(SNAPSHOT_ID), st.just(""), texts),
    path=texts,
    total_bytes=_counts,
    uploaded_bytes=_counts,
    processing_s=st.floats(0, 1e6),
    files_total=_counts,
)
reports: st.SearchStrategy[RunReport] = st.builds(
    RunReport,
    hosts=st.lists(
        st.builds(
            HostReport,
            hostname=texts,
            succeeded=st.booleans(),
            reason=st.one_of(st.sampled_from([str(reason) for reason in Reason]), texts),
            error=texts,
            duration_s=st.floats(0, 1e6),
            snapshots=st.lists(_snapshots, max_size=2).map(tuple),
            unreadable=st.lists(texts, max_size=2).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
    repository=st.builds(
        RepositoryReport,
        id=st.sampled_from(["", "ab" * 32]),
        integrity=st.sampled_from([None, True, False]),
        size_bytes=st.one_of(st.none(), _counts),
        snapshot_count=st.one_of(st.none(), _counts),
        snapshots_kept=st.one_of(st.none(), _counts),
        snapshots_removed=st.one_of(st.none(), _counts),
    ),
    retention=_steps,
    verification=_steps,
    metrics=_steps,
)
