"""Rules on the text of manifests/ that need no cluster."""

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.settings import parse_settings
from hack.image.images import PUSHGATEWAY

ROOT = Path(__file__).resolve().parents[3]
MANIFESTS = ROOT / "manifests"
FILES = sorted(MANIFESTS.glob("*.yaml"))
OBJECTS: list[dict[str, Any]] = [
    obj
    for file in FILES
    if file.name != "kustomization.yaml"
    for obj in yaml.safe_load_all(file.read_text())
]
POD = next(obj for obj in OBJECTS if obj["kind"] == "Deployment")["spec"]["template"]
CONTAINERS = {entry["name"]: entry for entry in POD["spec"]["containers"]}


def test_every_file_is_in_the_kustomization() -> None:
    """A manifest that the kustomization does not name would never be installed."""
    listed = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())["resources"]
    assert sorted([*listed, "kustomization.yaml"]) == [file.name for file in FILES]


@pytest.mark.parametrize("name", ["rbac.yaml", "users.yaml"])
def test_every_rule_says_who_needs_it(name: str) -> None:
    """A comment stands before each rule, or on its first line."""
    lines = (MANIFESTS / name).read_text().splitlines()
    rules = [index for index, line in enumerate(lines) if line.startswith("- apiGroups:")]
    assert rules
    for index in rules:
        assert "#" in lines[index] or lines[index - 1].startswith("#"), f"{name}:{index + 1}"


def asked_by(module: str) -> set[str]:
    """Return the methods of the client that a module of the runner calls."""
    tree = ast.parse((ROOT / "runner" / f"{module}.py").read_text())
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    asked = {
        call.attr
        for call in calls
        if isinstance(call, ast.Attribute) and ast.unparse(call.value) in ("client", "self._client")
    }
    return asked | {"get" for call in calls if ast.unparse(call) == "find"}


@pytest.mark.parametrize(
    ("role", "module", "resource", "calls"),
    [
        # It looks at a namesake, and takes the refusal of that for an answer (D26).
        ("drey-trigger", "trigger", "backupsessions", {"create": "create", "get": ""}),
        ("drey-snapshot", "creation", "volumesnapshots", {"create": "create", "get": "get"}),
        ("drey-restore", "creation", "persistentvolumeclaims", {"create": "create", "get": "get"}),
        ("drey-hook", "hook_pods", "pods", {"list_page": "list", "get": "get"}),
    ],
)
def test_jobs_may_do_what_their_program_asks_for_and_no_more(
    role: str, module: str, resource: str, calls: dict[str, str]
) -> None:
    """Each verb of a Job's role is one that the runner's code calls, on the one kind."""
    assert asked_by(module) == calls.keys()
    (found,) = (
        obj for obj in OBJECTS if obj["kind"] == "ClusterRole" and obj["metadata"]["name"] == role
    )
    verbs = {name: set(rule["verbs"]) for rule in found["rules"] for name in rule["resources"]}
    exec_verbs = verbs.pop("pods/exec", None)
    assert verbs == {resource: {verb for verb in calls.values() if verb}}
    assert exec_verbs == ({"get", "create"} if role == "drey-hook" else None)


def test_no_rule_has_a_wildcard() -> None:
    """Least privilege: no `*` in groups, resources or verbs."""
    for obj in OBJECTS:
        for rule in obj.get("rules") or ():
            assert not any("*" in values for values in rule.values()), obj["metadata"]["name"]


def test_stash_clean_up_commands_do_not_match() -> None:
    """Nothing of ours has a label value that Stash's guides delete by (D28)."""

    def labels(node: Any) -> list[str]:
        if isinstance(node, list):
            return [label for item in node for label in labels(item)]
        if not isinstance(node, dict):
            return []
        own = [f"{k}={v}" for k, v in (node.get("labels") or {}).items()]
        return own + [label for item in node.values() for label in labels(item)]

    assert not [label for label in labels(OBJECTS) if re.search(r"stash", label)]


def test_operator_understands_its_arguments() -> None:
    """The flags and variables of the manifest are the controller's, with these values."""
    operator = CONTAINERS["operator"]
    assert operator["command"] == ["python3", "-I", "-m", "controller"]
    environ = {"POD_NAMESPACE": "drey", "POD_NAME": "drey-0", "DREY_IMAGE": operator["image"]}
    assert {entry["name"] for entry in operator["env"]} == set(environ)
    argv = [arg.replace("$(POD_NAMESPACE)", "drey") for arg in operator["args"]]
    settings = parse_settings(argv, environ)
    assert settings.image == operator["image"]
    assert (settings.namespace, settings.pod_name) == ("drey", "drey-0")
    assert settings.pushgateway_url == "http://drey-pushgateway.drey.svc:56789"
    assert settings.http_port == operator["ports"][0]["containerPort"] == 8080
    assert (settings.leader_elect, settings.namespaces) == (True, ())


def test_images_are_those_that_the_project_makes() -> None:
    """Version and names agree with pyproject.toml and with hack/image."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    operator = CONTAINERS["operator"]
    assert operator["image"] == f"drey.dev/drey:{version}"
    assert operator["env"][0] == {"name": "DREY_IMAGE", "value": operator["image"]}
    assert CONTAINERS["pushgateway"]["image"] == PUSHGATEWAY
