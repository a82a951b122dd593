"""The CronJob that triggers sessions."""

from copy import deepcopy
from typing import Any

from controller.api.backup import BackupConfigurationSpec
from controller.build.cronjob import trigger_cron_job, trigger_digest
from controller.build.labels import session_labels
from runner.trigger import parse_trigger
from tests.support.orders import INSTALLATION, configuration_spec, obj, parsed


def built(**changes: Any) -> Any:
    """Return the CronJob of a configuration."""
    raw = configuration_spec(**changes)
    configuration = obj("BackupConfiguration", "nightly", raw)
    return trigger_cron_job(configuration, parsed(BackupConfigurationSpec, raw), INSTALLATION)


def pod_of(cron_job: Any) -> Any:
    """Return the pod spec of a CronJob."""
    return cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def test_schedule() -> None:
    """The schedule is the user's own text; no Job that succeeded is kept (D13)."""
    spec = dict(built()["spec"])
    job = spec.pop("jobTemplate")["spec"]
    assert spec == {
        "schedule": "*/5 * * * *",
        "suspend": False,
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 21600,
        "successfulJobsHistoryLimit": 0,
        "failedJobsHistoryLimit": 1,
    }
    assert (job["backoffLimit"], job["activeDeadlineSeconds"]) == (0, 600)
    assert built(paused=True)["spec"]["suspend"] is True


def test_pod() -> None:
    """The trigger has a token and nothing else: no volumes, no root, no capabilities."""
    pod = pod_of(built())
    (container,) = pod["containers"]
    variables = {variable["name"]: variable for variable in container.pop("env")}
    assert pod["automountServiceAccountToken"] is True
    assert pod["serviceAccountName"] == "stash-trigger-nightly"
    assert "volumes" not in pod
    assert pod["securityContext"] == {
        "runAsUser": 65535,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container == {
        "name": "stash-trigger",
        "image": "registry.example/drey:1.2.3",
        "imagePullPolicy": "IfNotPresent",
        "args": ["trigger"],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "terminationMessagePolicy": "File",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    assert variables["JOB_NAME"]["valueFrom"] == {
        "fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/job-name']"}
    }
    assert set(variables) == {"JOB_NAME", "DREY_TRIGGER"}


def test_document() -> None:
    """The trigger is told all that goes into a session, in the form that it reads."""
    cron_job = built(retryConfig={"maxRetry": 2})
    variables = pod_of(cron_job)["containers"][0]["env"]
    (text,) = (v["value"] for v in variables if v["name"] == "DREY_TRIGGER")
    raw = configuration_spec()
    configuration = obj("BackupConfiguration", "nightly", raw)
    target = parsed(BackupConfigurationSpec, raw).target
    assert parse_trigger(text) == {
        "apiVersion": "stash.appscode.com/v1beta1",
        "kind": "BackupConfiguration",
        "name": "nightly",
        "namespace": "demo",
        "uid": "uid-of-nightly",
        "retryLeft": 2,
        "labels": session_labels(configuration, target),
    }


def test_rights_of_the_backup_are_not_handed_on() -> None:
    """Root with capabilities for the backup is no reason for a privileged trigger."""
    settings = {
        "container": {
            "env": [
                {"name": "HTTPS_PROXY", "value": "p"},
                {"name": "DREY_TRIGGER", "value": "x"},
                {"name": "KUBECONFIG", "value": "of a third party's step"},
                {"name": "KUBERNETES_SERVICE_HOST", "value": "as above"},
            ],
            "securityContext": {
                "runAsUser": 0,
                "privileged": True,
                "capabilities": {"add": ["DAC_READ_SEARCH"]},
            },
        },
        "pod": {"serviceAccountName": "mine", "automountServiceAccountToken": False},
    }
    pod = pod_of(built(runtimeSettings=settings))
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsUser": 0,
        "capabilities": {"drop": ["ALL"]},
    }
    names = [variable["name"] for variable in container["env"]]
    assert names == ["HTTPS_PROXY", "DREY_TRIGGER", "JOB_NAME"]
    assert pod["automountServiceAccountToken"] is True
    assert pod["serviceAccountName"] == "mine"


def test_an_unchanged_configuration_gives_an_unchanged_hash() -> None:
    """The CronJob is applied again when its content changes, and only then."""
    hashes = [
        cron_job["metadata"]["annotations"]["drey.dev/spec-hash"]
        for cron_job in (built(), built(), built(schedule="0 3 * * *"), built(paused=True))
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_an_env_from_does_not_tell_the_trigger_what_to_run() -> None:
    """What keys a ConfigMap may have is unknown: `env` beats it (D26)."""
    sources = [{"configMapRef": {"name": "any"}}]
    raw = configuration_spec(runtimeSettings={"container": {"envFrom": sources}})
    cron_job = trigger_cron_job(
        obj("BackupConfiguration", "nightly", raw),
        parsed(BackupConfigurationSpec, raw),
        INSTALLATION,
    )
    pod = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    values = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
    assert values["LD_PRELOAD"] == values["KUBECONFIG"] == ""
    assert values["KUBERNETES_SERVICE_HOST"] == "kubernetes.default.svc"
    assert values["PATH"].startswith("/usr/local/sbin:")


def test_the_digest_tells_a_change_by_hand_from_defaults() -> None:
    """What the API server adds is not in it; what decides when and what a trigger does is."""
    ours = built()
    served = deepcopy(ours)
    served["spec"]["jobTemplate"]["spec"]["completionMode"] = "NonIndexed"
    pod_of(served)["dnsPolicy"] = "ClusterFirst"
    pod_of(served)["containers"][0]["terminationMessagePath"] = "/dev/termination-log"
    served["status"] = {"lastScheduleTime": "2026-11-22T03:00:00Z"}
    assert trigger_digest(served) == trigger_digest(ours)

    def edited(change: Any) -> str:
        copy = deepcopy(served)
        change(copy["spec"], pod_of(copy)["containers"][0])
        return trigger_digest(copy)

    for change in (
        lambda spec, _: spec.update(schedule="0 0 1 1 *"),
        lambda spec, _: spec.update(suspend=True),
        lambda spec, _: spec.update(startingDeadlineSeconds=1),
        lambda _, container: container.update(image="another"),
        lambda _, container: container.update(args=["backup"]),
        lambda _, container: container["env"][0].update(value="{}"),
    ):
        assert edited(change) != trigger_digest(ours)
