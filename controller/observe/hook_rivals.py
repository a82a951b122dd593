"""Which sessions of other configurations may have quiesced the application of a session."""

from collections.abc import Collection, Iterator

from controller.api.backup import BackupConfigurationSpec
from controller.api.model import parse_spec
from controller.api.names import hook_job_name
from controller.api.objects import Key, Obj, dig, name_of, namespace_of, uid_of
from controller.observe.sight import Sight
from controller.reconcile.history import is_final
from controller.reconcile.hook_rivals import has_hooks
from controller.reconcile.owed_hook import is_owed
from controller.reconcile.snapshot_observed import Other
from controller.reconcile.snapshot_session import is_begun


def others_of(
    sight: Sight,
    session: Obj,
    spec: BackupConfigurationSpec | None,
    siblings: Collection[Obj],
) -> tuple[Other, ...]:
    """Return those that have begun, or are held so that they may; nobody once this one has.

    From the caches, which have what this process wrote: sessions are looked at one after another.
    Only when two are held, because an answer of the API server was lost, it is asked whether the
    other one's first Job exists.
    """
    if not has_hooks(spec) or is_final(session) or is_begun(session):
        return ()
    known = {uid_of(session), *(uid_of(sibling) for sibling in siblings)}
    return tuple(_others(sight, session, known))


def _others(sight: Sight, session: Obj, known: Collection[str]) -> Iterator[Other]:
    namespace = namespace_of(session)
    for other in sight.caches.sessions.all():
        if namespace_of(other) != namespace or uid_of(other) in known or is_final(other):
            continue
        is_held = is_owed(other)
        is_started = is_begun(other) or sight.is_started(other)
        if is_held and not is_started and is_owed(session):
            pre = hook_job_name(name_of(other), "pre")
            is_started = sight.made(other, pre, live=True).job is not None
        if is_held or is_started:
            yield Other(other, _spec_of(sight, other), is_started=is_started)


def _spec_of(sight: Sight, session: Obj) -> BackupConfigurationSpec | None:
    """Return what the configuration of a session says, None when it is gone or malformed."""
    name = str(dig(session, "spec", "invoker", "name") or "")
    found = sight.caches.configurations.get(Key(namespace_of(session), name))
    spec = parse_spec(BackupConfigurationSpec, found) if found is not None else None
    return spec if isinstance(spec, BackupConfigurationSpec) else None
