"""The test cluster from the command line: `python3 hack/cluster <verb>`, or `make cluster`."""

import argparse
import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[2])
# `python3 hack/cluster` puts this folder on the path: its modules are found through the checkout
sys.path[:1] = [ROOT] if sys.path[0] != ROOT else []

from hack.cluster import (  # noqa: E402 - the path is set above
    backends,
    daemons,
    images,
    kind,
    layout,
    native,
    packages,
    processes,
    tools,
)
from hack.cluster.errors import ClusterError  # noqa: E402 - the path is set above

Cluster = native.Native | kind.Kind


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        prog="hack/cluster",
        description="A real Kubernetes cluster for tests and demos: kind where Docker or Podman "
        "answers, else native processes from pinned Go modules (root on Debian).",
        epilog="Environment: DREY_STATE (state folder, default /var/lib/drey-cluster), PROVIDER "
        "(auto, kind, native), XDG_CACHE_HOME (binaries and base images below drey/).",
    )
    verbs = result.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help=text, description=text)

    verb("up", "bring the cluster up; a no-op when it is healthy, anew when it is half-dead")
    verb("down", "remove the cluster and everything that it changed on this machine")
    verb("status", "show the daemons and what is wrong; exit code 1 unless healthy")
    verb("info", "print paths, endpoints and keys as JSON")
    verb("packages", "install the Debian packages that cluster, image, demo and tests need")
    verb("tools", "build all binaries into the cache and print its folder")
    verb("base-image", f"make sure that buildah has {images.BASE}")
    verb("load", "load image archives into the cluster").add_argument(
        "archive", nargs="+", type=Path, help="OCI archive"
    )
    restart = verb("restart", "restart one daemon and wait until it serves")
    restart.add_argument("daemon", choices=daemons.NAMES)
    verb("restart-apiserver", "restart the API server and wait until it is ready")
    logs = verb("logs", "print the log of a daemon")
    logs.add_argument("daemon", nargs="?", help="without it: the names that have a log")
    for group, text in (("s3", "the S3 server"), ("rest", "restic's REST server")):
        verb(group, f"start, stop or show {text}").add_argument(
            "action", choices=("start", "stop", "status")
        )
    return result


def cluster(state: Path) -> Cluster:
    """Return the cluster of the state folder: the one that is there, else as PROVIDER says.

    Raises:
        ClusterError: one line that says what this machine lacks.
    """
    provider = os.environ.get("PROVIDER") or "auto"
    if provider not in {"auto", "kind", "native"}:
        raise ClusterError(f"PROVIDER={provider}: not one of auto, kind, native")
    owner = state / ".drey-cluster"
    if owner.exists():
        there = "kind" if owner.read_text() == "kind\n" else "native"
        if provider not in {"auto", there}:
            raise ClusterError(f"{state} has a {there} cluster: `make cluster-down` first")
        provider = there
    engine = kind.engine() if provider != "native" else ""
    if engine:
        return kind.Kind(state)
    if provider == "kind":
        raise ClusterError("PROVIDER=kind needs a running Docker or Podman: none answers")
    if reason := native.unsupported():
        raise ClusterError(
            f"a cluster needs root on Debian Linux, or a running Docker or Podman: {reason}, "
            "and no container engine answers"
            if provider == "auto"
            else f"PROVIDER=native needs root on Debian Linux: {reason}"
        )
    return native.Native(state)


@contextmanager
def exclusive(state: Path) -> Iterator[None]:
    """Let one process at a time change the cluster of a state folder; a second one waits."""
    folder = layout.cache_folder() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(str(state).encode()).hexdigest()[:16]
    with (folder / name).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another process changes this cluster: waiting for it", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    options = parser().parse_args(arguments)
    try:
        return _run(options, layout.state_folder())
    except ClusterError as error:
        print(f"{options.verb}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(options: argparse.Namespace, state: Path) -> int:
    if options.verb in {"tools", "base-image"}:
        print(tools.ensure() if options.verb == "tools" else images.ensure_base())
        return 0
    found = cluster(state)
    if options.verb == "packages":
        _install_packages(found)
        return 0
    if options.verb == "status":
        return _status(found)
    if options.verb == "info":
        print(json.dumps(describe(found), indent=2))
        return 0
    if options.verb == "logs":
        return _logs(found, options.daemon)
    with exclusive(state):
        _change(found, options)
    return 0


def _install_packages(found: Cluster) -> None:
    """Install what is missing; beside kind only where this can be done at all."""
    if isinstance(found, kind.Kind) and not packages.installable():
        print("kind needs no Debian packages; some component tests need root on Debian")
        return
    packages.ensure(packages.ALL)


def _change(found: Cluster, options: argparse.Namespace) -> None:
    if options.verb == "up":
        found.up()
        print(f"export KUBECONFIG={found.paths.kubeconfig}")
        if isinstance(found, native.Native):
            print(f"kubectl: {found.paths.binaries / 'kubectl'}")
    elif options.verb == "down":
        found.down()
    elif options.verb == "load":
        _require_up(found)
        for archive in options.archive:
            if isinstance(found, kind.Kind):
                names = found.load(archive)
            else:
                names = images.load(found.paths, archive)
            print("\n".join(names))
    elif options.verb in backends.GROUPS:
        _backend(found, options.verb, options.action)
    elif isinstance(found, native.Native):
        _require_up(found)
        name = "kube-apiserver" if options.verb == "restart-apiserver" else options.daemon
        found.restart(name)
    else:
        raise ClusterError(f"{options.verb} is for the native cluster only")


def _require_up(found: Cluster) -> None:
    if not found.paths.owner_file.exists():
        raise ClusterError(f"there is no cluster in {found.paths.state}: run `make cluster` first")


def _backend(found: Cluster, group: str, action: str) -> None:
    _require_up(found)
    servers = found.backends()
    if action == "start":
        servers.start(group)
    elif action == "stop":
        servers.stop(group)
    print(json.dumps(servers.describe()[group], indent=2))


def describe(found: Cluster) -> dict[str, object]:
    """Return what tests need to know about a cluster: see docs of the verb `info`."""
    paths = found.paths
    is_native = isinstance(found, native.Native)
    return {
        "provider": "native" if is_native else "kind",
        "healthy": not found.complaints(),
        "state": str(paths.state),
        "kubeconfig": str(paths.kubeconfig),
        "binaries": str(paths.binaries),
        "logs": str(paths.log),
        "audit_log": str(paths.audit_log),
        "node": layout.NODE if is_native else kind.NODE,
        "node_address": found.gateway() if isinstance(found, kind.Kind) else layout.NODE_ADDRESS,
        # what a command starts with that is to run on the node
        "on_node": [] if is_native else [kind.engine() or "docker", "exec", "-i", kind.NODE],
        "kubelet": str(paths.kubelet) if is_native else "/var/lib/kubelet",
        "containerd_socket": str(paths.containerd_socket) if is_native else None,
        "storage": {
            "driver": layout.CSI_DRIVER if is_native else "hostpath.csi.k8s.io",
            "storage_class": "csi-btrfs" if is_native else "csi-hostpath-sc",
            "immediate_storage_class": "csi-btrfs-immediate" if is_native else "csi-hostpath-sc",
            "snapshot_class": "csi-btrfs" if is_native else "csi-hostpath-snapclass",
            "other_snapshot_class": "other" if is_native else None,
            "pool": str(paths.pool) if is_native else None,
            "faults": str(paths.csi_faults) if is_native else None,
        },
        **found.backends().describe(),
    }


def _status(found: Cluster) -> int:
    if isinstance(found, native.Native) and found.paths.owner_file.exists():
        page_bytes = os.sysconf("SC_PAGE_SIZE")
        for name in [*daemons.NAMES, *found.backends().daemons()]:
            identity = found.supervisor.running(name)
            if identity is None:
                if name in daemons.NAMES:
                    print(f"{name:26}  does not run")
                continue
            pages = (processes.PROC / str(identity.pid) / "statm").read_text().split()[1]
            print(f"{name:26}  pid {identity.pid:<8} {int(pages) * page_bytes >> 20:5} MiB")
    complaints = found.complaints()
    print("\n".join(complaints) if complaints else f"healthy; KUBECONFIG={found.paths.kubeconfig}")
    return 1 if complaints else 0


def _logs(found: Cluster, name: str | None) -> int:
    files = {file.stem: file for file in sorted(found.paths.log.glob("*.log"))}
    if name is None:
        print("\n".join(files))
        return 0
    if name not in files:
        raise ClusterError(f"no log {name!r} in {found.paths.log}; there are: {', '.join(files)}")
    with files[name].open(errors="replace") as lines:
        sys.stdout.writelines(lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
