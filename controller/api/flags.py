"""Which of restic's flags a user may pass (D25). Pure.

None that runs a command, reads a file, or changes repository, password, cache, host, time or the
form of the output; `restore` never deletes and never pretends. Standard library only (D31).
"""

from collections.abc import Sequence

_LIMITS = {"--limit-upload", "--limit-download"}
_BACKUP_VALUES = {
    "--exclude", "--iexclude", "--exclude-larger-than", "--exclude-if-present", "--tag",
    "--read-concurrency", "--compression", "--pack-size", "--option", *_LIMITS,
}  # fmt: skip
_BACKUP_SWITCHES = {
    "--exclude-caches", "--one-file-system", "--with-atime", "--ignore-inode", "--ignore-ctime",
    "--force", "--no-scan", "--no-extra-verify",
}  # fmt: skip
_RESTORE_VALUES = {
    "--include", "--iinclude", "--exclude", "--iexclude", "--include-xattr", "--exclude-xattr",
    "--overwrite", "--option", *_LIMITS,
}  # fmt: skip
_RESTORE_SWITCHES = {"--sparse", "--verify", "--ownership-by-name"}
ALLOWED = {
    "backup": (_BACKUP_VALUES, _BACKUP_SWITCHES),
    "restore": (_RESTORE_VALUES, _RESTORE_SWITCHES),
}
_SHORT = {
    "backup": {"-e": "--exclude", "-x": "--one-file-system", "-f": "--force", "-o": "--option"},
    "restore": {"-e": "--exclude", "-i": "--include", "-o": "--option"},
}
_DROPPED = {"-q", "--quiet", "-v", "--verbose"}
"""Harmless, and common in existing manifests; the form of the output is ours."""
_OPTIONS = {
    "s3.connections", "s3.storage-class", "s3.bucket-lookup", "s3.list-objects-v1", "s3.region",
    "gs.connections", "azure.connections", "azure.access-tier", "b2.connections",
    "swift.connections", "rest.connections", "local.connections",
}  # fmt: skip


def user_flags(verb: str, args: Sequence[str]) -> tuple[str, ...]:
    """Return a user's flags in the form `--name=value`.

    Raises:
        ValueError: a flag is not allowed, or lacks its value. The text says what is allowed.
    """
    values, switches = ALLOWED[verb]
    flags: list[str] = []
    rest = iter(args)
    for arg in rest:
        name, equals, value = arg.partition("=")
        name = _SHORT[verb].get(name, name)
        if name in _DROPPED and not equals:
            continue
        if name in switches:
            if equals and value not in {"true", "false"}:
                raise ValueError(f"{name} takes true or false, not {value!r}")
            flags.append(f"{name}={value}" if equals else name)
            continue
        if name not in values:
            allowed = ", ".join(sorted(values | switches))
            raise ValueError(f"{arg!r} is not allowed for restic {verb}; allowed are {allowed}")
        if not equals:
            try:
                value = next(rest)
            except StopIteration:
                raise ValueError(f"{name} needs a value") from None
        _check_value(name, value)
        flags.append(f"{name}={value}")
    return tuple(flags)


def _check_value(name: str, value: str) -> None:
    if "\0" in value:
        raise ValueError(f"{name}: a NUL byte is not allowed")
    if name == "--tag" and any(tag.strip().startswith("drey:") for tag in value.split(",")):
        raise ValueError("--tag: tags that begin with drey: are the operator's own")
    if name == "--option":
        _check_option(value)


def _check_option(value: str) -> None:
    """Check each option: restic reads the value as one line of CSV, in which quotes hide commas."""
    if '"' in value or "\n" in value or "\r" in value:
        raise ValueError(f"--option {value!r}: quotes and line breaks are not allowed")
    if any(part.partition("=")[0] not in _OPTIONS for part in value.split(",")):
        raise ValueError(
            f"--option {value!r} is not allowed; allowed: {', '.join(sorted(_OPTIONS))}"
        )
