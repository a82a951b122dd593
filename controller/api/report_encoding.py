"""The document of a report, within its budget.

Budget (D11): `report_bytes` of the JobInput for the whole document. First what is said twice goes:
of hosts that failed alike one says why. Then detail is cut (paths that could not be read, messages,
counts, paths of snapshots), then snapshots and hosts, and at the very end what protects snapshots.
A report that is never written is worse than a short one: the session would fail as ReportLost.
Standard library only (D31).
"""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from controller.api.report import (
    MAX_TEXT,
    MAX_UNTAGGED,
    ConditionReport,
    HostReport,
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
_SENTENCE = 512
"""Characters in which an error of an API server still names the object, the cause and the fix."""
_WARNING = 128
"""Characters of `HostReport.incomplete` that are left: it names the first snapshot, with its id."""
_WHOLE = _Cut(unreadable=20, text=MAX_TEXT)
_SHORTER = (
    _WHOLE,
    _Cut(unreadable=5, text=MAX_TEXT),
    _Cut(unreadable=3, text=_SENTENCE),
)
_SHORTEST = (
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

    Any report fits into SMALLEST_BYTES. What is left out is in the order of `_SHORTER` and
    `_SHORTEST`; where all hosts failed and there is nothing but errors, hosts are left out before
    their errors. Of a report that is too long even then one host is left, the first that failed;
    at last as many of the newest incomplete snapshots as fit. A condition says that hosts are
    missing.

    Raises:
        ValueError: `limit_bytes` is less than that, and too little.
    """
    for candidate in _candidates(report):
        document = json.dumps(_brief(asdict(candidate)), separators=(",", ":"))
        if len(document.encode()) <= limit_bytes:
            return document
    raise ValueError(f"the report does not fit into {limit_bytes} bytes")


def _candidates(report: RunReport) -> Iterator[RunReport]:
    yield _cut(report, _WHOLE)
    report = _said_once(report)
    for cut in _SHORTER:
        yield _cut(report, cut)
    if all(not host.succeeded and not host.snapshots for host in report.hosts):
        yield from _fewer(_cut(report, _SHORTER[-1]))
    for cut in _SHORTEST:
        yield _cut(report, cut)
    bare = replace(_cut(report, _SHORTEST[-1]), conditions=())
    yield bare
    # A foreign output.json may name more hosts and snapshots than any message can hold.
    error = next((host.error for host in report.hosts if not host.succeeded), "")
    repository = bare.repository
    if not _is_id(repository.id):
        repository = replace(repository, id="")
    for most in (32, 16, 8, 4, 1):
        for length in (_SENTENCE, 128, 0):
            yield replace(_essence(bare, most, error[:length]), repository=repository)
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
        yield replace(_essence(bare, 1, ""), repository=kept)


def _said_once(report: RunReport) -> RunReport:
    """Return the report in which a host that failed like one before it only refers to that one."""
    first: dict[tuple[str, str], str] = {}
    hosts: list[HostReport] = []
    for host in report.hosts:
        if host.succeeded:
            hosts.append(host)
            continue
        # Errors name objects, which are named after their hosts: only in this do they differ.
        alike = re.sub(rf"\b{re.escape(host.hostname)}\b", "", host.error)
        other = first.setdefault((host.reason, alike), host.hostname)
        reference = f"same as {other}"
        is_repeated = other != host.hostname and len(reference) < len(host.error)
        hosts.append(replace(host, error=reference) if is_repeated else host)
    return replace(report, hosts=tuple(hosts))


def _fewer(report: RunReport) -> Iterator[RunReport]:
    """Return the report with fewer and fewer of its hosts, the first ones."""
    most = len(report.hosts)
    while most > 1:
        most //= 2
        conditions = (*report.conditions, _left_out(report))
        yield replace(report, hosts=report.hosts[:most], conditions=conditions)


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
                incomplete=host.incomplete[: max(cut.text, _WARNING)],
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


def _essence(report: RunReport, most: int, error: str) -> RunReport:
    """Return the first host that failed, with its error, else the first; and some snapshots."""
    failed = [host for host in report.hosts if not host.succeeded]
    text = f"{len(failed)} of {len(report.hosts)} hosts failed"
    if error:
        text = f"{text}: {error}" if len(report.hosts) > 1 else error
    hosts = tuple(
        replace(
            host,
            hostname=_plain(host.hostname),
            reason=_plain(host.reason),
            error=text if failed else "",
            incomplete=_plain(host.incomplete),
            snapshots=tuple(item for item in host.snapshots if _is_id(item.id))[:most],
        )
        for host in (failed or report.hosts)[:1]
    )
    return RunReport(hosts, conditions=(_left_out(report),))


def _left_out(report: RunReport) -> ConditionReport:
    count = sum(len(host.snapshots) for host in report.hosts)
    text = f"the report of {len(report.hosts)} hosts and {count} snapshots was too long"
    return ConditionReport(REPORT_CUT, "True", "TooLong", text)


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
