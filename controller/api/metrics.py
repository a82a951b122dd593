"""Stash's metrics of sessions and repositories: names, labels, values and text (stash.md 8.1-8.4).

One implementation for whoever knows the values: the runner at the end of its Job, the controller
for a Job that could not, and the controller's own `/metrics`. Standard library only (D31).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from controller.api.job_input import Invoker, RepositoryInput, Target
from controller.api.report import HostReport, RepositoryReport

CONTENT_TYPE = "text/plain; version=0.0.4"
_SESSION = {
    "backup": ("stash_appscode_com_backupsession_", "stash_backup_"),
    "restore": ("stash_appscode_com_restoresession_", "stash_restore_"),
}
_REPOSITORY = ("stash_appscode_com_repository_", "stash_repository_")

RESTIC, SNAPSHOTTER = "Restic", "VolumeSnapshotter"
_CLAIM = {"kind": "PersistentVolumeClaim", "group": ""}

Sample = tuple[str, Mapping[str, str], float]
"""Name, labels and value. All are gauges."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose metrics: what all labels are made of. `user_labels` never hide one of ours.

    With the driver VolumeSnapshotter there is no repository, and each host is a claim. A restore of
    it has no target but the claims that it makes: the target is empty then.
    """

    invoker: Invoker
    target: Target
    repository: str
    is_restore: bool
    driver: str = RESTIC
    user_labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, str]:
        """Return the labels of the session level."""
        return {
            **self.user_labels,
            "invoker_kind": self.invoker.kind,
            "invoker_name": self.invoker.name,
            "namespace": self.invoker.namespace,
            "driver": self.driver,
            **(_CLAIM if self.driver == SNAPSHOTTER else {"repository": self.repository}),
        }

    @property
    def target_labels(self) -> dict[str, str]:
        """Return the labels of the target level; the API group of core kinds is empty."""
        if self.driver == SNAPSHOTTER and not self.target.kind:
            return {**self.labels, **_CLAIM, "name": ""}
        version = self.target.api_version
        group = version.partition("/")[0] if "/" in version else ""
        return {
            **self.labels,
            "kind": self.target.kind,
            "group": group,
            "name": self.target.name,
        }


def session_samples(
    subject: Subject,
    hosts: Sequence[HostReport],
    *,
    duration_s: float,
    ended_s: float,
    succeeded: bool,
) -> Iterator[Sample]:
    """Yield the samples of a session that ended, under the current and the legacy name.

    `succeeded` is what its phase says, or will say: a session may fail although all its hosts
    succeeded. It never succeeds without them.
    `duration_s` runs from the session's creation, `ended_s` is Unix time. What is not known after a
    failure is left out, so that the gateway keeps the old value.
    """
    verb = "restore" if subject.is_restore else "backup"
    current, legacy = _SESSION[verb]
    succeeded = succeeded and bool(hosts) and all(host.succeeded for host in hosts)
    session, target = subject.labels, subject.target_labels

    def both(name: str, labels: Mapping[str, str], value: float) -> Iterator[Sample]:
        yield current + name, labels, value
        yield legacy + name, labels, value

    yield current + "success", session, float(succeeded)
    yield legacy + "session_success", session, float(succeeded)
    yield from both("target_success", target, float(succeeded))
    if succeeded:
        yield current + "duration_seconds", session, duration_s
        yield legacy + "session_duration_seconds", session, duration_s
        yield from both("target_count_total", session, 1)
        yield from both("target_host_count_total", target, len(hosts))
        if verb == "backup":
            yield from both("last_success_time_seconds", session, ended_s)
            yield from both("target_last_success_time_seconds", target, ended_s)
    for host in hosts:
        measured = subject.driver == RESTIC and not subject.is_restore
        for name, value in _host(host, verb, measured=measured):
            yield from both(name, {**target, "hostname": host.hostname}, value)


def repository_samples(
    subject: Subject, repository: RepositoryInput, learned: RepositoryReport
) -> Iterator[Sample]:
    """Yield what a backup learned about its repository; unknown values are left out."""
    labels = {
        **subject.labels,
        "name": repository.name,
        "namespace": repository.namespace,
        "backend": repository.provider,
    }
    if repository.bucket:
        labels["bucket"] = repository.bucket
    if repository.prefix:
        labels["prefix"] = repository.prefix
    known = (
        ("integrity", None if learned.integrity is None else int(learned.integrity)),
        ("size_bytes", learned.size_bytes),
        ("snapshot_count", learned.snapshots_kept),
        ("snapshot_cleaned", learned.snapshots_removed),
    )
    for name, value in known:
        if value is not None:
            for prefix in _REPOSITORY:
                yield prefix + name, labels, value


def exposition(values: Iterable[Sample]) -> str:
    """Return the Prometheus text format: samples of one name stand together."""
    families: dict[str, list[str]] = {}
    for name, labels, value in values:
        pairs = ",".join(f'{key}="{_escape(text)}"' for key, text in sorted(labels.items()))
        families.setdefault(name, []).append(f"{name}{{{pairs}}} {value!r}")
    return "".join(
        f"# TYPE {name} gauge\n" + "\n".join(lines) + "\n" for name, lines in families.items()
    )


def _host(host: HostReport, verb: str, *, measured: bool) -> Iterator[tuple[str, float]]:
    yield f"host_{verb}_success", float(host.succeeded)
    if not host.succeeded:
        return
    yield f"host_{verb}_duration_seconds", host.duration_s
    if not measured:
        return
    of = host.snapshots
    yield "host_data_size_bytes", sum(item.total_bytes for item in of)
    yield "host_data_uploaded_bytes", sum(item.uploaded_bytes for item in of)
    yield "host_data_processing_time_seconds", sum(item.processing_s for item in of)
    yield "host_files_total", sum(item.files_total for item in of)
    yield "host_files_new", sum(item.files_new for item in of)
    yield "host_files_modified", sum(item.files_modified for item in of)
    yield "host_files_unmodified", sum(item.files_unmodified for item in of)


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
