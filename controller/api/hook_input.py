"""What the controller tells a Job that runs one hook (`runner hook`, D17, stash.md 3.9).

The runner finds the pods itself when it runs, so that the document can be written before they
exist. Standard library only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from controller.api.document import decoded, encoded
from controller.api.job_input import ENVIRONMENT_VARIABLE, SCHEMA


@dataclass(frozen=True, slots=True)
class HttpInput:
    """A GET or, with `is_post`, a POST. Without `host` it goes to the IP of each Ready pod.

    `port` is a number, or the name of a port of the container. `form` becomes an urlencoded body
    and wins over `body`. TLS certificates are not verified, as for a probe of the kubelet.
    """

    port: str
    path: str
    scheme: str = "HTTP"
    host: str = ""
    headers: tuple[tuple[str, ...], ...] = ()
    is_post: bool = False
    body: str = ""
    form: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TcpInput:
    """Succeeds when a connection is made. Without `host` it goes to the IP of each Ready pod."""

    port: str
    host: str = ""


@dataclass(frozen=True, slots=True)
class HookInput:
    """One hook: `exec`, `http_get`, `http_post`, `tcp`, those that are given, in that order.

    The pods are those of `namespace` that match `label_selector` and are Ready; or, when `claim` is
    given, those that mount that claim. None Ready is a failure when a handler needs a pod: the
    application would not be quiesced. `also_unready` adds pods that run without being Ready: what
    a first hook froze may fail its readiness probe, and the second one has to thaw it. It also
    waits for pods whose container does not run yet, or not again, looks for those that take the
    place of pods that go, and lets a command run again whose end nobody knows.
    A handler acts on all pods at once, also when it fails in one; the next handler then does not.
    `container` is empty for the pod's first. `timeout_s` is for the hook as a whole.
    The report has one host, `hostname` as given, with reason HookFailed, HookTimedOut, NoReadyPod
    or, with `also_unready`, HookLost when it failed. HookLost says that a pod gave no answer.
    """

    hostname: str
    namespace: str
    label_selector: str = ""
    claim: str = ""
    container: str = ""
    command: tuple[str, ...] = ()
    http_get: HttpInput | None = None
    http_post: HttpInput | None = None
    tcp: TcpInput | None = None
    also_unready: bool = False
    timeout_s: int = 300
    report_bytes: int = 4096
    schema: int = field(default=SCHEMA)

    @property
    def hostnames(self) -> tuple[str, ...]:
        """Return the one host of the report."""
        return (self.hostname,)

    def encode(self) -> str:
        """Return the document, with sorted keys, so that equal inputs give equal Jobs."""
        return encoded(self)

    @classmethod
    def decode(cls, text: str) -> Self:
        """Parse the document.

        Raises:
            ValueError: it is no JSON, or of another schema, or a field is missing or unknown.
        """
        return decoded(cls, text, name=ENVIRONMENT_VARIABLE, schema=SCHEMA)
