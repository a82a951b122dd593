"""BackupConfiguration: its conditions and phase, and the CronJob that triggers its sessions."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from controller.api.backup import (
    SNAPSHOTTER,
    BackupConfigurationSpec,
    backup_configuration_problems,
)
from controller.api.conditions import (
    MAX_MESSAGE,
    Condition,
    InvokerPhase,
    Type,
    merged,
    outcome,
    status_of,
    validation,
    without,
)
from controller.api.model import Problem
from controller.api.names import trigger_name
from controller.api.objects import (
    Key,
    Obj,
    annotations_of,
    controller_uid,
    dig,
    finalizers_of,
    generation_of,
    is_deleting,
    name_of,
    namespace_of,
    status,
    uid_of,
)
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    CRON_JOB,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    Resource,
)
from controller.build.cronjob import trigger_cron_job, trigger_digest
from controller.build.identity import snapshot_identity, snapshot_rbac
from controller.build.labels import SPEC_HASH
from controller.build.rbac import trigger_rbac
from controller.plan import Apply, Delete, Finalizer, Note, Plan, Ref, SetStatus, Write
from controller.reconcile.observed import ConfigurationObserved
from controller.reconcile.references import (
    repository_condition,
    repository_spec_problems,
    retry_in_s,
    secret_condition,
    target_condition,
    target_text,
    task_problems,
)
from controller.reconcile.snapshot_target import served_condition, snapshot_target_conditions

STASH_FINALIZER = "stash.appscode.com"
"""What Stash leaves on objects; with Stash gone nobody but us takes it off."""

WAITED_FOR = (
    Type.REPOSITORY_FOUND,
    Type.BACKEND_SECRET_FOUND,
    Type.VALIDATION_PASSED,
    Type.SNAPSHOTS_SERVED,
    Type.BACKUP_TARGET_FOUND,
    Type.CRON_JOB_CREATED,
)
_OURS = {*WAITED_FOR, Type.VOLUMES_LEFT_OUT}
"""All that we ever say here: what does not apply any more, of another driver too, is taken back."""
_EVENT_REASONS = {"CronJobCreationFailed": "CronJob Creation Failed"}
"""Where Stash's Event has another reason than its condition (stash.md 9.1)."""
_CHILDREN: tuple[Resource, ...] = (SERVICE_ACCOUNT, ROLE_BINDING, CRON_JOB)


def plan(seen: ConfigurationObserved, now: datetime) -> Plan:
    """Return what a BackupConfiguration needs now."""
    configuration = seen.configuration
    if is_deleting(configuration):
        return _release(configuration)
    spec = seen.spec
    if isinstance(spec, tuple):
        return _stop(seen, spec, now)
    problems = backup_configuration_problems(spec, namespace=namespace_of(configuration))
    if problems:
        return _stop(seen, problems, now)
    of_driver = _snapshot_conditions if spec.driver == SNAPSHOTTER else _reference_conditions
    conditions = of_driver(seen, spec)
    created, writes = _trigger(seen, spec)
    if all(condition.status is True for condition in conditions):
        return _finish(seen, [*conditions, created], writes, now)
    if not _is_triggered(seen):
        return _finish(seen, conditions, (), now)
    # What is missing may come back: the schedule stays, and `paused` has its effect meanwhile.
    failed = [created] if created.status is not True else []
    return _finish(seen, [*conditions, *failed], writes, now)


def _release(configuration: Obj) -> Plan:
    """Children go by garbage collection; only a finalizer of Stash's could hold the object."""
    if STASH_FINALIZER not in finalizers_of(configuration):
        return Plan()
    ref = Ref.to(BACKUP_CONFIGURATION, configuration)
    return Plan(writes=(Finalizer(ref, STASH_FINALIZER, present=False),))


def _stop(seen: ConfigurationObserved, problems: tuple[Problem, ...], now: datetime) -> Plan:
    """Say what is wrong with the spec; what it had before must not go on either.

    Only a wrong spec stops the schedule. What is wrong with another object is mended there, and
    the CronJob goes on as if nothing had been: its sessions are skipped meanwhile.
    """
    conditions = [validation(problems)]
    if not _is_triggered(seen):
        return _finish(seen, conditions, (), now)
    ref = Ref.by_uid(CRON_JOB, seen.children[_cron_job(seen)])
    if seen.refusal is not None and seen.refusal.write == Delete(ref):
        conditions.append(
            Condition(
                Type.CRON_JOB_CREATED,
                False,
                "CronJobDeletionFailed",
                f"Failed to delete CronJob {ref.name} of a wrong spec: its sessions are skipped. "
                f"Reason: {seen.refusal.message}",
            )
        )
        return _finish(seen, conditions, (), now)
    return _finish(seen, conditions, (Delete(ref),), now)


def _is_triggered(seen: ConfigurationObserved) -> bool:
    """Tell whether there is a CronJob of this configuration."""
    return _is_own(seen, seen.children.get(_cron_job(seen)))


def _cron_job(seen: ConfigurationObserved) -> tuple[str, str]:
    return CRON_JOB.kind, trigger_name(name_of(seen.configuration))


def _is_own(seen: ConfigurationObserved, child: Obj | None) -> bool:
    return child is not None and controller_uid(child) == uid_of(seen.configuration)


def _reference_conditions(
    seen: ConfigurationObserved, spec: BackupConfigurationSpec
) -> list[Condition]:
    namespace = namespace_of(seen.configuration)
    conditions: list[Condition] = []
    problems: tuple[Problem, ...] = ()
    if spec.repository is not None:
        key = Key(namespace, spec.repository.name)
        conditions.append(repository_condition(seen.references, key))
        if seen.references.repository is not None:
            problems += repository_spec_problems(seen.references.repository)
        secret = secret_condition(seen.references)
        if secret is not None:
            conditions.append(secret)
        problems += task_problems(seen.references, spec.task.name)
    conditions.append(validation(problems))
    if spec.target is not None:
        target = target_text(spec.target.ref, namespace)
        conditions.append(target_condition(Type.BACKUP_TARGET_FOUND, seen.references, target))
    return conditions


def _snapshot_conditions(
    seen: ConfigurationObserved, spec: BackupConfigurationSpec
) -> list[Condition]:
    conditions = [validation(()), served_condition(served=seen.snapshots_served)]
    if spec.target is not None:
        namespace, claims = namespace_of(seen.configuration), seen.claims_found or {}
        conditions += snapshot_target_conditions(spec.target, namespace, seen.target, claims)
    return conditions


def _trigger(
    seen: ConfigurationObserved, spec: BackupConfigurationSpec
) -> tuple[Condition, tuple[Write, ...]]:
    """Return CronJobCreated, and the writes that make it true.

    The Jobs of its sessions get their rights here: a session adds no request for them.
    """
    if seen.refusal is not None and not isinstance(seen.refusal.write, Delete):
        failure = (
            f"{seen.refusal.message} (spec.schedule is {spec.schedule!r})"
            if _is_cron_job(seen.refusal.write)
            else seen.refusal.message
        )
        return outcome(Type.CRON_JOB_CREATED, failure=failure), ()
    wanted = (
        *trigger_rbac(seen.configuration, spec),
        *(snapshot_rbac(seen.configuration, spec) if spec.driver == SNAPSHOTTER else ()),
        trigger_cron_job(seen.configuration, spec, seen.installation),
    )
    writes = tuple(
        Apply(resource, body)
        for body in wanted
        for resource in _CHILDREN
        if resource.kind == body["kind"] and not _is_current(seen, body)
    )
    return outcome(Type.CRON_JOB_CREATED, failure=None), (*writes, *_leftovers(seen, spec))


def _leftovers(seen: ConfigurationObserved, spec: BackupConfigurationSpec) -> tuple[Write, ...]:
    """Take away the right to create VolumeSnapshots when the driver is another by now.

    That it cannot be taken away stops no backup.
    """
    binding = seen.children.get((ROLE_BINDING.kind, snapshot_identity(seen.configuration)))
    if spec.driver == SNAPSHOTTER or seen.refusal is not None or binding is None:
        return ()
    return (Delete(Ref.by_uid(ROLE_BINDING, binding)),) if _is_own(seen, binding) else ()


def _is_cron_job(write: Write) -> bool:
    return isinstance(write, Apply) and write.resource == CRON_JOB


def _is_current(seen: ConfigurationObserved, body: Obj) -> bool:
    child = seen.children.get((body["kind"], name_of(body)))
    return (
        child is not None
        and _is_own(seen, child)
        and annotations_of(child).get(SPEC_HASH) == annotations_of(body).get(SPEC_HASH)
        # The hash is that of our intent: it stays when somebody changes the object by hand.
        and (body["kind"] != CRON_JOB.kind or dig(child, "spec", "digest") == trigger_digest(body))
    )


def _finish(
    seen: ConfigurationObserved,
    conditions: list[Condition],
    writes: tuple[Write, ...],
    now: datetime,
) -> Plan:
    """Add the status, when it changed, and the time of the next look."""
    configuration = seen.configuration
    old = status(configuration)
    known = {condition.type for condition in conditions}
    kept = without(old.get("conditions") or (), *(_OURS - known))
    entries = merged(kept, conditions, now)
    phase = _phase(entries)
    new: dict[str, Any] = {
        **old,
        "observedGeneration": generation_of(configuration),
        "phase": phase.value,
        "conditions": entries,
    }
    ref = Ref.to(BACKUP_CONFIGURATION, configuration)
    notes: tuple[Note, ...] = ()
    if new != old:
        writes = (*writes, SetStatus(ref, new))
        notes = _notes(ref, old.get("conditions") or [], conditions)
    ready = phase is InvokerPhase.READY
    wait_s = None if ready else retry_in_s(entries, WAITED_FOR, now)
    facts = {"phase": phase.value}
    if not ready:
        said = next((c.message for c in conditions if c.status is not True), "")
        facts["waits_for"] = said[:MAX_MESSAGE]
    return Plan(writes=writes, notes=notes, requeue_after_s=wait_s, facts=facts)


def _phase(entries: list[Obj]) -> InvokerPhase:
    """Return the phase as stash.md 1.3 derives it; what is missing comes before what is wrong."""
    for kind in (Type.REPOSITORY_FOUND, Type.BACKEND_SECRET_FOUND):
        if status_of(entries, kind) in ("False", "Unknown"):
            return InvokerPhase.NOT_READY
    if status_of(entries, Type.VALIDATION_PASSED) == "False":
        return InvokerPhase.INVALID
    created = status_of(entries, Type.CRON_JOB_CREATED) == "True"
    return InvokerPhase.READY if created else InvokerPhase.NOT_READY


def _notes(ref: Ref, old: Iterable[Obj], conditions: list[Condition]) -> tuple[Note, ...]:
    """Return one Warning per condition that turned bad."""
    return tuple(
        Note(
            ref,
            "Warning",
            _EVENT_REASONS.get(condition.reason, condition.reason),
            condition.message,
            "BackupConfiguration Controller",
        )
        for condition in conditions
        if condition.status is not True and status_of(old, condition.type) != condition.status_text
    )
