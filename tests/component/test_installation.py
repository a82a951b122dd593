"""The manifests on a real API server: installing, rights, pod security, uninstalling.

The garbage collector, the Deployment's controllers and the aggregation of ClusterRoles are the real
ones, too: a kube-controller-manager runs beside the API server.
"""

import ast
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.api import resources
from controller.api.backup import BackupConfigurationSpec
from controller.api.model import parse_spec
from controller.api.names import trigger_name
from controller.api.objects import Obj, dig, name_of, uid_of
from controller.api.resources import (
    BACKUP_CONFIGURATION,
    BACKUP_SESSION,
    CORE_EVENT,
    CRD,
    CRON_JOB,
    EVENT,
    FUNCTION,
    JOB,
    LEASE,
    PERSISTENT_VOLUME,
    POD,
    PVC,
    REPOSITORY,
    RESTORE_SESSION,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE_ACCOUNT,
    STORAGE_CLASS,
    TASK,
    VOLUME_SNAPSHOT,
    VOLUME_SNAPSHOT_CONTENT,
    Resource,
)
from controller.api.restore import RestoreSessionSpec
from controller.api.workload import WORKLOADS
from controller.build.child import child, owner_reference
from controller.build.cronjob import trigger_cron_job
from controller.build.identity import (
    HOOK_CLUSTER_ROLE,
    RESTORE_CLUSTER_ROLE,
    SNAPSHOT_CLUSTER_ROLE,
    claim_account,
    claim_rbac,
    hook_account,
    hook_rbac,
    snapshot_account,
    snapshot_rbac,
)
from controller.build.installation import Installation
from controller.build.rbac import TRIGGER_CLUSTER_ROLE, trigger_rbac
from controller.kube.client import Client
from controller.kube.errors import Forbidden
from runner.trigger import TRIGGER_VARIABLE, backup_session, create, parse_trigger
from tests.support import apiserver as support
from tests.support.apiserver import ApiServer
from tests.support.clients import patient_client

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "manifests"
HOME = "drey"
DEADLINE_S = 60.0
CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "deployment-controller",
    "replicaset-controller",
    "namespace-controller",
    "garbage-collector-controller",
)
RULES_REVIEW = Resource(
    "authorization.k8s.io",
    "v1",
    "SelfSubjectRulesReview",
    "selfsubjectrulesreviews",
    namespaced=False,
)
CLUSTER_ROLE = Resource(ROLE.group, "v1", "ClusterRole", "clusterroles", namespaced=False)


@dataclass(frozen=True)
class Need:
    """What one part of the code asks of one resource."""

    who: str
    resource: Resource
    verbs: str
    subresource: str = ""
    name: str = ""

    def rights(self) -> set[tuple[str, str, str, str]]:
        """Return group, resource, verb and name, as `granted` does."""
        plural = "/".join(filter(None, (self.resource.plural, self.subresource)))
        return {(self.resource.group, plural, verb, self.name) for verb in self.verbs.split()}


OWN = (REPOSITORY, BACKUP_CONFIGURATION, BACKUP_SESSION, RESTORE_SESSION, FUNCTION, TASK)
WITH_STATUS = (REPOSITORY, BACKUP_CONFIGURATION, BACKUP_SESSION, RESTORE_SESSION)
CHILDREN = (JOB, CRON_JOB, POD, SERVICE_ACCOUNT, ROLE_BINDING)
SNAPSHOT_DEFINITION = f"{VOLUME_SNAPSHOT.plural}.{VOLUME_SNAPSHOT.group}"
BOUND = (TRIGGER_CLUSTER_ROLE, SNAPSHOT_CLUSTER_ROLE, RESTORE_CLUSTER_ROLE, HOOK_CLUSTER_ROLE)

# An Apply is `patch`, and `create` where the object may not exist; a CreateOnce is `create`, and
# `get` when it exists already.
EVERYWHERE = (
    *(Need("app: informers; observe: live GETs", kind, "get list watch") for kind in OWN),
    *(Need("app: informers; executor: whose child is it", kind, "get list watch")
      for kind in CHILDREN),
    *(Need("reconcile: SetStatus", kind, "update", "status") for kind in WITH_STATUS),
    *(Need("build.child: blockOwnerDeletion", kind, "update", "finalizers")
      for kind in (BACKUP_CONFIGURATION, BACKUP_SESSION, RESTORE_SESSION)),
    *(Need("reconcile: Finalizer of Stash's", kind, "patch")
      for kind in (REPOSITORY, BACKUP_CONFIGURATION, RESTORE_SESSION)),
    Need("reconcile.snapshot_start, snapshot_end: Finalizer", BACKUP_SESSION, "patch"),
    Need("reconcile.backup_end: annotations", REPOSITORY, "patch"),
    Need("reconcile.backup_end: history", BACKUP_SESSION, "delete"),
    Need("reconcile.retry: CreateOnce", BACKUP_SESSION, "create"),
    Need("reconcile.catalog", FUNCTION, "create patch"),
    Need("reconcile.catalog", TASK, "create patch"),
    Need("reconcile sessions: CreateOnce, Delete", JOB, "create delete"),
    Need("reconcile.backup_configuration", CRON_JOB, "create patch delete"),
    Need("build.rbac, build.identity", SERVICE_ACCOUNT, "create patch"),
    Need("build.rbac, build.identity", ROLE_BINDING, "create patch"),
    *(Need("build.rbac, build.identity", CLUSTER_ROLE, "bind", name=name) for name in BOUND),
    Need("build.rbac: job_rbac", ROLE, "create get"),
    *(Need("reconcile.closing: D26", kind, "delete") for kind in (ROLE, ROLE_BINDING)),
    Need("reconcile.backup_configuration: another driver", ROLE_BINDING, "delete"),
    Need("observe.live: read_secret", SECRET, "get"),
    Need("observe.live: read_pvc", PVC, "get"),
    Need("observe.live: read_words", CORE_EVENT, "list"),
    *(Need("app: informers", kind, "list watch") for kind in (VOLUME_SNAPSHOT, PVC)),
    Need("app: are VolumeSnapshots served", CRD, "list watch", name=SNAPSHOT_DEFINITION),
    Need("reconcile.snapshot_end: retention", VOLUME_SNAPSHOT, "delete"),
    *(Need("observe.live_storage: read_target", kind, "get") for kind in WORKLOADS.values()),
    Need("observe.live_storage: read_claims", PVC, "get list"),
    Need("observe.live_storage: read_snapshots", VOLUME_SNAPSHOT, "get list"),
    Need("observe.live_storage: read_snapshot_content", VOLUME_SNAPSHOT_CONTENT, "get"),
    Need("observe.live_storage: read_storage_class", STORAGE_CLASS, "get list"),
    Need("observe.live_storage: read_volume", PERSISTENT_VOLUME, "get"),
    Need("observe.live_storage: read_claim_words", CORE_EVENT, "list"),
    Need("engine.events", EVENT, "get create patch"),
)  # fmt: skip
AT_HOME = (
    Need("engine.election", LEASE, "create"),
    Need("engine.election", LEASE, "get update", name="drey"),
    Need("engine.leader_label", POD, "list watch patch"),
)
OF_TRIGGER = (Need("runner.trigger", BACKUP_SESSION, "create"),)
OF_SNAPSHOT = (Need("runner.creation", VOLUME_SNAPSHOT, "get create"),)
OF_RESTORE = (Need("runner.creation", PVC, "get create"),)
OF_HOOK = (
    Need("runner.hook", POD, "get list"),
    Need("runner.hook: controller.kube.exec", POD, "get create", "exec"),
)


def eventually(what: str, check: Callable[[], bool]) -> None:
    """Wait for what another process brings about."""
    deadline = time.monotonic() + DEADLINE_S
    while not check():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.1)


@contextmanager
def controller_manager(server: ApiServer) -> Iterator[None]:
    """Run the controllers that make an installation work."""
    argv = [
        str(server.binaries / "kube-controller-manager"),
        f"--kubeconfig={server.kubeconfig}",
        f"--controllers={','.join(CONTROLLERS)}",
        "--leader-elect=false",
        "--secure-port=0",
    ]
    with (
        (server.folder / "controller-manager.log").open("wb") as log,
        subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *argv], stdout=log, stderr=subprocess.STDOUT
        ) as child_process,
    ):
        try:
            yield
        finally:
            child_process.kill()


def install(server: ApiServer) -> None:
    """Install as the kustomization's head says; a warning of the API server is an error."""
    server.kubectl(
        "apply", "--server-side", "--validate=strict", "--warnings-as-errors", "-k", str(MANIFESTS)
    )


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    """Run an API server of this module's own, with everything installed."""
    with support.running() as running, controller_manager(running):
        running.install_crds()
        install(running)
        yield running


@pytest.fixture(scope="module")
def client(server: ApiServer) -> Client:
    """Return the product's own client, with the token of the controller's ServiceAccount."""
    made = client_of(server, HOME, "drey")
    first = EVERYWHERE[0].rights() | AT_HOME[0].rights()
    eventually("the controller's rights", lambda: first <= granted(made, HOME))
    return made


@pytest.fixture(scope="module")
def admin(server: ApiServer) -> Client:
    """Return a client that may do everything."""
    return patient_client(server.kubeconfig, pool_size=4)


@pytest.fixture(scope="module")
def nobody(server: ApiServer, admin: Client) -> Client:
    """Return a client that may do what every ServiceAccount may."""
    admin.create(SERVICE_ACCOUNT, "default", {"metadata": {"name": "nobody"}})
    return client_of(server, "default", "nobody")


@pytest.fixture
def namespace(server: ApiServer, request: pytest.FixtureRequest) -> str:
    """Create a namespace of the test's own."""
    name = str(request.node.name).replace("_", "-")[:63].strip("-")
    assert server.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}}).status == 201
    return name


def client_of(server: ApiServer, namespace: str, account: str) -> Client:
    """Return a client that is a ServiceAccount, by a token of the API server's own making."""
    path = SERVICE_ACCOUNT.path(namespace, account, "token")
    issued = server.request("POST", path, {"spec": {}})
    assert issued.status == 201, issued.text
    config = yaml.safe_load(server.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": issued.body["status"]["token"]}
    file = server.folder / f"{namespace}-{account}.kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return patient_client(file, pool_size=4)


def rendered(folder: Path = MANIFESTS) -> list[dict[str, Any]]:
    """Return the objects that kubectl would apply."""
    argv = [str(support.bin_folder() / "kubectl"), "kustomize", str(folder)]
    output = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return list(yaml.safe_load_all(output))


def deployment(folder: Path = MANIFESTS) -> dict[str, Any]:
    """Return the rendered Deployment."""
    return next(obj for obj in rendered(folder) if obj["kind"] == "Deployment")


def container(name: str, folder: Path = MANIFESTS) -> dict[str, Any]:
    """Return one container of the Deployment."""
    containers = deployment(folder)["spec"]["template"]["spec"]["containers"]
    return next(entry for entry in containers if entry["name"] == name)


def granted(client: Client, namespace: str) -> set[tuple[str, str, str, str]]:
    """Return all that a client may do in a namespace, in the API server's own words."""
    status = client.create(RULES_REVIEW, "", {"spec": {"namespace": namespace}})["status"]
    assert status["incomplete"] is False
    return {
        (group, resource, verb, name)
        for rule in status["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames") or [""]
    }


def is_allowed(server: ApiServer, user: str, namespace: str, verb: str, plural: str) -> bool:
    """Ask the API server whether a user may do one thing in our group."""
    resource, _, subresource = plural.partition("/")
    attributes = {
        "namespace": namespace,
        "verb": verb,
        "group": resources.STASH_GROUP,
        "resource": resource,
        "subresource": subresource,
    }
    body = {"spec": {"user": user, "resourceAttributes": attributes}}
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    return bool(server.request("POST", path, body).body["status"]["allowed"])


def rights(*needs: Need) -> set[tuple[str, str, str, str]]:
    """Return the union of what is needed."""
    return {right for need in needs for right in need.rights()}


def own_rights(
    client: Client, nobody: Client, namespace: str, needs: tuple[Need, ...]
) -> set[tuple[str, str, str, str]]:
    """Return what a client may do and not everybody may, once that is what it needs.

    The API server follows a new binding after a moment; what stays different is wrong.
    """
    deadline = time.monotonic() + DEADLINE_S
    while True:
        have = granted(client, namespace) - granted(nobody, namespace)
        if have == rights(*needs) or time.monotonic() > deadline:
            return have
        time.sleep(0.1)


def configuration(admin: Client, namespace: str, name: str = "data") -> Obj:
    """Create a BackupConfiguration as a user does."""
    body = {
        "apiVersion": BACKUP_CONFIGURATION.api_version,
        "kind": BACKUP_CONFIGURATION.kind,
        "metadata": {"name": name, "namespace": namespace, "finalizers": ["stash.appscode.com"]},
        "spec": {
            "schedule": "0 3 * * *",
            "repository": {"name": "repo"},
            "task": {"name": "pvc-backup"},
            "target": {"ref": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "v"}},
            "retentionPolicy": {"name": "keep", "keepLast": 3, "prune": True},
        },
    }
    return admin.create(BACKUP_CONFIGURATION, namespace, body)


def session(
    owner: Obj, namespace: str, name: str, *, blocking: bool = False, owned: bool = True
) -> Obj:
    """Return a BackupSession of a configuration."""
    reference = {**owner_reference(BACKUP_CONFIGURATION, owner), "blockOwnerDeletion": blocking}
    return {
        "apiVersion": BACKUP_SESSION.api_version,
        "kind": BACKUP_SESSION.kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "ownerReferences": [reference] if owned else [],
        },
        "spec": {"invoker": {"kind": BACKUP_CONFIGURATION.kind, "name": name_of(owner)}},
    }


def bind_trigger(client: Client, owner: Obj) -> Obj:
    """Apply what the reconciler of a BackupConfiguration applies; return the CronJob."""
    spec = parse_spec(BackupConfigurationSpec, owner)
    assert isinstance(spec, BackupConfigurationSpec)
    for body in trigger_rbac(owner, spec):
        client.apply(SERVICE_ACCOUNT if body["kind"] == "ServiceAccount" else ROLE_BINDING, body)
    installation = Installation(image="drey.dev/drey:0.1.0", namespace=HOME)
    return client.apply(CRON_JOB, trigger_cron_job(owner, spec, installation))


# --- installing


def test_second_install_changes_nothing(server: ApiServer) -> None:
    """Applying both kustomizations again writes nothing: no object gets a new version."""

    def versions() -> dict[str, str]:
        items = [
            server.kubectl("get", obj["kind"], obj["metadata"]["name"], "-n", HOME, "-o", "json")
            for obj in rendered()
        ]
        loaded = [json.loads(item) for item in items]
        return {
            # others write a Deployment's status and a Namespace's conditions
            f"{obj['kind']}/{obj['metadata']['name']}": str(
                obj["metadata"].get("generation") or obj["metadata"]["resourceVersion"]
            )
            for obj in loaded
        }

    before = versions()
    assert len(before) == len(rendered()) > 10
    server.install_crds()
    install(server)
    assert versions() == before


def test_pods_are_admitted_to_their_restricted_namespace(server: ApiServer, admin: Client) -> None:
    """The Deployment's pod passes the pod security standard, which refuses a privileged one."""
    eventually("the Deployment's pod", lambda: bool(admin.list_page(POD, HOME)["items"]))
    pod = dict(admin.list_page(POD, HOME)["items"][0])
    spec = {**pod["spec"], "securityContext": {"runAsUser": 0}}
    root = {"metadata": {"name": "root", "namespace": HOME}, "spec": spec}
    refused = server.request("POST", POD.path(HOME) + "?dryRun=All", root)
    assert refused.status == 403
    assert 'violates PodSecurity "restricted' in refused.body["message"]


def test_token_is_mounted_into_the_operator_alone() -> None:
    """The Pushgateway, which anybody in the cluster can reach, holds no credentials of ours."""
    spec = deployment()["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    mounts = {
        entry["name"]: {mount["mountPath"] for mount in entry["volumeMounts"]}
        for entry in spec["containers"]
    }
    assert mounts == {
        "operator": {"/var/run/secrets/kubernetes.io/serviceaccount"},
        "pushgateway": {"/data"},
    }


def test_jobs_run_the_image_that_a_user_chose(tmp_path: Path) -> None:
    """`images:` in the kustomization changes the operator's image and that of its Jobs."""
    folder = tmp_path / "manifests"
    shutil.copytree(MANIFESTS, folder)
    with (folder / "kustomization.yaml").open("a") as file:
        file.write("images:\n- name: drey.dev/drey\n  newName: r.example/x/drey\n  newTag: t1\n")
    operator = container("operator", folder)
    assert operator["image"] == "r.example/x/drey:t1"
    assert operator["env"][0] == {"name": "DREY_IMAGE", "value": "r.example/x/drey:t1"}


def test_pushgateway_takes_its_arguments(server: ApiServer, tmp_path: Path) -> None:
    """The real Pushgateway starts with the manifest's arguments, and keeps what was pushed."""
    address = f"{server.address}:56789"
    args = [
        arg.replace("=:56789", f"={address}").replace("/data", str(tmp_path))
        for arg in container("pushgateway")["args"]
    ]
    probes = [container("pushgateway")[probe]["httpGet"]["path"]
              for probe in ("livenessProbe", "readinessProbe")]  # fmt: skip

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def is_up(path: str) -> bool:
        try:
            return bool(get(path))
        except urllib.error.URLError:
            return False

    program = str(server.binaries / "pushgateway")
    for push in (True, False):
        with subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", program, *args]) as process:
            try:
                for path in probes:
                    eventually(f"200 from {path}", partial(is_up, path))
                if push:
                    url = f"http://{address}/metrics/job/demo"
                    urllib.request.urlopen(url, data=b"kept 1\n", timeout=5).close()
                assert 'kept{instance="",job="demo"} 1' in get("/metrics")
            finally:
                process.terminate()


# --- rights


@pytest.mark.parametrize(
    ("place", "needs"),
    [("default", EVERYWHERE), (HOME, (*EVERYWHERE, *AT_HOME))],
    ids=["elsewhere", "at home"],
)
def test_controller_may_do_what_its_code_does_and_no_more(
    client: Client, nobody: Client, place: str, needs: tuple[Need, ...]
) -> None:
    """The rights of the ServiceAccount are exactly the table's: none is missing, none is idle."""
    have, wanted = granted(client, place) - granted(nobody, place), rights(*needs)
    assert have - wanted == set(), "no code needs these"
    assert wanted - have == set(), "the code needs these"


def test_table_knows_every_resource_that_the_code_uses() -> None:
    """A resource that a reconciler, observer or the engine begins to use needs a row."""
    used = {
        alias.name
        for folder in (".", "reconcile", "observe", "engine", "build")
        for path in (ROOT / "controller" / folder).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "controller.api.resources"
        for alias in node.names
    }
    used_resources = {
        value for name in used if isinstance(value := getattr(resources, name), Resource)
    }
    assert used_resources <= {need.resource for need in (*EVERYWHERE, *AT_HOME)}
    assert len(used_resources) > 10


def test_trigger_is_set_up_by_the_controller_and_can_do_its_work_alone(
    server: ApiServer, client: Client, admin: Client, nobody: Client, namespace: str
) -> None:
    """ServiceAccount, binding and CronJob are applied, twice; the account may create sessions."""
    owner = configuration(admin, namespace)
    bind_trigger(client, owner)
    cron_job = bind_trigger(client, owner)
    name = trigger_name("data")
    trigger = client_of(server, namespace, name)
    assert own_rights(trigger, nobody, namespace, OF_TRIGGER) == rights(*OF_TRIGGER)
    assert granted(trigger, "default") == granted(nobody, "default")
    pod = dig(cron_job, "spec", "jobTemplate", "spec", "template", "spec")
    variables = {entry["name"]: entry.get("value", "") for entry in pod["containers"][0]["env"]}
    made = backup_session(parse_trigger(variables[TRIGGER_VARIABLE]), 1)
    assert create(trigger, made) is True
    with pytest.raises(Forbidden, match="blockOwnerDeletion"):
        trigger.create(
            BACKUP_SESSION, namespace, session(owner, namespace, "data-2", blocking=True)
        )
    client.delete(CRON_JOB, namespace, name, uid=uid_of(cron_job))


def test_jobs_of_the_snapshot_driver_get_their_own_rights_and_no_more(
    server: ApiServer, client: Client, admin: Client, nobody: Client, namespace: str
) -> None:
    """The controller may bind each identity, twice; it has its rights in its namespace alone."""
    owner = configuration(admin, namespace)
    spec = parse_spec(BackupConfigurationSpec, owner)
    assert isinstance(spec, BackupConfigurationSpec)
    made = admin.create(BACKUP_SESSION, namespace, session(owner, namespace, "data-1"))
    restore = admin.create(RESTORE_SESSION, namespace, {
        "apiVersion": RESTORE_SESSION.api_version,
        "kind": RESTORE_SESSION.kind,
        "metadata": {"name": "data-1", "namespace": namespace},
        "spec": {"driver": "VolumeSnapshotter"},
    })  # fmt: skip
    restore_spec = parse_spec(RestoreSessionSpec, restore)
    assert isinstance(restore_spec, RestoreSessionSpec)
    hook_of = (BACKUP_SESSION, made, owner, BACKUP_CONFIGURATION, spec.runtime_settings)
    resource_of = {"ServiceAccount": SERVICE_ACCOUNT, "RoleBinding": ROLE_BINDING}
    wanted = (
        (snapshot_account(owner, spec), snapshot_rbac(owner, spec), OF_SNAPSHOT),
        (
            claim_account(restore, restore_spec),
            tuple(body for _, body in claim_rbac(restore, restore_spec)),
            OF_RESTORE,
        ),
        (hook_account(*hook_of), tuple(body for _, body in hook_rbac(*hook_of)), OF_HOOK),
    )
    assert len({account for account, _, _ in wanted}) == len(wanted)
    for account, bodies, needs in wanted:
        for body in (*bodies, *bodies):
            client.apply(resource_of[body["kind"]], body)
        identity = client_of(server, namespace, account)
        assert own_rights(identity, nobody, namespace, needs) == rights(*needs)
        assert granted(identity, "default") == granted(nobody, "default")


def test_one_definition_can_be_watched_and_no_other(server: ApiServer, client: Client) -> None:
    """The informer's field selector is what makes a right on one name enough for a list."""
    one = client.list_page(CRD, "", field_selector=f"metadata.name={SNAPSHOT_DEFINITION}")
    assert one["items"] == []
    for selector in ("", "metadata.name=functions.stash.appscode.com"):
        with pytest.raises(Forbidden):
            client.list_page(CRD, "", field_selector=selector)
    assert "functions.stash.appscode.com" in server.kubectl("get", "crd", "-o", "name")


def test_controller_writes_what_its_plans_write(
    client: Client, admin: Client, namespace: str
) -> None:
    """Status, finalizer, Job with an owner that it blocks, history: all pass as the account."""
    owner = configuration(admin, namespace)
    client.json_patch(
        BACKUP_CONFIGURATION, namespace, "data", [{"op": "remove", "path": "/metadata/finalizers"}]
    )
    made = admin.create(BACKUP_SESSION, namespace, session(owner, namespace, "data-1"))
    done = client.put_status(BACKUP_SESSION, {**made, "status": {"phase": "Running"}})
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}
    job = child(JOB, "stash-backup-data-1-0", (BACKUP_SESSION, done), labels={},
                body={"spec": {"template": template}})  # fmt: skip
    client.create(JOB, namespace, job)
    finalizer = [{"op": "add", "path": "/metadata/finalizers", "value": ["drey.dev/post-hook"]}]
    client.json_patch(BACKUP_SESSION, namespace, "data-1", finalizer)
    finalizer = [{"op": "remove", "path": "/metadata/finalizers"}]
    client.json_patch(BACKUP_SESSION, namespace, "data-1", finalizer)
    client.delete(JOB, namespace, name_of(job))
    client.delete(BACKUP_SESSION, namespace, "data-1", uid=uid_of(made))
    regarding = {"apiVersion": BACKUP_SESSION.api_version, "kind": BACKUP_SESSION.kind,
                 "namespace": namespace, "name": "data-1"}  # fmt: skip
    event = {
        "metadata": {"name": "data-1.1", "namespace": namespace},
        "eventTime": "2026-01-02T03:04:05.000000Z",
        "reportingController": "drey.dev/drey",
        "reportingInstance": "drey-0",
        "action": "Backup",
        "reason": "HostBackupSucceeded",
        "type": "Normal",
        "note": "ok",
        "regarding": regarding,
    }
    client.create(EVENT, namespace, event)
    series = {"count": 2, "lastObservedTime": "2026-01-02T03:04:06.000000Z"}
    client.merge_patch(EVENT, namespace, "data-1.1", {"series": series})


def test_controller_grants_nothing_but_one_secret(
    client: Client, admin: Client, namespace: str
) -> None:
    """A Role on a Secret can be made and bound; more than that cannot be given away."""
    owner = (BACKUP_CONFIGURATION, configuration(admin, namespace))
    group = ROLE.group
    subjects = [{"kind": "ServiceAccount", "name": "x", "namespace": namespace}]

    def role(name: str, **rule: list[str]) -> Obj:
        return child(ROLE, name, owner, labels={}, body={"rules": [{"apiGroups": [""], **rule}]})

    def binding(name: str, kind: str, to: str) -> Obj:
        reference = {"apiGroup": group, "kind": kind, "name": to}
        body = {"roleRef": reference, "subjects": subjects}
        return child(ROLE_BINDING, name, owner, labels={}, body=body)

    one = role("one", resources=["secrets"], resourceNames=["storage"], verbs=["get"])
    client.create(ROLE, namespace, one)
    client.create(ROLE_BINDING, namespace, binding("one", "Role", "one"))
    for wrong in (
        role("all", resources=["secrets"], verbs=["get", "list"]),
        role("exec", resources=["pods/exec"], verbs=["create"]),
    ):
        with pytest.raises(Forbidden, match="attempting to grant RBAC permissions"):
            client.create(ROLE, namespace, wrong)
    with pytest.raises(Forbidden, match="attempting to grant RBAC permissions"):
        client.create(ROLE_BINDING, namespace, binding("ca", "ClusterRole", "cluster-admin"))


def test_leader_holds_one_lease_and_labels_its_pod(client: Client, admin: Client) -> None:
    """The Lease `drey` can be made, read and renewed, no other one read; the label can be set."""
    body = {"metadata": {"name": "drey", "namespace": HOME}, "spec": {"holderIdentity": "a"}}
    client.create(LEASE, HOME, body)
    seen = client.get(LEASE, HOME, "drey")
    client.put(LEASE, {**seen, "spec": {"holderIdentity": "b"}})
    with pytest.raises(Forbidden):
        client.get(LEASE, HOME, "other")
    eventually("the Deployment's pod", lambda: bool(admin.list_page(POD, HOME)["items"]))
    pod = name_of(admin.list_page(POD, HOME)["items"][0])
    client.merge_patch(POD, HOME, pod, {"metadata": {"labels": {"drey.dev/leader": "true"}}})
    service = next(o for o in rendered() if o["metadata"]["name"] == "drey-pushgateway")
    selector = ",".join(f"{key}={value}" for key, value in service["spec"]["selector"].items())
    page = admin.list_page(POD, HOME, label_selector=selector)
    assert [name_of(item) for item in page["items"]] == [pod]


EDITORS_KINDS = ("repositories", "backupconfigurations", "backupsessions", "restoresessions")


def test_users_rights_follow_their_rights_on_usual_objects(
    server: ApiServer, namespace: str
) -> None:
    """`view` sees our kinds, `edit` and `admin` write them; status and catalogue stay closed."""
    for role in ("view", "edit", "admin"):
        server.kubectl("create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}",
                       "-n", namespace)  # fmt: skip

    def may(user: str, verb: str, plural: str) -> bool:
        return is_allowed(server, user, namespace, verb, plural)

    # each role is aggregated, and each binding followed, by itself and not at once
    for user in ("view", "edit", "admin"):
        eventually(f"{user} may read", partial(may, user, "get", "repositories"))
    for user in ("edit", "admin"):
        eventually(f"{user} may write", partial(may, user, "create", "repositories"))
    for plural in EDITORS_KINDS:
        for user, writes in (("view", False), ("edit", True), ("admin", True)):
            assert all(may(user, verb, plural) for verb in ("get", "list", "watch"))
            for verb in ("create", "update", "patch", "delete", "deletecollection"):
                assert may(user, verb, plural) is writes, (user, verb, plural)
            assert not may(user, "update", f"{plural}/status")
    for plural in ("functions", "tasks"):
        assert may("view", "get", plural)
        assert not any(may("admin", verb, plural) for verb in ("create", "update", "delete"))
    assert not may("stranger", "get", "repositories")


# --- uninstalling


def test_uninstall_leaves_definitions_and_users_objects() -> None:
    """`kubectl delete -k manifests` removes all of Drey; what users wrote stays."""
    with support.running() as server, controller_manager(server):
        server.install_crds()
        install(server)
        admin = patient_client(server.kubeconfig, pool_size=2)
        kept = configuration(admin, "default")
        cluster_wide = "clusterroles,clusterrolebindings,namespaces"
        selector = ("-l", "app.kubernetes.io/name=drey", "-o", "name")
        assert len(server.kubectl("get", cluster_wide, *selector).split()) == 9
        server.kubectl("delete", "-k", str(MANIFESTS), "--wait", f"--timeout={DEADLINE_S:.0f}s")
        assert server.kubectl("get", cluster_wide, *selector) == ""
        assert len(server.kubectl("get", "crd", *selector).split()) == len(OWN)
        assert uid_of(admin.get(BACKUP_CONFIGURATION, "default", "data")) == uid_of(kept)
