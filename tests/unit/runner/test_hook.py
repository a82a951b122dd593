"""One hook at a scripted API server and scripted containers."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from controller.api.hook_input import HookInput, HttpInput, TcpInput
from controller.api.objects import name_of
from controller.api.report import HostReport, Reason
from controller.api.resources import Resource
from controller.kube.errors import Forbidden, KubeError, NotFound, NotServed, ServerFault
from controller.kube.exec import ExecResult
from runner import hook as module
from runner import hook_pods
from runner.disclosure import HookRedactor
from runner.hook import Hook
from runner.log import Log
from runner.probe import ProbeFailed


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at pods that are waited for more often, and not for long for their successors."""
    monkeypatch.setattr(hook_pods, "PAUSE_S", 0.05)
    monkeypatch.setattr(hook_pods, "SETTLE_S", 0.2)


TOLD = HookInput(
    hostname="app", namespace="demo", label_selector="app=a", command=("freeze",), timeout_s=30
)


def pod(name: str, **changes: Any) -> dict[str, Any]:
    """Return a Ready pod."""
    return {
        "metadata": {
            "name": name,
            "uid": changes.pop("uid", ""),
            "labels": changes.pop("labels", {"app": "a"}),
        },
        "spec": {
            "containers": [{"name": "db", "ports": [{"name": "http", "containerPort": 8080}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": f"data-{name}"}}],
        },
        "status": {
            "phase": "Running",
            "podIP": f"ip-of-{name}",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "db", "state": {"running": {"startedAt": "x"}}}],
            **changes,
        },
    }


class Server:
    """An API server with pods, two on a page."""

    def __init__(self, *pods: dict[str, Any], errors: tuple[KubeError, ...] = ()) -> None:
        self._pods, self._errors = pods, list(errors)
        self.selectors: list[str] = []
        self.look_s = 0.0
        self.relisted: tuple[dict[str, Any], ...] = ()
        """The pods from a later list on: the second, or `relists_at`."""
        self.relists_at = 2
        self.later: dict[str, dict[str, Any] | KubeError] = {}
        """What becomes of pods after they were listed."""
        self.looks: dict[str, list[dict[str, Any] | KubeError]] = {}
        """What the next looks at single pods find; the last one stays."""

    def get(self, resource: Resource, namespace: str, name: str, *, timeout_s: float) -> Any:
        """Return a pod as it is later."""
        self.look_s = timeout_s
        assert (resource.kind, namespace) == ("Pod", "demo")
        if looks := self.looks.get(name):
            look = looks.pop(0) if len(looks) > 1 else looks[0]
            if isinstance(look, KubeError):
                raise look
            return look
        found = self.later.get(name) or next(p for p in self._pods if name == name_of(p))
        if isinstance(found, KubeError):
            raise found
        return found

    def list_page(
        self,
        resource: Resource,
        namespace: str,
        *,
        label_selector: str,
        continue_token: str,
        **_: Any,
    ) -> Any:
        """Return a page."""
        assert (resource.kind, namespace) == ("Pod", "demo")
        if self._errors:
            raise self._errors.pop(0) if len(self._errors) > 1 else self._errors[0]
        self.selectors.append(label_selector)
        if len(self.selectors) >= self.relists_at and not continue_token and self.relisted:
            self._pods = self.relisted
        start = int(continue_token or 0)
        more = str(start + 2) if start + 2 < len(self._pods) else ""
        return {"items": self._pods[start : start + 2], "metadata": {"continue": more}}


Answer = ExecResult | KubeError | Callable[[], ExecResult]
OK = ExecResult(0)


class Containers:
    """Containers that answer as told; all others succeed."""

    def __init__(self, **answers: Answer | list[Answer]) -> None:
        self._answers = answers
        self.ran: list[tuple[str, str]] = []

    def __call__(self, hook: HookInput, pod: str, container: str, timeout_s: float) -> ExecResult:
        """Run a command."""
        assert 0.0 < timeout_s <= hook.timeout_s
        self.ran.append((pod, container))
        answer = self._answers.get(pod.replace("-", "_"), OK)
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, KubeError):
            raise answer
        return answer if isinstance(answer, ExecResult) else answer()


class Run:
    """One run."""

    def __init__(
        self, server: Server, containers: Containers | None = None, hook: HookInput = TOLD
    ) -> None:
        self.containers = containers or Containers()
        self.lines: list[dict[str, Any]] = []
        client: Any = server
        log = Log(HookRedactor(hook), write=lambda line: self.lines.append(json.loads(line)))
        self.host: HostReport = Hook(client, self.containers, hook, log).outcome()

    @property
    def failure(self) -> tuple[str, str]:
        """Return reason and text."""
        assert not self.host.succeeded
        return self.host.reason, self.host.error


APP = (pod("app-2"), pod("app-0"), pod("app-1"))


def test_all_ready_pods() -> None:
    """The command runs in each Ready pod of all pages, in the first container."""
    going = pod("app-3", conditions=[{"type": "Ready", "status": "False"}])
    server = Server(*APP, going)
    run = Run(server)
    assert (run.host.hostname, run.host.succeeded, run.host.error) == ("app", True, "")
    assert sorted(run.containers.ran) == [("app-0", "db"), ("app-1", "db"), ("app-2", "db")]
    assert server.selectors == ["app=a", "app=a"]
    assert [(line["event"], line["pod"]) for line in run.lines] == [
        ("handler_ended", "app-0"),
        ("handler_ended", "app-1"),
        ("handler_ended", "app-2"),
    ]


def test_hook_behind_a_frozen_application() -> None:
    """A pod that its freeze made unready is thawed."""
    frozen = pod("app-3", conditions=[{"type": "Ready", "status": "False"}])
    run = Run(Server(*APP, frozen), hook=replace(TOLD, also_unready=True))
    assert len(run.containers.ran) == 4


def test_pods_of_a_claim() -> None:
    """The pods that mount the claim, whatever their labels."""
    server = Server(*APP)
    run = Run(server, hook=replace(TOLD, label_selector="", claim="data-app-1"))
    assert run.containers.ran == [("app-1", "db")]
    assert server.selectors == ["", ""]


def test_failure_in_one_pod_passes_none_over() -> None:
    """The other pods are reached, so that none stays frozen; later handlers are not."""
    containers = Containers(app_1=ExecResult(3, stdout="out", stderr="cannot freeze"))
    hook = replace(TOLD, tcp=TcpInput(port="1", host="127.0.0.1"))
    run = Run(Server(*APP), containers, hook)
    assert run.failure == (
        Reason.HOOK_FAILED,
        "exec failed in 1 of 3: pod demo/app-1: container db: it exited with 3: cannot freeze",
    )
    assert len(containers.ran) == 3


def test_many_failures_are_counted() -> None:
    """Three are told, the rest are counted."""
    pods = [pod(f"app-{number}") for number in range(5)]
    failing: Any = {f"app_{number}": ExecResult(1, stdout="no") for number in range(5)}
    _, text = Run(Server(*pods), Containers(**failing)).failure
    assert text.startswith(
        "exec failed in 5 of 5: pod demo/app-0: container db: it exited with 1: no"
    )
    assert text.endswith("; and 2 more")


GONE = NotFound("not found", code=404)
CUT_OFF = ExecResult(None, error="the connection was lost")
AFTER = replace(TOLD, also_unready=True)
SHORT = replace(AFTER, timeout_s=2)
RESTARTS = pod(
    "app-1",
    conditions=[{"type": "Ready", "status": "False"}],
    containerStatuses=[
        {"name": "db", "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    ],
)


def going(**changes: Any) -> dict[str, Any]:
    """Return app-1 on its way out."""
    found = pod("app-1", **changes)
    found["metadata"]["deletionTimestamp"] = "x"
    return found


@pytest.mark.parametrize(
    ("later", "answer", "is_well"),
    [
        (GONE, CUT_OFF, True),
        (GONE, GONE, True),
        (GONE, ExecResult(137), True),
        (pod("app-1", phase="Failed"), CUT_OFF, True),
        (pod("app-1", phase="Succeeded"), ExecResult(1), True),
        ({**pod("app-1"), "metadata": {"name": "app-1", "uid": "another"}}, CUT_OFF, True),
        (going(), CUT_OFF, True),
        (going(containerStatuses=[]), ExecResult(1), True),
        (going(), ExecResult(1), False),
        (RESTARTS, ExecResult(1), False),
        (RESTARTS, CUT_OFF, False),
        (pod("app-1", containerStatuses=[]), CUT_OFF, False),
        (pod("app-1"), CUT_OFF, False),
        (ServerFault("away", code=500), CUT_OFF, False),
    ],
    ids=["gone", "gone before", "killed", "failed", "succeeded", "another", "going",
         "going, stopped", "going, says no", "restarts, says no", "restarts", "no status",
         "there", "?"],
)  # fmt: skip
def test_a_pod_that_goes_while_it_is_thawed(later: Any, answer: Answer, *, is_well: bool) -> None:
    """Nothing of it stays frozen: the others decide; before a snapshot every pod counts."""
    server = Server(*APP)
    server.later["app-1"] = later
    run = Run(server, Containers(app_1=answer), SHORT)
    assert run.host.succeeded is is_well
    ends = [line for line in run.lines if line["event"] == "handler_ended"]
    assert [line["level"] for line in ends if line["pod"] == "app-1"] == [
        "warning" if is_well else "error"
    ]
    assert not Run(server, Containers(app_1=answer), TOLD).host.succeeded


def test_when_all_pods_go_nobody_was_thawed() -> None:
    """That is no success."""
    server = Server(pod("app-0"))
    server.later["app-0"] = GONE
    assert not Run(server, Containers(app_0=CUT_OFF), AFTER).host.succeeded


def test_all_pods_at_once() -> None:
    """However many there are: a pod that waits its turn is frozen later than the others."""
    pods = [pod(f"app-{number}") for number in range(40)]
    together = threading.Barrier(len(pods))

    def meet() -> ExecResult:
        together.wait(20.0)
        return OK

    answers: Any = {f"app_{number}": meet for number in range(40)}
    assert Run(Server(*pods), Containers(**answers)).host.succeeded


def test_words_are_masked_before_they_are_cut() -> None:
    """Of a secret that the cut divides no end is told."""
    hook = replace(TOLD, command=("mysql", "--password", "s3cret-of-the-database"))
    printed = "access denied with s3cret-of-the-database" + "." * 390
    containers = Containers(app_0=ExecResult(1, stderr=printed))
    _, text = Run(Server(pod("app-0")), containers, hook).failure
    assert "database" not in text
    assert "***" in text


def test_words_are_bounded() -> None:
    """Of what a command printed, the end is told."""
    containers = Containers(app_0=ExecResult(1, stderr="x" * 5000 + "the reason"))
    _, text = Run(Server(pod("app-0")), containers).failure
    assert text.startswith("exec failed: pod demo/app-0: container db: it exited with 1: xxx")
    assert text.endswith("the reason")
    assert len(text) < 600


def test_log_masks() -> None:
    """What the command printed about a secret does not reach the log."""
    containers = Containers(app_0=ExecResult(1, stderr="password=abc"))
    run = Run(Server(pod("app-0")), containers)
    assert "password=***" in run.lines[-1]["error"]


def test_timeout() -> None:
    """A command that has not ended is told as such, with what it said; the other was reached."""
    late = ExecResult(None, stdout="waiting", error="it did not end in time", timed_out=True)
    run = Run(Server(*APP), Containers(app_0=late))
    reason, text = run.failure
    assert reason == Reason.HOOK_TIMED_OUT
    assert text.startswith(
        "exec failed in 1 of 3 within 30 s: pod demo/app-0: container db: it did not end in time:"
        " waiting. What was started may still run"
    )
    assert "drey.dev/hook-timeout" in text


def test_handler_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a handler that keeps no time cannot delay the outcome."""
    monkeypatch.setattr(module, "GRACE_S", 0.1)
    never = threading.Event()

    def hang() -> ExecResult:
        never.wait(60.0)
        return OK

    run = Run(Server(*APP), Containers(app_0=hang), replace(TOLD, timeout_s=1))
    never.set()
    assert run.host.duration_s < 20.0
    assert run.failure[0] == Reason.HOOK_TIMED_OUT
    assert "pod demo/app-0: it has not ended" in run.host.error


@pytest.mark.parametrize("also_unready", [False, True])
@pytest.mark.parametrize("where", [{}, {"label_selector": "", "claim": "data-app-0"}])
def test_nobody_to_reach(where: Any, *, also_unready: bool) -> None:
    """Without a pod the application is not quiesced, or not thawed: a failure that says so."""
    gone = pod("app-0", phase="Succeeded", containerStatuses=[])
    run = Run(Server(gone), hook=replace(TOLD, also_unready=also_unready, **where))
    reason, text = run.failure
    assert reason == Reason.NO_READY_POD
    assert "in demo (of 1 pods there)" in text
    assert run.containers.ran == []


def test_pod_that_goes() -> None:
    """A pod that is gone between the look and the command is a failure at once."""
    gone = NotFound('pods "app-1" not found', code=404)
    containers = Containers(app_1=gone)
    assert Run(Server(*APP), containers).failure == (
        Reason.HOOK_FAILED,
        'exec failed in 1 of 3: pod demo/app-1: container db: pods "app-1" not found',
    )
    assert len(containers.ran) == 3


def test_api_server_that_is_away_for_a_moment() -> None:
    """What was not started for sure is tried again, for the pods and for the command."""
    away = ServerFault("starting", code=500)
    containers = Containers(app_0=[away, OK])
    assert Run(Server(pod("app-0"), errors=()), containers).host.succeeded
    assert len(containers.ran) == 2


def test_command_is_not_tried_again() -> None:
    """A connection lost after the start proves nothing, and the command may have run."""
    lost = ExecResult(None, error="the connection was lost (ConnectionResetError)")
    containers = Containers(app_0=lost)
    assert "the connection was lost" in Run(Server(pod("app-0")), containers).failure[1]
    assert len(containers.ran) == 1


def test_command_that_may_run_twice_is_tried_again() -> None:
    """To thaw twice is harmless: a lost connection is no word of the application."""
    containers = Containers(app_0=[CUT_OFF, OK])
    assert Run(Server(pod("app-0")), containers, AFTER).host.succeeded
    assert len(containers.ran) == 2


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        ({"app_0": CUT_OFF}, Reason.HOOK_LOST),
        ({"app_0": ServerFault("away", code=500)}, Reason.HOOK_LOST),
        ({"app_0": CUT_OFF, "app_1": ExecResult(1)}, Reason.HOOK_LOST),
        ({"app_0": CUT_OFF, "app_1": ExecResult(None, timed_out=True)}, Reason.HOOK_LOST),
        ({"app_0": ExecResult(1)}, Reason.HOOK_FAILED),
        ({"app_0": ExecResult(None, timed_out=True)}, Reason.HOOK_TIMED_OUT),
    ],
)
def test_hook_without_an_answer_is_lost(answers: Any, wanted: Reason) -> None:
    """Only the one that may run twice: its Job is created again for what gave no answer."""
    run = Run(Server(*APP), Containers(**answers), SHORT)
    assert run.failure[0] == wanted
    assert run.host.duration_s < SHORT.timeout_s + 2 * module.GRACE_S
    assert len({name for name, _ in run.containers.ran}) == 3
    first = Run(Server(*APP), Containers(**answers), replace(SHORT, also_unready=False))
    assert first.failure[0] != Reason.HOOK_LOST


def test_list_without_an_answer_is_lost() -> None:
    """Nobody was thawed, for no reason of the application's."""
    away = ServerFault("away", code=500)
    reason, text = Run(Server(errors=(away,)), hook=replace(SHORT, timeout_s=1)).failure
    assert reason == Reason.HOOK_LOST
    assert "cannot be listed: away" in text
    first = replace(TOLD, timeout_s=1)
    assert Run(Server(errors=(away,)), hook=first).failure[0] == Reason.HOOK_FAILED


def test_container_between_restarts_is_waited_for() -> None:
    """What was frozen outlives it; the others do not wait for it, a first hook neither."""
    server = Server(pod("app-0"), RESTARTS, pod("app-2"))
    server.looks["app-1"] = [RESTARTS, RESTARTS, RESTARTS, pod("app-1")]
    run = Run(server, hook=AFTER)
    assert run.host.succeeded
    assert sorted(run.containers.ran[:2]) == [("app-0", "db"), ("app-2", "db")]
    assert run.containers.ran[2:] == [("app-1", "db")]
    assert len(server.looks["app-1"]) == 1
    assert len(Run(Server(pod("app-0"), RESTARTS)).containers.ran) == 1


def test_container_that_does_not_come_back_is_a_failure() -> None:
    """The others are reached, and it is named; within the time of the hook."""
    server = Server(pod("app-0"), RESTARTS)
    run = Run(server, hook=SHORT)
    assert 0.0 < server.look_s < module.GRACE_S
    reason, text = run.failure
    assert reason == Reason.HOOK_LOST
    where = "exec failed in 1 of 2: pod demo/app-1: "
    assert text == f"{where}its container is between restarts, and did not run in time"
    assert run.containers.ran == [("app-0", "db")]
    assert run.host.duration_s < SHORT.timeout_s + 0.5


def test_pod_that_goes_instead_of_coming_back() -> None:
    """Nothing of it stays frozen: those that were reached decide."""
    server = Server(pod("app-0"), RESTARTS)
    server.later["app-1"] = GONE
    assert Run(server, Containers(app_1=GONE), AFTER).host.succeeded


def test_only_pod_between_restarts() -> None:
    """It is waited for as well, and named when it does not come back."""
    server = Server(RESTARTS)
    server.relisted = (pod("app-1"),)
    run = Run(server, hook=AFTER)
    assert run.host.succeeded
    assert run.containers.ran == [("app-1", "db")]
    run = Run(Server(RESTARTS), hook=replace(AFTER, timeout_s=1))
    assert run.failure == (
        Reason.HOOK_LOST,
        "no running pod with labels app=a in demo. app-1: its container is between restarts",
    )
    assert run.host.duration_s < 1.5


STARTS = pod("app-1", uid="new", phase="Pending", conditions=None, containerStatuses=None)
"""The successor of app-1, which was evicted: it has its volume, and so what was frozen."""
NO_NODE = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]


def test_successor_that_has_not_started_is_waited_for() -> None:
    """It comes up frozen, and nobody else would thaw it; the others do not wait for it."""
    server = Server(pod("app-0"), STARTS, pod("app-2"))
    server.looks["app-1"] = [STARTS, STARTS, pod("app-1", uid="new")]
    run = Run(server, hook=AFTER)
    assert run.host.succeeded
    assert sorted(run.containers.ran[:2]) == [("app-0", "db"), ("app-2", "db")]
    assert run.containers.ran[2:] == [("app-1", "db")]
    assert len(Run(Server(pod("app-0"), STARTS)).containers.ran) == 1


def test_successor_that_does_not_start_is_a_failure_that_is_tried_again() -> None:
    """Also one that never can: nobody may say that it was thawed. The others are."""
    stuck = pod("app-1", phase="Pending", conditions=NO_NODE, containerStatuses=None)
    run = Run(Server(pod("app-0"), stuck), hook=replace(AFTER, timeout_s=1))
    reason, text = run.failure
    assert reason == Reason.HOOK_LOST
    where = "exec failed in 1 of 2: pod demo/app-1: "
    words = "its container has not started yet (Unschedulable), and did not run in time"
    assert text == where + words
    assert run.containers.ran == [("app-0", "db")]
    assert run.host.duration_s < 1.5


def test_only_pod_has_not_started() -> None:
    """With one replica there is nobody else: it is waited for, and named when it does not start."""
    server = Server(STARTS)
    server.relisted = (pod("app-1"),)
    run = Run(server, hook=AFTER)
    assert run.host.succeeded
    assert run.containers.ran == [("app-1", "db")]
    run = Run(Server(STARTS), hook=replace(AFTER, timeout_s=1))
    assert run.failure == (
        Reason.HOOK_LOST,
        "no running pod with labels app=a in demo. app-1: its container has not started yet",
    )
    many = [replace_name(STARTS, f"app-{number}") for number in range(5)]
    _, text = Run(Server(*many), hook=replace(AFTER, timeout_s=1)).failure
    assert text.endswith("app-2: its container has not started yet; and 2 more")


def replace_name(one: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a pod under another name."""
    return {**one, "metadata": {**one["metadata"], "name": name}}


def test_between_two_pods_of_one_name_there_is_none() -> None:
    """The controller of a StatefulSet makes the next one when the last is gone."""
    server = Server()
    server.relisted = (pod("app-1"),)
    run = Run(server, hook=AFTER)
    assert run.host.succeeded
    assert run.containers.ran == [("app-1", "db")]
    first = Server()
    first.relisted = (pod("app-1"),)
    assert Run(first).failure[0] == Reason.NO_READY_POD


def test_when_nobody_comes_nobody_was_thawed() -> None:
    """Whoever scaled the application to 0 does not wait for the end of the hook's time."""
    run = Run(Server(), hook=AFTER)
    assert run.failure[0] == Reason.NO_READY_POD
    assert 0.2 <= run.host.duration_s < 2.0


STOPPED = going(containerStatuses=[], uid="old")


def test_successor_of_a_pod_that_stops_is_looked_for() -> None:
    """Nobody can act in it any more: what it leaves in its volume the next one has."""
    server = Server(pod("app-0"), STOPPED)
    server.relisted = (pod("app-0"), STARTS)
    server.looks["app-1"] = [STARTS, pod("app-1", uid="new")]
    run = Run(server, hook=AFTER)
    assert run.host.succeeded
    assert run.containers.ran == [("app-0", "db"), ("app-1", "db")]
    alone = Server(STOPPED)
    alone.relisted = (pod("app-1", uid="new"),)
    assert Run(alone, hook=AFTER).containers.ran == [("app-1", "db")]


@pytest.mark.parametrize("others", [(), (pod("app-0"),)], ids=["alone", "beside another"])
def test_pod_that_takes_long_to_stop_has_its_successor_all_the_same(others: Any) -> None:
    """Its volumes have to be unmounted first: the time for the next one begins after that."""
    server = Server(*others, STOPPED)
    server.relisted, server.relists_at = (*others, pod("app-1", uid="new")), 12
    run = Run(server, hook=AFTER)
    assert run.host.succeeded
    assert run.containers.ran[-1] == ("app-1", "db")
    assert run.host.duration_s > 0.4


def test_pod_that_never_goes_delays_the_hook_until_its_time_is_over() -> None:
    """Then those that were reached decide."""
    run = Run(Server(pod("app-0"), STOPPED), hook=replace(AFTER, timeout_s=1))
    assert run.host.succeeded
    assert 0.8 < run.host.duration_s < 1.5
    assert Run(Server(STOPPED), hook=replace(AFTER, timeout_s=1)).failure[0] == Reason.NO_READY_POD


def test_successor_of_a_pod_that_goes_while_it_is_thawed_is_looked_for() -> None:
    """Alone or beside others; none may come, then those that were reached decide."""
    for others in ((), (pod("app-0"),)):
        server = Server(*others, pod("app-1", uid="old"))
        server.relisted = (*others, STARTS)
        server.looks["app-1"] = [GONE, STARTS, pod("app-1", uid="new")]
        containers = Containers(app_1=[CUT_OFF, OK])
        run = Run(server, containers, AFTER)
        assert run.host.succeeded
        assert containers.ran.count(("app-1", "db")) == 2
    stuck = Server(pod("app-0"), pod("app-1", uid="old"))
    stuck.relisted = (pod("app-0"), STARTS)
    stuck.looks["app-1"] = [GONE, STARTS]
    run = Run(stuck, Containers(app_1=CUT_OFF), replace(AFTER, timeout_s=1))
    assert run.failure[0] == Reason.HOOK_LOST
    assert "pod demo/app-1: its container has not started yet" in run.failure[1]


def test_without_a_pod_that_goes_pods_are_listed_once() -> None:
    """The usual hook asks once, and does not wait."""
    server = Server(pod("app-0"), pod("app-1"))
    run = Run(server, hook=AFTER)
    assert run.host.succeeded
    assert len(server.selectors) == 1


def test_a_404_that_names_no_pod_is_no_pod_that_is_gone() -> None:
    """A proxy's, or of an API server that has just started: the pod may stand still."""
    unknown = NotServed("the server could not find the requested resource", code=404)
    containers = Containers(app_0=[unknown, OK])
    assert Run(Server(pod("app-0")), containers, AFTER).host.succeeded
    assert len(containers.ran) == 2
    server = Server(pod("app-0"), pod("app-1"))
    server.later["app-1"] = unknown
    run = Run(server, Containers(app_1=CUT_OFF), SHORT)
    assert run.failure[0] == Reason.HOOK_LOST


def test_container_that_dies_while_it_is_thawed() -> None:
    """The command is repeated once the container is back, not while it is away."""
    server = Server(pod("app-1"))
    server.looks["app-1"] = [RESTARTS, RESTARTS, RESTARTS, pod("app-1")]
    containers = Containers(app_1=[CUT_OFF, OK])
    assert Run(server, containers, AFTER).host.succeeded
    assert len(server.looks["app-1"]) == 1


def test_a_command_that_is_killed_has_not_said_how_it_went() -> None:
    """So the kubelet ends all that runs in a container that it restarts."""
    killed = ExecResult(137)
    containers = Containers(app_0=[killed, OK])
    assert Run(Server(pod("app-0")), containers, AFTER).host.succeeded
    assert len(containers.ran) == 2
    reason, text = Run(Server(pod("app-0")), Containers(app_0=killed), SHORT).failure
    assert reason == Reason.HOOK_LOST
    assert "it exited with 137" in text
    first = Run(Server(pod("app-0")), Containers(app_0=killed))
    assert first.failure[0] == Reason.HOOK_FAILED
    assert len(first.containers.ran) == 1


@pytest.mark.parametrize(
    "said",
    [
        'unable to start container process: exec: "x": executable file not found in $PATH',
        'unable to start container process: exec: "/x": permission denied',
        'unable to start container process: exec: "/x": stat /x: no such file or directory',
        "executable file `x` not found in $PATH: No such file or directory",
    ],
)
def test_a_program_that_is_not_there_is_told_at_once(said: str) -> None:
    """Asking again would keep the application frozen, and nobody would know why."""
    containers = Containers(app_0=ExecResult(None, error=said))
    run = Run(Server(pod("app-0")), containers, AFTER)
    assert run.failure[0] == Reason.HOOK_FAILED
    assert said in run.failure[1]
    assert len(containers.ran) == 1


def test_missing_right() -> None:
    """A right that does not arrive in time is told in the server's words."""
    no = Forbidden('User "x" cannot list resource "pods"', code=403)
    reason, text = Run(Server(errors=(no,)), hook=replace(TOLD, timeout_s=1)).failure
    assert reason == Reason.HOOK_FAILED
    assert "cannot list resource" in text
    assert text.endswith("the Job's ServiceAccount lacks the right: check its RoleBinding")
    no = Forbidden('User "x" cannot create resource "pods/exec"', code=403)
    containers = Containers(app_0=no)
    _, text = Run(Server(pod("app-0")), containers, replace(TOLD, timeout_s=1)).failure
    assert "the command was not started: User" in text
    assert text.endswith("the Job's ServiceAccount lacks the right: check its RoleBinding")


def test_no_such_container() -> None:
    """A container that a pod does not have is named with those that it has."""
    run = Run(Server(pod("app-0")), hook=replace(TOLD, container="web"))
    assert "there is no container 'web', only db" in run.failure[1]


@pytest.mark.parametrize(
    ("hook", "text"),
    [
        (replace(TOLD, command=()), "no handler"),
        (replace(TOLD, label_selector=""), "neither labels nor a claim"),
    ],
)
def test_useless_input(hook: HookInput, text: str) -> None:
    """A hook that would do nothing, or act in every pod of the namespace, is refused."""
    run = Run(Server(*APP), hook=hook)
    assert run.failure[0] == Reason.INPUT_INVALID
    assert text in run.failure[1]
    assert run.containers.ran == []


class Network:
    """Keeps what is asked, and fails as told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, str, int]] = []
        self.warning = ""
        self.failures: dict[str, ProbeFailed] = {}
        self.once: dict[str, list[ProbeFailed]] = {}
        """What the next requests to a host fail with."""
        monkeypatch.setattr("runner.probe.ask", self._ask)
        monkeypatch.setattr("runner.probe.connect", self._connect)

    def _ask(self, request: HttpInput, host: str, port: int, *, timeout_s: float) -> str:
        assert timeout_s > 0.0
        self._note("POST" if request.is_post else "GET", host, port)
        return self.warning

    def _connect(self, host: str, port: int, *, timeout_s: float) -> None:
        assert timeout_s > 0.0
        self._note("TCP", host, port)

    def _note(self, verb: str, host: str, port: int) -> None:
        self.asked.append((verb, host, port))
        if self.once.get(host):
            raise self.once[host].pop(0)
        if host in self.failures:
            raise self.failures[host]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """Replace the network."""
    return Network(monkeypatch)


ALL = replace(
    TOLD,
    http_get=HttpInput(port="http", path="/get"),
    http_post=HttpInput(port="81", path="/post", is_post=True),
    tcp=TcpInput(port="82"),
)


def test_handlers_in_their_order(network: Network) -> None:
    """Exec, GET, POST, TCP; a named port is that of the container."""
    run = Run(Server(pod("app-0")), hook=ALL)
    assert run.host.succeeded
    assert len(run.containers.ran) == 1
    assert network.asked == [
        ("GET", "ip-of-app-0", 8080), ("POST", "ip-of-app-0", 81), ("TCP", "ip-of-app-0", 82)
    ]  # fmt: skip


def test_all_handlers_before_a_container_is_waited_for(network: Network) -> None:
    """What goes to each pod follows for the late one; an address of its own was asked already."""
    server = Server(pod("app-0"), RESTARTS)
    server.looks["app-1"] = [RESTARTS, pod("app-1")]
    hook = replace(AFTER, http_get=HttpInput(port="http", path="/"), tcp=TcpInput("5", host="svc"))
    run = Run(server, hook=hook)
    assert run.host.succeeded
    assert run.containers.ran == [("app-0", "db"), ("app-1", "db")]
    assert network.asked == [
        ("GET", "ip-of-app-0", 8080), ("TCP", "svc", 5), ("GET", "ip-of-app-1", 8080)
    ]  # fmt: skip
    assert [line["pod"] for line in run.lines] == ["app-0", "app-0", "", "app-1", "app-1"]


def test_network_failure(network: Network) -> None:
    """The first handler that fails is the last; it is tried in every pod."""
    network.failures["ip-of-app-1"] = ProbeFailed("GET …: 500")
    run = Run(Server(*APP), hook=ALL)
    assert run.failure == (
        Reason.HOOK_FAILED, "httpGet failed in 1 of 3: pod demo/app-1: GET …: 500"
    )  # fmt: skip
    assert {verb for verb, _, _ in network.asked} == {"GET"}
    assert len(network.asked) == 3
    slow = ProbeFailed("no answer", timed_out=True)
    network.failures["ip-of-app-1"] = slow
    assert Run(Server(*APP), hook=ALL).failure[0] == Reason.HOOK_TIMED_OUT


def test_tcp_failure(network: Network) -> None:
    """A connection that cannot be made."""
    network.failures["db.example"] = ProbeFailed("TCP db.example:5: refused")
    hook = replace(TOLD, command=(), tcp=TcpInput(port="5", host="db.example"))
    run = Run(Server(), hook=hook)
    assert run.failure == (Reason.HOOK_FAILED, "tcpSocket failed: TCP db.example:5: refused")


REFUSED = ProbeFailed("connection refused")
NO = ProbeFailed("500 frozen for good", is_answer=True)
ASKED = [
    {"http_post": HttpInput(port="http", path="/thaw", is_post=True)},
    {"tcp": TcpInput(port="http")},
]


@pytest.mark.parametrize("handler", ASKED, ids=["http", "tcp"])
def test_what_may_be_asked_twice_is_asked_until_there_is_an_answer(
    network: Network, handler: Any
) -> None:
    """A container that was restarted runs before it listens; a first hook asks once."""
    after = replace(AFTER, command=(), **handler)
    network.once["ip-of-app-0"] = [REFUSED, REFUSED]
    assert Run(Server(pod("app-0")), hook=after).host.succeeded
    assert len(network.asked) == 3
    network.once["ip-of-app-0"] = [REFUSED, REFUSED]
    first = replace(TOLD, command=(), **handler)
    assert Run(Server(pod("app-0")), hook=first).failure[0] == Reason.HOOK_FAILED
    assert len(network.asked) == 4


@pytest.mark.parametrize("handler", ASKED, ids=["http", "tcp"])
def test_an_application_that_never_answers_is_lost(network: Network, handler: Any) -> None:
    """It has said nothing: its Job is created again. What it says is the end, and a pod's end."""
    short = replace(SHORT, command=(), **handler)
    network.failures["ip-of-app-0"] = REFUSED
    run = Run(Server(pod("app-0")), hook=short)
    assert run.failure[0] == Reason.HOOK_LOST
    assert "connection refused" in run.failure[1]
    assert run.host.duration_s < SHORT.timeout_s + module.GRACE_S
    network.asked.clear()
    network.failures["ip-of-app-0"] = NO
    assert Run(Server(pod("app-0")), hook=short).failure[0] == Reason.HOOK_FAILED
    assert len(network.asked) == 1
    network.asked.clear()
    network.failures["ip-of-app-0"] = REFUSED
    server = Server(pod("app-0"), pod("app-1"))
    server.later["app-0"] = GONE
    assert Run(server, hook=short).host.succeeded
    assert sorted(host for _, host, _ in network.asked) == ["ip-of-app-0", "ip-of-app-1"]


def test_address_of_its_own_needs_no_pod(network: Network) -> None:
    """With host and number nobody looks for pods; with a named port one pod tells the number."""
    server = Server()
    hook = replace(
        TOLD,
        command=(),
        http_get=HttpInput(port="80", path="/", host="svc"),
        tcp=TcpInput(port="5", host="svc"),
    )
    assert Run(server, hook=hook).host.succeeded
    assert (network.asked, server.selectors) == ([("GET", "svc", 80), ("TCP", "svc", 5)], [])
    network.asked.clear()
    named = replace(TOLD, command=(), http_get=HttpInput(port="http", path="/", host="svc"))
    assert Run(Server(*APP), hook=named).host.succeeded
    assert network.asked == [("GET", "svc", 8080)]


def test_unknown_port(network: Network) -> None:
    """A port that the container does not name."""
    hook = replace(TOLD, command=(), tcp=TcpInput(port="web"))
    assert "has no port 'web'" in Run(Server(pod("app-0")), hook=hook).failure[1]
    hook = replace(TOLD, command=(), http_get=HttpInput(port="web", path="/"))
    assert "has no port 'web'" in Run(Server(pod("app-0")), hook=hook).failure[1]
    assert network.asked == []


def test_redirect_is_a_warning(network: Network) -> None:
    """3xx is success, and the log says that nobody went there."""
    network.warning = "GET …: 307, which counts as success and is not followed"
    run = Run(Server(), hook=replace(TOLD, command=(), http_get=HttpInput("80", "/", host="svc")))
    assert run.host.succeeded
    assert (run.lines[0]["level"], run.lines[0]["event"]) == ("warning", "http_redirected")


def test_told_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal ends the wait; the report says that the hook was interrupted."""

    def interrupted(*_: Any, **__: Any) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "spread", interrupted)
    assert Run(Server(*APP)).failure[0] == Reason.INTERRUPTED
