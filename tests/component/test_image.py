"""Facts about the built image. Needs root and Buildah; builds the image when it is not current."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Outside of these and of our packages, the restic path may import nothing (D31).
OURS = {"runner", "controller"}
PROGRAMS = ("runner", "controller")


@dataclass(frozen=True)
class Image:
    """The image, mounted."""

    root: Path
    config: dict[str, Any]  # of the OCI configuration: User, Entrypoint, Env, Labels

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a program as the image's user on a read-only root, as the kubelet would."""
        # a mount namespace of its own: the read-only mount is gone with the process
        script = (
            'root=$1 user=$2; shift 2; mount --bind "$root" "$root" && '
            'mount -o remount,bind,ro "$root" && exec chroot --userspec="$user" "$root" "$@"'
        )
        shell = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script, "sh"]
        environment = dict(item.split("=", 1) for item in self.config["Env"])
        return subprocess.run(
            [*shell, str(self.root), self.config["User"], *argv],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """Build the image when needed, and mount it."""
    tool = [sys.executable, str(ROOT / "hack" / "image")]
    environment = {**os.environ, "PROVIDER": "native"}
    subprocess.run([*tool, "build"], env=environment, check=True)
    listed = subprocess.run([*tool, "info"], env=environment, capture_output=True, check=True)
    name = json.loads(listed.stdout)["image"]
    inspected = json.loads(_buildah("inspect", "--type", "image", name))
    container = _buildah("from", "--pull-never", name).strip()
    try:
        root = Path(_buildah("mount", container).strip())
        yield Image(root, inspected["OCIv1"]["config"])
    finally:
        _buildah("rm", container)


def _buildah(*arguments: str) -> str:
    done = subprocess.run(["buildah", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def test_user_is_numeric_and_not_root(image: Image) -> None:
    """The kubelet can check runAsNonRoot only against a number."""
    assert image.config["User"] == "65534:65534"
    assert image.run("id", "-u").stdout.strip() == "65534"


def test_root_is_read_only_in_these_tests(image: Image) -> None:
    """Guards the other tests: not even a folder that the user owns can be written."""
    done = image.run("touch", "/tmp/x")  # noqa: S108 - the image's /tmp, which must not be writable
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_works_without_write_access(image: Image, program: str) -> None:
    """Both programs start as an unprivileged user on a read-only root."""
    done = image.run("python3", "-I", "-m", program, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_entrypoint_is_the_runner(image: Image) -> None:
    """Jobs give arguments only; -I keeps the working folder and PYTHON* variables out."""
    assert image.config["Entrypoint"] == ["python3", "-I", "-m", "runner"]
    done = image.run(*image.config["Entrypoint"], "--help")
    assert done.returncode == 0, done.stderr


def test_runner_help_imports_the_standard_library_only(image: Image) -> None:
    """D31: the start of a Job does not pay for a Kubernetes client."""
    done = image.run("python3", "-I", "-X", "importtime", "-m", "runner", "--help")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    modules = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines[1:]}
    known = {*sys.stdlib_module_names, *OURS, "sitecustomize", "apport_python_hook"}
    assert "argparse" in modules
    # Debian's builds add _sysconfigdata__*, which the list of module names leaves out
    assert {m for m in modules - known if not m.startswith("_")} == set()


def test_dependencies_import(image: Image) -> None:
    """What the Dockerfile leaves out of the wheels is not needed by what we use of them."""
    wanted = "kubernetes.client, kubernetes.config, kubernetes.dynamic, pydantic, structlog"
    code = f"import {wanted}, prometheus_client, tenacity, durationpy, urllib3, yaml"
    done = image.run("python3", "-I", "-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr


def test_every_module_is_compiled_ahead(image: Image) -> None:
    """A read-only root cannot cache bytecode: what is missing is compiled at every start."""
    folder = image.root / "usr/local/lib/python3.11/dist-packages"
    sources = [path for package in PROGRAMS for path in (folder / package).rglob("*.py")]
    assert sources
    for source in sources:
        compiled = source.parent / "__pycache__" / f"{source.stem}.cpython-311.pyc"
        # PEP 552: flags 1 = hash-based and not checked, so that file times do not matter
        assert compiled.read_bytes()[4:8] == b"\x01\x00\x00\x00", source


def test_image_has_the_sources_of_this_checkout(image: Image) -> None:
    """`current` means what it says: the packages in the image are byte for byte ours."""
    folder = image.root / "usr/local/lib/python3.11/dist-packages"
    for package in PROGRAMS:
        ours = {p.relative_to(ROOT): p.read_bytes() for p in (ROOT / package).rglob("*.py")}
        built = {p.relative_to(folder): p.read_bytes() for p in (folder / package).rglob("*.py")}
        assert built == ours


def test_restic_is_the_pinned_version(image: Image) -> None:
    """The JSON and the exit codes that the runner reads are those of 0.19.1."""
    done = image.run("/bin/restic", "version")
    assert done.stdout.startswith("restic 0.19.1 "), done.stderr


def test_no_file_is_setuid(image: Image) -> None:
    """Nothing in the image can raise privileges."""
    modes = {path: path.lstat().st_mode for path in image.root.rglob("*") if not path.is_symlink()}
    raised = [p for p, m in modes.items() if stat.S_ISREG(m) and m & (stat.S_ISUID | stat.S_ISGID)]
    assert raised == []


@pytest.mark.parametrize("name", ["gcc", "cc", "make", "go", "pip", "pip3", "curl", "wget"])
def test_no_build_tools(image: Image, name: str) -> None:
    """The image has no compiler, installer or downloader."""
    assert image.run("sh", "-c", f"command -v {name}").returncode != 0


@pytest.mark.parametrize("module", ["pip", "setuptools"])
def test_no_installer_modules(image: Image, module: str) -> None:
    """Packages cannot be added with what the image contains."""
    done = image.run("python3", "-I", "-c", f"import {module}")
    assert f"No module named '{module}'" in done.stderr


def test_certificates_are_there(image: Image) -> None:
    """Restic verifies S3 and REST servers against Debian's CA bundle."""
    assert b"BEGIN CERTIFICATE" in (image.root / "etc/ssl/certs/ca-certificates.crt").read_bytes()


def test_labels(image: Image) -> None:
    """Title, version, revision and licence are told in the standard keys."""
    prefix = "org.opencontainers.image"
    labels = image.config["Labels"]
    assert labels[f"{prefix}.title"] == "Drey"
    assert labels[f"{prefix}.licenses"] == "Apache-2.0"
    assert f'version = "{labels[f"{prefix}.version"]}"' in (ROOT / "pyproject.toml").read_text()
    assert labels[f"{prefix}.revision"]
