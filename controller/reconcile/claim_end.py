"""The last writes of a restore from VolumeSnapshots, and what is told of it on the side."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from controller.api.conditions import Condition, Phase, Type
from controller.api.job_input import Invoker, Target
from controller.api.metrics import SNAPSHOTTER, Subject, session_samples
from controller.api.objects import Obj, meta, name_of, namespace_of, status
from controller.api.report import MAX_TEXT
from controller.api.resources import RESTORE_SESSION
from controller.api.text import parse_time
from controller.build.claims import Claim
from controller.build.input import metrics_group
from controller.plan import Note, Plan, Push, Ref
from controller.reconcile.claim_checks import WAITS_FOR_CONSUMER
from controller.reconcile.claim_observed import ClaimRestoreObserved
from controller.reconcile.claim_outcome import Host, reports_of, stats_of
from controller.reconcile.closing import closing_writes, removals
from controller.reconcile.restore_status import UPDATER, final_status
from controller.reconcile.session_status import Outcome, status_writes
from controller.reconcile.verdicts import Died

NO_LOCK = "nothing was locked"
SHOWN = 5
"""So many claims are named in one text."""


def end(
    seen: ClaimRestoreObserved,
    hosts: Sequence[Host],
    now: datetime,
    *,
    conditions: Iterable[Condition] = (),
    died: Died | None = None,
    error: str = "",
) -> Plan:
    """Return the plan that ends a restore.

    `error` is what it failed of as a whole. Without `hosts` the status keeps what it says of them,
    but of those that were waited for.
    """
    session = seen.session
    result = _outcome(hosts, error)
    handed_over = Condition(
        Type.METRICS_PUSHED,
        True,
        "MetricsHandedOver",
        "Metrics are served by the operator and handed over to the Pushgateway.",
    )
    new = final_status(
        session,
        result,
        [*conditions, *_unverified(hosts), handed_over],
        {"totalHosts": len(hosts), "stats": stats_of(hosts)} if hosts else _left(session, result),
        now,
    )
    story: dict[str, Any] = {
        "step": "finished",
        "phase": result.phase.value,
        "claims": len(hosts),
        "bound": sum(host.phase is Phase.SUCCEEDED for host in hosts),
    }
    if result.error:
        story["error"] = result.error
    return Plan(
        writes=closing_writes(
            removals(seen.executor, seen.access, died, NO_LOCK),
            status_writes(RESTORE_SESSION, session, new),
            seen.refusal,
        ),
        notes=(_note(seen, hosts, result),),
        pushes=_pushes(seen, hosts, result, now),
        facts=story,
    )


def _left(session: Obj, result: Outcome) -> dict[str, Any]:
    entries = status(session).get("stats") or ()
    if not entries:
        return {}
    failed = {"phase": Phase.FAILED.value, "error": result.error}
    return {
        "stats": [
            {**entry, **failed} if entry.get("phase") == Phase.RUNNING else entry
            for entry in entries
        ]
    }


def claims_text(claims: Sequence[Claim], namespace: str) -> str:
    """Return what is restored, in the form that Stash's messages have: `<Kind> <ns>/<name>`."""
    return f"PersistentVolumeClaim {namespace}/{_listed([claim.name for claim in claims])}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _outcome(hosts: Sequence[Host], error: str) -> Outcome:
    """Return Unknown when any claim is, else Failed when any is (stash.md 1.5, 4.5)."""
    if error:
        return Outcome(Phase.FAILED, error[:MAX_TEXT])
    for phase in (Phase.UNKNOWN, Phase.FAILED):
        of_phase = [host.text for host in hosts if host.phase is phase]
        if of_phase:
            more = f" (and {len(of_phase) - 1} more)" if len(of_phase) > 1 else ""
            return Outcome(phase, of_phase[0][: MAX_TEXT - len(more)] + more)
    return Outcome(Phase.SUCCEEDED)


def _unverified(hosts: Sequence[Host]) -> list[Condition]:
    names = [host.name for host in hosts if host.phase is Phase.UNKNOWN]
    if not names:
        return []
    text = (
        f"Not bound, because volumeBindingMode is WaitForFirstConsumer: {_listed(names)}. Each is "
        "restored when a pod uses it. Its VolumeSnapshot is ready, of the CSI driver of its "
        "StorageClass, and not larger: no reason is known why it would be refused."
    )
    return [Condition(Type.CLAIMS_UNVERIFIED, True, WAITS_FOR_CONSUMER, text)]


def _note(seen: ClaimRestoreObserved, hosts: Sequence[Host], result: Outcome) -> Note:
    """Return the one Event of a session (stash.md 9.1)."""
    ref = Ref.to(RESTORE_SESSION, seen.session)
    names = [host.name for host in hosts if host.phase is result.phase]
    of = f"{len(names)} of {len(hosts)} claims ({_listed(names)})" if hosts else "all claims"
    match result.phase:
        case Phase.SUCCEEDED:
            text = f"restore succeeded for {of}."
            return Note(ref, "Normal", "Host Restore Succeeded", text, UPDATER)
        case Phase.UNKNOWN:
            text = f"restore is not proven for {of}. Reason: {result.error}"
            return Note(ref, "Warning", "Host Restore Unknown", text, UPDATER)
        case _:
            text = f"restore failed for {of}. Reason: {result.error}"
            return Note(ref, "Warning", "Host Restore Failed", text, UPDATER)


def _pushes(
    seen: ClaimRestoreObserved, hosts: Sequence[Host], result: Outcome, now: datetime
) -> tuple[Push, ...]:
    session = seen.session
    kind, namespace, name = RESTORE_SESSION.kind, namespace_of(session), name_of(session)
    subject = Subject(
        Invoker(kind, namespace, name),
        Target("", "", "", ""),
        "",
        is_restore=True,
        driver=SNAPSHOTTER,
    )
    created = parse_time(meta(session)["creationTimestamp"])
    samples = session_samples(
        subject,
        reports_of(hosts),
        duration_s=(now - created).total_seconds(),
        ended_s=now.timestamp(),
        succeeded=result.phase is Phase.SUCCEEDED,
    )
    return (Push(metrics_group(kind, namespace, name), tuple(samples)),)
