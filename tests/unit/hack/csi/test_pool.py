"""Reading the output of btrfs, and refusing a folder that is no pool."""

from pathlib import Path

import pytest

from hack.cluster.csi.pool import Pool, PoolUnusable, Usage, parse_qgroup

HEAD = """\
Qgroupid    Referenced    Exclusive  Max referenced  Max exclusive   Path
--------    ----------    ---------  --------------  -------------   ----
"""


def test_a_qgroup_row_gives_use_and_limit() -> None:
    """Referenced and max referenced are what counts."""
    row = "0/256         20955136        16384        20971520           none   volumes/v\n"
    assert parse_qgroup(HEAD + row) == Usage(20955136, 20971520)


def test_no_limit_is_zero() -> None:
    """`none` reads as 0."""
    assert parse_qgroup(HEAD + "0/256  16384  16384  none  none  v\n") == Usage(16384, 0)


@pytest.mark.parametrize("rows", ["", "0/1 1 1 none none a\n0/2 1 1 none none b\n"])
def test_other_than_one_row_is_an_error(rows: str) -> None:
    """A volume has one qgroup: anything else is not guessed at."""
    with pytest.raises(ValueError, match="expected one qgroup"):
        parse_qgroup(HEAD + rows)


def test_a_folder_that_is_not_mounted_is_no_pool(tmp_path: Path) -> None:
    """A pool that lost its mount must not silently become a folder on the root file system."""
    with pytest.raises(PoolUnusable, match="is not a mount point: mount a btrfs there first"):
        Pool(tmp_path).prepare()
