"""How a session with VolumeSnapshots begins: it is skipped, fails, or gets its first Job."""

from datetime import datetime
from typing import Any, assert_never

from controller.api.backup import BackupConfigurationSpec
from controller.api.conditions import Condition, Phase, Type, merged
from controller.api.names import snapshot_job_name
from controller.api.objects import Obj, dig, key_of, name_of, namespace_of
from controller.api.report import Reason
from controller.api.resources import BACKUP_CONFIGURATION, BACKUP_SESSION, JOB
from controller.build.creation import CreationOrder, creation_job, snapshot_input
from controller.build.identity import snapshot_account
from controller.plan import CreateOnce, Plan, Write
from controller.reconcile.backup_start import Impossible, Skip, Wait, hindrance
from controller.reconcile.hook_execution import PRE_BACKUP, started
from controller.reconcile.hook_rivals import rival_of
from controller.reconcile.owed_hook import hold, is_owed
from controller.reconcile.quiescence import quiesced_until
from controller.reconcile.session_status import (
    Outcome,
    deadline_of,
    job_created,
    status_writes,
    waiting_status,
)
from controller.reconcile.snapshot_end import end
from controller.reconcile.snapshot_hooks import owed_by, pre_hook_writes
from controller.reconcile.snapshot_observed import SnapshotSessionObserved
from controller.reconcile.snapshot_sources import Sources, sources_of
from controller.reconcile.snapshot_status import (
    entry_of,
    executor_ensured,
    outcome_of,
    running_status,
    target_conditions,
    target_ref,
)
from controller.reconcile.snapshot_wait import Host

WAIT_S = 60.0
"""What a session waits for is an event of a watch; this is only how long to go without one."""


def begin(seen: SnapshotSessionObserved, now: datetime) -> Plan:
    """Return what becomes of a session of which nothing was done yet."""
    hindered = hindrance(seen)
    match hindered:
        case Wait():
            return Plan(requeue_after_s=WAIT_S)
        case Skip(message) if is_owed(seen.session):
            return record_lost(seen, now, message)
        case Skip(message):
            skipped = Condition(Type.BACKUP_SKIPPED, True, "SkippedTakingNewBackup", message)
            return end(seen, Outcome(Phase.SKIPPED, message), now, target={}, conditions=[skipped])
        case Impossible(message):
            return _fail_to_start(seen, message, now)
        case None:
            rival = rival_of(seen)
            return _first_job(seen, now) if rival is None else _wait(seen, rival, now)
        case _:
            assert_never(hindered)


def _first_job(seen: SnapshotSessionObserved, now: datetime) -> Plan:
    configuration, spec = seen.configuration, seen.spec
    if configuration is None or spec is None or seen.reading is None:
        return _fail_to_start(seen, "its BackupConfiguration does not exist", now)
    sources = sources_of(spec, seen.reading, namespace_of(seen.session))
    if isinstance(sources, str):
        return _fail_to_start(seen, sources, now)
    if not sources.claims:
        return _fail_to_start(seen, "none of its claims can be snapshotted", now, sources)
    if (rival := rival_of(seen, sources.claims)) is not None:
        return _wait(seen, rival, now)
    return _start(seen, configuration, spec, sources, now)


def _start(
    seen: SnapshotSessionObserved,
    configuration: Obj,
    spec: BackupConfigurationSpec,
    sources: Sources,
    now: datetime,
) -> Plan:
    if spec.hooks is not None and spec.hooks.pre_backup is not None:
        return _start_pre_hook(seen, configuration, spec, sources, now)
    writes = creation_writes(seen, sources)
    if isinstance(writes, str):
        return _fail_to_start(seen, writes, now, sources)
    new = started_status(seen, sources, executor_ensured(None), now)
    return started_plan(seen, writes, new)


def _wait(seen: SnapshotSessionObserved, rival: Obj, now: datetime) -> Plan:
    """Let another session do first what its hooks are for; the end of that wakes this one.

    One that is held goes on waiting after `timeOut`: to end, its postBackup hook would have to run.
    """
    name, invoker = key_of(rival), dig(rival, "spec", "invoker", "name")
    deadline = deadline_of(seen.session, seen.spec.time_out if seen.spec else "")
    left_s = (deadline - now).total_seconds() if deadline is not None else WAIT_S
    if left_s <= 0 and not is_owed(seen.session):
        late = (
            f"timeOut has passed while it waited for BackupSession {name} of BackupConfiguration "
            f"{invoker}, whose hooks act on the same application: give the two schedules that are "
            "further apart, or raise spec.timeOut"
        )
        return _fail_to_start(seen, late, now)
    text = (
        f"Waiting for BackupSession {name} of BackupConfiguration {invoker}: its hooks act on the "
        "same application, which one session at a time may quiesce."
    )
    new = waiting_status(seen.session, "ApplicationInUse", text, now)
    return Plan(
        writes=status_writes(BACKUP_SESSION, seen.session, new),
        requeue_after_s=min(left_s, WAIT_S) if left_s > 0 else WAIT_S,
        facts={"step": "waiting", "words": text},
    )


def _fail_to_start(
    seen: SnapshotSessionObserved, problem: str, now: datetime, sources: Sources | None = None
) -> Plan:
    """End a session of which nothing was done, as far as can be known."""
    if is_owed(seen.session) and seen.refusal is None:
        return record_lost(seen, now, problem)
    hosts = sources.failed if sources is not None else ()
    hosts += tuple(
        Host(claim).failed(Reason.NOT_CREATED.value, problem)
        for claim in (sources.claims if sources else ())
    )
    error = problem
    if sources is not None and not sources.claims:
        error = f"{problem}. {outcome_of(hosts).error}"
    target: dict[str, Any] = {
        "ref": target_ref(seen),
        "phase": Phase.FAILED.value,
        "conditions": merged((), [executor_ensured(error)], now),
    }
    if sources is not None:
        target |= {"totalHosts": len(hosts), "stats": [entry_of(host) for host in hosts]}
    conditions = sources.conditions if sources is not None else ()
    result = Outcome(Phase.FAILED, error)
    return end(seen, result, now, target=target, hosts=hosts, conditions=conditions)


def _start_pre_hook(
    seen: SnapshotSessionObserved,
    configuration: Obj,
    spec: BackupConfigurationSpec,
    sources: Sources,
    now: datetime,
) -> Plan:
    """Create the preBackup Job; before it, see to it that the postBackup hook will run."""
    # Built now: a problem with it must be known before anything is quiesced.
    owed = owed_by(seen, configuration, spec)
    if isinstance(owed, str):
        return _fail_to_start(seen, owed, now, sources)
    if owed and (held := hold(seen.session, owed, now)):
        return Plan(writes=held, facts={"step": "held"})
    writes = pre_hook_writes(seen, configuration, spec)
    if isinstance(writes, str):
        return _fail_to_start(seen, writes, now, sources)
    return started_plan(seen, writes, started_status(seen, sources, started(PRE_BACKUP), now))


def creation_writes(seen: SnapshotSessionObserved, sources: Sources) -> tuple[Write, ...] | str:
    """Return what creates the Job of the VolumeSnapshots, or why it cannot be built."""
    configuration, spec = seen.configuration, seen.spec
    if configuration is None or spec is None:
        return "its BackupConfiguration does not exist"
    document = snapshot_input(
        seen.session,
        configuration,
        spec,
        sources.claims,
        quiesced_until=quiesced_until(seen),
    )
    order = CreationOrder(
        session=seen.session,
        session_resource=BACKUP_SESSION,
        invoker=configuration,
        invoker_resource=BACKUP_CONFIGURATION,
        runtime_settings=spec.runtime_settings,
        installation=seen.installation,
        document=document,
        job_name=snapshot_job_name(name_of(seen.session)),
        service_account=snapshot_account(configuration, spec),
        time_out=spec.time_out,
    )
    job = creation_job(order)
    if isinstance(job, tuple):
        return "; ".join(str(problem) for problem in job)
    return (CreateOnce(JOB, job),)


def started_plan(seen: SnapshotSessionObserved, writes: tuple[Write, ...], new: Obj) -> Plan:
    """Create a Job, then record that it was created: a crash in between creates nothing twice."""
    job = next(w.body for w in writes if isinstance(w, CreateOnce) and w.resource == JOB)
    facts = job_created(seen.session, job)
    facts["claims"] = dig(new, "targets", 0, "totalHosts")
    return Plan(writes=(*writes, *status_writes(BACKUP_SESSION, seen.session, new)), facts=facts)


def record(seen: SnapshotSessionObserved, now: datetime) -> Plan:
    """Write down a Job that a crash hid: it is there, and nothing else is left to decide.

    Of a target that cannot be read no claims are written down, so that none can be forgotten: the
    preBackup hook is followed by another look.
    """
    sources = None
    if seen.spec is not None and seen.reading is not None:
        found = sources_of(seen.spec, seen.reading, namespace_of(seen.session))
        sources = None if isinstance(found, str) else found
        if seen.reading.told is not None:
            sources = (sources or Sources(())).as_told(seen.reading.told)
    job = seen.executor.job or seen.pre.job or {}
    is_executor = seen.executor.job is not None
    condition = executor_ensured(None) if is_executor else started(PRE_BACKUP)
    new = started_status(seen, sources or Sources(()), condition, now)
    return Plan(
        writes=status_writes(BACKUP_SESSION, seen.session, new),
        facts={"step": "job_found", "job": name_of(job)},
    )


def record_lost(seen: SnapshotSessionObserved, now: datetime, problem: str = "") -> Plan:
    """Write down that the preBackup hook may have run: there is no Job of it, or none any more.

    The status does not say that it was created, but a crash may have kept it from that. Its pod may
    live longer than the Job, and is looked for like that of any other. `problem` is why the session
    goes no further.
    """
    new = started_status(seen, Sources(()), started(PRE_BACKUP), now)
    if problem:
        (target,) = new["targets"]
        failed = [executor_ensured(problem)]
        new["targets"] = [{**target, "conditions": merged(target["conditions"], failed, now)}]
    facts = {"step": "pre_hook_unknown", **({"error": problem} if problem else {})}
    return Plan(writes=status_writes(BACKUP_SESSION, seen.session, new), facts=facts)


def started_status(
    seen: SnapshotSessionObserved, sources: Sources, condition: Condition, now: datetime
) -> dict[str, Any]:
    """Return the status of a session one of whose Jobs was just created."""
    new = running_status(seen)
    if sources.conditions:
        new["conditions"] = merged(new.get("conditions") or (), sources.conditions, now)
    entries = sources.entries
    target: dict[str, Any] = {
        **(dig(new, "targets", 0) or {}),
        "ref": target_ref(seen) or dig(new, "targets", 0, "ref") or {},
        "phase": Phase.RUNNING.value,
        "totalHosts": len(entries),
        "stats": entries,
        "conditions": merged(target_conditions(seen.session), [condition], now),
    }
    return {**new, "targets": [target]}
