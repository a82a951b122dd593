"""Observes BackupSessions with VolumeSnapshots: no request while they are being cut.

The target and its claims are read live once, before the Job; VolumeSnapshots only when one is
missing that should be there (D10).
"""

from collections.abc import Iterable
from dataclasses import replace

from controller.api.backup import SNAPSHOTTER, BackupConfigurationSpec
from controller.api.conditions import Phase, Type, status_of
from controller.api.creation import SESSION_UID
from controller.api.names import (
    LABEL_LIMIT,
    backup_job_name,
    bounded,
    hook_job_name,
    snapshot_job_name,
)
from controller.api.objects import (
    Key,
    Obj,
    controller_uid,
    dig,
    finalizers_of,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    uid_of,
)
from controller.api.resources import BACKUP_CONFIGURATION, BACKUP_SESSION, PVC, ROLE_BINDING
from controller.api.workload import volumes_of
from controller.build.creation import told_hosts
from controller.build.hook import POST_HOOK
from controller.build.identity import hook_identity
from controller.kube.errors import NotFound
from controller.observe.caches import (
    BY_INVOKER,
    BY_OWNER,
    BY_SESSION,
    BY_SOURCE,
    invoker_index,
    newest,
)
from controller.observe.hook_rivals import others_of
from controller.observe.live import UNREADABLE, read_job
from controller.observe.live_storage import read_claims, read_snapshots, read_target
from controller.observe.sight import Sight
from controller.plan import Ref, Refusal
from controller.reconcile.history import is_final
from controller.reconcile.observed import Executor
from controller.reconcile.owed_hook import is_owed
from controller.reconcile.snapshot_end import adopts, is_of_stash
from controller.reconcile.snapshot_observed import Reading, SnapshotSessionObserved
from controller.reconcile.snapshot_session import is_begun, needs_reading
from controller.reconcile.snapshot_status import target_conditions
from controller.reconcile.snapshot_wait import claim_of, hosts_of, is_look_due


class SnapshotSessionObserver:
    """Observes BackupSessions whose configuration has driver VolumeSnapshotter."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight

    def is_mine(self, session: Obj, spec: BackupConfigurationSpec | None) -> bool:
        """Tell whether a session backs up by VolumeSnapshots, also when its configuration is gone.

        What it has begun counts, not what its configuration says by now. Who may create sessions
        may also give them the finalizer: while one runs it is believed by the status alone.
        """
        is_over = is_final(session)
        is_held = POST_HOOK in finalizers_of(session)
        if is_held and (is_over or is_deleting(session) or is_owed(session)):
            return True
        name = name_of(session)
        if is_over:
            # Whatever comes after is the same for both, but for a Job that outlives its session.
            return self._sight.made(session, snapshot_job_name(name)).job is not None
        if dig(session, "status", "targets", 0, "stats"):
            return True  # the claims that are waited for; a session with restic has none so early
        live = spec is None and not is_begun(session)
        for job, answer in (
            (backup_job_name(name), False),
            (snapshot_job_name(name), True),
            (hook_job_name(name, "pre"), True),
        ):
            if self._sight.made(session, job, live=live).job is not None:
                return answer
        if dig(session, "status", "targets", 0, "preBackupActions"):
            return False
        return spec is not None and spec.driver == SNAPSHOTTER

    def observe(
        self,
        session: Obj,
        configuration: Obj | None,
        spec: BackupConfigurationSpec | None,
        siblings: tuple[Obj, ...],
        *,
        refusal: Refusal | None,
    ) -> SnapshotSessionObserved:
        """Return the session and all that its next step depends on."""
        sight = self._sight
        seen = SnapshotSessionObserved(
            session,
            configuration,
            spec,
            Executor(),
            sight.installation,
            sight.limits,
            siblings=siblings,
            started=frozenset(uid_of(other) for other in siblings if sight.is_started(other)),
            refusal=refusal,
        )
        is_held = POST_HOOK in finalizers_of(session)
        if is_final(session) or (is_deleting(session) and not is_held):
            return replace(seen, executor=self._left(session))
        # What has begun says itself how far the hook came: nothing waits for a read of its Job.
        is_unclear = is_held and not is_begun(session)
        seen = replace(
            seen,
            others=others_of(sight, session, spec, siblings),
            pre=self._hook(session, Type.PRE_BACKUP_HOOK, "pre", live=is_unclear),
            post=self._hook(session, Type.POST_BACKUP_HOOK, "post"),
            snapshots=tuple(sight.caches.snapshots.by_index(BY_SESSION, uid_of(session))),
            kept=self._kept(session),
            access=self._access(session),
        )
        seen = replace(seen, executor=self._executor(seen))
        now = sight.now()
        if needs_reading(seen, now):
            seen = replace(seen, reading=self._read(seen))
        if is_look_due(seen, now):
            seen = self._looked_for(seen)
        kept = (*seen.kept, *self._adopted(seen))
        return replace(seen, kept=kept, in_use=self._in_use(kept))

    def _hook(self, session: Obj, kind: Type, hook: str, *, live: bool = False) -> Executor:
        """Return the Job of a hook; live where it is about to be judged, or has to be known."""
        name = hook_job_name(name_of(session), hook)
        if status_of(target_conditions(session), kind) == "Unknown":
            return self._sight.executor(session, name)
        return self._sight.made(session, name, live=live)

    def _executor(self, seen: SnapshotSessionObserved) -> Executor:
        session = seen.session
        name = snapshot_job_name(name_of(session))
        ensured = status_of(target_conditions(session), Type.BACKUP_EXECUTOR_ENSURED)
        if ensured == "True" and not _is_covered(seen):
            return self._sight.executor(session, name)
        return self._sight.made(session, name)

    def _read(self, seen: SnapshotSessionObserved) -> Reading:
        """Return the target and its claims, or why they cannot be read.

        An application may stand still, and its limits have to go on. Before there is a hook nothing
        does: the whole turn is tried again then.
        """
        try:
            return replace(self._reading(seen), told=self._told(seen))
        except UNREADABLE as err:
            if not is_begun(seen.session) and seen.pre.job is None:
                raise
            return Reading(unreadable=str(err))

    def _left(self, session: Obj) -> Executor:
        """Return the Job of a session that has ended as the caches have it: no verdict is due."""
        job = self._sight.made(session, snapshot_job_name(name_of(session))).job
        if job is None:
            return Executor()
        return Executor(job, newest(self._sight.caches.pods.by_index(BY_OWNER, uid_of(job))))

    def _reading(self, seen: SnapshotSessionObserved) -> Reading:
        target = seen.spec.target if seen.spec else None
        if target is None:
            return Reading()
        client, namespace = self._sight.client, namespace_of(seen.session)
        key = Key(target.ref.namespace or namespace, target.ref.name)
        found = read_target(client, target.ref.kind, key)
        if found is None:
            return Reading()
        if target.ref.kind == PVC.kind:
            return Reading(found, {key.name: found})
        volumes = volumes_of(target.ref.kind, found, target.replicas)
        return Reading(found, read_claims(client, namespace, volumes.claims))

    def _told(self, seen: SnapshotSessionObserved) -> tuple[str, ...] | None:
        """Return what a Job that a crash hid was told: the cache has it without its containers."""
        job = seen.executor.job
        ensured = status_of(target_conditions(seen.session), Type.BACKUP_EXECUTOR_ENSURED)
        if job is None or ensured is not None:
            return None
        live = read_job(self._sight.client, key_of(job))
        return told_hosts(live) if live is not None else None

    def _looked_for(self, seen: SnapshotSessionObserved) -> SnapshotSessionObserved:
        """Return the session with its VolumeSnapshots: what is not among them does not exist.

        A list that is refused, or a kind that is there and not served yet, as by an API server that
        has just started, is no verdict on what there is (D10). The session goes on waiting, and so
        do its limits: an application may stand still.
        """
        client, namespace = self._sight.client, namespace_of(seen.session)
        selector = f"{SESSION_UID}={uid_of(seen.session)}"
        try:
            found = read_snapshots(client, namespace, label_selector=selector)
        except UNREADABLE as err:
            if not isinstance(err, NotFound) or self._sight.caches.snapshots_defined():
                return replace(seen, unlistable=str(err))
            found = ()
        return replace(seen, snapshots=found, looked=True)

    def _kept(self, session: Obj) -> tuple[Obj, ...]:
        invoker = str(dig(session, "spec", "invoker", "name") or "")
        key = Key(namespace_of(session), bounded(invoker, LABEL_LIMIT))
        index = invoker_index(BACKUP_CONFIGURATION.kind, key)
        return tuple(self._sight.caches.snapshots.by_index(BY_INVOKER, index))

    def _adopted(self, seen: SnapshotSessionObserved) -> tuple[Obj, ...]:
        """Return the VolumeSnapshots that Stash made, in the turns that may apply retention."""
        if not (adopts(seen) and is_begun(seen.session)):
            return ()
        hosts = hosts_of(seen, self._sight.now())
        if not hosts.are_decided or all(h.phase is not Phase.SUCCEEDED for h in hosts.hosts):
            return ()
        try:
            listed = read_snapshots(self._sight.client, namespace_of(seen.session))
        except UNREADABLE:
            return ()  # they are there for the next session
        return tuple(snapshot for snapshot in listed if is_of_stash(snapshot))

    def _in_use(self, snapshots: Iterable[Obj]) -> frozenset[str]:
        """Return the names of those that an unfinished restore or an unbound claim of ours needs.

        A claim may wait for its first consumer long after its restore has ended.
        """
        caches = self._sight.caches
        return frozenset(
            name_of(snapshot)
            for snapshot in snapshots
            if any(
                any(lister.by_index(BY_SOURCE, str(key_of(snapshot))))
                for lister in (caches.restores, caches.claims)
            )
        )

    def _access(self, session: Obj) -> tuple[Ref, ...]:
        """Return the binding that lets the session's hooks run commands in pods."""
        name = hook_identity(BACKUP_SESSION, name_of(session))
        binding = self._sight.caches.role_bindings.get(Key(namespace_of(session), name))
        if binding is None or controller_uid(binding) != uid_of(session):
            return ()
        return (Ref(ROLE_BINDING, namespace_of(session), name, uid_of(binding)),)


def _is_covered(seen: SnapshotSessionObserved) -> bool:
    """Tell whether each claim has its VolumeSnapshot, or failed: the Job has no more to say."""
    entries = dig(seen.session, "status", "targets", 0, "stats") or ()
    found = {claim_of(snapshot) for snapshot in seen.snapshots}
    return bool(entries) and all(
        entry.get("phase") == Phase.FAILED or entry.get("hostname") in found for entry in entries
    )
