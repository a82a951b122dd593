"""The pods in which a hook acts, and their containers and ports. Pure."""

from collections.abc import Iterable
from typing import Any

from controller.api.hook_input import HookInput
from controller.api.objects import Obj, dig, is_deleting, is_live, labels_of, name_of, spec, status

OURS = "drey.dev/created-by"
"""Label of our own pods: one that backs up the claim is not the application."""


class NoPort(Exception):
    """A container, or a port of it, does not exist; the text says which there are."""


def chosen(pods: Iterable[Obj], hook: HookInput) -> tuple[Obj, ...]:
    """Return the pods to act in, by name: those of the application that can take a command.

    What a first hook froze it may have frozen in a pod that is on its way out by now: that one
    still writes, and may have an hour to go.
    """
    found = _of_application(pods, hook)
    good = (pod for pod in found if _serves(pod) or (hook.also_unready and runs(pod, hook)))
    return tuple(sorted(good, key=name_of))


def awaited(pods: Iterable[Obj], hook: HookInput) -> tuple[Obj, ...]:
    """Return the pods that a second hook has to wait for, by name; a first one waits for none.

    A frozen application fails its liveness probe: its container is killed, and what it froze is
    still frozen in the next one. So it is in the successor of a pod that was evicted meanwhile,
    when what says so is in the volume.
    """
    if not hook.also_unready:
        return ()
    found = (pod for pod in _of_application(pods, hook) if will_run(pod, hook))
    return tuple(sorted(found, key=name_of))


def leaving(pods: Iterable[Obj], hook: HookInput) -> bool:
    """Tell whether a pod is on its way out in which nobody can act: a successor may come."""
    found = (pod for pod in _of_application(pods, hook) if is_deleting(pod) and is_live(pod))
    return hook.also_unready and any(not runs(pod, hook) for pod in found)


def _of_application(pods: Iterable[Obj], hook: HookInput) -> list[Obj]:
    found = [pod for pod in pods if labels_of(pod).get(OURS) is None]
    return [pod for pod in found if not hook.claim or hook.claim in claims(pod)]


def _serves(pod: Obj) -> bool:
    """Tell whether a pod serves; one on its way out may still be called Ready, and be dead."""
    return is_ready(pod) and not is_deleting(pod)


def claims(pod: Obj) -> set[str]:
    """Return the claims that a pod mounts; an ephemeral volume's is named after pod and volume."""
    volumes = spec(pod).get("volumes") or ()
    named = {dig(volume, "persistentVolumeClaim", "claimName") for volume in volumes}
    own = {f"{name_of(pod)}-{v['name']}" for v in volumes if v.get("ephemeral") is not None}
    return (named - {None}) | own


def is_ready(pod: Obj) -> bool:
    """Tell whether all its containers say that they can serve."""
    return status(pod).get("phase") == "Running" and any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in status(pod).get("conditions") or ()
    )


def runs(pod: Obj, hook: HookInput) -> bool:
    """Tell whether the container of the hook runs."""
    try:
        told = _told(pod, container(pod, hook.container)["name"])
    except NoPort:
        return False
    return bool(dig(told, "state", "running"))


def will_run(pod: Obj, hook: HookInput) -> bool:
    """Tell whether the container of the hook does not run and is to: for the first time, or again.

    One that never can, because its pod fits on no node, is not told from one that is slow.
    """
    if is_deleting(pod) or not is_live(pod) or runs(pod, hook):
        return False
    try:
        of = container(pod, hook.container)
    except NoPort:
        return False
    told = _told(pod, of["name"])
    if died := dig(told, "state", "terminated"):
        policy = of.get("restartPolicy") or spec(pod).get("restartPolicy") or "Always"
        return policy == "Always" or (policy == "OnFailure" and died.get("exitCode") != 0)
    return True


def waits_for(pod: Obj, hook: HookInput) -> str:
    """Say what a pod of `awaited` waits for, as far as it tells; nothing of any other."""
    if not will_run(pod, hook):
        return ""
    told = _told(pod, container(pod, hook.container)["name"])
    ran = dig(told, "state", "terminated") or dig(told, "lastState", "terminated")
    if ran or dig(told, "restartCount"):
        return "its container is between restarts"
    reasons = [
        condition.get("reason")
        for condition in status(pod).get("conditions") or ()
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False"
    ]
    reason = next(iter(reasons), None) or dig(told, "state", "waiting", "reason")
    return "its container has not started yet" + (f" ({reason})" if reason else "")


def _told(pod: Obj, name: str) -> Obj | None:
    told = status(pod)
    states = [*(told.get("containerStatuses") or ()), *(told.get("initContainerStatuses") or ())]
    return next((one for one in states if one.get("name") == name), None)


def container(pod: Obj, name: str) -> Any:
    """Return the named container of a pod, or its first; sidecars are containers too.

    Raises:
        NoPort: there is none of that name.
    """
    main = list(spec(pod).get("containers") or ())
    sidecars = [
        one for one in spec(pod).get("initContainers") or () if one.get("restartPolicy") == "Always"
    ]
    for one in [*main, *sidecars]:
        if not name or one["name"] == name:
            return one
    known = ", ".join(one["name"] for one in [*main, *sidecars])
    raise NoPort(f"there is no container {name!r}, only {known}")


def port_number(of: Any, port: str) -> int:
    """Return a port of a container by its number or name.

    Raises:
        NoPort: the container has no port of that name.
    """
    if port.isdecimal():
        return int(port)
    ports = {one.get("name"): int(one["containerPort"]) for one in of.get("ports") or ()}
    if port not in ports:
        known = ", ".join(sorted(name for name in ports if name)) or "none has a name"
        raise NoPort(f"container {of['name']} has no port {port!r}; its ports: {known}")
    return ports[port]
