"""Where a hook acts: its pods as the API server has them, and what becomes of one (D17)."""

import threading
from collections.abc import Callable

from controller.api.hook_input import HookInput
from controller.api.objects import Obj, is_deleting, is_live, name_of, uid_of
from controller.api.report import Reason
from controller.api.resources import POD
from controller.kube.errors import KubeError, NotFound
from controller.kube.interface import READ_S, KubeClient
from runner.failure import RunError
from runner.log import Log
from runner.pods import chosen, restarting, restarts, runs
from runner.retry import until_answered

PAGE = 500
PAUSE_S = 1.0
"""Between two looks at a container that is to run again; one that crashes may not run for long."""
LEAST_S = 1.0
"""What a look at a pod may take when the time is over: less than a handler's grace."""
_pause = threading.Event()  # never set: its `wait` ends by time, or by an exception from a signal


class HookPods:
    """The pods of one hook. `left_s` tells how much time it has left."""

    def __init__(
        self, client: KubeClient, hook: HookInput, log: Log, left_s: Callable[[], float]
    ) -> None:
        self._client = client
        self._hook = hook
        self._log = log
        self._left_s = left_s

    def found(self) -> tuple[tuple[Obj, ...], tuple[Obj, ...]]:
        """Return the pods to act in now, and those whose container has to run again before.

        Raises:
            RunError: there is none, none runs in time, or nobody says which there are.
        """
        hook = self._hook
        if not (hook.label_selector or hook.claim):
            raise RunError(Reason.INPUT_INVALID, "neither labels nor a claim tell the pods")
        where = f"claim {hook.claim}" if hook.claim else f"labels {hook.label_selector}"
        while True:
            pods = self._listed(where)
            now, later = chosen(pods, hook), restarting(pods, hook)
            if now:
                return now, later
            if not later:
                break
            if self._left_s() <= PAUSE_S:
                names = ", ".join(name_of(pod) for pod in later)
                text = f"no running pod with {where} in {hook.namespace}: of {names} the container"
                raise RunError(Reason.HOOK_LOST, f"{text} is between restarts")
            _pause.wait(PAUSE_S)
        state = "running" if hook.also_unready else "Ready"
        raise RunError(
            Reason.NO_READY_POD,
            f"no {state} pod with {where} in {hook.namespace} (of {len(pods)} pods there):"
            " the hook would reach nobody; start the application, or remove the hook",
        )

    def is_back(self, pod: Obj) -> bool:
        """Wait while a pod's container is between restarts; False when the time was over before."""
        while self._left_s() > PAUSE_S:
            try:
                live = self._live(pod)
            except KubeError:
                live = pod
            if live is None or not restarts(live, self._hook):
                return True
            _pause.wait(PAUSE_S)
        return False

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
        except NotFound:
            return None

    def _listed(self, where: str) -> list[Obj]:
        hook = self._hook
        try:
            return until_answered(
                self._pages, self._log, {"hostname": hook.hostname}, limit_s=self._left_s()
            )
        except KubeError as err:
            text = f"the pods with {where} in {hook.namespace} cannot be listed: {err.message}"
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
