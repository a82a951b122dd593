"""Where a hook acts: its pods as the API server has them, and what becomes of one (D17)."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from controller.api.hook_input import HookInput
from controller.api.objects import Obj, is_deleting, is_live, name_of, uid_of
from controller.api.report import Reason
from controller.api.resources import POD
from controller.kube.errors import KubeError, NotFound, NotServed
from controller.kube.interface import READ_S, KubeClient
from runner.failure import RunError
from runner.hook_end import MOST_NAMED
from runner.log import Log
from runner.pods import awaited, chosen, leaving, runs, waits_for, will_run
from runner.retry import remedy, until_answered

PAGE = 500
PAUSE_S = 1.0
"""Between two looks at a container that is to run again; one that crashes may not run for long."""
LEAST_S = 1.0
"""What a look at a pod may take when the time is over: less than a handler's grace."""
SETTLE_S = 20.0
"""For so long the successor of a pod that has gone is looked for: the controller of its workload
makes it only then, and between the two there is nothing to be seen."""
_pause = threading.Event()  # never set: its `wait` ends by time, or by an exception from a signal


@dataclass(frozen=True, slots=True)
class Found:
    """The pods to act in `now`, and those whose container has to run before: `later`.

    `is_moving` says that one is on its way out, so that another may come.
    """

    now: tuple[Obj, ...] = ()
    later: tuple[Obj, ...] = ()
    is_moving: bool = False


class HookPods:
    """The pods of one hook. `left_s` tells how much time it has left."""

    def __init__(
        self, client: KubeClient, hook: HookInput, log: Log, left_s: Callable[[], float]
    ) -> None:
        self._client = client
        self._hook = hook
        self._log = log
        self._left_s = left_s

    def found(self) -> Found:
        """Return the pods of the hook.

        Raises:
            RunError: there is none, none runs in time, or nobody says which there are.
        """
        hook = self._hook
        if not (hook.label_selector or hook.claim):
            raise RunError(Reason.INPUT_INVALID, "neither labels nor a claim tell the pods")
        since_s = self._left_s()
        while True:
            pods = self._listed()
            now, later, is_moving = chosen(pods, hook), awaited(pods, hook), leaving(pods, hook)
            if now:
                return Found(now, later, is_moving)
            if later or is_moving:
                since_s = self._left_s()
            if not hook.also_unready or self._is_over(since_s):
                break
            _pause.wait(PAUSE_S)
        where = self._where
        if later:
            texts = [f"{name_of(pod)}: {waits_for(pod, hook)}" for pod in later[:MOST_NAMED]]
            if len(later) > MOST_NAMED:
                texts.append(f"and {len(later) - MOST_NAMED} more")
            text = f"no running pod with {where} in {hook.namespace}. {'; '.join(texts)}"
            raise RunError(Reason.HOOK_LOST, text)
        state = "running" if hook.also_unready else "Ready"
        raise RunError(
            Reason.NO_READY_POD,
            f"no {state} pod with {where} in {hook.namespace} (of {len(pods)} pods there):"
            " the hook would reach nobody; start the application, or remove the hook",
        )

    def successors(self, acted: Sequence[Obj]) -> tuple[Obj, ...]:
        """Return the pods that came while the hook acted in others, of which some have gone.

        Raises:
            RunError: nobody says which there are.
        """
        known = {(name_of(pod), uid_of(pod)) for pod in acted}
        since_s = self._left_s()
        while True:
            pods = self._listed()
            there = (*chosen(pods, self._hook), *awaited(pods, self._hook))
            if new := tuple(pod for pod in there if (name_of(pod), uid_of(pod)) not in known):
                return new
            if leaving(pods, self._hook):
                since_s = self._left_s()
            if self._is_over(since_s):
                return ()
            _pause.wait(PAUSE_S)

    def awaits(self, pod: Obj) -> str:
        """Wait until a pod's container runs, or never will; say why not when the time is over."""
        while self._left_s() > PAUSE_S:
            try:
                live = self._live(pod)
            except KubeError:
                live = pod
            if live is None or not will_run(live, self._hook):
                return ""
            pod = live
            _pause.wait(PAUSE_S)
        return waits_for(pod, self._hook) or "it came too late"

    def _is_over(self, since_s: float) -> bool:
        """Tell whether nothing is to be expected any more since so much time was left."""
        left_s = self._left_s()
        return left_s <= PAUSE_S or since_s - left_s >= SETTLE_S

    def is_gone(self, pod: Obj, *, is_lost: bool) -> bool:
        """Tell whether nothing of a pod is left that a second hook could set going again.

        What was frozen may be the file system of a volume: that stays so for as long as the pod has
        it mounted, whatever becomes of its containers. `is_lost` says that it gave no answer.
        """
        if not self._hook.also_unready:
            return False
        try:
            live = self._live(pod)
        except KubeError:
            return False
        if live is None or uid_of(live) != uid_of(pod) or not is_live(live):
            return True
        return is_deleting(live) and (is_lost or not runs(live, self._hook))

    def _live(self, pod: Obj) -> Obj | None:
        """Return a pod as it is now; an API server that hangs does not take more than is left."""
        timeout_s = min(READ_S, max(LEAST_S, self._left_s()))
        try:
            return self._client.get(POD, self._hook.namespace, name_of(pod), timeout_s=timeout_s)
        except NotServed:
            raise
        except NotFound:
            return None

    @property
    def _where(self) -> str:
        hook = self._hook
        return f"claim {hook.claim}" if hook.claim else f"labels {hook.label_selector}"

    def _listed(self) -> list[Obj]:
        hook = self._hook
        try:
            return until_answered(
                self._pages, self._log, {"hostname": hook.hostname}, limit_s=self._left_s()
            )
        except KubeError as err:
            what = f"the pods with {self._where} in {hook.namespace}"
            text = f"{what} cannot be listed: {err.message}{remedy(err)}"
            reason = Reason.HOOK_LOST if hook.also_unready else Reason.HOOK_FAILED
            raise RunError(reason, text) from err

    def _pages(self) -> list[Obj]:
        pods: list[Obj] = []
        token = ""
        while True:
            page = self._client.list_page(
                POD,
                self._hook.namespace,
                label_selector="" if self._hook.claim else self._hook.label_selector,
                limit=PAGE,
                continue_token=token,
            )
            pods += page.get("items") or ()
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return pods
