"""Prepare build/image: what the Dockerfile copies that is not in the repository.

Runs outside of the image build, where a package index and Go are at hand. What is there already
and made from the same locks is kept.
"""

import platform
import shutil
import subprocess
import sys
from pathlib import Path

from hack.cluster import tools
from hack.image import inputs
from hack.image.errors import ImageError

PYTHON = "3.11"
_ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


def architecture() -> str:
    """Return the architecture of images built here, as in wheel tags.

    Raises:
        ImageError: no wheels are published for this machine.
    """
    machine = platform.machine().lower()
    if machine not in _ARCHITECTURES:
        raise ImageError(f"machine {machine}: images are built on {', '.join(_ARCHITECTURES)} only")
    return _ARCHITECTURES[machine]


def prepare(root: Path) -> None:
    """Make build/image/wheels and build/image/restic.

    Raises:
        ImageError: pip is missing, or a wheel is not served or has another hash.
        ClusterError: Go is missing, or restic does not compile.
    """
    folder = root / "build" / "image"
    folder.mkdir(parents=True, exist_ok=True)
    _prepare_wheels(root, folder)
    _copy_if_changed(tools.ensure(["restic"]) / "restic", folder / "restic")


def _prepare_wheels(root: Path, folder: Path) -> None:
    wheels, key_file = folder / "wheels", folder / "wheels.key"
    locks = {name: (root / name).read_bytes() for name in inputs.LOCKS}
    key = inputs.digest(locks, [PYTHON, architecture()])
    if wheels.is_dir() and key_file.is_file() and key_file.read_text() == key:
        return
    print("fetching wheels …", flush=True)
    key_file.unlink(missing_ok=True)
    shutil.rmtree(wheels, ignore_errors=True)
    for name in inputs.LOCKS:
        _download(root / name, wheels, root)
    key_file.write_text(key)


def _download(lock: Path, wheels: Path, root: Path) -> None:
    venv = root / ".venv" / "bin" / "python"
    python = str(venv) if venv.exists() else sys.executable
    argv = [python, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    argv += ["--only-binary", ":all:", "--python-version", PYTHON, "--implementation", "cp"]
    for tag in inputs.wheel_platforms(architecture()):
        argv += ["--platform", tag]
    argv += ["--dest", str(wheels), "--requirement", str(lock)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = "\n".join((done.stderr or done.stdout).strip().splitlines()[-10:])
        raise ImageError(f"fetching the wheels of {lock.relative_to(root)} failed:\n{lines}")


def _copy_if_changed(source: Path, target: Path) -> None:
    if not target.exists() or source.read_bytes() != target.read_bytes():
        shutil.copyfile(source, target)
