"""A toy cluster with a StatefulSet of three claims: its runner, its driver, its frozen application.

Real: planners, observers, routes, stores, executor. What must never happen with hooks and
VolumeSnapshots is written down in `violations` at the moment when it does.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from controller.api.conditions import FINAL_PHASES
from controller.api.creation import SESSION_UID, CreationInput
from controller.api.job_input import ENVIRONMENT_VARIABLE
from controller.api.objects import (
    Key,
    Obj,
    controller_uid,
    dig,
    finalizers_of,
    is_deleting,
    key_of,
    labels_of,
    meta,
    name_of,
    status,
    uid_of,
)
from controller.api.report import HostReport
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    BACKUP_SESSION,
    JOB,
    POD,
    PVC,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    VOLUME_SNAPSHOT,
    Resource,
)
from controller.api.text import format_time, parse_time
from controller.kube.errors import Forbidden
from controller.reconcile.snapshot_hooks import MOST_REFUSED_S, MOST_TRIES
from controller.reconcile.snapshot_wait import claim_of
from tests.support.builders import DISRUPTED, NAMESPACE, configuration, session
from tests.support.snapshot_sessions import (
    CLAIMS,
    bound_claim,
    hook_report,
    hooks,
    refused,
    snapshot_spec,
    workload,
)
from tests.support.toy_cluster import ToyCluster, ToyServer, is_finished

FOREGROUND = "foregroundDeletion"
NEIGHBOUR = "hourly"
"""The name of the other configuration."""
RETRIES = 3
REPORTED = 1


def kind_of(job: str) -> str:
    """Return `pre`, `post` or `vs` of the name of a Job of ours."""
    parts = job.split("-")
    return parts[2] if parts[1] == "hook" else parts[1]


class SnapshotServer(ToyServer):
    """The API server; knows what came before a Job of a session."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[tuple[str, str], int] = {}
        """How many Jobs were made, by session and kind."""
        self.deleted: dict[tuple[str, str], int] = {}
        """How many of them somebody deleted by hand."""
        self.frozen: set[str] = set()
        """Sessions whose application may be frozen: a pod of the preBackup Job was started, and no
        postBackup hook has ended well since."""
        self.excused: set[str] = set()
        """Sessions whose postBackup hook did what it could: it said itself that it failed."""
        self.pre_succeeded: set[str] = set()
        self.was_ready: set[tuple[str, str]] = set()
        """Session and claim of each VolumeSnapshot that was ever ready."""
        self.refused: dict[str, datetime] = {}
        """Sessions whose postBackup Job a quota refused, and since when."""

    def create(self, resource: Any, namespace: str, body: Obj, **options: Any) -> Obj:
        """Create an object; a quota concerns the Jobs."""
        if resource == JOB and self.quota_full:
            if kind_of(name_of(body)) == "post":
                owner = str(controller_uid(body))
                since = self.refused.setdefault(owner, self.now)
                if (self.now - since).total_seconds() >= MOST_REFUSED_S:
                    self.excused.add(owner)
            raise Forbidden("exceeded quota: count/jobs.batch", code=403)
        return super().create(resource, namespace, body, **options)

    def check_job(self, body: Obj) -> None:
        """Write down Jobs that come twice, or in the wrong order."""
        owner, kind = str(controller_uid(body)), kind_of(name_of(body))
        count = self.made.get((owner, kind), 0) + 1
        self.made[owner, kind] = count
        # Of what was deleted before any status spoke of it nothing is left.
        most = MOST_TRIES if kind == "post" else 1
        if count > most + self.deleted.get((owner, kind), 0):
            self.violations.append(f"{name_of(body)} for the {count}. time")
        if kind == "post" and count >= MOST_TRIES:
            self.excused.add(owner)
        if kind == "pre" and self._is_in_use(owner):
            self.violations.append(f"{name_of(body)} while another session quiesces")
        if kind == "pre" and (owner, "vs") in self.made:
            self.violations.append(f"{name_of(body)} after the VolumeSnapshots")
        if kind == "vs" and (owner, "pre") in self.made and owner not in self.pre_succeeded:
            self.violations.append(f"{name_of(body)} although nothing is frozen")
        if kind == "vs" and (owner, "post") in self.made:
            self.violations.append(f"{name_of(body)} after the application went on")
        if kind == "post" and (owner, "pre") in self.made and self._is_freezing(owner):
            self.violations.append(f"{name_of(body)} beside a preBackup hook that may run")

    def _is_in_use(self, owner: str) -> bool:
        """Tell whether another session that goes on has frozen the application, or is about to."""
        others = {
            str(uid_of(other))
            for other in self.all(BACKUP_SESSION)
            if status(other).get("phase") not in FINAL_PHASES
        } - {owner}
        begun = {one for one in others if (one, "pre") in self.made}
        thawed = {one for one in others if (one, "post") in self.made}
        return bool((begun - thawed) | (others & self.frozen - self.excused))

    def _is_freezing(self, owner: str) -> bool:
        jobs = [j for j in self.all(JOB) if controller_uid(j) == owner]
        freezing = {uid_of(job) for job in jobs if kind_of(name_of(job)) == "pre"}
        # One on a dead node is given up at last: nobody says what became of it.
        return any(
            status(pod)["phase"] == "Running" and controller_uid(pod) in freezing
            for pod in self.all(POD)
            if not is_deleting(pod)
        )

    def check_phase(self, old: Obj, new: Obj) -> None:
        """Write down a success that nothing proves."""
        super().check_phase(old, new)
        if new.get("phase") != "Succeeded":
            return
        missing = [c for c in CLAIMS if (str(uid_of(old)), c) not in self.was_ready]
        if missing:
            self.violations.append(f"{name_of(old)} succeeded without {missing}")


class SnapshotCluster(ToyCluster):
    """The cluster; with or without both hooks, and another configuration of the same target."""

    server: SnapshotServer

    def __init__(
        self,
        *,
        with_hooks: bool,
        time_out: str = "",
        replicas: int = 3,
        with_neighbour: bool = False,
    ) -> None:
        self.lost: dict[str, int] = {}
        changes: dict[str, Any] = {"hooks": hooks()} if with_hooks else {}
        if time_out:
            changes["timeOut"] = time_out
        self.spec = snapshot_spec(backupHistoryLimit=20, **changes)
        super().__init__(
            (STATEFUL_SET, workload(replicas=replicas)),
            *((PVC, bound_claim(f"data-db-{number}")) for number in range(replicas)),
            (BACKUP_CONFIGURATION, configuration(spec=self.spec, status={})),
            *(
                [(BACKUP_CONFIGURATION, configuration(NEIGHBOUR, spec=self.spec, status={}))]
                if with_neighbour
                else []
            ),
            server=SnapshotServer(),
        )

    def new_session(self, number: int, *, is_owned: bool, of: str = "nightly") -> None:
        """Create a session: one of a trigger, which goes with its configuration, or by hand."""
        name = f"{of}-{number}"
        if (BACKUP_SESSION, Key(NAMESPACE, name)) in self.server.objects:
            return
        made = session(name, of=of)
        del made["metadata"]["creationTimestamp"]
        del made["metadata"]["uid"]
        owner = self.server.objects.get((BACKUP_CONFIGURATION, Key(NAMESPACE, of)))
        if is_owned and owner is not None:
            made["metadata"]["ownerReferences"] = [
                {
                    "kind": "BackupConfiguration",
                    "name": name_of(owner),
                    "uid": uid_of(owner),
                    "controller": True,
                }
            ]
        self.server.put_object(BACKUP_SESSION, made)

    # the Job controller and the pods

    def sync_job(self, job: dict[str, Any]) -> bool:
        """Let the Job controller work: preBackup has one pod, others get one for each killed."""
        if is_finished(job):
            return False
        pods = self.pods_of(job)
        if any(status(p)["phase"] == "Succeeded" for p in pods):
            return self._finish(job, "Complete")
        failed = [p for p in pods if status(p)["phase"] == "Failed"]
        lost = self.lost.get(str(uid_of(job)), 0)
        if kind_of(name_of(job)) != "pre":
            counted = [p for p in failed if DISRUPTED not in status(p)["conditions"]]
            codes = [
                dig(p, "status", "containerStatuses", 0, "state", "terminated", "exitCode")
                for p in counted
            ]
            if REPORTED in codes or len(counted) + lost > RETRIES:
                return self._finish(job, "Failed")
        elif failed or lost:
            return self._finish(job, "Failed")
        if any(status(p)["phase"] in ("Pending", "Running") for p in pods):
            return False
        return self.add_pod(job, pods)

    def pass_time(self, seconds: float) -> None:
        """Let time pass; Kubernetes ends Jobs whose activeDeadlineSeconds is over."""
        self.server.wait(seconds)
        for job in self.server.all(JOB):
            created = parse_time(job["metadata"]["creationTimestamp"])
            age_s = (self.server.now - created).total_seconds()
            if is_finished(job) or age_s < dig(job, "spec", "activeDeadlineSeconds"):
                continue
            for pod in self.pods_of(job):
                if pod["spec"]["nodeName"] not in self._dead_nodes:
                    self.server.remove(POD, key_of(pod))
                elif not is_deleting(pod):
                    self.server.stop_pod(pod)  # which its dead kubelet never confirms
            if not self.pods_of(job):
                self._finish(job, "Failed")

    def start_pod(self, pod: dict[str, Any]) -> None:
        """Start a pod that waits for it."""
        if status(pod)["phase"] != "Pending":
            return
        super().start_pod(pod)
        if (job := self._job_of(pod)) and kind_of(name_of(job)) == "pre":
            self.server.frozen.add(str(controller_uid(job)))

    def remove_pod(self, pod: dict[str, Any]) -> None:
        """Remove a pod; its Job counts it."""
        owner = str(controller_uid(pod))
        self.lost[owner] = self.lost.get(owner, 0) + 1
        super().remove_pod(pod)

    def _job_of(self, pod: Obj) -> dict[str, Any] | None:
        return next((j for j in self.server.all(JOB) if uid_of(j) == controller_uid(pod)), None)

    def work(self, pod: dict[str, Any], *, most: int = 99, refuse: int = 0) -> None:
        """Let a pod that runs do its work and report; it is killed when `most` keeps it from it."""
        job = self._job_of(pod)
        if status(pod)["phase"] != "Running" or pod["spec"]["nodeName"] in self._dead_nodes:
            return
        if job is None:
            self.end_pod(pod, code=137, message="")
            return
        kind, owner = kind_of(name_of(job)), str(controller_uid(job))
        if kind != "vs":
            if kind == "pre" and not refuse:
                self.server.pre_succeeded.add(owner)
            if kind == "post":
                self.server.frozen.discard(owner)
                self.server.excused |= {owner} if refuse else set()
            report = hook_report("exit code 3" if refuse else "")
            self.end_pod(pod, code=1 if refuse else 0, message=report)
            return
        failed = self.create_snapshots(job, most=most, refuse=refuse)
        if most < len(CLAIMS):
            self.end_pod(pod, code=137, message="")
        else:
            self.end_pod(pod, code=1 if failed else 0, message=refused(*failed))

    def create_snapshots(self, job: Obj, *, most: int, refuse: int) -> list[HostReport]:
        """Create VolumeSnapshots as the runner does; return what could not be created."""
        (container,) = dig(job, "spec", "template", "spec", "containers")
        environment = {one["name"]: one.get("value", "") for one in container["env"]}
        order = CreationInput.decode(environment[ENVIRONMENT_VARIABLE])
        failed = []
        for index, item in enumerate(order.objects[:most]):
            name = item.body["metadata"]["name"]
            present = self.server.objects.get((VOLUME_SNAPSHOT, Key(NAMESPACE, name)))
            if present is not None:
                if labels_of(present).get(SESSION_UID) == order.session_uid:
                    continue
                name = f"{name}-{order.fallback_suffix}"
            if index < refuse:
                why = HostReport(item.host, succeeded=False, reason="CreationRefused", error="no")
                failed.append(why)
                continue
            common = dict(order.common)
            metadata = {**common["metadata"], "name": name, "namespace": NAMESPACE}
            self.server.put_object(
                VOLUME_SNAPSHOT, {**common, "metadata": metadata, "spec": dict(item.body["spec"])}
            )
        return failed

    # the driver

    def snapshots(self, index: int) -> dict[str, Any] | None:
        """Return one of the VolumeSnapshots."""
        found = self.server.all(VOLUME_SNAPSHOT)
        return found[index % len(found)] if found else None

    def tell(self, snapshot: Obj, **change: Any) -> None:
        """Let the driver write the status of a VolumeSnapshot."""
        now = format_time(self.server.now)
        new = {"readyToUse": False, **status(snapshot), **change}
        fields = [{"manager": "driver", "subresource": "status", "time": now}]
        metadata = {**meta(snapshot), "managedFields": fields}
        self.server.put_object(VOLUME_SNAPSHOT, {**snapshot, "metadata": metadata, "status": new})

    def cut(self, snapshot: Obj) -> None:
        """Let the driver cut a VolumeSnapshot."""
        self.tell(snapshot, creationTime=format_time(self.server.now))

    def ready(self, snapshot: Obj) -> None:
        """Let the driver finish a VolumeSnapshot."""
        at = format_time(self.server.now - timedelta(seconds=1))
        self.server.was_ready.add((labels_of(snapshot)[SESSION_UID], claim_of(snapshot)))
        self.tell(snapshot, readyToUse=True, creationTime=at)

    def _stir(self, end: Callable[[dict[str, Any]], None]) -> bool:
        self.pass_time(0)
        self.collect_garbage()
        open_ones = [
            s
            for s in self.server.all(VOLUME_SNAPSHOT)
            if not status(s).get("readyToUse") and not status(s).get("stuck")
        ]
        for snapshot in open_ones:
            self.ready(snapshot)
        return super()._stir(end) or bool(open_ones)

    def delete_in_the_foreground(self, found: Obj) -> None:
        """Delete a session with `--cascade=foreground`: what belongs to it goes first."""
        held = [*finalizers_of(found), *({FOREGROUND} - set(finalizers_of(found)))]
        self.server.put_object(BACKUP_SESSION, {**found, "metadata": {
            **meta(found), "finalizers": held, "deletionTimestamp": format_time(self.server.now),
        }})  # fmt: skip
        self.collect_garbage()

    def _collect_in_the_foreground(self) -> None:
        for found in self.server.all(BACKUP_SESSION):
            if FOREGROUND not in finalizers_of(found):
                continue
            for resource in (JOB, SERVICE_ACCOUNT, ROLE_BINDING):
                for child in self.server.all(resource):
                    if controller_uid(child) == uid_of(found):
                        self.count_deletion(resource, child)
                        self.server.remove(resource, key_of(child))
            left = [name for name in finalizers_of(found) if name != FOREGROUND]
            metadata = {**meta(found), "finalizers": left}
            self.server.put_object(BACKUP_SESSION, {**found, "metadata": metadata})
            if not left:
                self.server.remove(BACKUP_SESSION, key_of(found))

    def collect_garbage(self) -> None:
        """Remove what a controller made for a session that is gone, or goes in the foreground."""
        self._collect_in_the_foreground()
        sessions = {str(uid_of(found)) for found in self.server.all(BACKUP_SESSION)}
        for resource in (JOB, SERVICE_ACCOUNT, ROLE_BINDING):
            for found in self.server.all(resource):
                (owner,) = meta(found)["ownerReferences"]
                if owner["kind"] == BACKUP_SESSION.kind and owner["uid"] not in sessions:
                    self.server.remove(resource, key_of(found))

    def delete_by_hand(self, job: Obj) -> None:
        """Delete a Job."""
        self.count_deletion(JOB, job)
        self.server.remove(JOB, key_of(job))

    def count_deletion(self, resource: Resource, found: Obj) -> None:
        """Take note that a Job goes without having ended."""
        if resource == JOB:
            key = (str(controller_uid(found)), kind_of(name_of(found)))
            self.server.deleted[key] = self.server.deleted.get(key, 0) + 1

    def is_final(self) -> bool:
        """Tell whether no session is deleted and still there."""
        return not any(is_deleting(found) for found in self.server.all(BACKUP_SESSION))
