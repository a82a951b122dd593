"""Observes RestoreSessions of VolumeSnapshots: no request while claims are being made.

Live reads come once before the Job, because what is missing then is a final verdict; and once it
has ended, of claims that the cache misses (D10), and of Events when nothing changes for a while.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime

from controller.api.names import job_identity_name
from controller.api.objects import (
    Key,
    Obj,
    controller_uid,
    dig,
    is_deleting,
    name_of,
    namespace_of,
    status,
    uid_of,
)
from controller.api.resources import RESTORE_SESSION, ROLE_BINDING
from controller.api.restore import RestoreSessionSpec
from controller.build.claims import Claim, claims_of
from controller.kube.errors import NotServed
from controller.observe.caches import BY_SESSION, project_claim
from controller.observe.live import UNREADABLE
from controller.observe.live_storage import (
    read_claim_words,
    read_claims,
    read_default_storage_class,
    read_snapshot_content,
    read_snapshots,
    read_storage_class,
    read_volume,
)
from controller.observe.sight import Sight
from controller.plan import Ref, Refusal
from controller.reconcile.claim_checks import awaited, deadline, is_own, sources_since, timed_out_at
from controller.reconcile.claim_observed import ClaimRestoreObserved, Storage
from controller.reconcile.claim_outcome import told_before, unclear_volume
from controller.reconcile.claim_restore import executor_recorded, job_name, problems_of
from controller.reconcile.claim_wait import SAID, asks_events, job_ended, job_verdict, since_of
from controller.reconcile.history import is_final
from controller.reconcile.observed import Executor
from controller.reconcile.verdicts import Died, Ended


class ClaimRestoreObserver:
    """Observes RestoreSessions with driver VolumeSnapshotter."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight

    def observe(
        self, session: Obj, spec: RestoreSessionSpec, refusal: Refusal | None
    ) -> ClaimRestoreObserved:
        """Return the session and all that its next step depends on."""
        sight = self._sight
        now, job = sight.now(), job_name(name_of(session))
        seen = ClaimRestoreObserved(
            session,
            spec,
            Executor(),
            sight.installation,
            sight.limits,
            snapshots_served=sight.caches.snapshots_served(),
            refusal=refusal,
            looked_at=now,
        )
        if is_final(session) or is_deleting(session):
            return seen
        seen = replace(seen, access=self._access(session))
        is_recorded = executor_recorded(seen)
        if problems_of(seen):
            # One that runs is stopped: its Job must not be overlooked.
            return replace(seen, executor=sight.made(session, job, live=is_recorded))
        if is_recorded:
            return self._running(seen, now)
        seen = replace(seen, executor=sight.made(session, job))
        if seen.executor.job is not None:
            return seen
        storage = self._sources(seen, now)
        # One that was read is served, whatever the informer of the kind says.
        served = seen.snapshots_served or any(storage.snapshots.values())
        return replace(seen, storage=storage, snapshots_served=served)

    def _access(self, session: Obj) -> tuple[Ref, ...]:
        """Return the binding that lets the session's Job create claims: it ends with the session.

        The ServiceAccount stays until the session is deleted: without it, it may do nothing.
        """
        name = job_identity_name(RESTORE_SESSION.kind, name_of(session))
        binding = self._sight.caches.role_bindings.get(Key(namespace_of(session), name))
        if binding is None or controller_uid(binding) != uid_of(session):
            return ()
        return (Ref(ROLE_BINDING, namespace_of(session), name, uid_of(binding)),)

    # before the Job

    def _sources(self, seen: ClaimRestoreObserved, now: datetime) -> Storage:
        """Return what decides whether the claims can be made, or why that cannot be read.

        The latter once `timeOut` has passed: before, the whole turn is tried again.
        """
        try:
            return self._read_sources(seen, now)
        except UNREADABLE as err:
            until = timed_out_at(seen.session, seen.spec, now)
            if until is None or now < until:
                raise
            return Storage(unreadable=str(err))

    def _read_sources(self, seen: ClaimRestoreObserved, now: datetime) -> Storage:
        """Return what decides whether the claims can be made; the snapshots alone at first."""
        claims = claims_of(seen.spec)
        namespace = namespace_of(seen.session)
        names = tuple(dict.fromkeys(claim.snapshot for claim in claims))
        # While the kind is not served there is nothing to read, again and again.
        served = seen.snapshots_served
        found = self._snapshots(namespace, names) if served else dict.fromkeys(names)
        storage = Storage(snapshots=found)
        if awaited(claims, storage, namespace):
            since = sources_since(seen.session, storage.snapshots.values(), now)
            until, _ = deadline(seen.session, seen.spec, seen.limits, since, now)
            if now < until:
                return storage
            # The verdict is final: a watch that lags must not be its reason.
            live = self._snapshots(namespace, names, live=True)
            storage = Storage(snapshots=live)
            if awaited(claims, storage, namespace):
                return storage
        made = read_claims(self._sight.client, namespace, [claim.name for claim in claims])
        return replace(
            storage,
            claims={claim.name: made.get(claim.name) for claim in claims},
            classes=self._classes(claim.storage_class for claim in claims),
            contents=self._contents(storage.snapshots.values()),
        )

    def _snapshots(
        self, namespace: str, names: Sequence[str], *, live: bool = False
    ) -> Mapping[str, Obj | None]:
        """Return VolumeSnapshots by name; those that the cache has not are not ours, or gone.

        Or it has none at all: that the kind is not served is no verdict on a snapshot (D10).

        Raises:
            NotServed: the kind is there, and not served yet. One that was removed took them along.
        """
        caches = self._sight.caches
        found = {} if live else {name: caches.snapshots.get(Key(namespace, name)) for name in names}
        missing = [name for name in names if found.get(name) is None]
        try:
            listed = read_snapshots(self._sight.client, namespace, names=missing)
        except NotServed:
            if caches.snapshots_defined():
                raise
            listed = ()
        read = {name_of(snapshot): snapshot for snapshot in listed}
        return {name: found.get(name) or read.get(name) for name in names}

    def _classes(self, names: Iterable[str]) -> Mapping[str, Obj | None]:
        client = self._sight.client
        return {
            name: read_storage_class(client, name) if name else read_default_storage_class(client)
            for name in dict.fromkeys(names)
        }

    def _contents(self, snapshots: Iterable[Obj | None]) -> Mapping[str, Obj | None]:
        names = (str(dig(o, "status", "boundVolumeSnapshotContentName") or "") for o in snapshots)
        return {
            name: read_snapshot_content(self._sight.client, name)
            for name in dict.fromkeys(names)
            if name
        }

    # after it

    def _running(self, seen: ClaimRestoreObserved, now: datetime) -> ClaimRestoreObserved:
        session, job = seen.session, job_name(name_of(seen.session))
        if job_ended(session):
            seen = replace(seen, executor=self._sight.made(session, job))
        else:
            seen = replace(seen, executor=self._sight.executor(session, job))
            if not isinstance(job_verdict(seen, now), Ended | Died):
                return seen
        return replace(seen, storage=self._made(seen, now))

    def _made(self, seen: ClaimRestoreObserved, now: datetime) -> Storage:
        """Return the claims; and of those that are not bound why, as far as it is time to ask.

        What only explains may be unreadable; without the rest the session waits for its deadline.
        """
        session, client = seen.session, self._sight.client
        namespace = namespace_of(session)
        claims = claims_of(seen.spec)
        unread: list[str] = []
        found = self._claims(session, claims, unread)
        unbound = [claim for claim in claims if _is_unbound(found.get(claim.name), session)]
        since = since_of(session, found.values(), now)
        asks = asks_events(since, now, seen.limits.pending_s)
        until, _ = deadline(session, seen.spec, seen.limits, since, now)
        asked = (unbound if now >= until else unbound[:SAID]) if asks else ()
        uids = {claim.name: uid_of(found[claim.name] or {}) for claim in asked}
        first = not job_ended(session)
        snapshots: Mapping[str, Obj | None] = {}
        if unbound:
            names = tuple(dict.fromkeys(claim.snapshot for claim in unbound))
            if asks or first:
                with suppress(*UNREADABLE):
                    snapshots = self._snapshots(namespace, names)
            else:
                cache = self._sight.caches.snapshots
                known = ((name, cache.get(Key(namespace, name))) for name in names)
                snapshots = {name: snapshot for name, snapshot in known if snapshot}
        classes: Mapping[str, Obj | None] = {}
        if first:
            try:
                classes = self._classes(_classes_of(found, unbound))
            except UNREADABLE:
                if now < until:  # which claims wait for a pod is told in this turn, or never
                    raise
        volumes: dict[str, Obj | None] = {}
        for claim in claims:
            if name := unclear_volume(found.get(claim.name), session):
                with _noted(unread):
                    volumes[name] = read_volume(client, name)
        return Storage(
            claims=found,
            snapshots=snapshots,
            classes=classes,
            volumes=volumes,
            words=read_claim_words(client, namespace, uids) if uids else {},
            unreadable=next(iter(unread), ""),
        )

    def _claims(
        self, session: Obj, claims: Sequence[Claim], unread: list[str]
    ) -> Mapping[str, Obj | None]:
        """Return the claims by name; live before one is missed, but for what failed before.

        What cannot be read is left out, and noted in `unread`.
        """
        found: dict[str, Obj | None] = {
            name_of(claim): claim
            for claim in self._sight.caches.claims.by_index(BY_SESSION, uid_of(session))
            if namespace_of(claim) == namespace_of(session)
        }
        settled = told_before(status(session).get("stats") or ()).failures
        missing = [c.name for c in claims if c.name not in found and c.name not in settled]
        if missing:
            with _noted(unread):
                read = read_claims(self._sight.client, namespace_of(session), missing)
                found |= {n: project_claim(read[n]) if n in read else None for n in missing}
        return found


@contextmanager
def _noted(unread: list[str]) -> Iterator[None]:
    """Go on without what cannot be read, and note why."""
    try:
        yield
    except UNREADABLE as err:
        unread.append(str(err))


def _is_unbound(claim: Obj | None, session: Obj) -> bool:
    if claim is None or not is_own(claim, session):
        return False
    return status(claim).get("phase") not in ("Bound", "Lost")


def _classes_of(found: Mapping[str, Obj | None], unbound: Iterable[Claim]) -> Iterable[str]:
    names = (str(dig(found[claim.name], "spec", "storageClassName") or "") for claim in unbound)
    return (name for name in names if name)
