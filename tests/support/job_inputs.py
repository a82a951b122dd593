"""What a Job of ours is told, for tests that run no process."""

from controller.api.job_input import Invoker, JobInput, RepositoryInput, Target

JOB = JobInput(
    session_kind="BackupSession",
    session_namespace="demo",
    session_name="s",
    session_created="",
    invoker=Invoker("BackupConfiguration", "demo", "b"),
    target=Target("v1", "PersistentVolumeClaim", "demo", "data"),
    host="host-0",
    repository=RepositoryInput("repo", "demo", "s3", "s3:x/y", id="ab" * 32),
)
