"""The CronJob that creates a BackupSession at each slot of a configuration."""

import hashlib
import json
from typing import Any

from controller.api.backup import BackupConfigurationSpec
from controller.api.names import trigger_name
from controller.api.objects import Obj, dig, name_of, namespace_of, uid_of
from controller.api.resources import BACKUP_CONFIGURATION, CRON_JOB
from controller.build.api_pod import api_container, api_pod_template
from controller.build.child import child
from controller.build.input import named_environment_variable
from controller.build.installation import Installation
from controller.build.labels import BACKUP, JOB_NAME, child_labels, own_labels, session_labels
from controller.build.pod import job_policy
from controller.build.rbac import trigger_service_account

TRIGGER_ENVIRONMENT_VARIABLE = "DREY_TRIGGER"
JOB_NAME_ENVIRONMENT_VARIABLE = "JOB_NAME"
# A slot that an outage of the control plane swallowed is caught up, but not at an odd hour: with
# more than six hours of delay the next slot will do.
STARTING_DEADLINE_S = 6 * 3600
# A trigger takes a second. One that hangs, because its image cannot be pulled, gives way.
ACTIVE_DEADLINE_S = 600
_DIGESTED = (
    "schedule",
    "concurrencyPolicy",
    "startingDeadlineSeconds",
    "successfulJobsHistoryLimit",
    "failedJobsHistoryLimit",
)


def trigger_cron_job(
    configuration: Obj, spec: BackupConfigurationSpec, installation: Installation
) -> Obj:
    """Return the CronJob `stash-trigger-<configuration>`.

    `Forbid` with the Job's own deadline: hanging triggers do not pile up, and whether two sessions
    may run at once is decided elsewhere. No Job that succeeded is kept (D13).
    """
    owner = (BACKUP_CONFIGURATION, configuration)
    kind = BACKUP_CONFIGURATION.kind
    labels = child_labels(BACKUP, kind, configuration)
    template = api_pod_template(
        installation,
        spec.runtime_settings,
        labels=own_labels(BACKUP, kind, configuration),
        container=_container(configuration, spec, installation),
        service_account=trigger_service_account(configuration, spec),
    )
    return child(
        CRON_JOB,
        trigger_name(name_of(configuration)),
        owner,
        labels=labels,
        body={
            "spec": {
                "schedule": spec.schedule,
                "suspend": spec.paused,
                "concurrencyPolicy": "Forbid",
                "startingDeadlineSeconds": STARTING_DEADLINE_S,
                "successfulJobsHistoryLimit": 0,
                "failedJobsHistoryLimit": 1,
                "jobTemplate": {
                    "metadata": {"labels": labels},
                    "spec": {
                        **job_policy(),
                        "activeDeadlineSeconds": ACTIVE_DEADLINE_S,
                        "template": template,
                    },
                },
            }
        },
    )


def trigger_digest(cron_job: Obj) -> str:
    """Return a hash of what decides when a trigger fires, as whom, and what it does.

    Equal for a CronJob as we apply it and as the API server has it: of the fields that are taken
    none is defaulted or rewritten. So it tells whether one was changed by hand. What somebody added
    (`timeZone`) is not ours, and not in it.
    """
    spec = cron_job.get("spec") or {}
    pod = dig(spec, "jobTemplate", "spec", "template", "spec")
    taken = [
        *(spec.get(field) for field in _DIGESTED),
        bool(spec.get("suspend")),
        dig(spec, "jobTemplate", "spec", "activeDeadlineSeconds"),
        dig(pod, "serviceAccountName"),
        [
            [
                container.get("name"),
                container.get("image"),
                list(container.get("command") or ()),
                list(container.get("args") or ()),
                [[v.get("name"), v.get("value") or ""] for v in container.get("env") or ()],
            ]
            for container in dig(pod, "containers") or ()
        ],
    ]
    return hashlib.sha256(json.dumps(taken).encode()).hexdigest()[:16]


def _container(
    configuration: Obj, spec: BackupConfigurationSpec, installation: Installation
) -> dict[str, Any]:
    job_name: dict[str, Any] = {"fieldRef": {"fieldPath": f"metadata.labels['{JOB_NAME}']"}}
    return api_container(
        "stash-trigger",
        "trigger",
        installation=installation,
        settings=spec.runtime_settings,
        environment=[
            named_environment_variable(
                TRIGGER_ENVIRONMENT_VARIABLE, _document(configuration, spec)
            ),
            {"name": JOB_NAME_ENVIRONMENT_VARIABLE, "valueFrom": job_name},
        ],
    )


def _document(configuration: Obj, spec: BackupConfigurationSpec) -> str:
    """Return what the trigger puts into the session, beside its name and its owner."""
    document = {
        "apiVersion": BACKUP_CONFIGURATION.api_version,
        "kind": BACKUP_CONFIGURATION.kind,
        "name": name_of(configuration),
        "namespace": namespace_of(configuration),
        "uid": uid_of(configuration),
        "retryLeft": spec.retry_config.max_retry if spec.retry_config else 0,
        "labels": dict(session_labels(configuration, spec.target)),
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"))
