"""The history limit: which ended sessions go."""

from hypothesis import given
from hypothesis import strategies as st

from controller.api.conditions import FINAL_PHASES, Phase
from controller.api.objects import Obj, name_of, status
from controller.reconcile.history import age_key, outdated
from tests.support.builders import session

PHASES = ("Succeeded", "Failed", "Skipped")


def siblings(*phases: str) -> list[Obj]:
    """Return ended sessions, the newest first."""
    return [
        session(f"old-{index}", age_s=10 + index, status={"phase": phase})
        for index, phase in enumerate(phases)
    ]


def gone(phase: Phase, others: list[Obj], limit: int) -> list[str]:
    """Return the names of what goes."""
    return [name_of(obj) for obj in outdated(session("this"), phase, others, limit)]


def test_the_default_keeps_one() -> None:
    """The session that ends replaces the one before."""
    assert gone(Phase.SUCCEEDED, siblings("Succeeded", "Failed"), 1) == ["old-0", "old-1"]


def test_a_skipped_session_does_not_hide_the_last_result() -> None:
    """The newest that did something stays beside it (stash.md 3.7)."""
    others = siblings("Skipped", "Failed", "Succeeded")
    assert gone(Phase.SKIPPED, others, 1) == ["old-0", "old-2"]


def test_a_limit_of_0_keeps_only_the_one_that_is_reported_on() -> None:
    """Even the last result goes."""
    assert gone(Phase.SKIPPED, siblings("Succeeded", "Failed"), 0) == ["old-0", "old-1"]


def test_what_has_not_ended_is_never_deleted() -> None:
    """A running, pending or unknown session does not count, and stays."""
    alive: list[Obj] = [
        session("a", age_s=50, status={"phase": "Running"}),
        session("b", age_s=51),
        session("c", age_s=52, status={"phase": "Dreaming"}),
        session("d", age_s=53, status={"phase": "Failed"}, metadata={"deletionTimestamp": "x"}),
    ]
    assert gone(Phase.SUCCEEDED, alive, 0) == []


def test_a_session_that_is_to_be_tried_again_stays() -> None:
    """Until its next try was created: without it there would be none."""
    failed: list[Obj] = []
    for name, left, more in (
        ("waits", 1, {"nextRetry": "2026-11-22T03:10:00Z"}),
        ("ended-a-moment-ago", 1, {}),
        ("retried", 1, {"retried": True}),
        ("spent", 0, {}),
    ):
        failed.append(session(name, age_s=9, status={"phase": "Failed", **more}))
        failed[-1]["spec"]["retryLeft"] = left
    this = session("this")
    kept = [o for o in failed if o not in outdated(this, Phase.FAILED, failed, 1, retries=True)]
    assert [name_of(obj) for obj in kept] == ["waits", "ended-a-moment-ago"]
    assert len(outdated(this, Phase.FAILED, failed, 1)) == 4, "nobody asks for retries"
    assert len(outdated(this, Phase.SUCCEEDED, failed, 1, retries=True)) == 4, "nothing to mend"


@given(st.lists(st.sampled_from(PHASES), max_size=8), st.sampled_from(PHASES), st.integers(-1, 5))
def test_the_limit_holds(phases: list[str], own: str, limit: int) -> None:
    """At most the limit and one result stay; with a limit, a result never goes unreplaced."""
    this, others = session("this"), siblings(*phases)
    deleted = outdated(this, Phase(own), others, limit)
    left = [obj for obj in others if obj not in deleted]
    assert this not in deleted
    assert len(left) + 1 <= max(limit, 1) + 1
    if limit > 0 and any(phase != "Skipped" for phase in [own, *phases]):
        ends = [own, *(str(status(obj)["phase"]) for obj in left)]
        assert any(phase != "Skipped" for phase in ends)
    assert all(status(obj)["phase"] in FINAL_PHASES for obj in deleted)
    assert list(deleted) == sorted(deleted, key=age_key, reverse=True)
