"""`runner backup` with a real restic: the first backup, the steady state, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from controller.api.job_input import BackupInput, JobInput, Retention
from controller.api.report import Reason, StepState
from tests.support.runner import PASSWORD, Place, restic_program, unreadable_shim


def planned(job: JobInput, **changes: object) -> JobInput:
    """Return the job with another backup plan."""
    assert isinstance(job.backup, BackupInput)
    return replace(job, backup=replace(job.backup, **changes))  # type: ignore[arg-type]  # test data


def used(job: JobInput, repository_id: str) -> JobInput:
    """Return the job as it is after the first backup."""
    repository = replace(job.repository, id=repository_id, may_initialise=False)
    return replace(job, repository=repository)


def test_first_backup_initialises_and_reports_the_id(place: Place) -> None:
    """A repository that was never used is made, and its id and snapshot are reported (D2)."""
    run = place.run("backup", job=place.job())
    assert run.code == 0
    assert run.verbs() == ["backup", "init", "backup"]
    assert run.report is not None
    assert run.report.repository.initialised
    assert len(run.report.repository.id) == 64
    (listed,) = place.snapshots()
    assert run.host.snapshots[0].id == listed["id"]
    assert run.host.snapshots[0].files_total == 1
    assert listed["hostname"] == "host-0"
    assert set(listed["tags"]) == {
        "drey:config=demo/data",
        "drey:target=PersistentVolumeClaim/demo/data",
    }


def test_steady_state_is_two_processes(place: Place) -> None:
    """A later backup with retention starts restic exactly twice; an exec shim counts."""
    first = place.run("backup", job=place.job())
    assert first.report is not None
    count = place.root / "count"
    place.shim(f'echo "$1" >> {count}\nexec "$REAL" "$@"')
    job = planned(used(place.job(), first.report.repository.id), retention=Retention(keep_last=1))
    run = place.run("backup", job=job)
    assert run.code == 0
    assert count.read_text().split() == ["backup", "forget"]
    assert run.report is not None
    assert run.report.repository.id == first.report.repository.id
    assert run.report.retention is not None
    assert run.report.retention.state is StepState.DONE
    assert (run.report.repository.snapshots_kept, run.report.repository.snapshots_removed) == (1, 1)
    assert [item["id"] for item in place.snapshots()] == [run.host.snapshots[0].id]


def test_password_with_trailing_newline(place: Place) -> None:
    """The password counts byte for byte: one with a newline makes and opens a repository (D27)."""
    place.secret = {"RESTIC_PASSWORD": PASSWORD + b"\n"}
    assert place.run("backup", job=place.job()).code == 0
    assert place.restic("snapshots", password=PASSWORD + b"\n")


def test_wrong_password_names_secret_and_key(place: Place) -> None:
    """Exit code 12 is WrongPassword, with the Secret and the key in the text, not the value."""
    place.run("backup", job=place.job())
    place.secret = {"RESTIC_PASSWORD": b"not that one"}
    run = place.run("backup", job=place.job())
    assert run.code == 1
    assert run.host.reason == Reason.WRONG_PASSWORD
    assert "RESTIC_PASSWORD of Secret demo/repo-secret" in run.host.error
    assert "not that one" not in run.text + place.message.read_text()


def test_secret_without_password(place: Place) -> None:
    """A missing, empty or impossible password is SecretInvalid and restic is not started."""
    for secret in ({}, {"RESTIC_PASSWORD": b""}, {"RESTIC_PASSWORD": b"a\0b"}):
        place.secret = secret
        run = place.run("backup", job=place.job())
        assert run.host.reason == Reason.SECRET_INVALID
        assert "Secret demo/repo-secret: key RESTIC_PASSWORD" in run.host.error
        assert run.verbs() == []


def test_emptied_backend_is_not_made_anew(place: Place) -> None:
    """Exit code 10 after the first use is RepositoryVanished, and nothing is written (D2)."""
    first = place.run("backup", job=place.job())
    assert first.report is not None
    place.repository.rename(place.root / "away")
    run = place.run("backup", job=used(place.job(), first.report.repository.id))
    assert run.host.reason == Reason.REPOSITORY_VANISHED
    assert first.report.repository.id in run.host.error
    assert not place.repository.exists()
    assert run.verbs() == ["backup"]


def test_keys_without_a_config_are_not_touched(place: Place) -> None:
    """An `init` that was ended in between, or a lost config: nobody can tell, so a person must."""
    place.run("backup", job=place.job())
    (place.repository / "config").rename(place.root / "config")
    keys = sorted(path.name for path in (place.repository / "keys").iterdir())
    run = place.run("backup", job=place.job())
    assert run.host.reason == Reason.REPOSITORY_INIT_FAILED
    for words in ("already contains keys", "remove its folder keys/", "config is lost"):
        assert words in run.host.error
    assert sorted(path.name for path in (place.repository / "keys").iterdir()) == keys
    (place.root / "config").rename(place.repository / "config")
    assert place.run("backup", job=place.job()).code == 0
    assert len(place.snapshots()) == 2


def test_another_repository_in_its_place(place: Place) -> None:
    """Another id than the recorded one is RepositoryVanished; the other id is not reported."""
    place.run("backup", job=place.job())
    run = place.run("backup", job=used(place.job(), "0" * 64))
    assert run.host.reason == Reason.REPOSITORY_VANISHED
    assert run.report is not None
    assert run.report.repository.id == ""


def test_without_cache_the_id_is_checked_before_anything_is_written(place: Place) -> None:
    """With the cache off `cat config` comes first, so a wrong repository stays untouched."""
    job = replace(place.job(), cache=False)
    first = place.run("backup", job=job)
    assert first.verbs() == ["cat", "init", "backup"]
    assert first.report is not None
    assert len(first.report.repository.id) == 64
    again = place.run("backup", job=used(job, first.report.repository.id))
    assert (again.code, again.verbs()) == (0, ["cat", "backup"])
    wrong = place.run("backup", job=used(job, "0" * 64))
    assert (wrong.host.reason, wrong.verbs()) == (Reason.REPOSITORY_VANISHED, ["cat"])
    assert len(place.snapshots()) == 2


def test_missing_source(place: Place) -> None:
    """A path that the volume does not have is SourceMissing and names the path."""
    run = place.run("backup", job=planned(place.job(), paths=(str(place.source / "nope"),)))
    assert run.host.reason == Reason.SOURCE_MISSING
    assert str(place.source / "nope") in run.host.error


@pytest.mark.parametrize("path", ["link", "link/inner", "link/inner/deep", "dangling"])
def test_links_in_a_path(place: Place, path: str) -> None:
    """Restic would store the link alone, or another volume's files: refused, with its target."""
    outside = place.root / "outside"
    (outside / "inner" / "deep").mkdir(parents=True)
    (place.source / "link").symlink_to(outside)
    (place.source / "dangling").symlink_to("/no/such")
    whole = str(place.source / path)
    run = place.run("backup", job=planned(place.job(), paths=(whole,)))
    assert (run.code, run.host.reason) == (1, Reason.SOURCE_MISSING)
    assert f"{place.source / path.partition('/')[0]} is a symbolic link to" in run.host.error
    assert run.verbs() == []


def test_links_above_the_mount(place: Place) -> None:
    """How the image reaches the mount is not the volume's content."""
    link = place.root / "link"
    link.symlink_to(place.root)
    path = str(link / "volume")
    refused = place.run("backup", job=planned(place.job(), paths=(path,)))
    assert refused.host.reason == Reason.SOURCE_MISSING
    accepted = place.run("backup", job=planned(place.job(), paths=(path,), mount_path=path))
    assert accepted.code == 0


@pytest.mark.parametrize("path", ["../volume", "relative"])
def test_paths_that_lead_elsewhere(place: Place, path: str) -> None:
    """A path with .. or a relative one has no place of its own."""
    paths = (f"{place.source}/{path}" if path.startswith("..") else path,)
    run = place.run("backup", job=planned(place.job(), paths=paths))
    assert run.host.reason == Reason.SOURCE_MISSING


def test_path_in_a_closed_folder(place: Place) -> None:
    """A folder that the user may not enter is named, with the remedy (D19), not a traceback."""
    closed = place.source / "closed"
    (closed / "data").mkdir(parents=True)
    closed.chmod(0)
    job = planned(place.job(), paths=(str(closed / "data"),))
    drop = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    run = place.finish(place.start("backup", job=job, wrap=drop))
    assert (run.code, run.host.reason) == (1, Reason.SOURCE_UNREADABLE)
    assert f"{closed}: Permission denied" in run.host.error
    assert "DAC_READ_SEARCH" in run.host.error
    assert "Traceback" not in run.text


@pytest.mark.parametrize("folders", [(), ("0" * 64, "1" * 64)])
def test_an_unknown_id_is_asked_for(place: Place, folders: tuple[str, ...]) -> None:
    """No cache folder, or several, is no reason to take any repository for the recorded one."""
    first = place.run("backup", job=place.job())
    cache = place.root / "scratch" / "restic-cache"
    place.shim(
        f'[ "$1" = backup ] && {{ "$REAL" "$@"; c=$?; rm -rf {cache}/*; {_make(cache, folders)}'
        ' exit $c; }\nexec "$REAL" "$@"'
    )
    assert first.report is not None
    right = place.run("backup", job=used(place.job(), first.report.repository.id))
    assert (right.code, right.verbs()) == (0, ["backup", "cat"])
    wrong = place.run("backup", job=used(place.job(), "2" * 64))
    assert wrong.host.reason == Reason.REPOSITORY_VANISHED


def _make(cache: Path, folders: tuple[str, ...]) -> str:
    return "".join(f"mkdir {cache}/{name}; " for name in folders)


def test_lost_and_found_of_the_root_only(place: Place) -> None:
    """The volume's own lost+found is left out, a folder of that name deeper is kept (D3)."""
    for folder in ("lost+found", "deep/lost+found"):
        (place.source / folder).mkdir(parents=True)
        (place.source / folder / "x").touch()
    run = place.run("backup", job=place.job())
    assert run.code == 0
    listing = place.restic("ls", "latest").splitlines()
    assert f"{place.source}/deep/lost+found/x" in listing
    assert f"{place.source}/lost+found" not in listing


def test_two_paths_give_two_snapshots(place: Place) -> None:
    """Each path is a snapshot of its own, with its own retention (D33)."""
    paths = []
    for name in ("one", "two"):
        (place.source / name).mkdir()
        paths.append(str(place.source / name))
    job = planned(place.job(), paths=tuple(paths), retention=Retention(keep_last=1))
    for _ in range(2):
        run = place.run("backup", job=job)
        assert run.code == 0
    assert [item.path for item in run.host.snapshots] == paths
    assert sorted(item["paths"] for item in place.snapshots()) == [[path] for path in paths]


def test_forbidden_flag(place: Place) -> None:
    """A flag that could run a command fails the backup before restic starts (D25)."""
    run = place.run("backup", job=planned(place.job(), args=("--password-command=id",)))
    assert run.host.reason == Reason.FLAG_REFUSED
    assert run.verbs() == []


def test_user_flags_reach_restic(place: Place) -> None:
    """Allowed flags work, in both spellings and with commas kept."""
    (place.source / "skip.tmp").touch()
    args = ("--tag=t1,t2", "--exclude", "*.tmp", "--exclude-caches")
    assert place.run("backup", job=planned(place.job(), args=args)).code == 0
    (listed,) = place.snapshots()
    assert {"t1", "t2"} <= set(listed["tags"])
    assert "skip.tmp" not in place.restic("ls", "latest")


def test_success_needs_a_summary(place: Place) -> None:
    """Exit code 0 without a summary is no success (rule 5)."""
    place.shim("exit 0")
    run = place.run("backup", job=place.job())
    assert (run.code, run.host.reason) == (1, Reason.NO_SUMMARY)


def test_noisy_restic_does_not_block(place: Place) -> None:
    """10 MB on both pipes are drained, and the summary behind them is found."""
    summary = '{"message_type":"summary","snapshot_id":"' + "ab" * 32 + '"}'
    noise = "head -c 10000000 /dev/zero | tr '\\\\0' 'x'"
    config = '{"id":"' + "cd" * 32 + '"}'
    place.shim(
        f"[ \"$1\" = cat ] && echo '{config}' && exit\n"
        f"{noise} & {noise} >&2; wait; echo; echo '{summary}'"
    )
    run = place.run("backup", job=place.job())
    assert run.code == 0, run.text
    assert run.host.snapshots[0].id == "ab" * 32


def test_garbage_instead_of_input(place: Place) -> None:
    """Unreadable input is reported as such, with exit code 1, and nothing is touched."""
    run = place.run("backup", job="{nonsense")
    assert (run.code, run.host.reason) == (1, Reason.INPUT_INVALID)
    assert not place.repository.exists()


def test_restic_missing_in_image(place: Place) -> None:
    """Without restic in its place the report says so."""
    place.program = place.root / "restic"
    run = place.run("backup", job=place.job())
    assert f"{place.program} is missing in this image" in run.host.error


def test_path_does_not_choose_the_restic(place: Place) -> None:
    """A PATH that a user sets brings in no other program named restic."""
    place.shim(f"touch {place.root}/started")
    place.environment = {"PATH": f"{place.program.parent}:/usr/bin:/bin"}
    place.program = restic_program()
    assert place.run("backup", job=place.job()).code == 0
    assert not (place.root / "started").exists()


def test_incomplete_backup(place: Place) -> None:
    """Exit code 3: Failed, but the snapshot is kept, marked, and the first paths are named (D5).

    The new id is the one that exists; an annotation may accept it as success.
    """
    place.shim(unreadable_shim(place.source / "file"))
    run = place.run("backup", job=place.job())
    assert (run.code, run.host.reason) == (1, Reason.BACKUP_INCOMPLETE)
    assert run.host.unreadable == (str(place.source / "file"),)
    assert str(place.source / "file") in run.host.error
    (listed,) = place.snapshots()
    assert listed["id"] == run.host.snapshots[0].id
    assert "drey:incomplete" in listed["tags"]
    accepted = place.run("backup", job=planned(place.job(), accept_incomplete=True))
    assert (accepted.code, accepted.host.reason) == (0, Reason.BACKUP_INCOMPLETE)
    folder = str(place.root / "output")
    job = planned(place.job(), accept_incomplete=True)
    place.run("backup", "--output-dir", folder, job=job)
    handed_over = place.run("update-status", "--output-dir", folder, job=job)
    assert (handed_over.code, handed_over.host.reason) == (0, Reason.BACKUP_INCOMPLETE)
    assert handed_over.host.unreadable == (str(place.source / "file"),)


def test_incomplete_backups_never_push_out_the_last_complete_one(place: Place) -> None:
    """With keepLast 1, any number of incomplete snapshots leaves the complete one alone (D5)."""
    job = planned(place.job(), retention=Retention(keep_last=1, prune=True))
    complete = place.run("backup", job=job).host.snapshots[0].id
    place.shim(unreadable_shim(place.source / "file"))
    for _ in range(3):
        run = place.run("backup", job=job)
        assert run.report is not None
        assert run.report.retention is not None
        assert run.report.retention.state is StepState.DONE, run.report.retention
    assert run.report is not None
    left = [item["id"] for item in place.snapshots()]
    assert left == [complete, run.host.snapshots[0].id]
    assert run.report.repository.snapshots_kept == 2
    place.program = restic_program()
    good = place.run("backup", job=job).host.snapshots[0].id
    assert [item["id"] for item in place.snapshots()] == [good]
