"""CSI's Node service: bind mounts of volumes into pods. There is no staging step."""

from pathlib import Path
from typing import Any

from hack.cluster.csi import arguments, mounts
from hack.cluster.csi.busy import Busy
from hack.cluster.csi.pool import Pool
from hack.cluster.csi.protos import Messages
from hack.cluster.csi.records import Records
from hack.cluster.csi.refusal import Code, Refusal

CAPABILITIES = ("GET_VOLUME_STATS", "SINGLE_NODE_MULTI_WRITER")


class Node:
    """Serves `csi.v1.Node` on the node `name`."""

    def __init__(self, csi: Messages, name: str, pool: Pool, records: Records, busy: Busy) -> None:
        self._csi = csi
        self._name = name
        self._pool = pool
        self._records = records
        self._busy = busy

    def NodeGetInfo(self, _request: Any) -> Any:  # noqa: N802  # the protocol's name
        """Return the node's name; any number of volumes can be mounted."""
        return self._csi.NodeGetInfoResponse(node_id=self._name)

    def NodeGetCapabilities(self, _request: Any) -> Any:  # noqa: N802  # the protocol's name
        """Return what the node claims, all of which csi-sanity then tests."""
        kind = self._csi.NodeServiceCapability
        return self._csi.NodeGetCapabilitiesResponse(
            capabilities=[kind(rpc=kind.RPC(type=name)) for name in CAPABILITIES]
        )

    def NodePublishVolume(self, request: Any) -> Any:  # noqa: N802  # the protocol's name
        """Mount a volume at the target path, read-only where request or access mode say so."""
        arguments.required(request, "volume_id", "target_path", "volume_capability")
        arguments.check_capabilities([request.volume_capability])
        source = self._volume_path(request.volume_id)
        mode = arguments.mode_name(request.volume_capability)
        read_only = request.readonly or mode.endswith("READER_ONLY")
        flags = (*request.volume_capability.mount.mount_flags, *(["ro"] if read_only else []))
        target = Path(request.target_path)
        with self._busy.hold(f"volume {request.volume_id}"):
            published = self._published(source)
            if any(mount.target == str(target) for mount in published):
                _check_same(published, target, read_only="ro" in flags)
                return self._csi.NodePublishVolumeResponse()
            if published and mode == "SINGLE_NODE_SINGLE_WRITER":
                raise Refusal(
                    Code.FAILED_PRECONDITION,
                    f"volume {request.volume_id} may have one writer and is mounted already: "
                    f"{published[0].target}",
                )
            self._mount(source, target, flags)
        return self._csi.NodePublishVolumeResponse()

    def _mount(self, source: Path, target: Path, flags: tuple[str, ...]) -> None:
        if any(mount.target == str(target) for mount in mounts.current()):
            raise Refusal(Code.ALREADY_EXISTS, f"target_path {target}: something else is mounted")
        try:
            target.mkdir(exist_ok=True)
        except OSError as err:
            raise Refusal(Code.INTERNAL, f"target_path {target}: {err.strerror}") from err
        try:
            mounts.bind(source, target, flags=flags)
        except Refusal:
            target.rmdir()
            raise

    def NodeUnpublishVolume(self, request: Any) -> Any:  # noqa: N802  # the protocol's name
        """Unmount the target path and remove it; one that is gone already is fine."""
        arguments.required(request, "volume_id", "target_path")
        target = Path(request.target_path)
        with self._busy.hold(f"volume {request.volume_id}"):
            here = [mount for mount in mounts.current() if mount.target == str(target)]
            record = self._records.volume(request.volume_id)
            if here and record:
                ours = self._published(self._pool.volume_path(record.id))
                if here[-1] not in ours:
                    raise Refusal(
                        Code.FAILED_PRECONDITION,
                        f"target_path {target}: it is not volume {record.id} that is mounted",
                    )
            for _ in here:
                mounts.unbind(target)
            if target.is_dir():
                try:
                    target.rmdir()
                except OSError as err:
                    raise Refusal(Code.INTERNAL, f"target_path {target}: {err.strerror}") from err
        return self._csi.NodeUnpublishVolumeResponse()

    def NodeGetVolumeStats(self, request: Any) -> Any:  # noqa: N802  # the protocol's name
        """Return used and free bytes by the volume's quota; df in a pod shows the pool's."""
        arguments.required(request, "volume_id", "volume_path")
        path = self._volume_path(request.volume_id)
        if all(mount.target != request.volume_path for mount in self._published(path)):
            raise Refusal(
                Code.NOT_FOUND,
                f"volume {request.volume_id} is not mounted at {request.volume_path}",
            )
        usage = self._pool.usage(path)
        kind = self._csi.VolumeUsage
        stats = kind(
            unit=kind.BYTES,
            used=usage.used_bytes,
            total=usage.limit_bytes,
            available=max(0, usage.limit_bytes - usage.used_bytes),
        )
        return self._csi.NodeGetVolumeStatsResponse(usage=[stats])

    def _volume_path(self, volume_id: str) -> Path:
        record = self._records.volume(volume_id)
        if record is None:
            raise Refusal(Code.NOT_FOUND, f"volume {volume_id} does not exist")
        return self._pool.volume_path(record.id)

    def _published(self, path: Path) -> list[mounts.Mount]:
        return mounts.mounts_of(path, mounts.current(), pool=self._pool.root)


def _check_same(published: list[mounts.Mount], target: Path, *, read_only: bool) -> None:
    """Refuse a second NodePublishVolume to the same target that asks for another access."""
    there = next(mount for mount in published if mount.target == str(target))
    if there.read_only != read_only:
        how = "read-only" if there.read_only else "writable"
        raise Refusal(Code.ALREADY_EXISTS, f"target_path {target}: is mounted {how} already")
