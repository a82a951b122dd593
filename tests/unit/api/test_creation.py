"""What Jobs that create objects or run hooks are told: documents that survive the way."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.creation import CreationInput, NewObject
from controller.api.hook_input import HookInput, HttpInput, TcpInput

TEXT = st.text(max_size=20)
BODIES = st.dictionaries(TEXT, st.recursive(TEXT | st.integers(), st.lists, max_leaves=3))
CREATIONS = st.builds(
    CreationInput,
    group=TEXT,
    version=TEXT,
    kind=TEXT,
    plural=TEXT,
    namespace=TEXT,
    session_uid=TEXT,
    common=BODIES,
    objects=st.lists(st.builds(NewObject, TEXT, BODIES), max_size=3).map(tuple),
    fallback_suffix=TEXT,
    deadline=TEXT,
    report_bytes=st.integers(0, 12288),
)
REQUESTS = st.builds(
    HttpInput,
    port=TEXT,
    path=TEXT,
    scheme=TEXT,
    host=TEXT,
    headers=st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple),
    is_post=st.booleans(),
    body=TEXT,
    form=st.dictionaries(TEXT, st.lists(TEXT, max_size=2).map(tuple), max_size=2),
)
HOOKS = st.builds(
    HookInput,
    hostname=TEXT,
    namespace=TEXT,
    label_selector=TEXT,
    claim=TEXT,
    container=TEXT,
    command=st.lists(TEXT, max_size=3).map(tuple),
    http_get=st.none() | REQUESTS,
    http_post=st.none() | REQUESTS,
    tcp=st.none() | st.builds(TcpInput, port=TEXT, host=TEXT),
    also_unready=st.booleans(),
    timeout_s=st.integers(0),
    report_bytes=st.integers(0),
)


@given(CREATIONS | HOOKS)
def test_round_trip(document: CreationInput | HookInput) -> None:
    """What is decoded equals what was encoded, with its own types all the way down."""
    assert type(document).decode(document.encode()) == document


@given(CREATIONS | HOOKS)
def test_equal_documents_give_equal_jobs(document: CreationInput | HookInput) -> None:
    """The text does not depend on the order in which somebody filled it in."""
    text = document.encode()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def test_hosts() -> None:
    """A Job that cannot even begin fails all that it is told to make."""
    creation = CreationInput.decode(json.dumps(WHOLE))
    assert creation.hostnames == ("data-0",)
    assert HookInput(hostname="app", namespace="demo").hostnames == ("app",)


WHOLE: dict[str, Any] = {
    "schema": 1,
    "group": "snapshot.storage.k8s.io",
    "version": "v1",
    "kind": "VolumeSnapshot",
    "plural": "volumesnapshots",
    "namespace": "demo",
    "session_uid": "u-1",
    "common": {},
    "objects": [{"host": "data-0", "body": {"metadata": {"name": "data-0-1"}}}],
}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"schema": 2}, "schema 1"),
        ({"objects": {}}, r"DREY_INPUT\.objects: a list"),
        ({"objects": [{"host": "a"}]}, r"DREY_INPUT\.objects"),
        ({"objects": [{"host": 1, "body": {}}]}, r"DREY_INPUT\.objects\.host: str"),
        ({"common": []}, r"DREY_INPUT\.common: an object"),
        ({"owner": "me"}, r"DREY_INPUT: unknown owner"),
        ({"session_uid": None}, r"DREY_INPUT\.session_uid: str"),
    ],
    ids=str,
)
def test_malformed(change: dict[str, Any], text: str) -> None:
    """An input that is not ours is refused with the path of what is wrong."""
    with pytest.raises(ValueError, match=text):
        CreationInput.decode(json.dumps(WHOLE | change))
