"""`retryConfig`: when a failed session is tried again."""

from dataclasses import replace
from typing import Any

import pytest

from controller.api.objects import Obj
from controller.api.resources import BACKUP_SESSION
from controller.plan import CreateOnce, Plan, Refusal, SetStatus
from controller.reconcile.backup_session import plan
from controller.reconcile.observed import SessionObserved
from tests.support.builders import (
    NOW,
    before,
    configuration,
    configuration_spec,
    running_status,
    session,
    session_observed,
)

FAILED = {**running_status(), "phase": "Failed"}


def failed(*, left: int = 2, delay: str = "", **status: Any) -> SessionObserved:
    """Return a failed session whose configuration asks for retries."""
    raw = session(status={**FAILED, **status})
    raw["spec"]["retryLeft"] = left
    retry: dict[str, Any] = {"maxRetry": 2, **({"delay": delay} if delay else {})}
    return session_observed(
        raw, configuration=configuration(spec=configuration_spec(retryConfig=retry))
    )


def status_in(planned: Plan) -> Obj:
    """Return the status that a plan writes, which is its last write."""
    last = planned.writes[-1]
    assert isinstance(last, SetStatus)
    return last.status


def test_a_failed_session_is_followed_by_another() -> None:
    """Created before `retried` says so, with one try less, labels and owner as if triggered."""
    planned = plan(failed(), NOW)
    create = planned.writes[0]
    assert isinstance(create, CreateOnce)
    assert create.body["metadata"]["name"] == "nightly-1-retry-1"
    assert create.body["spec"] == {
        "invoker": {
            "apiGroup": "stash.appscode.com",
            "kind": "BackupConfiguration",
            "name": "nightly",
        },
        "retryLeft": 1,
    }
    labels = create.body["metadata"]["labels"]
    assert labels["stash.appscode.com/invoker-name"] == "nightly"
    assert create.body["metadata"]["ownerReferences"][0]["uid"] == "uid-of-nightly"
    assert status_in(planned) == {**FAILED, "retried": True}


def test_a_delay_is_written_down_and_kept() -> None:
    """`nextRetry` survives a restart; until then nothing is written."""
    first = plan(failed(delay="10m"), NOW)
    assert status_in(first)["nextRetry"] == before(-600)
    assert first.requeue_after_s == 600
    waits = plan(failed(delay="10m", nextRetry=before(-30)), NOW)
    assert (waits.writes, waits.requeue_after_s) == ((), 30.0)
    due = plan(failed(delay="10m", nextRetry=before(0)), NOW)
    assert isinstance(due.writes[0], CreateOnce)


@pytest.mark.parametrize(
    "seen",
    [
        failed(left=0),
        failed(retried=True),
        failed(phase="Succeeded"),
        failed(phase="Skipped"),
        session_observed(failed().session),
        session_observed(failed().session, configuration=None),
        session_observed(
            failed().session,
            configuration=configuration(
                spec=configuration_spec(retryConfig={}), metadata={"deletionTimestamp": "x"}
            ),
        ),
        session_observed(
            failed().session,
            configuration=configuration(spec=configuration_spec(retryConfig={})),
            refusal=Refusal(CreateOnce(BACKUP_SESSION, session()), "Forbidden", "quota"),
        ),
    ],
    ids=["spent", "done", "good", "skipped", "unwanted", "gone", "going", "refused"],
)
def test_nothing_else_is_tried_again(seen: SessionObserved) -> None:
    """Only a failure, while tries are left and the configuration still wants them."""
    assert plan(seen, NOW).writes == ()


@pytest.mark.parametrize("status", [{}, {"nextRetry": before(60)}])
def test_what_succeeded_since_is_not_tried_again(status: Obj) -> None:
    """An older success, or a later failure, does not count."""
    seen = failed(**status)
    for age_s, phase, tried in (
        (-60, "Succeeded", False),
        (60, "Succeeded", True),
        (-60, "Failed", True),
    ):
        other = session("nightly-2", age_s=age_s, status={"phase": phase})
        planned = plan(replace(seen, siblings=(other,)), NOW)
        assert bool(planned.writes) is tried


@pytest.mark.parametrize(
    ("age_s", "status", "tried"),
    [
        (6 * 3600 - 1, {}, True),
        (6 * 3600 + 1, {}, False),
        (9 * 3600, {"sessionDuration": "4h0m0s"}, True),
        (11 * 3600, {"sessionDuration": "4h0m0s"}, False),
        (90_000, {"nextRetry": before(3600)}, True),
        (90_000, {"nextRetry": before(7 * 3600)}, False),
    ],
)
def test_an_old_failure_is_not_tried_again(age_s: float, status: Obj, *, tried: bool) -> None:
    """Six hours late, as a slot is given up: the next one will do."""
    seen = failed(**status)
    seen = replace(
        seen,
        session={
            **seen.session,
            "metadata": {**seen.session["metadata"], "creationTimestamp": before(age_s)},
        },
    )
    assert bool(plan(seen, NOW).writes) is tried
