"""A verb whose work is at the API server, from its input to its report.

Not for the restic path: what is imported here is heavy (D31).
"""

import os
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from controller.api.report import ExitCode, HostReport, Reason, RunReport
from controller.kube.config import NotConfigured
from controller.kube.errors import KubeError
from runner import report
from runner.execution import SMALL_BYTES, exit_code
from runner.failure import RunError
from runner.log import Log
from runner.redaction import Redactor
from runner.settings import Settings


class Document(Protocol):
    """What every input of such a verb says."""

    @property
    def report_bytes(self) -> int:
        """Return the longest report."""

    @property
    def hostnames(self) -> Sequence[str]:
        """Return the hosts, all of which fail when nothing could be begun."""


_Input = TypeVar("_Input", bound=Document)


def failed(hostname: str, reason: Reason, text: str, seconds: float = 0.0) -> HostReport:
    """Return a host that failed."""
    return HostReport(hostname, succeeded=False, reason=reason, error=text, duration_s=seconds)


def run(
    decode: Callable[[str], _Input],
    act: Callable[[_Input, Log], tuple[HostReport, ...]],
    *,
    redactor: Callable[[_Input], Redactor] = lambda _: Redactor({}),
    environ: Mapping[str, str] = os.environ,
) -> ExitCode:
    """Read the input, act, write the report; SIGTERM and SIGINT raise KeyboardInterrupt in `act`.

    Process 1 of a container ignores signals without a handler, and one that raises also ends a
    request that hangs.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    settings = Settings.read(environ)
    log = Log(Redactor({}))
    document: _Input | None = None
    try:
        document = settings.document(decode)
        log = Log(redactor(document))
        hosts = act(document, log)
    except KeyboardInterrupt:
        hosts = _all_failed(document, Reason.INTERRUPTED, "the pod was told to stop")
    except RunError as err:
        hosts = _all_failed(document, err.reason, err.text)
    except (KubeError, NotConfigured) as err:
        text = f"the API server cannot be used: {err}"
        hosts = _all_failed(document, Reason.STEP_FAILED, text)
    except Exception as err:  # noqa: BLE001 - the outermost boundary: a bug must be reported too
        log.error("crashed", traceback="".join(traceback.format_exception(err)))  # noqa: TRY400 - ours
        hosts = _all_failed(document, Reason.STEP_FAILED, f"{type(err).__name__}: {err}")
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):  # so that the report is written whole
            signal.signal(number, signal.SIG_IGN)
    limit_bytes = SMALL_BYTES if document is None else document.report_bytes
    return _reported(RunReport(hosts=hosts), settings.termination_log, limit_bytes, log)


def _all_failed(document: Document | None, reason: Reason, text: str) -> tuple[HostReport, ...]:
    names = [""] if document is None else document.hostnames
    return tuple(failed(name, reason, text) for name in names)


def _reported(result: RunReport, path: Path, limit_bytes: int, log: Log) -> ExitCode:
    try:
        clean = report.write(result, path, limit_bytes, log)
    except (OSError, ValueError) as err:
        log.error("report_not_written", error=str(err))  # noqa: TRY400 - not logging.Logger: ours
        return ExitCode.FAILED
    report.tell(clean, log)
    return exit_code(result)
