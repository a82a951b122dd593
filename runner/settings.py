"""Where things are in the container. The only reader of the environment."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from controller.api.job_input import (
    ENVIRONMENT_VARIABLE,
    RESTORE_ROOT,
    SCRATCH_DIR,
    SECRET_DIR,
)
from controller.api.report import Reason
from runner.failure import RunError

TERMINATION_LOG = "/dev/termination-log"
RESTIC = "/bin/restic"
"""In the image. Never searched for: PATH may come from a user's runtimeSettings or envFrom."""
IONICE = "/usr/bin/ionice"


_Document = TypeVar("_Document")


@dataclass(frozen=True, slots=True)
class Settings:
    """The container's fixed places; each can be moved by a variable `DREY_…` for tests.

    The controller refuses variables of that name in what users give.
    """

    secret_dir: Path
    scratch_dir: Path
    restore_root: Path
    termination_log: Path
    restic: Path
    outer: Mapping[str, str]

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Return the settings of this process."""
        return cls(
            secret_dir=Path(environ.get("DREY_SECRET_DIR", SECRET_DIR)),
            scratch_dir=Path(environ.get("DREY_SCRATCH_DIR", SCRATCH_DIR)),
            restore_root=Path(environ.get("DREY_RESTORE_ROOT", RESTORE_ROOT)),
            termination_log=Path(environ.get("DREY_TERMINATION_LOG", TERMINATION_LOG)),
            restic=Path(environ.get("DREY_RESTIC", RESTIC)),
            outer=dict(environ),
        )

    def document(self, decode: Callable[[str], _Document]) -> _Document:
        """Return what the controller asks for, read by `decode`.

        Raises:
            RunError: it is missing or malformed.
        """
        text = self.outer.get(ENVIRONMENT_VARIABLE)
        if text is None:
            raise RunError(
                Reason.INPUT_INVALID,
                f"{ENVIRONMENT_VARIABLE} is not set; the controller sets it on its Jobs",
            )
        try:
            return decode(text)
        except (ValueError, RecursionError) as err:
            raise RunError(Reason.INPUT_INVALID, str(err)) from err


def is_program(path: Path) -> bool:
    """Tell whether this file can be started."""
    return path.is_file() and os.access(path, os.X_OK)
