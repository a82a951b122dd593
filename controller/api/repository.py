"""Repository: where snapshots are kept."""

from enum import StrEnum
from typing import Any

from pydantic import Field

from controller.api.model import Model, Problem
from controller.api.objects import Obj


class Provider(StrEnum):
    """The kinds of backend, in the order in which Stash looks for them."""

    LOCAL = "local"
    S3 = "s3"
    GCS = "gcs"
    AZURE = "azure"
    SWIFT = "swift"
    B2 = "b2"
    REST = "rest"


class S3(Model):
    """An S3 bucket. `endpoint` may carry a scheme."""

    endpoint: str
    bucket: str
    prefix: str = ""
    region: str = ""
    insecure_tls: bool = Field(default=False, alias="insecureTLS")


class Bucket(Model):
    """A bucket of GCS or B2."""

    bucket: str
    prefix: str = ""
    max_connections: int = 0


class Container(Model):
    """A container of Azure or Swift."""

    container: str
    prefix: str = ""
    max_connections: int = 0


class Rest(Model):
    """A restic REST server. The published schema does not require the URL; we do."""

    url: str = ""


class Backend(Model):
    """The backend union. Exactly one member must be set; the schema does not enforce it.

    `local` is a volume source with `mountPath` and `subPath` beside its keys.
    """

    storage_secret_name: str = ""
    local: dict[str, Any] | None = None
    s3: S3 | None = None
    gcs: Bucket | None = None
    azure: Container | None = None
    swift: Container | None = None
    b2: Bucket | None = None
    rest: Rest | None = None


class RepositorySpec(Model):
    """`spec` of a Repository."""

    backend: Backend = Backend()
    wipe_out: bool = False
    usage_policy: Obj | None = None


FORBIDDEN_LOCAL_SOURCES = {
    "emptyDir": "it dies with the pod, and the backup with it",
    "projected": "it is read-only and made of API objects",
    "configMap": "it is read-only",
    "secret": "it is read-only",
    "downwardAPI": "it is read-only",
    "ephemeral": "it dies with the pod, and the backup with it",
    "gitRepo": "it dies with the pod, and the backup with it",
    "image": "it is read-only",
}


def backends_of(spec: RepositorySpec) -> tuple[Provider, ...]:
    """Return the providers that are set, in Stash's order."""
    return tuple(p for p in Provider if getattr(spec.backend, p.value) is not None)


def repository_problems(spec: RepositorySpec) -> tuple[Problem, ...]:
    """Return what is wrong with a Repository beyond its schema."""
    given = backends_of(spec)
    if not given:
        return (Problem("spec.backend", f"set one of {', '.join(p.value for p in Provider)}"),)
    if len(given) > 1:
        names = ", ".join(p.value for p in given)
        return (Problem("spec.backend", f"set exactly one backend, not {names}"),)
    problems = []
    backend = spec.backend
    if not backend.storage_secret_name:
        problems.append(
            Problem(
                "spec.backend.storageSecretName",
                "name the Secret that holds RESTIC_PASSWORD and the backend's credentials",
            )
        )
    problems += _empty_problems(spec, given[0])
    if backend.rest is not None and not backend.rest.url:
        problems.append(Problem("spec.backend.rest.url", "give the REST server's URL"))
    if backend.rest is not None and "@" in backend.rest.url:
        problems.append(
            Problem(
                "spec.backend.rest.url",
                "credentials belong into the Secret's REST_SERVER_USERNAME and "
                "REST_SERVER_PASSWORD, not into the URL",
            )
        )
    if backend.local is not None:
        problems += _local_problems(backend.local)
    if backend.s3 is not None and "@" in backend.s3.endpoint:
        problems.append(
            Problem(
                "spec.backend.s3.endpoint",
                "credentials belong into the Secret's AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, not into the endpoint",
            )
        )
    if spec.wipe_out and given[0] in (Provider.LOCAL, Provider.B2):
        problems.append(Problem("spec.wipeOut", f"not supported for the {given[0].value} backend"))
    return tuple(problems)


def _empty_problems(spec: RepositorySpec, provider: Provider) -> list[Problem]:
    """Return a problem for each field that the schema requires but lets be empty."""
    backend = getattr(spec.backend, provider.value)
    return [
        Problem(f"spec.backend.{provider.value}.{name}", "must not be empty")
        for name in ("endpoint", "bucket", "container")
        if getattr(backend, name, None) == ""
    ]


def _local_problems(local: Obj) -> list[Problem]:
    problems = []
    path = "spec.backend.local"
    if problem := mount_path_problem(f"{path}.mountPath", str(local.get("mountPath") or "")):
        problems.append(problem)
    for source, why in FORBIDDEN_LOCAL_SOURCES.items():
        if source in local:
            problems.append(Problem(f"{path}.{source}", f"no place for a repository: {why}"))
    if not local.keys() - {"mountPath", "subPath"}:
        problems.append(Problem(path, "name a volume source, such as hostPath, nfs or a PVC"))
    return problems


# A volume of the user over one of these would shadow the programs of the image, what the kubelet
# mounts, or our own folders, in a container that holds the storage Secret.
RESERVED_FOLDERS = (
    "bin",
    "boot",
    "dev",
    "drey",
    "etc",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "opt",
    "proc",
    "root",
    "run",
    "sbin",
    "stash",
    "stash-interim-volume",
    "stash-tmp",
    "sys",
    "tmp",
    "usr",
    "var",
)


def mount_path_problem(path: str, value: str) -> Problem | None:
    """Return what is wrong with a mount path of a container of ours, or None."""
    parts = [part for part in value.split("/") if part]
    if not value.startswith("/") or not parts or ".." in parts or "." in parts or ":" in value:
        return Problem(path, f"give an absolute path below /, such as /stash-data, not {value!r}")
    if parts[0] in RESERVED_FOLDERS:
        return Problem(path, f"/{parts[0]} belongs to the image: mount the volume elsewhere")
    return None
