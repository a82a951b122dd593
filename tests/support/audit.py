"""What was asked of the API server, read from its audit log and from nowhere else.

The log is written before a request is answered (`--audit-log-mode=blocking`), one line for each
request, at level Metadata: who, which verb, which object, when. Bodies are not in it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
OPERATOR = "system:serviceaccount:drey:drey"


@dataclass(frozen=True, slots=True)
class Request:
    """One answered request. Times are Unix seconds; `resource` is `jobs` or `pods/status`."""

    user: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    begun_s: float
    ended_s: float

    @property
    def is_write(self) -> bool:
        """Tell whether it could change something; refused ones count too."""
        return self.verb in WRITES

    def __str__(self) -> str:
        """Return it as a person reads it, in a failed assertion."""
        user = self.user.removeprefix("system:serviceaccount:")
        return f"{self.verb} {self.resource} {self.name} by {user}: {self.code}"


class Audit:
    """The log from the moment of construction on."""

    def __init__(self, path: str | None) -> None:
        if path is None:
            raise AssertionError("this cluster has no audit log that can be read: use native")
        self._path = Path(path)
        self._offset = self._path.stat().st_size
        self._inode = self._path.stat().st_ino

    def requests(self) -> list[Request]:
        """Return what was answered since then, in the order of the answers."""
        return sorted(self._read(), key=lambda request: request.ended_s)

    def of_drey(self, namespace: str) -> list[Request]:
        """Return what Drey asked about objects of a namespace: its operator and its triggers.

        Leases are left out. A watch is one long request.
        """
        own = f"system:serviceaccount:{namespace}:"
        return [
            request
            for request in self.requests()
            if request.namespace == namespace
            and (request.user == OPERATOR or request.user.startswith(own))
            and request.resource != "leases"
        ]

    def _read(self) -> Iterator[Request]:
        """Read on where the log was then; that file has another name once it is full."""
        files = self._path.parent.glob(f"{self._path.stem}*{self._path.suffix}")
        (first,) = [path for path in files if path.stat().st_ino == self._inode]
        yield from _lines(first, self._offset)
        if first != self._path:
            yield from _lines(self._path, 0)


def _lines(path: Path, offset: int) -> Iterator[Request]:
    with path.open("rb") as lines:
        lines.seek(offset)
        for line in lines:
            if not line.endswith(b"\n"):
                return  # half written
            yield _request(json.loads(line))


def _request(entry: dict[str, Any]) -> Request:
    ref = entry.get("objectRef") or {}
    resource = str(ref.get("resource") or "")
    if ref.get("subresource"):
        resource += f"/{ref['subresource']}"
    return Request(
        user=entry["user"]["username"],
        verb=entry["verb"],
        resource=resource,
        namespace=str(ref.get("namespace") or ""),
        name=str(ref.get("name") or ""),
        code=int((entry.get("responseStatus") or {}).get("code") or 0),
        begun_s=unix_s(entry["requestReceivedTimestamp"]),
        ended_s=unix_s(entry["stageTimestamp"]),
    )


def unix_s(text: str) -> float:
    """Return the Unix seconds of a time that the API server wrote."""
    return datetime.fromisoformat(text).timestamp()
