"""Placement, identity and opt-outs of pods."""

from typing import Any

import pytest

from controller.api.backup import RuntimeSettings
from controller.build.installation import Installation
from controller.build.pod import affinity_to, pod_security_context, pod_template

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
HERE = {"key": "metadata.name", "operator": "In", "values": ["node-1"]}
INSTALLATION = Installation(image="drey", namespace="n", image_pull_secrets=("pull",))


def template(pod: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return the template of a pod with one container and these settings."""
    arguments: dict[str, Any] = {
        "labels": {"drey.dev/created-by": "drey"},
        "containers": [{"name": "a"}],
        "volumes": [],
        "security_context": {},
        "needs_token": False,
        **changes,
    }
    return pod_template(INSTALLATION, RuntimeSettings(pod=pod), **arguments)


def test_all_but_the_last_container_come_first() -> None:
    """Steps run one after the other: init containers, then the only main container."""
    spec = template({}, containers=[{"name": "a"}, {"name": "b"}, {"name": "c"}])["spec"]
    assert [item["name"] for item in spec["initContainers"]] == ["a", "b"]
    assert [item["name"] for item in spec["containers"]] == ["c"]
    assert "initContainers" not in template({})["spec"]


def test_all_pod_settings_arrive() -> None:
    """What the published API offers for pods ends up in the pod."""
    pod: dict[str, Any] = {
        "podLabels": {"mine": "x", "drey.dev/created-by": "evil"},
        "podAnnotations": {"a": "b", "linkerd.io/inject": "enabled"},
        "nodeSelector": {"disk": "ssd"},
        "nodeName": "node-2",
        "schedulerName": "mine",
        "tolerations": [{"operator": "Exists"}],
        "priorityClassName": "high",
        "priority": 0,
        "readinessGates": [{"conditionType": "x"}],
        "runtimeClassName": "kata",
        "topologySpreadConstraints": [{"maxSkew": 1}],
        "enableServiceLinks": True,
        "automountServiceAccountToken": True,
        "imagePullSecrets": [{"name": "own"}, {"name": "pull"}],
        "affinity": {"podAffinity": {}},
    }
    found = template(pod)
    handed_on = set(pod) - {"podLabels", "podAnnotations", "imagePullSecrets"}
    assert {key: found["spec"][key] for key in handed_on} == {key: pod[key] for key in handed_on}
    assert found["spec"]["imagePullSecrets"] == [{"name": "pull"}, {"name": "own"}]
    labels = found["metadata"]["labels"]
    assert (labels["mine"], labels["drey.dev/created-by"]) == ("x", "drey")
    annotations = found["metadata"]["annotations"]
    assert (annotations["a"], annotations["linkerd.io/inject"]) == ("b", "enabled")


def test_defaults_are_closed() -> None:
    """Without settings: no token, no service variables, no mesh, time to release a lock."""
    found = template({})
    assert found["spec"] == {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 120,
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "securityContext": {},
        "containers": [{"name": "a"}],
        "imagePullSecrets": [{"name": "pull"}],
    }
    assert found["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
    assert found["metadata"]["annotations"]["linkerd.io/inject"] == "disabled"


@pytest.mark.parametrize(
    ("given", "is_backup", "wanted"),
    [
        ({}, True, {"runAsUser": 65535}),
        ({}, False, {"runAsUser": 0, "runAsGroup": 0}),
        ({"fsGroup": 65534}, True, {"runAsUser": 65535, "fsGroup": 65534}),
        ({"runAsUser": 1000}, False, {"runAsUser": 1000, "runAsGroup": 0}),
        ({"runAsNonRoot": True}, False, {"runAsUser": 65535, "runAsNonRoot": True}),
        (
            {"runAsUser": 0, "seccompProfile": {"type": "Unconfined"}},
            True,
            {"runAsUser": 0, "seccompProfile": {"type": "Unconfined"}},
        ),
    ],
)
def test_identity(
    given: dict[str, Any],
    is_backup: bool,  # noqa: FBT001 - a column of the table
    wanted: dict[str, Any],
) -> None:
    """A backup is an ordinary user, a restore is root; what the user says counts (D19)."""
    settings = RuntimeSettings(pod={"securityContext": given})
    found = pod_security_context(settings, is_backup=is_backup)
    assert found == {"seccompProfile": {"type": "RuntimeDefault"}} | wanted


def test_affinity_to_a_node() -> None:
    """Each of the user's alternatives is narrowed to the node; the rest is kept (D18)."""
    zone = {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}
    disk = {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["x"]}]}
    given = {
        "podAffinity": {"p": 1},
        "nodeAffinity": {"preferred": 1, REQUIRED: {"nodeSelectorTerms": (zone, disk)}},
    }
    assert affinity_to("node-1", given) == {
        "podAffinity": {"p": 1},
        "nodeAffinity": {
            "preferred": 1,
            REQUIRED: {
                "nodeSelectorTerms": [
                    {**zone, "matchFields": [HERE]},
                    {"matchFields": [*disk["matchFields"], HERE]},
                ]
            },
        },
    }
    assert affinity_to("node-1", {}) == {
        "nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchFields": [HERE]}]}}
    }
    assert affinity_to("", given) == given
