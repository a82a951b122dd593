"""Stash's metric names, labels and what is left out after a failure (stash.md section 8)."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from controller.api.job_input import (
    ENVIRONMENT_VARIABLE,
    Invoker,
    JobInput,
    RepositoryInput,
    Target,
)
from controller.api.metrics import exposition
from controller.api.report import (
    HostReport,
    Reason,
    RepositoryReport,
    RunReport,
    SnapshotReport,
    StepReport,
    StepState,
)
from controller.api.report_parsing import parse_report
from runner import metrics
from runner import report as report_module
from runner.execution import Execution
from runner.failure import RunError
from runner.log import Log
from runner.metrics import samples
from runner.redaction import Redactor
from runner.restic.process import Interruption
from runner.settings import Settings
from tests.support.gateway import serving

JOB = JobInput(
    session_kind="BackupSession",
    session_namespace="demo",
    session_name="s",
    session_created="1970-01-01T00:00:00Z",
    invoker=Invoker("BackupConfiguration", "demo", 'odd"\\\n'),
    target=Target("v1", "PersistentVolumeClaim", "demo", "data"),
    host="host-0",
    repository=RepositoryInput("repo", "stash", "s3", "s3:x", bucket="b", prefix="p"),
    metrics_labels={"team": "a"},
)
GOOD = RunReport(
    hosts=(
        HostReport(
            "host-0",
            succeeded=True,
            duration_s=2.5,
            snapshots=(
                SnapshotReport("a" * 64, "/1", 10, 1, 1.5, 4, 1, 1, 2),
                SnapshotReport("b" * 64, "/2", 5, 2, 0.5, 1, 1, 0, 0),
            ),
        ),
    ),
    repository=RepositoryReport(
        integrity=True, size_bytes=9, snapshots_kept=3, snapshots_removed=0
    ),
)
SESSION = {
    "team": "a", "invoker_kind": "BackupConfiguration", "invoker_name": 'odd"\\\n',
    "namespace": "demo", "driver": "Restic", "repository": "repo",
}  # fmt: skip
TARGET = {**SESSION, "kind": "PersistentVolumeClaim", "group": "", "name": "data"}
HOST = {**TARGET, "hostname": "host-0"}
REPOSITORY = {
    **SESSION, "name": "repo", "namespace": "stash", "backend": "s3", "bucket": "b", "prefix": "p"
}  # fmt: skip


def pushed(report: RunReport, job: JobInput = JOB) -> dict[str, tuple[dict[str, str], float]]:
    """Return labels and value of each sample, as an independent parser reads the text."""
    text = exposition(samples(report, job, now_s=1000.0, created_s=900.0))
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.type == "gauge"
        for sample in family.samples:
            found[sample.name] = (dict(sample.labels), sample.value)
    return found


def test_backup() -> None:
    """Every metric of a good backup under both names, with the labels of its level."""
    expected = {
        "duration_seconds": (SESSION, 100),
        "target_count_total": (SESSION, 1),
        "last_success_time_seconds": (SESSION, 1000),
        "success": (SESSION, 1),
        "target_success": (TARGET, 1),
        "target_host_count_total": (TARGET, 1),
        "target_last_success_time_seconds": (TARGET, 1000),
        "host_backup_success": (HOST, 1),
        "host_backup_duration_seconds": (HOST, 2.5),
        "host_data_size_bytes": (HOST, 15),
        "host_data_uploaded_bytes": (HOST, 3),
        "host_data_processing_time_seconds": (HOST, 2),
        "host_files_total": (HOST, 5),
        "host_files_new": (HOST, 2),
        "host_files_modified": (HOST, 1),
        "host_files_unmodified": (HOST, 2),
    }
    legacy = {"success": "session_success", "duration_seconds": "session_duration_seconds"}
    repository = {"integrity": 1, "size_bytes": 9, "snapshot_count": 3, "snapshot_cleaned": 0}
    assert pushed(GOOD) == {
        **{f"stash_appscode_com_backupsession_{name}": value for name, value in expected.items()},
        **{f"stash_backup_{legacy.get(name, name)}": value for name, value in expected.items()},
        **{
            f"{prefix}{name}": (REPOSITORY, value)
            for prefix in ("stash_appscode_com_repository_", "stash_repository_")
            for name, value in repository.items()
        },
    }


def test_failed_backup() -> None:
    """A failure pushes zeros only; what is left out keeps its old value in the gateway."""
    failed = RunReport(hosts=(HostReport("host-0", succeeded=False, reason="x"),))
    names = {name: value for name, (_, value) in pushed(failed).items()}
    assert names == {
        "stash_appscode_com_backupsession_success": 0,
        "stash_backup_session_success": 0,
        "stash_appscode_com_backupsession_target_success": 0,
        "stash_backup_target_success": 0,
        "stash_appscode_com_backupsession_host_backup_success": 0,
        "stash_backup_host_backup_success": 0,
    }


@pytest.mark.parametrize(
    ("report", "host_succeeded"),
    [
        (replace(GOOD, repository=RepositoryReport(integrity=False)), 1),
        (replace(GOOD, hosts=(replace(GOOD.hosts[0], snapshots=()),)), 0),
        (replace(GOOD, hosts=(replace(GOOD.hosts[0], snapshots=(SnapshotReport("x", "/1"),)),)), 0),
        (RunReport(hosts=()), None),
    ],
    ids=["damaged", "no snapshot", "no id", "no host"],
)
def test_a_session_that_will_fail_is_no_success(
    report: RunReport, host_succeeded: int | None
) -> None:
    """The controller ends it as Failed although its hosts say that they succeeded."""
    value = {name: value for name, (_, value) in pushed(report).items()}
    for prefix, success in (
        ("stash_appscode_com_backupsession_", "success"),
        ("stash_backup_", "session_success"),
    ):
        assert value[prefix + success] == value[prefix + "target_success"] == 0
        assert value.get(prefix + "host_backup_success") == host_succeeded
    assert not any("last_success" in name for name in value)


def test_a_restore_needs_no_snapshot_of_its_own() -> None:
    """Who restores something else than restic's snapshots names none."""
    report = RunReport(hosts=(HostReport("host-0", succeeded=True),))
    found = pushed(report, replace(JOB, session_kind="RestoreSession"))
    assert found["stash_restore_session_success"][1] == 1


def test_restore() -> None:
    """A good restore pushes success 1 and its duration, and nothing about the repository."""
    job = replace(JOB, session_kind="RestoreSession")
    names = {"target_count_total", "target_success", "target_host_count_total"} | {
        "host_restore_success", "host_restore_duration_seconds"
    }  # fmt: skip
    assert set(pushed(GOOD, job)) == {
        *(f"stash_appscode_com_restoresession_{name}" for name in names),
        *(f"stash_restore_{name}" for name in names),
        "stash_appscode_com_restoresession_success",
        "stash_appscode_com_restoresession_duration_seconds",
        "stash_restore_session_success",
        "stash_restore_session_duration_seconds",
    }
    assert pushed(GOOD, job)["stash_restore_session_success"][1] == 1


def test_group_of_the_target() -> None:
    """The API group of the target is a label, empty for core kinds."""
    target = Target("appcatalog.appscode.com/v1alpha1", "AppBinding", "demo", "db")
    found = pushed(GOOD, replace(JOB, target=target))
    labels = found["stash_backup_target_success"][0]
    assert (labels["kind"], labels["group"]) == ("AppBinding", "appcatalog.appscode.com")


def push(report: RunReport, job: JobInput) -> StepReport | None:
    """Push with a log that nobody reads."""
    return metrics.push(report, job, now_s=1000.0, created_s=900.0, log=Log(Redactor({})))


def test_without_a_gateway_nothing_is_pushed_or_claimed() -> None:
    """No URL: no request, and no step that a condition could speak of."""
    assert push(GOOD, JOB) is None


def test_a_push_that_is_refused_is_a_failed_step() -> None:
    """The step says where to and why; it never raises."""
    with serving() as gateway:
        job = replace(JOB, pushgateway_url=gateway.url, metrics_group="backupconfiguration-a-b")
        done = push(GOOD, job)
        gateway.status = 400
        refused = push(GOOD, job)
    assert done == StepReport(StepState.DONE)
    assert gateway.requests[0][:2] == ("POST", "/metrics/job/backupconfiguration-a-b")
    text = f"the metrics could not be pushed to {gateway.url}: HTTP status 400"
    assert refused == StepReport(StepState.FAILED, text)


@pytest.mark.parametrize(
    ("reason", "pushes"), [(Reason.INTERRUPTED, 0), (Reason.DEADLINE_EXCEEDED, 1)]
)
def test_an_interrupted_run_leaves_its_metrics_to_the_controller(
    tmp_path: Path, reason: Reason, pushes: int
) -> None:
    """Told to end, it cannot know whether its Job goes on, or whether the group is going."""
    with serving() as gateway:
        job = replace(JOB, pushgateway_url=gateway.url, metrics_group="g")
        settings = Settings.read(
            {
                "DREY_SECRET_DIR": str(tmp_path),
                "DREY_TERMINATION_LOG": str(tmp_path / "report"),
                ENVIRONMENT_VARIABLE: job.encode(),
            }
        )

        def act(_job: JobInput) -> RunReport:
            raise RunError(reason, "it ended")

        Execution(settings, Interruption())._reported(act)
    assert len(gateway.requests) == pushes
    report = parse_report((tmp_path / "report").read_text())
    assert report.hosts[0].reason == reason
    assert (report.metrics is not None) == bool(pushes)


@contextmanager
def dripping(seen: list[str], path: Path) -> Iterator[str]:
    """Serve one request, byte by byte for ever, and note what the report says meanwhile."""
    ended = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.recv(1 << 16)
            seen.append(path.read_text())
            while not ended.wait(0.05):
                connection.sendall(b"H")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        ended.set()
        thread.join()


def test_a_slow_gateway_does_not_hold_back_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report is there before the push, which has one deadline for all of it."""
    monkeypatch.setattr(metrics, "TIMEOUT_S", 0.5)
    seen: list[str] = []
    path = tmp_path / "report"
    with dripping(seen, path) as url:
        job = replace(JOB, pushgateway_url=url, metrics_group="g")
        environ = {
            "DREY_SECRET_DIR": str(tmp_path),
            "DREY_TERMINATION_LOG": str(path),
            ENVIRONMENT_VARIABLE: job.encode(),
        }
        started = time.monotonic()
        Execution(Settings.read(environ), Interruption())._reported(lambda _: GOOD)
        assert time.monotonic() - started < 5
    assert parse_report(seen[0]) == GOOD
    report = parse_report(path.read_text())
    assert report.metrics is not None
    assert report.metrics.state is StepState.FAILED
    assert "no answer within 0.5 s" in report.metrics.message


def test_a_report_over_a_longer_one(tmp_path: Path) -> None:
    """The second report covers the first one whole, within the same budget."""
    log = Log(Redactor({}), write=lambda _: None)
    path = tmp_path / "report"
    failed = replace(GOOD, hosts=(HostReport("h", succeeded=False, error="x" * 500),))
    report_module.write(failed, path, 4096, log)
    longer = path.stat().st_size
    report_module.write(GOOD, path, 4096, log)
    assert parse_report(path.read_text()) == GOOD
    assert path.stat().st_size == longer


def test_a_bug_in_the_metrics_is_a_failed_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics never decide an outcome, whatever breaks in them."""

    def broken(_samples: object) -> str:
        raise KeyError("nonsense")

    monkeypatch.setattr(metrics, "exposition", broken)
    done = push(GOOD, replace(JOB, pushgateway_url="http://127.0.0.1:1"))
    assert done is not None
    assert done.state is StepState.FAILED
