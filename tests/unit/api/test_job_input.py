"""What the controller tells a Job: equal values give equal documents, mistakes are named."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.job_input import (
    BackupInput,
    Invoker,
    JobInput,
    RepositoryInput,
    RestoreInput,
    Retention,
    Target,
)

TEXTS = st.text(max_size=20)
LISTS = st.lists(TEXTS, max_size=3).map(tuple)
NUMBERS = st.integers(min_value=0, max_value=1000)
INPUTS = st.builds(
    JobInput,
    session_kind=TEXTS,
    session_namespace=TEXTS,
    session_name=TEXTS,
    session_created=TEXTS,
    invoker=st.builds(Invoker, TEXTS, TEXTS, TEXTS),
    target=st.builds(Target, TEXTS, TEXTS, TEXTS, TEXTS),
    host=TEXTS,
    repository=st.builds(
        RepositoryInput, TEXTS, TEXTS, TEXTS, TEXTS, max_connections=NUMBERS, secret_name=TEXTS
    ),
    backup=st.none()
    | st.builds(
        BackupInput,
        paths=LISTS,
        config_tag=TEXTS,
        target_tag=TEXTS,
        args=LISTS,
        retention=st.none()
        | st.builds(Retention, keep_last=NUMBERS, keep_tags=LISTS, prune=st.booleans()),
        verify=st.booleans(),
    ),
    restore=st.none()
    | st.builds(RestoreInput, mount_path=TEXTS, target_tag=TEXTS, source_host=TEXTS, include=LISTS),
    nice=st.none() | st.integers(-20, 19),
    metrics_labels=st.dictionaries(TEXTS, TEXTS, max_size=3),
)


def sample() -> dict[str, Any]:
    """Return a valid document."""
    job = JobInput(
        session_kind="BackupSession",
        session_namespace="demo",
        session_name="s",
        session_created="2023-11-14T22:13:20Z",
        invoker=Invoker("BackupConfiguration", "demo", "b"),
        target=Target("v1", "PersistentVolumeClaim", "demo", "data"),
        host="host-0",
        repository=RepositoryInput("r", "demo", "local", "/r"),
        backup=BackupInput(("/p",), "c", "t"),
    )
    document: dict[str, Any] = json.loads(job.encode())
    return document


@given(INPUTS)
def test_round_trip(job: JobInput) -> None:
    """Decoding gives the value that was encoded, and encoding it again the same bytes."""
    text = job.encode()
    assert JobInput.decode(text) == job
    assert JobInput.decode(text).encode() == text


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("schema", 2, "schema 1 only"),
        ("host", 5, r"DREY_INPUT\.host: str is wanted"),
        ("nice", True, r"DREY_INPUT\.nice: int is wanted"),
        ("cache", 1, r"DREY_INPUT\.cache: bool is wanted"),
        ("surprise", 1, "DREY_INPUT: unknown surprise"),
        ("backup.paths", "/p", r"DREY_INPUT\.backup\.paths: a list is wanted"),
        ("backup.paths", [1], r"DREY_INPUT\.backup\.paths: str is wanted"),
        ("backup.retention", [], r"DREY_INPUT\.backup\.retention: an object is wanted"),
        ("metrics_labels", {"a": 1}, r"DREY_INPUT\.metrics_labels\.a: str is wanted"),
        ("repository", None, r"DREY_INPUT\.repository: an object is wanted"),
    ],
)
def test_mistakes_are_named(path: str, value: Any, said: str) -> None:
    """A wrong, unknown or foreign field is refused with its path."""
    document = sample()
    *parents, last = path.split(".")
    holder = document
    for parent in parents:
        holder = holder[parent]
    holder[last] = value
    with pytest.raises(ValueError, match=said):
        JobInput.decode(json.dumps(document))


def test_missing_field() -> None:
    """A missing field is named."""
    document = sample()
    del document["host"]
    with pytest.raises(ValueError, match="host"):
        JobInput.decode(json.dumps(document))


@given(st.text())
def test_anything_else_is_a_value_error(text: str) -> None:
    """No text raises anything but ValueError."""
    with pytest.raises(ValueError, match="DREY_INPUT"):
        JobInput.decode(text)


def test_deep_nesting_is_a_value_error() -> None:
    """Nesting deeper than the parser's stack is no crash."""
    with pytest.raises(ValueError, match="no JSON"):
        JobInput.decode("[" * 100_000)


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        (Retention(), False),
        (Retention(keep_tags=("",)), False),
        (Retention(keep_tags=(" ", ",", "\t, ")), False),
        (Retention(keep_tags=("", "keep")), True),
        (Retention(keep_last=-1), False),
        (Retention(keep_yearly=1), True),
    ],
)
def test_only_what_keeps_something_is_a_rule(
    rules: Retention,
    wanted: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """A tag without a name keeps nothing: taken for a rule it would let everything go (D6)."""
    assert rules.has_rule is wanted
