"""Leader election on a Lease: at most one process acts.

Invariants (client-go tools/leaderelection):
- Nobody compares clocks. That a Lease is alive is judged by *when this process saw it change*, on
  its own monotonic clock; the times in the Lease are for people.
- A leader that could not renew for `renew_deadline_s` ends before a follower may take over, which
  is `lease_s` after the follower saw the last change. A renewal counts from before its request.
- Losing the Lease ends the process. There is no soft stop: the work of a leader cannot be trusted
  to have ended any other way.
- Who stops on purpose gives the Lease back, after its work has ended.

A watchdog on a thread of its own ends the process, because the thread that renews may be the one
that hangs.
"""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from controller.api.objects import Obj, dig
from controller.api.resources import LEASE
from controller.engine.clock import Clock
from controller.engine.events import micro_time
from controller.engine.metrics import Metrics
from controller.kube.client import KubeClient
from controller.kube.errors import AlreadyExists, Conflict, KubeError, NotFound

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. Must hold: request_s <= lease_s - renew_deadline_s, renew_s < renew_deadline_s."""

    lease_s: float = 15.0
    renew_deadline_s: float = 10.0
    renew_s: float = 2.0
    candidate_s: float = 1.0
    """How often a follower looks: what a clean handover takes at most."""
    request_s: float = 5.0

    def __post_init__(self) -> None:
        if not (
            self.request_s <= self.lease_s - self.renew_deadline_s
            and self.renew_s < self.renew_deadline_s
        ):
            raise ValueError(f"{self}: two leaders would be possible")


class Election:
    """One candidate. `run` and `watch` are the bodies of two threads."""

    def __init__(
        self,
        client: KubeClient,
        clock: Clock,
        *,
        namespace: str,
        name: str,
        identity: str,
        exit_process: Callable[[str], None],
        timing: Timing | None = None,
        metrics: Metrics | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """`exit_process` must not return in production: flush the log, then `os._exit(1)`.

        `identity` must differ between two lives of one pod: its name and something random.
        """
        self._client = client
        self._clock = clock
        self._namespace, self._name, self._identity = namespace, name, identity
        self._exit = exit_process
        self._timing = timing or Timing()
        self._metrics = metrics
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._stop = threading.Event()
        self._released = threading.Event()
        self.leading = threading.Event()
        """Set while this process leads; workers wait for it."""
        self._seen: Obj | None = None
        self._seen_at = clock.monotonic()
        self._renewed_at = float("-inf")
        self._failing = False
        if metrics:
            metrics.leading.labels(name).set(0)

    def run(self) -> None:
        """Become the leader, renew until `stop`, then give the Lease back."""
        while not self._stop.is_set():
            self._try_once()
            pause_s = self._timing.renew_s if self.leading.is_set() else self._timing.candidate_s
            self._stop.wait(pause_s * (1.0 + 0.2 * self._rng.random()))
        self._release()
        self._released.set()

    def watch(self) -> None:
        """End the process when it leads and the renewals have stopped."""
        while not self._released.wait(0.2):
            self.check()

    def check(self) -> None:
        """End the process if it leads and could not renew in time."""
        age_s = self._clock.monotonic() - self._renewed_at
        if self.leading.is_set() and age_s > self._timing.renew_deadline_s:
            self._lose(f"not renewed for {age_s:.1f} s")

    def may_write(self) -> bool:
        """Tell whether a write that begins now is over before anybody else may lead."""
        age_s = self._clock.monotonic() - self._renewed_at
        return self.leading.is_set() and age_s <= self._timing.renew_deadline_s

    def problem(self) -> str | None:
        """Return what is wrong, for `/healthz`: we believe to lead, but the Lease is long over."""
        age_s = self._clock.monotonic() - self._renewed_at
        if self.leading.is_set() and age_s > self._timing.lease_s + 20.0:
            return f"leads, but has not renewed its Lease for {age_s:.0f} s"
        return None

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Give the Lease back and end the threads; tell whether that was done in time."""
        self._stop.set()
        return self._released.wait(timeout_s)

    def _try_once(self) -> None:
        started = self._clock.monotonic()
        try:
            holds = self._acquire_or_renew()
        except KubeError as err:
            # once per outage: a follower would say it every second
            write = log.debug if self._failing else log.warning
            write("lease_request_failed", error_kind=type(err).__name__, error=str(err))
            self._failing = True
            self.check()
            return
        self._failing = False
        if holds:
            self._renewed_at = started
            if not self.leading.is_set():
                log.info("lease_acquired", lease=self._name, identity=self._identity)
                self._set_leading(leads=True)
        elif self.leading.is_set():
            self._lose(f"held by {self._holder(self._seen)!r} now")

    def _acquire_or_renew(self) -> bool:
        """Return whether we hold the Lease after this; one request when we held it before."""
        if self.leading.is_set() and self._seen is not None:
            try:
                return self._write(self._seen)
            except (Conflict, NotFound):
                pass  # somebody wrote it, or deleted it: look
        try:
            lease = self._client.get(
                LEASE, self._namespace, self._name, timeout_s=self._timing.request_s
            )
        except NotFound:
            return self._create()
        self._observe(lease)
        holder = self._holder(lease)
        if holder not in ("", self._identity) and not self._is_over(lease):
            return False
        try:
            return self._write(lease)
        except (Conflict, NotFound):
            return False  # another candidate was faster

    def _observe(self, lease: Obj) -> None:
        """Note when the Lease was seen to change; what it says about times is not used."""
        if self._seen is None or dig(lease, "spec") != dig(self._seen, "spec"):
            self._seen_at = self._clock.monotonic()
        self._seen = lease

    def _is_over(self, lease: Obj) -> bool:
        lasts_s = float(dig(lease, "spec", "leaseDurationSeconds") or self._timing.lease_s)
        return self._clock.monotonic() - self._seen_at > lasts_s

    def _create(self) -> bool:
        metadata = {"namespace": self._namespace, "name": self._name}
        body = {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": metadata,
            "spec": self._spec({}),
        }
        try:
            created = self._client.create(
                LEASE, self._namespace, body, timeout_s=self._timing.request_s
            )
        except AlreadyExists:
            return False
        self._observe(created)
        return True

    def _write(self, lease: Obj) -> bool:
        body = {**lease, "spec": self._spec(dig(lease, "spec") or {})}
        # the resourceVersion of `lease` goes along: a change in between is a Conflict
        self._observe(self._client.put(LEASE, body, timeout_s=self._timing.request_s))
        return True

    def _spec(self, before: Obj) -> dict[str, Any]:
        now = micro_time(self._clock.now())
        is_renewal = before.get("holderIdentity") == self._identity
        transitions = int(before.get("leaseTransitions") or 0)
        return {
            **before,
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._timing.lease_s)),
            "renewTime": now,
            "acquireTime": before.get("acquireTime") or now if is_renewal else now,
            "leaseTransitions": transitions if is_renewal or not before else transitions + 1,
        }

    def _release(self) -> None:
        if not self.leading.is_set() or self._seen is None:
            return
        self._set_leading(leads=False)
        now = micro_time(self._clock.now())
        spec = {
            **dig(self._seen, "spec"),
            "holderIdentity": "",
            "leaseDurationSeconds": 1,
            "renewTime": now,
            "acquireTime": now,
        }
        try:
            self._client.put(LEASE, {**self._seen, "spec": spec}, timeout_s=2.0)
        except KubeError as err:
            log.warning("lease_not_released", error_kind=type(err).__name__)
        else:
            log.info("lease_released", lease=self._name)

    def _lose(self, why: str) -> None:
        try:
            self._set_leading(leads=False)
            log.error("lease_lost", lease=self._name, identity=self._identity, why=why)
        finally:  # a log that cannot be written (a closed pipe) must not keep a second leader alive
            self._exit("lease_lost")

    def _set_leading(self, *, leads: bool) -> None:
        (self.leading.set if leads else self.leading.clear)()
        if self._metrics:
            self._metrics.leading.labels(self._name).set(1 if leads else 0)

    @staticmethod
    def _holder(lease: Obj | None) -> str:
        return str(dig(lease, "spec", "holderIdentity") or "")
