"""What a call is about, in the names that a fault rule can match (`faults.SUBJECTS`)."""

from collections.abc import Mapping
from typing import Any

from hack.cluster.csi.faults import Subjects
from hack.cluster.csi.records import PVC_NAME, PVC_NAMESPACE, Records

_SNAPSHOT_NAME = "csi.storage.k8s.io/volumesnapshot/name"
_SNAPSHOT_NAMESPACE = "csi.storage.k8s.io/volumesnapshot/namespace"


def subjects_of(request: Any, records: Records) -> Subjects:
    """Collect the names of everything that a request of any CSI call refers to."""
    names = _Names(records)
    fields = request.DESCRIPTOR.fields_by_name
    if "name" in fields:
        names.add("name", request.name)
    if "volume_id" in fields:
        names.add_volume("volume", request.volume_id)
    if "source_volume_id" in fields:
        names.add_volume("source_volume", request.source_volume_id)
    if "snapshot_id" in fields:
        names.add_snapshot(request.snapshot_id)
    if "volume_content_source" in fields:
        names.add_snapshot(request.volume_content_source.snapshot.snapshot_id)
        names.add_volume("source_volume", request.volume_content_source.volume.volume_id)
    if "parameters" in fields:
        names.add_object("volume", request.parameters, PVC_NAME, PVC_NAMESPACE)
        names.add_object("snapshot", request.parameters, _SNAPSHOT_NAME, _SNAPSHOT_NAMESPACE)
    return names.found


class _Names:
    """The names found so far, by subject."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self.found: dict[str, set[str]] = {}

    def add(self, subject: str, *names: str) -> None:
        self.found.setdefault(subject, set()).update(name for name in names if name)

    def add_object(
        self, subject: str, parameters: Mapping[str, str], name_key: str, namespace_key: str
    ) -> None:
        """Add the Kubernetes object that a sidecar named in the parameters."""
        name, namespace = parameters.get(name_key, ""), parameters.get(namespace_key, "")
        self.add(subject, name, name and f"{namespace}/{name}")
        self.add("namespace", namespace)

    def add_volume(self, subject: str, volume_id: str) -> None:
        self.add(subject, volume_id)
        if record := self._records.volume(volume_id):
            self.add_object(subject, record.parameters, PVC_NAME, PVC_NAMESPACE)

    def add_snapshot(self, snapshot_id: str) -> None:
        self.add("snapshot", snapshot_id)
        if record := self._records.snapshot(snapshot_id):
            self.add_object("snapshot", record.parameters, _SNAPSHOT_NAME, _SNAPSHOT_NAMESPACE)
            self.add("source_volume", record.source_volume_id)
            self.add_object("source_volume", record.source_parameters, PVC_NAME, PVC_NAMESPACE)
