"""controller.observe.state_metrics: what Prometheus reads of our kinds, as text."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from time import process_time
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from controller.api.job_input import ENVIRONMENT_VARIABLE, JobInput
from controller.api.metrics import Sample
from controller.api.objects import Key, Obj, key_of
from controller.api.report import RepositoryReport, RunReport
from controller.engine.store import Change, ChangeType
from controller.observe.caches import Caches
from controller.observe.informers import _on_deletion
from controller.observe.state_metrics import StateCollector
from controller.plan import CreateOnce, SetStatus
from controller.reconcile import backup_session
from controller.reconcile.observed import Executor
from runner.metrics import samples as runner_samples
from tests.support.builders import (
    NOW,
    condition,
    configuration,
    configuration_spec,
    host,
    job,
    obj,
    report,
    reported,
    repository,
    restore,
    running_status,
    session,
    session_observed,
    snapshot,
)

CREATED_S = NOW.timestamp() - 3600
CURRENT = "stash_appscode_com_"
SESSION = {
    "invoker_kind": "BackupConfiguration", "invoker_name": "nightly", "namespace": "demo",
    "driver": "Restic", "repository": "repo",
}  # fmt: skip

Found = dict[str, list[tuple[dict[str, str], float]]]


@dataclass
class Shelf:
    """A lister of given objects."""

    objects: tuple[Obj, ...] = ()

    def get(self, key: Key) -> Obj | None:
        """Return one object."""
        return next((found for found in self.objects if key_of(found) == key), None)

    def by_index(self, index: str, value: str) -> Iterable[Obj]:
        """Nothing here needs an index."""
        raise NotImplementedError(index, value)

    def all(self) -> Iterable[Obj]:
        """Return every object."""
        return iter(self.objects)


@dataclass
class World:
    """A registry with the collector over given objects."""

    repositories: tuple[Obj, ...] = ()
    configurations: tuple[Obj, ...] = ()
    sessions: tuple[Obj, ...] = ()
    restores: tuple[Obj, ...] = ()
    leads: bool = True
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        none = Shelf()
        caches = Caches(
            Shelf(self.repositories), Shelf(self.configurations), Shelf(self.sessions),
            Shelf(self.restores), none, none, none, none, none, none, none,
            none, none, snapshots_served=lambda: False, snapshots_defined=lambda: False,
        )  # fmt: skip
        self.registry.register(StateCollector(caches, leads=lambda: self.leads))

    def scrape(self) -> Found:
        """Return labels and values by name, as an independent parser reads the text."""
        found: Found = {}
        for family in text_string_to_metric_families(generate_latest(self.registry).decode()):
            assert family.type == "gauge"
            for sample in family.samples:
                found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
        for name, samples in found.items():
            series = [tuple(sorted(labels.items())) for labels, _ in samples]
            assert len(series) == len(set(series)), f"{name} has a series twice"
        return found


def ended(
    name: str, phase: str, *, age_s: float = 3600, of: str = "nightly", **stats: Any
) -> dict[str, Any]:
    """Return a BackupSession that ran for 16 s."""
    status = {
        **running_status(),
        "phase": phase,
        "sessionDuration": "16s",
    }
    entry = {"hostname": "host-0", "phase": phase, "duration": "3.5s", **stats}
    status["targets"] = [{**status["targets"][0], "phase": phase, "stats": [entry]}]
    return session(name, of=of, age_s=age_s, status=status)


def test_state_of_a_configuration() -> None:
    """Creation, a constant with what it plans, and each condition with its status."""
    conditions = [condition("CronJobCreated"), condition("RepositoryFound", "False")]
    nightly = configuration(status={"phase": "Ready", "conditions": conditions})
    found = World(configurations=(nightly,)).scrape()
    where = {
        "invoker_kind": "BackupConfiguration", "invoker_name": "nightly", "namespace": "demo"
    }  # fmt: skip
    plan = {
        "driver": "Restic", "repository": "repo", "schedule": "*/5 * * * *",
        "target_api_version": "v1", "target_kind": "PersistentVolumeClaim", "target_name": "data",
    }  # fmt: skip
    assert found == {
        CURRENT + "backupconfiguration_created": [(where, CREATED_S)],
        CURRENT + "backupconfiguration_info": [({**where, **plan}, 1)],
        CURRENT + "backupconfiguration_conditions": [
            ({**where, "condition": "CronJobCreated", "status": "True"}, 1),
            ({**where, "condition": "RepositoryFound", "status": "False"}, 1),
        ],
    }


def test_state_of_sessions() -> None:
    """Each session has its creation and its phase; one that nobody has seen yet is Pending."""
    found = World(
        sessions=(session("a", age_s=3600), session("b", age_s=3600, status=running_status()))
    ).scrape()
    assert set(found) == {CURRENT + "backupsession_created", CURRENT + "backupsession_info"}
    labels = {
        "invoker_api_group": "stash.appscode.com", "invoker_kind": "BackupConfiguration",
        "invoker_name": "nightly", "namespace": "demo",
    }  # fmt: skip
    assert found[CURRENT + "backupsession_created"] == [
        ({**labels, "name": "a"}, CREATED_S),
        ({**labels, "name": "b"}, CREATED_S),
    ]
    assert found[CURRENT + "backupsession_info"] == [
        ({**labels, "name": "a", "phase": "Pending"}, 1),
        ({**labels, "name": "b", "phase": "Running"}, 1),
    ]


def test_state_of_restores_and_repositories() -> None:
    """A RestoreSession is its own invoker; of a Repository only the creation is told."""
    found = World(
        repositories=(repository(),), restores=(restore(age_s=3600, status={"phase": "Invalid"}),)
    ).scrape()
    where = {
        "invoker_kind": "RestoreSession", "invoker_name": "bring-back", "namespace": "demo"
    }  # fmt: skip
    assert found == {
        CURRENT + "repository_created": [({"name": "repo", "namespace": "demo"}, CREATED_S)],
        CURRENT + "restoresession_created": [(where, CREATED_S)],
        CURRENT + "restoresession_info": [
            (
                {
                    **where, "driver": "Restic", "repository": "repo", "target_api_version": "v1",
                    "target_kind": "PersistentVolumeClaim", "target_name": "data",
                    "phase": "Invalid",
                },
                1,
            )
        ],
    }  # fmt: skip


def told(done: RunReport) -> tuple[list[Sample], Found]:
    """Return what the Job of a backup pushes, and what is scraped when its session has ended.

    The whole way: the planner's Job, its input, the runner's push; its report, the planner's
    statuses, the scrape.
    """
    fresh = session(age_s=100)
    (body,) = (
        write.body
        for write in backup_session.plan(session_observed(fresh), NOW).writes
        if isinstance(write, CreateOnce) and write.resource.kind == "Job"
    )
    (text,) = (
        entry["value"]
        for entry in body["spec"]["template"]["spec"]["containers"][0]["env"]
        if entry["name"] == ENVIRONMENT_VARIABLE
    )
    pushed = list(
        runner_samples(
            done, JobInput.decode(text), now_s=NOW.timestamp(), created_s=NOW.timestamp() - 100
        )
    )

    running = session(age_s=100, status=running_status())
    plan = backup_session.plan(
        session_observed(running, executor=Executor(job(running), reported(done))), NOW
    )
    status = {
        write.ref.resource.kind: write.status
        for write in plan.writes
        if isinstance(write, SetStatus)
    }
    world = World(
        repositories=(repository(status=status["Repository"]),),
        configurations=(configuration(),),
        sessions=(session(age_s=100, status=status["BackupSession"]),),
    )
    return pushed, world.scrape()


def test_a_backup_reads_as_it_was_pushed() -> None:
    """Every metric that a Job pushes comes back from the statuses, labels and all.

    Sizes lose what three decimals do not hold.
    """
    done = report(
        host(snapshots=(snapshot(processing_s=61.0),)),
        repository=RepositoryReport(
            id="ab" * 32, integrity=True, size_bytes=5 << 20, snapshots_kept=4, snapshots_removed=1
        ),
    )
    pushed, found = told(done)
    assert len(pushed) == 40
    for name, labels, value in pushed:
        ((found_labels, found_value),) = found[name]
        assert found_labels == dict(labels), name
        assert found_value == pytest.approx(value, rel=0.0006), name
    extra = set(found) - {name for name, _, _ in pushed}
    assert all(name.endswith(("_created", "_info", "_conditions")) for name in extra)


DAMAGED = report(repository=RepositoryReport(id="ab" * 32, integrity=False, size_bytes=5 << 20))


@pytest.mark.parametrize(
    ("done", "host_succeeded"),
    [
        (report(host(succeeded=False, reason="ResticFailed", error="x", snapshots=())), 0),
        # `restic check` found damage: the snapshot was made, and is worth nothing
        (DAMAGED, 1),
        # a third party's step says that it succeeded, and names no snapshot
        (report(host(snapshots=())), 0),
        (report(host(snapshots=(snapshot(id="none"),))), 0),
    ],
    ids=["failed", "damaged", "no snapshot", "no id"],
)
def test_a_failed_session_is_no_success_whatever_its_hosts_say(
    done: RunReport, host_succeeded: int
) -> None:
    """What is pushed and what is scraped agree with the phase: no success, and no time of one."""
    pushed, found = told(done)
    value = {name: value for name, _, value in pushed}
    for family, legacy in (
        (CURRENT + "backupsession_success", "stash_backup_session_success"),
        (CURRENT + "backupsession_target_success", "stash_backup_target_success"),
    ):
        assert (value[family], value[legacy]) == (0, 0)
    assert value["stash_backup_host_backup_success"] == host_succeeded
    assert not any("last_success" in name for name in {*value, *found})
    for name, sample in value.items():
        if "processing_time" not in name:  # whole seconds in a status
            (scraped,) = (scraped for _, scraped in found[name])
            assert scraped == pytest.approx(sample, rel=0.0006), name


def test_a_failure_keeps_what_only_success_knows() -> None:
    """As in a gateway: success is 0, but duration and sizes stay those of the last good one."""
    good = ended("nightly-1", "Succeeded", age_s=7200, snapshots=[{"totalSize": "1.500 KiB"}])
    bad = ended("nightly-2", "Failed", age_s=60, error="OOMKilled: killed")
    skipped = session("nightly-3", age_s=1, status={"phase": "Skipped"})
    found = World(configurations=(configuration(),), sessions=(bad, skipped, good)).scrape()
    value = {name: samples[0][1] for name, samples in found.items()}
    assert len(found[CURRENT + "backupsession_success"]) == 1
    assert value[CURRENT + "backupsession_success"] == 0
    assert value["stash_backup_target_success"] == 0
    assert value["stash_backup_host_backup_success"] == 0
    assert value[CURRENT + "backupsession_duration_seconds"] == 16
    assert value["stash_backup_host_data_size_bytes"] == 1536
    assert value[CURRENT + "backupsession_last_success_time_seconds"] == (
        NOW.timestamp() - 7200 + 16
    )


def test_a_session_that_never_started_is_a_failed_host() -> None:
    """Without statistics the host is the configuration's own."""
    target = {**configuration_spec()["target"], "alias": "db"}
    failed = session(status={"phase": "Failed"})
    found = World(
        configurations=(configuration(spec=configuration_spec(target=target)),), sessions=(failed,)
    ).scrape()
    ((labels, value),) = found["stash_backup_host_backup_success"]
    assert (labels["hostname"], labels["name"], value) == ("db", "data", 0)


def test_a_restore_reads_as_it_was_pushed() -> None:
    """Success 1 and durations of session and host, and nothing of a backup."""
    stats = [{"hostname": "host-0", "phase": "Succeeded", "duration": "1m2s"}]
    done = restore(status={"phase": "Succeeded", "sessionDuration": "1m5s", "stats": stats})
    found = World(restores=(done,)).scrape()
    value = {name: samples[0][1] for name, samples in found.items()}
    assert value["stash_restore_session_success"] == 1
    assert value[CURRENT + "restoresession_duration_seconds"] == 65
    assert value["stash_restore_host_restore_duration_seconds"] == 62
    assert not any("backup" in name for name in found)


@pytest.mark.parametrize("phase", ["Failed", "Unknown"])
def test_a_restore_that_did_not_succeed_is_no_success(phase: str) -> None:
    """The phase decides, as for backups."""
    stats = [{"hostname": "host-0", "phase": "Succeeded", "duration": "1m2s"}]
    done = restore(status={"phase": phase, "sessionDuration": "1m5s", "stats": stats})
    found = World(restores=(done,)).scrape()
    assert found["stash_restore_session_success"][0][1] == 0
    assert found["stash_restore_target_success"][0][1] == 0
    assert "stash_restore_session_duration_seconds" not in found


def test_configurations_that_share_a_repository_do_not_collide() -> None:
    """Each has series of its own, and those of a repository bear their invoker."""
    status = {"integrity": True, "snapshotCount": 7}
    found = World(
        repositories=(repository(status=status),),
        configurations=(configuration("a"), configuration("b"), configuration("never-ran")),
        sessions=(ended("a-1", "Succeeded", of="a"), ended("b-1", "Failed", of="b")),
    ).scrape()
    samples = found[CURRENT + "repository_snapshot_count"]
    assert [(labels["invoker_name"], value) for labels, value in samples] == [("a", 7), ("b", 7)]
    successes = found[CURRENT + "backupsession_success"]
    assert [(labels["invoker_name"], value) for labels, value in successes] == [("a", 1), ("b", 0)]


def test_only_the_leader_tells() -> None:
    """Two replicas must not double every sum."""
    world = World(configurations=(configuration(),), leads=False)
    assert world.scrape() == {}
    world.leads = True
    assert world.scrape() != {}


def test_what_is_gone_has_no_series() -> None:
    """A session whose configuration is gone is no backup of anything any more."""
    found = World(sessions=(ended("nightly-1", "Succeeded"),)).scrape()
    assert set(found) == {CURRENT + "backupsession_created", CURRENT + "backupsession_info"}


ODD: tuple[Mapping[str, Any], ...] = (
    {},
    {"phase": "Failed", "targets": "x"},
    {"phase": "Succeeded", "targets": [None]},
    {"phase": "Succeeded", "targets": [{"stats": [7, {}]}], "sessionDuration": 5},
    {"phase": "Failed", "targets": [{"stats": [{"hostname": 'a"\\\n', "snapshots": [{}, 1]}]}]},
    {
        "phase": "Succeeded",
        "sessionDuration": "long",
        "targets": [
            {
                "stats": [
                    {
                        "hostname": "h",
                        "phase": "Succeeded",
                        "duration": "1y",
                        "snapshots": [
                            {
                                "totalSize": "big",
                                "processingTime": "x",
                                "fileStats": {"newFiles": "1"},
                            }
                        ],
                    },
                    {"hostname": "h", "phase": "Succeeded"},
                ]
            }
        ],
    },
)


@pytest.mark.parametrize("status", ODD)
def test_odd_statuses_do_not_cost_the_scrape(status: Mapping[str, Any]) -> None:
    """Objects that somebody else wrote are told as far as they can be read."""
    odd = obj("Repository", "odd", spec={"backend": {"s3": 5}}, status={"totalSize": 3})
    twice = [condition("A"), condition("A", "False"), "x", {}]
    found = World(
        repositories=(odd, repository(status={"snapshotCount": True})),
        configurations=(
            configuration(status={"conditions": twice}),
            obj("BackupConfiguration", "x"),
        ),
        sessions=(session(status=status), obj("BackupSession", "bare")),
        restores=(restore(status=status), obj("RestoreSession", "bare")),
    ).scrape()
    assert len(found[CURRENT + "backupsession_info"]) == 2
    assert len(found[CURRENT + "restoresession_info"]) == 2
    assert len(found[CURRENT + "backupconfiguration_info"]) == 2


def test_openmetrics_can_say_it_too() -> None:
    """Prometheus asks for OpenMetrics first: names such as `_total` must not break that."""
    world = World(configurations=(configuration(),), sessions=(ended("nightly-1", "Succeeded"),))
    encode, content_type = choose_encoder("application/openmetrics-text;version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    text = encode(world.registry).decode()
    assert "\nstash_backup_target_count_total{" in text
    assert text.endswith("# EOF\n")


def test_thousands_of_objects() -> None:
    """One pass over each kind: ten times the objects cost about ten times the time."""

    def cost_s(count: int) -> float:
        names = [f"c{number}" for number in range(count)]
        world = World(
            repositories=(repository(),),
            configurations=tuple(configuration(name) for name in names),
            sessions=tuple(ended(f"{name}-1", "Succeeded", of=name) for name in names),
        )
        started = process_time()
        generate_latest(world.registry)
        return process_time() - started

    cost_s(10)
    assert cost_s(2000) < 30 * cost_s(200)


def test_a_deleted_invoker_takes_its_group_along() -> None:
    """Only a deletion does, and it names the group as pushes do."""
    removed: list[str] = []
    handle = _on_deletion("BackupConfiguration", removed.append)
    key, old = Key("demo", "nightly"), configuration()
    handle(Change(ChangeType.ADDED, key, None, old, initial=True))
    handle(Change(ChangeType.UPDATED, key, old, old))
    assert removed == []
    handle(Change(ChangeType.DELETED, key, old, None))
    assert removed == ["backupconfiguration-demo-nightly"]


def snapshot_configuration() -> Obj:
    """Return a configuration of flow B; it names a Repository, which it does not need."""
    target = {"ref": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db"}}
    spec = configuration_spec(driver="VolumeSnapshotter", target=target, task=None)
    return configuration(spec=spec)


def snapshot_session(phase: str = "Succeeded", *, failed: str = "") -> Obj:
    """Return a session of three claims; one of them may have failed."""
    done = ended("nightly-1", phase, age_s=100)
    done["status"]["targets"][0]["stats"] = [
        {
            "hostname": name,
            "phase": "Failed" if name == failed else "Succeeded",
            **({"error": "no space"} if name == failed else {"duration": "4s"}),
        }
        for name in ("data-db-0", "data-db-1", "data-db-2")
    ]
    return done


def test_a_session_of_volume_snapshots_has_a_host_for_each_claim() -> None:
    """As Stash labels them: no repository, and nothing measured of data that nobody read."""
    found = World(
        repositories=(repository(status={"integrity": True}),),
        configurations=(snapshot_configuration(),),
        sessions=(snapshot_session(),),
    ).scrape()
    ((labels, value),) = found[CURRENT + "backupsession_success"]
    common = {
        "invoker_kind": "BackupConfiguration", "invoker_name": "nightly", "namespace": "demo",
        "driver": "VolumeSnapshotter",
    }  # fmt: skip
    assert (labels, value) == ({**common, "kind": "PersistentVolumeClaim", "group": ""}, 1)
    ((labels, value),) = found["stash_backup_target_host_count_total"]
    assert (labels, value) == ({**common, "kind": "StatefulSet", "group": "apps", "name": "db"}, 3)
    durations = found[CURRENT + "backupsession_host_backup_duration_seconds"]
    assert {labels["hostname"]: value for labels, value in durations} == {
        "data-db-0": 4, "data-db-1": 4, "data-db-2": 4,
    }  # fmt: skip
    assert not any("repository_" in name and "created" not in name for name in found)
    assert not any("data_" in name or "files_" in name for name in found)


def test_a_session_of_volume_snapshots_failed_as_a_whole_or_in_one_claim() -> None:
    """A hook that failed afterwards counts, although every snapshot is there."""
    one = World(
        configurations=(snapshot_configuration(),),
        sessions=(snapshot_session("Failed", failed="data-db-1"),),
    ).scrape()
    hosts = {labels["hostname"]: value for labels, value in one["stash_backup_host_backup_success"]}
    assert hosts == {"data-db-0": 1, "data-db-1": 0, "data-db-2": 1}
    hook = World(
        configurations=(snapshot_configuration(),), sessions=(snapshot_session("Failed"),)
    ).scrape()
    for name, found in (("one", one), ("hook", hook)):
        ((_, value),) = found[CURRENT + "backupsession_success"]
        assert value == 0, name
    never = World(
        configurations=(snapshot_configuration(),),
        sessions=(session(status={"phase": "Failed"}),),
    ).scrape()
    assert never["stash_backup_session_success"][0][1] == 0
    assert "stash_backup_host_backup_success" not in never


def test_a_restore_that_nobody_can_prove_did_not_succeed() -> None:
    """Its claims wait for a consumer (D23)."""
    stats = [{"hostname": "data-db-0", "phase": "Unknown"}]
    done = restore(
        spec={"driver": "VolumeSnapshotter", "target": {"replicas": 1}},
        status={"phase": "Unknown", "sessionDuration": "5s", "stats": stats},
    )
    found = World(restores=(done,)).scrape()
    assert found["stash_restore_session_success"][0][1] == 0
    assert found["stash_restore_host_restore_success"][0][1] == 0


def test_a_restore_of_claims_has_no_other_target() -> None:
    """Its hosts are the claims that it made."""
    stats = [
        {"hostname": "data-db-0", "phase": "Succeeded", "duration": "4s"},
        {"hostname": "data-db-1", "phase": "Failed", "error": "class slow does not exist"},
    ]
    done = restore(
        spec={"driver": "VolumeSnapshotter", "target": {"replicas": 2}},
        status={"phase": "Failed", "sessionDuration": "5s", "stats": stats},
    )
    found = World(restores=(done,)).scrape()
    ((labels, value),) = found[CURRENT + "restoresession_success"]
    assert ("repository" not in labels, labels["driver"], value) == (True, "VolumeSnapshotter", 0)
    ((labels, value),) = found["stash_restore_target_success"]
    assert (labels["kind"], labels["group"], labels["name"]) == ("PersistentVolumeClaim", "", "")
    hosts = found["stash_restore_host_restore_success"]
    assert [(labels["hostname"], value) for labels, value in hosts] == [
        ("data-db-0", 1),
        ("data-db-1", 0),
    ]
