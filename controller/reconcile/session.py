"""BackupSessions of both kinds: what was observed says which planner's it is."""

from datetime import datetime

from controller.plan import Plan
from controller.reconcile import backup_session, snapshot_session
from controller.reconcile.observed import SessionObserved
from controller.reconcile.snapshot_observed import SnapshotSessionObserved


def plan(seen: SessionObserved | SnapshotSessionObserved, now: datetime) -> Plan:
    """Return what a BackupSession needs now."""
    if isinstance(seen, SnapshotSessionObserved):
        return snapshot_session.plan(seen, now)
    return backup_session.plan(seen, now)
