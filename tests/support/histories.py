"""Histories of snapshots of every rhythm, as VolumeSnapshots and as a restic repository."""

import base64
import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from controller.api.objects import Obj
from controller.api.text import format_time

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
WEEK = timedelta(weeks=1)
SECOND = timedelta(seconds=1)
STARTS = tuple(
    datetime.fromisoformat(text).replace(tzinfo=UTC)
    for text in (
        "1999-12-31T23:59:59",
        "2000-02-28T23:30:00",
        "2016-01-03T12:00:00",  # a Sunday in week 53 of 2015
        "2018-12-31T00:00:00",  # a Monday in week 1 of 2019
        "2020-12-27T23:59:58",  # week 52; week 53 follows
        "2021-01-03T23:59:59",  # the last second of week 53 of 2020
        "2024-02-29T00:00:01",
        "2024-12-29T22:00:00",
        "2025-12-31T23:00:00",
        "2026-03-29T00:59:59",  # clocks change in Europe; UTC does not
        "2026-10-31T23:59:00",
    )
)
"""Where calendars have their edges."""
RHYTHMS: tuple[tuple[timedelta, ...], ...] = (
    (SECOND, 59 * SECOND, 0 * SECOND),
    (HOUR / 4, HOUR - SECOND, HOUR),
    (HOUR, HOUR + SECOND, 5 * HOUR, DAY),
    (DAY - SECOND, DAY, DAY + SECOND, 0 * SECOND),
    (HOUR / 6, DAY, 9 * DAY),
    (WEEK - SECOND, WEEK, WEEK + SECOND, 3 * DAY),
    (28 * DAY, 30 * DAY, 31 * DAY, DAY / 2),
    (31 * DAY, 92 * DAY, 365 * DAY),
    (364 * DAY, 365 * DAY, 366 * DAY, 731 * DAY, HOUR),
)
"""Steps between neighbours of one history."""
LONGEST = 24


def history(random: Random) -> tuple[datetime, ...]:
    """Return the times of a few snapshots, oldest first; some are equal."""
    moment = random.choice(STARTS) + random.randint(-2, 2) * random.choice((SECOND, HOUR, DAY))
    steps = random.choice(RHYTHMS)
    if random.random() < 1 / 3:
        steps += random.choice(RHYTHMS)
    times = [moment]
    for _ in range(random.randint(0, LONGEST - 1)):
        times.append(times[-1] + random.choice(steps))
    return tuple(times)


def snapshots_at(times: Sequence[datetime], **metadata: Any) -> list[Obj]:
    """Return ready VolumeSnapshots of one claim that were made at these times."""
    return [
        {
            "metadata": {
                "name": f"data-{index}",
                "creationTimestamp": format_time(moment),
                **metadata,
            },
            "status": {"readyToUse": True},
        }
        for index, moment in enumerate(times)
    ]


@dataclass(frozen=True)
class _Cipher:
    """restic's encryption of one file, always with the same nonce: fast, and fit for tests only.

    AES-256 in counter mode, then Poly1305-AES over the result. With one nonce for all files both
    need AES only once, so that openssl runs twice and not once for each file.
    """

    nonce: bytes
    stream: bytes
    r: int
    s: int

    @classmethod
    def of(cls, key: Mapping[str, Any], *, longest: int = 4096) -> "_Cipher":
        """Take the master key as `restic cat masterkey` prints it."""
        nonce = bytes(range(16))
        stream = _openssl("-aes-256-ctr", key["encrypt"], bytes(longest), iv=nonce)
        s = _openssl("-aes-128-ecb", key["mac"]["k"], nonce)[:16]
        r = base64.b64decode(key["mac"]["r"])
        clamp = 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
        return cls(nonce, stream, int.from_bytes(r, "little") & clamp, int.from_bytes(s, "little"))

    def sealed(self, plain: bytes) -> bytes:
        """Return the content of a file of the repository."""
        assert len(plain) <= len(self.stream)
        text = bytes(a ^ b for a, b in zip(plain, self.stream, strict=False))
        total = 0
        for start in range(0, len(text), 16):
            block = int.from_bytes(text[start : start + 16] + b"\1", "little")
            total = (total + block) * self.r % (2**130 - 5)
        return self.nonce + text + ((total + self.s) % 2**128).to_bytes(16, "little")


def _openssl(cipher: str, key: str, data: bytes, *, iv: bytes = b"") -> bytes:
    argv = ["openssl", "enc", cipher, "-nopad", "-K", base64.b64decode(key).hex()]
    if iv:
        argv += ["-iv", iv.hex()]
    return subprocess.run(argv, input=data, check=True, capture_output=True).stdout


@dataclass
class Histories:
    """A repository whose snapshots were written by hand: no data, but any host and any time.

    It is made in a second where as many `restic backup` would take minutes. Whatever restic would
    not accept as its own file it refuses: the MAC and the hash in the name are checked.
    """

    program: Path
    folder: Path
    times: dict[str, tuple[datetime, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make an empty repository."""
        self.restic("init", "--quiet")
        self._cipher = _Cipher.of(json.loads(self.restic("cat", "masterkey", "--no-lock")))

    def restic(self, *arguments: str) -> str:
        """Run restic on the repository."""
        environment = {
            "RESTIC_REPOSITORY": str(self.folder),
            "RESTIC_PASSWORD": "x",
            "TZ": "UTC",
            "HOME": str(self.folder.parent),
        }
        argv = [str(self.program), "--no-cache", *arguments]
        done = subprocess.run(argv, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    def add(self, host: str, times: Sequence[datetime]) -> None:
        """Write the snapshots of a history."""
        self.times[host] = tuple(times)
        for index, moment in enumerate(times):
            plain = json.dumps(
                {
                    "time": format_time(moment),
                    "tree": "0" * 64,
                    "paths": [f"/{index}"],  # two of one time would be one file
                    "hostname": host,
                    "username": "root",
                }
            )
            content = self._cipher.sealed(plain.encode())
            name = hashlib.sha256(content).hexdigest()
            (self.folder / "snapshots" / name).write_bytes(content)

    def kept(self, *flags: str) -> dict[str, list[datetime]]:
        """Return what `restic forget` with these flags would keep, per host, oldest first."""
        text = self.restic("forget", "--dry-run", "--no-lock", "--json", "--group-by=host", *flags)
        return {
            group["host"]: sorted(
                datetime.fromisoformat(one["time"]) for one in group["keep"] or ()
            )
            for group in json.loads(text)
        }
