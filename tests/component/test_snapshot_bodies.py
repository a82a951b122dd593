"""The VolumeSnapshots that a Job is told to create, against the real definition, strictly."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from controller.api.creation import CreationInput
from controller.api.names import NAME_LIMIT
from controller.api.objects import dig, labels_of, name_of
from controller.api.resources import NAMESPACE, VOLUME_SNAPSHOT
from runner.creation import Creation
from runner.log import Log
from runner.redaction import Redactor
from tests.support import apiserver as support
from tests.support.apiserver import ApiServer
from tests.support.clients import patient_client
from tests.support.snapshot_orders import snapshot_document

DRY = "dry"
"""A namespace in which nothing is created."""
CLAIM = {"ref": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "a"}}
DOCUMENTS = {
    "plain": snapshot_document("data-db-0", "data-db-1"),
    "class": snapshot_document("a", target={**CLAIM, "snapshotClassName": "fast"}),
    "long-name": snapshot_document("a." * 126 + "b", "0"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    """Run an API server with the definitions of the external-snapshotter."""
    with support.running() as running:
        running.install_snapshot_crds()
        for name in ("demo", DRY):
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            running.apply(NAMESPACE.path(name=name), body)
        yield running


def creation(server: ApiServer, document: CreationInput) -> Creation:
    """Return the runner's side of a document."""
    client = patient_client(server.kubeconfig, pool_size=4)
    return Creation(client, CreationInput.decode(document.encode()), Log(Redactor({})))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_bodies_are_accepted_strictly(server: ApiServer, name: str) -> None:
    """No field is unknown, and none is refused by the rules of the definition."""
    document = replace(DOCUMENTS[name], namespace=DRY)
    run = creation(server, document)
    for item in document.objects:
        path = f"{VOLUME_SNAPSHOT.path(DRY)}?dryRun=All&fieldValidation=Strict"
        answer = server.request("POST", path, run._body(item))
        assert answer.status == 201, answer.text
        assert answer.warnings == ()


def test_an_empty_class_would_be_refused(server: ApiServer) -> None:
    """Why the field is left out when no class is given."""
    document = replace(DOCUMENTS["plain"], namespace=DRY)
    body = creation(server, document)._body(document.objects[0])
    body["spec"] = {**body["spec"], "volumeSnapshotClassName": ""}
    answer = server.request("POST", f"{VOLUME_SNAPSHOT.path(DRY)}?dryRun=All", body)
    assert answer.status == 422
    assert "volumeSnapshotClassName" in answer.text


def test_the_runner_creates_what_the_controller_wants_and_does_so_once(server: ApiServer) -> None:
    """Names as promised, labels to find them by, nobody's child; again changes nothing."""
    for document in (DOCUMENTS["plain"], DOCUMENTS["long-name"], DOCUMENTS["plain"]):
        assert creation(server, document).run() == ()
    client = patient_client(server.kubeconfig, pool_size=1)
    selector = "drey.dev/session-uid=uid-of-nightly-1767323045,drey.dev/created-by=drey"
    page = client.list_page(VOLUME_SNAPSHOT, "demo", label_selector=selector)
    found = {dig(o, "spec", "source", "persistentVolumeClaimName"): o for o in page["items"]}
    assert len(page["items"]) == len(found) == 4
    assert name_of(found["data-db-1"]) == "data-db-1-1767323045"
    assert max(len(name_of(item)) for item in page["items"]) <= NAME_LIMIT
    for item in page["items"]:
        assert "ownerReferences" not in item["metadata"]
        assert "volumeSnapshotClassName" not in item["spec"]
        assert labels_of(item)["stash.appscode.com/invoker-name"] == "nightly"
