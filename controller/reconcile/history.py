"""Which ended sessions go: the history limit (stash.md 3.7)."""

from collections.abc import Iterable

from controller.api.conditions import FINAL_PHASES, Phase
from controller.api.objects import Obj, dig, is_deleting, meta, name_of, status


def is_final(session: Obj) -> bool:
    """Tell whether a session has ended. Phases that nobody knows have not."""
    return status(session).get("phase") in FINAL_PHASES


def age_key(session: Obj) -> tuple[str, str]:
    """Return what sessions are ordered by: creation, then name. Total and stable."""
    return (str(meta(session).get("creationTimestamp") or ""), name_of(session))


def outdated(
    session: Obj, phase: Phase, siblings: Iterable[Obj], limit: int, *, retries: bool = False
) -> tuple[Obj, ...]:
    """Return the sessions to delete once `session` ends in `phase`, newest first.

    Of the ended ones the newest `limit` stay. The newest that did something (Succeeded or Failed)
    stays beyond that, so that a series of Skipped ones does not hide the last result; with a limit
    of 0 or less nothing stays but the session itself, which is still being reported on, and one
    that is to be tried again: `retries` says that the configuration asks for that. After a success
    nothing older is tried again.
    """
    ended = [(session, phase.value)] + [
        (sibling, str(status(sibling).get("phase"))) for sibling in siblings if is_final(sibling)
    ]
    ended.sort(key=lambda item: age_key(item[0]), reverse=True)
    kept_result = limit <= 0
    gone: list[Obj] = []
    for index, (candidate, candidate_phase) in enumerate(ended):
        is_result = candidate_phase in (Phase.SUCCEEDED, Phase.FAILED)
        keep = index < limit or candidate is session or (is_result and not kept_result)
        kept_result = kept_result or is_result
        retries = retries and candidate_phase != Phase.SUCCEEDED
        keep = keep or (retries and _awaits_retry(candidate))
        if not keep and not is_deleting(candidate):
            gone.append(candidate)
    return tuple(gone)


def _awaits_retry(session: Obj) -> bool:
    """Tell whether a session failed and its next try was not created yet."""
    failed = status(session).get("phase") == Phase.FAILED
    return (
        failed
        and not status(session).get("retried")
        and (dig(session, "spec", "retryLeft") or 0) > 0
    )
