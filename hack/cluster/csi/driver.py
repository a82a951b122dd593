"""A real CSI driver for one node, for tests: volumes are btrfs subvolumes with a quota.

It stands in where csi-driver-host-path cannot be had. Provisioner, snapshotter, snapshot-controller
and kubelet around it are the real ones. Snapshots are atomic and copy-on-write; calls fail on
demand (see faults.py). This module is the composition only.
"""

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a script: its own folder is first on the path, make it the project's
    sys.path[0] = str(Path(__file__).resolve().parents[3])

from hack.cluster.csi.busy import Busy
from hack.cluster.csi.controller import Controller
from hack.cluster.csi.faults import Effect, Faults
from hack.cluster.csi.identity import Identity
from hack.cluster.csi.node import Node
from hack.cluster.csi.pool import Pool, PoolUnusable
from hack.cluster.csi.protos import Protos, ProtosMissing
from hack.cluster.csi.records import Records
from hack.cluster.csi.registration import Registration
from hack.cluster.csi.rpc import Server, Service, SocketUnusable
from hack.cluster.csi.snapshots import Snapshots
from hack.cluster.csi.subjects import subjects_of
from hack.cluster.csi.volumes import Volumes

_INTRODUCTION = """\
A CSI driver for one node: volumes are btrfs subvolumes with quota, snapshots copy-on-write.
Ends on SIGTERM or SIGINT; volumes, snapshots and mounts stay.
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    flags = argparse.ArgumentParser(
        description=_INTRODUCTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--name", required=True, help="the driver's name, such as x.csi.drey.test")
    flags.add_argument("--node", required=True, help="the node's name")
    flags.add_argument("--pool", required=True, type=Path, help="where a btrfs is mounted")
    flags.add_argument("--socket", required=True, type=Path, help="where to serve CSI")
    flags.add_argument(
        "--registration", type=Path, help="a socket in kubelet's plugins_registry folder"
    )
    flags.add_argument("--faults", type=Path, help="a JSON file of faults, or a folder of them")
    flags.add_argument(
        "--protos",
        type=Path,
        help="a file of compiled protos, made here if absent; without it they are compiled at "
        "each start, from Go's module cache",
    )
    return flags


def servers(flags: argparse.Namespace) -> list[Server]:
    """Build everything: the CSI server, and the one for kubelet where its socket is given.

    Raises:
        PoolUnusable: the pool is no mounted btrfs.
        ProtosMissing: the protos cannot be found or compiled.
    """
    protos = Protos.load(flags.protos)
    csi = protos.messages("csi.v1")
    pool = Pool(flags.pool)
    pool.prepare()
    records = Records(pool.records)
    busy = Busy()
    descriptors = {name: protos.service(f"csi.v1.{name}") for name in _SERVICES}
    calls = {method.name for each in descriptors.values() for method in each.methods}
    faults = Faults(flags.faults, calls)

    def suffer(call: str, request: Any) -> Effect | None:
        return faults.suffer(call, subjects_of(request, records))

    socket = flags.socket.absolute()
    objects: dict[str, list[object]] = {
        "Identity": [Identity(csi, flags.name)],
        "Controller": [
            Controller(csi),
            Volumes(csi, pool, records, busy),
            Snapshots(csi, pool, records, busy, faults),
        ],
        "Node": [Node(csi, flags.node, pool, records, busy)],
    }
    services = [Service(descriptors[name], objects[name]) for name in _SERVICES]
    built = [Server(socket, services, suffer)]
    if flags.registration:
        package = "pluginregistration"
        registration = Registration(protos.messages(package), flags.name, socket)
        service = Service(protos.service(f"{package}.Registration"), [registration])
        built.append(Server(flags.registration.absolute(), [service], lambda _call, _request: None))
    return built


_SERVICES = ("Identity", "Controller", "Node")


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    flags = parser().parse_args()
    # Blocked before any thread starts, and waited for: a handler would only run once the main
    # thread wakes, which a signal that comes just before its sleep does not do.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    started: list[Server] = []
    try:
        for server in servers(flags):
            server.start()
            started.append(server)
        print(f"{flags.name} serves {flags.pool} at {flags.socket}", flush=True)
        signal.sigwait(ends)
    except (PoolUnusable, ProtosMissing, SocketUnusable) as err:
        sys.exit(f"csi driver: {err}")
    finally:
        for server in reversed(started):
            server.stop()


if __name__ == "__main__":
    main()
