"""Specs are parsed strictly."""

import pytest
from pydantic import ValidationError

from controller.api.backup import BackupConfigurationSpec
from controller.api.catalog import FunctionSpec, TaskSpec
from controller.api.model import Problem, parse_spec

RETENTION = {"name": "keep", "prune": True}


def test_every_problem_is_found_with_its_path() -> None:
    """A user sees all mistakes at once, each with the path to it."""
    spec = {
        "retentionPolicy": {"name": "keep", "prune": "yes"},
        "task": {"params": [{"name": "a", "value": "b"}, {"name": "c"}]},
        "target": {"exclude": "x"},
    }
    found = parse_spec(BackupConfigurationSpec, {"spec": spec})
    assert isinstance(found, tuple)
    assert {problem.path for problem in found} == {
        "spec.retentionPolicy.prune",
        "spec.task.params[1].value",
        "spec.target.exclude",
    }
    assert all(problem.message for problem in found)


def test_unknown_fields_are_ignored_and_names_are_camel_case() -> None:
    """Fields that we do not read cannot hurt; ours have their published names."""
    spec = {
        "retentionPolicy": {**RETENTION, "keepLast": 3, "future": 1},
        "timeOut": "1h",
        "backupHistoryLimit": 7,
        "runtimeSettings": {"pod": {"tolerations": [{"operator": "Exists"}]}},
    }
    found = parse_spec(BackupConfigurationSpec, {"spec": spec})
    assert isinstance(found, BackupConfigurationSpec)
    assert found.retention_policy.keep_last == 3
    assert found.time_out == "1h"
    assert found.history_limit == 7
    assert found.runtime_settings.pod == {"tolerations": ({"operator": "Exists"},)}


def test_a_missing_spec_is_an_empty_one() -> None:
    """`spec` is optional in every published kind."""
    assert parse_spec(TaskSpec, {}) == TaskSpec()
    assert parse_spec(FunctionSpec, {"spec": None}) == FunctionSpec()
    found = parse_spec(BackupConfigurationSpec, {})
    assert isinstance(found, tuple)
    assert [problem.path for problem in found] == ["spec.retentionPolicy"]


def test_models_are_frozen() -> None:
    """A parsed spec is shared between threads: nobody may change it."""
    with pytest.raises(ValidationError, match="frozen"):
        TaskSpec().steps = ()


def test_a_problem_reads_as_path_and_message() -> None:
    """This is what stands in conditions."""
    assert str(Problem("spec.x", "give a y")) == "spec.x: give a y"
