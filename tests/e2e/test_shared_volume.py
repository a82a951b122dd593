"""A ReadWriteMany volume that two workloads keep mounted, backed up and restored under them."""

import functools
from typing import Any

from tests.support.cluster import Space, condition

# Each application appends a line every 0.2 s to a file of its own that it keeps open; the
# documents beside it belong to both.
SCRIPT = """
trap 'exit 0' TERM
mkdir -p /data/logs /data/shared
exec 3>>/data/logs/$HOSTNAME
while :; do date +%s.%N >&3; sleep 0.2; done
"""
APPLICATIONS = ("one", "two")


def test_shared_volume_is_backed_up_and_restored_under_two_workloads(space: Space) -> None:
    """Both workloads keep running through backup and restore, and both see the data again."""
    space.apply(
        space.secret(),
        space.repository(),
        space.pvc(modes=("ReadWriteMany",)),
        *(space.pod(name, command=SCRIPT) for name in APPLICATIONS),
    )
    for name in APPLICATIONS:
        space.wait_pod(name)
    before = {name: _pod(space, name) for name in APPLICATIONS}
    space.exec("one", "echo hello > /data/shared/hello.txt; chmod 0640 /data/shared/hello.txt")
    space.exec("one", "chown 65535:100 /data/shared/hello.txt")
    assert space.exec("two", "cat /data/shared/hello.txt") == "hello\n"
    space.apply(space.configuration())
    space.wait_phase("backupconfiguration", "backup", "Ready")

    session = space.back_up("shared")
    stat = session["status"]["targets"][0]["stats"][0]
    assert stat["phase"] == "Succeeded"
    assert stat["snapshots"][0]["fileStats"]["totalFiles"] == 3

    space.exec("two", "rm -r /data/shared")
    assert space.exec("one", "ls /data") == "logs\n"
    space.apply(space.restore(rules=[{"snapshots": ["latest"], "include": ["/stash-data/shared"]}]))
    restore = space.wait_phase("restoresession", "restore", "Succeeded", "Failed")
    assert restore["status"]["phase"] == "Succeeded", restore["status"]

    for name in APPLICATIONS:
        assert space.exec(name, "cat /data/shared/hello.txt") == "hello\n"
        assert space.exec(name, "stat -c '%a %u:%g' /data/shared/hello.txt") == "640 65535:100\n"
        after = _pod(space, name)
        assert after["metadata"]["uid"] == before[name]["metadata"]["uid"]
        assert after["status"]["containerStatuses"][0]["restartCount"] == 0
        first = space.exec(name, f"wc -l < /data/logs/{name}")
        space.cluster.until(
            f"{name} writes on",
            functools.partial(_has_grown, space, name, first),
        )
    in_use = condition(restore, "TargetInUse")
    assert in_use.get("status") == "True", restore["status"]


def _has_grown(space: Space, name: str, first: str) -> bool:
    return space.exec(name, f"wc -l < /data/logs/{name}") != first


def _pod(space: Space, name: str) -> dict[str, Any]:
    found = space.get("pod", name)
    assert found is not None
    return found
