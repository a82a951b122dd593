"""Images without a registry: small ones written as OCI archives here, the base through buildah.

Archives lie in the per-user cache. An OCI archive is a tar of an image layout (OCI image-spec:
image-layout.md): oci-layout, index.json, blobs/sha256/<digest>.
"""

import hashlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hack.cluster import layout, packages, tools
from hack.cluster.errors import ClusterError
from hack.cluster.layout import Layout

PAUSE = "registry.k8s.io/pause:3.10"
BUSYBOX = "docker.io/library/busybox:1.36"
BASE = "localhost/debian:bookworm-slim"
BASE_PACKAGES = ("ca-certificates", "python3")
# what the published slim images leave out too
BASE_WITHOUT = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*")
PAUSE_SOURCE = Path(__file__).parent / "pause"


def archives() -> dict[str, Path]:
    """Return image name → archive of the images that every cluster needs, made when missing."""
    return {PAUSE: _pause(), BUSYBOX: _busybox()}


def load(paths: Layout, archive: Path) -> list[str]:
    """Import an OCI or docker archive into containerd, for the kubelet.

    Returns:
        The names of the images.

    Raises:
        ClusterError: there is no such file, or containerd refused it.
    """
    if not archive.is_file():
        raise ClusterError(f"{archive}: no such file. An OCI archive is expected (`make image`).")
    argv = ["images", "import", "--local", "--no-unpack=false", str(archive)]
    output = ctr(paths, *argv)
    return [line.split()[0] for line in output.splitlines() if line.strip()]


def ctr(paths: Layout, *arguments: str) -> str:
    """Run containerd's own client in the kubelet's namespace and return its output."""
    prefix = [str(paths.binaries / "ctr"), "-a", str(paths.containerd_socket), "-n", "k8s.io"]
    done = subprocess.run([*prefix, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"ctr {' '.join(arguments)}: {done.stderr.strip()[-600:]}")
    return done.stdout


def ensure_base() -> str:
    """Make sure that buildah has the base image of our Dockerfile, and return its name.

    mmdebstrap builds it from the host's Debian mirror, so no image registry is needed.

    Raises:
        ClusterError: a package is missing, mmdebstrap or buildah failed.
    """
    packages.ensure(packages.IMAGE_NEEDED)
    known = subprocess.run(["buildah", "inspect", "--type", "image", BASE],
                           capture_output=True, check=False)  # fmt: skip
    if known.returncode == 0:
        return BASE
    archive = _folder() / f"debian-bookworm-{_short_hash((BASE_PACKAGES, BASE_WITHOUT))}.oci.tar"
    if not archive.exists():
        print("building the base image with mmdebstrap …", flush=True)
        with tempfile.TemporaryDirectory(dir=archive.parent) as temporary:
            layer = Path(temporary) / "root.tar"
            include = f"--include={','.join(BASE_PACKAGES)}"
            without = [f"--dpkgopt=path-exclude={pattern}" for pattern in BASE_WITHOUT]
            without.append("--dpkgopt=path-include=/usr/share/doc/*/copyright")
            argv = ("mmdebstrap", "--quiet", "--variant=minbase", include, *without)
            _run(*argv, "bookworm", str(layer))
            environment = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
            configuration = {"Env": environment, "Cmd": ["bash"]}
            _write_archive(archive, BASE, layer, configuration)
    _run("buildah", "pull", "--quiet", f"oci-archive:{archive}")
    return BASE


def _pause() -> Path:
    source = (PAUSE_SOURCE / "main.go").read_bytes()
    archive = _folder() / f"pause-{_short_hash(source)}.oci.tar"
    if not archive.exists():
        with tempfile.TemporaryDirectory(dir=archive.parent) as temporary:
            binary = Path(temporary) / "pause"
            environment = {**os.environ, **tools.ENVIRONMENT}
            argv = ("go", "build", *tools.FLAGS[:2], "-ldflags", "-s -w", "-o", str(binary))
            _run(*argv, "main.go", cwd=PAUSE_SOURCE, environment=environment)
            files = {"pause": binary.read_bytes()}
            layer = _layer(Path(temporary) / "layer.tar", files, [])
            _write_archive(archive, PAUSE, layer, {"Entrypoint": ["/pause"], "User": "65535:65535"})
    return archive


def _busybox() -> Path:
    packages.ensure({"/bin/busybox": packages.NEEDED["/bin/busybox"]})
    program = Path("/bin/busybox").read_bytes()
    archive = _folder() / f"busybox-{_short_hash(program)}.oci.tar"
    if not archive.exists():
        listed = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True,
                                check=True)  # fmt: skip
        files = {
            "bin/busybox": program,
            "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
            "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
        }
        with tempfile.TemporaryDirectory(dir=archive.parent) as temporary:
            applets = [name for name in listed.stdout.split() if name != "busybox"]
            layer = _layer(Path(temporary) / "layer.tar", files, applets)
            configuration = {"Env": ["PATH=/bin"], "Cmd": ["sh"]}
            _write_archive(archive, BUSYBOX, layer, configuration)
    return archive


def _folder() -> Path:
    folder = layout.cache_folder() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _short_hash(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]


def _layer(path: Path, files: Mapping[str, bytes], applets: Sequence[str]) -> Path:
    """Write a root filesystem: programs, links to busybox, and the usual empty folders."""
    with tarfile.open(path, "w") as tar:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("root", 0o700)):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o644 if name.startswith("etc/") else 0o755
            tar.addfile(entry, io.BytesIO(content))
        for applet in applets:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return path


def _write_archive(archive: Path, name: str, layer: Path, configuration: Mapping[str, Any]) -> None:
    """Write an image of one layer as an OCI archive, under another name first."""
    with layer.open("rb") as file:
        layer_digest = hashlib.file_digest(file, "sha256").hexdigest()
    config = _json(
        {
            "architecture": _architecture(),
            "os": "linux",
            "config": configuration,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
            # one entry for each layer, or buildah refuses to build on the image
            "history": [{"created_by": "hack/cluster"}],
        }
    )
    kind = "application/vnd.oci.image"
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": _descriptor(f"{kind}.config.v1+json", _digest(config), len(config)),
            "layers": [
                _descriptor(f"{kind}.layer.v1.tar", layer_digest, layer.stat().st_size),
            ],
        }
    )
    entry = _descriptor(f"{kind}.manifest.v1+json", _digest(manifest), len(manifest))
    # the first is read by buildah, the second by containerd
    names = {"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name}
    index = _json({"schemaVersion": 2, "manifests": [{**entry, "annotations": names}]})
    temporary = archive.with_suffix(f".{os.getpid()}")
    with tarfile.open(temporary, "w") as tar:
        for path, content in (
            ("oci-layout", _json({"imageLayoutVersion": "1.0.0"})),
            ("index.json", index),
            (f"blobs/sha256/{_digest(config)}", config),
            (f"blobs/sha256/{_digest(manifest)}", manifest),
        ):
            info = tarfile.TarInfo(path)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        tar.add(layer, f"blobs/sha256/{layer_digest}")
    temporary.rename(archive)


def _descriptor(media_type: str, digest: str, size_bytes: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size_bytes}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def _architecture() -> str:
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _run(*argv: str, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        argv, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ClusterError(f"{argv[0]} failed: {done.stderr.strip()[-800:]}")
