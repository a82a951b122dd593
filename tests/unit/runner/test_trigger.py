"""The session of a slot (D20)."""

import json
import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.build.cronjob import ACTIVE_DEADLINE_S
from controller.kube.errors import AlreadyExists, Forbidden
from runner import trigger
from runner.retry import LIMIT_S
from runner.trigger import REQUEST_S, backup_session, create, main, parse_trigger, slot_s

NOW_S = 1_700_000_042.5
TRIGGER = {
    "apiVersion": "stash.appscode.com/v1beta1",
    "kind": "BackupConfiguration",
    "name": "data",
    "namespace": "demo",
    "uid": "u-1",
    "retryLeft": 2,
    "labels": {"a": "b"},
}


@given(st.integers(min_value=-10_000, max_value=10_000))
def test_slot_of_a_scheduled_job(minutes: int) -> None:
    """A Job of the CronJob is named after its slot's minute: the session gets its seconds."""
    minute = int(NOW_S) // 60 + minutes
    assert slot_s(f"stash-trigger-data-{minute}", NOW_S) == minute * 60


@pytest.mark.parametrize("name", ["", "by-hand", "data-1", "data-2024", "12345678", "x-99999999"])
def test_slot_of_a_job_made_by_hand(name: str) -> None:
    """Any other name means now."""
    assert slot_s(name, NOW_S) == 1_700_000_042


def test_session() -> None:
    """Name, labels, owner and spec are Stash's."""
    assert backup_session(TRIGGER, 1_700_000_040) == {
        "apiVersion": "stash.appscode.com/v1beta1",
        "kind": "BackupSession",
        "metadata": {
            "name": "data-1700000040",
            "namespace": "demo",
            "labels": {"a": "b"},
            "ownerReferences": [
                {
                    "apiVersion": "stash.appscode.com/v1beta1",
                    "kind": "BackupConfiguration",
                    "name": "data",
                    "uid": "u-1",
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": {
            "invoker": {
                "apiGroup": "stash.appscode.com",
                "kind": "BackupConfiguration",
                "name": "data",
            },
            "retryLeft": 2,
        },
    }


@pytest.mark.parametrize("key", sorted(TRIGGER))
def test_missing_field_is_named(key: str) -> None:
    """A trigger without a field is refused with the field's name."""
    text = json.dumps({name: value for name, value in TRIGGER.items() if name != key})
    with pytest.raises(ValueError, match=key):
        parse_trigger(text)


class Server:
    """An API server that already has an object of that name."""

    def __init__(self, uid: str) -> None:
        self._uid = uid

    def create(self, *_: Any, **__: Any) -> Any:
        """Refuse."""
        raise AlreadyExists("it exists")

    def get(self, *_: Any, **__: Any) -> Any:
        """Return the object."""
        return {"metadata": {"ownerReferences": [{"uid": self._uid}]}}


def test_same_slot_twice_is_success() -> None:
    """A second trigger of a slot finds its session; a foreign object of that name is an error."""
    session = backup_session(TRIGGER, 1)
    server: Any = Server("u-1")
    assert create(server, session) is False
    foreign: Any = Server("u-2")
    with pytest.raises(AlreadyExists):
        create(foreign, session)


class Blind(Server):
    """An API server that lets us create only, as our role does."""

    def get(self, *_: Any, **__: Any) -> Any:
        """Refuse."""
        raise Forbidden("may not get backupsessions")


def test_same_slot_twice_without_the_right_to_look() -> None:
    """The trigger's own role has no GET (D26): that the name exists is success then."""
    server: Any = Blind("u-1")
    assert create(server, backup_session(TRIGGER, 1)) is False


def test_patience_ends_before_the_job() -> None:
    """The last request is over, and the pod had a minute to start, when the Job's time is up."""
    assert LIMIT_S + REQUEST_S + 60 < ACTIVE_DEADLINE_S


class Full:
    """An API server whose quota is full for a moment."""

    def __init__(self) -> None:
        self.asked = 0

    def create(self, *_: Any, **__: Any) -> Any:
        """Refuse the first time."""
        self.asked += 1
        if self.asked == 1:
            raise Forbidden('backupsessions "data-1" is forbidden: exceeded quota: few', code=403)


def test_a_refusal_does_not_cost_the_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full quota, or a webhook that denies, may pass within the minute that is waited for it."""
    server = Full()
    monkeypatch.setattr(trigger, "connect", lambda *_, **__: server)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert main({trigger.TRIGGER_VARIABLE: json.dumps(TRIGGER)}) == 0
    assert server.asked == 2


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """Without its variable the verb says who sets it, with exit code 2."""
    assert main({}) == 2
    assert "DREY_TRIGGER" in capsys.readouterr().err
