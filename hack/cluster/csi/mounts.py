"""Where volumes are mounted, read from the kernel's mountinfo, and mounted by bind mounts."""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.csi.refusal import Code, Refusal

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One line of /proc/self/mountinfo (proc_pid_mountinfo(5)).

    Attributes:
        device: `major:minor`; all mounts of one btrfs have the same.
        root: the path inside of the file system.
        options: those of this mount, not of the file system.
    """

    device: str
    root: str
    target: str
    options: frozenset[str]

    @property
    def read_only(self) -> bool:
        """Whether this mount is read-only."""
        return "ro" in self.options


def parse_mountinfo(text: str) -> list[Mount]:
    """Read mountinfo, in the kernel's order: of two at one target the last one is on top."""
    mounts = []
    for line in text.splitlines():
        _, _, device, root, target, options, *_ = line.split(" ")
        mounts.append(Mount(device, _plain(root), _plain(target), frozenset(options.split(","))))
    return mounts


def _plain(escaped: str) -> str:
    return _OCTAL.sub(lambda octal: chr(int(octal[1], 8)), escaped)


def mounts_of(path: Path, mounts: Sequence[Mount], *, pool: Path) -> list[Mount]:
    """Return the bind mounts of a subvolume at `path`, which lies below the mounted `pool`."""
    base = [mount for mount in mounts if mount.target == str(pool)]
    if not base:
        return []
    root = f"{base[-1].root.rstrip('/')}/{path.relative_to(pool)}"
    return [mount for mount in mounts if mount.device == base[-1].device and mount.root == root]


def current() -> list[Mount]:
    """Return all mounts that this process sees."""
    return parse_mountinfo(Path("/proc/self/mountinfo").read_text())


def bind(source: Path, target: Path, *, flags: Sequence[str]) -> None:
    """Mount `source` at `target` with the flags, which are of the mount alone (`ro`, `noexec`)."""
    _run("mount", "-o", ",".join(("bind", *flags)), str(source), str(target))


def unbind(target: Path) -> None:
    """Unmount what is on top at `target`."""
    _run("umount", str(target))


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Refusal(Code.INTERNAL, f"{' '.join(argv)}: {done.stderr.strip()}")
