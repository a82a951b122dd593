"""The two images of the project: Drey's own, and Pushgateway for clusters without a registry."""

import subprocess
from abc import ABC, abstractmethod
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


class Image(ABC):
    """An image of the builder: what all of them can do.

    Args:
        root: the repository.
        name: with tag.
        engine: the builder.
        archive: name of the file to which it is saved.
    """

    def __init__(self, root: Path, name: str, engine: Engine, archive: str) -> None:
        self.name = name
        self._root = root
        self._engine = engine
        self._archive = root / ARCHIVES / archive

    @abstractmethod
    def build(self) -> None:
        """Build it.

        Raises:
            ImageError, ClusterError: a part is missing or a step failed; with its last lines.
        """

    @abstractmethod
    def _digest(self) -> str:
        """Return the digest of all its inputs."""

    @abstractmethod
    def _facts(self) -> dict[str, Any]:
        """Return what `info` prints of this image only."""

    def is_current(self) -> bool:
        """Say whether the builder has an image of exactly these inputs."""
        built = self._engine.find(self.name)
        return built is not None and built.labels.get(inputs.LABEL) == self._digest()

    def built(self) -> Built:
        """Return the built image.

        Raises:
            ImageError: it was not built.
        """
        built = self._engine.find(self.name)
        if built is None:
            raise ImageError(f"{self.name}: not built; run `python3 hack/image build`")
        return built

    def save(self) -> Path:
        """Write the image to an archive and return it; the caller removes it."""
        self._engine.save(self.name, self._archive)
        return self._archive

    def info(self) -> dict[str, Any]:
        """Return what `info` prints; id and size are null while the image is not built."""
        built = self._engine.find(self.name)
        return {
            "image": self.name,
            **self._facts(),
            "current": self.is_current(),
            "id": built.id if built else None,
            "size_bytes": built.size_bytes if built else None,
        }


class Drey(Image):
    """Our image.

    Args:
        root: the repository.
        name: with tag; None for drey.dev/drey:<version>.
        provider: `kind` or `native`.
        base: None for the provider's default.
    """

    def __init__(self, root: Path, *, name: str | None, provider: str, base: str | None) -> None:
        pyproject = (root / "pyproject.toml").read_text()
        native = provider == "native"
        engine: Engine = Buildah() if native else Docker(cluster.container_engine())
        super().__init__(root, name or inputs.default_image(pyproject), engine, "drey.tar")
        self._version = inputs.version(pyproject)
        self._own_base = base is None and native
        self._base = base or (cluster_images.BASE if native else REGISTRY_BASE)

    def build(self) -> None:
        """See Image; prepares build/image."""
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

    def _facts(self) -> dict[str, Any]:
        return {"version": self._version, "revision": self._revision()}

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


class Pushgateway(Image):
    """The image that the manifests name, made from the pinned Go module for the native cluster."""

    # a numeric user, as runAsNonRoot needs it; metrics are kept in memory, nothing is written
    _CONFIG = (
        "--entrypoint", '["/bin/pushgateway"]', "--cmd", "", "--user", "65534:65534",
        "--port", "9091", "--workingdir", "/",
        "--label", "org.opencontainers.image.title=Pushgateway",
        "--label", "org.opencontainers.image.licenses=Apache-2.0",
    )  # fmt: skip

    def __init__(self, root: Path) -> None:
        self._buildah = Buildah()
        super().__init__(root, PUSHGATEWAY, self._buildah, "pushgateway.tar")

    def build(self) -> None:
        """See Image; builds the binary when the cache lacks it."""
        binary = tools.ensure(["pushgateway"]) / "pushgateway"
        config = [*self._CONFIG, "--label", f"{inputs.LABEL}={self._digest()}"]
        self._buildah.from_scratch(self.name, binary, config)

    def _facts(self) -> dict[str, Any]:
        return {}

    def _digest(self) -> str:
        return inputs.digest({}, [tools.binaries_folder().name, *self._CONFIG])
