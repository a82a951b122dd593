"""The CSI driver as a process on a real btrfs pool: what csi-sanity leaves out. Needs root."""

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]  # publishes no types
import pytest
from google.protobuf import message_factory  # type: ignore[import-untyped]  # publishes no types

from hack.cluster.csi.protos import Protos
from hack.cluster.csi.records import PVC_NAME, PVC_NAMESPACE
from hack.cluster.csi.sanity import mounted_pool

MIB = 1 << 20
DRIVER = Path(__file__).resolve().parents[3] / "hack" / "cluster" / "csi" / "driver.py"
START_S = 30


@pytest.fixture(scope="module")
def protos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the protos once; each driver reads the file."""
    path = tmp_path_factory.mktemp("protos") / "csi.binpb"
    Protos.load(path)
    return path


class Driver:
    """A driver on its own pool, and a client of it."""

    def __init__(self, scratch: Path, pool: Path, protos: Path) -> None:
        self.scratch = scratch
        self.pool = pool
        self.log = scratch / "driver.log"
        self.socket = scratch / "csi.sock"
        self.registration = scratch / "reg.sock"
        self.faults = scratch / "faults.json"
        self._protos_file = protos
        self._protos = Protos.load(protos)
        self.csi = self._protos.messages("csi.v1")
        self._process: subprocess.Popen[bytes] | None = None

    def argv(self) -> list[str]:
        """Return the command line, as the cluster has it."""
        argv = [sys.executable, str(DRIVER), "--name", "test.csi", "--node", "here"]
        argv += ["--pool", str(self.pool), "--socket", str(self.socket)]
        argv += ["--registration", str(self.registration), "--faults", str(self.faults)]
        return [*argv, "--protos", str(self._protos_file)]

    def start(self) -> None:
        """Start the process and wait until it serves."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self.argv(), stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while not self.registration.exists():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the process and return its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(60)

    def call(self, service: str, rpc: str, /, *, socket: Path | None = None, **fields: Any) -> Any:
        """Make one call; a refusal is raised as `grpc.RpcError`."""
        method = self._protos.service(service).methods_by_name[rpc]
        request = message_factory.GetMessageClass(method.input_type)(**fields)
        answer = message_factory.GetMessageClass(method.output_type)
        with grpc.insecure_channel(f"unix://{socket or self.socket}") as channel:
            send = channel.unary_unary(
                f"/{service}/{rpc}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=answer.FromString,
            )
            return send(request, timeout=20)

    def refused(self, service: str, rpc: str, /, **fields: Any) -> tuple[str, str]:
        """Make a call that must be refused; return code and message."""
        with pytest.raises(grpc.RpcError) as caught:
            self.call(service, rpc, **fields)
        return caught.value.code().name, caught.value.details()

    def capability(self, mode: str = "SINGLE_NODE_WRITER") -> Any:
        """Return a mount capability."""
        kind = self.csi.VolumeCapability
        return kind(mount=kind.MountVolume(), access_mode=kind.AccessMode(mode=mode))

    def volume_fields(self, name: str, size: int = 32 * MIB, **fields: Any) -> dict[str, Any]:
        """Return the fields of a CreateVolume."""
        return {
            "name": name,
            "capacity_range": self.csi.CapacityRange(required_bytes=size),
            "volume_capabilities": [self.capability()],
            **fields,
        }

    def create(self, name: str, size: int = 32 * MIB, **fields: Any) -> Any:
        """Create a volume."""
        wanted = self.volume_fields(name, size, **fields)
        return self.call("csi.v1.Controller", "CreateVolume", **wanted).volume

    def volumes(self) -> Any:
        """List the volumes."""
        return self.call("csi.v1.Controller", "ListVolumes").entries

    def snapshot(self, name: str, volume_id: str, **fields: Any) -> Any:
        """Take a snapshot."""
        wanted = {"name": name, "source_volume_id": volume_id, **fields}
        return self.call("csi.v1.Controller", "CreateSnapshot", **wanted).snapshot

    def from_snapshot(self, snapshot_id: str) -> Any:
        """Return a content source."""
        kind = self.csi.VolumeContentSource
        return kind(snapshot=kind.SnapshotSource(snapshot_id=snapshot_id))

    def publish(self, volume_id: str, target: Path, **fields: Any) -> None:
        """Mount a volume."""
        fields.setdefault("volume_capability", self.capability())
        wanted = {"volume_id": volume_id, "target_path": str(target), **fields}
        self.call("csi.v1.Node", "NodePublishVolume", **wanted)

    def set_faults(self, *rules: dict[str, Any]) -> None:
        """Replace the rules, atomically."""
        part = self.faults.with_suffix(".part")
        part.write_text(json.dumps(rules))
        part.replace(self.faults)


@pytest.fixture
def driver(protos: Path) -> Iterator[Driver]:
    """A running driver on a fresh pool; nothing of it stays."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="csi-")))
        made = Driver(scratch, stack.enter_context(mounted_pool(scratch)), protos)
        made.start()
        stack.callback(made.end)
        yield made


def fill(folder: Path, size: int) -> OSError | None:
    """Write up to `size` bytes in MiB; return the error that ended it early."""
    try:
        with (folder / f"fill-{size}").open("wb", buffering=0) as file:
            for _ in range(size // MIB):
                file.write(os.urandom(MIB))
    except OSError as err:
        return err
    return None


def test_a_volume_holds_its_size_and_no_more(driver: Driver) -> None:
    """Writing beyond the capacity gives EDQUOT; after an expansion there is room again."""
    volume = driver.create("pvc-1", 32 * MIB)
    target = driver.scratch / "mnt"
    driver.publish(volume.volume_id, target)
    assert fill(target, 24 * MIB) is None
    error = fill(target, 16 * MIB)
    assert error is not None
    assert error.errno == errno.EDQUOT
    grown = driver.call(
        "csi.v1.Controller",
        "ControllerExpandVolume",
        volume_id=volume.volume_id,
        capacity_range=driver.csi.CapacityRange(required_bytes=96 * MIB),
    )
    assert (grown.capacity_bytes, grown.node_expansion_required) == (96 * MIB, False)
    assert fill(target, 40 * MIB) is None


def test_stats_show_the_quota(driver: Driver) -> None:
    """Used and total are the volume's, not the pool's."""
    volume = driver.create("pvc-1", 32 * MIB)
    target = driver.scratch / "mnt"
    driver.publish(volume.volume_id, target)
    assert fill(target, 8 * MIB) is None
    subprocess.run(["btrfs", "filesystem", "sync", str(driver.pool)], check=True)
    stats = driver.call(
        "csi.v1.Node", "NodeGetVolumeStats", volume_id="pvc-1", volume_path=str(target)
    )
    usage = stats.usage[0]
    assert usage.total == 32 * MIB
    assert 8 * MIB <= usage.used < 9 * MIB
    assert usage.available == usage.total - usage.used


def test_a_snapshot_has_a_size_keeps_the_data_and_restores_to_that_size_or_more(
    driver: Driver,
) -> None:
    """size_bytes is the source's capacity; data, mode and owner come back; quota is the new one."""
    volume = driver.create("pvc-1", 32 * MIB)
    target = driver.scratch / "mnt"
    driver.publish(volume.volume_id, target)
    (target / "file").write_text("before")
    target.chmod(0o750)
    os.chown(target, 1234, 1234)
    taken = driver.snapshot("snap-1", volume.volume_id)
    assert (taken.size_bytes, taken.ready_to_use) == (32 * MIB, True)
    assert abs(taken.creation_time.ToSeconds() - time.time()) < 30
    (target / "file").write_text("after")

    source = driver.from_snapshot("snap-1")
    smaller = driver.volume_fields("pvc-2", 31 * MIB, volume_content_source=source)
    assert driver.refused("csi.v1.Controller", "CreateVolume", **smaller) == (
        "OUT_OF_RANGE",
        "32505856 bytes are requested but the source has 33554432: request at least that",
    )
    restored = driver.create("pvc-2", 64 * MIB, volume_content_source=source)
    assert restored.content_source.snapshot.snapshot_id == "snap-1"
    again = driver.scratch / "again"
    driver.publish("pvc-2", again)
    assert (again / "file").read_text() == "before"
    assert (again.stat().st_mode & 0o7777, again.stat().st_uid) == (0o750, 1234)
    assert fill(again, 48 * MIB) is None
    error = fill(again, 32 * MIB)
    assert error is not None
    assert error.errno == errno.EDQUOT


def test_a_snapshot_outlives_its_volume(driver: Driver) -> None:
    """After the volume was deleted its snapshot still restores."""
    driver.create("pvc-1")
    (driver.pool / "volumes" / "pvc-1" / "file").write_text("kept")
    driver.snapshot("snap-1", "pvc-1")
    driver.call("csi.v1.Controller", "DeleteVolume", volume_id="pvc-1")
    driver.create("pvc-2", volume_content_source=driver.from_snapshot("snap-1"))
    assert (driver.pool / "volumes" / "pvc-2" / "file").read_text() == "kept"


def test_a_killed_driver_forgets_nothing(driver: Driver) -> None:
    """After SIGKILL and a new start, volumes, snapshots and mounts are as before."""
    driver.create("pvc-1", 48 * MIB, parameters={PVC_NAME: "data", PVC_NAMESPACE: "a"})
    driver.snapshot("snap-1", "pvc-1")
    target = driver.scratch / "mnt"
    driver.publish("pvc-1", target)
    before = driver.call("csi.v1.Controller", "ListVolumes")
    snapshots_before = driver.call("csi.v1.Controller", "ListSnapshots")
    assert driver.end(signal.SIGKILL) == -signal.SIGKILL
    driver.registration.unlink()
    driver.start()
    assert driver.call("csi.v1.Controller", "ListVolumes") == before
    assert driver.call("csi.v1.Controller", "ListSnapshots") == snapshots_before
    driver.publish("pvc-1", target)  # still the same mount: no second one on top
    driver.set_faults(
        {"call": "DeleteVolume", "match": {"volume": "a/data"}, "code": "UNAVAILABLE"}
    )
    code, _ = driver.refused("csi.v1.Controller", "DeleteVolume", volume_id="pvc-1")
    assert code == "UNAVAILABLE"  # the PVC's name is known still
    driver.set_faults()
    driver.call("csi.v1.Node", "NodeUnpublishVolume", volume_id="pvc-1", target_path=str(target))
    assert not target.exists()


def test_a_crash_between_subvolume_and_record_is_repaired(driver: Driver) -> None:
    """A subvolume without a record is no volume: the next attempt replaces it."""
    left = driver.pool / "volumes" / "pvc-1"
    subprocess.run(["btrfs", "-q", "subvolume", "create", str(left)], check=True)
    (left / "half").write_text("x")
    driver.create("pvc-1")
    assert list(left.iterdir()) == []


def test_read_only_is_kept(driver: Driver) -> None:
    """A read-only publish cannot be written, by request and by access mode; flags are applied."""
    driver.create("pvc-1")
    for at, fields in enumerate(
        [{"readonly": True}, {"volume_capability": driver.capability("MULTI_NODE_READER_ONLY")}]
    ):
        target = driver.scratch / f"mnt-{at}"
        driver.publish("pvc-1", target, **fields)
        error = fill(target, MIB)
        assert error is not None
        assert error.errno == errno.EROFS
    writable = {"volume_id": "pvc-1", "target_path": str(driver.scratch / "mnt-0")}
    code, message = driver.refused(
        "csi.v1.Node", "NodePublishVolume", volume_capability=driver.capability(), **writable
    )
    assert code == "ALREADY_EXISTS"
    assert "is mounted read-only already" in message


def test_mount_options_are_applied_or_refused(driver: Driver) -> None:
    """An option of the mount takes effect; one that the kernel would ignore is refused by name."""
    driver.create("pvc-1")
    target = driver.scratch / "mnt"
    capability = driver.capability()
    capability.mount.mount_flags.append("noexec")
    driver.publish("pvc-1", target, volume_capability=capability)
    assert os.statvfs(target).f_flag & os.ST_NOEXEC
    capability.mount.mount_flags.append("compress=zstd")
    wanted = driver.volume_fields("pvc-2", volume_capabilities=[capability])
    code, message = driver.refused("csi.v1.Controller", "CreateVolume", **wanted)
    assert code == "INVALID_ARGUMENT"
    assert message.startswith("mountOptions: compress=zstd is not supported by this driver: use of")


def test_a_mount_that_fails_leaves_nothing(driver: Driver) -> None:
    """A subvolume that someone deleted gives mount's own words, and no folder stays."""
    driver.create("pvc-1")
    subvolume = driver.pool / "volumes" / "pvc-1"
    subprocess.run(["btrfs", "-q", "subvolume", "delete", str(subvolume)], check=True)
    target = driver.scratch / "mnt"
    code, message = driver.refused(
        "csi.v1.Node",
        "NodePublishVolume",
        volume_id="pvc-1",
        target_path=str(target),
        volume_capability=driver.capability(),
    )
    assert code == "INTERNAL"
    assert "does not exist" in message
    assert not target.exists()
    driver.call("csi.v1.Controller", "DeleteVolume", volume_id="pvc-1")


def test_a_target_path_that_cannot_be_used_is_named(driver: Driver) -> None:
    """A missing parent, a foreign mount and files left below are errors that name the path."""
    driver.create("pvc-1")
    driver.create("pvc-2")
    target = driver.scratch / "mnt"
    driver.publish("pvc-1", target)
    orphan = driver.scratch / "no" / "parent"
    for path, code, words in (
        (orphan, "INTERNAL", "No such file or directory"),
        (target, "ALREADY_EXISTS", "something else is mounted"),
    ):
        refused = driver.refused(
            "csi.v1.Node",
            "NodePublishVolume",
            volume_id="pvc-2",
            target_path=str(path),
            volume_capability=driver.capability(),
        )
        assert refused == (code, f"target_path {path}: {words}")
    wanted = {"volume_id": "pvc-2", "target_path": str(target)}
    code, message = driver.refused("csi.v1.Node", "NodeUnpublishVolume", **wanted)
    assert (code, "it is not volume pvc-2" in message) == ("FAILED_PRECONDITION", True)
    used = driver.scratch / "used"
    used.mkdir()
    (used / "file").touch()
    wanted = {"volume_id": "pvc-2", "target_path": str(used)}
    code, message = driver.refused("csi.v1.Node", "NodeUnpublishVolume", **wanted)
    assert (code, message) == ("INTERNAL", f"target_path {used}: Directory not empty")


def test_a_mounted_volume_is_not_deleted(driver: Driver) -> None:
    """Deleting under a pod is refused and names the mount."""
    driver.create("pvc-1")
    target = driver.scratch / "mnt"
    driver.publish("pvc-1", target)
    assert driver.refused("csi.v1.Controller", "DeleteVolume", volume_id="pvc-1") == (
        "FAILED_PRECONDITION",
        f"volume pvc-1 is mounted: {target}",
    )


def test_what_cannot_be_kept_is_refused_with_the_remedy(driver: Driver) -> None:
    """Block volumes, unknown parameters and more than the pool has are refused in clear words."""
    kind = driver.csi.VolumeCapability
    block = kind(block=kind.BlockVolume(), access_mode=kind.AccessMode(mode="SINGLE_NODE_WRITER"))
    refused = [
        driver.refused("csi.v1.Controller", "CreateVolume", **driver.volume_fields("x", **fields))
        for fields in (
            {"volume_capabilities": [block]},
            {"parameters": {"flavour": "mint"}},
            {"size": 1 << 50},
        )
    ]
    assert [code for code, _ in refused] == [
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        "RESOURCE_EXHAUSTED",
    ]
    assert refused[0][1].endswith("use volumeMode Filesystem")
    assert "flavour" in refused[1][1]
    code, message = driver.refused("csi.v1.Controller", "ControllerExpandVolume", volume_id="x")
    assert (code, message) == ("INVALID_ARGUMENT", "capacity_range is required")


def test_a_name_that_is_taken_differently_already_exists(driver: Driver) -> None:
    """The same name with another size, source or parameters is ALREADY_EXISTS and says what."""
    driver.create("pvc-1", 32 * MIB)
    driver.snapshot("snap-1", "pvc-1")
    for fields, what in (
        ({"size": 64 * MIB}, "capacity (33554432 bytes)"),
        ({"volume_content_source": driver.from_snapshot("snap-1")}, "content source"),
        ({"parameters": {PVC_NAME: "other"}}, "parameters"),
    ):
        wanted = driver.volume_fields("pvc-1", **fields)
        assert driver.refused("csi.v1.Controller", "CreateVolume", **wanted) == (
            "ALREADY_EXISTS",
            f"volume pvc-1 exists with another {what}",
        )


def test_faults_hit_one_claim_twice_and_no_other(driver: Driver) -> None:
    """A rule by PVC name fails CreateSnapshot of that claim only, only as often as it says."""
    driver.create("pvc-1", parameters={PVC_NAME: "data", PVC_NAMESPACE: "a"})
    driver.create("pvc-2", parameters={PVC_NAME: "data", PVC_NAMESPACE: "b"})
    rule = {"call": "CreateSnapshot", "match": {"source_volume": "a/data"}, "times": 2}
    driver.set_faults({**rule, "code": "INTERNAL", "message": "disk on fire"})
    driver.snapshot("other", "pvc-2")
    wanted = {"name": "snap", "source_volume_id": "pvc-1"}
    for _ in range(2):
        refused = driver.refused("csi.v1.Controller", "CreateSnapshot", **wanted)
        assert refused == ("INTERNAL", "disk on fire")
    assert driver.snapshot("snap", "pvc-1").ready_to_use
    assert "CreateSnapshot name=snap source_volume_id=pvc-1" in driver.log.read_text()
    assert "INTERNAL: disk on fire" in driver.log.read_text()


def test_a_snapshot_gets_ready_when_the_rule_says(driver: Driver) -> None:
    """Not ready for ever while the rule stands, in the list too; or until it is that old."""
    driver.create("pvc-1", parameters={PVC_NAME: "data", PVC_NAMESPACE: "a"})
    rule = {"call": "CreateSnapshot", "match": {"source_volume": "data"}, "not_ready": True}
    driver.set_faults(rule)
    assert not driver.snapshot("snap", "pvc-1").ready_to_use
    listed = driver.call("csi.v1.Controller", "ListSnapshots", snapshot_id="snap")
    assert [entry.snapshot.ready_to_use for entry in listed.entries] == [False]
    driver.set_faults({**rule, "delay_s": 1})
    deadline = time.monotonic() + 10
    while not driver.snapshot("snap", "pvc-1").ready_to_use:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    fresh = driver.snapshot("fresh", "pvc-1")
    assert not fresh.ready_to_use


def test_a_delay_holds_one_call_back_and_a_stop_cuts_it_short(driver: Driver) -> None:
    """delay_s alone makes a call slow; SIGTERM does not wait for it."""
    driver.set_faults({"call": "CreateVolume", "match": {"name": "slow"}, "delay_s": 1})
    started = time.monotonic()
    driver.create("slow")
    assert time.monotonic() - started >= 1
    driver.set_faults({"call": "CreateVolume", "match": {"name": "stuck"}, "delay_s": 600})
    with ThreadPoolExecutor(1) as pool:
        stuck = pool.submit(driver.create, "stuck")
        driver.create("fast")  # other calls go on meanwhile
        assert not stuck.done()
        started = time.monotonic()
        assert driver.end() == 0
        assert time.monotonic() - started < 15
        error = stuck.exception(10)
    assert isinstance(error, grpc.RpcError)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    driver.set_faults()
    driver.start()
    assert [entry.volume.volume_id for entry in driver.volumes()] == ["fast", "slow"]


def test_a_broken_faults_file_is_loud(driver: Driver) -> None:
    """Each call names the file, the path and the fix."""
    driver.set_faults({"call": "CreateSnapsot", "code": "INTERNAL"})
    code, message = driver.refused("csi.v1.Controller", "ListVolumes")
    assert code == "INTERNAL"
    assert (
        message == f"faults: {driver.faults}: [0].call: 'CreateSnapsot' is no call of this driver"
    )


def test_kubelet_learns_name_and_socket(driver: Driver) -> None:
    """Registration answers what kubelet needs and notes the outcome in the log."""
    package = "pluginregistration.Registration"
    info = driver.call(package, "GetInfo", socket=driver.registration)
    assert (info.type, info.name, info.endpoint) == ("CSIPlugin", "test.csi", str(driver.socket))
    driver.call(
        package, "NotifyRegistrationStatus", socket=driver.registration, error="no such driver"
    )
    assert "kubelet refused test.csi: no such driver" in driver.log.read_text()


def test_a_call_that_is_not_claimed_is_unimplemented(driver: Driver) -> None:
    """Staging and attaching do not exist."""
    assert driver.refused("csi.v1.Node", "NodeStageVolume")[0] == "UNIMPLEMENTED"
    assert driver.refused("csi.v1.Controller", "ControllerPublishVolume")[0] == "UNIMPLEMENTED"


def test_a_second_driver_at_the_same_socket_ends_at_once(driver: Driver) -> None:
    """Two drivers on one pool are refused, and the first goes on."""
    done = subprocess.run(driver.argv(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "another process listens there: end it first" in done.stderr
    driver.create("pvc-1")


def test_a_stop_is_clean(driver: Driver) -> None:
    """SIGTERM ends with 0 and removes both sockets; mounts of pods stay."""
    driver.create("pvc-1")
    target = driver.scratch / "mnt"
    driver.publish("pvc-1", target)
    assert driver.end() == 0
    assert not driver.socket.exists()
    assert not driver.registration.exists()
    assert target.is_mount()
    driver.start()


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--pool", "/etc", "/etc is not a mount point"),
        ("--pool", "/proc", "btrfs quota enable"),
        ("--socket", "/proc/csi.sock", "/proc/csi.sock: Failed to bind"),
        ("--socket", "/tmp/" + "x" * 101, "a socket's path may have 105 bytes"),  # noqa: S108  # never made
    ],
)
def test_a_start_that_cannot_work_says_why(
    driver: Driver, flag: str, value: str, message: str
) -> None:
    """The last line names the path and the fix, exit code 1; gRPC may say something before it."""
    done = subprocess.run(
        [*driver.argv(), flag, value], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
