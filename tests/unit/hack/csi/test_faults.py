"""Faults on demand: the rules' text, what they match, how often they apply."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hack.cluster.csi.faults import Faults, FaultsInvalid, parse_rules
from hack.cluster.csi.refusal import Code, Refusal

CALLS = {"CreateSnapshot", "CreateVolume"}
FAIL: dict[str, Any] = {"call": "CreateSnapshot", "code": "INTERNAL", "message": "disk on fire"}


def faults_of(path: Path, *rules: dict[str, Any]) -> Faults:
    """Write the rules and return faults that read them."""
    path.write_text(json.dumps(rules))
    return Faults(path, CALLS)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("x", "[0]: must be an object"),
        ({**FAIL, "cod": 1}, "[0].cod: not known: use call, code"),
        ({**FAIL, "call": "CreateSnapsot"}, "[0].call: 'CreateSnapsot' is no call"),
        ({"code": "INTERNAL"}, "[0].call: '' is no call"),
        ({**FAIL, "call": []}, "[0].call: [] is no call"),
        ({**FAIL, "code": "OK"}, "[0].code: 'OK' is not one of CANCELLED"),
        ({**FAIL, "times": 0}, "[0].times: 0 is neither null nor a number from 1"),
        ({**FAIL, "times": True}, "[0].times: True is neither"),
        ({**FAIL, "delay_s": -1}, "[0].delay_s: -1 is not a number from 0"),
        ({**FAIL, "not_ready": 1}, "[0].not_ready: 1 is neither true nor false"),
        ({**FAIL, "not_ready": True}, "[0].not_ready: only for CreateSnapshot and without a code"),
        ({"call": "CreateVolume", "not_ready": True}, "[0].not_ready: only for CreateSnapshot"),
        ({"call": "CreateVolume"}, "[0]: does nothing: give code, delay_s or not_ready"),
        ({**FAIL, "match": []}, "[0].match: must be an object"),
        ({**FAIL, "match": {"pvc": "x"}}, "[0].match.pvc: not known: use volume, source_volume"),
        ({**FAIL, "match": {"volume": "("}}, "[0].match.volume: no regex"),
        ({**FAIL, "match": {"volume": 1}}, "[0].match.volume: no regex"),
    ],
)
def test_a_wrong_rule_is_named_with_its_path(rule: object, message: str) -> None:
    """An error names file, path and what is wrong."""
    with pytest.raises(FaultsInvalid) as caught:
        parse_rules(json.dumps([rule]), "f.json", CALLS)
    assert str(caught.value).startswith("f.json: " + message)


@pytest.mark.parametrize(("text", "message"), [("{", "not JSON"), ("{}", "must be a list")])
def test_a_file_that_is_no_list_is_refused(text: str, message: str) -> None:
    """A file is a JSON list."""
    with pytest.raises(FaultsInvalid, match=message):
        parse_rules(text, "f.json", CALLS)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_no_text_does_more_than_be_refused(value: object) -> None:
    """Whatever JSON a file or rule holds, the answer is rules or FaultsInvalid."""
    for loaded in (value, [value], [{**FAIL, "match": value}], [{**FAIL, "code": value}]):
        try:
            parse_rules(json.dumps(loaded), "f.json", CALLS)
        except FaultsInvalid:
            continue


def test_no_file_is_no_fault(tmp_path: Path) -> None:
    """An absent file, or none at all, means that nothing fails."""
    for path in (None, tmp_path / "absent.json"):
        assert Faults(path, CALLS).suffer("CreateSnapshot", {}) is None


def test_a_broken_file_refuses_every_call(tmp_path: Path) -> None:
    """A mistake in the file is loud: INTERNAL with the reason, at any call."""
    path = tmp_path / "f.json"
    path.write_text("{")
    with pytest.raises(Refusal, match="not JSON") as caught:
        Faults(path, CALLS).suffer("CreateVolume", {})
    assert caught.value.code is Code.INTERNAL


def test_a_rule_matches_in_full_and_by_all_its_patterns(tmp_path: Path) -> None:
    """Patterns are anchored, any name of a subject counts, and all subjects must match."""
    rule = {**FAIL, "match": {"source_volume": "data-.", "namespace": "a"}}
    faults = faults_of(tmp_path / "f.json", rule)
    assert faults.suffer("CreateVolume", {"source_volume": ["data-0"], "namespace": ["a"]}) is None
    assert faults.suffer("CreateSnapshot", {"source_volume": ["data-0"]}) is None
    assert faults.suffer("CreateSnapshot", {"source_volume": ["data-00"], "namespace": "a"}) is None
    hit = faults.suffer("CreateSnapshot", {"source_volume": ["pvc-1", "data-0"], "namespace": "a"})
    assert hit is not None
    assert (hit.code, hit.message) == (Code.INTERNAL, "disk on fire")


def test_times_counts_per_rule_and_anew_when_it_came_back(tmp_path: Path) -> None:
    """`times: 2` fails twice, then never; a rule that left the file and returns starts at zero."""
    path = tmp_path / "f.json"
    faults = faults_of(path, {**FAIL, "times": 2})
    hits = [faults.suffer("CreateSnapshot", {}) is not None for _ in range(4)]
    assert hits == [True, True, False, False]
    path.unlink()
    assert faults.suffer("CreateSnapshot", {}) is None
    path.write_text(json.dumps([{**FAIL, "times": 2}]))
    assert faults.suffer("CreateSnapshot", {}) is not None


def test_a_used_up_rule_gives_way_to_the_next(tmp_path: Path) -> None:
    """The first rule that is not used up applies."""
    faults = faults_of(
        tmp_path / "f.json", {**FAIL, "times": 1}, {"call": "CreateSnapshot", "delay_s": 3}
    )
    first, second = (faults.suffer("CreateSnapshot", {}) for _ in range(2))
    assert first is not None
    assert first.code is Code.INTERNAL
    assert second is not None
    assert (second.code, second.delay_s) == (None, 3)


def test_not_ready_lasts_for_ever_or_until_the_age(tmp_path: Path) -> None:
    """Without delay_s a snapshot never gets ready; with it, at that age. The call itself is OK."""
    rule = {"call": "CreateSnapshot", "not_ready": True}
    faults = faults_of(tmp_path / "f.json", rule)
    assert faults.suffer("CreateSnapshot", {}) is None
    assert faults.withholds({}, age_s=1e9, count=True)
    faults = faults_of(tmp_path / "f.json", {**rule, "delay_s": 5})
    assert faults.withholds({}, age_s=4.9, count=True)
    assert not faults.withholds({}, age_s=5, count=True)


def test_listing_does_not_use_up_a_rule(tmp_path: Path) -> None:
    """`times` of a not-ready rule counts answers of CreateSnapshot only."""
    rule = {"call": "CreateSnapshot", "not_ready": True, "times": 1}
    faults = faults_of(tmp_path / "f.json", rule)
    assert faults.withholds({}, age_s=0, count=False)
    assert faults.withholds({}, age_s=0, count=True)
    assert not faults.withholds({}, age_s=0, count=False)


def test_a_folder_holds_a_file_for_each_test(tmp_path: Path) -> None:
    """All JSON files of a folder count, in the order of their names."""
    (tmp_path / "b.json").write_text(json.dumps([{**FAIL, "message": "b"}]))
    (tmp_path / "a.json").write_text(json.dumps([{**FAIL, "message": "a", "times": 1}]))
    (tmp_path / "a.json.part").write_text("{")
    faults = Faults(tmp_path, CALLS)
    hits = [faults.suffer("CreateSnapshot", {}) for _ in range(2)]
    assert [hit.message for hit in hits if hit] == ["a", "b"]
