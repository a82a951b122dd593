"""Where a restic repository is, as a hash: equal for all spellings that restic takes for one place.

Repositories of one place take turns at their first backup, because two `restic init` at once
destroy a repository (D2), and none of their users claims snapshots without a tag, because it would
remove the others' (D1). Places that are one must therefore never look like two. Two that look like
one cost a wait at a first backup, and snapshots of Stash that nobody removes: where a Repository
does not say enough, it is that.

The hash is kept on Jobs and on their pods, and nowhere else. A version may compute it otherwise:
of what an older one has begun, the name of the Repository still tells.
"""

import hashlib
import json
import posixpath
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from controller.api.repository import Provider, RepositorySpec
from controller.build.backend import location_of

_LENGTH = 16
_SCHEME = re.compile("(https?:)?//", re.IGNORECASE)
_STANDARD_PORT = re.compile(":(80|443)?$")
_AMAZON, _AMAZON_CHINA = "amazonaws.com", "amazonaws.com.cn"
_BACKBLAZE, _GOOGLE = "backblazeb2.com", "storage.googleapis.com"
_ONE_NAMESPACE = (_AMAZON, _AMAZON_CHINA, _BACKBLAZE, _GOOGLE)
"""Domains in which the name of a bucket is unique: all regions are one place."""

_FOLDERS = frozenset({"cephfs", "glusterfs", "hostPath", "nfs"})
"""Volume sources whose `path` is a folder: `subPath` is a part of it."""
_IDENTITY: Mapping[str, tuple[str, ...]] = {
    "awsElasticBlockStore": ("volumeID",),
    # The account is in a Secret.
    "azureFile": ("shareName",),
    "azureDisk": ("diskURI",),
    # One cluster has many lists of monitors.
    "cephfs": ("path",),
    "cinder": ("volumeID",),
    "csi": ("driver", "volumeAttributes"),
    "fc": ("lun", "targetWWNs", "wwids"),
    "flexVolume": ("driver", "options"),
    "gcePersistentDisk": ("pdName",),
    # `endpoints` is an object of the namespace, and may have another name in the next one.
    "glusterfs": ("path",),
    # Each node has its own folder, and which node it will be nobody knows yet; the folder may as
    # well be one share that all nodes have mounted.
    "hostPath": ("path",),
    "iscsi": ("iqn", "lun"),
    "nfs": ("path", "server"),
    # Two claims may lead to one share by way of two PersistentVolumes. These are not looked at.
    "persistentVolumeClaim": ("claimName",),
    "portworxVolume": ("volumeID",),
    "rbd": ("image", "pool"),
    "vsphereVolume": ("volumePath",),
}
"""What says where a volume is, of each source; the rest says how, or as whom, it is mounted."""
_ACCESS = frozenset({
    "fsType", "keyring", "mountOptions", "nodePublishSecretRef", "readOnly", "secretFile",
    "secretName", "secretRef", "user",
})  # fmt: skip
"""Fields that say how a volume is mounted, whatever the source."""


def place_hash(spec: RepositorySpec, namespace: str) -> str:
    """Return the hash of the place of a Repository in this namespace.

    The spec must have no `repository_problems`: no password is in its URLs then.
    """
    local = spec.backend.local
    place = _remote(spec) if local is None else _volume(local, namespace)
    text = json.dumps(place, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]


def _remote(spec: RepositorySpec) -> list[str]:
    """Return what is hashed of a backend behind a network.

    Accounts are in Secrets: containers of one name look like one place.
    """
    location = location_of(spec)
    kind, _, url = location.url.partition(":")
    match location.provider:
        case Provider.S3:
            return ["bucket", *_address(url)]
        case Provider.REST:
            return [kind, *_address(url)]
        # restic can reach the buckets of these two by their S3 interface as well
        case Provider.GCS:
            return ["bucket", _GOOGLE, _folder(location.bucket, location.prefix)]
        case Provider.B2:
            return ["bucket", _BACKBLAZE, _folder(location.bucket, location.prefix)]
        case Provider.AZURE:
            return [kind, _folder(location.bucket, location.prefix)]
        case _:
            return [kind, url]  # swift, to which `/a` and `a` are two places


def _address(url: str) -> tuple[str, str]:
    """Return host and path of a URL, with or without a scheme.

    `http` and `https` are two doors of one server, as a rule. restic ignores what follows a
    question mark or a hash in some spellings.
    """
    rest = _SCHEME.sub("", url, count=1) if _SCHEME.match(url) else url
    authority, _, path = rest.partition("/")
    host = _STANDARD_PORT.sub("", authority.lower()).rstrip(".")
    for domain in _ONE_NAMESPACE:
        if host == domain or host.endswith(f".{domain}"):
            host = domain
    return host, _folder(unquote(re.split("[?#]", path)[0]))


def _volume(local: Mapping[str, Any], namespace: str) -> list[Any]:
    """Return what is hashed of a volume; where it is mounted does not matter."""
    found: list[Any] = ["local"]
    below = str(local.get("subPath") or "")
    for kind in sorted(local.keys() - {"mountPath", "subPath"}):
        source = local[kind]
        where = _identity(kind, source) if isinstance(source, Mapping) else {"": source}
        if kind == "persistentVolumeClaim":
            where["namespace"] = namespace
        if kind in _FOLDERS:
            where["path"] = _folder(str(where.get("path") or ""), below)
        else:
            where["subPath"] = _folder(below)
        found.append([kind, where])
    return found


def _identity(kind: str, source: Mapping[str, Any]) -> dict[str, Any]:
    names = _IDENTITY.get(kind, tuple(source.keys() - _ACCESS))
    where: dict[str, Any] = {name: source[name] for name in names if source.get(name)}
    if isinstance(server := where.get("server"), str):
        where["server"] = server.lower().rstrip(".")
    if isinstance(attributes := where.get("volumeAttributes"), Mapping):
        kept = attributes.keys() - _ACCESS
        where["volumeAttributes"] = {name: attributes[name] for name in kept}
    if kind == "rbd":
        where.setdefault("pool", "rbd")
    return where


def _folder(*parts: str) -> str:
    """Return the absolute path of a folder, with no slash or dot too many."""
    return posixpath.normpath("/" + "/".join(parts).lstrip("/"))
