"""restic's command lines."""

import pytest

from controller.api.job_input import Retention
from runner.restic import command
from runner.restic.command import Connection


def test_paths_come_after_the_end_of_flags() -> None:
    """A path or an id that begins with a dash is never taken for a flag."""
    backup = command.backup("--x", time="t", host="h", tags=("t",), exclude=("-e",), user_flags=())
    assert backup[-2:] == ("--", "--x")
    assert "--exclude=-e" in backup
    assert command.snapshots(("--help",))[-2:] == ("--", "--help")


def test_root_level_lost_and_found_is_taken_literally() -> None:
    """Pattern characters in a path do not widen what is excluded (D3)."""
    backup = command.backup("/a[b]*/", time="t", host="h", tags=(), exclude=(), user_flags=())
    assert "--exclude=/a\\[b]\\*/lost+found" in backup


def test_forget_is_scoped() -> None:
    """Host, path and configuration bound every forget; the empty tag only when claimed (D1)."""
    rules = Retention(keep_last=3, keep_daily=7, keep_tags=("gold", "", " ", ","), prune=True)
    scope = {"host": "h", "path": "/p", "config_tag": "drey:config=a/b"}
    plain = command.forget(rules, **scope, claim_untagged=False, dry_run=False)
    assert plain == (
        "forget", "--json", "--host=h", "--path=/p", "--tag=drey:config=a/b",
        "--group-by=host,paths", "--keep-last=3", "--keep-daily=7", "--keep-tag=gold", "--prune",
    )  # fmt: skip
    claimed = command.forget(rules, **scope, claim_untagged=True, dry_run=True)
    assert "--tag=" in claimed
    assert "--prune" not in claimed
    assert "--dry-run" in claimed


@pytest.mark.parametrize("ids", [(), ("",), ("ab", "")])
def test_forget_and_tag_by_id_need_ids(ids: tuple[str, ...]) -> None:
    """Without ids restic would apply a policy to, or tag, the whole repository."""
    with pytest.raises(ValueError, match="ids"):
        command.forget_ids(ids, prune=False)
    with pytest.raises(ValueError, match="ids"):
        command.tag_incomplete(ids)


@pytest.mark.parametrize(
    ("connection", "flags"),
    [
        (Connection(), ("--no-cache", "--retry-lock=5m")),
        (
            Connection("/c", "/ca", insecure_tls=True, provider="b2", max_connections=9),
            (
                "--cache-dir=/c", "--retry-lock=5m", "--cacert=/ca", "--insecure-tls",
                "--option=b2.connections=9",
            ),
        ),
        (
            Connection("/c", provider="s3", max_connections=9),
            ("--cache-dir=/c", "--retry-lock=5m"),
        ),
    ],
)  # fmt: skip
def test_connection(connection: Connection, flags: tuple[str, ...]) -> None:
    """Cache, CA, TLS and connection flags follow the Repository (stash.md 5.1, 6.5)."""
    assert connection.flags() == flags
