"""What the demos share: commands as in a terminal, and waiting with a sign of life."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parent / "manifests"
SIGN_OF_LIFE_S = 10
ENDED = ("Succeeded", "Failed", "Skipped", "Unknown")


class Failure(Exception):
    """The demo did not show what it should; the text says what."""


def say(text: str) -> None:
    """Print a heading."""
    print(f"\n\033[1m==> {text}\033[0m" if sys.stdout.isatty() else f"\n==> {text}", flush=True)


def run(*argv: str, stdin: str = "", show: bool = False) -> str:
    """Run a command; with `show` print it and what it printed, as in a terminal."""
    done = subprocess.run(argv, input=stdin, check=False, capture_output=True, text=True)
    if show:
        print(f"$ {' '.join(argv)}\n{done.stdout}{done.stderr}".rstrip(), flush=True)
    if done.returncode:
        raise Failure(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def kubectl(*argv: str, stdin: str = "", show: bool = False) -> str:
    """Run kubectl."""
    return run("kubectl", *argv, stdin=stdin, show=show)


def until(what: str, probe: Callable[[], Any], *, timeout_s: float) -> Any:
    """Wait with a sign of life every ten seconds."""
    start = time.monotonic()
    shown = start
    while True:
        answer = probe()
        if answer:
            return answer
        now = time.monotonic()
        if now - start > timeout_s:
            raise Failure(f"{what}: not within {timeout_s:.0f} s")
        if now - shown > SIGN_OF_LIFE_S:
            print(f"    … {what}, {now - start:.0f} s", flush=True)
            shown = now
        time.sleep(0.3)


@dataclass(frozen=True)
class Scene:
    """The namespace of a demo on the cluster that `hack/cluster info` describes."""

    namespace: str
    info: dict[str, Any]

    def clear(self) -> None:
        """Make the namespace anew."""
        kubectl("delete", "namespace", self.namespace, "--ignore-not-found", "--wait=true")
        kubectl("create", "namespace", self.namespace)
        until("the namespace is ready", lambda: self.get("serviceaccount", "default"), timeout_s=30)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return an object, empty when it does not exist."""
        text = kubectl("get", kind, name, "-n", self.namespace, "-o", "json", "--ignore-not-found")
        found: dict[str, Any] = json.loads(text) if text.strip() else {}
        return found

    def list(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """Return the objects of a kind."""
        text = kubectl("get", kind, "-n", self.namespace, "-l", selector, "-o", "json")
        items: list[dict[str, Any]] = json.loads(text)["items"]
        return items

    def apply(self, name: str, **values: str) -> None:
        """Apply a manifest of the demo; `@key@` in it stands for a value, or one of the cluster."""
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        for key, value in (self.info["s3"] | self.info["storage"] | values).items():
            text = text.replace(f"@{key}@", str(value))
        kubectl("apply", "-f", "-", stdin=text, show=True)

    def show(self, *kinds: str) -> None:
        """Print what `kubectl get` prints of each kind."""
        for kind in kinds:
            kubectl("get", kind, "-n", self.namespace, show=True)

    def phase(self, kind: str, name: str) -> str:
        """Return the phase of an object, empty when it has none."""
        return str((self.get(kind, name).get("status") or {}).get("phase") or "")

    def wait_until_ready(self, configuration: str) -> None:
        """Wait until a BackupConfiguration is Ready."""
        until(
            f"BackupConfiguration {configuration} is Ready",
            lambda: self.phase("backupconfiguration", configuration) == "Ready",
            timeout_s=60,
        )

    def scheduled_backup(self, configuration: str) -> dict[str, Any]:
        """Return the first session that the CronJob made, once it has ended, and well."""

        def ended() -> dict[str, Any] | None:
            found = self.list("backupsession")
            return next((s for s in found if (s.get("status") or {}).get("phase") in ENDED), None)

        session: dict[str, Any] = until(
            "waiting for the schedule and the backup", ended, timeout_s=240
        )
        name = session["metadata"]["name"]
        slot = int(name.removeprefix(f"{configuration}-"))
        owner = session["metadata"]["ownerReferences"][0]
        if slot % 60 or (owner["kind"], owner["name"]) != ("BackupConfiguration", configuration):
            raise Failure(f"BackupSession {name} is of no slot of {configuration}'s schedule")
        if session["status"]["phase"] != "Succeeded":
            raise Failure(f"BackupSession {name}: {json.dumps(session['status'], indent=1)}")
        moment = datetime.fromtimestamp(slot, UTC)
        print(f"    BackupSession {name} is the slot of {moment:%H:%M} UTC and Succeeded")
        return session

    def pause(self, configuration: str) -> None:
        """Stop the schedule, and wait until nothing is being backed up any more."""
        change = ("--type=merge", "-p", '{"spec":{"paused":true}}')
        where = ("-n", self.namespace)
        kubectl("patch", "backupconfiguration", configuration, *where, *change, show=True)

        def quiet() -> bool:
            cron_job = self.get("cronjob", f"stash-trigger-{configuration}")
            if not cron_job["spec"].get("suspend") or cron_job.get("status", {}).get("active"):
                return False
            found = self.list("backupsession")
            return all((s.get("status") or {}).get("phase") in ENDED for s in found)

        until("waiting for the last backup", quiet, timeout_s=120)

    def wait_for_restore(self, name: str) -> None:
        """Wait until a RestoreSession has ended, and well."""
        until("restoring", lambda: self.phase("restoresession", name) in ENDED, timeout_s=240)
        restore = self.get("restoresession", name)
        if restore["status"]["phase"] != "Succeeded":
            raise Failure(f"RestoreSession {name}: {json.dumps(restore['status'], indent=1)}")

    def show_log(self) -> None:
        """Print the operator's lines about this namespace."""
        log = kubectl(
            "logs", "-n", "drey", "-l", "drey.dev/leader=true", "-c", "operator", "--tail=-1"
        )
        for line in log.splitlines():
            if f'"namespace": "{self.namespace}"' in line and '"step"' in line:
                print(line)

    def show_metrics(self) -> None:
        """Print what the Pushgateway has of this namespace."""
        path = "/api/v1/namespaces/drey/services/drey-pushgateway:56789/proxy/metrics"
        for line in kubectl("get", "--raw", path).splitlines():
            if line.startswith("stash_appscode_com_") and f'namespace="{self.namespace}"' in line:
                print(line)
