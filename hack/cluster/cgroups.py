"""The cgroup below which the kubelet puts all pods of one cluster.

Whatever else was killed, a pod's processes cannot leave it: that is how they are found.
"""

from pathlib import Path

from hack.cluster.errors import ClusterError

ROOT = Path("/sys/fs/cgroup")


def folders(name: str) -> list[Path]:
    """Return the folder in each hierarchy: several with cgroup v1, one with v2."""
    if _is_unified():
        return [ROOT / name]
    # names like `cpu,cpuacct` may be links to one hierarchy
    hierarchies = {entry.resolve() for entry in ROOT.iterdir() if entry.is_dir()}
    return [hierarchy / name for hierarchy in sorted(hierarchies)]


def create(name: str) -> None:
    """Create the cgroup with all controllers that can be delegated.

    Raises:
        ClusterError: the kernel refused.
    """
    for folder in folders(name):
        try:
            if _is_unified():
                _delegate_controllers(ROOT)
            folder.mkdir(exist_ok=True)
            if _is_unified():
                _delegate_controllers(folder)
            for file in ("cpuset.cpus", "cpuset.mems"):  # cgroup v1: empty until copied
                if (folder / file).exists() and not (folder / file).read_text().strip():
                    (folder / file).write_text((folder.parent / file).read_text())
        except OSError as error:
            raise ClusterError(f"cannot create the cgroup {folder}: {error.strerror}") from error


def members(name: str) -> set[int]:
    """Return the pids of all processes in the cgroup and below it."""
    pids: set[int] = set()
    for folder in folders(name):
        for file in folder.rglob("cgroup.procs"):
            try:
                pids.update(int(line) for line in file.read_text().split())
            except OSError:
                continue  # the cgroup has gone meanwhile
    return pids - {0}


def remove(name: str) -> None:
    """Remove the cgroup and all below it; they must have no process any more.

    Raises:
        ClusterError: the kernel refused.
    """
    for root in folders(name):
        if not root.exists():
            continue
        below = [folder for folder in root.rglob("*") if folder.is_dir()]
        for folder in [*sorted(below, reverse=True), root]:
            try:
                folder.rmdir()
            except OSError as error:
                raise ClusterError(f"cannot remove the cgroup {folder}: {error}") from error


def _is_unified() -> bool:
    return (ROOT / "cgroup.controllers").exists()


def _delegate_controllers(folder: Path) -> None:
    for controller in (folder / "cgroup.controllers").read_text().split():
        try:
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError:
            continue  # not every controller can be delegated; the kubelet says which it misses
