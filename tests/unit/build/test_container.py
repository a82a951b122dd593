"""Resources, environment and security of containers."""

from typing import Any

import pytest

from controller.build.container import merged_settings, resources, security_context
from controller.build.installation import Installation

INSTALLATION = Installation(
    image="drey", namespace="n", requests={"cpu": "100m", "memory": "128Mi"}, limits={"cpu": "2"}
)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "2"}}),
        (
            {"requests": {"memory": "1Gi"}},
            {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": "2"}},
        ),
        (
            {"limits": {"memory": "64Mi"}},
            {"requests": {"cpu": "100m"}, "limits": {"cpu": "2", "memory": "64Mi"}},
        ),
        (
            {"requests": {"cpu": "50m"}, "limits": {"cpu": "100m"}},
            {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "100m"}},
        ),
        (
            {"claims": [{"name": "gpu"}]},
            {
                "requests": {"cpu": "100m", "memory": "128Mi"},
                "limits": {"cpu": "2"},
                "claims": [{"name": "gpu"}],
            },
        ),
    ],
)
def test_resources(given: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Requests count without limits; a default request never stands above a given limit."""
    assert resources(INSTALLATION, given) == wanted


def test_the_users_settings_lie_over_the_functions() -> None:
    """Environments are joined by name, resources by kind and name, the rest is replaced."""
    function = {
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}],
        "envFrom": [{"secretRef": {"name": "f"}}],
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
        "securityContext": {"runAsUser": 1, "privileged": True},
    }
    user = {
        "env": [{"name": "B", "value": "2"}],
        "envFrom": [{"secretRef": {"name": "u"}}],
        "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "3"}},
        "securityContext": {"runAsUser": 2},
    }
    assert merged_settings(function, user) == {
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        "envFrom": [{"secretRef": {"name": "f"}}, {"secretRef": {"name": "u"}}],
        "resources": {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"cpu": "3"}},
        "securityContext": {"runAsUser": 2},
    }


HARD = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@pytest.mark.parametrize(
    ("given", "own", "is_backup", "pod_uid", "wanted"),
    [
        ({}, True, True, 65535, {**HARD, "runAsNonRoot": True}),
        (
            {},
            True,
            False,
            0,
            {
                **HARD,
                "capabilities": {
                    "drop": ["ALL"],
                    "add": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID"],
                },
            },
        ),
        ({}, True, False, 1000, {**HARD, "runAsNonRoot": True}),
        (
            {"runAsUser": 0},
            True,
            True,
            65535,
            {
                **HARD,
                "runAsUser": 0,
                "capabilities": {"drop": ["ALL"], "add": ["DAC_OVERRIDE"]},
            },
        ),
        (
            {"runAsUser": 0, "capabilities": {"add": ["DAC_READ_SEARCH"]}},
            True,
            True,
            65535,
            {
                **HARD,
                "runAsUser": 0,
                "capabilities": {"drop": ["ALL"], "add": ["DAC_OVERRIDE", "DAC_READ_SEARCH"]},
            },
        ),
        (
            {"privileged": True},
            True,
            True,
            65535,
            {
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
                "runAsNonRoot": True,
                "privileged": True,
            },
        ),
        ({}, True, True, None, HARD),
        (
            {},
            False,
            True,
            65535,
            {
                "allowPrivilegeEscalation": False,
                "runAsNonRoot": True,
                "capabilities": {"drop": ["ALL"]},
            },
        ),
        ({}, False, False, 0, {"allowPrivilegeEscalation": False}),
        ({}, False, True, None, {"allowPrivilegeEscalation": False}),
        (
            {"allowPrivilegeEscalation": True, "runAsNonRoot": False},
            False,
            False,
            0,
            {"allowPrivilegeEscalation": True, "runAsNonRoot": False},
        ),
    ],
)
def test_security_context(
    given: dict[str, Any],
    own: bool,  # noqa: FBT001 - a column of the table
    is_backup: bool,  # noqa: FBT001 - a column of the table
    pod_uid: int | None,
    wanted: dict[str, Any],
) -> None:
    """Each identity gets the capabilities that its work needs, and no other (D19)."""
    found = security_context(given, own=own, is_backup=is_backup, pod_uid=pod_uid)
    assert found == wanted
