"""The BackupSession that tries a failed one again (stash.md 3.8)."""

from controller.api.backup import BackupConfigurationSpec
from controller.api.names import retry_session_name
from controller.api.objects import Obj, name_of
from controller.api.resources import BACKUP_CONFIGURATION, BACKUP_SESSION, STASH_GROUP
from controller.build.child import child
from controller.build.labels import session_labels


def retry_session(
    session: Obj, configuration: Obj, spec: BackupConfigurationSpec, *, retry_left: int
) -> Obj:
    """Return the next try of a session, as the trigger would have made it.

    `retry_left` is how many tries are left after this one; it makes the name (D20).
    """
    invoker = {
        "apiGroup": STASH_GROUP,
        "kind": BACKUP_CONFIGURATION.kind,
        "name": name_of(configuration),
    }
    return child(
        BACKUP_SESSION,
        retry_session_name(name_of(session), retry_left),
        (BACKUP_CONFIGURATION, configuration),
        labels=session_labels(configuration, spec.target),
        body={"spec": {"invoker": invoker, "retryLeft": retry_left}},
    )
