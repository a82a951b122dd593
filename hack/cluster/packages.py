"""Debian packages that the native cluster needs from the host."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from hack.cluster.errors import ClusterError

# what must be there → the Debian package that brings it
NEEDED: Mapping[str, str] = {
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "mkfs.btrfs": "btrfs-progs",
    "openssl": "openssl",
    "ip": "iproute2",
    "mount": "mount",
    "losetup": "mount",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "/usr/lib/cni/host-local": "containernetworking-plugins",
}
# for images only
IMAGE_NEEDED: Mapping[str, str] = {
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
}
BUSYBOX: Mapping[str, str] = {"/bin/busybox": "busybox-static"}


def missing(needed: Mapping[str, str]) -> list[str]:
    """Return the Debian packages that are missing, in alphabetical order."""
    return sorted({package for what, package in needed.items() if not _present(what)})


def ensure(needed: Mapping[str, str]) -> None:
    """Install what is missing with apt-get, and say what.

    Raises:
        ClusterError: not root, not Debian, or apt-get failed.
    """
    packages = missing(needed)
    if not packages:
        return
    names = " ".join(packages)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ClusterError(f"missing on this machine: {names} (names of Debian packages)")
    print(f"installing Debian packages: {names}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    for argv in (install, ["apt-get", "update", "-q"], install):
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
        if argv is install and done.returncode == 0:
            return
    raise ClusterError(f"apt-get install {names} failed:\n{done.stderr.strip()[-800:]}")


def _present(what: str) -> bool:
    sbin = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if what.startswith("/"):
        return Path(what).exists()
    return shutil.which(what, path=sbin) is not None
