"""manifests/crds against its source and against the published API."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.crds import __main__ as command
from hack.crds import core, kinds, manifest, notation, paths

CRDS = Path(__file__).parents[3] / "manifests" / "crds"
FIELDS = Path(__file__).with_name("fields")
KIND_NAMES = [kind.plural for kind in kinds.KINDS]
# Fields of Kubernetes' own types that are younger than the published lists.
ADDED = (".podCertificate.userAnnotations: object", ".podCertificate.userAnnotations.{}: string")
MAX_BYTES = 256 * 1024


def read(plural: str) -> dict[str, Any]:
    """Return a checked-in CustomResourceDefinition."""
    document: dict[str, Any] = yaml.safe_load((CRDS / f"{plural}.yaml").read_text("utf-8"))
    return document


def schema_of(plural: str) -> notation.Schema:
    """Return the checked-in schema of a kind."""
    (version,) = read(plural)["spec"]["versions"]
    schema: notation.Schema = version["schema"]["openAPIV3Schema"]
    return schema


def schemas(schema: notation.Schema) -> Iterator[notation.Schema]:
    """Yield a schema and all schemas below it."""
    yield schema
    below = list(schema.get("properties", {}).values())
    below += [schema[key] for key in ("items", "additionalProperties") if key in schema]
    for part in below:
        yield from schemas(part)


def test_checked_in_files_are_what_the_source_makes() -> None:
    """A change of the source without a new run, or an edit by hand, is found."""
    wanted = manifest.files()
    assert {path.name for path in CRDS.iterdir()} == set(wanted)
    for name, text in wanted.items():
        assert (CRDS / name).read_text("utf-8") == text, f"run `python3 hack/crds`: {name}"


@pytest.mark.parametrize("plural", KIND_NAMES)
def test_every_published_field_is_there_with_the_same_facts(plural: str) -> None:
    """Types, enums, defaults, formats, list types and REQUIRED are the published ones."""
    published = set((FIELDS / f"{plural}.txt").read_text("utf-8").splitlines())
    ours = set(paths.flatten(schema_of(plural)))
    assert published - ours == set()
    assert [line for line in sorted(ours - published) if not line.endswith(ADDED)] == []


@pytest.mark.parametrize("plural", KIND_NAMES)
def test_schema_is_closed_and_small(plural: str) -> None:
    """No part of a schema lets anything through, none has a rule that a stored object may break."""
    text = (CRDS / f"{plural}.yaml").read_text("utf-8")
    assert len(text.encode()) < MAX_BYTES
    for schema in schemas(schema_of(plural)):
        assert "x-kubernetes-preserve-unknown-fields" not in schema
        assert "x-kubernetes-embedded-resource" not in schema
        assert "x-kubernetes-validations" not in schema
        for key in schema.get("x-kubernetes-list-map-keys", ()):
            assert key in schema["items"]["required"], "the API server demands a value for a key"


@pytest.mark.parametrize("plural", KIND_NAMES)
def test_own_fields_explain_themselves(plural: str) -> None:
    """`kubectl explain` has a text for a kind and for each field of its spec and status."""
    schema = schema_of(plural)
    assert schema["description"].startswith(read(plural)["spec"]["names"]["kind"])
    for part in set(schema["properties"]) - {"apiVersion", "kind", "metadata"}:
        assert schema["properties"][part]["description"]
        for name, field in schema["properties"][part]["properties"].items():
            assert field.get("description"), f"{part}.{name}"


AGE = ("Age", "date", ".metadata.creationTimestamp")
PHASE = ("Phase", "string", ".status.phase")
DURATION = ("Duration", "string", ".status.sessionDuration")
REGISTRATION = {
    # plural: (version, kind, short names, in `all`, scope, status subresource, columns)
    "repositories": (
        ("v1alpha1", "Repository", ["repo"], False, "Namespaced", True),
        [
            ("Integrity", "boolean", ".status.integrity"),
            ("Size", "string", ".status.totalSize"),
            ("Snapshot-Count", "integer", ".status.snapshotCount"),
            ("Last-Successful-Backup", "date", ".status.lastBackupTime"),
            AGE,
        ],
    ),
    "backupconfigurations": (
        ("v1beta1", "BackupConfiguration", ["bc"], True, "Namespaced", True),
        [
            ("Task", "string", ".spec.task.name"),
            ("Schedule", "string", ".spec.schedule"),
            ("Paused", "boolean", ".spec.paused"),
            PHASE,
            AGE,
        ],
    ),
    "backupsessions": (
        ("v1beta1", "BackupSession", None, True, "Namespaced", True),
        [
            ("Invoker-Type", "string", ".spec.invoker.kind"),
            ("Invoker-Name", "string", ".spec.invoker.name"),
            PHASE,
            DURATION,
            AGE,
        ],
    ),
    "restoresessions": (
        ("v1beta1", "RestoreSession", ["restore"], True, "Namespaced", True),
        [("Repository", "string", ".spec.repository.name"), PHASE, DURATION, AGE],
    ),
    "functions": (("v1beta1", "Function", ["fn"], False, "Cluster", False), [AGE]),
    "tasks": (("v1beta1", "Task", ["task"], False, "Cluster", False), [AGE]),
}


@pytest.mark.parametrize("plural", KIND_NAMES)
def test_registration_is_as_published(plural: str) -> None:
    """Names, categories, scope, status subresource and printer columns are the published ones."""
    document = read(plural)
    names = document["spec"]["names"]
    (version,) = document["spec"]["versions"]
    columns = version["additionalPrinterColumns"]
    assert document["metadata"]["name"] == f"{plural}.stash.appscode.com"
    assert names["categories"][:2] == ["stash", "appscode"]
    assert REGISTRATION[plural] == (
        (
            version["name"],
            names["kind"],
            names.get("shortNames"),
            "all" in names["categories"],
            document["spec"]["scope"],
            version.get("subresources") == {"status": {}},
        ),
        [(column["name"], column["type"], column["jsonPath"]) for column in columns],
    )


@pytest.mark.parametrize("plural", KIND_NAMES)
def test_no_label_matches_the_cleanup_of_stash(plural: str) -> None:
    """`kubectl delete crd -l app.kubernetes.io/name=stash` leaves our definitions alone (D28)."""
    assert read(plural)["metadata"]["labels"] == {"app.kubernetes.io/name": "drey"}


def test_kustomization_names_every_definition() -> None:
    """`kubectl apply -k manifests/crds` installs all kinds."""
    document = yaml.safe_load((CRDS / "kustomization.yaml").read_text("utf-8"))
    assert document["resources"] == sorted(f"{plural}.yaml" for plural in KIND_NAMES)


def test_flatten_writes_the_notation_of_the_lists() -> None:
    """Lists of objects, maps, int-or-strings, enums and defaults come out as in the field lists."""
    schema = notation.record(
        "",
        {
            "a!": notation.strings(),
            "b": notation.array("", notation.record("", {"k!": notation.text()}), keys=["k"]),
            "c": notation.string_map(),
            "d": notation.text(one_of=["X", "Y"], default="X"),
            "e": notation.int_or_string(),
            "f": notation.int32(default=1),
        },
    )
    assert list(paths.flatten(schema)) == [
        ".a: array REQUIRED of string",
        ".b: array x-kubernetes-list-type=map of object",
        ".b[].k: string REQUIRED",
        ".c: object",
        ".c.{}: string",
        ".d: string enum=['X', 'Y'] default=X",
        ".e: ? x-kubernetes-int-or-string=True",
        ".f: integer default=1 format=int32",
    ]


def test_prune_keeps_what_the_roots_reach_and_what_is_published() -> None:
    """Zero-value defaults, enums and unreachable types are gone; optional defaults stay."""
    prefix = "#/components/schemas/io.k8s.api.core.v1."
    published = {
        "core/v1.Root": {
            "description": "long",
            "type": "object",
            "required": ["name"],
            "x-kubernetes-group-version-kind": [],
            "properties": {
                "name": {"type": "string", "default": "", "enum": ["a"]},
                "protocol": {"type": "string", "default": "TCP"},
                "leaf": {"allOf": [{"$ref": f"{prefix}Leaf"}], "default": {}},
                "leaves": {
                    "type": "array",
                    "x-kubernetes-list-type": "atomic",
                    "items": {"allOf": [{"$ref": f"{prefix}Leaf"}], "default": {}},
                },
            },
        },
        "core/v1.Leaf": {"type": "object", "properties": {"root": {"$ref": f"{prefix}Root"}}},
        "core/v1.Other": {"type": "object"},
    }
    leaf = {"$ref": "core/v1.Leaf"}
    assert core.prune(published, ["core/v1.Root"]) == {
        "core/v1.Leaf": {"type": "object", "properties": {"root": {"$ref": "core/v1.Root"}}},
        "core/v1.Root": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "leaf": leaf,
                "leaves": {"type": "array", "x-kubernetes-list-type": "atomic", "items": leaf},
                "name": {"type": "string"},
                "protocol": {"type": "string", "default": "TCP"},
            },
        },
    }


def test_type_that_kubernetes_does_not_publish_is_an_error() -> None:
    """A misspelt or withdrawn type stops the run and is named."""
    with pytest.raises(core.UnknownTypeError, match=r"core/v1\.Nope"):
        core.prune({}, ["core/v1.Nope"])
    with pytest.raises(core.UnknownTypeError, match=r"core/v1\.Nope.*refresh"):
        core.expand(notation.core("core/v1.Nope"), {})


def test_extending_merges_fields_and_required() -> None:
    """A record that extends a type has the fields of both, save those left out."""
    definitions = {
        "core/v1.Base": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string"}, "size": {"$ref": "resource.Quantity"}},
        }
    }
    own = notation.record("Own.", {"path!": notation.text()})
    expanded = core.expand(notation.extending("core/v1.Base", own, without=["name"]), definitions)
    assert expanded == {
        "description": "Own.",
        "type": "object",
        "required": ["path"],
        "properties": {"path": {"type": "string"}, "size": notation.quantity()},
    }


def test_core_file_holds_what_the_kinds_need_and_no_more() -> None:
    """core.json was refreshed after the last change of what the kinds embed."""
    definitions = core.load()
    needed = set(command.roots())
    for schema in definitions.values():
        needed |= set(core.references(schema))
    builtin = {"resource.Quantity", "intstr.IntOrString", "meta/v1.Time"}
    assert needed - builtin == set(definitions)
    assert json.loads(core.CORE_FILE.read_text("utf-8"))["source"]["licence"] == "Apache-2.0"


def test_check_names_stale_missing_and_stray_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` fails on each difference and says what to run; writing mends all."""
    assert command.write(tmp_path) == 0
    assert command.check(tmp_path) == 0
    (tmp_path / "tasks.yaml").write_text("edited: true\n")
    (tmp_path / "functions.yaml").unlink()
    (tmp_path / "old.yaml").touch()
    capsys.readouterr()
    assert command.check(tmp_path) == 1
    errors = capsys.readouterr().err.splitlines()
    assert [Path(line.split(":")[0]).name for line in errors] == [
        "functions.yaml",
        "tasks.yaml",
        "old.yaml",
    ]
    assert all("run `python3 hack/crds`" in line for line in errors)
    assert command.write(tmp_path) == 0
    assert command.check(tmp_path) == 0


def test_refresh_without_go_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A machine without Go gets one line with the cause, and core.json stays as it is."""
    before = core.CORE_FILE.read_bytes()
    monkeypatch.setenv("PATH", "")
    assert command.main(["refresh"]) == 1
    assert "cannot refresh" in capsys.readouterr().err
    assert core.CORE_FILE.read_bytes() == before


def test_paths_lists_a_kind_and_refuses_an_unknown_one(capsys: pytest.CaptureFixture[str]) -> None:
    """`paths` prints the field list; a wrong kind gets the list of known ones."""
    assert command.main(["paths", "BackupSession"]) == 0
    assert ".spec.invoker.kind: string REQUIRED" in capsys.readouterr().out.splitlines()
    assert command.main(["paths", "nope"]) == 2
    assert "BackupConfiguration" in capsys.readouterr().err


def test_folder_runs_as_a_script() -> None:
    """`python3 hack/crds --check` works from any directory."""
    script = str(Path(command.__file__).parent)
    done = subprocess.run(
        [sys.executable, script, "--check"], cwd="/", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
