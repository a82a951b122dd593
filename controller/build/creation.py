"""The Job of a flow B session: it creates VolumeSnapshots, or claims, and ends (D11, D22)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.api.backup import BackupConfigurationSpec, RuntimeSettings
from controller.api.creation import (
    MAX_BYTES,
    QUIESCED_UNTIL,
    SESSION_NAME,
    SESSION_UID,
    CreationInput,
    NewObject,
)
from controller.api.job_input import ENVIRONMENT_VARIABLE
from controller.api.model import Problem
from controller.api.names import FALLBACK_LENGTH, snapshot_name
from controller.api.objects import Obj, dig, meta, name_of, namespace_of, uid_of
from controller.api.report import ExitCode
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    BACKUP_SESSION,
    VOLUME_SNAPSHOT,
    Resource,
)
from controller.api.text import format_time, parse_go_duration_s, parse_time
from controller.build.api_pod import api_job, job_container, subject_of
from controller.build.input import named_environment_variable, report_bytes
from controller.build.installation import Installation
from controller.build.job import BACKSTOP_S
from controller.build.labels import BACKUP, child_labels

SNAPSHOT_VERB = "snapshot"
RESTORE_VERB = "restore-snapshot"
RETRIES = 3
DEADLINE_S = 7200
"""Longest life of a Job without `timeOut`. Creating takes seconds; a pod may have to wait."""


@dataclass(frozen=True, slots=True)
class CreationOrder:
    """Everything that such a Job depends on.

    For a restore `session` and `invoker` are the same RestoreSession. `time_out` is the invoker's,
    a Go duration or empty. `annotations` are the Job's.
    """

    session: Obj
    session_resource: Resource
    invoker: Obj
    invoker_resource: Resource
    runtime_settings: RuntimeSettings
    installation: Installation
    document: CreationInput
    job_name: str
    service_account: str
    time_out: str
    annotations: Obj | None = None


def creation_job(order: CreationOrder) -> Obj | tuple[Problem, ...]:
    """Return the Job, or everything that keeps it from being built."""
    variable = named_environment_variable(ENVIRONMENT_VARIABLE, order.document.encode())
    if len(variable["value"]) > MAX_BYTES:
        return (_too_long(order, len(variable["value"])),)
    is_backup = order.session_resource == BACKUP_SESSION
    container = job_container(order, SNAPSHOT_VERB if is_backup else RESTORE_VERB, variable)
    time_out_s = parse_go_duration_s(order.time_out)
    return api_job(
        order,
        order.job_name,
        container,
        policy=kill_policy(container["name"]),
        deadline_s=int(time_out_s) + BACKSTOP_S if time_out_s else DEADLINE_S,
        annotations=order.annotations,
    )


def told_hosts(job: Obj) -> tuple[str, ...] | None:
    """Return of which hosts a Job was told to create the objects, None when it does not say."""
    texts = (
        str(variable.get("value") or "")
        for container in dig(job, "spec", "template", "spec", "containers") or ()
        for variable in container.get("env") or ()
        if variable.get("name") == ENVIRONMENT_VARIABLE
    )
    try:
        return CreationInput.decode(next(texts, "")).hostnames
    except ValueError:  # another version made it
        return None


def snapshot_input(
    session: Obj,
    configuration: Obj,
    spec: BackupConfigurationSpec,
    claims: Sequence[str],
    *,
    quiesced_until: datetime | None = None,
) -> CreationInput:
    """Return the VolumeSnapshots of a session, one of each claim (D21, D22).

    Without a class the field is left out: the cluster's default class applies. `quiesced_until` is
    when the application goes on at the latest, None when it does not stand still.
    """
    created = parse_time(meta(session)["creationTimestamp"])
    unix_s = int(created.timestamp())
    time_out_s = parse_go_duration_s(spec.time_out)
    common: dict[str, object] = {
        "apiVersion": VOLUME_SNAPSHOT.api_version,
        "kind": VOLUME_SNAPSHOT.kind,
        "metadata": {
            "labels": {
                **child_labels(BACKUP, BACKUP_CONFIGURATION.kind, configuration),
                SESSION_UID: uid_of(session),
            },
            "annotations": {
                SESSION_NAME: name_of(session),
                **({QUIESCED_UNTIL: format_time(quiesced_until)} if quiesced_until else {}),
            },
        },
    }
    if spec.target is not None and spec.target.snapshot_class_name:
        common["spec"] = {"volumeSnapshotClassName": spec.target.snapshot_class_name}
    return CreationInput(
        group=VOLUME_SNAPSHOT.group,
        version=VOLUME_SNAPSHOT.version,
        kind=VOLUME_SNAPSHOT.kind,
        plural=VOLUME_SNAPSHOT.plural,
        namespace=namespace_of(session),
        session_uid=uid_of(session),
        common=common,
        objects=tuple(
            NewObject(
                claim,
                {
                    "metadata": {"name": snapshot_name(claim, unix_s)},
                    "spec": {"source": {"persistentVolumeClaimName": claim}},
                },
            )
            for claim in claims
        ),
        fallback_suffix=hashlib.sha256(uid_of(session).encode()).hexdigest()[:FALLBACK_LENGTH],
        deadline=format_time(created + timedelta(seconds=time_out_s)) if time_out_s else "",
        report_bytes=report_bytes(1),
    )


def kill_policy(container: str) -> dict[str, object]:
    """Return how failures are counted: a pod that reported ends the Job, a killed one is replaced.

    For Jobs that may run twice. To create again is harmless: what exists already is this session's
    own, or says why not.
    """
    return {
        "backoffLimit": RETRIES,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {
                        "containerName": container,
                        "operator": "In",
                        "values": [int(ExitCode.FAILED)],
                    },
                },
                {
                    "action": "Ignore",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                },
            ]
        },
    }


def _too_long(order: CreationOrder, size: int) -> Problem:
    count = len(order.document.objects)
    said = f"{count} volumes are too many for one Job, which would be told {size} bytes of at most"
    if order.session_resource == BACKUP_SESSION:
        path = "spec.target"
        fix = "lower spec.target.replicas, or name single claims in a BackupConfiguration each"
    else:
        path = "spec.target.volumeClaimTemplates"
        fix = "spread templates or replicas over several RestoreSessions"
    return Problem(f"{subject_of(order)} {path}", f"{said} {MAX_BYTES}: {fix}")
