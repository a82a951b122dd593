"""Metrics of our kinds, computed from the caches when somebody scrapes (D29; stash.md 8.2-8.5).

What is pushed is here too, under the same names and labels, as far as statuses hold it: of each
invoker, for each metric, the newest session that would have pushed it. So there are as many series
as there are objects, and none outlives its object. Texts of statuses never become labels, save host
names.

Statuses are read leniently: one object that another operator wrote must not cost the whole scrape.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from controller.api.backup import host_of
from controller.api.conditions import Phase
from controller.api.job_input import Invoker, RepositoryInput, Target
from controller.api.metrics import (
    RESTIC,
    SNAPSHOTTER,
    Sample,
    Subject,
    repository_samples,
    session_samples,
)
from controller.api.model import parse_spec
from controller.api.objects import Key, Obj, dig, key_of, meta, name_of, namespace_of, status
from controller.api.report import HostReport, RepositoryReport, SnapshotReport
from controller.api.repository import RepositorySpec, repository_problems
from controller.api.text import (
    parse_go_duration_s,
    parse_processing_time_s,
    parse_size_bytes,
    parse_time,
)
from controller.build.backend import repository_input
from controller.observe.caches import Caches, by_repository, is_snapshotter

_PREFIX = "stash_appscode_com_"
_ENDED = (Phase.SUCCEEDED.value, Phase.FAILED.value)
_RESTORE_ENDED = (*_ENDED, Phase.UNKNOWN.value)
_HELP = "See the Stash API's metrics"


class StateCollector(Collector):
    """Everything about our kinds. Only the leader tells, so that sums over replicas are right."""

    def __init__(self, caches: Caches, *, leads: Callable[[], bool]) -> None:
        self._caches = caches
        self._leads = leads

    def collect(self) -> Iterable[Metric]:
        """Return one gauge for each name, all samples of it together."""
        families: dict[str, Metric] = {}
        for name, labels, value in self.samples() if self._leads() else ():
            family = families.get(name)
            if family is None:
                family = families[name] = Metric(name, _HELP, "gauge")
            # not copied: the samples of a level share their labels, which nobody changes
            family.add_sample(name, cast("dict[str, str]", labels), value)
        return families.values()

    def samples(self) -> Iterator[Sample]:
        """Yield all samples, in one pass over each kind."""
        sessions = tuple(self._caches.sessions.all())
        repositories = {str(key_of(found)): found for found in self._caches.repositories.all()}
        places = {key: _place(repository) for key, repository in repositories.items()}
        ended = _newest_ended(sessions)
        for repository in repositories.values():
            yield from _created("repository", repository, {"name": name_of(repository)})
        for configuration in self._caches.configurations.all():
            yield from _configuration_state(configuration)
            if history := ended.get(key_of(configuration)):
                yield from _pushed(configuration, history)
                used = next(iter(by_repository(configuration)), "")
                if is_snapshotter(configuration):
                    used = ""  # a Repository that it names all the same is not written to
                if place := places.get(used):
                    subject = _subject(configuration)
                    learned = _learned(status(repositories[used]))
                    yield from repository_samples(subject, place, learned)
        for session in sessions:
            yield from _session_state(session)
        for restore in self._caches.restores.all():
            yield from _restore_state(restore)
            if status(restore).get("phase") in _RESTORE_ENDED:
                yield from _pushed(restore, {str(status(restore)["phase"]): restore})


def _newest_ended(sessions: Iterable[Obj]) -> dict[Key, dict[str, Obj]]:
    """Return of each configuration the newest session of each phase that pushes."""
    found: dict[Key, dict[str, Obj]] = {}
    for session in sessions:
        phase = status(session).get("phase")
        if phase not in _ENDED or dig(session, "spec", "invoker", "kind") != "BackupConfiguration":
            continue
        key = Key(namespace_of(session), _text(session, "spec", "invoker", "name"))
        newest = found.setdefault(key, {})
        if phase not in newest or _age_key(session) > _age_key(newest[phase]):
            newest[phase] = session
    return found


def _age_key(obj: Obj) -> tuple[str, str]:
    return _text(obj, "metadata", "creationTimestamp"), name_of(obj)


def _pushed(invoker: Obj, newest: Mapping[str, Obj]) -> Iterator[Sample]:
    """Yield what the invoker's group in a Pushgateway holds.

    A push takes the place of the samples of its names only: what the newest session has not got,
    because it failed, is that of the newest one that succeeded.
    """
    families: dict[str, list[Sample]] = {}
    for session in sorted(newest.values(), key=_age_key):
        pushed: dict[str, list[Sample]] = {}
        for sample in _of_session(invoker, session):
            pushed.setdefault(sample[0], []).append(sample)
        families |= pushed
    for samples in families.values():
        yield from samples


def _of_session(invoker: Obj, session: Obj) -> Iterator[Sample]:
    duration_s = parse_go_duration_s(_text(session, "status", "sessionDuration")) or 0.0
    created_s = _created_s(session) or 0.0
    hosts = tuple(_hosts(session).values())
    if not hosts and not is_snapshotter(invoker):
        lost = HostReport(host_of(_text(invoker, "spec", "target", "alias")), succeeded=False)
        hosts = (lost,)
    return session_samples(
        _subject(invoker),
        hosts,
        duration_s=duration_s,
        ended_s=created_s + duration_s,
        succeeded=_phase(session) == Phase.SUCCEEDED,
    )


def _subject(invoker: Obj) -> Subject:
    kind, namespace = str(invoker.get("kind")), namespace_of(invoker)
    ref = ("spec", "target", "ref")
    return Subject(
        Invoker(kind, namespace, name_of(invoker)),
        Target(
            _text(invoker, *ref, "apiVersion"),
            _text(invoker, *ref, "kind"),
            _text(invoker, *ref, "namespace") or namespace,
            _text(invoker, *ref, "name"),
        ),
        _text(invoker, "spec", "repository", "name"),
        is_restore=kind == "RestoreSession",
        driver=SNAPSHOTTER if is_snapshotter(invoker) else RESTIC,
    )


def _hosts(session: Obj) -> dict[str, HostReport]:
    """Return what a status says of each host: of BackupSessions below the target."""
    stats = dig(session, "status", "targets", 0, "stats") or dig(session, "status", "stats")
    hosts = {}
    for entry in _objects(stats):
        hostname = _text(entry, "hostname")
        hosts[hostname] = HostReport(
            hostname,
            succeeded=entry.get("phase") == Phase.SUCCEEDED,
            duration_s=parse_go_duration_s(_text(entry, "duration")) or 0.0,
            snapshots=tuple(_snapshot(item) for item in _objects(entry.get("snapshots"))),
        )
    return hosts


def _snapshot(entry: Obj) -> SnapshotReport:
    return SnapshotReport(
        id="",
        path="",
        total_bytes=parse_size_bytes(_text(entry, "totalSize")) or 0,
        uploaded_bytes=parse_size_bytes(_text(entry, "uploaded")) or 0,
        processing_s=parse_processing_time_s(_text(entry, "processingTime")) or 0.0,
        files_total=_whole(entry, "fileStats", "totalFiles") or 0,
        files_new=_whole(entry, "fileStats", "newFiles") or 0,
        files_modified=_whole(entry, "fileStats", "modifiedFiles") or 0,
        files_unmodified=_whole(entry, "fileStats", "unmodifiedFiles") or 0,
    )


def _learned(of: Obj) -> RepositoryReport:
    integrity = of.get("integrity")
    return RepositoryReport(
        integrity=integrity if isinstance(integrity, bool) else None,
        size_bytes=parse_size_bytes(_text(of, "totalSize")),
        snapshots_kept=_whole(of, "snapshotCount"),
        snapshots_removed=_whole(of, "snapshotsRemovedOnLastCleanup"),
    )


def _place(repository: Obj) -> RepositoryInput | None:
    """Return what labels are made of, None for a Repository that cannot be used."""
    spec = parse_spec(RepositorySpec, repository)
    if isinstance(spec, tuple) or repository_problems(spec):
        return None
    return repository_input(repository, spec, repository_id="", may_initialise=False)


def _configuration_state(configuration: Obj) -> Iterator[Sample]:
    common = {"invoker_kind": "BackupConfiguration", "invoker_name": name_of(configuration)}
    yield from _created("backupconfiguration", configuration, common)
    where = {**common, "namespace": namespace_of(configuration)}
    info = {**where, **_plan_labels(configuration)}
    info["schedule"] = _text(configuration, "spec", "schedule")
    yield f"{_PREFIX}backupconfiguration_info", info, 1
    conditions = {
        _text(entry, "type"): _text(entry, "status")
        for entry in _objects(status(configuration).get("conditions"))
    }
    for kind, state in conditions.items():
        labels = {**where, "condition": kind, "status": state}
        yield f"{_PREFIX}backupconfiguration_conditions", labels, 1


def _session_state(session: Obj) -> Iterator[Sample]:
    labels = {
        "name": name_of(session),
        "invoker_api_group": _text(session, "spec", "invoker", "apiGroup"),
        "invoker_kind": _text(session, "spec", "invoker", "kind"),
        "invoker_name": _text(session, "spec", "invoker", "name"),
    }
    yield from _created("backupsession", session, labels)
    info = {**labels, "namespace": namespace_of(session), "phase": _phase(session)}
    yield f"{_PREFIX}backupsession_info", info, 1


def _restore_state(restore: Obj) -> Iterator[Sample]:
    common = {"invoker_kind": "RestoreSession", "invoker_name": name_of(restore)}
    yield from _created("restoresession", restore, common)
    info = {
        **common,
        **_plan_labels(restore),
        "namespace": namespace_of(restore),
        "phase": _phase(restore),
    }
    yield f"{_PREFIX}restoresession_info", info, 1


def _plan_labels(invoker: Obj) -> dict[str, str]:
    return {
        "driver": _text(invoker, "spec", "driver") or "Restic",
        "repository": _text(invoker, "spec", "repository", "name"),
        "target_api_version": _text(invoker, "spec", "target", "ref", "apiVersion"),
        "target_kind": _text(invoker, "spec", "target", "ref", "kind"),
        "target_name": _text(invoker, "spec", "target", "ref", "name"),
    }


def _created(kind: str, obj: Obj, labels: Mapping[str, str]) -> Iterator[Sample]:
    seconds = _created_s(obj)
    if seconds is not None:
        yield f"{_PREFIX}{kind}_created", {**labels, "namespace": namespace_of(obj)}, seconds


def _created_s(obj: Obj) -> float | None:
    try:
        return parse_time(str(meta(obj).get("creationTimestamp"))).timestamp()
    except ValueError:
        return None


def _phase(obj: Obj) -> str:
    """Return the phase; an object that nobody has looked at yet is Pending."""
    return _text(obj, "status", "phase") or Phase.PENDING.value


def _text(obj: Any, *path: str | int) -> str:
    value = dig(obj, *path)
    return value if isinstance(value, str) else ""


def _whole(obj: Any, *path: str | int) -> int | None:
    value = dig(obj, *path)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _objects(value: Any) -> Iterator[Obj]:
    """Yield the objects in a list, nothing of anything else."""
    for item in value if isinstance(value, list | tuple) else ():
        if isinstance(item, Mapping):
            yield item
