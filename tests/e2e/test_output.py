"""What people read: `kubectl get`, `kubectl describe`, the operator's log. And what nobody may.

One space has a good backup, one that a trigger asked for, a good restore, a backup with a wrong key
and one with a wrong password: failures are where secrets slip out. Everything that it left behind
is searched.

Where a secret may be (D27): in the storage Secret, which is mounted into containers of our image,
in the memory of the runner, and in the environment of the restic processes that it starts, which
only root and their own user can read. restic takes a password by environment, file or command; a
file is trimmed, and a command would have to get it from somewhere as well.
"""

import base64
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pytest

from tests.support.audit import unix_s
from tests.support.cluster import Cluster, Space
from tests.support.node import Process, Watcher

KINDS = ("backupconfiguration", "backupsession", "repository", "restoresession")
PASSWORD = "Tr0ub4dor-in-no-log"  # noqa: S105 - of a repository in a test
WRONG_PASSWORD = "Wr0ng-in-no-log"  # noqa: S105 - as above
WRONG_KEY = "wrong-secret-key-in-no-log"
TRIGGER = "trigger-by-hand"
MOST_LINES = 10
RESTIC = "restic"
GATEWAY = "pushgateway"
ENVIRONMENT_SECRETS = {"RESTIC_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


@dataclass
class Story:
    """A space in which all has happened, and the processes that were seen meanwhile."""

    space: Space
    begun_s: float = field(default_factory=time.time)
    seen: list[Process] = field(default_factory=list)
    dumps: list[str] = field(default_factory=list)
    """Logs of pods, which are read before their pods go."""

    @property
    def secrets(self) -> dict[str, str]:
        """Return what must be nowhere: each value, also in base64, under a name to show."""
        s3 = self.space.cluster.info["s3"]
        plain = {
            "password": PASSWORD,
            "wrong password": WRONG_PASSWORD,
            "wrong key": WRONG_KEY,
            "access key": s3["access_key"],
            "secret key": s3["secret_key"],
        }
        encoded = {
            f"{name}, base64": base64.b64encode(value.encode()).decode()
            for name, value in plain.items()
        }
        return plain | encoded

    def found_in(self, text: str) -> list[str]:
        """Return the names of the secrets that are in a text."""
        return [name for name, value in self.secrets.items() if value in text]

    @cached_property
    def operator_log(self) -> list[dict[str, Any]]:
        """Return the lines of the operator's log about this space."""
        lines = self.operator_text.splitlines()
        parsed = [json.loads(line) for line in lines]
        return [line for line in parsed if line.get("namespace") == self.space.name]

    @cached_property
    def pushgateway_text(self) -> str:
        """Return the whole log of the Pushgateway: it says little."""
        return self.space.cluster.kubectl("logs", "-n", "drey", "deployment/drey", "-c", GATEWAY)

    @cached_property
    def operator_text(self) -> str:
        """Return the operator's log since the beginning of the story."""
        seconds = int(time.time() - self.begun_s) + 5
        return self.space.cluster.kubectl(
            "logs", "-n", "drey", "deployment/drey", "-c", "operator", f"--since={seconds}s"
        )


@pytest.fixture(scope="module")
def story(cluster: Cluster) -> Iterator[Story]:
    """Run everything once."""
    operator = cluster.list("pod", "drey", "app.kubernetes.io/component=operator")
    with cluster.space("output") as space, Watcher() as watcher:
        for pod in operator:
            watcher.add(pod["metadata"]["uid"])
        space.password = PASSWORD
        told = Story(space)
        _good_runs(told, watcher)
        _bad_runs(told, watcher)
        told.seen = watcher.seen
        yield told


def _good_runs(told: Story, watcher: Watcher) -> None:
    space = told.space
    # limited, so that the processes live long enough to be looked at
    space.ready(target={"args": ["--limit-upload=200"]}, backupHistoryLimit=5)
    space.exec("app", "head -c 800000 /dev/urandom > /data/random.bin")
    space.apply(space.session("good"))
    _watch(told, watcher, "stash-backup-good-0")
    space.wait_phase("backupsession", "good", "Succeeded")
    _trigger(told, watcher)
    space.apply(space.restore(target={"args": ["--limit-download=200"]}))
    _watch(told, watcher, "stash-restore-restore-0")
    space.wait_phase("restoresession", "restore", "Succeeded")


def _trigger(told: Story, watcher: Watcher) -> None:
    """Run the trigger's pod now, and wait for what it began.

    Not as a child of the CronJob, which would remove it before its log is read.
    """
    space = told.space
    cron_job = space.get("cronjob", "stash-trigger-backup") or {}
    template = cron_job["spec"]["jobTemplate"]
    labels = {"labels": template["metadata"]["labels"]}
    space.apply(space.object("batch/v1", "Job", TRIGGER, metadata=labels, spec=template["spec"]))
    _watch(told, watcher, TRIGGER)
    name = next(json.loads(line)["name"] for line in told.dumps[-1].splitlines())
    space.wait_phase("backupsession", name, "Succeeded")


def _bad_runs(told: Story, watcher: Watcher) -> None:
    space = told.space
    space.apply(space.secret(AWS_SECRET_ACCESS_KEY=WRONG_KEY))
    space.apply(space.session("wrong-key"))
    _watch(told, watcher, "stash-backup-wrong-key-0")
    space.wait_phase("backupsession", "wrong-key", "Failed", timeout_s=200.0)
    space.apply(space.secret(RESTIC_PASSWORD=WRONG_PASSWORD))
    space.apply(space.session("wrong-password"))
    _watch(told, watcher, "stash-backup-wrong-password-0")
    space.wait_phase("backupsession", "wrong-password", "Failed")


def _watch(told: Story, watcher: Watcher, job: str) -> None:
    """Look at the pod of a Job as soon as it is there, until it has ended; keep its log."""
    space = told.space

    def pod() -> dict[str, Any] | None:
        found = space.cluster.list("pod", space.name, f"batch.kubernetes.io/job-name={job}")
        return found[0] if found else None

    def has_ended() -> bool:
        found = pod()
        return found is not None and found["status"]["phase"] in ("Succeeded", "Failed")

    watcher.add(space.cluster.until(f"the pod of {job}", pod)["metadata"]["uid"])
    space.cluster.until(f"the end of {job}", has_ended, timeout_s=200.0)
    told.dumps.append(
        space.cluster.kubectl("logs", "-n", space.name, f"job/{job}", "--all-containers")
    )


def table(space: Space, kind: str) -> tuple[list[str], dict[str, list[str]]]:
    """Return the headings that `kubectl get` prints, and name → cells."""
    lines = space.cluster.kubectl("get", kind, "-n", space.name).splitlines()
    rows = [line.split() for line in lines]
    return rows[0], {row[0]: row[1:] for row in rows[1:]}


def test_get_shows_the_columns_of_stash(story: Story) -> None:
    """`kubectl get` shows each kind under Stash's headings, with values that a person wants."""
    headings, rows = table(story.space, "backupconfiguration")
    assert headings == ["NAME", "TASK", "SCHEDULE", "PAUSED", "PHASE", "AGE"]
    assert rows["backup"][0] == "pvc-backup"
    assert "Ready" in rows["backup"]

    headings, rows = table(story.space, "backupsession")
    assert headings == ["NAME", "INVOKER-TYPE", "INVOKER-NAME", "PHASE", "DURATION", "AGE"]
    assert rows["good"][:3] == ["BackupConfiguration", "backup", "Succeeded"]
    assert rows["good"][3].endswith("s")
    assert rows["wrong-password"][2] == "Failed"

    headings, rows = table(story.space, "repository")
    assert headings == [
        "NAME", "INTEGRITY", "SIZE", "SNAPSHOT-COUNT", "LAST-SUCCESSFUL-BACKUP", "AGE"
    ]  # fmt: skip
    integrity, _, unit, count, *_ = rows["repo"]
    assert (integrity, unit, count) == ("true", "KiB", "2")

    headings, rows = table(story.space, "restoresession")
    assert headings == ["NAME", "REPOSITORY", "PHASE", "DURATION", "AGE"]
    assert rows["restore"][:2] == ["repo", "Succeeded"]


def test_get_of_all_kinds_at_once(story: Story) -> None:
    """`kubectl get` with the four kinds, as in the documentation, and by Stash's short names."""
    text = story.space.cluster.kubectl("get", ",".join(KINDS), "-n", story.space.name)
    for name in ("backup", "good", "repo", "restore"):
        assert f"/{name} " in text
    for short in ("bc", "repo", "restore", "stash"):
        assert story.space.cluster.kubectl("get", short, "-n", story.space.name).strip(), short


def test_describe_explains_a_success(story: Story) -> None:
    """`kubectl describe` shows the snapshot, the conditions in words, and the Event of the end."""
    text = story.space.cluster.kubectl("describe", "backupsession", "good", "-n", story.space.name)
    for words in (
        "Succeeded", "host-0", "/stash-data", "Successfully applied retention policy.",
        "Repository integrity verification succeeded.", "Events:", "Normal",
    ):  # fmt: skip
        assert words in text, words


def test_describe_explains_a_failure(story: Story) -> None:
    """`kubectl describe` of a failed session says the reason and the object to mend."""
    for name, words in {
        "wrong-password": ("WrongPassword", "storage", "RESTIC_PASSWORD"),
        "wrong-key": ("BackendDenied", "storage"),
    }.items():
        text = story.space.cluster.kubectl(
            "describe", "backupsession", name, "-n", story.space.name
        )
        for word in ("Failed", "Warning", *words):
            assert word in text, (name, word, text)


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        (
            "backupconfiguration",
            "backup",
            (
                r"Phase: +Ready",
                r"Message: +Repository \S+/repo exist\.",
                r"Message: +Backend Secret \S+/storage exist\.",
                r"Message: +Backup target PersistentVolumeClaim \S+/data found\.",
                r"Message: +Successfully created backup triggering CronJob\.",
            ),
        ),
        (
            "repository",
            "repo",
            (
                r"Integrity: +true",
                r"Snapshot Count: +2",
                r"Total Size: +[\d.]+ KiB",
                r"Last Backup Time: +20\d\d-",
                r"References:\n +Kind: +BackupConfiguration\n +Name: +backup",
            ),
        ),
        (
            "restoresession",
            "restore",
            (
                r"Phase: +Succeeded",
                r"Hostname: +host-0",
                r"Session Duration: +[\dm]+s",
                r"Message: +Successfully validated\.",
                r"Events:\n",
                r"Host Restore Succeeded",
            ),
        ),
    ],
)
def test_describe_reads_well(story: Story, kind: str, name: str, words: tuple[str, ...]) -> None:
    """`kubectl describe` of the other kinds: phase, conditions in words, numbers, and no noise."""
    text = story.space.cluster.kubectl("describe", kind, name, "-n", story.space.name)
    for pattern in words:
        assert re.search(pattern, text), (pattern, text)
    for noise in ("Managed Fields", "last-applied", "<nil>", r"map\[", "Status: +False"):
        assert not re.search(noise, text), (noise, text)


def test_operator_tells_the_story_in_ten_lines(story: Story) -> None:
    """At most ten lines at INFO: seen and Job created, started, finished with its numbers."""
    session = story.space.get("backupsession", "good")
    assert session is not None
    begun = unix_s(session["metadata"]["creationTimestamp"])
    told = [line for line in story.operator_log if unix_s(line["timestamp"]) >= begun]
    end = next(i for i, line in enumerate(told) if line.get("step") == "finished")
    lines = [line for line in told[: end + 2] if line.get("name") != "restore"]
    assert len(lines) <= MOST_LINES, lines
    of_session = [line for line in lines if line["name"] == "good"]
    assert [line["step"] for line in of_session] == ["job_created", "started", "finished"]
    assert {line["level"] for line in of_session} == {"info"}
    created, started, finished = of_session
    assert created["job"] == "stash-backup-good-0"
    assert created["session_created"] == session["metadata"]["creationTimestamp"]
    assert started["pod"].startswith("stash-backup-good-0-")
    stat = session["status"]["targets"][0]["stats"][0]
    assert finished["snapshots"] == [stat["snapshots"][0]["name"]]
    assert finished["total_bytes"] == 800000
    assert finished["uploaded_bytes"] > 0
    assert finished["backup_s"] > 0
    assert finished["session_s"] > 0
    assert finished["phase"] == "Succeeded"


def test_runner_logs_progress_as_json(story: Story) -> None:
    """Every line of our Jobs' pods is JSON with a time, a level and an event."""
    lines = [json.loads(line) for dump in story.dumps for line in dump.splitlines()]
    assert lines
    for line in lines:
        assert {"timestamp", "level", "event"} <= line.keys(), line


def test_no_secret_in_logs(story: Story) -> None:
    """No password and no key is in a log of ours, also not after failures that are about them."""
    assert len(story.dumps) == 5
    for text in (*story.dumps, story.operator_text, story.pushgateway_text):
        assert text.strip()
        assert story.found_in(text) == []


def test_no_secret_in_objects_and_events(story: Story) -> None:
    """No object of the namespace but the storage Secret holds a secret: no status, Event, spec."""
    space = story.space
    listed = space.cluster.kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name")
    kinds = [kind for kind in listed.split() if kind != "secrets"]
    assert {"backupsessions.stash.appscode.com", "events.events.k8s.io", "jobs.batch"} <= set(kinds)
    text = space.cluster.kubectl("get", ",".join(kinds), "-n", space.name, "-o", "json")
    names = {item["kind"] for item in json.loads(text)["items"]}
    assert {"BackupSession", "Event", "Job", "Pod", "RestoreSession"} <= names
    assert story.found_in(text) == []


def test_no_secret_in_arguments(story: Story) -> None:
    """The kernel shows the arguments of every process of our pods: no secret is among them."""
    programs = {process.program for process in story.seen}
    assert {"python3", RESTIC, GATEWAY} <= programs, "runner, operator, restic, Pushgateway"
    verbs = {word for process in story.seen for word in process.argv}
    assert {"trigger", "backup", "restore"} <= verbs, "and each kind of pod"
    for process in story.seen:
        assert story.found_in(" ".join(process.argv)) == [], process.program


def test_secrets_in_the_environment_of_restic_only(story: Story) -> None:
    """Environment dumps of all processes: the credentials are restic's, under three names."""
    with_secret = [p for p in story.seen if _secret_names(story, p.environment)]
    assert {process.program for process in with_secret} == {RESTIC}
    for process in with_secret:
        assert _secret_names(story, process.environment) <= ENVIRONMENT_SECRETS


def _secret_names(story: Story, environment: Mapping[str, str]) -> set[str]:
    return {name for name, value in environment.items() if story.found_in(value)}
