"""What is left to do when a session ends, whatever its kind.

Its Job is stopped, its dead pod's lock removed (D8), its right to read the Secret withdrawn (D26).
"""

from controller.api.objects import dig
from controller.api.resources import JOB
from controller.build.job import JobOrder, unlock_job
from controller.plan import CreateOnce, Delete, Ref, Refusal, Write
from controller.reconcile.observed import Executor
from controller.reconcile.verdicts import Died


def closing_writes(
    before: tuple[Write, ...], status: tuple[Write, ...], refusal: Refusal | None
) -> tuple[Write, ...]:
    """Return the last writes of a session, in order.

    The status comes last: whatever is interrupted before it is done again. Once a write was
    refused it comes first, so that no other refusal can hold it up, and the refused one is left
    out.
    """
    if refusal is None:
        return (*before, *status)
    return (*status, *(write for write in before if write != refusal.write))


def removals(
    executor: Executor, access: tuple[Ref, ...], died: Died | None, order: JobOrder | str
) -> tuple[Write, ...]:
    """Return what removes that which outlives a Job. `order` is a text when none can be built."""
    writes: list[Write] = []
    if died is not None and died.end_job and executor.job is not None:
        writes.append(Delete(Ref.by_uid(JOB, executor.job)))
    if died is not None and died.release_lock and isinstance(order, JobOrder):
        hostname = str(dig(executor.pod, "spec", "hostname") or "")
        unlock = unlock_job(order, hostname=hostname)
        if not isinstance(unlock, tuple):
            writes.append(CreateOnce(JOB, unlock))
    writes += [Delete(ref) for ref in access]
    return tuple(writes)
