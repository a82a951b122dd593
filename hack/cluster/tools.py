"""The cluster's binaries: built from pinned Go modules into a per-user cache.

Each folder of hack/tools is one Go module whose go.mod and go.sum pin and verify everything. The
cache folder is named after a hash of those files and of the build flags: a changed pin builds
anew, beside the old one. A binary is built under another name and renamed, so an interrupted or a
second build at the same time cannot leave half of one.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hack.cluster import layout
from hack.cluster.errors import ClusterError

SOURCES = layout.REPOSITORY / "hack" / "tools"
FLAGS = ("-trimpath", "-buildvcs=false", "-mod=readonly")
# static: restic also runs in the product's image, and all of them on any Linux
ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
# kube-apiserver tells its version to clients, and clients theirs in the user agent: without these
# it would be v0.0.0
VERSIONS: Mapping[str, str] = {
    "k8s.io/component-base/version.gitVersion": "v1.36.3",
    "k8s.io/component-base/version.gitMajor": "1",
    "k8s.io/component-base/version.gitMinor": "36",
    "k8s.io/client-go/pkg/version.gitVersion": "v1.36.3",
    "k8s.io/client-go/pkg/version.gitCommit": "drey-test",
}
# seconds from empty Go caches on 2 cores that do nothing else, measured once: for a message only
COLD_S: Mapping[str, int] = {
    "restic": 60, "etcd": 30, "kubernetes": 390, "containerd": 75, "coredns": 110,
    "rest-server": 10, "versitygw": 60, "pushgateway": 15, "csi-sanity": 20,
}  # fmt: skip
CRD_MODULE = "github.com/kubernetes-csi/external-snapshotter/client/v8"
CRD_FILES = (
    "snapshot.storage.k8s.io_volumesnapshotclasses.yaml",
    "snapshot.storage.k8s.io_volumesnapshotcontents.yaml",
    "snapshot.storage.k8s.io_volumesnapshots.yaml",
)


@dataclass(frozen=True)
class Tool:
    """One binary: its name, the folder below hack/tools, its Go package."""

    name: str
    group: str
    package: str


def _tools(group: str, prefix: str, *names: str) -> list[Tool]:
    return [Tool(name, group, f"{prefix}/{name}") for name in names]


TOOLS: tuple[Tool, ...] = (
    *_tools("restic", "github.com/restic/restic/cmd", "restic"),
    Tool("etcd", "etcd", "go.etcd.io/etcd/server/v3"),
    *_tools(
        "kubernetes", "k8s.io/kubernetes/cmd",
        "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy",
        "kubectl",
    ),
    *_tools("kubernetes", "github.com/kubernetes-csi/external-provisioner/v6/cmd",
            "csi-provisioner"),
    *_tools("kubernetes", "github.com/kubernetes-csi/external-snapshotter/v8/cmd",
            "csi-snapshotter", "snapshot-controller"),
    *_tools("containerd", "github.com/containerd/containerd/v2/cmd",
            "containerd", "containerd-shim-runc-v2", "ctr"),
    *_tools("coredns", "github.com/coredns", "coredns"),
    *_tools("rest-server", "github.com/restic/rest-server/cmd", "rest-server"),
    *_tools("versitygw", "github.com/versity/versitygw/cmd", "versitygw"),
    *_tools("pushgateway", "github.com/prometheus", "pushgateway"),
    *_tools("csi-sanity", "github.com/kubernetes-csi/csi-test/v5/cmd", "csi-sanity"),
)  # fmt: skip


def linker_flags(tool: Tool) -> str:
    """Return the -ldflags of a tool."""
    versions = VERSIONS if tool.group == "kubernetes" else {}
    return " ".join(["-s -w", *(f"-X {name}={value}" for name, value in versions.items())])


def cache_key(modules: Mapping[str, bytes], tools: Sequence[Tool] = TOOLS) -> str:
    """Return the name of the cache folder: a hash of all pins and of all build flags.

    Args:
        modules: path → content of every go.mod and go.sum.
        tools: what is built.
    """
    digest = hashlib.sha256()
    parts = [repr((path, content)) for path, content in sorted(modules.items())]
    parts += [repr((tool, linker_flags(tool))) for tool in tools]
    parts += [repr(FLAGS), repr(sorted(ENVIRONMENT.items())), repr(CRD_FILES)]
    for part in parts:
        digest.update(part.encode())
    return digest.hexdigest()[:16]


def expected_time(missing: Sequence[Tool]) -> str:
    """Say how long the building of these tools may take."""
    cold_s = sum(COLD_S[group] for group in {tool.group for tool in missing})
    # as long again for fetching the modules through a slow line, or beside other work
    lowest, highest = -(-cold_s // 60), -(-2 * cold_s // 60)
    return f"with empty Go caches {lowest} to {highest} min on 2 cores, else seconds"


def binaries_folder() -> Path:
    """Return where the binaries of this checkout are, or will be after `ensure`."""
    files = [*SOURCES.glob("*/go.mod"), *SOURCES.glob("*/go.sum")]
    modules = {str(file.relative_to(SOURCES)): file.read_bytes() for file in files}
    return layout.cache_folder() / "bin" / cache_key(modules)


def ensure(names: Iterable[str] | None = None) -> Path:
    """Build what the cache lacks, and return the cache's folder.

    Args:
        names: the tools that are needed; None for all of them, and for the snapshot CRDs.

    Raises:
        ClusterError: Go is missing, or a build failed; with the compiler's last lines.
    """
    folder = binaries_folder()
    wanted = [tool for tool in TOOLS if names is None or tool.name in set(names)]
    missing = [tool for tool in wanted if not (folder / tool.name).exists()]
    crds = names is None and not all((folder / "crd" / name).exists() for name in CRD_FILES)
    if missing or crds:
        _require_go()
        folder.mkdir(parents=True, exist_ok=True)
    if missing:
        print(f"building {', '.join(tool.name for tool in missing)}")
        print(f"into {folder} ({expected_time(missing)})", flush=True)
    for number, tool in enumerate(missing, start=1):
        print(f"[{number}/{len(missing)}] building {tool.name} …", end="", flush=True)
        start = time.monotonic()
        _build(tool, folder)
        print(f" {time.monotonic() - start:.0f} s", flush=True)
    if crds:
        _copy_crds(folder)
    return folder


def _require_go() -> None:
    if shutil.which("go") is None:
        raise ClusterError(
            "Go is missing: the cluster's binaries are built from Go modules. "
            "Install Go 1.26 or newer (https://go.dev/dl) and have `go` on PATH."
        )


def _build(tool: Tool, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".build-", dir=folder) as temporary:
        output = Path(temporary) / tool.name
        argv = ["go", "build", *FLAGS, "-ldflags", linker_flags(tool)]
        _go([*argv, "-o", str(output), tool.package], tool.group, f"building {tool.name}")
        output.rename(folder / tool.name)


def _copy_crds(folder: Path) -> None:
    argv = ["go", "mod", "download", "-json", CRD_MODULE]
    _go(argv, "kubernetes", "fetching the snapshot CRDs")
    argv = ["go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", CRD_MODULE]
    source = Path(_go(argv, "kubernetes", "finding the snapshot CRDs").strip())
    (folder / "crd").mkdir(exist_ok=True)
    for name in CRD_FILES:
        temporary = folder / "crd" / f".{name}.{os.getpid()}"
        temporary.write_bytes((source / "config" / "crd" / name).read_bytes())
        temporary.rename(folder / "crd" / name)


def _go(argv: Sequence[str], group: str, what: str) -> str:
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run(
        argv, cwd=SOURCES / group, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = "\n".join(done.stderr.strip().splitlines()[-15:])
        raise ClusterError(f"{what} (hack/tools/{group}) failed:\n{lines}")
    return done.stdout
