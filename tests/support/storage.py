"""What was asked of the S3 server, from its access log.

restic reads `config` of a repository exactly once in each process that opens one (`HEAD`, then
`GET`: measured with 0.19.1 for backup, forget with and without prune, check, stats, snapshots,
restore, unlock, tag, cat and list; `init` only writes it). So the number of those GETs is the
number of restic processes, whatever started them.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

_LINE = re.compile(r"\[(?P<time>[^]]+)\] \S+ \S+ \S+ s3_(?P<verb>\w+) (?P<key>\S+) ")


class AccessLog:
    """The log of the plain S3 server from the moment of construction on."""

    def __init__(self, s3: Mapping[str, Any]) -> None:
        self._path = Path(s3["access_log"])
        self._offset = self._path.stat().st_size if self._path.exists() else 0

    def requests(self, bucket: str) -> list[tuple[float, str, str]]:
        """Return Unix second, verb (`GetObject`) and key of each request to a bucket."""
        found = []
        with self._path.open("rb") as lines:
            lines.seek(self._offset)
            for raw in lines:
                line = raw.decode(errors="replace")
                match = _LINE.search(line)
                if match and f" {bucket} " in line[: match.start() + 1]:
                    moment = datetime.strptime(match["time"], "%d/%B/%Y:%H:%M:%S %z")
                    found.append((moment.timestamp(), match["verb"], match["key"]))
        return found

    def restic_processes(self, bucket: str, repository: str) -> int:
        """Return how many restic processes opened a repository."""
        opened = ("GetObject", f"{repository}/config")
        return sum((verb, key) == opened for _, verb, key in self.requests(bucket))
