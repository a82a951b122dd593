"""What is ours on a host is found in the kernel's own lists."""

import json
from pathlib import Path

from hack.cluster import host

MOUNTS = r"""/dev/vda / ext4 rw 0 0
/dev/loop1 /var/lib/drey/pool btrfs rw 0 0
tmpfs /var/lib/drey/kubelet/pods/a\040b/secret tmpfs rw 0 0
tmpfs /var/lib/drey-other tmpfs rw 0 0
overlay /var/lib/drey overlay rw 0 0
"""


def test_mounts_are_found_last_first_by_path_components() -> None:
    """A neighbour with the same beginning is not ours; octal escapes are resolved."""
    assert host.mounts_below(Path("/var/lib/drey"), MOUNTS) == [
        "/var/lib/drey",
        "/var/lib/drey/kubelet/pods/a b/secret",
        "/var/lib/drey/pool",
    ]


def test_shim_sockets_are_read_from_the_bootstrap_files(tmp_path: Path) -> None:
    """A file that is broken or half written is no reason to stop."""
    tasks = tmp_path / "containerd-run" / "io.containerd.runtime.v2.task" / "k8s.io"
    for name, text in (
        ("good", json.dumps({"address": "unix:///run/containerd/s/abc"})),
        ("half", "{"),
        ("none", "{}"),
    ):
        (tasks / name).mkdir(parents=True)
        (tasks / name / "bootstrap.json").write_text(text)
    assert host.shim_sockets(tmp_path) == [Path("/run/containerd/s/abc")]
