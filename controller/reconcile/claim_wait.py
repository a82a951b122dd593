"""A restore from VolumeSnapshots whose Job was created: until its claims are bound (D23).

The Job ends as soon as the claims exist. From then on `status.stats` says which of them do not, so
that nothing depends on how long its pods are kept; the claims themselves say the rest. They are
watched: the clock is needed only for a deadline, and to ask Events why nothing changes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from controller.api.conditions import (
    MAX_MESSAGE,
    Condition,
    Phase,
    Type,
    deadline_exceeded,
    merged,
    without,
)
from controller.api.objects import Obj, annotations_of, meta, status
from controller.api.report import Reason, RunReport
from controller.api.resources import RESTORE_SESSION
from controller.api.text import format_seconds, parse_go_duration_s, parse_time
from controller.build.claims import TARGET_HASH, Claim, target_hash
from controller.plan import Plan
from controller.reconcile.claim_checks import began_at, deadline, is_own
from controller.reconcile.claim_end import NO_LOCK, end
from controller.reconcile.claim_observed import ClaimRestoreObserved
from controller.reconcile.claim_outcome import Host, hosts_of, stats_of, told_before, told_by
from controller.reconcile.closing import closing_writes, removals
from controller.reconcile.execution import verdict
from controller.reconcile.interruption import awaited_since, plan_to_wait
from controller.reconcile.references import LATEST_S, SOONEST_S
from controller.reconcile.session_status import status_writes
from controller.reconcile.verdicts import Died, Ended, Running, Verdict, Waiting

NOT_BOUND = "ClaimsNotBound"
"""Reason of ClaimsWaiting once the Job has ended."""
LOST_SOURCE_S = 120.0
"""How long a claim is given whose VolumeSnapshot is gone: its volume may be in the making."""
SAID = 3
"""So many claims are spoken of in the condition; `stats` has them all in the end."""


def job_ended(session: Obj) -> bool:
    """Tell whether the status says that the Job has ended and what it could not create."""
    return _waiting_message(session) is not None


def job_verdict(seen: ClaimRestoreObserved, now: datetime) -> Verdict:
    """Return what is known about the Job: it replaces pods that were killed, nothing is lost."""
    return verdict(
        seen.executor,
        now=now,
        limits=seen.limits,
        awaited_since=awaited_since(
            status(seen.session).get("conditions") or (), Type.RESTORE_WAITING
        ),
        time_out_s=parse_go_duration_s(seen.spec.time_out),
        replaces=True,
    )


def since_of(session: Obj, claims: Iterable[Obj | None], now: datetime) -> datetime:
    """Return when the claims of a session last made progress; those of others do not count.

    That is when one came into being, and when its status changed.
    """
    own = [claim for claim in claims if claim is not None and is_own(claim, session)]
    times = [text for one in own for text in (meta(one)["creationTimestamp"], one.get("changedAt"))]
    return max((began_at(session, now), *(parse_time(str(text)) for text in times if text)))


def asks_events(since: datetime, now: datetime, pending_s: float) -> bool:
    """Tell whether claims have gone without progress for long enough to ask their Events why."""
    return (now - since).total_seconds() >= pending_s


def follow(seen: ClaimRestoreObserved, claims: Sequence[Claim], now: datetime) -> Plan:
    """Return the plan of a restore whose Job the status knows."""
    session, died = seen.session, None
    conditions: list[Condition] = []
    built_from = annotations_of(seen.executor.job or {}).get(TARGET_HASH)
    if built_from is not None and built_from != target_hash(session):
        text = "spec.target was changed while the restore ran: create another RestoreSession"
        return overtaken(seen, f"{text}. Claims that were created stay", now)
    if job_ended(session):
        told = told_before(status(session).get("stats") or ())
    else:
        found = job_verdict(seen, now)
        match found:
            case Waiting() | Running():
                return plan_to_wait(
                    session,
                    RESTORE_SESSION,
                    Type.RESTORE_WAITING,
                    found,
                    pod=seen.executor.pod,
                    now=now,
                )
            case Ended(report):
                told = told_by(report)
                conditions = _late(seen, report)
            case Died():
                died = found
                told = told_by(died)
            case _:
                assert_never(found)
    hosts = hosts_of(claims, seen, told, now)
    if died is not None and any(host.error == told.missing for host in hosts):
        conditions = _disrupted(seen, died)
    return _judge(seen, hosts, now, conditions=conditions, died=died)


def overtaken(
    seen: ClaimRestoreObserved,
    error: str,
    now: datetime,
    *,
    conditions: Iterable[Condition] = (),
) -> Plan:
    """End a restore whose spec is no longer that of its Job, and the Job with it.

    What it made is not what the spec asks for. Which claims that is the status knows, if anything.
    """
    died = Died(Reason.INPUT_INVALID.value, error, end_job=not job_ended(seen.session))
    return end(seen, (), now, conditions=conditions, died=died, error=error)


def _judge(
    seen: ClaimRestoreObserved,
    hosts: Sequence[Host],
    now: datetime,
    *,
    conditions: list[Condition],
    died: Died | None,
) -> Plan:
    """End the restore when no claim can change any more, or when time is up."""
    since = since_of(seen.session, seen.storage.claims.values(), now)
    until, is_time_out = deadline(seen.session, seen.spec, seen.limits, since, now)
    lost_at = since + timedelta(seconds=LOST_SOURCE_S)
    if now >= until:
        hosts = _given_up(hosts, f"; {_limit(seen, is_time_out=is_time_out)}")
        if is_time_out and any(host.reason == Reason.CLAIM_NOT_BOUND for host in hosts):
            conditions = [*conditions, deadline_condition(seen)]
    elif now >= lost_at:
        hosts = [*(_given_up([host], "")[0] if host.certain else host for host in hosts)]
    waiting = [host for host in hosts if host.phase is Phase.RUNNING]
    if not waiting:
        return end(seen, hosts, now, conditions=conditions, died=died)
    looks = [until, since + _interval(seen, since, now)]
    if any(host.certain for host in waiting):
        looks.append(lost_at)
    look_s = max(0.1, (min(looks) - now).total_seconds())
    return _wait(seen, hosts, now, conditions=conditions, died=died, look_s=look_s)


def _given_up(hosts: Iterable[Host], why: str) -> list[Host]:
    return [
        replace(host, phase=Phase.FAILED, error=host.error + why)
        if host.phase is Phase.RUNNING
        else host
        for host in hosts
    ]


def _interval(seen: ClaimRestoreObserved, since: datetime, now: datetime) -> timedelta:
    """Return how long after the last progress to look again: later and later (D14)."""
    idle_s = (now - since).total_seconds()
    first_s = seen.limits.pending_s
    if idle_s < first_s:
        return timedelta(seconds=first_s)
    return timedelta(seconds=idle_s + min(LATEST_S, max(SOONEST_S, idle_s / 2)))


def _wait(
    seen: ClaimRestoreObserved,
    hosts: Sequence[Host],
    now: datetime,
    *,
    conditions: list[Condition],
    died: Died | None,
    look_s: float,
) -> Plan:
    """Say what is waited for: one write when the Job has ended, one for each distinct text."""
    session = seen.session
    said = [f"{host.name}: {host.said}" for host in hosts if host.said][:SAID]
    known = _waiting_message(session)
    text = f"Waiting until claims are bound. {'; '.join(said)}" if said else known
    text = (text or "Waiting until claims are bound.")[:MAX_MESSAGE]
    old = status(session)
    new = old
    if text != known:
        waits = Condition(Type.CLAIMS_WAITING, True, NOT_BOUND, text)
        entries = without(old.get("conditions") or (), Type.RESTORE_WAITING)
        new = {
            **old,
            "totalHosts": len(hosts),
            "stats": stats_of(hosts),
            "conditions": merged(entries, [*conditions, waits], now),
        }
    return Plan(
        writes=closing_writes(
            removals(seen.executor, (), died, NO_LOCK),
            status_writes(RESTORE_SESSION, session, new),
            seen.refusal,
        ),
        requeue_after_s=look_s,
        facts={"step": "waiting_for_claims", "waits_for": text},
    )


def _waiting_message(session: Obj) -> str | None:
    """Return what ClaimsWaiting says since the Job ended, None while it has not."""
    for entry in status(session).get("conditions") or ():
        if (entry.get("type"), entry.get("reason")) == (Type.CLAIMS_WAITING.value, NOT_BOUND):
            return str(entry.get("message") or "")
    return None


def _limit(seen: ClaimRestoreObserved, *, is_time_out: bool) -> str:
    if is_time_out:
        return f"spec.timeOut is {seen.spec.time_out}"
    return f"nothing has changed for {format_seconds(seen.limits.snapshot_s)}"


def deadline_condition(seen: ClaimRestoreObserved) -> Condition:
    """Return DeadlineExceeded of a session that has a `timeOut`."""
    seconds = parse_go_duration_s(seen.spec.time_out) or 0.0
    return deadline_exceeded(format_seconds(seconds), restore=True)


def _late(seen: ClaimRestoreObserved, report: RunReport) -> list[Condition]:
    late = any(host.reason == Reason.DEADLINE_EXCEEDED for host in report.hosts)
    return [deadline_condition(seen)] if late else []


def _disrupted(seen: ClaimRestoreObserved, died: Died) -> list[Condition]:
    disrupted = Condition(
        Type.RESTORE_DISRUPTED,
        True,
        "FailedToCompleteDueToDisruption",
        f"Failed to complete restore. Reason: {died.reason}: {died.message}. Claims that were "
        "created before are kept: see status.stats.",
    )
    return [disrupted, deadline_condition(seen)] if died.deadline else [disrupted]
