"""Progress at a human rate."""

import json

from runner.log import Log
from runner.progress import Progress
from runner.redaction import Redactor
from runner.restic.messages import Status, Text


def test_rate() -> None:
    """A first line after ten seconds, then each 30 s, later each minute, however chatty restic."""
    lines: list[dict[str, object]] = []
    now = [0.0]
    log = Log(Redactor({}), write=lambda line: lines.append(json.loads(line)), now=lambda: 0)
    progress = Progress(log, "backup", clock=lambda: now[0])
    for second in range(601):
        now[0] = float(second)
        progress(Status(second / 600, second, 600, second * 1000, 600_000, 600 - second))
        progress(Text("noise"))
    elapsed = [line["elapsed_s"] for line in lines]
    assert elapsed[:3] == [9, 38, 67]
    assert 14 <= len(elapsed) <= 18
    assert lines[1]["bytes_per_s"] == 1000
    assert lines[0]["event"] == "backup_progress"
