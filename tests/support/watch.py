"""Every pod that was in a namespace, also those that are gone by the time anybody asks."""

import json
import subprocess
import tempfile
from types import TracebackType
from typing import Any, Self

from tests.support.cluster import Space


class PodWatch:
    """Watches the pods of a namespace with kubectl, from outside."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Begin to watch; pods that are there already are seen as well."""
        self._process = subprocess.Popen(
            ["kubectl", "get", "pods", "-n", self._space.name, "--watch", "-o", "json"],
            env=self._space.cluster.environment,
            stdout=self._output,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Watch no more."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        self._output.close()

    def pods(self) -> list[dict[str, Any]]:
        """Return the last state of every pod seen so far."""
        self._output.seek(0)
        text = self._output.read().decode()
        decoder, place, latest = json.JSONDecoder(), 0, {}
        while place < len(text):
            try:
                pod, place = decoder.raw_decode(text, place)
            except ValueError:  # the rest is half written
                break
            latest[pod["metadata"]["uid"]] = pod
            while place < len(text) and text[place].isspace():
                place += 1
        return list(latest.values())
