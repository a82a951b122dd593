"""`retryConfig`: a failed session is followed by another one (stash.md 3.8)."""

from datetime import datetime, timedelta

from controller.api.conditions import Phase
from controller.api.objects import dig, is_deleting, meta, name_of, status
from controller.api.resources import BACKUP_SESSION
from controller.api.text import format_time, parse_go_duration_s, parse_time
from controller.build.cronjob import STARTING_DEADLINE_S
from controller.build.session import retry_session
from controller.plan import CreateOnce, Plan, Ref, SetStatus
from controller.reconcile.history import age_key
from controller.reconcile.invoked import Invoked


def plan(seen: Invoked, now: datetime) -> Plan:
    """Return what a session that has ended still needs: its next try, or nothing.

    The try is created before `retried` says so: a crash in between repeats a CreateOnce.
    """
    session, configuration, spec = seen.session, seen.configuration, seen.spec
    left = dig(session, "spec", "retryLeft") or 0
    old = status(session)
    if old.get("phase") != Phase.FAILED or left <= 0 or old.get("retried"):
        return Plan()
    if configuration is None or is_deleting(configuration) or spec is None:
        return Plan()
    if spec.retry_config is None or seen.refusal is not None or _is_obsolete(seen, now):
        return Plan()
    ref = Ref.to(BACKUP_SESSION, session)
    if (due := old.get("nextRetry")) is None and spec.retry_config.delay:
        delay_s = parse_go_duration_s(spec.retry_config.delay) or 0.0
        new = {**old, "nextRetry": format_time(now + timedelta(seconds=delay_s))}
        return Plan(writes=(SetStatus(ref, new),), requeue_after_s=delay_s)
    wait_s = (parse_time(due) - now).total_seconds() if due else 0.0
    if wait_s > 0:
        return Plan(requeue_after_s=wait_s, facts={"step": "retry_waits", "next_retry": due})
    following = retry_session(session, configuration, spec, retry_left=left - 1)
    return Plan(
        writes=(CreateOnce(BACKUP_SESSION, following), SetStatus(ref, {**old, "retried": True})),
        facts={"step": "retried", "session": name_of(following)},
    )


def _is_obsolete(seen: Invoked, now: datetime) -> bool:
    """Tell whether a try would come too late to be of use.

    After a later success, or as long after its time as a slot is given up: a controller that was
    away, or a `retryConfig` that was added later, must not bring back what failed long ago.
    """
    mine, old = age_key(seen.session), status(seen.session)
    if any(
        status(other).get("phase") == Phase.SUCCEEDED and age_key(other) > mine
        for other in seen.siblings
    ):
        return True
    if due := old.get("nextRetry"):
        since = parse_time(due)
    else:
        took_s = parse_go_duration_s(str(old.get("sessionDuration") or "")) or 0.0
        since = parse_time(meta(seen.session)["creationTimestamp"]) + timedelta(seconds=took_s)
    return (now - since).total_seconds() > STARTING_DEADLINE_S
