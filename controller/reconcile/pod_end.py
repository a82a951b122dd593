"""What a pod says of its end: its report, or how its containers died."""

from collections.abc import Iterator

from controller.api.objects import Obj, annotations_of, dig, name_of, status
from controller.api.report import MAX_TEXT
from controller.api.report_parsing import parse_report
from controller.build.labels import STEPS
from controller.reconcile.verdicts import Died, Ended, Verdict


def containers(pod: Obj) -> Iterator[Obj]:
    """Yield the statuses of our containers, in the order in which they start.

    What was injected says nothing about us: a proxy runs on when we are dead, or runs before us.
    """
    steps = _steps(pod)
    for kind in ("initContainerStatuses", "containerStatuses"):
        for container in status(pod).get(kind) or ():
            if not steps or container.get("name") in steps:
                yield container


def _steps(pod: Obj) -> list[str]:
    """Return the names of our containers; none of a pod that does not tell them."""
    return [name for name in str(annotations_of(pod).get(STEPS) or "").split(",") if name]


def main_container(pod: Obj) -> Obj | None:
    """Return the container that reports; of a pod that does not tell it the one that did.

    The kubelet sorts by name, so that an injected proxy may come before the only one of ours.
    """
    statuses = status(pod).get("containerStatuses") or ()
    if steps := _steps(pod):
        return next((one for one in statuses if one.get("name") == steps[-1]), None)
    for container in statuses:
        try:
            parse_report(str(dig(container, "state", "terminated", "message") or ""))
        except ValueError:
            continue
        found: Obj = container
        return found
    return statuses[0] if statuses else None


def has_ended(pod: Obj) -> bool:
    """Tell whether our last container has ended: what was injected may run on."""
    return bool(_steps(pod)) and dig(main_container(pod), "state", "terminated") is not None


def was_started(pod: Obj) -> bool:
    """Tell whether a process of the pod ever ran: only then may it have left a lock."""
    return any(
        dig(container, state, kind) is not None
        for container in containers(pod)
        for state in ("state", "lastState")
        for kind in ("running", "terminated")
    )


def from_terminated(pod: Obj, container: Obj, terminated: Obj) -> Verdict:
    """Return the report of a container that ended, or why there is none.

    An OOM kill of a child leaves exit code 0 and no report: it is a death, not a lost report.
    """
    message = str(terminated.get("message") or "")
    try:
        return Ended(parse_report(message), end_job=_is_kept_alive(pod))
    except ValueError as err:
        if terminated.get("exitCode") == 0 and terminated.get("reason") != "OOMKilled":
            detail = f"container {container.get('name')} ended without a usable report: {err}"
            return Died("ReportLost", detail[:MAX_TEXT], end_job=_is_kept_alive(pod))
        return died_without_report(pod)


def died_without_report(pod: Obj) -> Died:
    """Return the death of a pod that ended, in the kubelet's words."""
    said = _container_failure(pod)
    if status(pod).get("reason") == "DeadlineExceeded":
        return Died(
            "DeadlineExceeded",
            "its pod ran into activeDeadlineSeconds",
            release_lock=True,
            deadline=True,
        )
    reason = str(status(pod).get("reason") or "")
    text = said or str(status(pod).get("message") or "") or "its pod ended without a report"
    return Died(
        reason or _reason(text),
        text[:MAX_TEXT],
        release_lock=was_started(pod),
        end_job=_is_kept_alive(pod),
    )


def _is_kept_alive(pod: Obj) -> bool:
    """Tell whether a container that was injected runs on: it has to be stopped by us."""
    return any(
        dig(container, "state", "running") is not None
        for container in status(pod).get("containerStatuses") or ()
    )


def _reason(text: str) -> str:
    return "OOMKilled" if "OOMKilled" in text else "PodFailed"


def _container_failure(pod: Obj) -> str:
    for container in containers(pod):
        terminated = dig(container, "state", "terminated") or {}
        code = terminated.get("exitCode", 0)
        if terminated.get("reason") == "OOMKilled":
            return (
                f"container {container.get('name')} was OOMKilled (exit code {code}): raise "
                "spec.runtimeSettings.container.resources.limits.memory"
            )
        if code:
            said = str(terminated.get("message") or "").strip()
            hint = f": {said}" if said else f", see kubectl logs {name_of(pod)}"
            return f"container {container.get('name')} exited with code {code}{hint}"
    return ""
