"""What several kinds have in common, in the notation of `notation`.

Field names, types, enums and defaults are those of the published API; the texts are ours and are
what `kubectl explain` shows.
"""

from hack.crds.notation import (
    Schema,
    array,
    core,
    flag,
    int32,
    int64,
    int_or_string,
    moment,
    quantity,
    record,
    string_map,
    strings,
    text,
)

_TOPOLOGY_KEYS = ("topologyKey", "whenUnsatisfiable")  # as in core/v1.PodSpec


def driver() -> Schema:
    """How data is taken or brought back."""
    return text(
        "Restic copies files to the Repository; VolumeSnapshotter takes CSI VolumeSnapshots.",
        one_of=("Restic", "VolumeSnapshotter"),
        default="Restic",
    )


def repository_ref() -> Schema:
    """Which Repository an invoker uses."""
    return record(
        "Repository that holds the backups; not used with the VolumeSnapshotter driver.",
        {
            "name!": text("Name of the Repository."),
            "namespace": text("Its namespace; the namespace of this object when empty."),
        },
    )


def params() -> Schema:
    """Values for the variables of a Function."""
    fields = {"name!": text("Name of the variable."), "value!": text("Its value.")}
    return array("Values for variables of the Functions.", record("", fields))


def task_ref() -> Schema:
    """Which Task runs."""
    return record(
        "Task that does the work.", {"name": text("Name of the Task."), "params": params()}
    )


def target_ref() -> Schema:
    """The object that is backed up or restored into."""
    return record(
        "Object to protect, for example a PersistentVolumeClaim.",
        {
            "apiVersion": text("API group and version, for example v1 or apps/v1."),
            "kind": text("Kind, for example PersistentVolumeClaim."),
            "name": text("Name of the object."),
            "namespace": text("Its namespace; the namespace of this object when empty."),
        },
    )


def volume_mounts() -> Schema:
    """Where volumes appear in a container."""
    return array("Volumes to mount, and where.", core("core/v1.VolumeMount"))


def container_settings() -> Schema:
    """Settings of the container that does the work."""
    nice = record(
        "CPU priority, as of nice(1).", {"adjustment": int32("From -20 (first) to 19 (last).")}
    )
    ionice = record(
        "Disk priority, as of ionice(1).",
        {
            "class": int32("1 real-time, 2 best-effort, 3 idle."),
            "classData": int32("From 0 (first) to 7 (last) within the class."),
        },
    )
    return record(
        "Settings of the container.",
        {
            "env": array("Environment variables to add.", core("core/v1.EnvVar")),
            "envFrom": array(
                "Secrets and ConfigMaps to take environment variables from.",
                core("core/v1.EnvFromSource"),
            ),
            "ionice": ionice,
            "lifecycle": core("core/v1.Lifecycle", "Actions on start and stop of the container."),
            "livenessProbe": core("core/v1.Probe", "When to restart the container."),
            "nice": nice,
            "readinessProbe": core("core/v1.Probe", "When the container counts as ready."),
            "resources": core("core/v1.ResourceRequirements", "CPU and memory."),
            "securityContext": core("core/v1.SecurityContext", "Privileges of the container."),
        },
    )


def runtime_settings() -> Schema:
    """Settings of the pods that are created for an object."""
    pod = {
        "affinity": core("core/v1.Affinity", "Which nodes to prefer or to require."),
        "automountServiceAccountToken": flag("Whether the pod gets an API token."),
        "enableServiceLinks": flag("Whether Services appear as environment variables."),
        "imagePullSecrets": array(
            "Secrets with registry credentials.", core("core/v1.LocalObjectReference")
        ),
        "nodeName": text("Node to run on, past the scheduler."),
        "nodeSelector": string_map("Labels that the node must have."),
        "podAnnotations": string_map("Annotations to add to the pod."),
        "podLabels": string_map("Labels to add to the pod."),
        "priority": int32("Numeric priority; priorityClassName is preferred."),
        "priorityClassName": text("PriorityClass of the pod."),
        "readinessGates": array(
            "Extra conditions for readiness.", core("core/v1.PodReadinessGate")
        ),
        "runtimeClassName": text("RuntimeClass of the pod."),
        "schedulerName": text("Scheduler to use."),
        "securityContext": core(
            "core/v1.PodSecurityContext", "Privileges of all containers of the pod."
        ),
        "serviceAccountAnnotations": string_map("Annotations for the created ServiceAccount."),
        "serviceAccountName": text("Existing ServiceAccount to use instead of a created one."),
        "tolerations": array("Taints to accept.", core("core/v1.Toleration")),
        "topologySpreadConstraints": array(
            "How to spread the pods.", core("core/v1.TopologySpreadConstraint"), keys=_TOPOLOGY_KEYS
        ),
    }
    return record(
        "Settings of the pods that are created for this object.",
        {"container": container_settings(), "pod": record("Settings of the pod.", pod)},
    )


def temp_dir() -> Schema:
    """The scratch volume of a mover pod."""
    return record(
        "Scratch volume for temporary files and restic's cache.",
        {
            "disableCaching": flag("Do without restic's local cache."),
            "medium": text("Empty for the node's disk, Memory for a tmpfs."),
            "sizeLimit": quantity("Upper bound of its size."),
        },
    )


def claim_template(about: str) -> Schema:
    """A PersistentVolumeClaim to create."""
    owner = record(
        "",
        {
            "apiVersion!": text(),
            "blockOwnerDeletion": flag(),
            "controller": flag(),
            "kind!": text(),
            "name!": text(),
            "uid!": text(),
        },
    )
    metadata = record(
        "Name, labels and annotations of the claim.",
        {
            "annotations": string_map(),
            "generateName": text(),
            "labels": string_map(),
            "name": text(),
            "namespace": text(),
            "ownerReferences": array("", owner),
        },
    )
    return record(
        about,
        {
            "apiVersion": text(),
            "kind": text(),
            "metadata": metadata,
            "spec": core("core/v1.PersistentVolumeClaimSpec", "Specification of the claim."),
            "status": core("core/v1.PersistentVolumeClaimStatus", "Ignored."),
        },
    )


def interim_volume() -> Schema:
    """The claim for add-ons that stage their data."""
    return claim_template("Claim to create for a Task that stages its data before the upload.")


def hook(about: str, *, policies: tuple[str, ...] = ()) -> Schema:
    """An action at one point of a session; `policies` are its executionPolicy values."""
    header = record("", {"name!": text("Name of the header."), "value!": text("Its value.")})
    form = record("", {"key": text("Name of the field."), "values": strings("Its values.")})
    post = {
        "body": text("Body of the request."),
        "form": array("Form fields, sent in place of a body.", form),
        "host": text("Host name; the pod's address when empty."),
        "httpHeaders": array("Headers to send.", header),
        "path": text("Path of the request."),
        "port!": int_or_string("Number or name of the port."),
        "scheme": text("HTTP or HTTPS."),
    }
    fields = {
        "containerName": text("Container to run the command in, or whose ports are meant."),
        "exec": core("core/v1.ExecAction", "Command to run in a container of the target."),
        "httpGet": core("core/v1.HTTPGetAction", "HTTP GET request to send."),
        "httpPost": record("HTTP POST request to send.", post),
        "tcpSocket": core("core/v1.TCPSocketAction", "TCP connection to open."),
    }
    if policies:
        fields["executionPolicy"] = text("When to run it.", one_of=policies, default="Always")
    return record(about, fields)


def conditions(about: str = "What is known about this object, one entry for each type.") -> Schema:
    """The published condition list.

    Types and reasons are open strings, so it holds the published ones, Drey's own and those of
    others alike.
    """
    return array(
        about,
        record(
            "",
            {
                "lastTransitionTime!": moment("When status last changed."),
                "message": text("Explanation for a person."),
                "observedGeneration": int64("metadata.generation that this entry speaks of."),
                "reason": text("Cause in one word."),
                "severity": text("How grave it is that status is not True; empty for an error."),
                "status!": text("True, False or Unknown."),
                "type!": text("Name of the condition."),
            },
        ),
    )
