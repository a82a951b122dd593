"""Reading mountinfo."""

from pathlib import Path

from hack.cluster.csi.mounts import mounts_of, parse_mountinfo

MOUNTINFO = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
90 22 0:40 / /state/pool rw,relatime shared:1 - btrfs /dev/loop0 rw,space_cache=v2
91 22 0:40 /volumes/a /pods/1/my\\040mount ro,relatime - btrfs /dev/loop0 rw,space_cache=v2
92 22 0:40 /volumes/ab /pods/2 rw,relatime - btrfs /dev/loop0 rw
93 22 0:41 /volumes/a /other rw,relatime - btrfs /dev/loop1 rw
"""


def test_mounts_of_a_volume_are_found_by_device_and_path() -> None:
    """Another volume's, or the same path of another file system, is not this volume's mount."""
    found = mounts_of(
        Path("/state/pool/volumes/a"), parse_mountinfo(MOUNTINFO), pool=Path("/state/pool")
    )
    assert [mount.target for mount in found] == ["/pods/1/my mount"]
    assert found[0].read_only


def test_a_pool_in_a_subvolume_is_understood() -> None:
    """A root that is not `/` is put before the path."""
    text = MOUNTINFO.replace("0:40 / ", "0:40 /sub ").replace("/volumes/ab", "/sub/volumes/ab")
    path = Path("/state/pool/volumes/ab")
    found = mounts_of(path, parse_mountinfo(text), pool=Path("/state/pool"))
    assert [mount.target for mount in found] == ["/pods/2"]


def test_a_pool_that_is_not_mounted_has_no_mounts() -> None:
    """Without the pool's own mount nothing can be said to be a volume."""
    assert mounts_of(Path("/x/volumes/a"), parse_mountinfo(MOUNTINFO), pool=Path("/x")) == []
