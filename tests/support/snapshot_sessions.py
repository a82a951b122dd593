"""Observed worlds of backups by VolumeSnapshots: a StatefulSet with three claims, all in order."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from controller.api.backup import BackupConfigurationSpec
from controller.api.creation import SESSION_NAME, SESSION_UID
from controller.api.model import parse_spec
from controller.api.names import hook_job_name, snapshot_job_name
from controller.api.objects import Key, Obj, Uid, finalizers_of, name_of, uid_of
from controller.api.report import HostReport, RunReport
from controller.api.report_encoding import encode
from controller.api.resources import ROLE_BINDING
from controller.build.hook import POST_HOOK
from controller.build.labels import BACKUP, own_labels
from controller.plan import CreateOnce, Finalizer, Plan, Ref, SetStatus
from controller.reconcile.observed import Executor, Limits
from controller.reconcile.owed_hook import hold, owed_annotations
from controller.reconcile.snapshot_observed import Reading, SnapshotSessionObserved
from tests.support.builders import (
    INSTALLATION,
    NAMESPACE,
    NOW,
    before,
    condition,
    configuration,
    configuration_spec,
    job,
    job_complete,
    pod,
    session,
    terminated,
)

CLAIMS = ("data-db-0", "data-db-1", "data-db-2")
PRE = {"exec": {"command": ["freeze"]}}
POST = {"exec": {"command": ["thaw"]}}
HOOK_ACCESS = Ref(ROLE_BINDING, NAMESPACE, "stash-hook-identity-nightly-1", Uid("uid-of-binding"))
NO_HOSTS = encode(RunReport(hosts=()), 4096)


def snapshot_spec(**changes: Any) -> dict[str, Any]:
    """Return the spec of a BackupConfiguration of the StatefulSet `db`."""
    ref = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db"}
    return configuration_spec(
        **{
            "driver": "VolumeSnapshotter",
            "task": None,
            "repository": None,
            "target": {"ref": ref},
            "retentionPolicy": {"name": "keep-last-2", "keepLast": 2, "prune": True},
            **changes,
        }
    )


def hooks(policy: str = "", *, pre: bool = True, post: bool = True) -> dict[str, Any]:
    """Return `spec.hooks`."""
    after = {**POST, **({"executionPolicy": policy} if policy else {})}
    return {**({"preBackup": PRE} if pre else {}), **({"postBackup": after} if post else {})}


def workload(*volumes: Obj, replicas: int = 3) -> dict[str, Any]:
    """Return the StatefulSet `db` with one claim for each replica."""
    template = {"metadata": {"name": "data"}, "spec": {}}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db", "namespace": NAMESPACE, "uid": "uid-of-db"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "db"}},
            "volumeClaimTemplates": [template],
            "template": {"spec": {"volumes": list(volumes)}},
        },
    }


def bound_claim(name: str, phase: str = "Bound", **metadata: Any) -> dict[str, Any]:
    """Return a claim."""
    return {
        "metadata": {"name": name, "namespace": NAMESPACE, **metadata},
        "spec": {},
        "status": {"phase": phase},
    }


def reading(**changes: Any) -> Reading:
    """Return the target and its claims, all of them there."""
    usual = Reading(workload(), {name: bound_claim(name) for name in CLAIMS})
    return replace(usual, **changes)


def volume_snapshot(
    claim: str,
    *,
    ready: bool = True,
    error: str = "",
    cut: bool = True,
    age_s: float = 30,
    took_s: float = 10,
    of: str = "uid-of-nightly-1",
    name: str = "",
    **metadata: Any,
) -> dict[str, Any]:
    """Return a VolumeSnapshot as the cache holds it."""
    status: dict[str, Any] = {"readyToUse": ready}
    if cut:
        status["creationTime"] = before(age_s - 1)
    if error:
        status["error"] = {"message": error}
    invoker = configuration(spec=snapshot_spec())
    name = name or f"{claim}-1700000000"
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": f"uid-of-{name}",
            "creationTimestamp": before(age_s),
            "labels": {
                **own_labels(BACKUP, "BackupConfiguration", invoker),
                SESSION_UID: of,
            },
            "annotations": {SESSION_NAME: "nightly-1"},
            **metadata,
        },
        "spec": {"source": {"persistentVolumeClaimName": claim}},
        "status": status,
        "changedAt": before(age_s - took_s),
    }


def all_ready() -> tuple[Obj, ...]:
    """Return the VolumeSnapshots of a session in which all went well."""
    return tuple(volume_snapshot(claim) for claim in CLAIMS)


ENSURED = condition("BackupExecutorEnsured", age_s=60, reason="SuccessfullyEnsuredBackupExecutor")


def hook_entry(kind: str, status: str = "True", *, reason: str = "", age_s: float = 30) -> Obj:
    """Return the condition of a hook; `kind` is Pre or Post."""
    usual = "HookStarted" if status == "Unknown" else "R"
    texts = {"False": "it broke", "Unknown": f"Executing {kind.lower()}Backup hook."}
    return condition(
        f"{kind}BackupHookExecutionSucceeded",
        status,
        reason=reason or usual,
        message=texts.get(status, ""),
        age_s=age_s,
    )


def begun(
    *entries: Obj,
    stats: tuple[Obj, ...] | None = None,
    name: str = "nightly-1",
    metadata: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
    age_s: float = 90,
    **status: Any,
) -> dict[str, Any]:
    """Return a session that has begun; `entries` are the conditions of its target."""
    ref = {"apiVersion": "apps/v1", "kind": "StatefulSet", "namespace": NAMESPACE, "name": "db"}
    waited = tuple({"hostname": claim} for claim in CLAIMS)
    target = {
        "ref": ref,
        "phase": "Running",
        "totalHosts": 3,
        "stats": list(waited if stats is None else stats),
        "conditions": list(entries or (ENSURED,)),
    }
    made = session(
        name,
        age_s=age_s,
        metadata=dict(metadata or {}),
        status={"phase": "Running", "targets": [target], **status},
    )
    made["spec"] = {**made["spec"], **(spec or {})}
    return made


def failed_entry(claim: str, error: str = "CreationRefused: no") -> dict[str, Any]:
    """Return an entry of `stats` that says that a claim failed."""
    return {"hostname": claim, "phase": "Failed", "error": error}


def creation_job(of: Obj, **fields: Any) -> dict[str, Any]:
    """Return the Job that creates the VolumeSnapshots of a session."""
    return _named(job(of, **fields), snapshot_job_name(name_of(of)))


def hook_of(of: Obj, when: str = "pre", **fields: Any) -> dict[str, Any]:
    """Return the Job of a hook."""
    return _named(job(of, **fields), hook_job_name(name_of(of), when))


def owing(of: Obj, carried: Any = None, *, policy: Any = "Always") -> dict[str, Any]:
    """Return a session that is held, with the postBackup Job that it owes."""
    owed = owed_annotations(of, post_job(of) if carried is None else carried, policy)
    assert not isinstance(owed, str)
    first, second = hold(of, owed, NOW)
    assert isinstance(first, SetStatus)
    assert isinstance(second, Finalizer)
    metadata = {
        **of["metadata"],
        "finalizers": [*dict.fromkeys([*finalizers_of(of), second.name])],
        "annotations": dict(second.annotations),
    }
    return {**of, "metadata": metadata, "status": first.status}


def post_job(of: Obj) -> dict[str, Any]:
    """Return a postBackup Job as its session has it with it."""
    made = hook_of(of, "post")
    return {key: value for key, value in made.items() if key != "status"}


def _named(made: dict[str, Any], name: str) -> dict[str, Any]:
    metadata = {**made["metadata"], "name": name, "uid": f"uid-of-{name}", "annotations": {}}
    return {**made, "metadata": metadata}


def ended_job(made: Obj, text: str = NO_HOSTS, *, code: int = 0, ago_s: float = 5) -> Executor:
    """Return a Job whose pod ended, with its report."""
    phase = "Failed" if code else "Succeeded"
    done = {**made, "status": {"conditions": [] if code else job_complete()}}
    return Executor(done, pod(terminated(code, text, ago_s=ago_s), phase=phase, of=made))


def refused(*hosts: HostReport) -> str:
    """Return the report of a Job that could not create some objects."""
    return encode(RunReport(hosts=hosts), 4096)


def hook_report(error: str = "") -> str:
    """Return the report of a hook."""
    host = HostReport("db", succeeded=not error, reason="HookFailed" if error else "", error=error)
    return encode(RunReport(hosts=(host,)), 4096)


def observed(raw: Obj | None = None, **fields: Any) -> SnapshotSessionObserved:
    """Return the input of `snapshot_session.plan`; by default the session can start.

    What lets hooks run commands is there for one that is held.
    """
    raw = raw or session(age_s=0)
    access = (HOOK_ACCESS,) if POST_HOOK in finalizers_of(raw) else ()
    spec = fields.pop("spec", None) or snapshot_spec()
    invoker = fields.pop("configuration", configuration(spec=spec))
    parsed = parse_spec(BackupConfigurationSpec, invoker) if invoker is not None else None
    return SnapshotSessionObserved(
        raw,
        invoker,
        None if isinstance(parsed, tuple) else parsed,
        fields.pop("executor", Executor()),
        INSTALLATION,
        fields.pop("limits", Limits()),
        **{"reading": reading(), "access": access, **fields},
    )


def created(plan: Plan) -> list[str]:
    """Return the names of what a plan creates."""
    return [name_of(write.body) for write in plan.writes if isinstance(write, CreateOnce)]


def status_in(plan: Plan) -> dict[str, Any]:
    """Return the status that a plan writes."""
    (write,) = (write for write in plan.writes if isinstance(write, SetStatus))
    return dict(write.status)


def target_in(plan: Plan) -> dict[str, Any]:
    """Return the one target in the status that a plan writes."""
    (target,) = status_in(plan)["targets"]
    return dict(target)


def conditions_in(entries: Any) -> dict[str, tuple[str, str, str]]:
    """Return status, reason and message by type."""
    return {c["type"]: (c["status"], c["reason"], c["message"]) for c in entries or ()}


KEY = Key(NAMESPACE, "nightly-1")
UID = uid_of(session())
