"""controller.engine.election: at most one leader, whatever fails (scripted time)."""

import random
from typing import Any

import pytest

from controller.api.resources import LEASE
from controller.engine import election as election_module
from controller.engine.election import Election, Timing
from controller.kube.errors import Conflict, Unreachable
from tests.support.clock import FakeClock
from tests.support.kube import FakeKube

DOWN = Unreachable("down")


class Candidate:
    """One process with its own clock."""

    def __init__(self, kube: FakeKube, identity: str) -> None:
        self.clock = FakeClock()
        self.exits: list[str] = []
        self.election = Election(
            kube,
            self.clock,
            namespace="drey",
            name="drey",
            identity=identity,
            exit_process=self.exits.append,
            rng=random.Random(1),  # noqa: S311 - test data
        )

    def step(self, seconds: float = 0.0) -> bool:
        """Let time pass and try once; tell whether it leads."""
        self.clock.advance(seconds)
        self.election._try_once()
        return self.election.leading.is_set()


def spec(kube: FakeKube) -> Any:
    """Return the Lease's spec."""
    return kube.objects["Lease", "drey", "drey"]["spec"]


def test_the_first_leads_and_the_second_waits() -> None:
    """One Lease, one holder."""
    kube = FakeKube()
    a, b = Candidate(kube, "a"), Candidate(kube, "b")
    assert a.step()
    assert not b.step()
    assert (spec(kube)["holderIdentity"], spec(kube)["leaseTransitions"]) == ("a", 0)


def test_a_renewal_is_one_request() -> None:
    """Optimistic: PUT of what was written last."""
    kube = FakeKube()
    a = Candidate(kube, "a")
    a.step()
    kube.calls.clear()
    assert a.step(2.0)
    assert kube.calls == [("update", "Lease")]
    assert spec(kube)["renewTime"] > spec(kube)["acquireTime"]


def test_a_dead_leader_is_followed_after_its_lease() -> None:
    """Judged by when the follower saw it change, not by its times."""
    kube = FakeKube()
    a, b = Candidate(kube, "a"), Candidate(kube, "b")
    a.clock.advance(100_000.0)  # the dead one's clock was wrong by a day
    a.step()
    assert not b.step()
    assert not b.step(14.9)
    assert b.step(0.2)
    assert (spec(kube)["holderIdentity"], spec(kube)["leaseTransitions"]) == ("b", 1)


def test_a_living_leader_is_not_followed() -> None:
    """Each change that is seen starts the wait anew."""
    kube = FakeKube()
    a, b = Candidate(kube, "a"), Candidate(kube, "b")
    a.step()
    for _ in range(20):
        assert a.step(2.0)
        assert not b.step(2.0)


def test_a_leader_that_cannot_renew_ends_before_another_may_lead() -> None:
    """Ten seconds against fifteen; writes stop with it."""
    kube = FakeKube()
    a = Candidate(kube, "a")
    a.step()
    kube.fail("update", *[DOWN] * 10)
    for _ in range(5):
        a.step(2.0)
        assert a.election.may_write()
    assert a.exits == []
    a.step(0.5)
    assert a.exits == ["lease_lost"]
    assert not a.election.may_write()


def test_a_hanging_renewal_is_noticed_by_the_watchdog() -> None:
    """The thread that renews may never come back."""
    kube = FakeKube()
    a = Candidate(kube, "a")
    a.step()
    a.clock.advance(9.9)
    a.election.check()
    assert a.exits == []
    a.clock.advance(0.2)
    a.election.check()
    assert a.exits == ["lease_lost"]


def test_a_renewal_counts_from_before_its_request() -> None:
    """The API server may have acted at the start of a slow request."""
    kube = FakeKube()
    a = Candidate(kube, "a")
    a.step()
    original = kube.put

    def slow(*args: Any, **kwargs: Any) -> Any:
        a.clock.advance(4.0)
        return original(*args, **kwargs)

    kube.put = slow  # type: ignore[method-assign]  # a slow API server
    a.step(2.0)
    a.clock.advance(6.5)
    assert not a.election.may_write()


def test_a_lease_that_was_taken_ends_the_process() -> None:
    """Somebody else's name in it: no matter how, we do not lead."""
    kube = FakeKube()
    a = Candidate(kube, "a")
    a.step()
    kube.put_object(
        LEASE,
        {
            "metadata": {"namespace": "drey", "name": "drey"},
            "spec": {"holderIdentity": "b", "leaseDurationSeconds": 15},
        },
    )
    a.step(2.0)
    assert a.exits == ["lease_lost"]


def test_a_touched_or_deleted_lease_is_taken_up_again() -> None:
    """An annotation by a person, or kubectl delete, is no loss."""
    kube = FakeKube()
    a = Candidate(kube, "a")
    a.step()
    kube.put_object(LEASE, {**kube.objects["Lease", "drey", "drey"]})
    assert a.step(2.0)
    kube.objects.clear()
    assert a.step(2.0)
    assert spec(kube)["holderIdentity"] == "a"
    assert a.exits == []


def test_two_candidates_race_for_one_lease() -> None:
    """The slower one's write is a Conflict: it waits."""
    kube = FakeKube()
    a, b = Candidate(kube, "a"), Candidate(kube, "b")
    a.step()
    b.step()
    b.clock.advance(16.0)
    kube.fail("update", Conflict("faster"))
    assert not b.step()
    assert b.exits == []


def test_a_clean_stop_gives_the_lease_back() -> None:
    """The next look of a follower takes it, without any wait."""
    kube = FakeKube()
    a, b = Candidate(kube, "a"), Candidate(kube, "b")
    a.step()
    assert not b.step()
    assert a.election._stop.is_set() is False
    a.election._stop.set()
    a.election.run()
    assert a.election.stop(0.0)
    assert (spec(kube)["holderIdentity"], spec(kube)["leaseDurationSeconds"]) == ("", 1)
    assert b.step(1.0)
    assert a.exits == []


def test_a_stop_with_a_dead_api_server_ends_all_the_same() -> None:
    """The Lease runs out by itself."""
    kube = FakeKube()
    a = Candidate(kube, "a")
    a.step()
    kube.fail("update", DOWN)
    a.election._stop.set()
    a.election.run()
    assert a.election.stop(0.0)


def test_a_log_that_fails_does_not_keep_the_process_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Standard output may be a closed pipe: the exit comes all the same."""
    kube = FakeKube()
    a = Candidate(kube, "a")
    a.step()
    a.clock.advance(11.0)

    def broken(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(election_module.log, "error", broken, raising=False)
    with pytest.raises(BrokenPipeError):
        a.election.check()
    assert a.exits == ["lease_lost"]


def test_health_tells_of_a_leader_without_lease() -> None:
    """Should the exit have failed, the kubelet ends the pod."""
    kube = FakeKube()
    a = Candidate(kube, "a")
    a.step()
    a.clock.advance(34.0)
    assert a.election.problem() is None
    a.clock.advance(2.0)
    assert a.election.problem() == "leads, but has not renewed its Lease for 36 s"


def test_a_timing_that_allows_two_leaders_is_refused() -> None:
    """Between the end of renewing and the end of the Lease a request must fit."""
    with pytest.raises(ValueError, match="two leaders"):
        Timing(lease_s=15.0, renew_deadline_s=12.0)
