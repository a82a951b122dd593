"""What the controller tells a Job that creates objects (flow B): VolumeSnapshots, or claims.

The Job creates them all at once and ends; it never waits. Its report names only what could not be
created (D11), with the host as `hostname`: whether an object becomes ready is the controller's to
watch. Standard library only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from controller.api.document import decoded, encoded
from controller.api.job_input import ENVIRONMENT_VARIABLE, SCHEMA

SESSION_UID = "drey.dev/session-uid"
"""Label of VolumeSnapshots and restored claims: the uid of the session that they belong to (D21).

They have no owner: they outlive session and configuration.
"""
SESSION_NAME = "drey.dev/session"
"""Annotation of the same objects: the name of that session, which a change of them wakes."""
QUIESCED_UNTIL = "drey.dev/quiesced-until"
"""Annotation of a VolumeSnapshot before which a preBackup hook ran: the application goes on then at
the latest. What is cut later is not quiesced, and nothing else tells once the session is gone.
"""
MAX_BYTES = 96 * 1024
"""Longest document: Linux refuses an environment variable of more than 128 KiB (execve(2))."""


@dataclass(frozen=True, slots=True)
class NewObject:
    """One object to create. `body` is merged over the common one, maps within maps."""

    host: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CreationInput:
    """Everything that one Job creates, in one namespace.

    `common` is what all bodies share: apiVersion, kind, labels (SESSION_UID among them).
    A namesake that carries the session's uid in that label is this session's own: success.
    A foreign one is left alone; then the name gets `-<fallback_suffix>`, or, when that is empty,
    the host fails with reason AlreadyExists.
    `deadline` is RFC 3339 in UTC, "" for none. `report_bytes` is that of JobInput.
    """

    group: str
    version: str
    kind: str
    plural: str
    namespace: str
    session_uid: str
    common: Mapping[str, Any]
    objects: tuple[NewObject, ...]
    fallback_suffix: str = ""
    deadline: str = ""
    report_bytes: int = 4096
    schema: int = field(default=SCHEMA)

    @property
    def hostnames(self) -> tuple[str, ...]:
        """Return the hosts of all objects."""
        return tuple(item.host for item in self.objects)

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
