"""Where images go: the cluster's own store, native or kind."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hack.cluster import images, kind, layout, tools
from hack.cluster.errors import ClusterError
from hack.image.errors import ImageError


def provider(asked: str) -> str:
    """Return `kind` or `native`; `auto` is what the cluster is that is there, else as it would be.

    Args:
        asked: `auto`, `kind` or `native`.
    """
    if asked != "auto":
        return asked
    owner = _paths().owner_file
    if owner.exists():
        return "kind" if owner.read_text() == "kind\n" else "native"
    return "kind" if kind.engine() else "native"


def container_engine() -> str:
    """Return `docker` or `podman`, whichever answers.

    Raises:
        ImageError: none does.
    """
    found = kind.engine()
    if not found:
        raise ImageError("PROVIDER=kind needs a running Docker or Podman: none answers")
    return found


def is_up(provider: str) -> bool:
    """Say whether there is a cluster of this provider that takes images."""
    paths = _paths()
    if not paths.owner_file.exists():
        return False
    if provider == "kind":
        return not kind.Kind(paths.state).complaints()
    try:
        images.ctr(paths, "version")
    except (ClusterError, FileNotFoundError):
        return False
    return True


def loaded_id(image: str) -> str | None:
    """Return the id of the image that the native cluster has under this name, or None."""
    try:
        rows = images.ctr(_paths(), "images", "ls", f"name=={image}").splitlines()[1:]
        if not rows:
            return None
        document = _content(rows[0].split()[2])
        while "manifests" in document:  # an index: of one image here
            document = _content(document["manifests"][0]["digest"])
    except ClusterError:
        return None
    return str(document["config"]["digest"]).removeprefix("sha256:")


def load(archive: Path) -> None:
    """Import an archive into the cluster.

    Raises:
        ImageError: there is no cluster, or it refused the archive.
    """
    script = layout.REPOSITORY / "hack" / "cluster"
    argv = [sys.executable, str(script), "load", str(archive)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=os.environ)
    if done.returncode:
        raise ImageError(f"loading {archive.name} failed: {(done.stderr or done.stdout).strip()}")


def _paths() -> layout.Layout:
    return layout.Layout(layout.state_folder(), tools.binaries_folder())


def _content(digest: str) -> Any:
    return json.loads(images.ctr(_paths(), "content", "get", digest))
