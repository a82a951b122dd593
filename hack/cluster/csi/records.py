"""What the driver must remember of volumes and snapshots, as one JSON file each below the pool.

A volume or snapshot exists if and only if its record does: the record is written after its
subvolume is complete, and removed after the subvolume is gone. So a crash between the two leaves
only a subvolume without a record, which the next attempt replaces.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_SAFE_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")

PVC_NAME = "csi.storage.k8s.io/pvc/name"
PVC_NAMESPACE = "csi.storage.k8s.io/pvc/namespace"


def id_for(name: str) -> str:
    """Return the id, which is also the file name: the name itself where that is safe, else a hash.

    Names of the sidecars (`pvc-<uid>`, `snapshot-<uid>`) stay readable on disk.
    """
    if _SAFE_ID.fullmatch(name):
        return name
    return "h." + hashlib.sha256(name.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class VolumeRecord:
    """One volume.

    Attributes:
        source_kind: `snapshot` or `volume`, "" for an empty volume.
        source_id: the id of that source, which may be deleted by now.
        parameters: as CreateVolume got them, with the PVC's name and namespace where the
            provisioner runs with `--extra-create-metadata`.
        created_s: Unix seconds.
    """

    id: str
    name: str
    capacity_bytes: int
    created_s: float
    parameters: Mapping[str, str]
    source_kind: str = ""
    source_id: str = ""


@dataclass(frozen=True, kw_only=True)
class SnapshotRecord:
    """One snapshot. `size_bytes` is the source's capacity at that time: what a restore needs.

    `source_parameters` are those of the source volume, which may be deleted by now.
    """

    id: str
    name: str
    source_volume_id: str
    size_bytes: int
    created_s: float
    parameters: Mapping[str, str]
    source_parameters: Mapping[str, str]


class Records:
    """The records of a pool, read from disk at each use: nothing is lost when the driver dies."""

    def __init__(self, folder: Path) -> None:
        self._volumes = folder / "volumes"
        self._snapshots = folder / "snapshots"
        for each in (self._volumes, self._snapshots):
            each.mkdir(parents=True, exist_ok=True)

    def volume(self, volume_id: str) -> VolumeRecord | None:
        """Return the volume of this id; an id that was never ours is simply unknown."""
        found = _read(self._volumes, volume_id)
        return None if found is None else VolumeRecord(**found)

    def snapshot(self, snapshot_id: str) -> SnapshotRecord | None:
        """Return the snapshot of this id; an id that was never ours is simply unknown."""
        found = _read(self._snapshots, snapshot_id)
        return None if found is None else SnapshotRecord(**found)

    def volumes(self) -> list[VolumeRecord]:
        """Return all volumes, ordered by id."""
        found = (self.volume(volume_id) for volume_id in _ids(self._volumes))
        return [record for record in found if record is not None]

    def snapshots(self) -> list[SnapshotRecord]:
        """Return all snapshots, ordered by id."""
        found = (self.snapshot(snapshot_id) for snapshot_id in _ids(self._snapshots))
        return [record for record in found if record is not None]

    def put(self, record: VolumeRecord | SnapshotRecord) -> None:
        """Write a record, atomically and durably."""
        folder = self._volumes if isinstance(record, VolumeRecord) else self._snapshots
        part = folder / f"{record.id}.part"
        with part.open("w") as file:
            json.dump(asdict(record), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / f"{record.id}.json")

    def remove(self, record: VolumeRecord | SnapshotRecord) -> None:
        """Forget a record; one that is gone already is fine."""
        folder = self._volumes if isinstance(record, VolumeRecord) else self._snapshots
        (folder / f"{record.id}.json").unlink(missing_ok=True)


def _read(folder: Path, record_id: str) -> dict[str, Any] | None:
    if id_for(record_id) != record_id:
        return None  # never an id of ours: it may lead out of the folder
    try:
        loaded: dict[str, Any] = json.loads((folder / f"{record_id}.json").read_text())
    except FileNotFoundError:
        return None
    return loaded


def _ids(folder: Path) -> list[str]:
    return sorted(path.name.removesuffix(".json") for path in folder.glob("*.json"))
