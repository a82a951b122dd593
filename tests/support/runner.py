"""A runner process with a real restic and places of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from controller.api.job_input import (
    BackupInput,
    Invoker,
    JobInput,
    RepositoryInput,
    RestoreInput,
    Target,
)
from controller.api.report import RunReport
from controller.api.report_parsing import parse_report
from runner.log import rfc3339
from tests.support.apiserver import bin_folder

ROOT = Path(__file__).parents[2]
PASSWORD = b"correct horse"
CREATED = "2023-11-14T22:13:20Z"
"""Stands for a moment of its own for each run, so that snapshots are ordered as they were made."""


def restic_program() -> Path:
    """Return the real restic, built with the cluster's binaries (`support.apiserver`)."""
    return bin_folder() / "restic"


def unreadable_shim(path: Path) -> str:
    """Run restic's backup without root's right to read what its mode forbids."""
    caps = "-dac_override,-dac_read_search"
    return f"""
[ "$1" = backup ] || exec "$REAL" "$@"
chmod 000 {path}
exec setpriv --bounding-set={caps} "$REAL" "$@"
"""


@dataclass
class Run:
    """A finished runner."""

    code: int
    log: list[dict[str, Any]]
    report: RunReport | None
    text: str

    @property
    def host(self) -> Any:
        """Return the only host of the report."""
        assert self.report is not None, self.text
        (host,) = self.report.hosts
        return host

    def verbs(self) -> list[str]:
        """Return the restic commands, as the runner's own log tells them."""
        return [line["verb"] for line in self.log if line["event"] == "restic_ended"]


@dataclass
class Place:
    """Folders for one repository, one volume and one runner."""

    root: Path
    secret: dict[str, bytes] = field(default_factory=lambda: {"RESTIC_PASSWORD": PASSWORD})
    program: Path = field(default_factory=restic_program)
    environment: dict[str, str] = field(default_factory=dict)
    runs: int = 0

    @property
    def source(self) -> Path:
        """Return the volume."""
        return self.root / "volume"

    @property
    def repository(self) -> Path:
        """Return the folder of the local repository."""
        return self.root / "repository"

    def shim(self, script: str) -> None:
        """Put a program in the place of the real restic, which is `$REAL`."""
        folder = self.root / "shim"
        folder.mkdir(exist_ok=True)
        program = folder / "restic"
        program.write_text(f"#!/bin/sh\nREAL={restic_program()}\n{script}\n")
        program.chmod(0o755)
        self.program = program

    def job(self, **changes: Any) -> JobInput:
        """Return the input of a backup of the volume."""
        plan = BackupInput(
            paths=(str(self.source),),
            config_tag="drey:config=demo/data",
            target_tag="drey:target=PersistentVolumeClaim/demo/data",
        )
        repository = RepositoryInput(
            name="repo",
            namespace="demo",
            provider="local",
            url=str(self.repository),
            bucket=str(self.repository),
            may_initialise=True,
            secret_name="repo-secret",  # noqa: S106 - a name, not a password
        )
        job = JobInput(
            session_kind="BackupSession",
            session_namespace="demo",
            session_name="data-1700000000",
            session_created=CREATED,
            invoker=Invoker("BackupConfiguration", "demo", "data"),
            target=Target("v1", "PersistentVolumeClaim", "demo", "data"),
            host="host-0",
            repository=repository,
            backup=plan,
            metrics_group="backupconfiguration-demo-data",
        )
        return replace(job, **changes)

    def job_of(self, name: str) -> JobInput:
        """Return the input of another configuration with the same repository, host and path."""
        job = self.job()
        assert job.backup is not None
        plan = replace(
            job.backup,
            config_tag=f"drey:config=demo/{name}",
            target_tag=f"drey:target=PersistentVolumeClaim/demo/{name}",
        )
        return replace(job, backup=plan)

    def restore_job(self, **changes: Any) -> JobInput:
        """Return the input of a restore of the volume."""
        plan = RestoreInput(
            mount_path=str(self.source),
            target_tag="drey:target=PersistentVolumeClaim/demo/data",
            source_host="host-0",
        )
        return replace(
            self.job(),
            session_kind="RestoreSession",
            invoker=Invoker("RestoreSession", "demo", "data"),
            backup=None,
            restore=replace(plan, **changes),
        )

    def start(
        self, *arguments: str, job: JobInput | str, wrap: tuple[str, ...] = ()
    ) -> "subprocess.Popen[str]":
        """Start a runner."""
        secret = self.root / "secret"
        secret.mkdir(exist_ok=True)
        for old in secret.iterdir():
            old.unlink()
        for key, value in self.secret.items():
            (secret / key).write_bytes(value)
        self.message.unlink(missing_ok=True)
        self.runs += 1
        if isinstance(job, JobInput) and job.session_created == CREATED:
            job = replace(job, session_created=rfc3339(time.time() + self.runs))
        environment = {
            "PATH": os.environ["PATH"],
            "DREY_RESTIC": str(self.program),
            "DREY_SECRET_DIR": str(secret),
            "DREY_SCRATCH_DIR": str(self.root / "scratch"),
            "DREY_RESTORE_ROOT": str(self.root / "restored"),
            "DREY_TERMINATION_LOG": str(self.message),
            "DREY_INPUT": job if isinstance(job, str) else job.encode(),
            "PYTHONPATH": str(ROOT),
            **self.environment,
        }
        return subprocess.Popen(
            [*wrap, sys.executable, "-m", "runner", *arguments],
            env=environment,
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    @property
    def message(self) -> Path:
        """Return the termination message's file."""
        return self.root / "termination-log"

    def finish(self, process: "subprocess.Popen[str]", timeout_s: float = 120) -> Run:
        """Wait for a runner."""
        try:
            text, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            raise
        report = parse_report(self.message.read_text()) if self.message.exists() else None
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        return Run(process.returncode, lines, report, text)

    def run(self, *arguments: str, job: JobInput | str, timeout_s: float = 120) -> Run:
        """Run a runner to its end."""
        return self.finish(self.start(*arguments, job=job), timeout_s)

    def restic(self, *arguments: str, password: bytes = PASSWORD) -> str:
        """Run an independent restic, and return its stdout."""
        environment: Mapping[str, Any] = {
            "RESTIC_REPOSITORY": str(self.repository),
            "RESTIC_PASSWORD": password,
            "RESTIC_CACHE_DIR": str(self.root / "other-cache"),
            "HOME": str(self.root),
            "PATH": os.environ["PATH"],
        }
        done = subprocess.run(
            [str(restic_program()), *arguments], env=environment, check=False, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    def snapshots(self) -> list[dict[str, Any]]:
        """Return all snapshots, oldest first, as an independent restic lists them."""
        found: list[dict[str, Any]] = json.loads(self.restic("snapshots", "--json", "--no-lock"))
        return found
