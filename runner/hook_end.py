"""How a hook ended in each place, and what that means for the whole (D17). Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from controller.api.hook_input import HookInput
from controller.api.report import Reason
from runner.failure import RunError

MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a handler failed in one place."""

    text: str
    timed_out: bool = False
    is_lost: bool = False
    """The application itself has said nothing."""


@dataclass(frozen=True, slots=True)
class End:
    """How a handler ended in one place, `pod` is empty for an address.

    `is_gone` says that nothing is left of a pod that the hook could act in.
    """

    title: str
    pod: str
    failure: Failure | None
    is_gone: bool = False


def counting(ends: Sequence[End]) -> list[End]:
    """Return the failures that make a handler fail: when all pods are gone nobody was reached."""
    failed = [end for end in ends if end.failure is not None]
    there = [end for end in failed if not end.is_gone]
    return there or (failed if len(failed) == len(ends) else [])


def error(ends: Sequence[End], hook: HookInput) -> RunError | None:
    """Return why a hook failed, if it did.

    A second hook of which one pod gave no answer is lost, also where another pod said no: to thaw
    that one twice is harmless.
    """
    decisive = counting(ends)
    if not decisive:
        return None
    gone = [end for end in ends if end.failure is not None and end not in decisive]
    failures = [(end.pod, end.failure) for end in (*decisive, *gone) if end.failure is not None]
    texts = [
        f"pod {hook.namespace}/{pod}: {failure.text}" if pod else failure.text
        for pod, failure in failures[:MOST_NAMED]
    ]
    if len(failures) > MOST_NAMED:
        texts.append(f"and {len(failures) - MOST_NAMED} more")
    told = f"{decisive[0].title} failed"
    if len(ends) > 1:
        told += f" in {len(failures)} of {len(ends)}"
    is_lost = hook.also_unready and any(end.failure and end.failure.is_lost for end in decisive)
    if not any(failure.timed_out for _, failure in failures):
        reason = Reason.HOOK_LOST if is_lost else Reason.HOOK_FAILED
        return RunError(reason, f"{told}: {'; '.join(texts)}")
    return RunError(
        Reason.HOOK_LOST if is_lost else Reason.HOOK_TIMED_OUT,
        f"{told} within {hook.timeout_s} s: {'; '.join(texts)}. What was started may still run; the"
        " annotation drey.dev/hook-timeout allows more time",
    )
