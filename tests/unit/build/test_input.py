"""What the containers of our image are told."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.job_input import JobInput, Retention
from controller.build.input import (
    environment_variable,
    job_input,
    named_environment_variable,
    report_bytes,
)
from controller.build.order import JobOrder
from tests.support.orders import TARGET, backup_order, restore_order


def told(order: JobOrder, **changes: Any) -> JobInput:
    """Return what the only container of a Job is told."""
    arguments: dict[str, Any] = {
        "containers": 1,
        "settings": {},
        "owns_retention": True,
        **changes,
    }
    return job_input(order, **arguments)


@pytest.mark.parametrize(("containers", "wanted"), [(1, 4096), (3, 4096), (4, 3072), (10, 1228)])
def test_report_budget(containers: int, wanted: int) -> None:
    """All containers of a pod share what the kubelet keeps (D11)."""
    assert report_bytes(containers) == wanted


def test_backup() -> None:
    """A backup is told what, where to, and what to keep."""
    target = {**TARGET, "exclude": ["*.tmp"], "args": ["--no-scan"]}
    order = backup_order(
        spec={"target": target, "timeOut": "1h30m"},
        repository_id="ab" * 32,
        claim_untagged=True,
        verify=True,
        damaged=True,
        accept_incomplete=True,
    )
    found = told(order)
    assert found.backup is not None
    assert found.restore is None
    assert found.backup.paths == ("/stash-data",)
    assert found.backup.config_tag == "drey:config=demo/nightly"
    assert found.backup.target_tag == "drey:target=PersistentVolumeClaim/demo/data"
    assert found.backup.exclude == ("*.tmp",)
    assert found.backup.args == ("--no-scan",)
    assert found.backup.retention == Retention(keep_last=5, prune=True)
    assert (found.backup.claim_untagged, found.backup.verify) == (True, True)
    assert found.backup.damaged
    assert found.backup.accept_incomplete
    assert found.deadline == "2026-01-02T04:34:05Z"
    assert found.session_created == "2026-01-02T03:04:05Z"
    assert found.repository.id == "ab" * 32
    assert found.metrics_group == "backupconfiguration-demo-nightly"
    assert found.metrics_labels == {
        "invoker_kind": "BackupConfiguration",
        "invoker_name": "nightly",
        "namespace": "demo",
        "driver": "Restic",
        "repository": "repo",
    }


def test_restore_takes_the_rule() -> None:
    """A restore is told which snapshots of which host belong where."""
    rules = [{"sourceHost": "old", "paths": ["/stash-data/a"], "include": ["i"], "exclude": ["e"]}]
    found = told(restore_order(spec={"target": {**TARGET, "rules": rules, "args": ["--verify"]}}))
    assert found.restore is not None
    assert found.backup is None
    assert found.restore.source_host == "old"
    assert found.restore.paths == ("/stash-data/a",)
    assert (found.restore.include, found.restore.exclude) == (("i",), ("e",))
    assert found.restore.args == ("--verify",)
    assert found.deadline == ""


@pytest.mark.parametrize(
    ("rules", "snapshots", "paths"),
    [
        ([], (), ("/stash-data",)),
        ([{"exclude": ["x"]}], (), ("/stash-data",)),
        ([{"snapshots": ["latest"]}], ("latest",), ()),
    ],
)
def test_a_restore_always_restores_something(
    rules: list[dict[str, Any]], snapshots: tuple[str, ...], paths: tuple[str, ...]
) -> None:
    """A rule without snapshots and paths means the newest of the volume, never nothing."""
    found = told(restore_order(spec={"target": {**TARGET, "rules": rules}}))
    assert found.restore is not None
    assert (found.restore.snapshots, found.restore.paths) == (snapshots, paths)


def test_only_a_working_backup_may_initialise() -> None:
    """Nobody but a backup creates a repository (D2)."""
    assert told(backup_order(may_initialise=True)).repository.may_initialise
    assert not told(backup_order(may_initialise=True), does_work=False).repository.may_initialise
    assert not told(restore_order(may_initialise=True)).repository.may_initialise
    assert not told(backup_order()).repository.may_initialise


def test_a_later_step_owns_retention_and_verification() -> None:
    """What a later step does is not done twice (D16)."""
    found = told(backup_order(verify=True, damaged=True), owns_retention=False)
    assert found.backup is not None
    assert (found.backup.retention, found.backup.verify) == (None, False)
    assert not found.backup.damaged


def test_nice_settings() -> None:
    """Priorities of CPU and disk are the runner's to set."""
    settings = {"nice": {"adjustment": 5}, "ionice": {"class": 2, "classData": 7}}
    found = told(backup_order(), settings=settings)
    assert (found.nice, found.ionice_class, found.ionice_level) == (5, 2, 7)
    assert told(backup_order()).nice is None


def kubelet(value: str) -> str:
    """Do to a value what the kubelet does: `$$` becomes `$`, `$(A)` the value of A."""
    return value.replace("$(A)", "<A>").replace("$$", "$")


@given(st.text())
def test_the_document_survives_the_kubelet(pattern: str) -> None:
    """Dollars in a user's patterns reach the runner as they were written."""
    target = {**TARGET, "exclude": [pattern, "$(A)", "$$", "${B}"]}
    variable = environment_variable(told(backup_order(spec={"target": target})))
    assert variable["name"] == "DREY_INPUT"
    found = JobInput.decode(kubelet(variable["value"])).backup
    assert found is not None
    assert found.exclude == (pattern, "$(A)", "$$", "${B}")


def test_dollars_are_written_as_jsons_escape() -> None:
    """No dollar is left for the kubelet to see."""
    variable = named_environment_variable("X", json.dumps({"a": "$(B)"}))
    assert variable == {"name": "X", "value": '{"a": "\\u0024(B)"}'}
