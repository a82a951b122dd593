"""What tests of VolumeSnapshots need: workloads, configurations, claims, faults of the driver."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.audit import unix_s
from tests.support.cluster import Space

BUSYBOX = "docker.io/library/busybox:1.36"
IDLE = "while :; do sleep 1 & wait $!; done"
SIZE = "64Mi"
FINAL = ("Succeeded", "Failed", "Skipped", "Unknown", "Invalid")
SESSION_UID = "drey.dev/session-uid"


# --- objects


def claims(space: Space, *names: str, size: str = SIZE) -> list[dict[str, Any]]:
    """Return claims of the class that binds at once."""
    return [space.pvc(name, size=size) for name in names]


def workload(
    space: Space,
    kind: str,
    name: str = "app",
    *,
    claims: Sequence[str] = (),
    templates: Sequence[str] = (),
    replicas: int = 1,
    script: str = IDLE,
    **container: Any,
) -> dict[str, Any]:
    """Return a workload whose pods mount each claim at `/<claim>` and have an emptyDir at /cache.

    `templates` are names of volumeClaimTemplates of a StatefulSet. With 0 replicas no kind has a
    pod, a DaemonSet neither.
    """
    labels = {"app": name}
    volumes: list[dict[str, Any]] = [{"name": "cache", "emptyDir": {}}]
    volumes += [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims]
    mounts = [{"name": v, "mountPath": f"/{v}"} for v in ("cache", *claims, *templates)]
    pod: dict[str, Any] = {
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                "name": "app",
                "image": BUSYBOX,
                "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", f"trap 'exit 0' TERM\n{script}"],
                "volumeMounts": mounts,
                **container,
            }
        ],
        "volumes": volumes,
    }
    spec: dict[str, Any] = {
        "selector": labels if kind == "ReplicationController" else {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    if kind == "DaemonSet":
        pod["nodeSelector"] = {} if replicas else {"drey.dev/test": "no-such-node"}
    else:
        spec["replicas"] = replicas
    if kind == "StatefulSet":
        spec |= {
            "serviceName": name,
            "podManagementPolicy": "Parallel",
            "volumeClaimTemplates": [
                {"metadata": {"name": template}, "spec": space.pvc(size=SIZE)["spec"]}
                for template in templates
            ],
        }
    version = "v1" if kind == "ReplicationController" else "apps/v1"
    return space.object(version, kind, name, spec=spec)


def configuration(
    space: Space,
    kind: str = "PersistentVolumeClaim",
    of: str = "data",
    name: str = "backup",
    *,
    annotations: Mapping[str, str] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """Return a BackupConfiguration of the driver that never fires by itself."""
    version = "apps/v1" if kind.endswith("Set") or kind == "Deployment" else "v1"
    ref = {"apiVersion": version, "kind": kind, "name": of}
    return space.object(
        "stash.appscode.com/v1beta1",
        "BackupConfiguration",
        name,
        metadata={"annotations": dict(annotations or {})},
        spec={
            "driver": "VolumeSnapshotter",
            "schedule": "0 0 1 1 *",
            "target": {"ref": ref, **spec.pop("target", {})},
            "retentionPolicy": {"name": "last", "keepLast": 5, "prune": True},
            **spec,
        },
    )


def template(
    space: Space, name: str, snapshot: str, *, size: str = "", storage_class: str = ""
) -> dict[str, Any]:
    """Return a volumeClaimTemplate of a restore, by default of the class that binds at once."""
    storage = space.cluster.info["storage"]
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": storage_class or storage["immediate_storage_class"],
        "dataSource": {
            "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": snapshot,
        },
    }  # fmt: skip
    if size:
        spec["resources"] = {"requests": {"storage": size}}
    return {"metadata": {"name": name}, "spec": spec}


def restore(
    space: Space,
    *templates: Mapping[str, Any],
    name: str = "restore",
    replicas: int | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """Return a RestoreSession of the driver."""
    target: dict[str, Any] = {"volumeClaimTemplates": list(templates)}
    if replicas is not None:
        target["replicas"] = replicas
    spec = {"driver": "VolumeSnapshotter", "target": target, **spec}
    return space.object("stash.appscode.com/v1beta1", "RestoreSession", name, spec=spec)


# --- verbs


def ready(space: Space, *configurations: Mapping[str, Any]) -> None:
    """Apply configurations and wait until each is Ready."""
    space.apply(*configurations)
    for found in configurations:
        space.wait_phase("backupconfiguration", found["metadata"]["name"], "Ready")


def bound(space: Space, *names: str) -> None:
    """Wait until claims are bound."""
    for name in names:
        space.wait_phase("pvc", name, "Bound")


def rolled_out(space: Space, kind: str, name: str = "app") -> None:
    """Wait until all pods of a workload are Ready."""
    what = f"{kind}/{name}"
    space.cluster.kubectl("-n", space.name, "rollout", "status", what, "--timeout=60s",
                          timeout_s=70.0)  # fmt: skip


def taken(space: Space, name: str, *, configuration: str = "backup") -> dict[str, Any]:
    """Run a session by hand and return it at its end, whatever that is."""
    return space.back_up(name, *FINAL, configuration=configuration)


def restored(space: Space, *templates: Mapping[str, Any], **rest: Any) -> dict[str, Any]:
    """Run a RestoreSession and return it at its end, whatever that is."""
    session = restore(space, *templates, **rest)
    space.apply(session)
    return space.wait_phase("restoresession", session["metadata"]["name"], *FINAL)


def one_file(space: Space) -> str:
    """Return the name of a VolumeSnapshot of the claim `data`, which holds one file."""
    space.apply(*claims(space, "data"), space.pod())
    space.wait_pod("app")
    space.exec("app", "echo content > /data/file; sync")
    ready(space, configuration(space))
    session = taken(space, "first")
    assert session["status"]["phase"] == "Succeeded", session["status"]
    (name,) = named(session, "data")
    return name


# --- what is there


def hosts(session: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the stats of a session of either kind, by host."""
    status = session.get("status") or {}
    (target,) = status.get("targets") or [status]
    return {str(stat["hostname"]): dict(stat) for stat in target.get("stats") or ()}


def phases(session: Mapping[str, Any]) -> dict[str, str]:
    """Return the phase of each host."""
    return {name: str(stat.get("phase")) for name, stat in hosts(session).items()}


def suffix(session: Mapping[str, Any]) -> int:
    """Return what the names of a session's VolumeSnapshots end with."""
    return int(unix_s(session["metadata"]["creationTimestamp"]))


def named(session: Mapping[str, Any], *claims: str) -> list[str]:
    """Return the names that the VolumeSnapshots of a session have."""
    return sorted(f"{claim}-{suffix(session)}" for claim in claims)


def snapshots(space: Space, session: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Return the VolumeSnapshots of a namespace, or of a session of it, by name."""
    found = space.list("volumesnapshot")
    if session is not None:
        uid = session["metadata"]["uid"]
        found = [s for s in found if (s["metadata"].get("labels") or {}).get(SESSION_UID) == uid]
    return sorted(found, key=lambda snapshot: str(snapshot["metadata"]["name"]))


def names(objects: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return names."""
    return [str(obj["metadata"]["name"]) for obj in objects]


def readiness(space: Space) -> dict[str, bool]:
    """Return of each VolumeSnapshot whether it is ready to use."""
    return {
        snapshot["metadata"]["name"]: (snapshot.get("status") or {}).get("readyToUse") is True
        for snapshot in snapshots(space)
    }


def events(space: Space, session: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the Events of a session of either kind."""
    uid = session["metadata"]["uid"]
    return [event for event in space.list("event") if event["involvedObject"].get("uid") == uid]


def restorer(space: Space, session: str = "restore") -> str:
    """Return as whom the Job of a RestoreSession creates claims."""
    return f"system:serviceaccount:{space.name}:restoresession-{session}-0"


def assert_content(space: Space, claim: str) -> None:
    """A claim holds what `one_file` snapshotted."""
    space.apply(space.pod(f"reader-{claim}", claim=claim))
    space.wait_pod(f"reader-{claim}")
    assert space.exec(f"reader-{claim}", "cat /data/file") == "content\n"


# --- faults


class Faults:
    """What the CSI driver does wrong in one namespace (hack/cluster/csi/faults.py has the rules).

    The place of the rules becomes a folder with a file for each test.
    """

    def __init__(self, space: Space) -> None:
        place = space.cluster.info["storage"]["faults"]
        assert place, "the driver of this cluster has no faults on demand: use native"
        self._space = space
        self._folder = Path(place)
        self._file = self._folder / f"{space.name}.json"

    def set(self, *rules: Mapping[str, Any]) -> None:
        """Replace the rules; each is about this namespace only."""
        self._folder.mkdir(exist_ok=True)
        whole = [
            {**rule, "match": {"namespace": self._space.name, **rule.get("match", {})}}
            for rule in rules
        ]
        beside = self._file.with_suffix(".new")
        beside.write_text(json.dumps(whole))
        beside.rename(self._file)

    def clear(self) -> None:
        """Let the driver be good again."""
        self._file.unlink(missing_ok=True)

    def answers(self, snapshot: Mapping[str, Any]) -> list[str]:
        """Return what the driver answered to each call that takes a VolumeSnapshot, by its log."""
        log = Path(self._space.cluster.info["logs"]) / "csi-driver.log"
        name = f" name=snapshot-{snapshot['metadata']['uid']} "
        return [
            line.partition("ms ")[2]
            for line in log.read_text(errors="replace").splitlines()
            if " CreateSnapshot " in line and name in line
        ]
