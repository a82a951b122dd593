"""The claims of a restore: from templates to what the Job is told."""

from datetime import datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from controller.api.creation import SESSION_NAME, SESSION_UID, CreationInput
from controller.api.model import parse_spec
from controller.api.restore import RestoreSessionSpec, restore_session_problems
from controller.build.claims import claim_input, claims_of, target_hash
from controller.build.labels import CREATED_BY
from tests.support.builders import NOW, before
from tests.support.claim_restores import claim_restore, claim_spec, template

SIZES = {"snap-0": "10Gi", "snap-1": "11Gi"}


def parsed(spec: dict[str, Any]) -> RestoreSessionSpec:
    """Return a spec that is valid."""
    found = parse_spec(RestoreSessionSpec, {"spec": spec})
    assert isinstance(found, RestoreSessionSpec)
    assert restore_session_problems(found, namespace="demo") == ()
    return found


def told(spec: dict[str, Any], deadline: datetime | None = NOW) -> CreationInput:
    """Return what the Job is told, as it reads it."""
    typed = parsed(spec)
    document = claim_input(claim_restore(spec=spec), claims_of(typed), SIZES, deadline)
    return CreationInput.decode(document.encode())


def test_ordinals_are_the_outer_loop() -> None:
    """As Stash has them; the path is that of the template."""
    spec = parsed(claim_spec(template("a-${POD_ORDINAL}"), template("b-${POD_ORDINAL}")))
    claims = claims_of(spec)
    assert [claim.name for claim in claims] == ["a-0", "b-0", "a-1", "b-1"]
    assert [claim.path[-3:] for claim in claims] == ["[0]", "[1]", "[0]", "[1]"]
    assert [claim.snapshot for claim in claims] == ["snap-0", "snap-0", "snap-1", "snap-1"]


def test_the_ordinal_stands_anywhere_in_a_text() -> None:
    """Also twice, in labels, annotations, and nothing else is expanded; keys are left alone."""
    raw = template(volumeAttributesClassName="gold-${POD_ORDINAL}")
    raw["metadata"] |= {
        "labels": {"app": "db", "pod": "db-${POD_ORDINAL}"},
        "annotations": {"k-${POD_ORDINAL}": "${POD_ORDINAL}/${POD_ORDINAL}", "x": "${OTHER}"},
    }
    one = told(claim_spec(raw)).objects[1]
    assert one.host == "data-1"
    assert one.body["metadata"] == {
        "name": "data-1",
        "labels": {"app": "db", "pod": "db-1"},
        "annotations": {"k-${POD_ORDINAL}": "1/1", "x": "${OTHER}"},
    }
    assert one.body["spec"]["volumeAttributesClassName"] == "gold-1"
    assert one.body["spec"]["dataSource"]["name"] == "snap-1"


def test_what_is_left_out_is_filled_in() -> None:
    """Size of the snapshot, ReadWriteOnce, apiGroup, one replica; no class stays no class."""
    source = {"kind": "VolumeSnapshot", "name": "snap-0"}
    raw = template("data", accessModes=None, storageClassName=None, dataSource=source)
    (one,) = told(claim_spec(raw, replicas=None)).objects
    assert one.body == {
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "dataSource": {"apiGroup": "snapshot.storage.k8s.io", **source},
            "resources": {"requests": {"storage": "10Gi"}},
        },
    }


def test_what_is_given_is_kept() -> None:
    """Size, as a number too; modes; the other field for the source."""
    source = {"kind": "VolumeSnapshot", "name": "snap-0", "namespace": "demo"}
    raw = template(
        "data",
        accessModes=["ReadWriteMany"],
        dataSource={},
        dataSourceRef=source,
        volumeMode="Block",
        resources={"limits": {"storage": "30Gi"}, "requests": {"storage": 21474836480}},
    )
    spec = claim_spec(raw, replicas=1)
    (claim,) = claims_of(parsed(spec))
    assert (claim.size, claim.volume_mode, claim.storage_class) == ("21474836480", "Block", "fast")
    body = told(spec).objects[0].body["spec"]
    assert body["accessModes"] == ["ReadWriteMany"]
    assert body["resources"] == {
        "limits": {"storage": "30Gi"},
        "requests": {"storage": "21474836480"},
    }
    assert "dataSource" not in body
    # A namespace would need a ReferenceGrant and a feature gate, even one's own.
    assert body["dataSourceRef"] == {
        "apiGroup": "snapshot.storage.k8s.io",
        "kind": "VolumeSnapshot",
        "name": "snap-0",
    }


def test_claims_are_found_again_whatever_the_template_says() -> None:
    """A template that was copied from a claim brings owners, bindings and labels of its past."""
    raw = template("data")
    raw["metadata"] |= {
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "u"}],
        "labels": {SESSION_UID: "old", CREATED_BY: "x", "app.kubernetes.io/managed-by": "Helm"},
        "annotations": {
            "pv.kubernetes.io/bind-completed": "yes",
            "volume.kubernetes.io/selected-node": "n",
            "volume.beta.kubernetes.io/storage-provisioner": "p",
            SESSION_NAME: "old",
            "mine": "stays",
        },
    }
    document = told(claim_spec(raw, replicas=1))
    (one,) = document.objects
    assert one.body["metadata"] == {
        "name": "data",
        "labels": {"app.kubernetes.io/managed-by": "Helm"},
        "annotations": {"mine": "stays"},
    }
    assert document.common["metadata"]["labels"][SESSION_UID] == "uid-of-bring-back"
    assert document.common["metadata"]["labels"][CREATED_BY] == "drey"
    assert document.common["metadata"]["annotations"] == {SESSION_NAME: "bring-back"}
    assert "ownerReferences" not in document.common["metadata"]


def test_the_job_is_told_whose_and_how_long() -> None:
    """No other name is tried for a claim: it is the user's wish."""
    document = told(claim_spec())
    assert (document.group, document.plural, document.namespace) == (
        "",
        "persistentvolumeclaims",
        "demo",
    )
    assert (document.session_uid, document.fallback_suffix) == ("uid-of-bring-back", "")
    assert document.deadline == before(0)
    assert told(claim_spec(), None).deadline == ""


def test_a_target_is_told_from_another_by_its_hash() -> None:
    """Whatever of it was edited; the rest of the spec may be."""
    known = target_hash(claim_restore())
    assert known == target_hash(claim_restore(spec=claim_spec(timeOut="5m")))
    others = [
        claim_spec(replicas=3),
        claim_spec(template("other-${POD_ORDINAL}")),
        claim_spec(template(storageClassName="slow")),
        {"driver": "VolumeSnapshotter"},
    ]
    hashes = {target_hash(claim_restore(spec=spec)) for spec in others}
    assert len(hashes | {known}) == 1 + len(others)


@given(st.integers(1, 40), st.integers(1, 4))
def test_every_claim_has_a_name_of_its_own(replicas: int, templates: int) -> None:
    """As many hosts as replicas times templates (stash.md 4.5)."""
    raw = [template(f"t{index}-${{POD_ORDINAL}}") for index in range(templates)]
    names = {claim.name for claim in claims_of(parsed(claim_spec(*raw, replicas=replicas)))}
    assert len(names) == replicas * templates


def test_an_empty_source_is_none() -> None:
    """Beside the other field it would make the API server refuse the claim."""
    raw = template("data-${POD_ORDINAL}")
    source = raw["spec"].pop("dataSource")
    raw["spec"] |= {"dataSource": {}, "dataSourceRef": source}
    body = told(claim_spec(raw)).objects[0].body
    assert "dataSource" not in body["spec"]
    assert body["spec"]["dataSourceRef"]["name"] == "snap-0"
