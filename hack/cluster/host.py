"""What a cluster changes on its host, and the removal of all of it.

Nothing here trusts a record of what was made: it looks at the kernel's own lists, so that it also
finds what a cluster left behind whose processes were all killed.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from hack.cluster import iptables, layout, processes
from hack.cluster.errors import ClusterError

SYSCTL = Path("/proc/sys")
# what the bridge needs, and what kubelet and kube-proxy set: put back by `restore_sysctls`
SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/route_localnet",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


def unescape(mount_field: str) -> str:
    r"""Return a field of /proc/mounts as it is: blanks and backslashes are octal there (\040)."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), mount_field)


def mounts_below(folder: Path, mounts: str) -> list[str]:
    """Return the mount points at or below a folder, the last mounted first.

    Args:
        folder: an absolute path.
        mounts: text of /proc/self/mounts.
    """
    points = [unescape(line.split()[1]) for line in mounts.splitlines() if line]
    return [p for p in reversed(points) if Path(p).is_relative_to(folder)]


def unmount_all(folder: Path) -> None:
    """Unmount everything at or below the folder.

    Raises:
        ClusterError: something is still mounted there.
    """
    for _ in range(3):
        points = mounts_below(folder, Path("/proc/self/mounts").read_text())
        if not points:
            return
        for point in points:
            if subprocess.run(["umount", point], capture_output=True, check=False).returncode:
                subprocess.run(["umount", "-l", point], capture_output=True, check=False)
    points = mounts_below(folder, Path("/proc/self/mounts").read_text())
    if points:
        raise ClusterError(f"cannot unmount {', '.join(points)}")


def detach_loops(folder: Path) -> None:
    """Detach the loop devices whose file is below the folder, also when the file is gone."""
    for device in Path("/sys/block").glob("loop*"):
        backing = device / "loop" / "backing_file"
        try:
            file = backing.read_text().strip().removesuffix(" (deleted)")
        except OSError:
            continue  # detached, now or before
        if Path(file).is_relative_to(folder):
            subprocess.run(["losetup", "-d", f"/dev/{device.name}"], check=False)


def create_bridge() -> None:
    """Create the bridge before the first pod: its address is the node's and the API server's."""
    if link_exists():
        return
    address = f"{layout.NODE_ADDRESS}/24"
    _ip("link", "add", layout.BRIDGE, "type", "bridge")
    _ip("addr", "add", address, "dev", layout.BRIDGE)
    _ip("link", "set", layout.BRIDGE, "up")


def link_exists() -> bool:
    """Say whether our bridge is there."""
    if shutil.which("ip") is None:  # then no cluster was ever started
        return False
    # not /sys/class/net: that shows the network namespace in which /sys was mounted
    argv = ["ip", "link", "show", "dev", layout.BRIDGE]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def remove_links() -> None:
    """Remove the bridge and the host's ends of the pods' interfaces that hang on it."""
    if not link_exists():
        return
    listed = _ip("-json", "link", "show", "master", layout.BRIDGE)
    for port in json.loads(listed or "[]"):
        # the end in a pod's namespace may have been removed meanwhile, and this one with it
        name = str(port["ifname"])
        subprocess.run(["ip", "link", "del", name], capture_output=True, check=False)
    _ip("link", "del", layout.BRIDGE)


def save_sysctls(file: Path) -> None:
    """Write down the settings that a cluster changes, once."""
    if file.exists():
        return
    values = {}
    for name in SYSCTLS:
        if (SYSCTL / name).exists():
            values[name] = (SYSCTL / name).read_text().strip()
    file.write_text(json.dumps(values, indent=1))


def restore_sysctls(file: Path) -> None:
    """Put back the settings that were written down."""
    try:
        values = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return
    for name, value in values.items():
        if name in SYSCTLS and (SYSCTL / name).read_text().strip() != value:
            (SYSCTL / name).write_text(value)


def shim_sockets(state: Path) -> list[Path]:
    """Return the sockets of this cluster's containerd shims.

    containerd puts them into /run/containerd/s, whatever its own state folder is, and writes the
    address of each down in that folder (bootstrap.json).
    """
    sockets = []
    for file in (state / "containerd-run").glob("io.containerd.runtime.v2.task/*/*/bootstrap.json"):
        try:
            address = str(json.loads(file.read_text())["address"])
        except (OSError, ValueError, KeyError):
            continue
        sockets.append(Path(address.removeprefix("unix://")))
    return sockets


def remove_files(state: Path) -> None:
    """Remove what lies outside the state folder: CNI results, links to pod logs, shim sockets."""
    for socket in shim_sockets(state):
        if socket.is_relative_to("/run/containerd"):
            socket.unlink(missing_ok=True)
    for result in Path("/var/lib/cni/results").glob(f"{layout.CNI_NETWORK}-*"):
        result.unlink(missing_ok=True)
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(state):
            link.unlink(missing_ok=True)
    device_plugins = Path("/var/lib/kubelet/device-plugins")
    if not processes.listening_on(10250):
        for name in ("kubelet.sock", "kubelet_internal_checkpoint", "DEPRECATION"):
            (device_plugins / name).unlink(missing_ok=True)
    _remove_empty(
        [
            "/run/containerd/s", "/run/containerd/runc/k8s.io", "/run/containerd/runc",
            "/run/containerd/io.containerd.runtime.v2.task",
            "/run/containerd",
            "/var/lib/cni/results", "/var/lib/cni/networks", "/var/lib/cni/cache", "/var/lib/cni",
            "/var/log/containers", "/var/log/pods",
            "/var/lib/kubelet/device-plugins", "/var/lib/kubelet",
        ]
    )  # fmt: skip


def _remove_empty(folders: Iterable[str]) -> None:
    for folder in folders:
        try:
            Path(folder).rmdir()
        except OSError:
            continue  # not there, or somebody else's files are in it


def remove_rules() -> None:
    """Remove the iptables chains and rules of kube-proxy, kubelet and CNI."""
    iptables.remove(layout.CNI_NETWORK)


def remove_state(state: Path) -> None:
    """Remove the state folder.

    Raises:
        ClusterError: something is mounted below it: removing would empty that too.
    """
    points = mounts_below(state, Path("/proc/self/mounts").read_text())
    if points:
        raise ClusterError(f"not removing {state}: {', '.join(points)} is mounted there")
    if state.exists():
        shutil.rmtree(state)


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
