"""Our CustomResourceDefinitions on a real API server."""

import copy
import re
import time
from typing import Any

import pytest

from hack.crds.kinds import GROUP, KINDS, Kind
from tests.support import samples
from tests.support.apiserver import ApiServer, Response

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
BY_NAME = {kind.name: kind for kind in KINDS}
KIND_NAMES = list(BY_NAME)
WITH_STATUS = [kind.name for kind in KINDS if kind.status is not None]
RETENTION = {"name": "keep", "prune": True}


def collection(kind: Kind) -> str:
    """Return the path of a kind's objects in the namespace `default`."""
    place = "" if kind.cluster_scoped else "/namespaces/default"
    return f"/apis/{GROUP}/{kind.version}{place}/{kind.plural}"


def manifest(kind: Kind, name: str, **parts: Any) -> dict[str, Any]:
    """Return an object of a kind."""
    head = {"apiVersion": f"{GROUP}/{kind.version}", "kind": kind.name}
    return {**head, "metadata": {"name": name}, **parts}


def create(server: ApiServer, document: dict[str, Any], validation: str = "Strict") -> Response:
    """Create an object."""
    path = f"{collection(BY_NAME[document['kind']])}?fieldValidation={validation}"
    return server.request("POST", path, document)


def configuration(name: str, **spec: Any) -> dict[str, Any]:
    """Return a BackupConfiguration that is valid unless `spec` spoils it."""
    spec = {"retentionPolicy": RETENTION, **spec}
    return manifest(BY_NAME["BackupConfiguration"], name, spec=spec)


@pytest.mark.parametrize("name", KIND_NAMES)
def test_definition_is_accepted_and_structural(crds: ApiServer, name: str) -> None:
    """Each definition is established, its names accepted and its schema structural."""
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{BY_NAME[name].full_name}"
    status = crds.request("GET", path).body["status"]
    conditions = {entry["type"]: entry["status"] for entry in status["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}


def test_installing_again_changes_nothing(crds: ApiServer) -> None:
    """A second server-side apply of manifests/crds leaves every definition as it is."""

    def specs() -> dict[str, tuple[int, Any]]:
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        return {
            item["metadata"]["name"]: (item["metadata"]["generation"], item["spec"])
            for item in crds.request("GET", path).body["items"]
            if item["spec"]["group"] == GROUP  # those of other tests come and go
        }

    before = specs()
    crds.install_crds()
    assert specs() == before
    assert [generation for generation, _ in before.values()] == [1] * len(KINDS)


@pytest.mark.parametrize("name", KIND_NAMES)
def test_every_published_field_is_stored(crds: ApiServer, name: str) -> None:
    """An object with all field paths passes strict validation and comes back unchanged."""
    kind = BY_NAME[name]
    sample = samples.full(kind.plural)
    created = create(crds, manifest(kind, "full", **copy.deepcopy(sample)))
    assert created.status == 201, created.text
    assert created.warnings == ()
    assert created.body["spec"] == sample["spec"]
    if kind.status is None:
        assert "status" not in sample
        return
    assert "status" not in created.body, "status is written through its subresource alone"
    path = f"{collection(kind)}/full/status?fieldValidation=Strict"
    updated = crds.request("PUT", path, {**created.body, "status": sample["status"]})
    assert updated.status == 200, updated.text
    stored = crds.request("GET", f"{collection(kind)}/full").body
    assert (stored["spec"], stored["status"]) == (sample["spec"], sample["status"])


@pytest.mark.parametrize("name", KIND_NAMES)
def test_object_without_spec_is_accepted(crds: ApiServer, name: str) -> None:
    """No kind requires a spec: objects that Stash accepted stay valid."""
    assert create(crds, manifest(BY_NAME[name], "empty")).status == 201


@pytest.mark.parametrize("name", KIND_NAMES)
def test_unknown_field_is_refused_or_pruned(crds: ApiServer, name: str) -> None:
    """A misspelt field is an error under Strict, a warning and pruned under Warn."""
    kind = BY_NAME[name]
    sample = samples.full(kind.plural)["spec"]
    document = manifest(kind, "unknown", spec={**sample, "nope": 1})
    strict = create(crds, document)
    assert strict.status == 400
    assert 'unknown field "spec.nope"' in strict.body["message"]
    warned = create(crds, document, "Warn")
    assert warned.status == 201
    assert any('unknown field \\"spec.nope\\"' in warning for warning in warned.warnings)
    assert warned.body["spec"] == sample


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({"driver": "Rsync"}, 'spec.driver: Unsupported value: "Rsync"'),
        ({"retentionPolicy": {"name": "keep"}}, "spec.retentionPolicy.prune: Required value"),
        ({"repository": {"namespace": "demo"}}, "spec.repository.name: Required value"),
        ({"hooks": {"preBackup": {"httpGet": {"path": "/"}}}}, "httpGet.port: Required value"),
        (
            {"hooks": {"postBackup": {"executionPolicy": "Never"}}},
            'spec.hooks.postBackup.executionPolicy: Unsupported value: "Never"',
        ),
        ({"tempDir": {"sizeLimit": "much"}}, "spec.tempDir.sizeLimit: Invalid value"),
        ({"paused": "yes"}, 'spec.paused: Invalid value: "string"'),
        (
            {"runtimeSettings": {"container": {"env": [{"value": "x"}]}}},
            "spec.runtimeSettings.container.env[0].name: Required value",
        ),
    ],
)
def test_wrong_value_is_refused_with_its_path(
    crds: ApiServer, spec: dict[str, Any], complaint: str
) -> None:
    """Wrong enums, types and patterns and missing required fields are named in the answer."""
    refused = create(crds, configuration("wrong", **spec))
    assert refused.status == 422
    assert complaint in refused.body["message"]


def test_configuration_without_retention_policy_is_refused(crds: ApiServer) -> None:
    """The retention policy is required by the published schema."""
    document = manifest(BY_NAME["BackupConfiguration"], "wrong", spec={"schedule": "0 3 * * *"})
    refused = create(crds, document)
    assert refused.status == 422
    assert "spec.retentionPolicy: Required value" in refused.body["message"]


@pytest.mark.parametrize("name", [name for name in WITH_STATUS if name != "Repository"])
def test_unknown_phase_is_refused(crds: ApiServer, name: str) -> None:
    """status.phase takes the published values only (D12)."""
    kind = BY_NAME[name]
    created = create(crds, manifest(kind, "phase"))
    path = f"{collection(kind)}/phase/status"
    refused = crds.request("PUT", path, {**created.body, "status": {"phase": "Incomplete"}})
    assert refused.status == 422
    assert 'status.phase: Unsupported value: "Incomplete"' in refused.body["message"]


def test_condition_types_are_open(crds: ApiServer) -> None:
    """Conditions of our own, and those of others with a severity, are stored in their order."""
    kind = BY_NAME["BackupSession"]
    created = create(crds, manifest(kind, "conditions"))
    entry = {"status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"}
    conditions = [
        {**entry, "type": "Foreign", "severity": "Info", "reason": "", "message": ""},
        {**entry, "type": "BackupIncomplete", "reason": "UnreadableFiles", "message": "/a"},
    ]
    status = {"conditions": conditions}
    path = f"{collection(kind)}/conditions/status"
    updated = crds.request("PUT", path, {**created.body, "status": status})
    assert updated.body["status"] == status


def test_defaults_are_the_published_ones(crds: ApiServer) -> None:
    """The published defaults appear where their parent is given, and no others."""
    spec: dict[str, Any] = {"retryConfig": {}, "hooks": {"postBackup": {}}}
    created = create(crds, configuration("defaults", **spec)).body
    assert created["spec"] == {
        "retentionPolicy": RETENTION,
        "driver": "Restic",
        "retryConfig": {"maxRetry": 1},
        "hooks": {"postBackup": {"executionPolicy": "Always"}},
    }
    repository = manifest(
        BY_NAME["Repository"], "defaults", spec={"usagePolicy": {"allowedNamespaces": {}}}
    )
    allowed = create(crds, repository).body["spec"]["usagePolicy"]["allowedNamespaces"]
    assert allowed == {"from": "Same"}


def test_ports_and_quantities_take_numbers_and_text(crds: ApiServer) -> None:
    """An int-or-string keeps the form in which it was written."""
    spec = {
        "hooks": {"preBackup": {"httpGet": {"port": "http"}, "tcpSocket": {"port": 8080}}},
        "runtimeSettings": {
            "container": {"resources": {"limits": {"cpu": 2, "memory": "500Mi", "x/y": "1e3"}}}
        },
    }
    created = create(crds, configuration("either", **spec))
    assert created.status == 201, created.text
    assert created.body["spec"]["hooks"] == spec["hooks"]
    assert created.body["spec"]["runtimeSettings"] == spec["runtimeSettings"]


@pytest.mark.parametrize(
    ("name", "spec", "status", "row"),
    [
        (
            "Repository",
            {},
            {
                "integrity": True,
                "totalSize": "2.5 GiB",
                "snapshotCount": 3,
                "lastBackupTime": "2020-01-01T00:00:00Z",
            },
            {"Integrity": True, "Size": "2.5 GiB", "Snapshot-Count": 3},
        ),
        (
            "BackupConfiguration",
            {
                "task": {"name": "pvc-backup"},
                "schedule": "0 3 * * *",
                "paused": False,
                "retentionPolicy": RETENTION,
            },
            {"phase": "Ready"},
            {"Task": "pvc-backup", "Schedule": "0 3 * * *", "Paused": False, "Phase": "Ready"},
        ),
        (
            "BackupSession",
            {"invoker": {"kind": "BackupConfiguration", "name": "demo"}},
            {"phase": "Succeeded", "sessionDuration": "17s"},
            {
                "Invoker-Type": "BackupConfiguration",
                "Invoker-Name": "demo",
                "Phase": "Succeeded",
                "Duration": "17s",
            },
        ),
        (
            "RestoreSession",
            {"repository": {"name": "demo"}},
            {"phase": "Running"},
            {"Repository": "demo", "Phase": "Running", "Duration": None},
        ),
        ("Function", {"image": "x"}, None, {}),
        ("Task", {"steps": []}, None, {}),
    ],
)
def test_table_has_the_published_columns(
    crds: ApiServer,
    name: str,
    spec: dict[str, Any],
    status: dict[str, Any] | None,
    row: dict[str, Any],
) -> None:
    """`kubectl get` shows the published columns, filled from these fields."""
    kind = BY_NAME[name]
    path = f"{collection(kind)}/table"
    created = create(crds, manifest(kind, "table", spec=spec))
    if status is not None:
        written = crds.request("PUT", f"{path}/status", {**created.body, "status": status})
        assert written.status == 200, written.text
    table = crds.request("GET", path, accept=TABLE).body
    columns = [column["name"] for column in table["columnDefinitions"]]
    cells = dict(zip(columns, table["rows"][0]["cells"], strict=True))
    assert columns == ["Name", *(column.name for column in kind.columns)]
    assert {key: cells[key] for key in row} == row
    assert cells["Age"].endswith("s")
    if name == "Repository":
        assert re.fullmatch(r"\d+y(\d+d)?", cells["Last-Successful-Backup"])


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("repo", "Repository"),
        ("bc", "BackupConfiguration"),
        ("backupsession", "BackupSession"),
        ("restore", "RestoreSession"),
        ("fn", "Function"),
        ("task", "Task"),
    ],
)
def test_short_names_work(crds: ApiServer, word: str, name: str) -> None:
    """The kinds are known by their published short names, or by their singular."""
    object_name = f"short-{name.lower()}"
    assert create(crds, manifest(BY_NAME[name], object_name)).status == 201
    output = crds.kubectl("get", word, object_name, "-o", "jsonpath={.kind}")
    assert output == name


def test_categories_work(crds: ApiServer) -> None:
    """`kubectl get stash` lists all kinds."""
    for kind in KINDS:
        assert create(crds, manifest(kind, "category")).status == 201
    listed = set(crds.kubectl("get", "stash", "-o", "name").split())
    assert {f"{kind.name.lower()}.{GROUP}/category" for kind in KINDS} <= listed


def test_explain_shows_our_texts(crds: ApiServer) -> None:
    """`kubectl explain` reads the descriptions of own fields and knows the core types."""
    deadline = time.monotonic() + 60  # the API server publishes OpenAPI some time after the kind
    while True:
        document = crds.request("GET", f"/openapi/v3/apis/{GROUP}/v1beta1")
        if document.status == 200 and "BackupConfiguration" in document.text:
            break
        assert time.monotonic() < deadline, "the OpenAPI of our group never appeared"
        time.sleep(0.2)
    assert "Cron expression" in crds.kubectl("explain", "bc.spec.schedule")
    affinity = crds.kubectl("explain", "bc.spec.runtimeSettings.pod.affinity")
    assert "podAntiAffinity" in affinity
