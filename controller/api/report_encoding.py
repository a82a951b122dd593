"""The document of a report, within its budget.

Budget (D11): `report_bytes` of the JobInput for the whole document. Detail is cut first (paths that
could not be read, messages, counts, paths of snapshots), then snapshots and hosts, and at the very
end what protects snapshots. A report that is never written is worse than a short one: the session
would fail as ReportLost. Standard library only (D31).
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from controller.api.report import (
    MAX_TEXT,
    MAX_UNTAGGED,
    ConditionReport,
    RunReport,
    SnapshotReport,
    StepReport,
)

REPORT_CUT = "ReportCut"
"""Type of the condition that says that hosts or snapshots were left out."""
SMALLEST_BYTES = 1024
"""Any report fits into so many bytes."""
_ALWAYS = frozenset({
    "schema", "hosts", "hostname", "id", "path", "type", "status", "state",
    # A measured zero differs from "nothing was learned".
    "size_bytes", "snapshot_count", "snapshots_kept", "snapshots_removed",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Cut:
    """How much of each kind of detail is left: a number of items, or of characters.

    `word` is for reasons and types, `path` for a snapshot's path.
    """

    unreadable: int
    text: int
    word: int = MAX_TEXT
    path: int = MAX_TEXT
    has_counts: bool = True
    has_sizes: bool = True


_ID_LENGTH = 64
_WORD = 64
_CUTS = (
    _Cut(unreadable=20, text=MAX_TEXT),
    _Cut(unreadable=5, text=MAX_TEXT),
    _Cut(unreadable=3, text=512),
    _Cut(unreadable=1, text=256),
    _Cut(unreadable=0, text=128),
    _Cut(unreadable=0, text=0),
    _Cut(unreadable=0, text=0, word=_WORD, path=128, has_counts=False),
    _Cut(unreadable=0, text=0, word=_WORD, path=32, has_counts=False),
    _Cut(unreadable=0, text=0, word=_WORD, path=32, has_counts=False, has_sizes=False),
    _Cut(unreadable=0, text=0, word=_WORD, path=0, has_counts=False, has_sizes=False),
)


def encode(report: RunReport, limit_bytes: int) -> str:
    """Return the document in at most `limit_bytes` bytes of UTF-8.

    Any report fits into SMALLEST_BYTES. What is left out is in the order of `_CUTS`; of a report
    that is too long even then one host is left, the first that failed, and a condition says so; at
    last as many of the newest incomplete snapshots as fit.

    Raises:
        ValueError: `limit_bytes` is less than that, and too little.
    """
    for candidate in _candidates(report):
        document = json.dumps(_brief(asdict(candidate)), separators=(",", ":"))
        if len(document.encode()) <= limit_bytes:
            return document
    raise ValueError(f"the report does not fit into {limit_bytes} bytes")


def _candidates(report: RunReport) -> Iterator[RunReport]:
    for cut in _CUTS:
        yield _cut(report, cut)
    bare = replace(_cut(report, _CUTS[-1]), conditions=())
    yield bare
    # A foreign output.json may name more hosts and snapshots than any message can hold.
    count = sum(len(host.snapshots) for host in report.hosts)
    for most in (32, 16, 8, 4, 1):
        repository = bare.repository
        if not _is_id(repository.id):
            repository = replace(repository, id="")
        yield replace(_essence(bare, most, count), repository=repository)
    # Numbers first: what else is learned protects snapshots.
    learned = replace(
        bare.repository,
        id="",
        size_bytes=None,
        snapshot_count=None,
        snapshots_kept=None,
        snapshots_removed=None,
    )
    newest_first = [item for item in reversed(learned.untagged_incomplete) if _is_id(item)]
    for most in range(len(newest_first), -1, -1):
        kept = replace(learned, untagged_incomplete=tuple(newest_first[:most][::-1]))
        yield replace(_essence(bare, 1, count), repository=kept)


def _cut(report: RunReport, cut: _Cut) -> RunReport:
    def step(item: StepReport | None) -> StepReport | None:
        return item and replace(item, message=item.message[: cut.text])

    learned = report.repository
    return replace(
        report,
        repository=replace(
            learned, untagged_incomplete=learned.untagged_incomplete[-MAX_UNTAGGED:]
        ),
        hosts=tuple(
            replace(
                host,
                reason=host.reason[: cut.word],
                error=host.error[: cut.text],
                snapshots=tuple(_cut_snapshot(item, cut) for item in host.snapshots),
                unreadable=tuple(path[:256] for path in host.unreadable[: cut.unreadable]),
            )
            for host in report.hosts
        ),
        retention=step(report.retention),
        verification=step(report.verification),
        metrics=step(report.metrics),
        conditions=tuple(
            ConditionReport(
                condition.type[: cut.word],
                condition.status[: cut.word],
                condition.reason[: cut.word],
                condition.message[: cut.text],
            )
            for condition in report.conditions
        ),
    )


def _essence(report: RunReport, most: int, count: int) -> RunReport:
    """Return the first host that failed, else the first, with at most some snapshots."""
    failed = [host for host in report.hosts if not host.succeeded]
    hosts = tuple(
        replace(
            host,
            hostname=_plain(host.hostname),
            reason=_plain(host.reason),
            error=f"{len(failed)} of {len(report.hosts)} hosts failed" if failed else "",
            snapshots=tuple(item for item in host.snapshots if _is_id(item.id))[:most],
        )
        for host in (failed or report.hosts)[:1]
    )
    text = f"the report of {len(report.hosts)} hosts and {count} snapshots was too long"
    return RunReport(hosts, conditions=(ConditionReport(REPORT_CUT, "True", "TooLong", text),))


def _plain(text: str) -> str:
    """Return at most _WORD characters that need no escape in JSON."""
    return "".join(
        char if " " <= char <= "~" and char not in '"\\' else "?" for char in text[:_WORD]
    )


def _is_id(text: str) -> bool:
    return len(text) == _ID_LENGTH and text.isascii() and text.isalnum()


def _cut_snapshot(snapshot: SnapshotReport, cut: _Cut) -> SnapshotReport:
    """Return a snapshot with less detail; of a path the end is left, where paths differ."""
    path = snapshot.path
    if len(path) > cut.path:
        path = f"...{path[len(path) - cut.path + 3 :]}" if cut.path else ""
    return SnapshotReport(
        id=snapshot.id,
        path=path,
        total_bytes=snapshot.total_bytes if cut.has_sizes else 0,
        uploaded_bytes=snapshot.uploaded_bytes if cut.has_sizes else 0,
        processing_s=snapshot.processing_s if cut.has_counts else 0.0,
        files_total=snapshot.files_total if cut.has_counts else 0,
        files_new=snapshot.files_new if cut.has_counts else 0,
        files_modified=snapshot.files_modified if cut.has_counts else 0,
        files_unmodified=snapshot.files_unmodified if cut.has_counts else 0,
    )


_CORE_BYTES = 896
_SNAPSHOT_BYTES = 96


def snapshots_that_fit(limit_bytes: int) -> int:
    """Return how many snapshots of one host a report holds with their whole ids, at least."""
    return max(1, (limit_bytes - _CORE_BYTES) // _SNAPSHOT_BYTES)


def _brief(value: Any) -> Any:
    """Drop what the parser fills in by itself: nulls, empty texts and lists, zeros."""
    if isinstance(value, dict):
        items = ((key, _brief(item)) for key, item in value.items())
        return {key: item for key, item in items if item or item is False or key in _ALWAYS}
    return [_brief(item) for item in value] if isinstance(value, list | tuple) else value
