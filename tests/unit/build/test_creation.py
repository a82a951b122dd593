"""The Jobs that create VolumeSnapshots or claims, as manifests: their shape is a contract."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.backup import BackupConfigurationSpec
from controller.api.creation import MAX_BYTES, CreationInput
from controller.api.names import pod_hostname
from controller.api.objects import Obj, uid_of
from controller.build.creation import CreationOrder, creation_job, snapshot_input, told_hosts
from tests.support.orders import CREATED, obj, parsed
from tests.support.snapshot_orders import (
    CONFIGURATION,
    SESSION,
    claim_order,
    settings,
    snapshot_document,
    snapshot_order,
    snapshot_spec,
)

LABELS = {
    "app.kubernetes.io/component": "stash-backup",
    "app.kubernetes.io/managed-by": "stash.appscode.com",
    "drey.dev/created-by": "drey",
    "stash.appscode.com/invoker-type": "BackupConfiguration",
    "stash.appscode.com/invoker-name": "nightly",
}
SUFFIX = hashlib.sha256(b"uid-of-nightly-1767323045").hexdigest()[:4]


def built(order: CreationOrder) -> dict[str, Any]:
    """Return a Job as the API server gets it."""
    found = creation_job(order)
    assert not isinstance(found, tuple), [str(problem) for problem in found]
    job: dict[str, Any] = json.loads(json.dumps(found))
    return job


def told(job: Obj) -> CreationInput:
    """Return the document that a Job's container reads; its variable stands last."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["env"][-1]["name"] == "DREY_INPUT"
    return CreationInput.decode(container["env"][-1]["value"])


def test_snapshot_job() -> None:
    """One container of ours with a token: no volume, no root, no capability, a short grace."""
    job = built(snapshot_order())
    assert len(job["metadata"].pop("annotations")["drey.dev/spec-hash"]) == 16
    template = job["spec"]["template"]
    (container,) = template["spec"]["containers"]
    (variable,) = container.pop("env")
    assert CreationInput.decode(variable["value"]) == snapshot_document()
    assert {key: template["metadata"]["labels"][key] for key in LABELS} == LABELS
    assert template["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"
    del template["metadata"]
    assert job == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": "stash-vs-nightly-1767323045",
            "namespace": "demo",
            "labels": LABELS,
            "ownerReferences": [
                {
                    "apiVersion": "stash.appscode.com/v1beta1",
                    "kind": "BackupSession",
                    "name": "nightly-1767323045",
                    "uid": "uid-of-nightly-1767323045",
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "backoffLimit": 3,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {
                            "containerName": "snapshot",
                            "operator": "In",
                            "values": [1],
                        },
                    },
                    {
                        "action": "Ignore",
                        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                    },
                ]
            },
            "activeDeadlineSeconds": 7200,
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 10,
                    "enableServiceLinks": False,
                    "automountServiceAccountToken": True,
                    "serviceAccountName": "backupconfiguration-nightly-0",
                    "hostname": pod_hostname("stash-vs-nightly-1767323045", uid_of(SESSION)),
                    "securityContext": {
                        "runAsUser": 65535,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [
                        {
                            "name": "snapshot",
                            "image": "registry.example/drey:1.2.3",
                            "imagePullPolicy": "IfNotPresent",
                            "args": ["snapshot"],
                            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
                            "terminationMessagePolicy": "File",
                            "securityContext": {
                                "allowPrivilegeEscalation": False,
                                "readOnlyRootFilesystem": True,
                                "runAsNonRoot": True,
                                "capabilities": {"drop": ["ALL"]},
                            },
                        }
                    ],
                }
            },
        },
    }


def test_claim_job() -> None:
    """A restore's Job is its RestoreSession's, runs the other verb, and is no root either."""
    job = built(claim_order())
    assert job["metadata"]["name"] == "stash-vs-restore-bring-back"
    assert job["metadata"]["ownerReferences"][0]["kind"] == "RestoreSession"
    assert job["metadata"]["labels"]["app.kubernetes.io/component"] == "stash-restore"
    pod = job["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "restoresession-bring-back-0"
    assert pod["securityContext"]["runAsUser"] == 65535
    assert (pod["containers"][0]["name"], pod["containers"][0]["args"]) == (
        "restore-snapshot",
        ["restore-snapshot"],
    )
    rule = job["spec"]["podFailurePolicy"]["rules"][0]
    assert rule["onExitCodes"]["containerName"] == "restore-snapshot"
    assert told(job) == claim_order().document


def test_time_out_has_a_backstop() -> None:
    """The runner keeps the time; the Job ends in any case, with a timeOut or without."""
    assert built(snapshot_order(time_out="30m"))["spec"]["activeDeadlineSeconds"] == 2700
    assert built(snapshot_order(time_out=""))["spec"]["activeDeadlineSeconds"] == 7200


def test_snapshots_of_a_session() -> None:
    """Names by D22, our labels, no owner, the session's uid and name; no class is no field."""
    document = snapshot_document("data-db-0", "x" * 253)
    assert (document.group, document.version, document.kind, document.plural) == (
        "snapshot.storage.k8s.io",
        "v1",
        "VolumeSnapshot",
        "volumesnapshots",
    )
    assert (document.namespace, document.session_uid) == ("demo", "uid-of-nightly-1767323045")
    assert document.common == {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {
            "labels": {**LABELS, "drey.dev/session-uid": "uid-of-nightly-1767323045"},
            "annotations": {"drey.dev/session": "nightly-1767323045"},
        },
    }
    first, second = document.objects
    assert (first.host, first.body) == (
        "data-db-0",
        {
            "metadata": {"name": "data-db-0-1767323045"},
            "spec": {"source": {"persistentVolumeClaimName": "data-db-0"}},
        },
    )
    assert second.host == second.body["spec"]["source"]["persistentVolumeClaimName"] == "x" * 253
    assert second.body["metadata"]["name"].endswith("-1767323045")
    assert len(f"{second.body['metadata']['name']}-{SUFFIX}") == 253, "there is room for both"
    assert (document.fallback_suffix, document.deadline) == (SUFFIX, "")
    assert document.report_bytes == 4096


def test_class_deadline_and_copied_labels() -> None:
    """What is given is passed on; of the configuration's labels only those of the allowlist."""
    target = {
        "ref": {"kind": "PersistentVolumeClaim", "name": "a"},
        "snapshotClassName": "fast",
    }
    document = snapshot_document("a", target=target, timeOut="1h")
    assert document.common["spec"] == {"volumeSnapshotClassName": "fast"}
    assert document.deadline == CREATED.replace("T03", "T04")
    labelled = obj(
        "BackupConfiguration", "nightly", labels={"team": "db", "app.kubernetes.io/instance": "x"}
    )
    order = snapshot_order(invoker=labelled)
    labels = built(order)["metadata"]["labels"]
    assert labels == {**LABELS, "team": "db"}


@given(claims=st.lists(st.from_regex(r"[a-z]([a-z0-9.-]{0,251}[a-z0-9])?", fullmatch=True),
                       unique=True, max_size=30))  # fmt: skip
def test_every_claim_has_one_snapshot_of_its_own(claims: list[str]) -> None:
    """Names differ when claims do, and are never too long."""
    model = parsed(BackupConfigurationSpec, snapshot_spec())
    document = snapshot_input(SESSION, CONFIGURATION, model, claims)
    names = [item.body["metadata"]["name"] for item in document.objects]
    assert len(set(names)) == len(claims)
    assert all(len(name) <= 253 for name in names)
    assert [item.host for item in document.objects] == claims


def test_runtime_settings() -> None:
    """Those of flow A, but for rights on files, which this pod does not need."""
    wanted = settings(
        container={
            "env": [{"name": "HTTPS_PROXY", "value": "p"}],
            "envFrom": [{"configMapRef": {"name": "proxy"}}],
            "resources": {"limits": {"memory": "64Mi"}},
            "readinessProbe": {"tcpSocket": {"port": 1}},
            "securityContext": {
                "runAsUser": 0,
                "privileged": True,
                "capabilities": {"add": ["SYS_ADMIN"]},
            },
        },
        pod={
            "nodeSelector": {"disk": "ssd"},
            "automountServiceAccountToken": False,
            "serviceAccountName": "mine",
        },
    )
    job = built(snapshot_order(runtime_settings=wanted, service_account="mine"))
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["nodeSelector"] == {"disk": "ssd"}
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("mine", True)
    values = {variable["name"]: variable["value"] for variable in container["env"]}
    assert (next(iter(values)), list(values)[-1]) == ("HTTPS_PROXY", "DREY_INPUT")
    for name in ("LD_PRELOAD", "SSLKEYLOGFILE", "KUBECONFIG"):
        assert values[name] == "", "an envFrom cannot say what is loaded, or who gets the token"
    assert values["KUBERNETES_SERVICE_HOST"] == "kubernetes.default.svc"
    assert values["KUBERNETES_SERVICE_PORT"] == "443"
    assert container["envFrom"] == [{"configMapRef": {"name": "proxy"}}]
    assert container["resources"] == {
        "requests": {"cpu": "100m"},
        "limits": {"memory": "64Mi"},
    }
    assert container["readinessProbe"] == {"tcpSocket": {"port": 1}}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsUser": 0,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize(
    ("container", "said"),
    [
        (
            {"env": [{"name": "DREY_INPUT", "value": "x"}]},
            (
                "BackupConfiguration demo/nightly spec.runtimeSettings.container.env[0].name: "
                "DREY_INPUT tells the operator's own programs what to do: remove it"
            ),
        ),
        *(
            (
                {"env": [{"name": name, "value": "x"}]},
                (
                    "BackupConfiguration demo/nightly spec.runtimeSettings.container.env[0].name: "
                    f"{name} decides which server gets the pod's token: remove it"
                ),
            )
            for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
        ),
        (
            {"lifecycle": {"postStart": {"exec": {"command": ["cat"]}}}},
            (
                "BackupConfiguration demo/nightly "
                "spec.runtimeSettings.container.lifecycle.postStart.exec: "
                "a command would run beside the pod's token: remove it; "
                "the report and timeOut say whether the Job works"
            ),
        ),
    ],
)
def test_settings_that_would_change_our_program_are_problems(
    container: dict[str, Any], said: str
) -> None:
    """As in flow A: a variable of ours, or a command beside what only our program may have."""
    found = creation_job(snapshot_order(runtime_settings=settings(container=container)))
    assert isinstance(found, tuple)
    assert [str(problem) for problem in found] == [said]


@pytest.mark.parametrize(
    ("order", "fix"),
    [
        (
            snapshot_order(),
            "lower spec.target.replicas, or name single claims in a BackupConfiguration each",
        ),
        (claim_order(), "spread templates or replicas over several RestoreSessions"),
    ],
    ids=["backup", "restore"],
)
def test_a_document_that_no_process_can_be_told_is_a_problem(
    order: CreationOrder, fix: str
) -> None:
    """Linux would refuse to start the container: say so before, and what to do."""
    document = replace(order.document, objects=order.document.objects[:1] * 3000)
    found = creation_job(replace(order, document=document))
    assert isinstance(found, tuple)
    (problem,) = found
    assert "3000 volumes are too many for one Job" in problem.message
    assert problem.message.endswith(f"of at most {MAX_BYTES}: {fix}")


def test_a_job_says_of_which_hosts_it_was_told() -> None:
    """As it is read back; one that another version made does not say."""
    document = snapshot_document("a", "b", target={
        "ref": {"kind": "PersistentVolumeClaim", "name": "a"}, "snapshotClassName": "$(PATH)"
    })  # fmt: skip
    job = built(snapshot_order(document=document))
    assert told_hosts(job) == ("a", "b")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    container["env"][-1]["value"] = '{"schema":99}'
    assert told_hosts(job) is None
    assert told_hosts({"metadata": {"name": "other"}}) is None


def test_a_dollar_reaches_the_runner() -> None:
    """The kubelet expands `$(NAME)` in values: the document is written past it."""
    document = snapshot_document("a", target={
        "ref": {"kind": "PersistentVolumeClaim", "name": "a"}, "snapshotClassName": "$(PATH)"
    })  # fmt: skip
    job = built(snapshot_order(document=document))
    assert "$" not in job["spec"]["template"]["spec"]["containers"][0]["env"][-1]["value"]
    assert told(job).common["spec"] == {"volumeSnapshotClassName": "$(PATH)"}
