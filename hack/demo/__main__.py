"""`make demo`: a backup on a schedule and its restore, on a real cluster, as a user sees them."""

import difflib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from files import BLOCKS, SPARSE_BLOCKS_LIMIT, WRITE, NodeError, Shell, manifest, shell_on

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "demo"
SIGN_OF_LIFE_S = 10
CLUSTER = [sys.executable, str(ROOT / "hack" / "cluster")]
EXAMPLE = ROOT / "hack" / "demo" / "manifests"


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


def get(kind: str, name: str) -> dict[str, Any]:
    """Return an object of the demo's namespace, empty when it does not exist."""
    text = kubectl("get", kind, name, "-n", NAMESPACE, "-o", "json", "--ignore-not-found")
    found: dict[str, Any] = json.loads(text) if text.strip() else {}
    return found


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


def example(name: str, info: dict[str, Any]) -> str:
    """Return a manifest of the demo with the S3 server's address in it."""
    text = (EXAMPLE / name).read_text(encoding="utf-8")
    s3 = info["s3"]
    for key in ("endpoint", "access_key", "secret_key", "region"):
        text = text.replace(f"@{key}@", str(s3[key]))
    return text


def start_application(info: dict[str, Any]) -> Shell:
    """Create the volume and the application, and return a shell in its volume, on the node."""
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true")
    kubectl("create", "namespace", NAMESPACE)
    until("the namespace is ready", lambda: get("serviceaccount", "default"), timeout_s=30)
    kubectl("apply", "-f", "-", stdin=example("application.yaml", info), show=True)
    kubectl("wait", "-n", NAMESPACE, "--for=condition=Ready", "pod/app", "--timeout=120s")
    uid = get("pod", "app")["metadata"]["uid"]
    volume = get("persistentvolumeclaim", "app-data")["spec"]["volumeName"]
    kubelet = info.get("kubelet") or f"{info['state']}/kubelet"
    path = f"{kubelet}/pods/{uid}/volumes/kubernetes.io~csi/{volume}/mount"
    prefix = [] if info["provider"] == "native" else ["docker", "exec", "-i", info["node"]]
    return shell_on(prefix, path)


def wait_for_scheduled_backup() -> dict[str, Any]:
    """Return the first session that the CronJob made, once it has ended."""

    def ended() -> dict[str, Any] | None:
        text = kubectl("get", "backupsession", "-n", NAMESPACE, "-o", "json")
        for session in json.loads(text)["items"]:
            phase = (session.get("status") or {}).get("phase")
            if phase in ("Succeeded", "Failed", "Skipped"):
                found: dict[str, Any] = session
                return found
        return None

    session: dict[str, Any] = until("waiting for the schedule and the backup", ended, timeout_s=240)
    name = session["metadata"]["name"]
    slot = int(name.removeprefix("app-backup-"))
    owner = session["metadata"]["ownerReferences"][0]
    if slot % 60 or (owner["kind"], owner["name"]) != ("BackupConfiguration", "app-backup"):
        raise Failure(f"BackupSession {name} does not come from a slot of app-backup's schedule")
    if session["status"]["phase"] != "Succeeded":
        raise Failure(f"BackupSession {name}: {json.dumps(session['status'], indent=1)}")
    moment = datetime.fromtimestamp(slot, UTC)
    print(f"    BackupSession {name} is the slot of {moment:%H:%M} UTC and Succeeded")
    return session


def wait_for_quiet() -> None:
    """Wait until nothing is being backed up any more: the schedule fires every minute."""

    def quiet() -> bool:
        cron_job = get("cronjob", "stash-trigger-app-backup")
        if not cron_job["spec"].get("suspend") or cron_job.get("status", {}).get("active"):
            return False
        text = kubectl("get", "backupsession", "-n", NAMESPACE, "-o", "json")
        phases = [(s.get("status") or {}).get("phase") for s in json.loads(text)["items"]]
        return all(phase in ("Succeeded", "Failed", "Skipped") for phase in phases)

    until("waiting for the last backup", quiet, timeout_s=120)


def expect_empty(shell: Shell) -> None:
    """See on the node that nothing is left in the volume."""
    if shell('find "$ROOT" -mindepth 1').strip():
        raise Failure("the volume is not empty")


def wait_for_restore() -> None:
    """Wait until the RestoreSession has ended, and well."""

    def ended() -> dict[str, Any] | None:
        found = get("restoresession", "app-restore")
        phase = (found.get("status") or {}).get("phase")
        return found if phase in ("Succeeded", "Failed", "Unknown") else None

    restore = until("restoring", ended, timeout_s=240)
    if restore["status"]["phase"] != "Succeeded":
        raise Failure(f"RestoreSession app-restore: {json.dumps(restore['status'], indent=1)}")


def compare(before: list[str], after: list[str], shell: Shell) -> None:
    """Compare two manifests, and see that the sparse file is still sparse."""
    if before != after:
        lines = list(difflib.unified_diff(before, after, "before", "after", lineterm="", n=0))
        for line in lines[:40]:
            print(line.encode(errors="backslashreplace").decode())
        raise Failure(f"the restored files differ in {len(lines)} lines of the manifest")
    blocks = int(shell(BLOCKS))
    if blocks > SPARSE_BLOCKS_LIMIT:
        raise Failure(f"the sparse file came back with {blocks} blocks: it is not sparse")
    print(f"    {len(after)} facts are equal; the sparse file has {blocks} blocks")


def show_what_a_user_sees() -> None:
    """Print the objects, the operator's log lines and the metrics."""
    kinds = "backupconfiguration,backupsession,repository,restoresession"
    kubectl("get", kinds, "-n", NAMESPACE, show=True)
    say("the operator's log of this backup and restore")
    log = kubectl("logs", "-n", "drey", "-l", "drey.dev/leader=true", "-c", "operator", "--tail=-1")
    for line in log.splitlines():
        if f'"namespace": "{NAMESPACE}"' in line and '"step"' in line:
            print(line)
    say("metrics in the Pushgateway")
    path = "/api/v1/namespaces/drey/services/drey-pushgateway:56789/proxy/metrics"
    metrics = kubectl("get", "--raw", path)
    for line in metrics.splitlines():
        if line.startswith("stash_appscode_com_") and f'namespace="{NAMESPACE}"' in line:
            print(line)


def main() -> int:
    """Run the demo; return the exit code."""
    started = time.monotonic()
    done = subprocess.run([*CLUSTER, "up"], check=False)
    if done.returncode:
        return done.returncode
    try:
        subprocess.run([*CLUSTER, "s3", "start"], check=True)
        info = json.loads(run(*CLUSTER, "info"))
        os.environ["KUBECONFIG"] = info["kubeconfig"]
        os.environ["PATH"] = f"{info['binaries']}:{os.environ['PATH']}"
        say("install Drey")
        subprocess.run(["make", "--no-print-directory", "-C", str(ROOT), "install"], check=True)
        say("an application with a volume")
        shell = start_application(info)
        say("it writes its files: many small, one large, sparse, links, attributes, odd names")
        shell(WRITE)
        before = manifest(shell)
        files = sum(1 for line in before if line.startswith("./"))
        print(f"    {files} files and folders; a manifest of {len(before)} facts was taken")
        say("a backup every minute")
        kubectl("apply", "-f", "-", stdin=example("backup.yaml", info), show=True)
        until(
            "BackupConfiguration app-backup is Ready",
            lambda: (
                (get("backupconfiguration", "app-backup").get("status") or {}).get("phase")
                == "Ready"
            ),
            timeout_s=60,
        )
        wait_for_scheduled_backup()
        kubectl(
            "patch",
            "backupconfiguration",
            "app-backup",
            "-n",
            NAMESPACE,
            "--type=merge",
            "-p",
            '{"spec":{"paused":true}}',
            show=True,
        )
        wait_for_quiet()
        say("the data is destroyed")
        kubectl(
            "exec",
            "-n",
            NAMESPACE,
            "app",
            "--",
            "sh",
            "-c",
            "rm -rf /data/* /data/.[!.]* && ls -la /data",
            show=True,
        )
        expect_empty(shell)
        say("and restored")
        kubectl("apply", "-f", "-", stdin=example("restore.yaml", info), show=True)
        wait_for_restore()
        say("compare with the manifest")
        compare(before, manifest(shell), shell)
        say("what a user looks at")
        show_what_a_user_sees()
    except (Failure, NodeError) as err:
        print(f"\ndemo failed: {err}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as err:  # it has said why
        print(f"\ndemo failed: {' '.join(err.cmd)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"\ndemo passed in {time.monotonic() - started:.0f} s: every file came back as it was.")
    print(f"Look around with: export KUBECONFIG={info['kubeconfig']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
