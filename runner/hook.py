"""Runs one hook: in the application's pods, or against an address (D17, stash.md 3.9).

A handler acts on all pods at once, and also where it failed in another: a pod that is passed over
would stay frozen.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from controller.api.hook_input import HookInput, HttpInput, TcpInput
from controller.api.objects import Obj, name_of, status
from controller.api.report import ExitCode, HostReport, Reason
from controller.kube.client import Client
from controller.kube.config import connect
from controller.kube.errors import KubeError, NotFound, NotServed, ServerFault
from controller.kube.exec import ExecResult, run_in_pod
from controller.kube.interface import KubeClient
from runner import api_verb, probe
from runner.disclosure import HookRedactor
from runner.failure import RunError
from runner.hook_end import End, Failure, counting, error
from runner.hook_pods import Found, HookPods
from runner.log import Log
from runner.parallel import spread
from runner.pods import NoPort, container, port_number
from runner.retry import remedy, until_answered

GRACE_S = 3.0
"""What a handler gets after the end of the time, so that its own words about it are told."""
MOST_WORDS = 400
"""Characters of what a command printed last."""
KILLED = 128 + signal.SIGKILL
"""Exit code of a command that was killed, as all are when the kubelet restarts their container."""

Runner = Callable[[HookInput, str, str, float], ExecResult]
"""Runs the command of a hook in a pod's container, for at most so many seconds."""


class Unheard(ServerFault):
    """What may be done twice may have been done, and nobody has said how it went."""


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
        self._run = run
        self._hook = hook
        self._log = log
        self._redact = HookRedactor(hook)
        self._monotonic = monotonic
        self._started_s = monotonic()
        self._pods = HookPods(client, hook, log, self._left_s)

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
        needs_pods = any(handler.needs_pods for handler in handlers)
        found = self._pods.found() if needs_pods else Found()
        ends = self._through(handlers, found.now)
        own = [self._patient(handler) for handler in handlers if not handler.host]
        acted = list(found.now)
        # After the others, which shall not stand still until these run.
        late = found.later or self._successors(found, ends, acted)
        while own and late:
            ends += self._through(own, late)
            acted += late
            late = self._successors(found, ends, acted)
        if failed := error(ends, self._hook):
            raise failed

    def _successors(self, found: Found, ends: Sequence[End], acted: Sequence[Obj]) -> Sequence[Obj]:
        """Return the pods that took the place of others while the hook acted."""
        is_moving = found.is_moving or any(end.is_gone for end in ends)
        return self._pods.successors(acted) if is_moving else ()

    def _through(self, handlers: Sequence[Handler], pods: Sequence[Obj]) -> list[End]:
        """Let handlers act in their order until one has failed; return how the last one ended."""
        ends: list[End] = []
        for handler in handlers:
            ends = self._everywhere(handler, handler.places(pods))
            if counting(ends):
                break
        return ends

    def _patient(self, handler: Handler) -> Handler:
        """Return a handler that waits until the container of its pod runs."""

        def act(pod: Obj | None) -> Failure | None:
            words = self._pods.awaits(pod) if pod is not None else ""
            if words:
                return Failure(f"{words}, and did not run in time", is_lost=True)
            return handler.act(pod)

        return replace(handler, act=act)

    def _handlers(self) -> Iterator[Handler]:
        hook = self._hook
        if hook.command:
            yield Handler("exec", self._exec)
        for request in (hook.http_get, hook.http_post):
            if request is not None:
                title = "httpPost" if request.is_post else "httpGet"
                yield Handler(title, self._asking(request), request.host, request.port)
        if hook.tcp is not None:
            yield Handler("tcpSocket", self._connecting(hook.tcp), hook.tcp.host, hook.tcp.port)

    def _everywhere(self, handler: Handler, pods: Sequence[Obj | None]) -> list[End]:
        """Let a handler act; return how it ended in each place."""
        done: dict[int, Failure | None] = {}
        limit_s = max(0.0, self._left_s()) + GRACE_S
        spread(handler.act, pods, done, threads=len(pods), limit_s=limit_s)
        late = Failure("it has not ended", timed_out=True)
        found = [(pod, done.get(index, late)) for index, pod in enumerate(pods)]
        gone: dict[int, bool] = {}
        spread(self._is_gone, found, gone, threads=len(found), limit_s=GRACE_S)
        ends = []
        for index, (pod, failure) in enumerate(found):
            name = name_of(pod) if pod is not None else ""
            end = End(handler.title, name, failure, is_gone=gone.get(index, False))
            tell = self._log.info if failure is None else self._log.error
            if end.is_gone:
                tell = self._log.warning
            tell(
                "handler_ended",
                handler=handler.title,
                namespace=self._hook.namespace,
                pod=name,
                error=failure.text if failure else "",
            )
            ends.append(end)
        return ends

    def _is_gone(self, found: tuple[Obj | None, Failure | None]) -> bool:
        pod, failure = found
        if pod is None or failure is None:
            return False
        return self._pods.is_gone(pod, is_lost=failure.is_lost)

    def _exec(self, pod: Obj | None) -> Failure | None:
        assert pod is not None  # noqa: S101 - narrows the type for mypy
        try:
            name = container(pod, self._hook.container)["name"]
        except NoPort as err:
            return Failure(str(err))
        fields = {"pod": name_of(pod), "container": name}

        def request() -> ExecResult:
            try:
                result = self._run(self._hook, name_of(pod), name, max(0.1, self._left_s()))
            except NotServed:
                raise
            except NotFound as err:  # it was there a moment ago: no start of an API server
                return ExecResult(None, error=err.message)
            if self._is_said(result) or self._pods.is_gone(pod, is_lost=False):
                return result
            self._pods.awaits(pod)
            raise Unheard(result.error or f"it exited with {result.code}")

        try:
            result = until_answered(request, self._log, fields, limit_s=self._left_s())
        except Unheard as err:
            return Failure(f"container {name}: {err.message}", is_lost=True)
        except KubeError as err:
            text = f"container {name}: the command was not started: {err.message}{remedy(err)}"
            return Failure(text, is_lost=True)
        if result.code == 0:
            return None
        what = result.error if result.code is None else f"it exited with {result.code}"
        # Redacted before it is cut: of a secret no end may be left that nobody knows as one.
        words = self._redact(result.stderr or result.stdout)[-MOST_WORDS:]
        text = f"container {name}: {what}{': ' if words else ''}{words}"
        is_lost = result.code is None and not (result.timed_out or result.never_starts)
        return Failure(text, timed_out=result.timed_out, is_lost=is_lost)

    def _is_said(self, result: ExecResult) -> bool:
        """Tell whether a result is the last word: always of a command that must not run twice."""
        if not self._hook.also_unready or result.timed_out or result.never_starts:
            return True
        return result.code not in (None, KILLED)

    def _asking(self, request: HttpInput) -> Act:
        def act(pod: Obj | None) -> Failure | None:
            def ask() -> None:
                host, port = self._address(request.host, request.port, pod)
                warning = probe.ask(request, host, port, timeout_s=max(0.1, self._left_s()))
                if warning:
                    self._log.warning("http_redirected", answer=warning)

            return self._until_heard(ask, pod)

        return act

    def _connecting(self, tcp: TcpInput) -> Act:
        def act(pod: Obj | None) -> Failure | None:
            def connect() -> None:
                host, port = self._address(tcp.host, tcp.port, pod)
                probe.connect(host, port, timeout_s=max(0.1, self._left_s()))

            return self._until_heard(connect, pod)

        return act

    def _until_heard(self, ask: Callable[[], None], pod: Obj | None) -> Failure | None:
        """Ask over the network: once, but what may be done twice until there is an answer.

        An application that was restarted runs before it listens.
        """

        def request() -> None:
            try:
                ask()
            except probe.ProbeFailed as err:
                is_last = not self._hook.also_unready or err.is_answer or err.timed_out
                if is_last or (pod is not None and self._pods.is_gone(pod, is_lost=True)):
                    raise
                raise Unheard(str(err)) from err

        fields = {"pod": name_of(pod) if pod is not None else ""}
        try:
            until_answered(request, self._log, fields, limit_s=self._left_s())
        except NoPort as err:
            return Failure(str(err))
        except probe.ProbeFailed as err:
            return Failure(str(err), timed_out=err.timed_out)
        except Unheard as err:
            return Failure(err.message, is_lost=True)
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
