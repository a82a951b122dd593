"""The plan of a RestoreSession: each driver has a planner of its own."""

from datetime import datetime

from controller.plan import Plan
from controller.reconcile import claim_restore, restore_session
from controller.reconcile.claim_observed import ClaimRestoreObserved
from controller.reconcile.observed import RestoreObserved


def plan(seen: RestoreObserved | ClaimRestoreObserved, now: datetime) -> Plan:
    """Return what a RestoreSession needs now."""
    if isinstance(seen, ClaimRestoreObserved):
        return claim_restore.plan(seen, now)
    return restore_session.plan(seen, now)
