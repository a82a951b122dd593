"""Records of volumes and snapshots on disk."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hack.cluster.csi.records import Records, SnapshotRecord, VolumeRecord, id_for

VOLUME = VolumeRecord(
    id="pvc-1",
    name="pvc-1",
    capacity_bytes=7,
    created_s=1.5,
    parameters={"a": "b"},
    source_kind="snapshot",
    source_id="s",
)
SNAPSHOT = SnapshotRecord(
    id="s",
    name="s",
    source_volume_id="pvc-1",
    size_bytes=7,
    created_s=2.5,
    parameters={},
    source_parameters={"a": "b"},
)


@given(st.text(min_size=1, max_size=200))
def test_an_id_is_a_plain_file_name_and_its_own_id(name: str) -> None:
    """No name leads out of the folder, is hidden or too long; ids are stable under `id_for`."""
    made = id_for(name)
    assert Path(made).name == made
    assert not made.startswith(".")
    assert len(made) <= 128
    assert id_for(made) == made


def test_a_new_process_reads_what_the_old_one_wrote(tmp_path: Path) -> None:
    """Nothing is kept in memory: a second instance sees the same records."""
    Records(tmp_path).put(VOLUME)
    Records(tmp_path).put(SNAPSHOT)
    again = Records(tmp_path)
    assert again.volume("pvc-1") == VOLUME
    assert again.snapshot("s") == SNAPSHOT
    assert again.volumes() == [VOLUME]
    assert again.snapshots() == [SNAPSHOT]


def test_a_half_written_record_is_none(tmp_path: Path) -> None:
    """What a crash left beside the records does not count."""
    records = Records(tmp_path)
    (tmp_path / "volumes" / "pvc-2.part").write_text("{")
    assert records.volumes() == []


def test_removing_twice_is_fine(tmp_path: Path) -> None:
    """A delete that is repeated after a crash succeeds."""
    records = Records(tmp_path)
    records.put(VOLUME)
    records.remove(VOLUME)
    records.remove(VOLUME)
    assert records.volume("pvc-1") is None


@pytest.mark.parametrize("foreign", ["", "../volumes/pvc-1", "/etc/passwd", "nothing"])
def test_an_id_that_was_never_ours_is_unknown(tmp_path: Path, foreign: str) -> None:
    """Ids come from outside: they cannot reach other files."""
    records = Records(tmp_path)
    records.put(VOLUME)
    assert records.snapshot(foreign) is None
    assert records.volume(foreign) is None
