"""The Kubernetes resources that we read or write, and where they live in the API.

The table is static: no discovery at run time, so that a read-only root filesystem and a slow
aggregated API cannot hurt us.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of the API. `group` is empty for the core group."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """Return `group/version`, or `version` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def prefix(self) -> str:
        """Return the path of the group and version, for example `/apis/batch/v1`."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the URL path of a collection, an object or a subresource.

        An empty namespace on a namespaced resource means all namespaces.
        """
        parts = [self.prefix]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)

    def __str__(self) -> str:
        """Return the kind: what a reader of a log wants."""
        return self.kind


STASH_GROUP = "stash.appscode.com"

REPOSITORY = Resource(STASH_GROUP, "v1alpha1", "Repository", "repositories")
BACKUP_CONFIGURATION = Resource(
    STASH_GROUP, "v1beta1", "BackupConfiguration", "backupconfigurations"
)
BACKUP_SESSION = Resource(STASH_GROUP, "v1beta1", "BackupSession", "backupsessions")
RESTORE_SESSION = Resource(STASH_GROUP, "v1beta1", "RestoreSession", "restoresessions")
FUNCTION = Resource(STASH_GROUP, "v1beta1", "Function", "functions", namespaced=False)
TASK = Resource(STASH_GROUP, "v1beta1", "Task", "tasks", namespaced=False)

JOB = Resource("batch", "v1", "Job", "jobs")
CRON_JOB = Resource("batch", "v1", "CronJob", "cronjobs")
POD = Resource("", "v1", "Pod", "pods")
SECRET = Resource("", "v1", "Secret", "secrets")
PVC = Resource("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
PERSISTENT_VOLUME = Resource("", "v1", "PersistentVolume", "persistentvolumes", namespaced=False)
SERVICE_ACCOUNT = Resource("", "v1", "ServiceAccount", "serviceaccounts")
NAMESPACE = Resource("", "v1", "Namespace", "namespaces", namespaced=False)
CORE_EVENT = Resource("", "v1", "Event", "events")
EVENT = Resource("events.k8s.io", "v1", "Event", "events")
LEASE = Resource("coordination.k8s.io", "v1", "Lease", "leases")
ROLE = Resource("rbac.authorization.k8s.io", "v1", "Role", "roles")
ROLE_BINDING = Resource("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings")
VOLUME_SNAPSHOT = Resource("snapshot.storage.k8s.io", "v1", "VolumeSnapshot", "volumesnapshots")
VOLUME_SNAPSHOT_CLASS = Resource(
    "snapshot.storage.k8s.io",
    "v1",
    "VolumeSnapshotClass",
    "volumesnapshotclasses",
    namespaced=False,
)
VOLUME_SNAPSHOT_CONTENT = Resource(
    "snapshot.storage.k8s.io",
    "v1",
    "VolumeSnapshotContent",
    "volumesnapshotcontents",
    namespaced=False,
)
STORAGE_CLASS = Resource("storage.k8s.io", "v1", "StorageClass", "storageclasses", namespaced=False)
DEPLOYMENT = Resource("apps", "v1", "Deployment", "deployments")
STATEFUL_SET = Resource("apps", "v1", "StatefulSet", "statefulsets")
DAEMON_SET = Resource("apps", "v1", "DaemonSet", "daemonsets")
REPLICA_SET = Resource("apps", "v1", "ReplicaSet", "replicasets")
REPLICATION_CONTROLLER = Resource("", "v1", "ReplicationController", "replicationcontrollers")
CRD = Resource(
    "apiextensions.k8s.io",
    "v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    namespaced=False,
)
