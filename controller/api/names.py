"""Derived names: the same owner and purpose give the same name, for ever.

Stash's names up to the limits of Kubernetes; beyond, the name is cut and gets 8 hex digits of a
hash of the whole, so that names stay injective (D20).
"""

import hashlib

LABEL_LIMIT = 63
"""Longest name of a Job or a Service, and longest label value."""
CRON_JOB_LIMIT = 52
"""Longest name of a CronJob: its Jobs get 11 more characters."""
NAME_LIMIT = 253
"""Longest name of most objects."""
PVC_BACKUP = "pvc-backup"
"""The Task, and the Function, that backs up a claim."""
PVC_RESTORE = "pvc-restore"
"""The Task, and the Function, that restores a claim."""
FALLBACK_LENGTH = 4
"""Hex digits that a VolumeSnapshot's name gets when a foreign one has it already (D21)."""
_DIGEST_LENGTH = 8
_RESTORE = "restore-"


def bounded(name: str, limit: int) -> str:
    """Return the name, or a cut of it that ends in `-<8 hex digits>` when it is too long.

    A name that was not cut cannot collide with one that was, but for a user who guesses hashes:
    ownership is checked before every write all the same.
    """
    if len(name) <= limit:
        return name
    return f"{name[: limit - _DIGEST_LENGTH - 1].rstrip('-.')}-{_digest(name)}"


def _dashed(name: str) -> str:
    """Return a name without dots: they are legal in our kinds' names, not in a Job's labels.

    `a.b` and `a-b` would meet: a dotted name carries the hash of the original.
    """
    return f"{name.replace('.', '-')}-{_digest(name)}" if "." in name else name


def _of_session(name: str, *, is_restore: bool) -> str:
    """Return a name that no session of another name or kind has, to be put behind a prefix.

    A namespace may hold a RestoreSession `x`, which gets `restore-x`, beside a BackupSession `x`
    and a BackupSession `restore-x`: the last one carries the hash of its name.
    """
    if is_restore:
        return f"{_RESTORE}{_dashed(name)}"
    if name.startswith(_RESTORE):
        return f"{name.replace('.', '-')}-{_digest(name)}"
    return _dashed(name)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_LENGTH]


def trigger_name(configuration: str) -> str:
    """Return the name of a configuration's CronJob, and of its ServiceAccount and RoleBinding."""
    return bounded(f"stash-trigger-{_dashed(configuration)}", CRON_JOB_LIMIT)


def session_name(invoker: str, unix_s: int) -> str:
    """Return the name of the BackupSession of a slot."""
    suffix = f"-{unix_s}"
    return f"{bounded(invoker, LABEL_LIMIT - len(suffix))}{suffix}"


def backup_job_name(session: str, index: int = 0) -> str:
    """Return the name of the Job of a BackupSession's target."""
    return bounded(f"stash-backup-{_dashed(session)}-{index}", LABEL_LIMIT)


def restore_job_name(session: str, index: int = 0) -> str:
    """Return the name of the Job of a RestoreSession's target."""
    return bounded(f"stash-restore-{_dashed(session)}-{index}", LABEL_LIMIT)


def snapshot_job_name(session: str, *, is_restore: bool = False) -> str:
    """Return the name of the Job of a flow B session, BackupSession or RestoreSession."""
    return bounded(f"stash-vs-{_of_session(session, is_restore=is_restore)}", LABEL_LIMIT)


def hook_job_name(session: str, hook: str, *, is_restore: bool = False) -> str:
    """Return the name of the Job of a hook (`pre`, `post`), or of the `identity` of both."""
    return bounded(f"stash-hook-{hook}-{_of_session(session, is_restore=is_restore)}", LABEL_LIMIT)


def snapshot_name(claim: str, unix_s: int) -> str:
    """Return the name of the VolumeSnapshot of a claim (D22).

    It leaves room for what makes it another name.
    """
    suffix = f"-{unix_s}"
    limit = NAME_LIMIT - len(suffix) - 1 - FALLBACK_LENGTH
    return f"{bounded(claim, limit)}{suffix}"


def unlock_job_name(job: str) -> str:
    """Return the name of the Job that removes the lock of a dead Job's pod (D8)."""
    return bounded(f"stash-unlock-{job.removeprefix('stash-')}", LABEL_LIMIT)


def job_identity_name(invoker_kind: str, invoker: str, index: int = 0) -> str:
    """Return the name of the ServiceAccount, Role and RoleBinding of an invoker's Jobs."""
    return bounded(f"{invoker_kind.lower()}-{_dashed(invoker)}-{index}", LABEL_LIMIT)


def retry_session_name(session: str, retry_left: int) -> str:
    """Return the name of the session that tries a failed one again."""
    return bounded(f"{session}-retry-{retry_left}", LABEL_LIMIT)


def container_name(function: str, index: int) -> str:
    """Return the name of the container of a Task's step."""
    return bounded(f"{function.replace('.', '-')}-{index}", LABEL_LIMIT)


def pod_hostname(job: str, session_uid: str) -> str:
    """Return the host name of the pod of a Job: no other pod anywhere has it (D8).

    restic takes a lock for dead when its host name is its own and its process is not to be found.
    So two pods that run at the same time must never share one, also not in two namespaces or
    clusters that back up to one repository: the session's uid is in the hash.
    """
    digest = hashlib.sha256(f"{session_uid}/{job}".encode()).hexdigest()[: 2 * _DIGEST_LENGTH]
    return f"{job[: LABEL_LIMIT - len(digest) - 1].rstrip('-')}-{digest}"
