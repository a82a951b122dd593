"""What every BackupSession's planner sees, whichever way it backs up."""

from typing import Protocol

from controller.api.backup import BackupConfigurationSpec
from controller.api.objects import Obj, Uid
from controller.plan import Refusal


class Invoked(Protocol):
    """A BackupSession with its configuration. The fields are those of SessionObserved."""

    @property
    def session(self) -> Obj:
        """Return the session."""

    @property
    def configuration(self) -> Obj | None:
        """Return its BackupConfiguration, None when it does not exist."""

    @property
    def spec(self) -> BackupConfigurationSpec | None:
        """Return the configuration's spec, None when there is none that can be parsed."""

    @property
    def siblings(self) -> tuple[Obj, ...]:
        """Return the other sessions of the configuration."""

    @property
    def started(self) -> frozenset[Uid]:
        """Return the uids of sessions that have their Job, whatever their status says."""

    @property
    def refusal(self) -> Refusal | None:
        """Return which write of this turn was refused."""
