"""Build the project's images and load them into the cluster; nothing is done twice."""

import argparse
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# `python3 hack/image` puts only hack/image on the path.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hack.cluster.errors import ClusterError
from hack.image import cluster, images
from hack.image.errors import ImageError

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        with _lock():
            return _run(options)
    except (ImageError, ClusterError, PermissionError) as error:
        print(f"image: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    environment = os.environ.get
    parser = argparse.ArgumentParser(prog="hack/image", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for command, text in (
        ("build", "build the image when its inputs changed"),
        ("load", "build it when needed, and import it into the cluster"),
        ("info", "print name, version, id and state as JSON"),
    ):
        sub = commands.add_parser(command, help=text, description=text)
        sub.add_argument("which", nargs="?", choices=("drey", "pushgateway"), default="drey")
        sub.add_argument(
            "--image",
            default=environment("IMAGE"),
            help="name of Drey's image (default: $IMAGE, else drey.dev/drey:<version>)",
        )
        sub.add_argument(
            "--provider",
            choices=("auto", "kind", "native"),
            default=environment("PROVIDER") or "auto",
            help="kind builds with Docker, native with Buildah (default: $PROVIDER, else auto)",
        )
        sub.add_argument(
            "--base",
            default=environment("BASE"),
            help="base image (default: $BASE, else Debian 12 of the registry or of hack/cluster)",
        )
        if command == "build":
            sub.add_argument(
                "--load-if-up",
                action="store_true",
                help="then import it into the cluster, if one runs",
            )
    return parser


def _run(options: argparse.Namespace) -> int:
    provider = cluster.provider(options.provider)
    image: images.Image
    if options.which == "pushgateway":
        if provider == "kind":
            print(f"{images.PUSHGATEWAY}: nothing to do, kind pulls it from its registry")
            return 0
        image = images.Pushgateway(ROOT)
    else:
        image = images.Drey(ROOT, name=options.image, provider=provider, base=options.base)
    if options.command == "info":
        print(json.dumps(image.info(), indent=2))
        return 0
    _build(image)
    if options.command == "load" or (options.load_if_up and cluster.is_up(provider)):
        _load(image, provider)
    return 0


def _build(image: images.Image) -> None:
    if image.is_current():
        print(f"{image.name}: up to date")
        return
    print(f"{image.name}: building …", flush=True)
    start = time.monotonic()
    image.build()
    size_mb = image.built().size_bytes / 1e6
    print(f"{image.name}: built in {time.monotonic() - start:.1f} s, {size_mb:.0f} MB uncompressed")


def _load(image: images.Image, provider: str) -> None:
    if provider == "native" and cluster.loaded_id(image.name) == image.built().id:
        print(f"{image.name}: the cluster has it")
        return
    start = time.monotonic()
    archive = image.save()
    try:
        cluster.load(archive)
    finally:
        archive.unlink(missing_ok=True)
    print(f"{image.name}: loaded in {time.monotonic() - start:.1f} s")


@contextmanager
def _lock() -> Iterator[None]:
    """Let one process at a time work in build/image."""
    folder = ROOT / "build" / "image"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another hack/image is at work, waiting …", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
