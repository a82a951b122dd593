"""Faults on demand: a JSON file of rules that make calls fail, wait, or leave a snapshot unready.

The file is read at each call, so a test writes it (atomically: write beside it, then rename) and
removes it. Where the path is a folder, all `*.json` in it count, in the order of their names: each
test has a file of its own. A rule:

    {"call": "CreateSnapshot",                   required: a call of CSI by its published name
     "match": {"source_volume": "data-.*"},      regexes, all must match in full; default: any
     "code": "INTERNAL", "message": "disk on fire",
     "times": 2,                                 null or absent: always
     "delay_s": 1.5,                             before the answer
     "not_ready": true,                          CreateSnapshot only: taken but not ready to use;
                                                 with delay_s: until the snapshot is that old
     "id": "anything"}                           makes a rule count anew

`match` knows the keys of `SUBJECTS`; a volume answers to its id, its PVC's name and
`namespace/name`, a snapshot to its id and its VolumeSnapshot's names alike. The first rule that
matches and is not used up applies. How often one was used is kept in memory under its own text:
it is forgotten when the rule leaves the file (as seen at the next call) or the driver restarts.
"""

import json
import re
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.cluster.csi.refusal import Code, Refusal

SUBJECTS = ("volume", "source_volume", "snapshot", "namespace", "name")

Subjects = Mapping[str, Collection[str]]
"""What a call is about: for each key of `SUBJECTS` all the names that it answers to."""

_FIELDS = frozenset({"call", "match", "code", "message", "times", "delay_s", "not_ready", "id"})
_CODES = ", ".join(Code)


class FaultsInvalid(Exception):
    """A rule cannot be understood; the message names the file, the path in it and the fix."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule. `code` and `not_ready` exclude each other; `key` is its own canonical text."""

    key: str
    call: str
    match: Mapping[str, re.Pattern[str]]
    code: Code | None
    message: str
    times: int | None
    delay_s: float
    not_ready: bool

    def matches(self, call: str, subjects: Subjects) -> bool:
        """Tell whether the rule is about this call, whether used up or not."""
        return call == self.call and all(
            any(pattern.fullmatch(name) for name in subjects.get(subject, ()))
            for subject, pattern in self.match.items()
        )


@dataclass(frozen=True)
class Effect:
    """What a call has to suffer: wait first, then fail where there is a code."""

    delay_s: float
    code: Code | None
    message: str


def parse_rules(text: str, where: str, calls: Collection[str]) -> tuple[Rule, ...]:
    """Read the rules of one file; `where` begins each error, `calls` are the names that exist.

    Raises:
        FaultsInvalid: with the path of the first thing that is wrong.
    """
    try:
        loaded = json.loads(text)
    except ValueError as err:
        raise FaultsInvalid(f"{where}: not JSON: {err}") from err
    if not isinstance(loaded, list):
        raise FaultsInvalid(f"{where}: must be a list of rules")
    return tuple(_rule(raw, f"{where}: [{at}]", calls) for at, raw in enumerate(loaded))


def _rule(raw: Any, where: str, calls: Collection[str]) -> Rule:
    if not isinstance(raw, dict):
        raise FaultsInvalid(f"{where}: must be an object")
    if unknown := sorted(set(raw) - _FIELDS):
        raise FaultsInvalid(f"{where}.{unknown[0]}: not known: use {', '.join(sorted(_FIELDS))}")
    call = raw.get("call", "")
    if not isinstance(call, str) or call not in calls:
        raise FaultsInvalid(f"{where}.call: {call!r} is no call of this driver")
    code = raw.get("code")
    if code is not None and code not in list(Code):
        raise FaultsInvalid(f"{where}.code: {code!r} is not one of {_CODES}")
    times = raw.get("times")
    if times is not None and (type(times) is not int or times < 1):
        raise FaultsInvalid(f"{where}.times: {times!r} is neither null nor a number from 1")
    delay_s = raw.get("delay_s", 0)
    if type(delay_s) not in (int, float) or delay_s < 0:
        raise FaultsInvalid(f"{where}.delay_s: {delay_s!r} is not a number from 0")
    not_ready = raw.get("not_ready", False)
    if not isinstance(not_ready, bool):
        raise FaultsInvalid(f"{where}.not_ready: {not_ready!r} is neither true nor false")
    if not_ready and (call != "CreateSnapshot" or code is not None):
        raise FaultsInvalid(f"{where}.not_ready: only for CreateSnapshot and without a code")
    if not not_ready and code is None and not delay_s:
        raise FaultsInvalid(f"{where}: does nothing: give code, delay_s or not_ready")
    return Rule(
        key=json.dumps(raw, sort_keys=True),
        call=call,
        match=_match(raw.get("match", {}), where),
        code=None if code is None else Code(code),
        message=str(raw.get("message", "a fault on demand")),
        times=times,
        delay_s=float(delay_s),
        not_ready=not_ready,
    )


def _match(raw: Any, where: str) -> dict[str, re.Pattern[str]]:
    if not isinstance(raw, dict):
        raise FaultsInvalid(f"{where}.match: must be an object")
    patterns = {}
    for subject, pattern in raw.items():
        if subject not in SUBJECTS:
            raise FaultsInvalid(f"{where}.match.{subject}: not known: use {', '.join(SUBJECTS)}")
        try:
            patterns[subject] = re.compile(pattern)
        except (re.error, TypeError) as err:
            raise FaultsInvalid(f"{where}.match.{subject}: no regex: {err}") from err
    return patterns


class Faults:
    """The rules of a file or folder, and how often each was used. Safe to use from threads.

    A file that cannot be understood refuses every call with INTERNAL and the reason, so that a
    mistake in a test does not look like a driver without faults.
    """

    def __init__(self, path: Path | None, calls: Collection[str]) -> None:
        self._path = path
        self._calls = frozenset(calls)
        self._used: dict[str, int] = {}
        self._lock = threading.Lock()

    def suffer(self, call: str, subjects: Subjects) -> Effect | None:
        """Return what this call has to suffer and count it, or None."""
        with self._lock:
            rule = self._take(call, subjects, not_ready=False)
        return None if rule is None else Effect(rule.delay_s, rule.code, rule.message)

    def withholds(self, subjects: Subjects, *, age_s: float, count: bool) -> bool:
        """Tell whether a snapshot of this age has to be reported as not ready to use.

        `count` is for CreateSnapshot itself; listing a snapshot uses up nothing.
        """
        with self._lock:
            return (
                self._take("CreateSnapshot", subjects, not_ready=True, age_s=age_s, count=count)
                is not None
            )

    def _take(
        self,
        call: str,
        subjects: Subjects,
        *,
        not_ready: bool,
        age_s: float = 0,
        count: bool = True,
    ) -> Rule | None:
        rules = self._rules()
        present = {rule.key for rule in rules}
        self._used = {key: used for key, used in self._used.items() if key in present}
        for rule in rules:
            if rule.not_ready != not_ready or not rule.matches(call, subjects):
                continue
            if rule.times is not None and self._used.get(rule.key, 0) >= rule.times:
                continue
            if rule.not_ready and rule.delay_s and age_s >= rule.delay_s:
                continue
            if count:
                self._used[rule.key] = self._used.get(rule.key, 0) + 1
            return rule
        return None

    def _rules(self) -> list[Rule]:
        if self._path is None:
            return []
        files = sorted(self._path.glob("*.json")) if self._path.is_dir() else [self._path]
        rules: list[Rule] = []
        for file in files:
            try:
                text = file.read_text()
            except FileNotFoundError:
                continue
            try:
                rules.extend(parse_rules(text, str(file), self._calls))
            except FaultsInvalid as err:
                raise Refusal(Code.INTERNAL, f"faults: {err}") from err
        return rules
