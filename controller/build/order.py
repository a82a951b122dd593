"""What a Job is built from."""

from collections.abc import Mapping
from dataclasses import dataclass

from controller.api.backup import BackupConfigurationSpec, host_of, mount_path_of
from controller.api.catalog import FunctionSpec, TaskSpec
from controller.api.objects import Obj, namespace_of
from controller.api.repository import RepositorySpec
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    BACKUP_SESSION,
    RESTORE_SESSION,
    Resource,
)
from controller.api.restore import RestoreSessionSpec, Rule
from controller.build.installation import Installation
from controller.build.labels import BACKUP, RESTORE

_ANY = Rule()


@dataclass(frozen=True, slots=True)
class JobOrder:
    """Everything that the Job of one session depends on.

    The specs are free of the problems that their `..._problems` functions find. For a restore
    `session` and `invoker` are the same RestoreSession, and `rule` is the one for its host.
    `node_name` is the node that the pod must run on (D18), `repository_id` and `may_initialise`
    are D2's, `claim_untagged` is D1's, `accept_incomplete` D5's. `careful`
    and `known_incomplete` are those of BackupInput and RestoreInput.
    """

    session: Obj
    invoker: Obj
    spec: BackupConfigurationSpec | RestoreSessionSpec
    repository: Obj
    repository_spec: RepositorySpec
    task: TaskSpec
    functions: Mapping[str, FunctionSpec]
    installation: Installation
    node_name: str = ""
    repository_id: str = ""
    may_initialise: bool = False
    claim_untagged: bool = False
    verify: bool = False
    damaged: bool = False
    accept_incomplete: bool = False
    careful: bool = False
    known_incomplete: tuple[str, ...] = ()
    rule: Rule = _ANY

    @property
    def is_backup(self) -> bool:
        """Tell a backup from a restore."""
        return isinstance(self.spec, BackupConfigurationSpec)

    @property
    def invoker_resource(self) -> Resource:
        """Return the invoker's kind."""
        return BACKUP_CONFIGURATION if self.is_backup else RESTORE_SESSION

    @property
    def session_resource(self) -> Resource:
        """Return the session's kind."""
        return BACKUP_SESSION if self.is_backup else RESTORE_SESSION

    @property
    def component(self) -> str:
        """Return the value of the component label."""
        return BACKUP if self.is_backup else RESTORE

    @property
    def namespace(self) -> str:
        """Return the session's namespace, which is also the Job's."""
        return namespace_of(self.session)

    @property
    def host(self) -> str:
        """Return restic's host name of the target."""
        return host_of(self.spec.target.alias if self.spec.target else "")

    @property
    def mount_path(self) -> str:
        """Return where the target's volume belongs: its place in snapshots."""
        return mount_path_of(self.spec.target.volume_mounts if self.spec.target else ())

    @property
    def target_namespace(self) -> str:
        """Return the target's namespace, by default the session's."""
        ref = self.spec.target.ref if self.spec.target else None
        return (ref.namespace if ref else "") or self.namespace
