"""A StatefulSet that never stops writing: VolumeSnapshots of its volumes, and back from them."""

import time
from datetime import datetime
from typing import Any

from ledger import Found, NotAsOf, check
from terminal import Failure, Scene, kubectl, say, until

NAMESPACE = "demo-snapshot"
LAST_WORDS = "three replicas run on restored claims, with the data as of their snapshots"
REPLICAS = 3
PODS = tuple(f"ledger-{ordinal}" for ordinal in range(REPLICAS))
CLAIMS = tuple(f"data-{pod}" for pod in PODS)
MORE_LINES_S = 3.0
"""How long it writes on after the snapshots: these lines must not come back."""
CLOCK_S = 2.0
"""Times are in whole seconds, and a replica writes five lines in one."""


def play(scene: Scene) -> None:
    """Show it.

    Raises:
        Failure: it is not as it should be.
    """
    say("a StatefulSet of three replicas; each writes a line to its volume, five times a second")
    scene.clear()
    scene.apply("ledger.yaml")
    wait_for_replicas()
    say("snapshots of all volumes every minute")
    scene.apply("snapshot-backup.yaml")
    scene.wait_until_ready("ledger-snapshots")
    session = scene.scheduled_backup("ledger-snapshots")
    scene.pause("ledger-snapshots")
    taken = snapshots_of(scene, session)
    scene.show("backupconfiguration", "backupsession", "volumesnapshot")
    time.sleep(MORE_LINES_S)
    before = {pod: text_of(pod) for pod in PODS}
    for pod, text in before.items():
        print(f"    {pod} has written {len(text.splitlines())} lines")
    say("the StatefulSet and its volumes are destroyed")
    where = ("-n", NAMESPACE, "--wait=true")
    kubectl("delete", "statefulset", "ledger", *where, "--cascade=foreground", show=True)
    kubectl("delete", "persistentvolumeclaim", *CLAIMS, *where, show=True)
    say("claims of the same names are restored, each from its snapshot")
    suffix = unix_s(session["metadata"]["creationTimestamp"])
    scene.apply("snapshot-restore.yaml", suffix=f"{suffix:.0f}")
    scene.wait_for_restore("ledger-restore")
    scene.show("restoresession", "persistentvolumeclaim")
    say("the StatefulSet starts on them")
    scene.apply("ledger.yaml")
    wait_for_replicas()
    scene.show("statefulset", "pod")
    say("compare what each replica found with what it had written")
    for pod, claim in zip(PODS, CLAIMS, strict=True):
        compare(pod, before[pod], session, taken[claim])
    say("the operator's log of these snapshots and of the restore")
    scene.show_log()
    say("metrics in the Pushgateway")
    scene.show_metrics()


def wait_for_replicas() -> None:
    """Wait until all replicas are Ready, which they are once they write."""
    argv = ("rollout", "status", "statefulset/ledger", "-n", NAMESPACE, "--timeout=180s")
    kubectl(*argv, show=True)


def text_of(pod: str) -> str:
    """Return the whole ledger of a replica; a line that is half written is left out."""
    text = kubectl("exec", "-n", NAMESPACE, pod, "--", "cat", "/data/ledger")
    return text[: text.rfind("\n") + 1]


def snapshots_of(scene: Scene, session: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the snapshots of a session by claim: one of each, by its exact name.

    Raises:
        Failure: one is missing or not ready, or the session counts other ones.
    """
    suffix = f"{unix_s(session['metadata']['creationTimestamp']):.0f}"
    found = {claim: scene.get("volumesnapshot", f"{claim}-{suffix}") for claim in CLAIMS}
    for claim, snapshot in found.items():
        if not (snapshot.get("status") or {}).get("readyToUse"):
            raise Failure(f"VolumeSnapshot {claim}-{suffix} is not there or not ready")
    target = session["status"]["targets"][0]
    hosts = sorted(entry["hostname"] for entry in target["stats"])
    if hosts != sorted(CLAIMS) or target["totalHosts"] != REPLICAS:
        raise Failure(f"the session counts {hosts} of {target['totalHosts']}")
    return found


def compare(pod: str, before: str, session: dict[str, Any], snapshot: dict[str, Any]) -> None:
    """Compare what a replica found when it started with what it had written until the snapshot.

    Raises:
        Failure: it is anything else than the lines up to then.
    """

    def said() -> str:
        lines = kubectl("logs", "-n", NAMESPACE, pod).splitlines()
        return next((line for line in lines if line.startswith("found ")), "")

    line = until(f"what {pod} says", said, timeout_s=30)
    cut_s = unix_s(snapshot["status"]["creationTime"])
    try:
        found = Found.said(line)
        last_s = check(
            before,
            found,
            earliest_s=unix_s(session["metadata"]["creationTimestamp"]) - CLOCK_S,
            latest_s=cut_s + CLOCK_S,
        )
    except NotAsOf as err:
        raise Failure(f"{pod}: {err}") from err
    moment = datetime.fromtimestamp(last_s).astimezone()
    lost = len(before.splitlines()) - found.lines
    print(
        f"    {pod}: the first {found.lines} lines, the last one of {moment:%H:%M:%S}; "
        f"{lost} that came after its snapshot are gone"
    )


def unix_s(text: str) -> float:
    """Return the Unix seconds of a time as Kubernetes writes it."""
    return datetime.fromisoformat(text).timestamp()
