"""The mounted storage Secret: one file per key, read byte for byte (D27)."""

from collections.abc import Mapping
from pathlib import Path

LARGEST_BYTES = 1 << 20
"""Kubernetes allows no larger Secret."""


def read_secret(folder: Path) -> Mapping[str, bytes]:
    """Return the keys and values; empty when nothing is mounted.

    The kubelet's own entries (`..data` and its folder) are no keys.
    """
    try:
        names = [entry.name for entry in folder.iterdir() if not entry.name.startswith("..")]
    except FileNotFoundError:
        return {}
    return {name: _read(folder / name) for name in sorted(names) if (folder / name).is_file()}


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LARGEST_BYTES)
