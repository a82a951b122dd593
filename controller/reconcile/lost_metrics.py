"""What the controller pushes for a session whose Job could not (stash.md 8.2, "on failure")."""

from controller.api.backup import BackupConfigurationSpec, host_of
from controller.api.conditions import Phase
from controller.api.job_input import Invoker, Target
from controller.api.metrics import Subject, session_samples
from controller.api.objects import Obj, is_deleting, name_of, namespace_of
from controller.api.report import HostReport, RunReport
from controller.api.restore import RestoreSessionSpec
from controller.build.input import metrics_group
from controller.plan import Push
from controller.reconcile.session_status import Outcome


def pushes_for(
    result: Outcome,
    report: RunReport | None,
    invoker: Obj | None,
    spec: BackupConfigurationSpec | RestoreSessionSpec | None,
) -> tuple[Push, ...]:
    """Return zeros for session, target and host, of a session that failed and pushed nothing.

    None while the invoker is being deleted: its group is deleted with it, and would come back.
    """
    pushed = report is not None and report.metrics is not None
    if result.phase is not Phase.FAILED or pushed or invoker is None or is_deleting(invoker):
        return ()
    if spec is None or spec.target is None or spec.repository is None:
        return ()
    ref, namespace, name = spec.target.ref, namespace_of(invoker), name_of(invoker)
    is_restore = isinstance(spec, RestoreSessionSpec)
    kind = "RestoreSession" if is_restore else "BackupConfiguration"
    subject = Subject(
        Invoker(kind, namespace, name),
        Target(ref.api_version, ref.kind, ref.namespace or namespace, ref.name),
        spec.repository.name,
        is_restore=is_restore,
    )
    lost = HostReport(host_of(spec.target.alias), succeeded=False)
    samples = tuple(session_samples(subject, (lost,), duration_s=0.0, ended_s=0.0, succeeded=False))
    return (Push(metrics_group(kind, namespace, name), samples),)
