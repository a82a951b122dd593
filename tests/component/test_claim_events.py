"""What a real API server keeps of claims: whose Events are found, and which source they name."""

from controller.api.claim_templates import source_of
from controller.api.objects import Uid
from controller.api.resources import CORE_EVENT, PVC
from controller.observe.caches import project_claim
from controller.observe.live_storage import read_claim_words
from tests.support.apiserver import ApiServer
from tests.support.clients import patient_client

SOURCE = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "snap"}


def test_events_are_told_apart_by_the_claim_s_uid(apiserver: ApiServer) -> None:
    """By field selector, and by a list for many claims."""
    client = patient_client(apiserver.kubeconfig, pool_size=1)
    for uid, text in (("former", "the pool was full"), ("present", "Provisioning")):
        about = {"kind": PVC.kind, "name": "data", "namespace": "default", "uid": uid}
        body = {
            "apiVersion": "v1", "kind": "Event", "involvedObject": about, "message": text,
            "metadata": {"name": f"data.{uid}", "namespace": "default"}, "type": "Warning",
        }  # fmt: skip
        client.create(CORE_EVENT, "default", body)
    for more in ({}, {f"other-{n}": Uid(f"other-{n}") for n in range(5)}):
        said = read_claim_words(client, "default", {"data": Uid("present"), **more})
        assert said == {"data": ("Provisioning",), **dict.fromkeys(more, ())}


def test_a_claim_names_its_source_however_it_was_given(apiserver: ApiServer) -> None:
    """The server fills in `dataSource`, which is what the cache keeps."""
    client = patient_client(apiserver.kubeconfig, pool_size=1)
    for field in ("dataSource", "dataSourceRef"):
        body = {
            "apiVersion": "v1", "kind": PVC.kind,
            "metadata": {"name": field.lower(), "namespace": "default"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
                field: SOURCE,
            },
        }  # fmt: skip
        made = client.create(PVC, "default", body)
        assert source_of(project_claim(made)) == SOURCE
