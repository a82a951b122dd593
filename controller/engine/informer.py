"""One resource, watched once, for any number of consumers.

Contract (after client-go tools/cache/shared_informer.go):
- The store is eventually consistent: it equals a past state and moves forward.
- Changes of one object are delivered in order, each after the store has taken it. There is no
  order between objects, and none between informers.
- A handler that comes late first gets every object that is there, as `initial`.
- `has_synced` is true when the first complete list was delivered to all handlers.
- An optional informer is of a resource that a cluster need not have: it is shut at first, sends
  nothing until it is admitted, and is empty whenever it is shut. `is_served` then says whether its
  store can be believed; those who want to know at once add themselves by `on_served`.

Handlers run on the reflector's thread: they map an object to keys and add these to the queue,
without I/O. One that raises ends the process, because a key that was lost is lost for ever.
"""

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from controller.api.objects import Key, Obj, key_of
from controller.api.resources import Resource
from controller.engine.clock import Clock, SystemClock
from controller.engine.metrics import Metrics
from controller.engine.reflector import Reflector
from controller.engine.store import Change, ChangeType, IndexFunction, Projection, Store
from controller.engine.threads import Supervisor
from controller.kube.client import KubeClient

Handler = Callable[[Change], None]
RESYNC_S = 10 * 3600.0
"""Every object is delivered again so often (jittered), as a repair after mistakes of our own."""


class Lister(Protocol):
    """Read access to a store. Nobody changes what it gives out."""

    def get(self, key: Key) -> Obj | None:
        """Return an object, or None."""

    def all(self) -> Sequence[Obj]:
        """Return all objects."""

    def by_index(self, index: str, value: str) -> Sequence[Obj]:
        """Return the objects under one value of an index."""


class Informer:
    """A store, its reflectors (one per namespace, or one for all) and its handlers."""

    def __init__(
        self,
        resource: Resource,
        client: KubeClient,
        *,
        namespaces: Sequence[str] = (),
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
        optional: bool = False,
        projection: Projection | None = None,
        indexes: Mapping[str, IndexFunction] | None = None,
        clock: Clock | None = None,
        stop: threading.Event | None = None,
        metrics: Metrics | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Nothing is sent before `start`; `namespaces` empty, or a cluster resource, means all."""
        self.resource = resource
        self._store = Store(projection=projection, indexes=indexes)
        self._clock = clock or SystemClock()
        self._stop = stop or threading.Event()
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._handlers: list[Handler] = []
        self._served = threading.Event() if optional else None
        self._on_served: list[Callable[[], None]] = []
        # held from the change of the store to the end of its delivery: the order that handlers see
        self._delivery = threading.RLock()
        self._resync_at = self._next_resync()
        scopes = sorted(set(namespaces)) if namespaces and resource.namespaced else [""]
        self.reflectors = tuple(
            Reflector(
                resource,
                client,
                _Scope(self, namespace),
                clock=self._clock,
                stop=self._stop,
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                metadata_only=metadata_only,
                served=self._served,
                on_listed=self._tell_served,
                metrics=metrics,
                rng=self._rng,
            )
            for namespace in scopes
        )

    @property
    def lister(self) -> Lister:
        """Read access to the store."""
        return self._store

    def add_handler(self, handler: Handler) -> None:
        """Have a handler called for every change, and first for every object that is there."""
        with self._delivery:
            self._handlers.append(handler)
            for obj in self._store.all():
                handler(Change(ChangeType.ADDED, key_of(obj), None, obj, initial=True))

    def start(self, threads: Supervisor) -> None:
        """Start the reflectors' threads."""
        for reflector in self.reflectors:
            threads.start(f"reflector-{reflector.name}", reflector.run)

    def has_synced(self) -> bool:
        """Tell whether the first complete list has been delivered."""
        return all(reflector.listed.is_set() for reflector in self.reflectors)

    @property
    def is_optional(self) -> bool:
        """Tell whether the resource need not be there."""
        return self._served is not None

    @property
    def is_shut(self) -> bool:
        """Tell whether this is an optional informer that nobody has admitted."""
        return self._served is not None and not self._served.is_set()

    def is_served(self) -> bool:
        """Tell whether the store can be believed right now."""
        return not self.is_shut and self.has_synced()

    def on_served(self, handler: Callable[[], None]) -> None:
        """Have a handler called, like those of changes, after `is_served` may have changed."""
        self._on_served.append(handler)

    def admit(self) -> None:
        """Let an optional informer list and watch: its resource is there."""
        if self._served is not None:
            self._served.set()

    def shut(self) -> None:
        """Have an optional informer send nothing more: its resource is gone."""
        if self._served is not None:
            self._served.clear()
            for reflector in self.reflectors:
                reflector.wake()

    def stop(self) -> None:
        """Stop the reflectors now, also those that wait for the next event."""
        self._stop.set()
        for reflector in self.reflectors:
            reflector.wake()

    def quiet_s(self) -> float:
        """Return the longest time for which one of the reflectors has heard nothing."""
        return max(reflector.quiet_s() for reflector in self.reflectors)

    def deliver(self, change: Callable[[Store], Sequence[Change]]) -> None:
        """Change the store and tell the handlers, in one go."""
        with self._delivery:
            for one in change(self._store):
                for handler in self._handlers:
                    handler(one)

    def take(self, obj: Obj) -> None:
        """Take an object as the API server answered a write of ours, ahead of its watch event.

        A planner that looks at other objects of its kind then never overlooks what this process
        did to them. The store keeps the order: an older event that comes later changes nothing.
        """
        self.deliver(lambda store: store.upsert(obj))

    def resync_if_due(self) -> None:
        """Deliver every object again when it is time; not a list, and not a scheduler."""
        with self._delivery:
            if self._clock.monotonic() < self._resync_at:
                return
            self._resync_at = self._next_resync()
            for obj in self._store.all():
                for handler in self._handlers:
                    handler(Change(ChangeType.RESYNC, key_of(obj), obj, obj))

    def _tell_served(self) -> None:
        for handler in self._on_served:
            handler()

    def _next_resync(self) -> float:
        return self._clock.monotonic() + RESYNC_S * (1.0 + 0.1 * self._rng.random())


class _Scope:
    """The part of an informer that one reflector fills: one namespace, or everything."""

    def __init__(self, informer: Informer, namespace: str) -> None:
        self._informer = informer
        self._namespace = namespace

    def replace(self, items: Sequence[Obj], version: str) -> None:
        self._informer.deliver(
            lambda store: store.replace(items, namespace=self._namespace, version=version)
        )

    def upsert(self, obj: Obj) -> None:
        self._informer.deliver(lambda store: store.upsert(obj))

    def delete(self, obj: Obj) -> None:
        self._informer.deliver(lambda store: store.delete(obj))

    def pause(self) -> None:
        self._informer.resync_if_due()


def wait_for_sync(
    informers: Sequence[Informer], stop: threading.Event, *, timeout_s: float, clock: Clock
) -> Sequence[str]:
    """Wait until all have synced; return the kinds that have not, in time or before the stop."""
    ends_at = clock.monotonic() + timeout_s
    while missing := [str(i.resource) for i in informers if not i.has_synced()]:
        if clock.monotonic() >= ends_at or stop.wait(0.02):
            return missing
    return ()
