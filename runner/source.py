"""Whether a path can be backed up at all, before restic is asked."""

import os
import stat
from pathlib import Path, PurePosixPath

from controller.api.report import Reason
from runner.failure import RunError


def check_source(path: str, mount_path: str) -> None:
    """Look at each component from the volume's mount down to the path itself.

    restic stores a path that is a symbolic link as the link alone, and follows links in the middle
    of a path wherever they lead, also out of the volume: neither is what the path's name promises.

    Raises:
        RunError: a component is missing, is a link, or may not be looked at.
    """
    pure = PurePosixPath(path)
    if ".." in pure.parts or not pure.is_absolute():
        raise RunError(
            Reason.SOURCE_MISSING,
            f"{path} is no absolute path without ..; correct spec.target.paths",
        )
    for component in reversed((pure, *pure.parents)):
        if not mount_path or component.is_relative_to(mount_path):
            _check_component(str(component), path)


def _check_component(component: str, path: str) -> None:
    try:
        mode = os.lstat(component).st_mode
        # Searching a folder is another right than seeing it.
        if stat.S_ISDIR(mode) and component != path:
            os.lstat(f"{component}/.")
        target = Path(component).readlink() if stat.S_ISLNK(mode) else ""
    except (FileNotFoundError, NotADirectoryError) as err:
        raise RunError(
            Reason.SOURCE_MISSING,
            f"{path} does not exist in the volume that is mounted; check spec.target.paths and"
            " volumeMounts",
        ) from err
    except OSError as err:
        raise RunError(
            Reason.SOURCE_UNREADABLE,
            f"{path} cannot be reached by user {os.geteuid()}: {component}: {err.strerror}; run the"
            " backup as a user who may read it (runtimeSettings.container.securityContext:"
            " runAsUser 0 with the capability DAC_READ_SEARCH)",
        ) from err
    if stat.S_ISLNK(mode):
        raise RunError(
            Reason.SOURCE_MISSING,
            f"{component} is a symbolic link to {target}: a backup of {path} would hold the link"
            " alone or leave the volume; name the folder that it points to in spec.target.paths",
        )
