"""The calls of CSI's Controller service that are about snapshots."""

import time
from typing import Any

from hack.cluster.csi import arguments
from hack.cluster.csi.busy import Busy
from hack.cluster.csi.faults import Faults
from hack.cluster.csi.pool import Pool
from hack.cluster.csi.protos import Messages
from hack.cluster.csi.records import Records, SnapshotRecord, id_for
from hack.cluster.csi.refusal import Code, Refusal
from hack.cluster.csi.subjects import subjects_of


class Snapshots:
    """Takes, lists and deletes snapshots. A snapshot outlives its volume."""

    def __init__(
        self, csi: Messages, pool: Pool, records: Records, busy: Busy, faults: Faults
    ) -> None:
        self._csi = csi
        self._pool = pool
        self._records = records
        self._busy = busy
        self._faults = faults

    def CreateSnapshot(self, request: Any) -> Any:  # noqa: N802  # the protocol's name
        """Take a snapshot; asked again, which is how a sidecar waits, tell whether it is ready."""
        arguments.required(request, "name", "source_volume_id")
        arguments.known_parameters(request.parameters)
        snapshot_id = id_for(request.name)
        with self._busy.hold(f"snapshot {snapshot_id}"):
            record = self._records.snapshot(snapshot_id)
            if record is None:
                record = self._take(snapshot_id, request)
            elif (record.name, record.source_volume_id) != (request.name, request.source_volume_id):
                raise Refusal(
                    Code.ALREADY_EXISTS,
                    f"snapshot {snapshot_id} exists, of volume {record.source_volume_id}",
                )
        return self._csi.CreateSnapshotResponse(snapshot=self._snapshot(record, count=True))

    def _take(self, snapshot_id: str, request: Any) -> SnapshotRecord:
        volume = self._records.volume(request.source_volume_id)
        if volume is None:
            raise Refusal(Code.NOT_FOUND, f"volume {request.source_volume_id} does not exist")
        self._pool.freeze(self._pool.volume_path(volume.id), self._pool.snapshot_path(snapshot_id))
        record = SnapshotRecord(
            id=snapshot_id,
            name=request.name,
            source_volume_id=volume.id,
            size_bytes=volume.capacity_bytes,
            created_s=time.time(),
            parameters=dict(request.parameters),
            source_parameters=volume.parameters,
        )
        self._records.put(record)
        return record

    def DeleteSnapshot(self, request: Any) -> Any:  # noqa: N802  # the protocol's name
        """Delete a snapshot; volumes that were restored from it stay."""
        arguments.required(request, "snapshot_id")
        with self._busy.hold(f"snapshot {request.snapshot_id}"):
            if record := self._records.snapshot(request.snapshot_id):
                self._pool.delete(self._pool.snapshot_path(record.id))
                self._records.remove(record)
        return self._csi.DeleteSnapshotResponse()

    def ListSnapshots(self, request: Any) -> Any:  # noqa: N802  # the protocol's name
        """List snapshots by id: all, one, or those of a volume."""
        chosen = [
            record
            for record in self._records.snapshots()
            if request.snapshot_id in ("", record.id)
            and request.source_volume_id in ("", record.source_volume_id)
        ]
        shown, token = arguments.page(
            chosen, max_entries=request.max_entries, starting_token=request.starting_token
        )
        response = self._csi.ListSnapshotsResponse
        entries = [response.Entry(snapshot=self._snapshot(record, count=False)) for record in shown]
        return response(entries=entries, next_token=token)

    def _snapshot(self, record: SnapshotRecord, *, count: bool) -> Any:
        as_request = self._csi.CreateSnapshotRequest(
            name=record.name,
            source_volume_id=record.source_volume_id,
            parameters=record.parameters,
        )
        named = {**subjects_of(as_request, self._records)}
        named["snapshot"] = {*named.get("snapshot", ()), record.id}
        withheld = self._faults.withholds(named, age_s=time.time() - record.created_s, count=count)
        snapshot = self._csi.Snapshot(
            snapshot_id=record.id,
            source_volume_id=record.source_volume_id,
            size_bytes=record.size_bytes,
            ready_to_use=not withheld,
        )
        snapshot.creation_time.FromNanoseconds(int(record.created_s * 1e9))
        return snapshot
