"""The processes of a pod, as the node's kernel shows them: no container can hide anything there.

Works on the native cluster and on kind with a local engine: their processes are the host's.
"""

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """One look at a process. `program` is its name, cut to 15 characters by the kernel."""

    pid: int
    program: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """Return its folder in /proc."""
        return Path("/proc") / str(self.pid)

    def rss_bytes(self) -> int:
        """Return the memory that it occupies; 0 when it has ended."""
        try:
            for line in (self.folder / "status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        except OSError:
            pass
        return 0

    def cpu_s(self) -> float:
        """Return the processor time that it used, children that it waited for not included.

        Raises:
            OSError: it has ended.
        """
        fields = self._stat()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def started_s(self) -> float:
        """Return when it began, in seconds since the start of the machine (CLOCK_BOOTTIME)."""
        return int(self._stat()[19]) / TICKS_PER_S

    def _stat(self) -> list[str]:
        return (self.folder / "stat").read_text().rpartition(")")[2].split()

    def mount_options(self, place: str) -> tuple[str, ...]:
        """Return the options of the mount at a place of its own file system.

        Empty without one, or when the process has ended.
        """
        try:
            lines = (self.folder / "mountinfo").read_text().splitlines()
        except OSError:
            return ()
        for line in lines:
            fields = line.split(" ")
            if fields[4] == place:
                return tuple(fields[5].split(","))
        return ()


def processes(pod_uid: str) -> list[Process]:
    """Return the processes of a pod that run now, without its pause process."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if pod_uid not in (folder / "cgroup").read_text().replace("_", "-"):
                continue
            found.append(_look(folder))
        except OSError:  # it ended while we looked
            continue
    return [process for process in found if process.program != "pause"]


def _look(folder: Path) -> Process:
    """Read a process; again when it became another program meanwhile."""
    while True:
        program = (folder / "comm").read_text().rstrip("\n")
        argv = tuple(_words(folder / "cmdline"))
        environment = dict(_pairs(_words(folder / "environ")))
        same = (folder / "comm").read_text().rstrip("\n") == program
        if same and argv == tuple(_words(folder / "cmdline")):
            return Process(int(folder.name), program, argv, environment)


def _words(path: Path) -> list[str]:
    return [word.decode(errors="replace") for word in path.read_bytes().split(b"\0") if word]


def _pairs(words: Iterable[str]) -> Iterator[tuple[str, str]]:
    for word in words:
        name, _, value = word.partition("=")
        yield name, value


class Watcher:
    """Looks at the processes of some pods again and again until told to end.

    A process that lives for less than `interval_s` may be missed: give the work some length.
    """

    def __init__(self, *pod_uids: str, interval_s: float = 0.05) -> None:
        self._uids = list(pod_uids)
        self._interval = interval_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._seen: dict[tuple[int, tuple[str, ...]], Process] = {}

    def add(self, pod_uid: str) -> None:
        """Look at one more pod."""
        if pod_uid not in self._uids:
            self._uids.append(pod_uid)

    @property
    def seen(self) -> list[Process]:
        """Return every process seen, once for each command line."""
        return list(self._seen.values())

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Look no more."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(self._interval):
            for uid in tuple(self._uids):
                for process in processes(uid):
                    self._seen.setdefault((process.pid, process.argv), process)
