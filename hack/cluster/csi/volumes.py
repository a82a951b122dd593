"""The calls of CSI's Controller service that are about volumes."""

import time
from pathlib import Path
from typing import Any

from hack.cluster.csi import arguments, mounts
from hack.cluster.csi.busy import Busy
from hack.cluster.csi.pool import Pool
from hack.cluster.csi.protos import Messages
from hack.cluster.csi.records import Records, VolumeRecord, id_for
from hack.cluster.csi.refusal import Code, Refusal


class Volumes:
    """Creates, clones, restores, grows, lists and deletes volumes."""

    def __init__(self, csi: Messages, pool: Pool, records: Records, busy: Busy) -> None:
        self._csi = csi
        self._pool = pool
        self._records = records
        self._busy = busy

    def CreateVolume(self, request: Any) -> Any:  # noqa: N802  # the protocol's name
        """Create a volume: empty, from a snapshot, or as a copy of another volume."""
        arguments.required(request, "name", "volume_capabilities")
        arguments.check_capabilities(request.volume_capabilities)
        arguments.known_parameters(request.parameters)
        volume_id = id_for(request.name)
        with self._busy.hold(f"volume {volume_id}"):
            existing = self._records.volume(volume_id)
            if existing:
                _check_same(existing, request)
            record = existing or self._create(volume_id, request)
        return self._csi.CreateVolumeResponse(volume=self._volume(record))

    def _create(self, volume_id: str, request: Any) -> VolumeRecord:
        kind, source_id = source_of(request)
        source, source_bytes = self._source(kind, source_id)
        capacity_bytes = arguments.capacity_bytes(
            required_bytes=request.capacity_range.required_bytes,
            limit_bytes=request.capacity_range.limit_bytes,
            source_bytes=source_bytes,
            pool_bytes=self._pool.total_bytes(),
        )
        path = self._pool.volume_path(volume_id)
        if source is None:
            self._pool.create(path, limit_bytes=capacity_bytes)
        else:
            self._pool.copy(source, path, limit_bytes=capacity_bytes)
        record = VolumeRecord(
            id=volume_id,
            name=request.name,
            capacity_bytes=capacity_bytes,
            created_s=time.time(),
            parameters=dict(request.parameters),
            source_kind=kind,
            source_id=source_id,
        )
        self._records.put(record)
        return record

    def _source(self, kind: str, source_id: str) -> tuple[Path | None, int]:
        """Return the subvolume to copy and its size, None and 0 for an empty volume."""
        if kind == "snapshot":
            if snapshot := self._records.snapshot(source_id):
                return self._pool.snapshot_path(snapshot.id), snapshot.size_bytes
        elif kind == "volume":
            if volume := self._records.volume(source_id):
                return self._pool.volume_path(volume.id), volume.capacity_bytes
        else:
            return None, 0
        raise Refusal(Code.NOT_FOUND, f"volume_content_source: {kind} {source_id} does not exist")

    def DeleteVolume(self, request: Any) -> Any:  # noqa: N802  # the protocol's name
        """Delete a volume with its data; snapshots of it stay."""
        arguments.required(request, "volume_id")
        with self._busy.hold(f"volume {request.volume_id}"):
            if record := self._records.volume(request.volume_id):
                path = self._pool.volume_path(record.id)
                used = mounts.mounts_of(path, mounts.current(), pool=self._pool.root)
                if used:
                    raise Refusal(
                        Code.FAILED_PRECONDITION, f"volume {record.id} is mounted: {used[0].target}"
                    )
                self._pool.delete(path)
                self._records.remove(record)
        return self._csi.DeleteVolumeResponse()

    def ValidateVolumeCapabilities(self, request: Any) -> Any:  # noqa: N802  # the protocol's name
        """Confirm the capabilities, or say which of them cannot be kept."""
        arguments.required(request, "volume_id", "volume_capabilities")
        self._existing(request.volume_id)
        response = self._csi.ValidateVolumeCapabilitiesResponse
        for capability in request.volume_capabilities:
            if problem := arguments.capability_problem(capability):
                return response(message=problem)
        return response(
            confirmed=response.Confirmed(
                volume_context=request.volume_context,
                volume_capabilities=request.volume_capabilities,
                parameters=request.parameters,
            )
        )

    def ControllerExpandVolume(self, request: Any) -> Any:  # noqa: N802  # the protocol's name
        """Raise a volume's quota, also while it is mounted; a larger volume stays as it is."""
        arguments.required(request, "volume_id", "capacity_range")
        with self._busy.hold(f"volume {request.volume_id}"):
            record = self._existing(request.volume_id)
            capacity_bytes = arguments.capacity_bytes(
                required_bytes=max(request.capacity_range.required_bytes, record.capacity_bytes),
                limit_bytes=request.capacity_range.limit_bytes,
                source_bytes=0,
                pool_bytes=self._pool.total_bytes(),
            )
            if capacity_bytes > record.capacity_bytes:
                self._pool.limit(self._pool.volume_path(record.id), capacity_bytes)
                self._records.put(grown(record, capacity_bytes))
        return self._csi.ControllerExpandVolumeResponse(
            capacity_bytes=capacity_bytes, node_expansion_required=False
        )

    def ListVolumes(self, request: Any) -> Any:  # noqa: N802  # the protocol's name
        """List volumes by id."""
        shown, token = arguments.page(
            self._records.volumes(),
            max_entries=request.max_entries,
            starting_token=request.starting_token,
        )
        response = self._csi.ListVolumesResponse
        entries = [response.Entry(volume=self._volume(record)) for record in shown]
        return response(entries=entries, next_token=token)

    def GetCapacity(self, request: Any) -> Any:  # noqa: N802  # the protocol's name
        """Return the pool's free space, 0 for what can never be created."""
        usable = not any(
            arguments.capability_problem(capability) for capability in request.volume_capabilities
        )
        response = self._csi.GetCapacityResponse(
            available_capacity=self._pool.available_bytes() if usable else 0
        )
        response.minimum_volume_size.value = arguments.MINIMUM_BYTES
        response.maximum_volume_size.value = self._pool.total_bytes()
        return response

    def _existing(self, volume_id: str) -> VolumeRecord:
        record = self._records.volume(volume_id)
        if record is None:
            raise Refusal(Code.NOT_FOUND, f"volume {volume_id} does not exist")
        return record

    def _volume(self, record: VolumeRecord) -> Any:
        volume = self._csi.Volume(volume_id=record.id, capacity_bytes=record.capacity_bytes)
        if record.source_kind == "snapshot":
            volume.content_source.snapshot.snapshot_id = record.source_id
        elif record.source_kind == "volume":
            volume.content_source.volume.volume_id = record.source_id
        return volume


def source_of(request: Any) -> tuple[str, str]:
    """Return kind and id of a CreateVolumeRequest's content source, twice "" without one."""
    source = request.volume_content_source
    match source.WhichOneof("type"):
        case "snapshot":
            kind, source_id = "snapshot", source.snapshot.snapshot_id
        case "volume":
            kind, source_id = "volume", source.volume.volume_id
        case _:
            return "", ""
    if not source_id:
        raise Refusal(Code.INVALID_ARGUMENT, f"volume_content_source: {kind}: id is required")
    return kind, source_id


def grown(record: VolumeRecord, capacity_bytes: int) -> VolumeRecord:
    """Return the record with another capacity."""
    return VolumeRecord(**{**vars(record), "capacity_bytes": capacity_bytes})


def _check_same(existing: VolumeRecord, request: Any) -> None:
    """Refuse a CreateVolume whose name is taken by a volume that was asked for differently."""
    fits = arguments.in_range(
        existing.capacity_bytes,
        required_bytes=request.capacity_range.required_bytes,
        limit_bytes=request.capacity_range.limit_bytes,
    )
    differences = {
        "name": existing.name != request.name,
        f"capacity ({existing.capacity_bytes} bytes)": not fits,
        "content source": (existing.source_kind, existing.source_id) != source_of(request),
        "parameters": existing.parameters != dict(request.parameters),
    }
    if different := [what for what, differs in differences.items() if differs]:
        raise Refusal(
            Code.ALREADY_EXISTS, f"volume {existing.id} exists with another {', '.join(different)}"
        )
