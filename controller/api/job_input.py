"""What the controller tells a Job: one JSON document in the environment variable `DREY_INPUT`.

It holds no secret: the storage Secret is mounted (`SECRET_DIR`), never copied here. Standard
library only, because the runner's restic path imports nothing else (D31).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from controller.api.document import decoded, encoded

SCHEMA = 1
ENVIRONMENT_VARIABLE = "DREY_INPUT"
SECRET_DIR = "/drey/secret"  # noqa: S105 - a folder, not a password
"""Where the storage Secret is mounted, one file per key."""
SCRATCH_DIR = "/stash-tmp"
"""An emptyDir that every container of a Job can write: cache, temporary files, output."""
RESTORE_ROOT = "/drey/restore"
"""restic's `--target` of a restore; the volume is mounted below it at its own mount path (D4)."""


@dataclass(frozen=True, slots=True)
class Invoker:
    """The object that carries the plan: BackupConfiguration, or RestoreSession for a restore."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Target:
    """What is protected."""

    api_version: str
    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class RepositoryInput:
    """Where the data goes, without credentials.

    `secret_name` is the storage Secret's, for error texts.
    `id` is the restic repository id recorded earlier, empty while the Repository was never used;
    only then may the runner initialise (`may_initialise`, D2).
    """

    name: str
    namespace: str
    provider: str
    url: str
    bucket: str = ""
    prefix: str = ""
    region: str = ""
    insecure_tls: bool = False
    max_connections: int = 0
    id: str = ""
    may_initialise: bool = False
    secret_name: str = ""


@dataclass(frozen=True, slots=True)
class Retention:
    """The keep rules of `restic forget`; 0 means that the rule is not given."""

    keep_last: int = 0
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    keep_tags: tuple[str, ...] = ()
    prune: bool = False
    dry_run: bool = False

    @property
    def has_rule(self) -> bool:
        """Tell whether any keep rule is given: without one nothing is forgotten (D6)."""
        numbers = (
            self.keep_last,
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_yearly,
        )
        return any(number > 0 for number in numbers) or any(map(is_keep_tag, self.keep_tags))


def is_keep_tag(text: str) -> bool:
    """Tell whether a keepTags entry, tags separated by commas, names any tag for restic."""
    return any(tag.strip() for tag in text.split(","))


@dataclass(frozen=True, slots=True)
class BackupInput:
    """What `runner backup` does.

    `config_tag` and `target_tag` go on every snapshot (D1). `claim_untagged` says that the
    configuration is the only one with its host and paths in the Repository, so that snapshots
    without our tags (made by Stash) belong to it. `verify` asks for an integrity check and the
    size. Retention and verification are None/False when a later step owns them (D16).

    `careful` asks for retention in two steps (choose, then remove by id) that can never remove this
    run's snapshots nor the last complete one: for a Repository that `snapshots_ahead` of a report
    tells of. Runs that verify do so anyway.
    `damaged`: the last check found damage. It stays until a check finds none: a run that verifies
    and cannot check reports it again.
    `known_incomplete` are snapshot ids from the last report's `untagged_incomplete`: they count as
    incomplete, and the run tries to tag them.
    `mount_path` is where the volume is mounted; no component of a path below it may be a symbolic
    link. Empty: no component at all.
    """

    paths: tuple[str, ...]
    config_tag: str
    target_tag: str
    exclude: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    retention: Retention | None = None
    claim_untagged: bool = False
    verify: bool = False
    damaged: bool = False
    accept_incomplete: bool = False
    careful: bool = False
    known_incomplete: tuple[str, ...] = ()
    mount_path: str = ""


@dataclass(frozen=True, slots=True)
class RestoreInput:
    """What `runner restore` does, for the one rule that matches its host.

    `snapshots` are ids (8 to 64 hex digits) or `latest`; else the newest of `source_host`, each of
    `paths` and `target_tag` is taken (D1). `mount_path` is the volume's place in the snapshot: a
    snapshot with paths outside of it is refused (D4). `known_incomplete` are ids of incomplete
    snapshots without their tag.
    """

    mount_path: str
    target_tag: str
    source_host: str
    snapshots: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    known_incomplete: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobInput:
    """Everything that one Job needs to know. Times are RFC 3339 in UTC, `deadline` "" for none.

    `report_bytes` is this container's share of the pod's 12,288 bytes of termination messages
    (D11). `metrics_group` is the Pushgateway's job label; nothing is pushed while
    `pushgateway_url` is empty.
    """

    session_kind: str
    session_namespace: str
    session_name: str
    session_created: str
    invoker: Invoker
    target: Target
    host: str
    repository: RepositoryInput
    backup: BackupInput | None = None
    restore: RestoreInput | None = None
    cache: bool = True
    deadline: str = ""
    nice: int | None = None
    ionice_class: int | None = None
    ionice_level: int | None = None
    report_bytes: int = 4096
    pushgateway_url: str = ""
    metrics_group: str = ""
    metrics_labels: Mapping[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    def encode(self) -> str:
        """Return the document, with sorted keys, so that equal inputs give equal Jobs."""
        return encoded(self)

    @classmethod
    def decode(cls, text: str) -> Self:
        """Parse the document.

        Raises:
            ValueError: it is no JSON, or of another schema, or a field is missing or unknown.
        """
        return decoded(cls, text, name=ENVIRONMENT_VARIABLE, schema=SCHEMA)
