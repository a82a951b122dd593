"""Runs one hook: in the application's pods, or against an address (D17, stash.md 3.9).

A handler acts on all pods at once, and also where it failed in another: a pod that is passed over
would stay frozen.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from controller.api.hook_input import HookInput, HttpInput
from controller.api.objects import Obj, is_deleting, name_of, status, uid_of
from controller.api.report import ExitCode, HostReport, Reason
from controller.api.resources import POD
from controller.kube.client import Client, find
from controller.kube.config import connect
from controller.kube.errors import KubeError, NotFound
from controller.kube.exec import ExecResult, run_in_pod
from controller.kube.interface import KubeClient
from runner import api_verb, probe
from runner.disclosure import HookRedactor
from runner.failure import RunError
from runner.log import Log
from runner.parallel import spread
from runner.pods import NoPort, chosen, container, port_number, runs
from runner.retry import until_answered

GRACE_S = 3.0
"""What a handler gets after the end of the time, so that its own words about it are told."""
MOST_WORDS = 400
"""Characters of what a command printed last."""
MOST_NAMED = 3
PAGE = 500

Runner = Callable[[HookInput, str, str, float], ExecResult]
"""Runs the command of a hook in a pod's container, for at most so many seconds."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a handler failed in one place."""

    text: str
    timed_out: bool = False
    is_lost: bool = False
    """The application itself has said nothing."""


Act = Callable[[Obj | None], Failure | None]
"""What a handler does with one pod; None when the hook itself says where to go."""


@dataclass(frozen=True, slots=True)
class Handler:
    """One handler. Without `host` it acts on each pod; a `port` with a name is looked up in one."""

    title: str
    act: Act
    host: str = ""
    port: str = ""

    @property
    def needs_pods(self) -> bool:
        """Tell whether pods are needed at all."""
        return not (self.host and self.port.isdecimal())

    def places(self, pods: Sequence[Obj]) -> Sequence[Obj | None]:
        """Return what to act on."""
        if not self.needs_pods:
            return (None,)
        return pods[:1] if self.host else pods


class Hook:
    """One hook, from looking for its pods to its outcome."""

    def __init__(
        self,
        client: KubeClient,
        run: Runner,
        hook: HookInput,
        log: Log,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._run = run
        self._hook = hook
        self._log = log
        self._redact = HookRedactor(hook)
        self._monotonic = monotonic
        self._started_s = monotonic()

    def outcome(self) -> HostReport:
        """Run the handlers in their order until one has failed."""
        try:
            self._handle()
        except RunError as err:
            reason, text = err.reason, err.text
        except KeyboardInterrupt:
            reason, text = Reason.INTERRUPTED, "the pod of the hook was told to stop"
        else:
            return HostReport(self._hook.hostname, succeeded=True, duration_s=self._passed_s())
        return api_verb.failed(self._hook.hostname, reason, text, self._passed_s())

    def _handle(self) -> None:
        handlers = list(self._handlers())
        if not handlers:
            raise RunError(Reason.INPUT_INVALID, "the hook has no handler")
        pods = self._pods() if any(handler.needs_pods for handler in handlers) else ()
        for handler in handlers:
            self._everywhere(handler, handler.places(pods))

    def _handlers(self) -> Iterator[Handler]:
        hook = self._hook
        if hook.command:
            yield Handler("exec", self._exec)
        for request in (hook.http_get, hook.http_post):
            if request is not None:
                title = "httpPost" if request.is_post else "httpGet"
                yield Handler(title, self._asking(request), request.host, request.port)
        if hook.tcp is not None:
            yield Handler("tcpSocket", self._tcp, hook.tcp.host, hook.tcp.port)

    def _pods(self) -> tuple[Obj, ...]:
        hook = self._hook
        if not (hook.label_selector or hook.claim):
            raise RunError(Reason.INPUT_INVALID, "neither labels nor a claim tell the pods")
        where = f"claim {hook.claim}" if hook.claim else f"labels {hook.label_selector}"
        try:
            found = until_answered(
                self._listed, self._log, {"hostname": hook.hostname}, limit_s=self._left_s()
            )
        except KubeError as err:
            text = f"the pods with {where} in {hook.namespace} cannot be listed: {err.message}"
            raise RunError(Reason.HOOK_FAILED, text) from err
        pods = chosen(found, hook)
        if not pods:
            state = "running" if hook.also_unready else "Ready"
            raise RunError(
                Reason.NO_READY_POD,
                f"no {state} pod with {where} in {hook.namespace} (of {len(found)} pods there):"
                " the hook would reach nobody; start the application, or remove the hook",
            )
        return pods

    def _listed(self) -> list[Obj]:
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

    def _everywhere(self, handler: Handler, pods: Sequence[Obj | None]) -> None:
        """Let a handler act.

        Raises:
            RunError: it failed in one of them.
        """
        done: dict[int, Failure | None] = {}
        limit_s = max(0.0, self._left_s()) + GRACE_S
        spread(handler.act, pods, done, threads=len(pods), limit_s=limit_s)
        late = Failure("it has not ended", timed_out=True)
        failures = []
        gone = 0
        for index, pod in enumerate(pods):
            failure = done.get(index, late)
            name = name_of(pod) if pod is not None else ""
            is_gone = failure is not None and pod is not None and self._is_gone(pod, failure)
            tell = self._log.info if failure is None else self._log.error
            if is_gone:
                tell = self._log.warning
            tell(
                "handler_ended",
                handler=handler.title,
                namespace=self._hook.namespace,
                pod=name,
                error=failure.text if failure else "",
            )
            if failure is not None:
                failures.append((name, failure))
                gone += is_gone
        if failures and (gone < len(failures) or gone == len(pods)):
            raise self._failed(handler.title, len(pods), failures)

    def _is_gone(self, pod: Obj, failure: Failure) -> bool:
        """Tell whether nothing of a pod is left that a second hook could set going again."""
        hook = self._hook
        if not hook.also_unready:
            return False
        try:
            live = find(self._client, POD, hook.namespace, name_of(pod))
        except KubeError:
            return False
        if live is None or uid_of(live) != uid_of(pod) or not runs(live, hook):
            return True
        return is_deleting(live) and failure.is_lost

    def _failed(self, title: str, count: int, failures: list[tuple[str, Failure]]) -> RunError:
        texts = [
            f"pod {self._hook.namespace}/{name}: {failure.text}" if name else failure.text
            for name, failure in failures[:MOST_NAMED]
        ]
        if len(failures) > MOST_NAMED:
            texts.append(f"and {len(failures) - MOST_NAMED} more")
        told = f"{title} failed" if count == 1 else f"{title} failed in {len(failures)} of {count}"
        if not any(failure.timed_out for _, failure in failures):
            return RunError(Reason.HOOK_FAILED, f"{told}: {'; '.join(texts)}")
        limit = f"within {self._hook.timeout_s} s"
        return RunError(
            Reason.HOOK_TIMED_OUT,
            f"{told} {limit}: {'; '.join(texts)}. What was started may still run; the annotation"
            " drey.dev/hook-timeout allows more time",
        )

    def _exec(self, pod: Obj | None) -> Failure | None:
        assert pod is not None  # noqa: S101 - narrows the type for mypy
        try:
            name = container(pod, self._hook.container)["name"]
        except NoPort as err:
            return Failure(str(err))
        fields = {"pod": name_of(pod), "container": name}

        def request() -> ExecResult:
            try:
                return self._run(self._hook, name_of(pod), name, max(0.1, self._left_s()))
            except NotFound as err:  # it was there a moment ago: no start of an API server
                return ExecResult(None, error=err.message)

        try:
            result = until_answered(request, self._log, fields, limit_s=self._left_s())
        except KubeError as err:
            text = f"container {name}: the command was not started: {err.message}"
            return Failure(text, is_lost=True)
        if result.code == 0:
            return None
        what = result.error if result.code is None else f"it exited with {result.code}"
        # Redacted before it is cut: of a secret no end may be left that nobody knows as one.
        words = self._redact(result.stderr or result.stdout)[-MOST_WORDS:]
        text = f"container {name}: {what}{': ' if words else ''}{words}"
        is_lost = result.code is None and not result.timed_out
        return Failure(text, timed_out=result.timed_out, is_lost=is_lost)

    def _asking(self, request: HttpInput) -> Act:
        def act(pod: Obj | None) -> Failure | None:
            try:
                host, port = self._address(request.host, request.port, pod)
                warning = probe.ask(request, host, port, timeout_s=max(0.1, self._left_s()))
            except NoPort as err:
                return Failure(str(err))
            except probe.ProbeFailed as err:
                return Failure(str(err), timed_out=err.timed_out)
            if warning:
                self._log.warning("http_redirected", answer=warning)
            return None

        return act

    def _tcp(self, pod: Obj | None) -> Failure | None:
        assert self._hook.tcp is not None  # noqa: S101 - narrows the type for mypy
        try:
            host, port = self._address(self._hook.tcp.host, self._hook.tcp.port, pod)
            probe.connect(host, port, timeout_s=max(0.1, self._left_s()))
        except NoPort as err:
            return Failure(str(err))
        except probe.ProbeFailed as err:
            return Failure(str(err), timed_out=err.timed_out)
        return None

    def _address(self, host: str, port: str, pod: Obj | None) -> tuple[str, int]:
        if pod is None:
            return host, int(port)
        number = port_number(container(pod, self._hook.container), port)
        return host or str(status(pod).get("podIP") or ""), number

    def _passed_s(self) -> float:
        return self._monotonic() - self._started_s

    def _left_s(self) -> float:
        return self._hook.timeout_s - self._passed_s()


def main(environ: Mapping[str, str] = os.environ) -> ExitCode:
    """Run the hook that the environment describes."""

    def act(hook: HookInput, log: Log) -> tuple[HostReport, ...]:
        client: Client = connect(environ.get("KUBECONFIG"), pool_size=1, environ=environ)

        def run(hook: HookInput, pod: str, container: str, timeout_s: float) -> ExecResult:
            return run_in_pod(
                client, hook.namespace, pod, container, hook.command, timeout_s=timeout_s
            )

        return (Hook(client, run, hook, log).outcome(),)

    return api_verb.run(HookInput.decode, act, redactor=HookRedactor, environ=environ)
