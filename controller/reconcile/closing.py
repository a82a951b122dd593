"""What is left to do when a session ends, whatever its kind.

Its Job is stopped, its dead pod's lock removed (D8), its right to read the Secret withdrawn (D26).
"""

from controller.api.objects import dig
from controller.api.resources import JOB
from controller.build.job import JobOrder, unlock_job
from controller.plan import CreateOnce, Delete, Ref, Refusal, Write
from controller.reconcile.observed import Executor
from controller.reconcile.verdicts import Died, Ended


def closing_writes(
    before: tuple[Write, ...],
    status: tuple[Write, ...],
    refusal: Refusal | None,
    *,
    after: tuple[Write, ...] = (),
) -> tuple[Write, ...]:
    """Return the last writes of a session, in order.

    The status comes last: whatever is interrupted before it is done again. `after` it comes what
    would take along what the status is made from. Once a write was refused the status comes first,
    so that no other refusal can hold it up, and the refused one is left out.
    """
    if refusal is None:
        return (*before, *status, *after)
    return (*status, *(write for write in (*before, *after) if write != refusal.write))


def stopped_after(executor: Executor, ended: Ended | None) -> tuple[Write, ...]:
    """Return what stops a Job that reported and would not end: once the report is recorded."""
    if ended is None or not ended.end_job or executor.job is None:
        return ()
    return (Delete(Ref.by_uid(JOB, executor.job)),)


def removals(
    executor: Executor,
    access: tuple[Ref, ...],
    died: Died | None,
    order: JobOrder | str,
    *,
    replaced: bool = False,
) -> tuple[Write, ...]:
    """Return what removes that which outlives a Job. `order` is a text when none can be built.

    `replaced` says that an earlier pod of the Job was lost to a disruption. It may have left a lock
    as well: once the last one has reported, none of their host name lives. Of a Job that has to be
    stopped one may.
    """
    writes: list[Write] = []
    if died is not None and died.end_job and executor.job is not None:
        writes.append(Delete(Ref.by_uid(JOB, executor.job)))
    may_be_locked = replaced if died is None else died.release_lock
    if may_be_locked and isinstance(order, JobOrder):
        hostname = str(dig(executor.pod, "spec", "hostname") or "")
        unlock = unlock_job(order, hostname=hostname)
        if not isinstance(unlock, tuple):
            writes.append(CreateOnce(JOB, unlock))
    writes += [Delete(ref) for ref in access]
    return tuple(writes)
