"""The claims of a RestoreSession: its templates, ordinal by ordinal (flow B, stash.md 4.5)."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from controller.api.claim_templates import claims_of as expanded
from controller.api.claim_templates import source_of
from controller.api.creation import SESSION_NAME, SESSION_UID, CreationInput, NewObject
from controller.api.objects import Obj, dig, name_of, namespace_of, uid_of
from controller.api.resources import PVC, RESTORE_SESSION, VOLUME_SNAPSHOT
from controller.api.restore import RestoreSessionSpec
from controller.api.text import format_time
from controller.build.labels import (
    CREATED_BY,
    INVOKER_NAME,
    INVOKER_TYPE,
    RESTORE,
    child_labels,
)

TARGET_HASH = "drey.dev/target-hash"
"""Annotation of the Job of a restore: a hash of the `spec.target` that it makes claims of."""
TEMPLATES = "spec.target.volumeClaimTemplates"
FILESYSTEM = "Filesystem"
_OURS = frozenset({CREATED_BY, INVOKER_NAME, INVOKER_TYPE, SESSION_UID})
"""Labels by which the claims of a session are found: a template cannot give them."""
_BINDING = ("pv.kubernetes.io/", "volume.kubernetes.io/", "volume.beta.kubernetes.io/")
"""Annotations in which Kubernetes keeps how a claim was bound. In a template that was copied from a
claim they would make the new one Lost, or have no provisioner care for it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim to be made from a VolumeSnapshot of its namespace. Its name is the host's.

    `path` is where its template stands. `metadata` has labels and annotations only: an owner that a
    copied template names may be gone, and the claim with it. `size` is empty for that of the
    snapshot, `storage_class` for the default one.
    """

    name: str
    snapshot: str
    path: str
    metadata: Obj
    spec: Obj

    @property
    def size(self) -> str:
        """Return the size that is asked for."""
        size = dig(self.spec, "resources", "requests", "storage")
        return "" if size is None else str(size)

    @property
    def storage_class(self) -> str:
        """Return the StorageClass that is named."""
        return str(self.spec.get("storageClassName") or "")

    @property
    def volume_mode(self) -> str:
        """Return Filesystem, which is Kubernetes' default, or Block."""
        return str(self.spec.get("volumeMode") or FILESYSTEM)


def claims_of(spec: RestoreSessionSpec) -> tuple[Claim, ...]:
    """Return the claims of a spec without problems: outer loop ordinals, inner loop templates."""
    templates = spec.target.volume_claim_templates if spec.target else ()
    replicas = spec.target.replicas if spec.target else None
    return tuple(
        _claim(raw, f"{TEMPLATES}[{number % len(templates)}]")
        for number, raw in enumerate(expanded(templates, replicas))
    )


def target_hash(session: Obj) -> str:
    """Return a hash of `spec.target`: a Job that was built from another makes other claims."""
    text = json.dumps(dig(session, "spec", "target"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def claim_input(
    session: Obj,
    claims: Sequence[Claim],
    sizes: Mapping[str, str],
    deadline: datetime | None,
) -> CreationInput:
    """Return what the Job of a restore is told.

    `sizes` are the restoreSizes by VolumeSnapshot, for the claims that do not say theirs. There is
    no fallback suffix: the name is the user's wish, and a foreign namesake a failure.
    """
    common = {
        "apiVersion": PVC.api_version,
        "kind": PVC.kind,
        "metadata": {
            "labels": {
                **child_labels(RESTORE, RESTORE_SESSION.kind, session),
                SESSION_UID: uid_of(session),
            },
            "annotations": {SESSION_NAME: name_of(session)},
        },
    }
    return CreationInput(
        group=PVC.group,
        version=PVC.version,
        kind=PVC.kind,
        plural=PVC.plural,
        namespace=namespace_of(session),
        session_uid=uid_of(session),
        common=common,
        objects=tuple(NewObject(claim.name, _body(claim, sizes)) for claim in claims),
        deadline=format_time(deadline) if deadline is not None else "",
    )


def _claim(raw: Obj, path: str) -> Claim:
    spec = dict(raw["spec"])
    for field in ("dataSource", "dataSourceRef"):
        if given := spec.pop(field, None):  # an empty one names nothing: it is as good as none
            source = {key: value for key, value in given.items() if key != "namespace"}
            spec[field] = {"apiGroup": VOLUME_SNAPSHOT.group, **source}
    spec["accessModes"] = spec.get("accessModes") or ["ReadWriteOnce"]
    labels = dig(raw, "metadata", "labels") or {}
    annotations = dig(raw, "metadata", "annotations") or {}
    return Claim(
        name=str(raw["metadata"]["name"]),
        snapshot=str(source_of(raw)["name"]),
        path=path,
        metadata={
            "labels": {key: value for key, value in labels.items() if key not in _OURS},
            "annotations": {
                key: value
                for key, value in annotations.items()
                if not key.startswith(_BINDING) and key != SESSION_NAME
            },
        },
        spec=spec,
    )


def _body(claim: Claim, sizes: Mapping[str, str]) -> Obj:
    resources = claim.spec.get("resources") or {}
    requests = resources.get("requests") or {}
    size = claim.size or sizes.get(claim.snapshot, "")
    return {
        "metadata": {
            "name": claim.name,
            **{key: value for key, value in claim.metadata.items() if value},
        },
        "spec": {
            **claim.spec,
            "resources": {**resources, "requests": {**requests, "storage": size}},
        },
    }
