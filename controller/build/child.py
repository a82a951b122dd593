"""Objects that we create for another object: metadata, ownership, and the hash of the intent."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from controller.api.objects import Obj, name_of, namespace_of, uid_of
from controller.api.resources import Resource
from controller.build.labels import SPEC_HASH

_HASH_LENGTH = 16


def owner_reference(resource: Resource, obj: Obj) -> dict[str, Any]:
    """Return the reference of a child to its controller.

    Kind and version come from our table: the items of a list carry neither.
    """
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": name_of(obj),
        "uid": uid_of(obj),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def child(
    resource: Resource,
    name: str,
    owner: tuple[Resource, Obj],
    *,
    labels: Mapping[str, str],
    body: Obj,
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return an object in its owner's namespace, with the hash of everything that it says."""
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": namespace_of(owner[1]),
        "labels": dict(labels),
        "annotations": dict(annotations or {}),
        "ownerReferences": [owner_reference(*owner)],
    }
    obj = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": metadata,
        **body,
    }
    return with_hash(obj)


def with_hash(obj: dict[str, Any]) -> dict[str, Any]:
    """Return the object with the annotation `drey.dev/spec-hash`: equal intents, equal hashes."""
    text = json.dumps(obj, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]
    metadata = obj["metadata"]
    annotations = {**metadata.get("annotations", {}), SPEC_HASH: digest}
    return {**obj, "metadata": {**metadata, "annotations": annotations}}
