"""Symbolic links in the volume through which a filtered restore would write elsewhere."""

import stat
from pathlib import Path, PurePosixPath

from controller.api.report import Reason
from runner.failure import RunError
from runner.restic.messages import Item, Message

UNREADABLE = "\ufffd"
"""restic's JSON puts this for bytes that are no UTF-8."""


class LinkFinder:
    """Takes the items of a rehearsal; memory is bounded by the number of folders."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: set[PurePosixPath] = set()

    def __call__(self, message: Message) -> None:
        """Note the folders above an item."""
        if isinstance(message, Item):
            for folder in PurePosixPath(message.path).parents:
                if folder in self._folders:
                    break
                self._folders.add(folder)

    def check(self, snapshot_id: str) -> None:
        """Look at each folder as it is in the volume now.

        Raises:
            RunError: one is a link, or has a name that cannot be told.
        """
        for folder in sorted(self._folders):
            self._check(folder, snapshot_id)

    def _check(self, folder: PurePosixPath, snapshot_id: str) -> None:
        path = self._root / str(folder).lstrip("/")
        try:
            if UNREADABLE in path.name and any(path.parent.iterdir()):
                raise _in_the_way(
                    f"{folder} of snapshot {snapshot_id} is no valid UTF-8, so that it cannot be"
                    " compared with the volume"
                )
            if path != self._root and stat.S_ISLNK(path.lstat().st_mode):
                raise _in_the_way(
                    f"{folder} of snapshot {snapshot_id} is a folder, but in the volume it is a"
                    f" symbolic link to {path.readlink()}, through which restic would write"
                )
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as err:
            raise _in_the_way(f"{folder} cannot be looked at: {err.strerror}") from err


def _in_the_way(what: str) -> RunError:
    return RunError(
        Reason.LINK_IN_THE_WAY,
        f"{what}; nothing was written for this snapshot. Remove it from the volume, or restore"
        " without include",
    )
