"""What the planners see: one frozen value per kind, complete, so that `plan` needs nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.api.backup import BackupConfigurationSpec
from controller.api.model import Problem
from controller.api.objects import Key, Obj, Uid
from controller.api.restore import RestoreSessionSpec
from controller.build.installation import Installation
from controller.plan import Ref, Refusal

PASSWORD_KEY = "RESTIC_PASSWORD"  # noqa: S105 - the name of a key


@dataclass(frozen=True, slots=True)
class Limits:
    """Waits that have an end, in seconds (D9, rule 4 of the architecture)."""

    start_s: float = 600.0
    """How long a Job's pod may take to start."""
    quiet_pod_s: float = 5.0
    """How long no pod may appear before the Events are asked why."""
    pending_s: float = 10.0
    """How long a pod may be pending before the status says why."""
    verify_s: float = 86_400.0
    """How often a repository's integrity and size are determined."""
    snapshot_s: float = 7_200.0
    """How long VolumeSnapshots and restored claims may go without progress (D22)."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A storage Secret by the names of its keys. Values never get here."""

    key: Key
    found: bool
    keys: frozenset[str] = frozenset()
    empty_keys: frozenset[str] = frozenset()

    @property
    def problem(self) -> str | None:
        """Say what is wrong with a Secret that exists, None when it is usable."""
        if PASSWORD_KEY not in self.keys:
            return (
                f"Backend Secret {self.key} has no key {PASSWORD_KEY}: "
                "add the password of the restic repository"
            )
        if PASSWORD_KEY in self.empty_keys:
            return f"Backend Secret {self.key} has an empty {PASSWORD_KEY}: set the password"
        return None


@dataclass(frozen=True, slots=True)
class References:
    """What an invoker names, as it is now. None stands for an object that does not exist."""

    repository: Obj | None = None
    secret: Secret | None = None
    pvc: Obj | None = None
    task: Obj | None = None
    functions: Mapping[str, Obj] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConfigurationObserved:
    """Input of `backup_configuration.plan`. `spec` is a tuple of problems when it is no spec.

    `children` holds, by kind and name, what exists of the CronJobs, ServiceAccounts and
    RoleBindings that a configuration may have, metadata only, and of the CronJob `spec.digest`, its
    `trigger_digest`. With the driver VolumeSnapshotter `target` and `claims_found` are the live
    target and its claims by name, and `references` are empty.
    """

    configuration: Obj
    spec: BackupConfigurationSpec | tuple[Problem, ...]
    references: References
    children: Mapping[tuple[str, str], Obj]
    installation: Installation
    target: Obj | None = None
    claims_found: Mapping[str, Obj] | None = None
    snapshots_served: bool = False
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Executor:
    """The Job of a session and the newest of its pods, from the cache.

    Before the status says that the Job was created, it is here only if it exists all the same: the
    controller ended between the two writes.
    `job_gone` and `pods_gone` are set only after a live read said so (D10): the caches of different
    kinds are not ordered. With a Job that is gone, `pod` is one that has ended; while one has not,
    there is neither `pod` nor `pods_gone`, but a `survivor`. `words` are the texts of Events about
    a pod that does not appear. `unreadable` says why a live read gave no answer: from what is not
    here nothing follows then.
    """

    job: Obj | None = None
    pod: Obj | None = None
    job_gone: bool = False
    pods_gone: bool = False
    survivor: Obj | None = None
    words: tuple[str, ...] = ()
    unreadable: str = ""


@dataclass(frozen=True, slots=True)
class PvcUse:
    """Who uses the target's claim: names of running pods, and the nodes that they run on."""

    pods: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionObserved:
    """Input of `backup_session.plan`.

    `siblings` are the other sessions of the same invoker. `rivals` are the sessions, of any
    invoker, that have not ended and use the same place (`place_hash`). `neighbours` are the other
    configurations of this Repository, or of another of its place. `spec` is the configuration's,
    None when it does not exist or cannot be parsed, in which case it is Invalid. `started` are the
    uids of those siblings and rivals that have their Job, also when a crash kept their status from
    saying so. `access` is what lets a third party's step of this session read the storage Secret,
    as long as it exists. `movers` are the unfinished Jobs and the live pods of backups to the same
    place, also of sessions that are gone, or whose configuration names another Repository by now;
    like `rivals` they are looked for only while it was never used.
    `repository` is the one that the Job was built for, by name and uid; None without a Job, or
    when it is gone: what the run learned is written there, and nowhere else. While there is a Job
    it is that of `references` as well.
    """

    session: Obj
    configuration: Obj | None
    spec: BackupConfigurationSpec | None
    references: References
    executor: Executor
    installation: Installation
    limits: Limits
    siblings: tuple[Obj, ...] = ()
    rivals: tuple[Obj, ...] = ()
    movers: tuple[Obj, ...] = ()
    neighbours: tuple[Obj, ...] = ()
    started: frozenset[Uid] = frozenset()
    access: tuple[Ref, ...] = ()
    repository: Obj | None = None
    use: PvcUse = PvcUse()
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class RestoreObserved:
    """Input of `restore_session.plan`. `spec` is a tuple of problems when it cannot be parsed.

    `access` is as in SessionObserved.
    """

    session: Obj
    spec: RestoreSessionSpec | tuple[Problem, ...]
    references: References
    executor: Executor
    installation: Installation
    limits: Limits
    access: tuple[Ref, ...] = ()
    use: PvcUse = PvcUse()
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class RepositoryObserved:
    """Input of `repository.plan`: the Repository and the invokers that name it."""

    repository: Obj
    invokers: tuple[Obj, ...] = ()
