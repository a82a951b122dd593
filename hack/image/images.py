"""The two images of the project: Drey's own, and Pushgateway for clusters without a registry."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hack.cluster import images as cluster_images
from hack.cluster import tools
from hack.image import cluster, context, inputs
from hack.image.engine import Buildah, Built, Docker, Engine, Recipe
from hack.image.errors import ImageError

PUSHGATEWAY = "quay.io/prometheus/pushgateway:v1.11.0"
REGISTRY_BASE = "docker.io/library/debian:bookworm-slim"
ARCHIVES = Path("build") / "image"


class Drey:
    """Our image.

    Args:
        root: the repository.
        name: with tag; None for drey.dev/drey:<version>.
        provider: `kind` or `native`.
        base: None for the provider's default.
    """

    def __init__(self, root: Path, *, name: str | None, provider: str, base: str | None) -> None:
        pyproject = (root / "pyproject.toml").read_text()
        self.name = name or inputs.default_image(pyproject)
        self._version = inputs.version(pyproject)
        self._root = root
        self._native = provider == "native"
        self._engine: Engine = Buildah() if self._native else Docker(cluster.container_engine())
        self._own_base = base is None and self._native
        self._base = base or (cluster_images.BASE if self._native else REGISTRY_BASE)

    def is_current(self) -> bool:
        """Say whether the builder has an image of exactly these inputs."""
        built = self._engine.find(self.name)
        return built is not None and built.labels.get(inputs.LABEL) == self._digest()

    def build(self) -> None:
        """Prepare build/image and build.

        Raises:
            ImageError, ClusterError: a part is missing or a step failed; with its last lines.
        """
        if self._own_base:
            cluster_images.ensure_base()
        context.prepare(self._root)
        labels = {
            "org.opencontainers.image.version": self._version,
            "org.opencontainers.image.revision": self._revision(),
            inputs.LABEL: self._digest(),
        }
        log = self._root / "build" / "image" / "build.log"
        self._engine.build(self._root, self.name, Recipe(self._base, labels), log)

    def built(self) -> Built:
        """Return the built image.

        Raises:
            ImageError: it was not built.
        """
        return _found(self._engine, self.name)

    def save(self) -> Path:
        """Write the image to an archive and return it; the caller removes it."""
        archive = self._root / ARCHIVES / "drey.tar"
        self._engine.save(self.name, archive)
        return archive

    def info(self) -> dict[str, Any]:
        """Return what `info` prints; id and size are null while the image is not built."""
        built = self._engine.find(self.name)
        return {
            "image": self.name,
            "version": self._version,
            "revision": self._revision(),
            "current": self.is_current(),
            "id": built.id if built else None,
            "size_bytes": built.size_bytes if built else None,
        }

    def _digest(self) -> str:
        base = self._engine.find(self._base)
        parameters = [self._base, base.id if base else "", self._version, context.architecture()]
        try:
            return inputs.digest(inputs.read(self._root), parameters)
        except FileNotFoundError as error:
            raise ImageError(f"{error.filename}: no such file, it is an input") from error

    def _revision(self) -> str:
        paths = [*inputs.FILES, *inputs.SOURCES]
        commit = self._git(["log", "-1", "--format=%H", "--", *paths])
        return inputs.revision_text(commit, self._git(["status", "--porcelain", "--", *paths]))

    def _git(self, arguments: Sequence[str]) -> str:
        """Return git's answer; nothing in an unpacked archive or where git is missing."""
        try:
            argv = ["git", "-C", str(self._root), *arguments]
            return subprocess.run(argv, capture_output=True, text=True, check=False).stdout
        except FileNotFoundError:
            return ""


class Pushgateway:
    """The image that the manifests name, made from the pinned Go module for the native cluster."""

    # a numeric user, as runAsNonRoot needs it; metrics are kept in memory, nothing is written
    _CONFIG = (
        "--entrypoint", '["/bin/pushgateway"]', "--cmd", "", "--user", "65534:65534",
        "--port", "9091", "--workingdir", "/",
        "--label", "org.opencontainers.image.title=Pushgateway",
        "--label", "org.opencontainers.image.licenses=Apache-2.0",
    )  # fmt: skip

    def __init__(self, root: Path) -> None:
        self.name = PUSHGATEWAY
        self._root = root
        self._engine = Buildah()

    def is_current(self) -> bool:
        """Say whether the builder has an image of exactly this binary's pins and settings."""
        built = self._engine.find(self.name)
        return built is not None and built.labels.get(inputs.LABEL) == self._digest()

    def build(self) -> None:
        """Build the binary when the cache lacks it, and the image.

        Raises:
            ImageError, ClusterError: a program is missing or a step failed.
        """
        binary = tools.ensure(["pushgateway"]) / "pushgateway"
        config = [*self._CONFIG, "--label", f"{inputs.LABEL}={self._digest()}"]
        self._engine.from_scratch(self.name, binary, config)

    def built(self) -> Built:
        """Return the built image.

        Raises:
            ImageError: it was not built.
        """
        return _found(self._engine, self.name)

    def save(self) -> Path:
        """Write the image to an archive and return it; the caller removes it."""
        archive = self._root / ARCHIVES / "pushgateway.tar"
        self._engine.save(self.name, archive)
        return archive

    def info(self) -> dict[str, Any]:
        """Return what `info` prints; id and size are null while the image is not built."""
        built = self._engine.find(self.name)
        return {
            "image": self.name,
            "current": self.is_current(),
            "id": built.id if built else None,
            "size_bytes": built.size_bytes if built else None,
        }

    def _digest(self) -> str:
        return inputs.digest({}, [tools.binaries_folder().name, *self._CONFIG])


def _found(engine: Engine, name: str) -> Built:
    built = engine.find(name)
    if built is None:
        raise ImageError(f"{name}: not built; run `python3 hack/image build`")
    return built
