"""Which session has to end before another one quiesces the same application (D17). Pure.

Sessions of one configuration never run side by side. Those of two do; but when both have hooks, the
first postBackup hook would set an application going again that the other one still snapshots.
"""

from collections.abc import Collection

from controller.api.backup import BackupConfigurationSpec
from controller.api.conditions import Type, status_of
from controller.api.objects import Obj, dig, finalizers_of, is_deleting, namespace_of, status
from controller.api.resources import PVC
from controller.build.hook import POST_HOOK
from controller.reconcile.history import age_key, is_final
from controller.reconcile.owed_hook import is_owed
from controller.reconcile.snapshot_observed import Other, SnapshotSessionObserved
from controller.reconcile.snapshot_status import target_conditions

Target = tuple[str, str, str]


def has_hooks(spec: BackupConfigurationSpec | None) -> bool:
    """Tell whether a configuration quiesces its target, or sets it going again."""
    hooks = spec.hooks if spec is not None else None
    return hooks is not None and (hooks.pre_backup is not None or hooks.post_backup is not None)


def rival_of(seen: SnapshotSessionObserved, claims: Collection[str] = ()) -> Obj | None:
    """Return a session that must end first, None when this one may begin.

    `claims` are those of this session, once they are known: a workload and one of its claims are
    one application. Nobody waits in a circle: what has started waits for nobody, and two that are
    both held, as when an answer of the API server was lost, start in the order of that.
    """
    if not has_hooks(seen.spec):
        return None
    mine = _target_in(seen.spec, namespace_of(seen.session))
    ours = {*claims, *_claim_in(mine)}
    since = _held_since(seen.session) if is_owed(seen.session) else None
    for other in sorted(seen.others, key=lambda other: age_key(other.session)):
        is_first = other.is_started or since is None or _held_since(other.session) < since
        if not (is_first and _may_act(other)):
            continue
        theirs = _target_of(other)
        if theirs in (None, mine) or not ours.isdisjoint(_claims_of(other)):
            return other.session
    return None


def _held_since(session: Obj) -> tuple[str, str, str]:
    """Return what the sessions that are held are ordered by, the same whoever looks."""
    entries = status(session).get("conditions") or ()
    kind = Type.POST_HOOK_OWED.value
    since = next((e.get("lastTransitionTime") for e in entries if e.get("type") == kind), "")
    return str(since), *age_key(session)


def _may_act(other: Other) -> bool:
    """Tell whether hooks of a session may be running, or still to come.

    After its postBackup hook it may wait for hours until what was cut is ready.
    """
    session = other.session
    is_held = POST_HOOK in finalizers_of(session)
    if is_final(session) or (is_deleting(session) and not is_held):
        return False
    conditions = target_conditions(session)
    pre, post = (
        status_of(conditions, kind) for kind in (Type.PRE_BACKUP_HOOK, Type.POST_BACKUP_HOOK)
    )
    if post in ("True", "False"):
        return False
    return post is not None or pre is not None or is_owed(session) or has_hooks(other.spec)


def _target_of(other: Other) -> Target | None:
    """Return what a session backs up; None when nothing tells of it any more."""
    ref = dig(other.session, "status", "targets", 0, "ref") or {}
    namespace = namespace_of(other.session)
    if ref.get("name"):
        return str(ref.get("kind")), str(ref.get("namespace") or namespace), str(ref["name"])
    return _target_in(other.spec, namespace)


def _target_in(spec: BackupConfigurationSpec | None, namespace: str) -> Target | None:
    """Return the target of a configuration. The kind alone says which API it is of."""
    target = spec.target if spec is not None else None
    if target is None:
        return None
    return target.ref.kind, target.ref.namespace or namespace, target.ref.name


def _claims_of(other: Other) -> frozenset[str]:
    """Return the claims that a session is known to back up."""
    entries = dig(other.session, "status", "targets", 0, "stats") or ()
    named = (str(entry.get("hostname")) for entry in entries)
    return frozenset([*named, *_claim_in(_target_of(other))])


def _claim_in(target: Target | None) -> tuple[str, ...]:
    return (target[2],) if target is not None and target[0] == PVC.kind else ()
