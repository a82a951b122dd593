"""The pure parts of hack/image: hashing, names, commands, and the locks that are checked in."""

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hack.image import inputs
from hack.image.engine import (
    Recipe,
    buildah_argv,
    docker_argv,
    parse_buildah,
    parse_docker,
)

ROOT = Path(__file__).resolve().parents[3]
FILES = st.dictionaries(st.text(max_size=8), st.binary(max_size=8), max_size=4)
PYPROJECT = '[project]\nname = "drey"\nversion = "1.2.3"\n'
RECIPE = Recipe("debian:12", {"a": "1", "b": "two words"})


@given(FILES, FILES)
def test_equal_files_alone_have_equal_digests(one: dict[str, bytes], two: dict[str, bytes]) -> None:
    """A changed path or content changes the digest, and nothing else does."""
    assert (inputs.digest(one) == inputs.digest(two)) == (one == two)


@given(FILES)
def test_digest_does_not_depend_on_the_order_of_files(files: dict[str, bytes]) -> None:
    """The order in which a folder is listed must not cause a build."""
    backwards = dict(reversed(list(files.items())))
    assert inputs.digest(files) == inputs.digest(backwards)


def test_parameters_are_part_of_the_digest() -> None:
    """Another base image or version is another image, although the files are the same."""
    digests = {inputs.digest({}, p) for p in ([], ["ab", "c"], ["a", "bc"], ["abc"])}
    assert len(digests) == 4


def test_read_takes_sources_and_leaves_bytecode(tmp_path: Path) -> None:
    """Running Python beside the build must not cause another build."""
    for name in (*inputs.FILES, "runner/a.py", "controller/data.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    before = inputs.read(tmp_path)
    (tmp_path / "runner/__pycache__").mkdir()
    (tmp_path / "runner/__pycache__/a.cpython-311.pyc").write_text("x")
    assert inputs.read(tmp_path) == before
    assert set(before) == {*inputs.FILES, "runner/a.py", "controller/data.json"}


def test_read_names_a_missing_input(tmp_path: Path) -> None:
    """Without a lock nothing is built from what happens to be there."""
    with pytest.raises(FileNotFoundError, match="Dockerfile"):
        inputs.read(tmp_path)


def test_default_image_carries_the_version() -> None:
    """The name that the manifests use is derived from pyproject.toml."""
    assert inputs.default_image(PYPROJECT) == "drey.dev/drey:1.2.3"


@pytest.mark.parametrize(
    ("commit", "changes", "expected"),
    [("", "", "unknown"), ("abc\n", "", "abc"), ("abc\n", " M Dockerfile\n", "abc-dirty")],
)
def test_revision_tells_changes_on_top(commit: str, changes: str, expected: str) -> None:
    """An image of uncommitted files does not claim to be the commit's."""
    assert inputs.revision_text(commit, changes) == expected


def test_no_wheel_for_a_newer_glibc_is_accepted() -> None:
    """Debian 12 has glibc 2.36: a wheel for 2.37 would fail at its first import."""
    minors = [
        int(m) for tag in inputs.wheel_platforms("x86_64") for m in re.findall(r"_2_(\d+)_", tag)
    ]
    assert max(minors) == 36
    assert min(minors) == 17
    assert minors == sorted(minors, reverse=True)


def test_both_builders_get_the_same_recipe() -> None:
    """One Dockerfile for Docker and Buildah: base and labels do not differ between them."""
    flags = ["--build-arg", "BASE=debian:12", "--label", "a=1", "--label", "b=two words"]
    for argv in (buildah_argv("x:1", RECIPE), docker_argv("podman", "x:1", RECIPE)):
        start = argv.index("--build-arg")
        assert argv[start:] == [*flags, "--tag", "x:1", "."]


def test_buildah_pulls_nothing_and_fixes_times() -> None:
    """The native build needs no registry, and equal content gives equal layers."""
    argv = buildah_argv("x:1", RECIPE)
    assert "--pull-never" in argv
    assert argv[argv.index("--timestamp") + 1] == "0"


def test_answers_of_both_builders_are_read() -> None:
    """Id without prefix, labels (absent in an image without any), sum of the layers."""
    manifest = '{"layers": [{"size": 3}, {"size": 4}]}'
    answer = {"FromImageID": "ab", "Manifest": manifest, "OCIv1": {"config": {}}}
    built = parse_buildah(answer)
    assert (built.id, dict(built.labels), built.size_bytes) == ("ab", {}, 7)
    built = parse_docker([{"Id": "sha256:cd", "Config": {"Labels": {"k": "v"}}, "Size": 9}])
    assert (built.id, dict(built.labels), built.size_bytes) == ("cd", {"k": "v"}, 9)


@pytest.mark.parametrize("name", inputs.LOCKS)
def test_locks_have_hashes_and_no_host(name: str) -> None:
    """Every requirement is pinned and hashed; where it was fetched from stays out of the file."""
    text = (ROOT / name).read_text()
    joined = text.replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line and not line.startswith("#")]
    assert lines
    for line in lines:
        assert re.match(r"[a-z0-9-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line
    assert "://" not in text
    assert "index" not in text


def test_lock_covers_the_dependencies_of_the_project() -> None:
    """A dependency that is added to pyproject.toml alone would be missing in the image."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[<>=~! \[;]", text)[0].lower() for text in project["dependencies"]}
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / inputs.LOCKS[0]).read_text(), re.MULTILINE))
    assert wanted <= locked


def test_dockerignore_lets_every_copied_path_through() -> None:
    """What the Dockerfile copies from the context is on the allowlist, and nothing more."""
    copied = set()
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        words = [word for word in line.split() if not word.startswith("--chmod")]
        if words[:1] == ["COPY"] and not words[1].startswith("--from"):
            copied |= {word.rstrip("/") for word in words[1:-1]}
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert copied == {line[1:] for line in lines if line.startswith("!")}
