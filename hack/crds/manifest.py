"""CustomResourceDefinitions and their kustomization, as YAML text."""

from collections.abc import Mapping
from typing import Any

import yaml

from hack.crds import core
from hack.crds.kinds import GROUP, KINDS, Column, Kind
from hack.crds.notation import Schema

HEADER = "# Made by `python3 hack/crds` from hack/crds/kinds.py: change that, then run it.\n"
# Not Stash's own value: the clean-up that its documentation gives deletes by that label (D28).
LABELS = {"app.kubernetes.io/name": "drey"}


def schema(kind: Kind, definitions: Mapping[str, Schema]) -> Schema:
    """The whole OpenAPI schema of a kind, all Kubernetes types expanded."""
    properties: dict[str, Schema] = {
        "apiVersion": {"type": "string", "description": "API group and version of this object."},
        "kind": {"type": "string", "description": "Kind of this object."},
        "metadata": {"type": "object"},
        "spec": core.expand(kind.spec, definitions),
    }
    if kind.status is not None:
        properties["status"] = core.expand(kind.status, definitions)
    return {"description": kind.about, "type": "object", "properties": properties}


def definition(kind: Kind, definitions: Mapping[str, Schema]) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    names: dict[str, Any] = {
        "kind": kind.name,
        "listKind": f"{kind.name}List",
        "plural": kind.plural,
        "singular": kind.name.lower(),
    }
    if kind.short_names:
        names["shortNames"] = list(kind.short_names)
    names["categories"] = ["stash", "appscode", *(["all"] if kind.in_all else [])]
    version: dict[str, Any] = {
        "name": kind.version,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
    }
    if kind.status is not None:
        version["subresources"] = {"status": {}}
    version["schema"] = {"openAPIV3Schema": schema(kind, definitions)}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.full_name, "labels": LABELS},
        "spec": {
            "group": GROUP,
            "names": names,
            "scope": "Cluster" if kind.cluster_scoped else "Namespaced",
            "versions": [version],
        },
    }


def files() -> dict[str, str]:
    """Everything that belongs into manifests/crds: text by file name."""
    definitions = core.load()
    result = {f"{kind.plural}.yaml": _yaml(definition(kind, definitions)) for kind in KINDS}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": sorted(result),
    }
    result["kustomization.yaml"] = _yaml(kustomization)
    return result


def _column(column: Column) -> dict[str, str]:
    facts = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return facts | ({"format": column.format} if column.format else {})


class _Dumper(yaml.SafeDumper):
    """Writes every value out: Kubernetes' parser takes anchors, readers do not."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature of PyYAML
        return True


def _yaml(document: Mapping[str, Any]) -> str:
    # Sorted keys would part a schema's type from its facts, so the order is that of the source.
    return HEADER + yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, width=1000)
