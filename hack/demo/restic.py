"""A claim: restic backs it up on a schedule, its files are destroyed and restored."""

import difflib

from files import BLOCKS, SPARSE_BLOCKS_LIMIT, WRITE, Shell, manifest, shell_on
from terminal import Failure, Scene, kubectl, say

NAMESPACE = "demo"
LAST_WORDS = "every file came back as it was"
DESTROY = "rm -rf /data/* /data/.[!.]* && ls -la /data"


def play(scene: Scene) -> None:
    """Show it.

    Raises:
        Failure: it is not as it should be.
    """
    say("an application with a volume")
    shell = start_application(scene)
    say("it writes its files: many small, one large, sparse, links, attributes, odd names")
    shell(WRITE)
    before = manifest(shell)
    files = sum(1 for line in before if line.startswith("./"))
    print(f"    {files} files and folders; a manifest of {len(before)} facts was taken")
    say("a backup every minute")
    scene.apply("backup.yaml")
    scene.wait_until_ready("app-backup")
    scene.scheduled_backup("app-backup")
    scene.pause("app-backup")
    say("the data is destroyed")
    kubectl("exec", "-n", NAMESPACE, "app", "--", "sh", "-c", DESTROY, show=True)
    expect_empty(shell)
    say("and restored")
    scene.apply("restore.yaml")
    scene.wait_for_restore("app-restore")
    say("compare with the manifest")
    compare(before, manifest(shell), shell)
    say("what a user looks at")
    scene.show("backupconfiguration,backupsession,repository,restoresession")
    scene.show("function,task")
    say("the operator's log of this backup and restore")
    scene.show_log()
    say("metrics in the Pushgateway")
    scene.show_metrics()


def start_application(scene: Scene) -> Shell:
    """Create the volume and the application, and return a shell in its volume, on the node."""
    scene.clear()
    scene.apply("application.yaml")
    kubectl("wait", "-n", NAMESPACE, "--for=condition=Ready", "pod/app", "--timeout=120s")
    uid = scene.get("pod", "app")["metadata"]["uid"]
    volume = scene.get("persistentvolumeclaim", "app-data")["spec"]["volumeName"]
    info = scene.info
    kubelet = info.get("kubelet") or f"{info['state']}/kubelet"
    path = f"{kubelet}/pods/{uid}/volumes/kubernetes.io~csi/{volume}/mount"
    return shell_on(info["on_node"], path)


def expect_empty(shell: Shell) -> None:
    """See on the node that nothing is left in the volume."""
    if shell('find "$ROOT" -mindepth 1').strip():
        raise Failure("the volume is not empty")


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
