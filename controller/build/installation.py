"""How this operator is installed, as far as the objects that it creates depend on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_DEFAULT_REGISTRY = "docker.io/library"
_DEFAULT_TAG = "latest"
DEFAULT_REQUESTS: Mapping[str, str] = MappingProxyType({"cpu": "100m", "memory": "128Mi"})


@dataclass(frozen=True, slots=True)
class Installation:
    """The settings that end up in Jobs and CronJobs.

    `image` is the controller's own: a container counts as ours only when it runs this image.
    `namespace` is the controller's. `image_pull_secrets` are names of Secrets that must exist in
    the namespaces of the Jobs. `requests` and `limits` are the defaults of every container.
    """

    image: str
    namespace: str
    pushgateway_url: str = ""
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    requests: Mapping[str, str] = field(default_factory=lambda: DEFAULT_REQUESTS)
    limits: Mapping[str, str] = field(default_factory=dict)

    @property
    def docker_registry(self) -> str:
        """Return what stands before the last slash of the image: `STASH_DOCKER_REGISTRY`."""
        return self.image.rpartition("/")[0] or _DEFAULT_REGISTRY

    @property
    def docker_image(self) -> str:
        """Return the image's name: `STASH_DOCKER_IMAGE`. Of a digest it ends in `@sha256`."""
        last = self.image.rpartition("/")[2]
        return last.rpartition(":")[0] or last

    @property
    def image_tag(self) -> str:
        """Return the tag: `STASH_IMAGE_TAG`. Of a digest it is the hex digits."""
        name, _, tag = self.image.rpartition("/")[2].rpartition(":")
        return tag if name else _DEFAULT_TAG

    def is_own(self, image: str) -> bool:
        """Tell whether an image is ours, also when it was put together from its three parts."""
        joined = f"{self.docker_registry}/{self.docker_image}:{self.image_tag}"
        return image in (self.image, joined)
