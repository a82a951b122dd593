"""What the rest of the program may ask of an API server: the seam that tests replace."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, Self

from controller.api.objects import Obj
from controller.api.resources import Resource

FIELD_MANAGER = "drey"
CONNECT_S = 3.0
READ_S = 15.0
WRITE_S = 4.5
"""Below the 5 s between the end of a leader's renewing and the end of its Lease (engine.election):
a write that a leader sent while it was one is over before the next one begins."""
LIST_S = 60.0
INACTIVITY_S = 150.0
"""Bookmarks come about once a minute; two may be missed before a watch counts as dead."""


class EventStream(Protocol):
    """Watch events as the server sent them: mappings with `type` and `object`."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def __iter__(self) -> Iterator[Any]: ...
    def close(self) -> None:
        """End the stream from any thread; the reader sees its normal end at once."""


class KubeClient(Protocol):
    """What the rest of the program may ask of an API server. Each method raises `KubeError`."""

    def get(
        self, resource: Resource, namespace: str, name: str, *, timeout_s: float = READ_S
    ) -> Obj:
        """Return one object; NotFound when there is none, NotServed when nobody knows the kind."""

    def list_page(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 500,
        continue_token: str = "",
        resource_version: str = "",
        metadata_only: bool = False,
        timeout_s: float = LIST_S,
    ) -> Obj:
        """Return one page of a list, checked to be one; limit 0 means everything."""

    def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str,
        timeout_s: int,
        metadata_only: bool = False,
        inactivity_s: float = INACTIVITY_S,
    ) -> EventStream:
        """Open a watch with bookmarks; the server ends it after `timeout_s`."""

    def create(
        self, resource: Resource, namespace: str, body: Obj, *, timeout_s: float = WRITE_S
    ) -> Obj:
        """Create an object and return it."""

    def apply(
        self,
        resource: Resource,
        body: Obj,
        *,
        field_manager: str = FIELD_MANAGER,
        force: bool = True,
        timeout_s: float = WRITE_S,
    ) -> Obj:
        """Server-side apply; creates the object where it does not exist and carries no uid."""

    def put(self, resource: Resource, body: Obj, *, timeout_s: float = WRITE_S) -> Obj:
        """Replace an object; Conflict when its resourceVersion is not the current one."""

    def put_status(self, resource: Resource, body: Obj, *, timeout_s: float = WRITE_S) -> Obj:
        """Replace the status; the body needs name, namespace, uid and resourceVersion."""

    def json_patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        ops: Sequence[Obj],
        *,
        timeout_s: float = WRITE_S,
    ) -> Obj:
        """Apply RFC 6902 operations; a failed `test` is Invalid."""

    def merge_patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: Obj,
        *,
        timeout_s: float = WRITE_S,
    ) -> Obj:
        """Apply an RFC 7386 merge patch."""

    def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        propagation: str = "Background",
        timeout_s: float = WRITE_S,
    ) -> None:
        """Delete; Conflict when the object has another uid than the one given."""
