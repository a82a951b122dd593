"""What an image is made of: its version, its files, and one hash over all of it.

The hash is stored in the image as label `drey.dev/inputs`. An image whose label equals the hash of
the working tree need not be built again; there is no stamp file beside it that could be wrong.
"""

import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

LABEL = "drey.dev/inputs"
SOURCES = ("controller", "runner")
LOCKS = ("hack/requirements.txt", "hack/requirements-build.txt")
FILES = (
    "Dockerfile",
    ".dockerignore",
    *LOCKS,
    "hack/tools/restic/go.mod",
    "hack/tools/restic/go.sum",
)
DEFAULT_REPOSITORY = "drey.dev/drey"
# glibc of Debian 12 is 2.36; wheels are published for 2.17 (also called manylinux2014) and later
_GLIBC_MINORS = range(36, 16, -1)


def version(pyproject: str) -> str:
    """Return `project.version` of the text of pyproject.toml."""
    return str(tomllib.loads(pyproject)["project"]["version"])


def default_image(pyproject: str) -> str:
    """Return the image name that is used when none is asked for."""
    return f"{DEFAULT_REPOSITORY}:{version(pyproject)}"


def is_source(path: Path) -> bool:
    """Say whether a file below a source folder gets into the image (.dockerignore agrees)."""
    return "__pycache__" not in path.parts and path.suffix != ".pyc"


def read(root: Path) -> dict[str, bytes]:
    """Read all files that decide the image: path relative to the root → content.

    Raises:
        FileNotFoundError: one of `FILES` is missing.
    """
    sources = (
        path
        for folder in SOURCES
        for path in (root / folder).rglob("*")
        if path.is_file() and is_source(path)
    )
    paths = [*(root / name for name in FILES), *sources]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def digest(files: Mapping[str, bytes], parameters: Iterable[str] = ()) -> str:
    """Return a hash that changes when a path, a content or a parameter does.

    Args:
        files: path → content, in any order.
        parameters: what else decides the result, in a fixed order.
    """
    state = hashlib.sha256()
    # repr() delimits, so that no two different inputs give one text
    for item in (*sorted(files.items()), *parameters):
        state.update(repr(item).encode())
    return state.hexdigest()


def wheel_platforms(architecture: str) -> list[str]:
    """Return the wheel platform tags that Debian 12 runs, the best first.

    Args:
        architecture: as in wheel tags, `x86_64` or `aarch64`.
    """
    tags = [f"manylinux_2_{minor}_{architecture}" for minor in _GLIBC_MINORS]
    return [*tags, f"manylinux2014_{architecture}"]


def revision_text(commit: str, changes: str) -> str:
    """Return the revision label: the last commit of the inputs, `-dirty` with changes on top.

    Args:
        commit: output of `git log -1 --format=%H -- <inputs>`; empty outside of a clone.
        changes: output of `git status --porcelain -- <inputs>`.
    """
    if not commit.strip():
        return "unknown"
    return commit.strip() + ("-dirty" if changes.strip() else "")
