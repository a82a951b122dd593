"""`retryConfig`: when a failed session is tried again."""

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
