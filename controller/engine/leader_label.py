"""The label on our own pod by which the Services find the leader (D29), kept as it should be.

Without it the Pushgateway has no endpoints. So it is not written once, but compared with what a
watch of this one pod shows: a PATCH that failed is repeated, a label that somebody took off is put
on again, and one that an earlier life of the container left behind is taken off.

Invariant: what the label *is* comes from the watch alone, never from the answer to a PATCH, which
may be older than a change that the watch has shown. A PATCH too many changes nothing.
"""

import random
import threading
from collections.abc import Sequence

import structlog

from controller.api.objects import Obj, dig
from controller.api.resources import POD
from controller.engine.backoff import Backoff
from controller.engine.clock import Clock
from controller.engine.metrics import Metrics
from controller.engine.reflector import Reflector
from controller.engine.threads import Supervisor
from controller.kube.client import KubeClient
from controller.kube.errors import KubeError
from controller.kube.interface import WRITE_S

log = structlog.get_logger()

LEADER_LABEL = "drey.dev/leader"
CLOSE_S = 2.0


class LeaderLabel:
    """Sets and removes the label of one pod; also the sink of the watch of that pod."""

    def __init__(
        self,
        client: KubeClient,
        clock: Clock,
        stop: threading.Event,
        *,
        namespace: str,
        pod_name: str,
        metrics: Metrics | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Prepare for a pod; without a name, outside of a cluster, there is nothing to label."""
        self._client = client
        self._stop = stop
        self._namespace, self._pod_name = namespace, pod_name
        rng = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._backoff = Backoff(clock, rng)
        self._wanted = False
        self._present = False
        self._changed = threading.Event()
        # held during a PATCH: `close` must have the last word
        self._writing = threading.Lock()
        self._reflector = Reflector(
            POD,
            client,
            self,
            clock=clock,
            stop=stop,
            namespace=namespace,
            field_selector=f"metadata.name={pod_name}",
            metadata_only=True,
            name="leader-label",
            metrics=metrics,
            rng=rng,
        )

    def start(self, threads: Supervisor) -> None:
        """Start the watch, and the thread that writes."""
        if self._pod_name:
            threads.start("reflector-leader-label", self._reflector.run)
            threads.start("leader-label", self.run)

    def lead(self) -> None:
        """Have the label on the pod from now on."""
        self._wanted = True
        self._changed.set()

    def close(self) -> None:
        """Take the label off, by one attempt, and end the threads; set the stop event before."""
        with self._writing:
            wanted, self._wanted = self._wanted, False
            if self._pod_name and (wanted or self._present):
                try:
                    self._patch(CLOSE_S)
                except KubeError as err:
                    log.warning("leader_label_failed", wanted=False, error=str(err))
        self._changed.set()
        self._reflector.wake()

    def run(self) -> None:
        """Write the label whenever it is not as wanted, until stopped."""
        while not self._stop.is_set():
            self._changed.wait()
            self._changed.clear()
            if delay_s := self.ensure():
                self._stop.wait(delay_s)
                self._changed.set()

    def ensure(self) -> float:
        """Write the label if need be; return in how many seconds to look again, 0 for at an event.

        After a success too: it gives the watch time to show it, and if somebody else keeps on
        taking the label off, the two of us do not do it a hundred times a second.
        """
        with self._writing:
            if self._stop.is_set() or self._present == self._wanted:
                return 0.0
            delay_s = self._backoff.delay_s()
            try:
                self._patch(WRITE_S)
            except KubeError as err:
                # Metrics may go astray meanwhile; backups do not wait for this.
                log.warning(
                    "leader_label_failed",
                    wanted=self._wanted,
                    error=str(err),
                    retry_s=round(delay_s, 1),
                )
            else:
                log.info("leader_label_written", present=self._wanted)
            return delay_s

    def replace(self, items: Sequence[Obj], version: str) -> None:
        """See `Sink.replace`: our pod, or nothing."""
        del version  # the next event tells what a list does not know yet
        self._see(items[0] if items else {})

    def upsert(self, obj: Obj) -> None:
        """See `Sink.upsert`."""
        self._see(obj)

    def delete(self, obj: Obj) -> None:
        """See `Sink.delete`: our pod is gone, and this process will be in a moment."""

    def pause(self) -> None:
        """See `Sink.pause`."""

    def _see(self, pod: Obj) -> None:
        self._present = (dig(pod, "metadata", "labels") or {}).get(LEADER_LABEL) == "true"
        if self._present != self._wanted:
            self._changed.set()

    def _patch(self, timeout_s: float) -> None:
        patch = {"metadata": {"labels": {LEADER_LABEL: "true" if self._wanted else None}}}
        self._client.merge_patch(POD, self._namespace, self._pod_name, patch, timeout_s=timeout_s)
