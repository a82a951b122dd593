"""restic's command lines. Pure: arguments in, arguments out, without the program's name.

No secret is ever an argument. Values are joined to their flag with `=`, so that a value which
begins with a dash stays a value; `--` stands before paths and ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from controller.api.job_input import Retention

INCOMPLETE_TAG = "drey:incomplete"
"""On snapshots of backups that could not read everything (D5)."""
RETRY_LOCK = "5m"
LOST_AND_FOUND = "lost+found"
LOCKING = frozenset({"backup", "forget", "check", "restore", "tag"})
"""Commands that hold a lock while they run, as we start them."""
_PROVIDERS_WITH_CONNECTIONS = {"gcs": "gs", "azure": "azure", "b2": "b2"}


@dataclass(frozen=True, slots=True)
class Connection:
    """The flags that every command of a run shares. `cache_dir` and `ca_file` may be empty."""

    cache_dir: str = ""
    ca_file: str = ""
    insecure_tls: bool = False
    provider: str = ""
    max_connections: int = 0

    def flags(self) -> tuple[str, ...]:
        """Return the flags."""
        flags = [
            f"--cache-dir={self.cache_dir}" if self.cache_dir else "--no-cache",
            f"--retry-lock={RETRY_LOCK}",
        ]
        if self.ca_file:
            flags.append(f"--cacert={self.ca_file}")
        if self.insecure_tls:
            flags.append("--insecure-tls")
        if self.max_connections and (name := _PROVIDERS_WITH_CONNECTIONS.get(self.provider)):
            flags.append(f"--option={name}.connections={self.max_connections}")
        return tuple(flags)


def backup(
    path: str,
    *,
    time: str,
    host: str,
    tags: Sequence[str],
    exclude: Sequence[str],
    user_flags: Sequence[str],
) -> tuple[str, ...]:
    """One snapshot of one path; the parent is this configuration's own last one (D1).

    `time` (`2006-01-02 15:04:05`, UTC as restic's TZ) is of the API server's clock: nodes' clocks
    differ, and retention trusts the order of times.
    """
    lost_and_found = _literal(f"{path.rstrip('/')}/{LOST_AND_FOUND}")
    return (
        "backup",
        "--json",
        f"--time={time}",
        f"--host={host}",
        "--group-by=host,paths,tags",
        *(f"--tag={tag}" for tag in tags),
        f"--exclude={lost_and_found}",
        *(f"--exclude={pattern}" for pattern in exclude),
        *user_flags,
        "--",
        path,
    )


def init() -> tuple[str, ...]:
    """Make a repository; never two at a time for one place (D2)."""
    return ("init", "--json")


def cat_config() -> tuple[str, ...]:
    """Read the repository's id where no cache folder tells it; takes no lock."""
    return ("cat", "config", "--json", "--no-lock")


def tag_incomplete(ids: Sequence[str]) -> tuple[str, ...]:
    """Mark snapshots as incomplete; they get other ids. Unknown ids are ignored by restic.

    Raises:
        ValueError: there are none, or one is no id: restic would tag all snapshots.
    """
    if not ids or not all(ids):
        raise ValueError("tag needs the ids of snapshots")
    return ("tag", "--json", f"--add={INCOMPLETE_TAG}", "--", *ids)


def forget(
    rules: Retention,
    *,
    host: str,
    path: str,
    config_tag: str,
    claim_untagged: bool,
    dry_run: bool,
) -> tuple[str, ...]:
    """Apply the keep rules to the snapshots of one host, path and configuration only (D1).

    restic joins several `--tag` by "or"; the empty one stands for snapshots without any tag.
    """
    return (
        "forget",
        "--json",
        f"--host={host}",
        f"--path={path}",
        f"--tag={config_tag}",
        *(("--tag=",) if claim_untagged else ()),
        "--group-by=host,paths",
        *_keep(rules),
        *(("--prune",) if rules.prune and not dry_run else ()),
        *(("--dry-run",) if dry_run else ()),
    )


def forget_ids(ids: Sequence[str], *, prune: bool) -> tuple[str, ...]:
    """Remove exactly these snapshots.

    Raises:
        ValueError: there are none, or one is no id: restic would fall back to a policy.
    """
    if not ids or not all(ids):
        raise ValueError("forget needs the ids of snapshots")
    return ("forget", "--json", *(("--prune",) if prune else ()), "--", *ids)


def snapshots(
    ids: Sequence[str] = (), *, host: str = "", path: str = "", tag: str = ""
) -> tuple[str, ...]:
    """List snapshots; takes no lock."""
    return (
        "snapshots",
        "--json",
        "--no-lock",
        *((f"--host={host}",) if host else ()),
        *((f"--path={path}",) if path else ()),
        *((f"--tag={tag}",) if tag else ()),
        *(("--", *ids) if ids else ()),
    )


def restore(
    snapshot_id: str,
    *,
    target: str,
    include: Sequence[str],
    exclude: Sequence[str],
    user_flags: Sequence[str],
    rehearsal: bool = False,
) -> tuple[str, ...]:
    """Write a snapshot below the target; existing files are overwritten, none is deleted (D4).

    A rehearsal writes nothing and prints each item that would be written.
    """
    return (
        "restore",
        "--json",
        *(("--dry-run", "--verbose=2") if rehearsal else ()),
        f"--target={target}",
        "--sparse",
        *(f"--include={pattern}" for pattern in include),
        *(f"--exclude={pattern}" for pattern in exclude),
        *user_flags,
        "--",
        snapshot_id,
    )


def check() -> tuple[str, ...]:
    """Check the structure of the repository; takes an exclusive lock."""
    return ("check", "--json")


def stats() -> tuple[str, ...]:
    """Measure what the repository occupies; takes no lock."""
    return ("stats", "--json", "--no-lock", "--mode=raw-data")


def unlock() -> tuple[str, ...]:
    """Remove stale locks only: never `--remove-all` (D8)."""
    return ("unlock", "--json")


def list_locks() -> tuple[str, ...]:
    """List the ids of locks, one a line."""
    return ("list", "locks", "--no-lock")


def cat_lock(lock_id: str) -> tuple[str, ...]:
    """Read one lock."""
    return ("cat", "lock", "--no-lock", "--", lock_id)


def _keep(rules: Retention) -> tuple[str, ...]:
    numbers = (
        ("last", rules.keep_last),
        ("hourly", rules.keep_hourly),
        ("daily", rules.keep_daily),
        ("weekly", rules.keep_weekly),
        ("monthly", rules.keep_monthly),
        ("yearly", rules.keep_yearly),
    )
    flags = [f"--keep-{name}={number}" for name, number in numbers if number > 0]
    # Every numeric rule keeps the newest snapshot. Tags alone might remove the one just made.
    if not flags:
        flags.append("--keep-last=1")
    return (*flags, *(f"--keep-tag={tag}" for tag in rules.keep_tags if tag.strip(" ,")))


def _literal(path: str) -> str:
    """Return the pattern that matches this path only."""
    return "".join(f"\\{char}" if char in "*?[\\" else char for char in path)
