"""Debian packages that the cluster, the image, the demo and the tests need from the host.

Taken for granted are the README's, and what no Debian lacks (priority required or essential:
bash, coreutils, findutils, mawk, util-linux with setpriv, unshare and nsenter).
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from hack.cluster.errors import ClusterError

# what must be there → the Debian package that brings it; here: for a native cluster
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
    "/bin/busybox": "busybox-static",
}
# for images
IMAGE_NEEDED: Mapping[str, str] = {
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
}
# for files with extended attributes, in the demo and in tests
ATTRIBUTES_NEEDED: Mapping[str, str] = {
    "setfattr": "attr",
    "getfattr": "attr",
}
# for everything that `make` does
ALL: Mapping[str, str] = {**NEEDED, **IMAGE_NEEDED, **ATTRIBUTES_NEEDED}


def missing(needed: Mapping[str, str]) -> list[str]:
    """Return the Debian packages that are missing, in alphabetical order."""
    return sorted({package for what, package in needed.items() if not _present(what)})


def installable() -> bool:
    """Say whether packages can be installed here: root on Debian."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def ensure(needed: Mapping[str, str]) -> None:
    """Install what is missing with apt-get, and say what.

    Raises:
        ClusterError: not root, not Debian, or apt-get failed.
    """
    packages = missing(needed)
    if not packages:
        return
    names = " ".join(packages)
    if not installable():
        raise ClusterError(f"missing on this machine: {names} (names of Debian packages)")
    print(f"installing Debian packages: {names}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # a machine that has just started may be installing its updates
    install = ["apt-get", "install", "-y", "-q", "-o", "DPkg::Lock::Timeout=300"]
    install += ["--no-install-recommends", *packages]
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
