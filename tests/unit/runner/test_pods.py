"""In which pods a hook acts."""

from dataclasses import replace
from typing import Any

import pytest

from controller.api.hook_input import HookInput
from controller.build.labels import CREATED_BY
from runner.pods import (
    OURS,
    NoPort,
    awaited,
    chosen,
    claims,
    container,
    leaving,
    port_number,
    waits_for,
)


def pod(name: str = "app-0", **changes: Any) -> dict[str, Any]:
    """Return a Ready pod with two containers and a sidecar."""
    containers = [
        {"name": "app", "ports": [{"name": "http", "containerPort": 8080}, {"containerPort": 9}]},
        {"name": "proxy"},
    ]
    inits = [{"name": "setup"}, {"name": "mesh", "restartPolicy": "Always"}]
    return {
        "metadata": {"name": name, "labels": {"app": "a"}, **changes.pop("metadata", {})},
        "spec": {
            "containers": containers,
            "initContainers": inits,
            "volumes": changes.pop("volumes", []),
        },
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.7",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "app", "state": {"running": {"startedAt": "x"}}}],
            "initContainerStatuses": [{"name": "mesh", "state": {"running": {"startedAt": "x"}}}],
            **changes,
        },
    }


def names(pods: list[dict[str, Any]], **hook: Any) -> list[str]:
    """Return the names of the chosen pods."""
    told = HookInput(hostname="h", namespace="demo", label_selector="app=a", **hook)
    return [one["metadata"]["name"] for one in chosen(pods, told)]


UNREADY = [{"type": "Ready", "status": "False"}]
WAITING = [{"name": "app", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]


@pytest.mark.parametrize(
    ("one", "before", "after"),
    [
        (pod(), True, True),
        (pod(conditions=UNREADY), False, True),
        (pod(conditions=[]), False, True),
        (pod(conditions=UNREADY, containerStatuses=WAITING), False, False),
        (pod(conditions=UNREADY, containerStatuses=None), False, False),
        (pod(phase="Succeeded", containerStatuses=[]), False, False),
        (pod(phase="Pending", conditions=None, containerStatuses=None), False, False),
        (pod(metadata={"deletionTimestamp": "x"}), False, True),
        (pod(metadata={"deletionTimestamp": "x"}, containerStatuses=[]), False, False),
        (pod(metadata={"labels": {"app": "a", OURS: "drey"}}), False, False),
    ],
    ids=["ready", "not ready", "no condition", "crashing", "no status", "ended", "pending", "going",
         "going, stopped", "ours"],
)  # fmt: skip
def test_states(one: dict[str, Any], *, before: bool, after: bool) -> None:
    """Ready pods; afterwards also what a frozen application made unready, or is on its way out."""
    assert (names([one]), names([one], also_unready=True)) == (
        ["app-0"] * before,
        ["app-0"] * after,
    )


def stopped(state: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    """Return the status of a container that does not run."""
    return [{"name": "app", "state": state, **fields}]


BACK_OFF, DIED = {"waiting": {"reason": "CrashLoopBackOff"}}, {"terminated": {"exitCode": 137}}
DONE = {"terminated": {"exitCode": 0}}
CREATING = {"waiting": {"reason": "ContainerCreating"}}
NO_NODE = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]
GOING = {"deletionTimestamp": "x"}


def policy(name: str, state: dict[str, Any]) -> dict[str, Any]:
    """Return a pod with a restartPolicy and a container that does not run."""
    one = pod(containerStatuses=stopped(state))
    one["spec"]["restartPolicy"] = name
    return one


@pytest.mark.parametrize(
    ("one", "is_awaited"),
    [
        (pod(), False),
        (pod(containerStatuses=stopped(BACK_OFF, restartCount=1)), True),
        (pod(containerStatuses=stopped(BACK_OFF, lastState=DIED)), True),
        (pod(containerStatuses=stopped({}, restartCount=1)), True),
        (pod(containerStatuses=stopped(DIED, restartCount=0)), True),
        (pod(containerStatuses=stopped(DONE)), True),
        (pod(containerStatuses=stopped(BACK_OFF, restartCount=0)), True),
        (pod(containerStatuses=stopped(CREATING, restartCount=0), phase="Pending"), True),
        (pod(containerStatuses=None), True),
        (pod(containerStatuses=None, phase="Pending", conditions=NO_NODE), True),
        (pod(containerStatuses=None, phase="Pending", metadata=GOING), False),
        (pod(containerStatuses=None, phase="Failed"), False),
        (pod(containerStatuses=None, phase="Pending", metadata={"labels": {OURS: "drey"}}), False),
        (pod(containerStatuses=stopped(DIED), phase="Failed"), False),
        (pod(containerStatuses=stopped(DONE), phase="Succeeded"), False),
        (pod(containerStatuses=stopped(DIED), metadata=GOING), False),
        (pod(containerStatuses=stopped(DIED), metadata={"labels": {OURS: "drey"}}), False),
        (policy("Never", DIED), False),
        (policy("OnFailure", DIED), True),
        (policy("OnFailure", DONE), False),
    ],
    ids=["runs", "back-off", "died before", "no state", "died", "done", "first start", "creating",
         "no status", "no node", "going before its start", "evicted", "ours before its start",
         "failed", "succeeded", "going", "ours", "never", "on failure", "done for good"],
)  # fmt: skip
def test_pods_that_are_awaited(one: dict[str, Any], *, is_awaited: bool) -> None:
    """A second hook waits for a container that is to run, also again; a first one never does."""
    told = HookInput(hostname="h", namespace="demo", label_selector="app=a")
    after = replace(told, also_unready=True)
    assert not awaited([one], told)
    assert bool(awaited([one], after)) is is_awaited
    assert bool(waits_for(one, after)) is is_awaited or OURS in one["metadata"]["labels"]
    assert not awaited([one], replace(after, claim="another"))
    assert not awaited([one], replace(after, container="mesh"))
    assert not awaited([one], replace(after, container="nobody"))


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (pod(), ""),
        (pod(containerStatuses=stopped(BACK_OFF, restartCount=1)), "is between restarts"),
        (pod(containerStatuses=stopped(BACK_OFF, lastState=DIED)), "is between restarts"),
        (pod(containerStatuses=stopped(DIED)), "is between restarts"),
        (pod(containerStatuses=None), "has not started yet"),
        (pod(containerStatuses=stopped(CREATING)), "has not started yet (ContainerCreating)"),
        (
            pod(containerStatuses=None, phase="Pending", conditions=NO_NODE),
            "has not started yet (Unschedulable)",
        ),
    ],
)
def test_what_a_pod_waits_for_is_told(one: dict[str, Any], words: str) -> None:
    """Whether it ran before, and why it does not start."""
    told = HookInput(hostname="h", namespace="demo", label_selector="app=a", also_unready=True)
    assert waits_for(one, told) == (f"its container {words}" if words else "")


@pytest.mark.parametrize(
    ("one", "is_leaving"),
    [
        (pod(), False),
        (pod(metadata=GOING), False),
        (pod(metadata=GOING, containerStatuses=stopped(DIED)), True),
        (pod(metadata=GOING, containerStatuses=None), True),
        (pod(metadata=GOING, containerStatuses=stopped(DONE), phase="Succeeded"), False),
        (pod(containerStatuses=stopped(DIED)), False),
    ],
    ids=["runs", "going", "going, stopped", "going, never ran", "ended", "restarts"],
)
def test_a_pod_in_which_nobody_can_act_any_more_may_have_a_successor(
    one: dict[str, Any], *, is_leaving: bool
) -> None:
    """That one is looked for after a second hook; a first one acts in what is Ready."""
    told = HookInput(hostname="h", namespace="demo", label_selector="app=a")
    assert not leaving([one], told)
    assert leaving([one], replace(told, also_unready=True)) is is_leaving
    assert not leaving([one], replace(told, also_unready=True, claim="another"))


def test_running_container_is_the_hook_s_own() -> None:
    """What counts for an unready pod is the container in which the hook acts."""
    one = pod(conditions=UNREADY, containerStatuses=WAITING)
    assert names([one], also_unready=True, container="mesh") == ["app-0"]
    assert names([one], also_unready=True, container="nobody") == []


def test_pods_of_a_claim() -> None:
    """The pods that mount it, also through an ephemeral volume."""
    mounts = {"name": "d", "persistentVolumeClaim": {"claimName": "data"}}
    pods = [
        pod("b", volumes=[{"name": "x", "emptyDir": {}}, mounts]),
        pod("a", volumes=[mounts]),
        pod("c", volumes=[{"name": "e", "ephemeral": {}}]),
        pod("d"),
    ]
    assert names(pods, claim="data") == ["a", "b"]
    assert names(pods, claim="c-e") == ["c"]
    assert claims(pods[0]) == {"data"}


def test_containers() -> None:
    """The first one, or the named one; an init container that has ended is none."""
    assert container(pod(), "")["name"] == "app"
    assert container(pod(), "proxy")["name"] == "proxy"
    assert container(pod(), "mesh")["name"] == "mesh"
    with pytest.raises(NoPort, match="'setup', only app, proxy, mesh"):
        container(pod(), "setup")


def test_ports() -> None:
    """By number without a look, by name from the container."""
    app, proxy = pod()["spec"]["containers"]
    assert port_number(app, "http") == 8080
    assert port_number(proxy, "99") == 99
    with pytest.raises(NoPort, match="'web'; its ports: http"):
        port_number(app, "web")
    with pytest.raises(NoPort, match="none has a name"):
        port_number(proxy, "http")


def test_our_label() -> None:
    """The label is the one that the controller puts on its pods."""
    assert OURS == CREATED_BY
