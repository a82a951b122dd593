"""Metadata of what we create for another object."""

from typing import Any

from controller.api.resources import BACKUP_SESSION, ROLE
from controller.build.child import child, with_hash
from tests.support.orders import obj

OWNER = obj("BackupSession", "s")


def role(**changes: Any) -> dict[str, Any]:
    """Return a Role for a session."""
    arguments: dict[str, Any] = {"labels": {"a": "b"}, "body": {"rules": []}, **changes}
    return child(ROLE, "r", (BACKUP_SESSION, OWNER), **arguments)


def test_owner_is_controller_and_blocks_deletion() -> None:
    """The owner's kind comes from our table: items of lists carry none."""
    bare = {key: value for key, value in OWNER.items() if key not in ("apiVersion", "kind")}
    found = child(ROLE, "r", (BACKUP_SESSION, bare), labels={}, body={})["metadata"]
    assert found["namespace"] == "demo"
    assert found["ownerReferences"] == [
        {
            "apiVersion": "stash.appscode.com/v1beta1",
            "kind": "BackupSession",
            "name": "s",
            "uid": "uid-of-s",
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def test_hash_changes_with_everything_that_is_said() -> None:
    """An unchanged intent has an unchanged hash, any change of it another one."""
    key = "drey.dev/spec-hash"
    plain = role()["metadata"]["annotations"][key]
    assert role()["metadata"]["annotations"][key] == plain
    others = [
        role(labels={"a": "c"}),
        role(annotations={"x": "y"}),
        role(body={"rules": [{"verbs": ["get"]}]}),
    ]
    hashes = {other["metadata"]["annotations"][key] for other in others}
    assert len(hashes) == len(others)
    assert plain not in hashes


def test_hash_does_not_change_its_argument() -> None:
    """The object that is handed in stays as it was."""
    given = {"metadata": {"name": "x"}, "spec": {}}
    with_hash(given)
    assert given == {"metadata": {"name": "x"}, "spec": {}}
