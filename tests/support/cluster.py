"""A real cluster for tests: what `hack/cluster info` describes, and short verbs on it.

Waiting is by polling every 0.2 s with a deadline: tests look from outside, as a user's script does.
"""

import base64
import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from controller.api import resources
from controller.kube.client import Client, find
from controller.kube.config import connect

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 0.2
RESOURCES = {
    "backupconfiguration": resources.BACKUP_CONFIGURATION,
    "backupsession": resources.BACKUP_SESSION,
    "cronjob": resources.CRON_JOB,
    "event": resources.CORE_EVENT,
    "job": resources.JOB,
    "lease": resources.LEASE,
    "pod": resources.POD,
    "pvc": resources.PVC,
    "repository": resources.REPOSITORY,
    "restoresession": resources.RESTORE_SESSION,
    "secret": resources.SECRET,
    "serviceaccount": resources.SERVICE_ACCOUNT,
    "task": resources.TASK,
    "volumesnapshot": resources.VOLUME_SNAPSHOT,
}
"""What is read through the client; the rest goes through kubectl."""


@dataclass(frozen=True)
class Cluster:
    """One running cluster. `info` is the document of `hack/cluster info`."""

    info: Mapping[str, Any]

    @classmethod
    def current(cls) -> "Cluster":
        """Return the cluster that `make cluster` started, with its storage servers running."""
        info = json.loads(_hack_cluster("info"))
        stopped = [group for group in ("s3", "rest") if not info[group]["running"]]
        for group in stopped:
            _hack_cluster(group, "start")
        return cls(json.loads(_hack_cluster("info")) if stopped else info)

    @cached_property
    def environment(self) -> dict[str, str]:
        """Return the environment of subprocesses: the kubeconfig and the cluster's programs."""
        path = f"{self.info['binaries']}:{os.environ['PATH']}"
        return {**os.environ, "KUBECONFIG": self.info["kubeconfig"], "PATH": path}

    @cached_property
    def client(self) -> Client:
        """Return a client with the rights of an admin: a kubectl for each look is slow."""
        return connect(str(self.info["kubeconfig"]), pool_size=4)

    def run(
        self,
        *argv: str,
        stdin: str | bytes = "",
        check: bool = True,
        timeout_s: float = 60.0,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the host; its output goes into the error when it fails."""
        done = subprocess.run(
            argv,
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            check=False,
            timeout=timeout_s,
            env={**self.environment, **(environment or {})},
        )
        text = subprocess.CompletedProcess(
            argv, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode()
        )
        if check and text.returncode:
            raise AssertionError(
                f"{' '.join(argv)} exited with {text.returncode}:\n{text.stdout}{text.stderr}"
            )
        return text

    def kubectl(
        self, *argv: str, stdin: str = "", check: bool = True, timeout_s: float = 60.0
    ) -> str:
        """Run kubectl and return what it printed."""
        return self.run("kubectl", *argv, stdin=stdin, check=check, timeout_s=timeout_s).stdout

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply objects as a user would, under strict validation."""
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.kubectl("apply", "--server-side", "--validate=strict", "-f", "-", stdin=document)

    def get(self, kind: str, name: str, namespace: str = "") -> dict[str, Any] | None:
        """Return one object, None when it does not exist."""
        if resource := RESOURCES.get(kind):
            return cast("dict[str, Any] | None", find(self.client, resource, namespace, name))
        where = ("-n", namespace) if namespace else ()
        text = self.kubectl("get", kind, name, *where, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def list(self, kind: str, namespace: str = "", selector: str = "") -> list[dict[str, Any]]:
        """Return the objects of a kind."""
        if resource := RESOURCES.get(kind):
            page = self.client.list_page(resource, namespace, label_selector=selector, limit=0)
            return [dict(item) for item in page["items"]]
        where = ("-n", namespace) if namespace else ("-A",)
        text = self.kubectl("get", kind, *where, "-l", selector, "-o", "json")
        items: list[dict[str, Any]] = json.loads(text)["items"]
        return items

    def until(self, what: str, probe: Callable[[], Any], *, timeout_s: float = 60.0) -> Any:
        """Return the first true answer of a probe.

        Raises:
            AssertionError: there was none in time; the text has the last answer.
        """
        end = time.monotonic() + timeout_s
        while True:
            answer = probe()
            if answer:
                return answer
            if time.monotonic() > end:
                raise AssertionError(f"{what}: not within {timeout_s:.0f} s, last: {answer!r}")
            time.sleep(POLL_S)

    @contextmanager
    def space(self, word: str) -> Iterator["Space"]:
        """Make a namespace and remove it afterwards, without waiting until it is gone."""
        cut = re.sub("[^a-z0-9]+", "-", word.lower())[:30].strip("-")
        name = f"{cut}-{uuid.uuid4().hex[:5]}"
        self.kubectl("create", "namespace", name)
        self.until(
            "the namespace's ServiceAccount", lambda: self.get("serviceaccount", "default", name)
        )
        try:
            yield Space(self, name)
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false")

    def audit(self, since: float = 0.0) -> Iterable[dict[str, Any]]:
        """Yield the entries of the API server's audit log that came after a Unix time."""
        with Path(self.info["audit_log"]).open(encoding="utf-8") as lines:
            for line in lines:
                try:
                    entry: dict[str, Any] = json.loads(line)
                except ValueError:  # the last line may be half written
                    continue
                if _unix(entry["stageTimestamp"]) >= since:
                    yield entry


def _hack_cluster(*arguments: str) -> str:
    argv = [sys.executable, str(ROOT / "hack" / "cluster"), *arguments]
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout


def provider() -> str:
    """Return `kind` or `native`: what the cluster is, or would be."""
    return str(json.loads(_hack_cluster("info"))["provider"])


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@dataclass
class Space:
    """A namespace of one test, with the objects that most tests need."""

    cluster: Cluster
    name: str
    password: str = "correct horse battery staple"  # noqa: S105 - of a repository in a test

    # --- objects

    def object(self, api_version: str, kind: str, name: str, **rest: Any) -> dict[str, Any]:
        """Return an object in this namespace."""
        metadata = {"name": name, "namespace": self.name, **rest.pop("metadata", {})}
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}

    def secret(self, name: str = "storage", **values: str | bytes | None) -> dict[str, Any]:
        """Return a storage Secret for the S3 server; values override, None removes a key."""
        s3 = self.cluster.info["s3"]
        data: dict[str, str | bytes | None] = {
            "RESTIC_PASSWORD": self.password,
            "AWS_ACCESS_KEY_ID": s3["access_key"],
            "AWS_SECRET_ACCESS_KEY": s3["secret_key"],
            **values,
        }
        encoded = {
            key: base64.b64encode(v if isinstance(v, bytes) else v.encode()).decode()
            for key, v in data.items()
            if v is not None
        }
        return self.object("v1", "Secret", name, data=encoded)

    def repository(
        self,
        name: str = "repo",
        *,
        secret: str = "storage",  # noqa: S107 - the name of a Secret
        **backend: Any,
    ) -> dict[str, Any]:
        """Return a Repository, by default in a bucket of this test on the S3 server."""
        s3 = {
            "endpoint": self.cluster.info["s3"]["endpoint"],
            "bucket": self.name,
            "prefix": name,
            "region": self.cluster.info["s3"]["region"],
        }
        spec = {"backend": {"storageSecretName": secret, **(backend or {"s3": s3})}}
        return self.object("stash.appscode.com/v1alpha1", "Repository", name, spec=spec)

    def pvc(
        self, name: str = "data", *, size: str = "1Gi", modes: tuple[str, ...] = ("ReadWriteOnce",)
    ) -> dict[str, Any]:
        """Return a claim of the class that binds at once."""
        spec = {
            "accessModes": list(modes),
            "storageClassName": self.cluster.info["storage"]["immediate_storage_class"],
            "resources": {"requests": {"storage": size}},
        }
        return self.object("v1", "PersistentVolumeClaim", name, spec=spec)

    def pod(self, name: str = "app", *, claim: str = "data", command: str = "") -> dict[str, Any]:
        """Return a busybox pod with a claim at /data; it runs until it is told to end."""
        script = command or "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"
        return self.object(
            "v1",
            "Pod",
            name,
            spec={
                "terminationGracePeriodSeconds": 2,
                "restartPolicy": "Never",
                "containers": [
                    {
                        "name": "app",
                        "image": "docker.io/library/busybox:1.36",
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["sh", "-c", script],
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                    }
                ],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
            },
        )

    def configuration(
        self, name: str = "backup", *, claim: str = "data", repository: str = "repo", **spec: Any
    ) -> dict[str, Any]:
        """Return a BackupConfiguration that never fires by itself."""
        target = {
            "ref": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": claim},
            **spec.pop("target", {}),
        }
        return self.object(
            "stash.appscode.com/v1beta1",
            "BackupConfiguration",
            name,
            spec={
                "schedule": "0 0 1 1 *",
                "task": {"name": "pvc-backup"},
                "repository": {"name": repository},
                "target": target,
                "retentionPolicy": {"name": "last", "keepLast": 5, "prune": True},
                **spec,
            },
        )

    def session(self, name: str, *, configuration: str = "backup", **rest: Any) -> dict[str, Any]:
        """Return a BackupSession as a user makes it by hand."""
        invoker = {
            "apiGroup": "stash.appscode.com",
            "kind": "BackupConfiguration",
            "name": configuration,
        }
        spec = {"invoker": invoker, **rest}
        return self.object("stash.appscode.com/v1beta1", "BackupSession", name, spec=spec)

    def restore(
        self,
        name: str = "restore",
        *,
        claim: str = "data",
        repository: str = "repo",
        rules: Iterable[Mapping[str, Any]] = (),
        **spec: Any,
    ) -> dict[str, Any]:
        """Return a RestoreSession into a claim."""
        target: dict[str, Any] = {
            "ref": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": claim},
            **spec.pop("target", {}),
        }
        if rules:
            target["rules"] = list(rules)
        return self.object(
            "stash.appscode.com/v1beta1",
            "RestoreSession",
            name,
            spec={
                "task": {"name": "pvc-restore"},
                "repository": {"name": repository},
                "target": target,
                **spec,
            },
        )

    # --- verbs

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply objects."""
        self.cluster.apply(*objects)

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return an object of this namespace."""
        return self.cluster.get(kind, name, self.name)

    def list(self, kind: str) -> list[dict[str, Any]]:
        """Return all objects of a kind in this namespace."""
        return self.cluster.list(kind, self.name)

    def exec(self, pod: str, script: str) -> str:
        """Run a shell script in a pod and return what it printed."""
        return self.cluster.kubectl("exec", "-n", self.name, pod, "--", "sh", "-c", script)

    def wait_phase(
        self, kind: str, name: str, *phases: str, timeout_s: float = 90.0
    ) -> dict[str, Any]:
        """Return the object once its phase is one of those given.

        Raises:
            AssertionError: it is not in time; the text has the last status.
        """
        end = time.monotonic() + timeout_s
        while True:
            found = self.get(kind, name)
            phase = ((found or {}).get("status") or {}).get("phase")
            if found is not None and phase in phases:
                return found
            if time.monotonic() > end:
                last = json.dumps((found or {}).get("status"), indent=1)
                raise AssertionError(
                    f"{kind} {name} is {phase}, not {phases}, after {timeout_s:.0f} s: {last}"
                )
            time.sleep(POLL_S)

    def wait_pod(self, name: str, phase: str = "Running", *, timeout_s: float = 60.0) -> None:
        """Wait until a pod is in a phase."""
        self.wait_phase("pod", name, phase, timeout_s=timeout_s)

    def ready(self, *extra: Mapping[str, Any], **spec: Any) -> None:
        """Create Secret, Repository, claim, an app that uses it, and a Ready configuration."""
        self.apply(self.secret(), self.repository(), self.pvc(), self.pod(), *extra)
        self.wait_pod("app")
        self.apply(self.configuration(**spec))
        self.wait_phase("backupconfiguration", "backup", "Ready")

    def back_up(self, name: str, *phases: str, configuration: str = "backup") -> dict[str, Any]:
        """Run a session by hand and return it once it has ended."""
        self.apply(self.session(name, configuration=configuration))
        return self.wait_phase("backupsession", name, *(phases or ("Succeeded",)))

    def restic(self, *argv: str, repository: str = "repo") -> Any:
        """Run the host's restic against a repository of this test and return its JSON.

        Of a command that prints a JSON document on each line it is the last one: the summary.
        """
        done = self.cluster.run(
            "restic",
            "--json",
            "--no-cache",
            "--no-lock",
            *argv,
            environment=self.restic_environment(repository),
        )
        try:
            return json.loads(done.stdout)
        except ValueError:
            return json.loads(done.stdout.splitlines()[-1])

    def restic_environment(self, repository: str = "repo") -> dict[str, str]:
        """Return what the host's restic needs to open a repository of this test."""
        s3 = self.cluster.info["s3"]
        return {
            "RESTIC_REPOSITORY": f"s3:{s3['host_endpoint']}/{self.name}/{repository}",
            "RESTIC_PASSWORD": self.password,
            "AWS_ACCESS_KEY_ID": s3["access_key"],
            "AWS_SECRET_ACCESS_KEY": s3["secret_key"],
        }


def condition(obj: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return a condition of an object's status, or of its first target; empty when absent."""
    status = obj.get("status") or {}
    targets = status.get("targets") or [{}]
    for entry in (*(status.get("conditions") or ()), *(targets[0].get("conditions") or ())):
        if entry.get("type") == kind:
            return dict(entry)
    return {}
