"""From a Repository's backend to restic's URL and to what has to be mounted."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from controller.api.job_input import RepositoryInput
from controller.api.objects import Obj, name_of, namespace_of
from controller.api.repository import Provider, RepositorySpec, backends_of

LOCAL_VOLUME = "stash-local"


@dataclass(frozen=True, slots=True)
class Location:
    """Where a repository is.

    `url` is RESTIC_REPOSITORY; `bucket`, `prefix` and `endpoint` are as the user wrote them, for
    variables and metric labels. `endpoint` and `region` are None where the provider has none.
    """

    provider: Provider
    url: str
    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    insecure_tls: bool = False
    max_connections: int = 0


def location_of(spec: RepositorySpec) -> Location:  # noqa: PLR0911 - one return for each provider
    """Return where the repository is. The spec must have no `repository_problems`.

    Slashes are cleaned where restic cleans them too, so that a repository made by Stash is found
    again. Swift's are kept: there `/a` and `a` are different repositories (stash.md 5.1).
    """
    backend = spec.backend
    if backend.local is not None:
        path = str(backend.local["mountPath"])
        return Location(Provider.LOCAL, path, path)
    if (s3 := backend.s3) is not None:
        path = "/".join(part for part in (_clean(s3.bucket), _clean(s3.prefix)) if part)
        return Location(
            Provider.S3,
            f"s3:{s3.endpoint.rstrip('/')}/{path}",
            s3.bucket,
            s3.prefix,
            endpoint=s3.endpoint,
            region=s3.region,
            insecure_tls=s3.insecure_tls,
        )
    if (gcs := backend.gcs) is not None:
        url = f"gs:{gcs.bucket}:/{_clean(gcs.prefix)}"
        return Location(
            Provider.GCS, url, gcs.bucket, gcs.prefix, max_connections=gcs.max_connections
        )
    if (azure := backend.azure) is not None:
        url = f"azure:{azure.container}:/{_clean(azure.prefix)}"
        return Location(
            Provider.AZURE,
            url,
            azure.container,
            azure.prefix,
            max_connections=azure.max_connections,
        )
    if (swift := backend.swift) is not None:
        url = f"swift:{swift.container}:/{swift.prefix}"
        return Location(Provider.SWIFT, url, swift.container, swift.prefix)
    if (b2 := backend.b2) is not None:
        url = f"b2:{b2.bucket}:/{_clean(b2.prefix)}"
        return Location(Provider.B2, url, b2.bucket, b2.prefix, max_connections=b2.max_connections)
    if (rest := backend.rest) is not None:
        parts = urlsplit(rest.url)
        return Location(
            Provider.REST, f"rest:{rest.url}", parts.netloc, parts.path, endpoint=rest.url
        )
    raise ValueError(f"no backend is set, of {', '.join(backends_of(spec)) or 'none'}")


def repository_input(
    repository: Obj, spec: RepositorySpec, *, repository_id: str, may_initialise: bool
) -> RepositoryInput:
    """Return what a Job is told about the repository: everything but credentials."""
    location = location_of(spec)
    return RepositoryInput(
        name=name_of(repository),
        namespace=namespace_of(repository),
        provider=location.provider.value,
        secret_name=spec.backend.storage_secret_name,
        url=location.url,
        bucket=location.bucket,
        prefix=location.prefix,
        region=location.region or "",
        insecure_tls=location.insecure_tls,
        max_connections=location.max_connections,
        id=repository_id,
        may_initialise=may_initialise,
    )


def local_volume(spec: RepositorySpec) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the volume of a local backend and its mount, None for other backends."""
    local: Mapping[str, Any] | None = spec.backend.local
    if local is None:
        return None
    source = {key: value for key, value in local.items() if key not in ("mountPath", "subPath")}
    mount = {"name": LOCAL_VOLUME, "mountPath": local["mountPath"]}
    if local.get("subPath"):
        mount["subPath"] = local["subPath"]
    return {"name": LOCAL_VOLUME, **source}, mount


def _clean(path: str) -> str:
    return re.sub("/+", "/", path).strip("/")
