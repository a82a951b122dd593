"""As whom the Jobs of the driver VolumeSnapshotter talk to the API server."""

from typing import Any

import pytest

from controller.api.backup import BackupConfigurationSpec
from controller.api.objects import Obj
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    BACKUP_SESSION,
    RESTORE_SESSION,
)
from controller.api.restore import RestoreSessionSpec
from controller.build.identity import (
    claim_account,
    claim_rbac,
    hook_account,
    hook_identity,
    hook_rbac,
    snapshot_account,
    snapshot_identity,
    snapshot_rbac,
)
from controller.build.rbac import job_rbac
from tests.support.orders import backup_order, parsed
from tests.support.snapshot_orders import CONFIGURATION, RESTORE, SESSION, settings, snapshot_spec

CLOUD = {"serviceAccountAnnotations": {"eks.amazonaws.com/role-arn": "arn"}}


def of_snapshots(pod: dict[str, Any]) -> tuple[str, tuple[Obj, ...]]:
    """Return account and objects of a configuration."""
    raw = snapshot_spec(runtimeSettings={"pod": pod})
    spec = parsed(BackupConfigurationSpec, raw)
    return snapshot_account(CONFIGURATION, spec), snapshot_rbac(CONFIGURATION, spec)


def of_claims(pod: dict[str, Any]) -> tuple[str, tuple[Obj, ...]]:
    """Return account and objects of a RestoreSession."""
    raw = {"driver": "VolumeSnapshotter", "runtimeSettings": {"pod": pod}}
    spec = parsed(RestoreSessionSpec, raw)
    return claim_account(RESTORE, spec), tuple(body for _, body in claim_rbac(RESTORE, spec))


def of_hooks(pod: dict[str, Any]) -> tuple[str, tuple[Obj, ...]]:
    """Return account and objects of a BackupSession with hooks."""
    order = (BACKUP_SESSION, SESSION, CONFIGURATION, BACKUP_CONFIGURATION, settings(pod=pod))
    return hook_account(*order), tuple(body for _, body in hook_rbac(*order))


KINDS = [
    (of_snapshots, "backupconfiguration-nightly-0", "drey-snapshot", "BackupConfiguration"),
    (of_claims, "restoresession-bring-back-0", "drey-restore", "RestoreSession"),
    (of_hooks, "stash-hook-identity-nightly-1767323045", "drey-hook", "BackupSession"),
]


@pytest.mark.parametrize(("of", "name", "role", "owner"), KINDS)
def test_an_identity_of_its_own(of: Any, name: str, role: str, owner: str) -> None:
    """A ServiceAccount that gives no token away, bound to one ClusterRole, both with one owner."""
    used, (account, binding) = of({})
    assert used == name
    assert (account["kind"], binding["kind"]) == ("ServiceAccount", "RoleBinding")
    assert account["automountServiceAccountToken"] is False
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": role,
    }
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": "demo"}]
    for body in (account, binding):
        assert body["metadata"]["name"] == name
        assert [o["kind"] for o in body["metadata"]["ownerReferences"]] == [owner]
        assert body["metadata"]["labels"]["drey.dev/created-by"] == "drey"
        assert len(body["metadata"]["annotations"]["drey.dev/spec-hash"]) == 16


@pytest.mark.parametrize(("of", "name", "role", "owner"), KINDS)
def test_a_given_service_account_is_only_bound(of: Any, name: str, role: str, owner: str) -> None:
    """The user's ServiceAccount is used; the binding keeps our name."""
    del owner
    used, (binding,) = of({"serviceAccountName": "mine"})
    assert used == "mine"
    assert binding["kind"] == "RoleBinding"
    assert (binding["metadata"]["name"], binding["roleRef"]["name"]) == (name, role)
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "mine", "namespace": "demo"}]


@pytest.mark.parametrize(("of", "name", "role", "owner"), KINDS)
def test_annotations_for_the_identity_of_a_cloud(of: Any, name: str, role: str, owner: str) -> None:
    """They go on the ServiceAccount, and on nothing else."""
    del name, role, owner
    _, (account, binding) = of(CLOUD)
    assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] == "arn"
    assert "eks.amazonaws.com/role-arn" not in binding["metadata"]["annotations"]


def test_both_drivers_agree_on_a_configurations_service_account() -> None:
    """It has one name in both flows: neither undoes what the other applies."""
    order = backup_order(spec={"runtimeSettings": {"pod": CLOUD}}, invoker=CONFIGURATION)
    ((_, account),) = job_rbac(order)
    assert of_snapshots(CLOUD)[1][0] == account


def test_names_are_found_without_an_object_to_build() -> None:
    """Observers look for the bindings by these names, which differ for both kinds of sessions."""
    assert snapshot_identity(CONFIGURATION) == "backupconfiguration-nightly-0"
    assert hook_identity(BACKUP_SESSION, "x") == "stash-hook-identity-x"
    assert hook_identity(RESTORE_SESSION, "x") == "stash-hook-identity-restore-x"


def test_the_hooks_of_a_restore_belong_to_it() -> None:
    """Its labels are those of a restore."""
    bodies = hook_rbac(RESTORE_SESSION, RESTORE, RESTORE, RESTORE_SESSION, settings())
    for _, body in bodies:
        assert body["metadata"]["labels"]["app.kubernetes.io/component"] == "stash-restore"
        assert body["metadata"]["ownerReferences"][0]["kind"] == "RestoreSession"
