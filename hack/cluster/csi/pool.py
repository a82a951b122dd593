"""The btrfs commands on the pool: subvolumes, their snapshots and their quota. Nothing else."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.csi.refusal import Code, Refusal


class PoolUnusable(Exception):
    """The pool's folder cannot serve; the message says why and what to do."""


@dataclass(frozen=True)
class Usage:
    """Bytes of one volume: what it refers to (shared extents included) and its quota."""

    used_bytes: int
    limit_bytes: int


def parse_qgroup(text: str) -> Usage:
    """Read the one row of `btrfs qgroup show -re --raw -f`.

    The columns are id, referenced, exclusive, max referenced, max exclusive, path; a limit that is
    not set reads `none` and becomes 0.

    Raises:
        ValueError: there is not exactly one row.
    """
    rows = [line.split() for line in text.splitlines() if line.startswith("0/")]
    if len(rows) != 1:
        raise ValueError(f"expected one qgroup, got {len(rows)}: {text!r}")
    _, referenced, _, limit, *_ = rows[0]
    return Usage(used_bytes=int(referenced), limit_bytes=0 if limit == "none" else int(limit))


class Pool:
    """A mounted btrfs: `volumes/<id>` and `snapshots/<id>` are subvolumes, `records/` is plain.

    A volume's quota limits what it refers to, so data that it shares with a snapshot counts too,
    as on a device of that size. Writing beyond gives EDQUOT.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.records = self.root / "records"

    def prepare(self) -> None:
        """Check the file system, switch quota on and create the folders; repeatable.

        Raises:
            PoolUnusable: the folder is no mounted btrfs, or quota cannot be switched on.
        """
        if not self.root.is_mount():
            raise PoolUnusable(f"{self.root} is not a mount point: mount a btrfs there first")
        done = _btrfs("quota", "enable", self.root)
        if done.returncode != 0:
            raise PoolUnusable(f"{self.root}: btrfs quota enable: {done.stderr.strip()}")
        for folder in ("volumes", "snapshots", "records"):
            (self.root / folder).mkdir(exist_ok=True)

    def volume_path(self, volume_id: str) -> Path:
        """Return where the volume's subvolume is; `volume_id` is from a record."""
        return self.root / "volumes" / volume_id

    def snapshot_path(self, snapshot_id: str) -> Path:
        """Return where the snapshot's subvolume is; `snapshot_id` is from a record."""
        return self.root / "snapshots" / snapshot_id

    def create(self, path: Path, *, limit_bytes: int) -> None:
        """Create an empty subvolume that any user may write to, as a fresh volume should be."""
        self.delete(path)
        _run("subvolume", "create", path)
        path.chmod(0o777)
        self.limit(path, limit_bytes)

    def copy(self, source: Path, path: Path, *, limit_bytes: int) -> None:
        """Create a writable copy-on-write subvolume of another one; owner and mode come along."""
        self.delete(path)
        _run("subvolume", "snapshot", source, path)
        self.limit(path, limit_bytes)

    def freeze(self, source: Path, path: Path) -> None:
        """Take a read-only, atomic snapshot, data that was only buffered so far included."""
        self.delete(path)
        _run("subvolume", "snapshot", "-r", source, path)

    def limit(self, path: Path, limit_bytes: int) -> None:
        """Set the quota of a subvolume; a snapshot begins with its source's (kernel)."""
        _run("qgroup", "limit", str(limit_bytes), path)

    def delete(self, path: Path) -> None:
        """Delete a subvolume; one that is gone already is fine."""
        if path.is_dir():
            _run("subvolume", "delete", path)

    def usage(self, path: Path) -> Usage:
        """Return the use and the quota of a subvolume, as of the last commit (up to 30 s ago)."""
        return parse_qgroup(_run("qgroup", "show", "-re", "--raw", "-f", path))

    def total_bytes(self) -> int:
        """Return the size of the whole pool."""
        stat = os.statvfs(self.root)
        return stat.f_blocks * stat.f_frsize

    def available_bytes(self) -> int:
        """Return what can still be written; volumes are thin, so promises are not subtracted."""
        stat = os.statvfs(self.root)
        return stat.f_bavail * stat.f_frsize


def _btrfs(*args: str | Path) -> subprocess.CompletedProcess[str]:
    argv = ["btrfs", *(str(arg) for arg in args)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def _run(*args: str | Path) -> str:
    done = _btrfs(*args)
    if done.returncode != 0:
        words = " ".join(str(arg) for arg in args)
        raise Refusal(Code.INTERNAL, f"btrfs {words}: {done.stderr.strip()}")
    return done.stdout
