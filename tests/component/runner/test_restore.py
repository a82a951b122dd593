"""`runner restore` with a real restic."""

import os
import socket
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.api.job_input import JobInput
from controller.api.report import Reason
from tests.support.runner import Place, restic_program, unreadable_shim


def restored(place: Place) -> Path:
    """Return the folder that stands for the volume after a restore."""
    return place.root / "restored" / place.source.relative_to("/")


def entry(path: Path) -> tuple[Any, ...]:
    """Return all that a backup must keep of one file."""
    info = path.lstat()
    content: Any = None
    if stat.S_ISLNK(info.st_mode):
        content = path.readlink()
    elif stat.S_ISREG(info.st_mode):
        content = path.read_bytes()
    attributes = {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
    }
    links = info.st_nlink if stat.S_ISREG(info.st_mode) else 0
    return info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns, links, content, attributes


def entries(root: Path) -> dict[bytes, tuple[Any, ...]]:
    """Return everything below a folder, itself included, by relative name in bytes."""
    found = [root, *root.rglob("*")]
    return {os.fsencode(path.relative_to(root)): entry(path) for path in found}


def fill(volume: Path) -> None:
    """Write files of many kinds."""
    for number in range(50):
        (volume / f"small-{number}").write_text(str(number))
    with (volume / "sparse").open("wb") as file:
        file.truncate(16 << 20)
        file.seek(8 << 20)
        file.write(b"island")
    (volume / "hard").hardlink_to(volume / "small-0")
    (volume / "link").symlink_to("small-1")
    (volume / "dangling").symlink_to("/no/such/place")
    for name in (b"latin-\xe9\xff", b"new\nline", b"quote\"'\\", b"-dash", b"star*[x]?", b" "):
        Path(os.fsdecode(os.fsencode(volume) + b"/" + name)).write_bytes(name)
    os.mkfifo(volume / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        # Relative: the path of a socket may only have 108 bytes.
        here = Path.cwd()
        os.chdir(volume)
        listener.bind("socket")
        os.chdir(here)
    (volume / "owned").write_text("x")
    os.chown(volume / "owned", 1234, 4321)
    (volume / "suid").write_text("x")
    (volume / "suid").chmod(0o4711)
    os.setxattr(volume / "owned", "user.note", b"\0\xffbytes")
    (volume / "empty").mkdir(mode=0o701)
    os.utime(volume / "owned", ns=(1, 1234567890123456789))
    volume.chmod(0o750)
    os.chown(volume, 77, 88)


def test_everything_comes_back(place: Place) -> None:
    """Names, contents, owners, modes, times, links, attributes: equal after a restore."""
    fill(place.source)
    before = entries(place.source)
    assert place.run("backup", job=place.job()).code == 0
    run = place.run("restore", job=place.restore_job())
    assert run.code == 0, run.text
    after = entries(restored(place))
    sockets = {name for name, item in before.items() if stat.S_ISSOCK(item[0])}
    assert {name: before[name] for name in before.keys() - sockets} == after
    assert (restored(place) / "sparse").stat().st_blocks < 16 << 10
    assert run.host.snapshots[0].id == place.snapshots()[-1]["id"]


def test_overwrites_but_never_deletes(place: Place) -> None:
    """A changed file gets its old content back, a new one stays (D4)."""
    place.run("backup", job=place.job())
    place.run("restore", job=place.restore_job())
    (restored(place) / "file").write_text("changed")
    (restored(place) / "new").write_text("new")
    assert place.run("restore", job=place.restore_job()).code == 0
    assert (restored(place) / "file").read_text() == "content\n"
    assert (restored(place) / "new").read_text() == "new"


def test_own_target_comes_first(place: Place) -> None:
    """The newest snapshot of the target's own tag is taken, not a neighbour's newer one (D1)."""
    own = place.run("backup", job=place.job()).host.snapshots[0].id
    (place.source / "file").write_text("the neighbour's")
    place.run("backup", job=_neighbour(place, "other"))
    run = place.run("restore", job=place.restore_job())
    assert run.host.snapshots[0].id == own
    assert (restored(place) / "file").read_text() == "content\n"


def test_ambiguous(place: Place) -> None:
    """Snapshots of several other targets: nothing is restored by guess, all are listed (D1)."""
    ids = [
        place.run("backup", job=_neighbour(place, name)).host.snapshots[0].id
        for name in ("one", "two")
    ]
    run = place.run("restore", job=place.restore_job())
    assert run.host.reason == Reason.SNAPSHOT_AMBIGUOUS
    assert all(snapshot in run.host.error for snapshot in ids)
    assert "demo/one" in run.host.error
    assert not (place.root / "restored").exists()
    named = place.run("restore", job=place.restore_job(snapshots=(ids[0][:8],)))
    assert named.host.snapshots[0].id == ids[0]


def test_one_other_target_is_unambiguous(place: Place) -> None:
    """A volume restored under another name takes the only target's snapshot."""
    only = place.run("backup", job=_neighbour(place, "one")).host.snapshots[0].id
    assert place.run("restore", job=place.restore_job()).host.snapshots[0].id == only


@pytest.mark.parametrize(
    "snapshot", ["deadbeef", "0" * 64, "nonsense", "abc", "--help", "latest:/"]
)
def test_unknown_snapshot(place: Place, snapshot: str) -> None:
    """An id that the repository does not have is SnapshotNotFound and names it."""
    place.run("backup", job=place.job())
    run = place.run("restore", job=place.restore_job(snapshots=(snapshot,)))
    assert (run.code, run.host.reason) == (1, Reason.SNAPSHOT_NOT_FOUND)
    assert snapshot in run.host.error


def test_an_incomplete_snapshot_is_restored_and_said(place: Place) -> None:
    """`latest` takes the newest, although it is incomplete; the report names the complete one (D5).

    So it does where the incomplete one was asked for. The complete one comes without a word.
    """
    (place.source / "other").write_text("other")
    complete = place.run("backup", job=place.job()).host.snapshots[0].id
    place.shim(unreadable_shim(place.source / "file"))
    incomplete = place.run("backup", job=place.job()).host.snapshots[0].id
    place.run("backup", job=_neighbour(place, "other"))
    place.program = restic_program()
    for snapshots in ((), ("latest",), (incomplete,), (incomplete[:8],)):
        run = place.run("restore", job=place.restore_job(snapshots=snapshots))
        assert (run.code, run.host.snapshots[0].id) == (0, incomplete), run.text
        assert run.host.incomplete.startswith(f"Snapshot {incomplete} of ")
        assert f"is {complete} of " in run.host.incomplete
        # one more listing, where only ids were listed
        extra = ["snapshots"] if snapshots not in ((), ("latest",)) else []
        assert run.verbs() == ["snapshots", *extra, "restore"]
    assert sorted(path.name for path in restored(place).iterdir()) == ["other"]
    good = place.run("restore", job=place.restore_job(snapshots=(complete,)))
    assert (good.host.incomplete, good.verbs()) == ("", ["snapshots", "restore"])
    assert (restored(place) / "file").read_text() == "content\n"


def test_an_incomplete_snapshot_without_its_tag(place: Place) -> None:
    """What the Repository remembers counts like the tag; without another one nothing is named."""
    only = place.run("backup", job=place.job()).host.snapshots[0].id
    for known, said in (((), False), ((only,), True)):
        run = place.run("restore", job=place.restore_job(known_incomplete=known))
        assert (run.code, bool(run.host.incomplete)) == (0, said)
    assert "no complete one of its host, path and target exists" in run.host.incomplete


def test_advice_never_costs_the_restore(place: Place) -> None:
    """A list that restic cannot give any more keeps nobody from restoring what it can read."""
    only = place.run("backup", job=place.job()).host.snapshots[0].id
    rule = {"snapshots": (only,), "known_incomplete": (only,)}
    place.shim(
        'case " $* " in " snapshots "*" -- "*) ;; " snapshots "*) exit 1;; esac\nexec "$REAL" "$@"'
    )
    run = place.run("restore", job=place.restore_job(**rule))
    assert (run.code, run.host.snapshots[0].id) == (0, only), run.text
    assert run.host.incomplete.startswith(f"Snapshot {only} of ")
    assert "complete one" not in run.host.incomplete


def test_latest_is_of_host_and_path(place: Place) -> None:
    """`latest` means the newest of the rule's host and path, not of the whole repository."""
    own = place.run("backup", job=place.job()).host.snapshots[0].id
    place.restic("backup", "--host=elsewhere", str(place.source))
    run = place.run("restore", job=place.restore_job(snapshots=("latest",)))
    assert run.host.snapshots[0].id == own


def test_source_host(place: Place) -> None:
    """A rule's source host is honoured; one without snapshots is SnapshotNotFound."""
    other = place.run("backup", job=replace(place.job(), host="host-7")).host.snapshots[0].id
    run = place.run("restore", job=place.restore_job(source_host="host-7"))
    assert run.host.snapshots[0].id == other
    none = place.run("restore", job=place.restore_job())
    assert none.host.reason == Reason.SNAPSHOT_NOT_FOUND
    assert "host-0" in none.host.error


def test_snapshot_outside_of_the_mount(place: Place) -> None:
    """A snapshot with paths beside the volume's mount is refused before a byte is written (D4)."""
    outside = place.root / "etc"
    outside.mkdir()
    place.run("backup", job=place.job())
    place.restic("backup", "--host=host-0", str(place.source), str(outside))
    run = place.run("restore", job=place.restore_job(snapshots=(place.snapshots()[-1]["id"],)))
    assert run.host.reason == Reason.SNAPSHOT_OUTSIDE_MOUNT
    assert str(outside) in run.host.error
    assert not (place.root / "restored").exists()


def test_include_and_exclude(place: Place) -> None:
    """Patterns select files by their path in the backup."""
    (place.source / "skip.tmp").touch()
    (place.source / "keep").mkdir()
    (place.source / "keep" / "skip.tmp").touch()
    (place.source / "keep" / "data").touch()
    place.run("backup", job=place.job())
    rule = {"include": (f"{place.source}/keep",), "exclude": ()}
    assert place.run("restore", job=place.restore_job(**rule)).code == 0
    assert [path.name for path in restored(place).iterdir()] == ["keep"]
    nothing = place.run("restore", job=place.restore_job(include=("/no/such",)))
    assert nothing.host.reason == Reason.NOTHING_TO_RESTORE


@pytest.mark.parametrize("filtered", ["rule", "args"])
@pytest.mark.parametrize("name", ["deep", "deep/er"])
def test_links_above_what_is_included(place: Place, name: str, filtered: str) -> None:
    """A filtered restore never writes through a link of the volume, wherever it leads."""
    (place.source / "deep" / "er").mkdir(parents=True)
    (place.source / "deep" / "er" / "data").write_text("old")
    place.run("backup", job=place.job())
    outside = place.root / "outside"
    (outside / "er").mkdir(parents=True)
    link = restored(place) / name
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    pattern = f"{place.source}/deep/er/data"
    rule = {"include": (pattern,)} if filtered == "rule" else {"args": ("--include", pattern)}
    run = place.run("restore", job=place.restore_job(**rule))
    assert (run.code, run.host.reason) == (1, Reason.LINK_IN_THE_WAY)
    assert f"{place.source}/{name} of snapshot" in run.host.error
    assert str(outside) in run.host.error
    assert [path.name for path in outside.rglob("*")] == ["er"]
    # Without a filter restic puts the folder in the link's place.
    assert place.run("restore", job=place.restore_job()).code == 0
    assert [path.name for path in outside.rglob("*")] == ["er"]
    assert (restored(place) / "deep" / "er" / "data").read_text() == "old"


def test_names_that_cannot_be_compared(place: Place) -> None:
    """A folder's name that is no UTF-8 cannot be looked for in the volume: no filtered restore."""
    folder = Path(os.fsdecode(os.fsencode(place.source) + b"/latin-\xe9"))
    folder.mkdir()
    (folder / "data").touch()
    place.run("backup", job=place.job())
    rule = {"include": (f"{place.source}/*/data",)}
    assert place.run("restore", job=place.restore_job(**rule)).code == 0
    run = place.run("restore", job=place.restore_job(**rule))
    assert run.host.reason == Reason.LINK_IN_THE_WAY
    assert "UTF-8" in run.host.error


def test_a_file_that_cannot_be_written(place: Place) -> None:
    """Errors of single files are RestoreIncomplete with the first paths; the rest is restored."""
    (place.source / "other").write_text("other")
    place.run("backup", job=place.job())
    (restored(place) / "file" / "in the way").mkdir(parents=True)
    run = place.run("restore", job=place.restore_job())
    assert (run.code, run.host.reason) == (1, Reason.RESTORE_INCOMPLETE)
    assert run.host.unreadable == (str(place.source / "file"),)
    assert (restored(place) / "other").read_text() == "other"


def test_success_needs_a_summary(place: Place) -> None:
    """Exit code 0 without a summary is no success (rule 5)."""
    place.run("backup", job=place.job())
    place.shim('[ "$1" = restore ] && exit 0\nexec "$REAL" "$@"')
    assert place.run("restore", job=place.restore_job()).host.reason == Reason.NO_SUMMARY


def test_repository_that_does_not_exist(place: Place) -> None:
    """A restore never initialises, and says what is missing."""
    run = place.run("restore", job=place.restore_job())
    assert run.host.reason == Reason.SNAPSHOT_NOT_FOUND
    assert not place.repository.exists()


@pytest.mark.parametrize("flag", ["--delete", "--dry-run", "--target=/", "--no-lock"])
def test_dangerous_flags(place: Place, flag: str) -> None:
    """Flags that delete, pretend or write elsewhere are refused (D4, D25)."""
    run = place.run("restore", job=place.restore_job(args=(flag,)))
    assert run.host.reason == Reason.FLAG_REFUSED


def _neighbour(place: Place, name: str) -> JobInput:
    return place.job_of(name)
