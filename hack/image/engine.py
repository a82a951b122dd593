"""The builders behind one small interface: Buildah (native), Docker or Podman (kind)."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hack.cluster import packages
from hack.image.errors import ImageError

# One constant for all file times: equal content gives equal layers whenever it is built.
EPOCH_S = 0


@dataclass(frozen=True)
class Built:
    """An image in the builder's storage."""

    id: str  # 64 hex digits: the digest of the image's configuration
    labels: Mapping[str, str]
    size_bytes: int  # of all layers, uncompressed


@dataclass(frozen=True)
class Recipe:
    """What a build takes besides the files."""

    base: str
    labels: Mapping[str, str]


class Engine(Protocol):
    """What this tool needs of a builder. Every method raises ImageError when the builder fails."""

    def find(self, image: str) -> Built | None:
        """Return an image of the local storage, or None."""

    def build(self, root: Path, image: str, recipe: Recipe, log: Path) -> None:
        """Build the Dockerfile of `root` under this name; the builder's output goes to `log`."""

    def save(self, image: str, archive: Path) -> None:
        """Write a docker-archive (layers uncompressed: both writing and importing are faster)."""


def buildah_argv(image: str, recipe: Recipe) -> list[str]:
    """Return the command that builds the folder that it runs in.

    chroot isolation needs no OCI runtime and works in containers; format docker keeps the image id
    the same in the archive and in the cluster.
    """
    argv = ["buildah", "bud", "--layers", "--isolation", "chroot", "--format", "docker"]
    argv += ["--timestamp", str(EPOCH_S), "--pull-never", "--force-rm"]
    return [*argv, *_flags(recipe), "--tag", image, "."]


def docker_argv(program: str, image: str, recipe: Recipe) -> list[str]:
    """Return the command that builds the folder that it runs in.

    Args:
        program: `docker` or `podman`.
        image: name with tag.
        recipe: base and labels.
    """
    return [program, "build", *_flags(recipe), "--tag", image, "."]


def _flags(recipe: Recipe) -> list[str]:
    labels = [word for item in recipe.labels.items() for word in ("--label", "=".join(item))]
    return ["--build-arg", f"BASE={recipe.base}", *labels]


class Buildah:
    """Buildah's own storage; needs root.

    Raises:
        ClusterError: buildah is missing, and could not be installed.
    """

    def __init__(self) -> None:
        packages.ensure({"buildah": packages.IMAGE_NEEDED["buildah"]})

    def find(self, image: str) -> Built | None:
        """See Engine."""
        done = _run(["buildah", "inspect", "--type", "image", image], check=False)
        return None if done.returncode else parse_buildah(json.loads(done.stdout))

    def build(self, root: Path, image: str, recipe: Recipe, log: Path) -> None:
        """See Engine. The image that had the name, and its layers, are removed."""
        before = self.find(image)
        _logged(buildah_argv(image, recipe), root, log)
        self._remove_replaced(image, before)

    def save(self, image: str, archive: Path) -> None:
        """See Engine."""
        archive.unlink(missing_ok=True)
        _run(["buildah", "push", "--quiet", image, f"docker-archive:{archive}:{image}"])

    def from_scratch(self, image: str, binary: Path, config: Sequence[str]) -> None:
        """Make an image of one static binary in /bin.

        Args:
            image: its name.
            binary: the file on the host.
            config: flags of `buildah config`.
        """
        before = self.find(image)
        container = _run(["buildah", "from", "scratch"]).stdout.strip()
        try:
            argv = ["buildah", "copy", "--quiet", "--chmod", "0755", container]
            _run([*argv, str(binary), f"/bin/{binary.name}"])
            _run(["buildah", "config", *config, container])
            argv = ["buildah", "commit", "--quiet", "--format", "docker"]
            _run([*argv, "--timestamp", str(EPOCH_S), container, image])
        finally:
            _run(["buildah", "rm", container], check=False)
        self._remove_replaced(image, before)

    def _remove_replaced(self, image: str, before: Built | None) -> None:
        after = self.find(image)
        if before and after and before.id != after.id:
            # fails while a container uses it; then its layers stay until they are pruned by hand
            _run(["buildah", "rmi", before.id], check=False)


class Docker:
    """The Docker engine, or Podman, which understands the same commands.

    Args:
        program: `docker` or `podman`.
    """

    def __init__(self, program: str) -> None:
        self._program = program

    def find(self, image: str) -> Built | None:
        """See Engine."""
        done = _run([self._program, "image", "inspect", image], check=False)
        return None if done.returncode else parse_docker(json.loads(done.stdout))

    def build(self, root: Path, image: str, recipe: Recipe, log: Path) -> None:
        """See Engine."""
        _logged(docker_argv(self._program, image, recipe), root, log)

    def save(self, image: str, archive: Path) -> None:
        """See Engine."""
        archive.unlink(missing_ok=True)
        _run([self._program, "save", "--output", str(archive), image])


def parse_buildah(answer: Mapping[str, Any]) -> Built:
    """Read the JSON of `buildah inspect --type image`."""
    manifest = json.loads(answer["Manifest"])
    labels = answer["OCIv1"]["config"].get("Labels") or {}
    size_bytes = sum(layer["size"] for layer in manifest["layers"])
    return Built(id=answer["FromImageID"], labels=labels, size_bytes=size_bytes)


def parse_docker(answer: Sequence[Mapping[str, Any]]) -> Built:
    """Read the JSON of `docker image inspect`."""
    image = answer[0]
    labels = image["Config"].get("Labels") or {}
    return Built(id=image["Id"].removeprefix("sha256:"), labels=labels, size_bytes=image["Size"])


def _run(argv: Sequence[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise ImageError(f"{' '.join(argv[:2])} failed: {_tail(done.stderr or done.stdout)}")
    return done


def _logged(argv: Sequence[str], folder: Path, log: Path) -> None:
    with log.open("w") as output:
        done = subprocess.run(argv, cwd=folder, stdout=output, stderr=output, check=False)
    if done.returncode:
        raise ImageError(f"{' '.join(argv[:2])} failed ({log}):\n{_tail(log.read_text())}")


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-15:])
