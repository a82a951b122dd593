"""Label and annotation keys, and which labels go on what we create."""

from collections.abc import Mapping

from controller.api.backup import BackupTarget
from controller.api.names import LABEL_LIMIT, bounded
from controller.api.objects import Obj, labels_of, name_of, namespace_of

CREATED_BY = "drey.dev/created-by"
CREATED_BY_VALUE = "drey"
SELECTOR = f"{CREATED_BY}={CREATED_BY_VALUE}"
"""What our informers of Jobs, Pods and other common kinds select by."""
SPEC_HASH = "drey.dev/spec-hash"
"""Annotation: a hash of the intent. What we apply is compared by it."""
REPOSITORY_NAME = "drey.dev/repository"
"""Annotation of a Job and of its pods: the name of the Repository that it was built for."""
REPOSITORY_UID = "drey.dev/repository-uid"
"""Annotation of both: the uid of that Repository. A namesake may be of another backend."""
REPOSITORY_PLACE = "drey.dev/repository-place"
"""Annotation of both: `place_hash` of that Repository as it was then. It may be edited, or deleted
and made again under another name, while what was begun goes on in the old place."""

STEPS = "drey.dev/steps"
"""Annotation of the pods of our Jobs: the names of our own containers in their order, the one that
reports last. Whatever else is in a pod was injected."""

COMPONENT = "app.kubernetes.io/component"
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY_VALUE = "stash.appscode.com"
BACKUP = "stash-backup"
RESTORE = "stash-restore"

INVOKER_TYPE = "stash.appscode.com/invoker-type"
INVOKER_NAME = "stash.appscode.com/invoker-name"
TARGET_KIND = "stash.appscode.com/target-kind"
TARGET_NAME = "stash.appscode.com/target-name"
TARGET_NAMESPACE = "stash.appscode.com/target-namespace"
BACKUP_CONFIGURATION = "stash.appscode.com/backup-configuration"
"""Stash's guides select sessions by it, Stash itself never sets it."""

JOB_NAME = "batch.kubernetes.io/job-name"
"""Set by Kubernetes on the pods of a Job."""

# Only keys that say who pays and who answers: nothing that a Service, a PodDisruptionBudget or a
# deployment tool (Helm, Argo CD, Flux) may select by (D21). Pods get none at all: whoever wants
# labels on them has runtimeSettings.pod.podLabels.
COPIED = frozenset({"app.kubernetes.io/part-of", "cost-center", "owner", "team"})

# Service meshes: a proxy beside a Job's containers never ends, so the Job never would either.
INJECTION_LABELS = {
    "sidecar.istio.io/inject": "false",
    "kuma.io/sidecar-injection": "disabled",
}
INJECTION_ANNOTATIONS = {
    "sidecar.istio.io/inject": "false",
    "linkerd.io/inject": "disabled",
    "kuma.io/sidecar-injection": "disabled",
    "consul.hashicorp.com/connect-inject": "false",
}
# A run that was begun is cheaper to finish than to begin again.
STAY_ANNOTATIONS = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}


def own_labels(component: str, invoker_kind: str, invoker: Obj) -> dict[str, str]:
    """Return the labels that everything has that is created for an invoker, pods included."""
    return {
        COMPONENT: component,
        MANAGED_BY: MANAGED_BY_VALUE,
        CREATED_BY: CREATED_BY_VALUE,
        INVOKER_TYPE: invoker_kind,
        INVOKER_NAME: bounded(name_of(invoker), LABEL_LIMIT),
    }


def child_labels(component: str, invoker_kind: str, invoker: Obj) -> dict[str, str]:
    """Return the labels of an object that is no pod: with those copied from the invoker."""
    copied = {key: value for key, value in labels_of(invoker).items() if key in COPIED}
    return copied | own_labels(component, invoker_kind, invoker)


def session_labels(configuration: Obj, target: BackupTarget | None) -> Mapping[str, str]:
    """Return the labels of a BackupSession. Label values are at most 63 characters long."""
    labels = child_labels(BACKUP, "BackupConfiguration", configuration)
    labels[BACKUP_CONFIGURATION] = labels[INVOKER_NAME]
    if target is not None:
        labels[TARGET_KIND] = target.ref.kind
        labels[TARGET_NAME] = bounded(target.ref.name, LABEL_LIMIT)
        labels[TARGET_NAMESPACE] = target.ref.namespace or namespace_of(configuration)
    return labels
