"""Message classes of CSI and of kubelet's plugin registration, compiled from the published protos.

The protos come out of the Go module cache, in the versions that `hack/tools/kubernetes` pins, so
the driver speaks exactly what the sidecars and the kubelet were built with. Nothing generated is
kept in the source tree: the compiled form is a `FileDescriptorSet`, in memory or in one file.

    python hack/cluster/csi/protos.py OUT     writes that file, for a later start without Go
"""

import json
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import grpc_tools  # type: ignore[import-untyped]  # publishes no types
from google.protobuf import (  # type: ignore[import-untyped]  # publishes no types
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)
from grpc_tools import protoc

_TOOLS = Path(__file__).resolve().parents[2] / "tools" / "kubernetes"
_REGISTRATION = "pkg/apis/pluginregistration/v1/api.proto"


class ProtosMissing(Exception):
    """The protos could not be found or compiled; the message says why."""


def _module_folder(module: str) -> Path:
    argv = ["go", "mod", "download", "-json", module]
    try:
        done = subprocess.run(argv, cwd=_TOOLS, capture_output=True, text=True, check=False)
    except FileNotFoundError as err:
        raise ProtosMissing(f"{module}: cannot run go in {_TOOLS}: {err}") from err
    if done.returncode != 0:
        detail = (done.stdout + done.stderr).strip()
        raise ProtosMissing(f"{module}: go mod download in {_TOOLS} failed: {detail}")
    return Path(json.loads(done.stdout)["Dir"])


def compile_protos() -> bytes:
    """Return a serialized `FileDescriptorSet` of both protos and of what they import.

    Raises:
        ProtosMissing: Go, a module or a proto is missing.
    """
    spec = _module_folder("github.com/container-storage-interface/spec")
    kubelet = _module_folder("k8s.io/kubelet")
    included = Path(grpc_tools.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory(prefix="csi-protos-") as scratch:
        out = Path(scratch, "out.binpb")
        argv = ["protoc", f"-I{spec}", f"-I{kubelet}", f"-I{included}", "--include_imports"]
        argv += [f"--descriptor_set_out={out}", "csi.proto", _REGISTRATION]
        if protoc.main(argv) != 0:
            raise ProtosMissing(
                f"protoc refused csi.proto of {spec} or {_REGISTRATION} of {kubelet}"
            )
        return out.read_bytes()


class Protos:
    """Message classes and services of one descriptor set, in a pool of its own."""

    def __init__(self, descriptor_set: bytes) -> None:
        self._pool = descriptor_pool.DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(descriptor_set).file:
            self._pool.Add(file)

    @classmethod
    def load(cls, path: Path | None) -> "Protos":
        """Read the compiled protos from `path`; where it is absent they are compiled into it."""
        if path is None:
            return cls(compile_protos())
        if not path.exists():
            write(path)
        return cls(path.read_bytes())

    def service(self, name: str) -> Any:
        """Return the descriptor of a service by its full name, such as `csi.v1.Node`."""
        return self._pool.FindServiceByName(name)

    def messages(self, package: str) -> "Messages":
        """Return the message classes of one package as attributes."""
        return Messages(self._pool, package)


class Messages:
    """Message classes of a package: `messages.CreateVolumeResponse(...)`.

    They are made at run time, so their type is Any.
    """

    def __init__(self, pool: descriptor_pool.DescriptorPool, package: str) -> None:
        self._find = cache(
            lambda name: message_factory.GetMessageClass(
                pool.FindMessageTypeByName(f"{package}.{name}")
            )
        )

    def __getattr__(self, name: str) -> Any:
        return self._find(name)


def write(path: Path) -> None:
    """Compile the protos into `path`; a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(compile_protos())
    part.replace(path)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):  # noqa: PLR2004  # program and OUT
        sys.exit(f"usage: {sys.argv[0]} OUT   (compiles CSI's and kubelet's protos into OUT)")
    try:
        write(Path(sys.argv[1]))
    except ProtosMissing as missing:
        sys.exit(f"csi protos: {missing}")
