"""What pods may do at the API server."""

from typing import Any

from controller.api.backup import BackupConfigurationSpec
from controller.api.catalog import TaskSpec
from controller.api.resources import ROLE, ROLE_BINDING, SERVICE_ACCOUNT
from controller.build.job import backup_job
from controller.build.order import JobOrder
from controller.build.rbac import (
    job_rbac,
    job_service_account,
    needs_api_access,
    trigger_rbac,
    trigger_service_account,
)
from tests.support.orders import backup_order, configuration_spec, functions, obj, parsed


def order(pod: dict[str, Any] | None = None, *, asks: bool = False) -> JobOrder:
    """Return an order with pod settings whose Task asks for the Secret's name, or is ours."""
    changes: dict[str, Any] = {"runtimeSettings": {"pod": pod or {}}}
    if not asks:
        return backup_order(spec=changes)
    task = {"steps": [{"name": "asking"}, {"name": "update-status"}]}
    return backup_order(
        spec=changes,
        task=parsed(TaskSpec, task),
        functions=functions({"asking": {"image": "x", "args": ["${REPOSITORY_SECRET_NAME}"]}}),
    )


def pod_of(order: JobOrder) -> Any:
    """Return the pod spec of an order's Job."""
    job = backup_job(order)
    assert not isinstance(job, tuple)
    return job["spec"]["template"]["spec"]


def test_our_own_task_needs_nothing() -> None:
    """A plain backup costs no RBAC object, and its pod has no token."""
    assert job_rbac(order()) == ()
    assert job_service_account(order()) == ""
    assert not needs_api_access(order())
    assert "serviceAccountName" not in pod_of(order())


def test_a_third_party_that_asks_gets_one_secret() -> None:
    """The right is on the one Secret, ends with the session, and only this pod has it (D26)."""
    account, role, binding = job_rbac(order(asks=True))
    assert [resource for resource, _ in (account, role, binding)] == [
        SERVICE_ACCOUNT,
        ROLE,
        ROLE_BINDING,
    ]
    assert account[1]["metadata"]["name"] == "backupconfiguration-nightly-0"
    assert account[1]["metadata"]["ownerReferences"][0]["kind"] == "BackupConfiguration"
    assert account[1]["automountServiceAccountToken"] is False
    assert role[1]["metadata"]["name"] == "stash-backup-nightly-1700000000-0"
    assert role[1]["metadata"]["ownerReferences"][0]["kind"] == "BackupSession"
    assert role[1]["rules"] == [
        {
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": ["s3-secret"],
            "verbs": ["get"],
        }
    ]
    assert binding[1]["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "Role",
        "name": "stash-backup-nightly-1700000000-0",
    }
    assert binding[1]["subjects"] == [
        {
            "kind": "ServiceAccount",
            "name": "backupconfiguration-nightly-0",
            "namespace": "demo",
        }
    ]
    pod = pod_of(order(asks=True))
    assert pod["automountServiceAccountToken"] is True
    assert pod["serviceAccountName"] == "backupconfiguration-nightly-0"


def test_a_given_service_account_is_used_and_not_created() -> None:
    """The user's ServiceAccount replaces ours; only its binding to the Secret is added."""
    given = order({"serviceAccountName": "mine"}, asks=True)
    assert [resource for resource, _ in job_rbac(given)] == [ROLE, ROLE_BINDING]
    assert job_rbac(given)[1][1]["subjects"][0]["name"] == "mine"
    ours = order({"serviceAccountName": "mine"})
    assert job_rbac(ours) == ()
    assert pod_of(ours)["serviceAccountName"] == "mine"
    assert pod_of(ours)["automountServiceAccountToken"] is False


def test_an_identity_of_a_cloud_gets_a_stable_service_account() -> None:
    """Annotations ask for a ServiceAccount that a cloud's role can be bound to, without token."""
    found = order({"serviceAccountAnnotations": {"eks.amazonaws.com/role-arn": "arn"}})
    ((resource, account),) = job_rbac(found)
    assert resource == SERVICE_ACCOUNT
    assert account["metadata"]["name"] == "backupconfiguration-nightly-0"
    assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] == "arn"
    assert pod_of(found)["serviceAccountName"] == "backupconfiguration-nightly-0"
    assert pod_of(found)["automountServiceAccountToken"] is False


def test_trigger() -> None:
    """The CronJob's pods get a ServiceAccount bound to the one ClusterRole for triggers."""
    spec = parsed(BackupConfigurationSpec, configuration_spec())
    configuration = obj("BackupConfiguration", "nightly")
    account, binding = trigger_rbac(configuration, spec)
    assert (account["kind"], binding["kind"]) == ("ServiceAccount", "RoleBinding")
    assert account["metadata"]["name"] == binding["metadata"]["name"] == "stash-trigger-nightly"
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": "drey-trigger",
    }
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "stash-trigger-nightly", "namespace": "demo"}
    ]


def test_trigger_with_a_given_service_account() -> None:
    """The user's ServiceAccount is bound, and none is created."""
    raw = configuration_spec(runtimeSettings={"pod": {"serviceAccountName": "mine"}})
    spec = parsed(BackupConfigurationSpec, raw)
    configuration = obj("BackupConfiguration", "nightly")
    (binding,) = trigger_rbac(configuration, spec)
    assert binding["subjects"][0]["name"] == "mine"
    assert trigger_service_account(configuration, spec) == "mine"
