"""The operator's image in its three parts."""

import pytest

from controller.build.installation import Installation


@pytest.mark.parametrize(
    ("image", "registry", "name", "tag"),
    [
        ("registry.example/team/drey:1.2.3", "registry.example/team", "drey", "1.2.3"),
        ("localhost:5000/drey:1", "localhost:5000", "drey", "1"),
        ("localhost:5000/drey", "localhost:5000", "drey", "latest"),
        ("drey:1", "docker.io/library", "drey", "1"),
        ("r.example/drey@sha256:abc", "r.example", "drey@sha256", "abc"),
        ("r.example/drey:1@sha256:abc", "r.example", "drey:1@sha256", "abc"),
    ],
)
def test_three_parts_make_our_image_again(image: str, registry: str, name: str, tag: str) -> None:
    """A Function that puts the image together from Stash's variables still runs our image."""
    found = Installation(image=image, namespace="drey-system")
    assert (found.docker_registry, found.docker_image, found.image_tag) == (registry, name, tag)
    assert found.is_own(image)
    assert found.is_own(f"{registry}/{name}:{tag}")


@pytest.mark.parametrize("image", ["", "registry.example/drey", "evil.example/drey:1.2.3"])
def test_other_images_are_not_ours(image: str) -> None:
    """Nothing but the very image counts as ours."""
    ours = Installation(image="registry.example/drey:1.2.3", namespace="drey-system")
    assert not ours.is_own(image)
