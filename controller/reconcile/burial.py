"""What is left to do for a session whose Job died: end the Job, remove the lock of its pod (D8)."""

from controller.api.objects import Obj, dig
from controller.api.resources import JOB
from controller.build.job import JobOrder, unlock_job
from controller.plan import CreateOnce, Delete, Ref, Write
from controller.reconcile.execution import Died
from controller.reconcile.observed import Executor


def burial(
    executor: Executor, died: Died, order: JobOrder | str, *, refused: bool
) -> tuple[Write, ...]:
    """Return the writes.

    `order` is that of the dead Job, or why there is none any more. `refused`: the API server did
    not have a write of this session; what is done here must not keep it from ending, so nothing is
    created then.
    """
    writes: list[Write] = []
    if died.end_job and executor.job is not None:
        ref = Ref.to(JOB, executor.job)
        writes.append(Delete(Ref(JOB, ref.namespace, ref.name, ref.uid)))
    if died.release_lock and not refused and (unlock := _unlock(executor, order)):
        writes.append(CreateOnce(JOB, unlock))
    return tuple(writes)


def _unlock(executor: Executor, order: JobOrder | str) -> Obj | None:
    """Return the Job that removes the dead pod's lock, None when it cannot be built."""
    hostname = dig(executor.pod, "spec", "hostname")
    if not hostname or isinstance(order, str):
        return None
    job = unlock_job(order, hostname=str(hostname))
    return None if isinstance(job, tuple) else job
