"""Which flags a user may pass to restic (D25)."""

import pytest

from controller.api.flags import user_flags

FORBIDDEN = [
    "--password-command=id", "--password-file=/etc/passwd", "-p/etc/passwd", "-p", "--repo=/x",
    "-r", "--repository-file=/x", "--from-repo=/x", "--files-from=/etc/shadow",
    "--files-from-verbatim=/x", "--files-from-raw=/x", "--exclude-file=/etc/shadow",
    "--iexclude-file=/x", "--stdin", "--stdin-from-command", "--stdin-filename=x", "--host=other",
    "-H", "--time=2001-01-01", "--parent=deadbeef", "--group-by=", "-g", "--cache-dir=/x",
    "--no-cache", "--cacert=/x", "--tls-client-cert=/x", "--insecure-tls",
    "--insecure-no-password", "--no-lock", "--retry-lock=1h", "--dry-run", "-n", "--json",
    "--skip-if-unchanged", "--option=sftp.command=sh", "--option=rclone.program=sh",
    "-o", "--option=local.layout=x", "--option=s3.connections=5,sftp.command=sh",
    "--option=s3.connections=5,", '--option="s3.connections=5",sftp.command=sh',
    "--option=s3.connections=5\nsftp.command=sh", "--option=s3.connections=5, sftp.command=sh",
    "--tag=drey:config=other/x", "--tag=ok,drey:incomplete",
    "--", "/etc", "", "-", "--exclude", "-ef", "--http-user-agent=x", "--exclude\0=x",
]  # fmt: skip


@pytest.mark.parametrize("flag", FORBIDDEN)
@pytest.mark.parametrize("verb", ["backup", "restore"])
def test_forbidden(verb: str, flag: str) -> None:
    """Whatever runs commands, reads files, or changes identity is refused, and named."""
    with pytest.raises(ValueError, match=r"allowed|needs a value|own|NUL"):
        user_flags(verb, (flag,))


@pytest.mark.parametrize(
    "flag", ["--delete", "--dry-run", "--target=/", "-t", "--path=/x", "--include-file=/x"]
)
def test_forbidden_for_restore(flag: str) -> None:
    """A restore never deletes, pretends, or writes elsewhere."""
    with pytest.raises(ValueError, match="not allowed for restic restore"):
        user_flags("restore", (flag,))


@pytest.mark.parametrize(
    ("verb", "args", "flags"),
    [
        ("backup", ("--ignore-inode",), ("--ignore-inode",)),
        ("backup", ("--exclude-caches=true", "-x"), ("--exclude-caches=true", "--one-file-system")),
        ("backup", ("-e", "*.tmp", "--tag=a,b"), ("--exclude=*.tmp", "--tag=a,b")),
        ("backup", ("--exclude", "--password-command=id"), ("--exclude=--password-command=id",)),
        ("backup", ("-o", "s3.storage-class=STANDARD"), ("--option=s3.storage-class=STANDARD",)),
        (
            "backup",
            ("-o", "s3.connections=5,s3.region=eu"),
            ("--option=s3.connections=5,s3.region=eu",),
        ),
        ("backup", ("-q", "--verbose"), ()),
        ("restore", ("--verify", "--overwrite", "never"), ("--verify", "--overwrite=never")),
        ("restore", ("-i", "/a b,c"), ("--include=/a b,c",)),
    ],
)
def test_allowed(verb: str, args: tuple[str, ...], flags: tuple[str, ...]) -> None:
    """Values stay one value, in one form that cannot be taken for another flag."""
    assert user_flags(verb, args) == flags
