"""Which VolumeSnapshots of a claim the keep rules let go: what `restic forget` would choose.

A rule keeps the newest snapshot of each of its last n periods; periods without a snapshot do not
count. While a rule has not used up its number it keeps the oldest snapshot as well, so that the
history grows to its full length. Periods are those of UTC, weeks those of ISO 8601.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

from controller.api.backup import RetentionPolicy
from controller.api.objects import Obj, is_deleting, meta, name_of
from controller.api.text import parse_time

_PERIODS: Mapping[str, Callable[[datetime], Hashable]] = MappingProxyType(
    {
        "keep_hourly": lambda moment: (moment.date(), moment.hour),
        "keep_daily": lambda moment: moment.date(),
        "keep_weekly": lambda moment: moment.isocalendar()[:2],
        "keep_monthly": lambda moment: (moment.year, moment.month),
        "keep_yearly": lambda moment: moment.year,
    }
)


@dataclass(slots=True)
class _Rule:
    """A keep rule, and how far it has been used up. Without `period` each snapshot is its own."""

    left: int
    period: Callable[[datetime], Hashable] | None
    last: Hashable = None

    def keeps(self, moment: datetime, *, oldest: bool) -> bool:
        """Tell whether the rule keeps the next older snapshot."""
        if self.left <= 0:
            return False
        if self.period is not None:
            period = self.period(moment)
            if period == self.last and not oldest:
                return False
            self.last = period
        self.left -= 1
        return True


def has_rule(policy: RetentionPolicy) -> bool:
    """Tell whether a policy says how many to keep; keepTags do not: VolumeSnapshots have no tags.

    Without a rule everything stays (D6).
    """
    return any(rule.left > 0 for rule in _rules(policy))


def removable(
    ready: Sequence[Obj], unready: Sequence[Obj], policy: RetentionPolicy
) -> tuple[Obj, ...]:
    """Return the VolumeSnapshots of one claim that are not to be kept, the oldest first.

    Only those that are ready count, so that failed ones never push out the last good one. What is
    not ready may still become so: it goes when it is older than everything that is kept. Those that
    are being deleted already are neither counted nor returned. `prune` and `dryRun` are the
    caller's.
    """
    if not has_rule(policy):
        return ()
    newest_first = sorted((one for one in ready if not is_deleting(one)), key=_age, reverse=True)
    rules = _rules(policy)
    gone: list[Obj] = []
    oldest_kept: datetime | None = None
    for index, snapshot in enumerate(newest_first):
        moment = _moment(snapshot)
        # Every rule looks at every snapshot: one that another rule keeps uses it up as well.
        votes = [rule.keeps(moment, oldest=index == len(newest_first) - 1) for rule in rules]
        if any(votes):
            oldest_kept = moment
        else:
            gone.append(snapshot)
    if oldest_kept is not None:
        gone += (one for one in unready if not is_deleting(one) and _moment(one) < oldest_kept)
    return tuple(sorted(gone, key=_age))


def _rules(policy: RetentionPolicy) -> list[_Rule]:
    return [
        _Rule(policy.keep_last, None),
        *(_Rule(getattr(policy, name), period) for name, period in _PERIODS.items()),
    ]


def _moment(snapshot: Obj) -> datetime:
    return parse_time(meta(snapshot)["creationTimestamp"]).astimezone(UTC)


def _age(snapshot: Obj) -> tuple[datetime, str]:
    # restic leaves the order of equal times open: by name it is at least the same every time.
    return _moment(snapshot), name_of(snapshot)
