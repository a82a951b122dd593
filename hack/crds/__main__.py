"""Make the CustomResourceDefinitions in manifests/crds, or check that they are up to date."""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# `python3 hack/crds` puts only hack/crds on the path.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hack.crds import core, manifest, paths
from hack.crds.kinds import KINDS

CRDS = Path(__file__).resolve().parents[2] / "manifests" / "crds"


def write(folder: Path) -> int:
    """Write all files; returns the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = manifest.files()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")
        print(f"{folder / name}: {len(text.encode()) // 1024} KiB")
    for stray in _strays(folder, wanted):
        stray.unlink()
        print(f"{stray}: removed")
    return 0


def check(folder: Path) -> int:
    """Compare all files with what would be written; returns the exit code."""
    wanted = manifest.files()
    stale = [
        folder / name
        for name, text in wanted.items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]
    stale += _strays(folder, wanted)
    for path in stale:
        print(f"{path}: not what hack/crds makes; run `python3 hack/crds`", file=sys.stderr)
    return 1 if stale else 0


def _strays(folder: Path, wanted: dict[str, str]) -> list[Path]:
    return sorted(path for path in folder.glob("*.yaml") if path.name not in wanted)


def roots() -> set[str]:
    """Names of the Kubernetes types that the kinds embed."""
    parts = [part for kind in KINDS for part in (kind.spec, kind.status)]
    return {name for part in parts for name in core.references(part)}


def refresh(version: str) -> int:
    """Write core.json anew; returns the exit code."""
    try:
        core.refresh(roots(), version)
    except (OSError, subprocess.CalledProcessError, core.UnknownTypeError) as error:
        print(
            f"cannot refresh {core.CORE_FILE} from {core.MODULE}@{version}: {error}",
            file=sys.stderr,
        )
        return 1
    print(f"{core.CORE_FILE}: {len(core.load())} types of {core.MODULE}@{version}")
    return 0


def show_paths(kind_name: str) -> int:
    """Print a kind's field list; returns the exit code."""
    definitions = core.load()
    for kind in KINDS:
        if kind_name.lower() in {kind.name.lower(), kind.plural}:
            print("\n".join(paths.flatten(manifest.schema(kind, definitions))))
            return 0
    known = ", ".join(kind.name for kind in KINDS)
    print(f"no kind {kind_name}: known are {known}", file=sys.stderr)
    return 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python3 hack/crds", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if out of date")
    commands = parser.add_subparsers(dest="command")
    refreshing = commands.add_parser("refresh", help="take Kubernetes' own types anew: core.json")
    refreshing.add_argument(
        "--version", default="v1.36.3", help="of k8s.io/kubernetes (default: %(default)s)"
    )
    listing = commands.add_parser("paths", help="print every field path of a kind")
    listing.add_argument("kind", help="for example backupsession")
    options = parser.parse_args(arguments)
    if options.command == "refresh":
        return refresh(options.version)
    if options.command == "paths":
        return show_paths(options.kind)
    return check(CRDS) if options.check else write(CRDS)


if __name__ == "__main__":
    sys.exit(main())
