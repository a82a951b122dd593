"""Tasks of several steps: a step writes `output.json`, `update-status` reports (D16)."""

import json
from dataclasses import replace
from typing import Any

from controller.api.job_input import JobInput, Retention
from controller.api.report import Reason, StepState
from tests.support.runner import Place


def keeping(job: JobInput) -> JobInput:
    """Return the job with retention and verification."""
    assert job.backup is not None
    return replace(job, backup=replace(job.backup, retention=Retention(keep_last=1), verify=True))


def third_party(place: Place, **stat: Any) -> str:
    """Write what an ordinary image with a shell script writes, and return the folder."""
    folder = place.root / "output"
    folder.mkdir(exist_ok=True)
    entry = {"hostname": "host-0", "phase": "Succeeded", "duration": "3.98s", **stat}
    document = {"targetStatus": {"stats": [entry]}}
    (folder / "output.json").write_text(json.dumps(document))
    return str(folder)


def test_backup_then_update_status(place: Place) -> None:
    """`backup --output-dir` only backs up; `update-status` retains, verifies and reports."""
    folder = str(place.root / "output")
    for _ in range(2):
        first = place.run("backup", "--output-dir", folder, job=keeping(place.job()))
        assert (first.code, first.report) == (0, None)
    assert first.verbs() == ["backup"]
    run = place.run("update-status", "--output-dir", folder, job=keeping(place.job()))
    assert (run.code, run.verbs()) == (0, ["cat", "check", "forget", "forget", "stats"])
    assert run.report is not None
    assert run.report.repository.snapshots_removed == 1
    assert run.report.repository.integrity is True
    assert len(run.report.repository.id) == 64
    assert [item["id"] for item in place.snapshots()] == [run.host.snapshots[0].id]
    assert run.host.snapshots[0].total_bytes == 8


def test_failed_step_still_reports(place: Place) -> None:
    """A failed backup step exits with 0 so that `update-status` runs, and reports its reason."""
    folder = str(place.root / "output")
    place.run("backup", job=place.job())
    place.secret = {"RESTIC_PASSWORD": b"wrong"}
    assert place.run("backup", "--output-dir", folder, job=keeping(place.job())).code == 0
    run = place.run("update-status", "--output-dir", folder, job=keeping(place.job()))
    assert (run.code, run.host.reason, run.verbs()) == (1, Reason.WRONG_PASSWORD, [])
    assert run.report is not None
    assert run.report.retention is None


def test_third_party_backup(place: Place) -> None:
    """A third party's success is reported, with retention of the repository."""
    place.run("backup", job=place.job())
    folder = third_party(place, snapshots=[{"name": "1a2b3c4d", "path": "dump.sql"}])
    run = place.run("update-status", "--output-dir", folder, job=keeping(place.job()))
    assert run.code == 0
    assert run.host.duration_s == 3.98
    assert run.report is not None
    assert run.report.retention is not None
    assert run.report.retention.state is StepState.DONE


def recorded(job: JobInput, repository_id: str) -> JobInput:
    """Return the job of a Repository whose id is recorded."""
    return replace(job, repository=replace(job.repository, id=repository_id))


def test_ids_of_a_third_party_are_not_recorded(place: Place) -> None:
    """Repository and initialisation are as our own process finds them, whatever a step writes."""
    folder = str(place.root / "output")
    place.run("backup", "--output-dir", folder, job=place.job())
    file = place.root / "output" / "output.json"
    raw = json.loads(file.read_text())
    own = raw["drey"]["repository"]["id"]
    raw["drey"]["repository"]["id"] = "ef" * 32
    file.write_text(json.dumps(raw))
    run = place.run("update-status", "--output-dir", folder, job=place.job())
    assert run.report is not None
    assert (run.report.repository.id, run.report.repository.initialised) == (own, False)
    known = recorded(place.job(), own)
    nothing_to_do = place.run("update-status", "--output-dir", folder, job=known)
    assert nothing_to_do.report is not None
    assert (nothing_to_do.report.repository.id, nothing_to_do.verbs()) == ("", [])


def test_nothing_is_removed_from_another_repository(place: Place) -> None:
    """The id is asked for before retention; what the steps reported stays readable (D2)."""
    folder = str(place.root / "output")
    for _ in range(2):
        first = place.run("backup", "--output-dir", folder, job=place.job())
    assert first.code == 0
    job = recorded(keeping(place.job()), "0" * 64)
    run = place.run("update-status", "--output-dir", folder, job=job)
    assert (run.code, run.verbs()) == (1, ["cat"])
    assert run.host.reason == Reason.REPOSITORY_VANISHED
    assert len(run.host.snapshots) == 1
    assert len(place.snapshots()) == 2


def test_a_backend_that_is_lost_meanwhile(place: Place) -> None:
    """Retention that cannot be done is a failed step; the backup's own report stays."""
    folder = str(place.root / "output")
    backup = place.run("backup", "--output-dir", folder, job=place.job())
    assert backup.code == 0
    place.secret = {}
    run = place.run("update-status", "--output-dir", folder, job=keeping(place.job()))
    assert (run.code, run.host.succeeded, len(run.host.snapshots)) == (0, True, 1)
    assert run.report is not None
    assert run.report.retention is not None
    assert run.report.retention.state is StepState.FAILED
    assert "RESTIC_PASSWORD" in run.report.retention.message


def test_third_party_failure(place: Place) -> None:
    """A third party's failure is StepFailed with its own words; nothing is forgotten."""
    folder = third_party(place, phase="Failed", error="the database is down")
    run = place.run("update-status", "--output-dir", folder, job=keeping(place.job()))
    assert (run.code, run.host.reason) == (1, Reason.STEP_FAILED)
    assert run.host.error == "the database is down"
    assert run.verbs() == []


def test_third_party_restore(place: Place) -> None:
    """A restore is reported likewise, and never touches the repository."""
    run = place.run("update-status", "--output-dir", third_party(place), job=place.restore_job())
    assert (run.code, run.host.succeeded, run.verbs()) == (0, True, [])


def test_missing_and_malformed_output(place: Place) -> None:
    """A step that wrote nothing, or nonsense, fails the session with the file's name."""
    folder = place.root / "output"
    folder.mkdir()
    missing = place.run("update-status", "--output-dir", str(folder), job=place.job())
    assert missing.host.reason == Reason.STEP_FAILED
    (folder / "output.json").write_text("nonsense")
    malformed = place.run("update-status", "--output-dir", str(folder), job=place.job())
    assert malformed.host.reason == Reason.OUTPUT_INVALID
    assert str(folder / "output.json") in malformed.host.error


def test_usage(place: Place) -> None:
    """A missing folder or verb is a usage error with exit code 2."""
    assert place.run("update-status", job=place.job()).code == 2
    assert place.run(job=place.job()).code == 2
