"""Metrics of what cannot push by itself: dead pods, deleted objects, and the operator's own."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.cluster import Space
from tests.support.evidence import job_of, kill, pods_of, wait_restic
from tests.support.pushgateway import Samples, pushed

CURRENT = "stash_appscode_com_"
OPERATOR = "/api/v1/namespaces/drey/services/drey:8080/proxy/metrics"
SLOW = {"args": ["--limit-upload=100"]}
"""KiB per second: with BIG the upload takes a minute."""
BIG = "head -c 6000000 /dev/urandom > /data/big; sync"


def operator(space: Space) -> Samples:
    """Return the samples of the operator's own `/metrics` that are about a namespace."""
    found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for family in text_string_to_metric_families(space.cluster.kubectl("get", "--raw", OPERATOR)):
        for sample in family.samples:
            if sample.labels.get("namespace") == space.name:
                found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def group(space: Space, kind: str = "backupconfiguration", name: str = "backup") -> Samples:
    """Return what the Pushgateway holds of an invoker."""
    return pushed(space.cluster, f"{kind}-{space.name}-{name}")


def value(samples: Samples, name: str) -> float | None:
    """Return the value of the only sample of a name, None when there is none."""
    found = [number for _, number in samples.get(name, ())]
    assert len(found) <= 1, found
    return found[0] if found else None


def wait_operator(space: Space, name: str, wanted: float) -> None:
    """Wait until the operator's own sample has a value: its cache follows what it wrote."""
    space.cluster.until(name, lambda: value(operator(space), name) == wanted)


def first_backup(space: Space) -> None:
    """Make a backup that works; the next ones take a minute."""
    space.ready()
    space.back_up("first")
    assert value(group(space), "stash_backup_session_success") == 1
    space.exec("app", BIG)
    space.apply(space.configuration(target=SLOW))
    space.cluster.until("the spec", lambda: is_seen(space))


def is_seen(space: Space) -> bool:
    """Tell whether the configuration's status is about its spec."""
    found: dict[str, Any] = space.get("backupconfiguration", "backup") or {}
    seen = (found.get("status") or {}).get("observedGeneration")
    return bool(seen == found["metadata"]["generation"])


def delete_job(space: Space) -> None:
    """Delete the Job as a user does: its pod is told to end."""
    space.cluster.kubectl("delete", "job", job_of("second"), "-n", space.name, "--wait=false")


def kill_runner(space: Space) -> None:
    """Kill the pod's processes from the node, as the kernel does when memory runs out."""
    kill(pods_of(space, job_of("second"))[0], "runner")


def test_operator_tells_what_was_pushed(space: Space) -> None:
    """Every sample of a backup's and a restore's group is on the operator's `/metrics` too."""
    space.ready()
    space.back_up("first")
    space.apply(space.restore())
    space.wait_phase("restoresession", "restore", "Succeeded")
    wait_operator(space, f"{CURRENT}restoresession_success", 1)
    own = operator(space)
    groups = {**group(space), **group(space, "restoresession", "restore")}
    names = {name for name in groups if name.startswith("stash_")}
    assert len(names) == 32 + 8 + 14
    for name in names:
        ((labels, number),) = groups[name]
        (found,) = [other for mine, other in own[name] if mine == dict(labels)]
        if name.endswith(("n_duration_seconds", "success_time_seconds")):
            # the Job's session ends with its push, the status' with the pod, in whole seconds
            assert number - 1.0 <= found <= number + 60.0, name
        elif name.endswith("processing_time_seconds"):
            assert found == int(number), name
        else:  # of a size three decimals
            assert found == pytest.approx(number, rel=0.0006), name


def test_operator_tells_the_state(space: Space) -> None:
    """Creation, phase and conditions of our kinds, as Stash's dashboards query them."""
    space.ready()
    session = space.back_up("first")
    wait_operator(space, f"{CURRENT}backupsession_success", 1)
    own = operator(space)
    created = {name for name in own if name.endswith("_created")}
    assert created == {
        f"{CURRENT}{kind}_created"
        for kind in ("backupconfiguration", "backupsession", "repository")
    }
    ((labels, _),) = own[f"{CURRENT}backupsession_info"]
    assert labels == {
        "name": "first",
        "phase": session["status"]["phase"],
        "namespace": space.name,
        "invoker_api_group": "stash.appscode.com",
        "invoker_kind": "BackupConfiguration",
        "invoker_name": "backup",
    }
    ((info, _),) = own[f"{CURRENT}backupconfiguration_info"]
    assert (info["target_kind"], info["target_name"]) == ("PersistentVolumeClaim", "data")
    conditions = {
        (labels["condition"], labels["status"])
        for labels, _ in own[f"{CURRENT}backupconfiguration_conditions"]
    }
    assert ("CronJobCreated", "True") in conditions


@pytest.mark.parametrize("fault", [delete_job, kill_runner])
def test_dead_backup_is_pushed_as_failed(space: Space, fault: Callable[[Space], None]) -> None:
    """A backup that cannot push any more gets 0, and what only success knows keeps its value."""
    first_backup(space)
    duration_s = value(group(space), "stash_backup_session_duration_seconds")
    space.apply(space.session("second"))
    wait_restic(space, job_of("second"))
    fault(space)
    space.wait_phase("backupsession", "second", "Failed", timeout_s=30.0)
    space.cluster.until(
        "the push",
        lambda: value(group(space), f"{CURRENT}backupsession_success") == 0,
        timeout_s=10.0,
    )
    samples = group(space)
    for name in ("session_success", "target_success", "host_backup_success"):
        assert value(samples, f"stash_backup_{name}") == 0, name
    assert value(samples, "stash_backup_session_duration_seconds") == duration_s
    wait_operator(space, f"{CURRENT}backupsession_success", 0)


def test_backup_that_never_started_is_pushed_as_failed(space: Space) -> None:
    """Without a pod the controller is the only one who can say so."""
    space.ready()
    # in the target itself: a configuration that is Ready, and a backup that no Job is made for
    here = {"persistentVolumeClaim": {"claimName": "data"}, "mountPath": "/repository"}
    space.apply(space.repository("inside", local=here))
    space.apply(space.configuration(repository="inside"))
    space.cluster.until("the new Repository is looked at", lambda: _is_observed(space))
    space.apply(space.session("first"))
    space.wait_phase("backupsession", "first", "Failed")
    assert not space.get("job", job_of("first"))
    space.cluster.until(
        "the push", lambda: value(group(space), "stash_backup_session_success") == 0, timeout_s=10.0
    )


def _is_observed(space: Space) -> bool:
    found = space.get("backupconfiguration", "backup") or {}
    seen = found["status"].get("observedGeneration") == found["metadata"]["generation"]
    return bool(seen and found["status"]["phase"] == "Ready")


def test_group_goes_with_its_configuration(space: Space) -> None:
    """Deleting a configuration in the middle of a backup removes its group for good."""
    first_backup(space)
    space.apply(space.session("second"))
    wait_restic(space, job_of("second"))
    space.cluster.kubectl("delete", "backupconfiguration", "backup", "-n", space.name)
    space.cluster.until("the group's end", lambda: not group(space), timeout_s=10.0)
    space.cluster.until("the pod's end", lambda: not pods_of(space, job_of("second")))
    assert group(space) == {}
    assert f"{CURRENT}backupsession_success" not in operator(space)


def test_group_goes_with_its_restore(space: Space) -> None:
    """Deleting a RestoreSession removes its group."""
    space.ready()
    space.back_up("first")
    space.apply(space.restore())
    space.wait_phase("restoresession", "restore", "Succeeded")
    assert value(group(space, "restoresession", "restore"), "stash_restore_session_success") == 1
    space.cluster.kubectl("delete", "restoresession", "restore", "-n", space.name)
    space.cluster.until(
        "the group's end", lambda: not group(space, "restoresession", "restore"), timeout_s=10.0
    )
