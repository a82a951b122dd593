"""The six kinds of the published API, in the notation of `notation`.

This is the source of manifests/crds; tests/unit/hack/test_crds.py holds it against the published
field lists. There are no validation rules (CEL) here on purpose: an object that Stash has stored,
or a manifest that is applied again, must not be refused (D12). RestoreSession.spec for example is
immutable to Stash only after its webhook has moved `spec.rules`, which no rule can express.
"""

from dataclasses import dataclass

from hack.crds import parts
from hack.crds.notation import (
    Schema,
    array,
    core,
    extending,
    flag,
    int32,
    int64,
    moment,
    record,
    strings,
    text,
)

GROUP = "stash.appscode.com"


@dataclass(frozen=True)
class Column:
    """A printer column of `kubectl get`."""

    name: str
    path: str
    type: str = "string"
    format: str = ""


@dataclass(frozen=True)
class Kind:
    """One CustomResourceDefinition with its only version."""

    name: str
    plural: str
    about: str
    spec: Schema
    status: Schema | None = None  # None: no status, and no status subresource
    version: str = "v1beta1"
    short_names: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    cluster_scoped: bool = False
    in_all: bool = False  # listed by `kubectl get all`

    @property
    def full_name(self) -> str:
        """The name of the CustomResourceDefinition."""
        return f"{self.plural}.{GROUP}"


_AGE = Column("Age", ".metadata.creationTimestamp", "date")
_PHASE = Column("Phase", ".status.phase")
_DURATION = Column("Duration", ".status.sessionDuration")


def _bucket(about: str, container: str, **extra: Schema) -> Schema:
    return record(
        about,
        {
            f"{container}!": text(f"Name of the {container}."),
            "prefix": text(f"Directory within the {container}."),
            **extra,
        },
    )


def _connections() -> Schema:
    return int64("Upper bound of parallel connections.")


def _backend() -> Schema:
    local = record(
        "A volume, of any kind that a pod can mount.",
        {
            "mountPath!": text("Where the volume is mounted; the repository lies there."),
            "subPath": text("Directory within the volume."),
        },
    )
    return record(
        "Where the repository lies. Exactly one kind of storage is to be given.",
        {
            "azure": _bucket("Azure Blob storage.", "container", maxConnections=_connections()),
            "b2": _bucket("Backblaze B2.", "bucket", maxConnections=_connections()),
            "gcs": _bucket("Google Cloud Storage.", "bucket", maxConnections=_connections()),
            "local": extending("core/v1.Volume", local, without=["name"]),
            "rest": record("restic's REST server.", {"url": text("URL of the server.")}),
            "s3": record(
                "S3 and what speaks its protocol.",
                {
                    "bucket!": text("Name of the bucket."),
                    "endpoint!": text("Host, or URL, of the service."),
                    "insecureTLS": flag("Do not verify the server's certificate."),
                    "prefix": text("Directory within the bucket."),
                    "region": text("Region of the bucket."),
                },
            ),
            "storageSecretName": text(
                "Secret in this namespace with RESTIC_PASSWORD and the storage credentials."
            ),
            "swift": _bucket("OpenStack Swift.", "container"),
        },
    )


def _repository() -> Kind:
    allowed = record(
        "Namespaces whose objects may use this Repository.",
        {
            "from": text(
                "All namespaces, those of the selector, or only the Repository's own.",
                one_of=("All", "Selector", "Same"),
                default="Same",
            ),
            "selector": core("meta/v1.LabelSelector", "Labels of the namespaces."),
        },
    )
    reference = record(
        "",
        {
            "apiGroup": text("API group of the user."),
            "kind": text("Kind of the user."),
            "name!": text("Name of the user."),
            "namespace": text("Namespace of the user."),
        },
    )
    return Kind(
        name="Repository",
        plural="repositories",
        version="v1alpha1",
        about="Repository is a place for backups: a restic repository in some storage.",
        short_names=("repo",),
        columns=(
            Column("Integrity", ".status.integrity", "boolean"),
            Column("Size", ".status.totalSize"),
            Column("Snapshot-Count", ".status.snapshotCount", "integer"),
            Column("Last-Successful-Backup", ".status.lastBackupTime", "date", "date-time"),
            _AGE,
        ),
        spec=record(
            "Where the backups go and who may use them.",
            {
                "backend": _backend(),
                "usagePolicy": record(
                    "Who may use this Repository.", {"allowedNamespaces": allowed}
                ),
                "wipeOut": flag("Delete the backed-up data together with this object."),
            },
        ),
        status=record(
            "What is known about the repository.",
            {
                "firstBackupTime": moment("Time of the first backup."),
                "integrity": flag("Result of the last integrity check."),
                "lastBackupTime": moment("Time of the last successful backup."),
                "observedGeneration": int64("metadata.generation that was last acted on."),
                "references": array("Objects that use this Repository.", reference),
                "snapshotCount": int64("Number of snapshots kept."),
                "snapshotsRemovedOnLastCleanup": int64("Number of snapshots last removed."),
                "totalSize": text("Size of the stored data, for example 2.5 GiB."),
            },
        ),
    )


def _backup_configuration() -> Kind:
    after = ("Always", "OnFailure", "OnSuccess", "OnFinalRetryFailure")
    target = record(
        "What to back up.",
        {
            "alias": text("Name of the host in the repository; host-0 when empty."),
            "args": strings("Further arguments for restic backup."),
            "exclude": strings("Patterns of files to leave out."),
            "paths": strings("Directories to back up; /stash-data when empty."),
            "ref": parts.target_ref(),
            "replicas": int32("How many volumes of a StatefulSet to snapshot."),
            "snapshotClassName": text("VolumeSnapshotClass; the driver's default when empty."),
            "volumeMounts": parts.volume_mounts(),
        },
    )
    retention = record(
        "Which snapshots to keep. Without any keep rule all are kept.",
        {
            "dryRun": flag("Only report what would be removed."),
            "keepDaily": int64("Keep the last of each of so many days."),
            "keepHourly": int64("Keep the last of each of so many hours."),
            "keepLast": int64("Keep so many of the newest."),
            "keepMonthly": int64("Keep the last of each of so many months."),
            "keepTags": strings("Keep all snapshots with these tags."),
            "keepWeekly": int64("Keep the last of each of so many weeks."),
            "keepYearly": int64("Keep the last of each of so many years."),
            "name!": text("Name of the policy."),
            "prune!": flag("Also free the space of removed snapshots."),
        },
    )
    return Kind(
        name="BackupConfiguration",
        plural="backupconfigurations",
        about="BackupConfiguration backs up a target on a schedule.",
        short_names=("bc",),
        in_all=True,
        columns=(
            Column("Task", ".spec.task.name"),
            Column("Schedule", ".spec.schedule"),
            Column("Paused", ".spec.paused", "boolean"),
            _PHASE,
            _AGE,
        ),
        spec=record(
            "What to back up, when, how and where to.",
            {
                "backupHistoryLimit": int32(
                    "How many finished BackupSessions to keep; 1 by default."
                ),
                "driver": parts.driver(),
                "hooks": record(
                    "Actions before and after each backup.",
                    {
                        "postBackup": parts.hook("Action after the backup.", policies=after),
                        "preBackup": parts.hook("Action before the backup."),
                    },
                ),
                "interimVolumeTemplate": parts.interim_volume(),
                "paused": flag("Suspend the schedule. Backups asked for by hand still run."),
                "repository": parts.repository_ref(),
                "retentionPolicy!": retention,
                "retryConfig": record(
                    "When a failed backup is tried again.",
                    {
                        "delay": text("Pause before the next try, for example 10m."),
                        "maxRetry": int32("How many times to try again.", default=1),
                    },
                ),
                "runtimeSettings": parts.runtime_settings(),
                "schedule": text("Cron expression, for example '0 3 * * *'."),
                "target": target,
                "task": parts.task_ref(),
                "tempDir": parts.temp_dir(),
                "timeOut": text("Longest time for one backup, for example 30m."),
            },
        ),
        status=record(
            "Whether backups can run.",
            {
                "conditions": parts.conditions(),
                "observedGeneration": int64("metadata.generation that was last acted on."),
                "phase": text(
                    "Invalid: the specification must be changed. NotReady: something is missing.",
                    one_of=("Invalid", "Ready", "NotReady"),
                ),
            },
        ),
    )


def _backup_session() -> Kind:
    files = record(
        "Numbers of files.",
        {
            "modifiedFiles": int64("Files that have changed."),
            "newFiles": int64("Files that are new."),
            "totalFiles": int64("All files."),
            "unmodifiedFiles": int64("Files that have not changed."),
        },
    )
    snapshot = record(
        "",
        {
            "fileStats": files,
            "name": text("Id of the restic snapshot."),
            "path": text("Directory that was backed up."),
            "processingTime": text("Time that it took, m:ss."),
            "totalSize": text("Size of the directory."),
            "uploaded": text("Size of what was sent to the storage."),
        },
    )
    host = record(
        "",
        {
            "duration": text("Time that this host took."),
            "error": text("What went wrong."),
            "hostname": text("Name of the host in the repository, or of the claim."),
            "phase": text("Outcome for this host.", one_of=("Succeeded", "Failed")),
            "snapshots": array("Snapshots taken, one for each path.", snapshot),
        },
    )
    target = record(
        "",
        {
            "conditions": parts.conditions("What is known about the backup of this target."),
            "phase": text(
                "State of this target.", one_of=("Pending", "Succeeded", "Running", "Failed")
            ),
            "postBackupActions": strings("Steps that follow the backup."),
            "preBackupActions": strings("Steps that precede the backup."),
            "ref": parts.target_ref(),
            "stats": array("Outcome for each host.", host),
            "totalHosts": int32("Number of hosts to back up."),
        },
    )
    phases = ("Pending", "Skipped", "Running", "Succeeded", "Failed", "Unknown")
    invoker = {
        "apiGroup": text("API group of the invoker."),
        "kind!": text("Kind of the invoker, for example BackupConfiguration."),
        "name!": text("Name of the invoker, in this namespace."),
    }
    return Kind(
        name="BackupSession",
        plural="backupsessions",
        about="BackupSession is one run of a backup.",
        in_all=True,
        columns=(
            Column("Invoker-Type", ".spec.invoker.kind"),
            Column("Invoker-Name", ".spec.invoker.name"),
            _PHASE,
            _DURATION,
            _AGE,
        ),
        spec=record(
            "What to run.",
            {
                "invoker": record("The object whose backup runs.", invoker),
                "retryLeft": int32("How many more times a failure is tried again."),
            },
        ),
        status=record(
            "How the run goes.",
            {
                "conditions": parts.conditions(),
                "nextRetry": moment("When the next try is due."),
                "phase": text("State of the run.", one_of=phases),
                "retried": flag("Whether another session was created as the next try."),
                "sessionDeadline": moment("When the run has to be finished."),
                "sessionDuration": text("Time that the run took."),
                "targets": array("State and outcome for each target.", target),
            },
        ),
    )


def _restore_session() -> Kind:
    def rules(about: str) -> Schema:
        rule = {
            "exclude": strings("Patterns of files to leave out."),
            "include": strings("Patterns of files to restore; all when empty."),
            "paths": strings("Directories whose newest snapshot is restored."),
            "snapshots": strings("Ids of the snapshots to restore."),
            "sourceHost": text("Host whose backups are restored; the target's own when empty."),
            "targetHosts": strings("Hosts that this rule is for; all when empty."),
        }
        return array(about, record("", rule))

    target = record(
        "What to restore into.",
        {
            "alias": text("Name of the host in the repository that was used for the backup."),
            "args": strings("Further arguments for restic restore."),
            "ref": parts.target_ref(),
            "replicas": int32("How many claims to create from each template."),
            "rules": rules("Which data to restore to which host."),
            "volumeClaimTemplates": array(
                "Claims to create and to restore into.", parts.claim_template("")
            ),
            "volumeMounts": parts.volume_mounts(),
        },
    )
    host = record(
        "",
        {
            "duration": text("Time that this host took."),
            "error": text("What went wrong."),
            "hostname": text("Name of the host, or of the claim."),
            "phase": text(
                "Outcome for this host.", one_of=("Succeeded", "Failed", "Running", "Unknown")
            ),
        },
    )
    phases = ("Pending", "Running", "Succeeded", "Failed", "Unknown", "Invalid")
    after = ("Always", "OnFailure", "OnSuccess")
    return Kind(
        name="RestoreSession",
        plural="restoresessions",
        about="RestoreSession is one run of a restore.",
        short_names=("restore",),
        in_all=True,
        columns=(Column("Repository", ".spec.repository.name"), _PHASE, _DURATION, _AGE),
        spec=record(
            "What to restore, from where and into what.",
            {
                "driver": parts.driver(),
                "hooks": record(
                    "Actions before and after the restore.",
                    {
                        "postRestore": parts.hook("Action after the restore.", policies=after),
                        "preRestore": parts.hook("Action before the restore."),
                    },
                ),
                "interimVolumeTemplate": parts.interim_volume(),
                "repository": parts.repository_ref(),
                "rules": rules("Deprecated place of target.rules; still read."),
                "runtimeSettings": parts.runtime_settings(),
                "target": target,
                "task": parts.task_ref(),
                "tempDir": parts.temp_dir(),
                "timeOut": text("Longest time for the restore, for example 30m."),
            },
        ),
        status=record(
            "How the run goes.",
            {
                "conditions": parts.conditions(),
                "phase": text("State of the run.", one_of=phases),
                "sessionDeadline": moment("When the run has to be finished."),
                "sessionDuration": text("Time that the run took."),
                "stats": array("Outcome for each host.", host),
                "totalHosts": int32("Number of hosts to restore."),
            },
        ),
    )


def _function() -> Kind:
    return Kind(
        name="Function",
        plural="functions",
        about="Function is a container template with variables: one step of a Task.",
        short_names=("fn",),
        cluster_scoped=True,
        columns=(_AGE,),
        spec=record(
            "The container. Strings may hold variables: ${NAME} or ${NAME:=default}.",
            {
                "args": strings("Arguments of the command."),
                "command": strings("Command in place of the image's own."),
                "image": text("Container image."),
                "podSecurityPolicyName": text("Without effect: Kubernetes has removed these."),
                "ports": array("Ports of the container.", core("core/v1.ContainerPort")),
                "runtimeSettings": parts.container_settings(),
                "volumeDevices": array("Block devices to attach.", core("core/v1.VolumeDevice")),
                "volumeMounts": parts.volume_mounts(),
                "workingDir": text("Working directory of the command."),
            },
        ),
    )


def _task() -> Kind:
    step = {"name": text("Name of the Function."), "params": parts.params()}
    return Kind(
        name="Task",
        plural="tasks",
        about="Task names the Functions that back up or restore one kind of target, in order.",
        short_names=("task",),
        cluster_scoped=True,
        columns=(_AGE,),
        spec=record(
            "The steps and their volumes.",
            {
                "steps": array("Functions to run, one after the other.", record("", step)),
                "volumes": array("Volumes of the pod.", core("core/v1.Volume")),
            },
        ),
    )


KINDS = (
    _repository(),
    _backup_configuration(),
    _backup_session(),
    _restore_session(),
    _function(),
    _task(),
)
