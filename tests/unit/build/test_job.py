"""The Jobs of a session, as literal manifests where their shape is the contract."""

import dataclasses
import inspect
import json
import re
from typing import Any

import pytest

from controller.api.catalog import TaskSpec
from controller.api.job_input import JobInput
from controller.api.objects import Obj
from controller.build.job import backup_job, restore_job, unlock_job
from controller.build.order import JobOrder
from controller.build.place import place_hash
from runner import settings as settings_module
from runner.settings import Settings
from tests.support.orders import TARGET, backup_order, functions, obj, parsed, restore_order

LABELS = {
    "app.kubernetes.io/component": "stash-backup",
    "app.kubernetes.io/managed-by": "stash.appscode.com",
    "drey.dev/created-by": "drey",
    "stash.appscode.com/invoker-type": "BackupConfiguration",
    "stash.appscode.com/invoker-name": "nightly",
}
RESTORE_LABELS = LABELS | {
    "app.kubernetes.io/component": "stash-restore",
    "stash.appscode.com/invoker-type": "RestoreSession",
    "stash.appscode.com/invoker-name": "bring-back",
}
POLICY = {
    "backoffLimit": 0,
    "podReplacementPolicy": "Failed",
    "podFailurePolicy": {
        "rules": [
            {
                "action": "Ignore",
                "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
            }
        ]
    },
}
MESH_LABELS = {"sidecar.istio.io/inject": "false", "kuma.io/sidecar-injection": "disabled"}
ANNOTATIONS = {
    "sidecar.istio.io/inject": "false",
    "linkerd.io/inject": "disabled",
    "kuma.io/sidecar-injection": "disabled",
    "consul.hashicorp.com/connect-inject": "false",
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
BUILT_FOR = {
    "drey.dev/repository": "repo",
    "drey.dev/repository-uid": "uid-of-repo",
    # a hash of s3.example/backups/demo/data
    "drey.dev/repository-place": "0c315dcff7042847",
}
CLOSED = {
    "restartPolicy": "Never",
    "terminationGracePeriodSeconds": 120,
    "enableServiceLinks": False,
    "automountServiceAccountToken": False,
}
OURS: dict[str, Any] = {
    "image": "registry.example/drey:1.2.3",
    "imagePullPolicy": "IfNotPresent",
    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
    "terminationMessagePolicy": "File",
}
HARD: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
SECRET_MOUNT = {"name": "drey-secret", "mountPath": "/drey/secret", "readOnly": True}
SCRATCH_MOUNT = {"name": "stash-tmp-dir", "mountPath": "/stash-tmp"}
SOURCE = {"name": "stash-volume", "persistentVolumeClaim": {"claimName": "data"}}
SECRET = {"name": "drey-secret", "secret": {"secretName": "s3-secret", "defaultMode": 0o444}}
SCRATCH: dict[str, Any] = {"name": "stash-tmp-dir", "emptyDir": {}}


def built(found: Obj | tuple[Any, ...], *, built_for: dict[str, str] = BUILT_FOR) -> dict[str, Any]:
    """Return a Job as the API server gets it, without the hash."""
    assert not isinstance(found, tuple), found
    job: dict[str, Any] = json.loads(json.dumps(found))
    annotations = job["metadata"].pop("annotations")
    assert len(annotations.pop("drey.dev/spec-hash")) == 16
    assert annotations == built_for
    return job


def take_input(container: dict[str, Any]) -> JobInput:
    """Take DREY_INPUT out of a container and return it; it must be the last variable."""
    assert container["env"][-1]["name"] == "DREY_INPUT"
    variable = container["env"].pop()
    if not container["env"]:
        del container["env"]
    return JobInput.decode(variable["value"])


def owner(kind: str, name: str) -> list[dict[str, Any]]:
    """Return the only owner reference of a Job."""
    return [
        {
            "apiVersion": "stash.appscode.com/v1beta1",
            "kind": kind,
            "name": name,
            "uid": f"uid-of-{name}",
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def test_backup_job() -> None:
    """The Job of one PVC: one container of ours, read-only source, no token, no root."""
    job = built(backup_job(backup_order(spec={"timeOut": "30m"})))
    found = take_input(job["spec"]["template"]["spec"]["containers"][0])
    assert (found.session_name, found.report_bytes) == ("nightly-1700000000", 4096)
    assert found.backup is not None
    assert found.backup.retention is not None
    assert job == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": "stash-backup-nightly-1700000000-0",
            "namespace": "demo",
            "labels": LABELS,
            "ownerReferences": owner("BackupSession", "nightly-1700000000"),
        },
        "spec": {
            **POLICY,
            "activeDeadlineSeconds": 2700,
            "template": {
                "metadata": {
                    "labels": LABELS | MESH_LABELS,
                    "annotations": ANNOTATIONS | BUILT_FOR | {"drey.dev/steps": "pvc-backup-0"},
                },
                "spec": {
                    **CLOSED,
                    "hostname": "stash-backup-nightly-1700000000-0-85d784f6d5de4a56",
                    "securityContext": {
                        "runAsUser": 65535,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [
                        {
                            **OURS,
                            "name": "pvc-backup-0",
                            "args": ["backup", "--output-dir="],
                            "volumeMounts": [
                                SCRATCH_MOUNT,
                                SECRET_MOUNT,
                                {
                                    "name": "stash-volume",
                                    "mountPath": "/stash-data",
                                    "readOnly": True,
                                },
                            ],
                            "securityContext": {**HARD, "runAsNonRoot": True},
                        }
                    ],
                    "volumes": [SOURCE, SCRATCH, SECRET],
                },
            },
        },
    }


def test_restore_job() -> None:
    """The Job of a restore: root with four capabilities, the volume below an emptyDir (D4)."""
    job = built(restore_job(restore_order()))
    found = take_input(job["spec"]["template"]["spec"]["containers"][0])
    assert found.restore is not None
    assert found.restore.mount_path == "/stash-data"
    assert job == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": "stash-restore-bring-back-0",
            "namespace": "demo",
            "labels": RESTORE_LABELS,
            "ownerReferences": owner("RestoreSession", "bring-back"),
        },
        "spec": {
            **POLICY,
            "template": {
                "metadata": {
                    "labels": RESTORE_LABELS | MESH_LABELS,
                    "annotations": ANNOTATIONS | BUILT_FOR | {"drey.dev/steps": "pvc-restore-0"},
                },
                "spec": {
                    **CLOSED,
                    "hostname": "stash-restore-bring-back-0-baad6836fa7b01c7",
                    "securityContext": {
                        "runAsUser": 0,
                        "runAsGroup": 0,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [
                        {
                            **OURS,
                            "name": "pvc-restore-0",
                            "args": ["restore", "--output-dir="],
                            "volumeMounts": [
                                SCRATCH_MOUNT,
                                SECRET_MOUNT,
                                {"name": "drey-restore", "mountPath": "/drey/restore"},
                                {"name": "stash-volume", "mountPath": "/drey/restore/stash-data"},
                            ],
                            "securityContext": {
                                **HARD,
                                "capabilities": {
                                    "drop": ["ALL"],
                                    "add": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID"],
                                },
                            },
                        }
                    ],
                    "volumes": [SOURCE, SCRATCH, SECRET, {"name": "drey-restore", "emptyDir": {}}],
                },
            },
        },
    }


def third_party_order(**changes: Any) -> JobOrder:
    """Return the order of a Task of three steps: prepare, back up, report."""
    output = [{"name": "outputDir", "value": "/stash-tmp/output"}]
    volume = [{"name": "targetVolume", "value": "source"}]
    task = {
        "steps": [
            {"name": "prepare", "params": volume},
            {"name": "pvc-backup", "params": [*volume, *output]},
            {"name": "update-status", "params": output},
        ],
        "volumes": [{"name": "source", "persistentVolumeClaim": {"claimName": "${TARGET_NAME}"}}],
    }
    prepare = {
        "image": "busybox:1.36",
        "command": ["sh", "-c"],
        "args": ['touch "$1/ready-${BACKUP_SESSION}"; echo $${HOME} $(date)', "sh", "/data"],
        "workingDir": "/data",
        "volumeMounts": [{"name": "${targetVolume}", "mountPath": "/data"}],
        "runtimeSettings": {"env": [{"name": "WHO", "value": "${INVOKER_NAME}"}]},
    }
    return backup_order(
        spec={
            "task": {"name": "mine"},
            "runtimeSettings": {
                "container": {
                    "env": [{"name": "HTTPS_PROXY", "value": "http://proxy"}],
                    "nice": {"adjustment": 5},
                    "ionice": {"class": 2, "classData": 4},
                    "resources": {"requests": {"cpu": "1"}},
                    "livenessProbe": {"tcpSocket": {"port": 1}},
                }
            },
            **changes,
        },
        task=parsed(TaskSpec, task),
        functions=functions({"prepare": prepare}),
        verify=True,
    )


def test_third_party_task_of_three_steps() -> None:
    """Somebody else's image runs first; it gets neither Secret nor input, ours get both (D26)."""
    pod = built(backup_job(third_party_order()))["spec"]["template"]["spec"]
    prepare, backup = pod["initContainers"]
    (update,) = pod["containers"]
    proxy = {"name": "HTTPS_PROXY", "value": "http://proxy"}
    resources = {"requests": {"cpu": "1", "memory": "128Mi"}}
    assert prepare == {
        "name": "prepare-0",
        "image": "busybox:1.36",
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c"],
        "args": ['touch "$1/ready-nightly-1700000000"; echo $${HOME} $(date)', "sh", "/data"],
        "workingDir": "/data",
        "volumeMounts": [SCRATCH_MOUNT, {"name": "source", "mountPath": "/data"}],
        "env": [
            {"name": "WHO", "value": "nightly"},
            proxy,
            {"name": "NICE_ADJUSTMENT", "value": "5"},
            {"name": "IONICE_CLASS", "value": "2"},
            {"name": "IONICE_CLASS_DATA", "value": "4"},
        ],
        "resources": resources,
        "terminationMessagePolicy": "File",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    first, second = take_input(backup), take_input(update)
    ours = {
        **OURS,
        "env": [proxy],
        "resources": resources,
        "securityContext": {**HARD, "runAsNonRoot": True},
    }
    assert backup == {
        **ours,
        "name": "pvc-backup-1",
        "args": ["backup", "--output-dir=/stash-tmp/output"],
        "volumeMounts": [
            SCRATCH_MOUNT,
            SECRET_MOUNT,
            {"name": "source", "mountPath": "/stash-data", "readOnly": True},
        ],
    }
    assert update == {
        **ours,
        "name": "update-status-2",
        "args": ["update-status", "--output-dir=/stash-tmp/output"],
        "volumeMounts": [SCRATCH_MOUNT, SECRET_MOUNT],
        "livenessProbe": {"tcpSocket": {"port": 1}},
    }
    assert first.backup is not None
    assert second.backup is not None
    assert (first.backup.retention, first.backup.verify) == (None, False)
    assert second.backup.retention is not None
    assert second.backup.verify
    assert (first.nice, first.ionice_class, first.ionice_level) == (5, 2, 4)
    assert pod["automountServiceAccountToken"] is False


def test_local_backend_is_mounted_into_ours_only() -> None:
    """A volume that holds the repository is mounted with its subPath, and not for others."""
    local = {"nfs": {"server": "n", "path": "/x"}, "mountPath": "/safe", "subPath": "a"}
    order = dataclasses.replace(
        third_party_order(),
        repository_spec=backup_order(
            backend={"storageSecretName": "s", "local": local}
        ).repository_spec,
    )
    built_for = BUILT_FOR | {"drey.dev/repository-place": place_hash(order.repository_spec, "demo")}
    made = built(backup_job(order), built_for=built_for)["spec"]["template"]
    assert made["metadata"]["annotations"] == (
        ANNOTATIONS | built_for | {"drey.dev/steps": "prepare-0,pvc-backup-1,update-status-2"}
    )
    pod = made["spec"]
    mount = {"name": "stash-local", "mountPath": "/safe", "subPath": "a"}
    containers = [*pod["initContainers"], *pod["containers"]]
    assert [mount in container["volumeMounts"] for container in containers] == [False, True, True]
    assert {"name": "stash-local", "nfs": {"server": "n", "path": "/x"}} in pod["volumes"]


@pytest.mark.parametrize("mount_path", ["/stash-data", "/stash-data/repo", "/stash-data/"])
def test_a_repository_inside_its_own_source_is_refused(mount_path: str) -> None:
    """A backup must not contain the repository that it goes to."""
    local = {"hostPath": {"path": "/x"}, "mountPath": mount_path}
    found = backup_job(backup_order(backend={"storageSecretName": "s", "local": local}))
    assert isinstance(found, tuple)
    (problem,) = found
    assert problem.path == "Repository demo/repo spec.backend.local.mountPath"
    assert "/stash-data, where the target is mounted: choose another" in problem.message


def test_a_task_volume_with_our_name_is_refused() -> None:
    """A Task cannot put its own volume in the place of the storage Secret."""
    task = {"steps": [{"name": "update-status"}], "volumes": [{"name": "drey-secret"}]}
    order = backup_order(spec={"task": {"name": "mine"}}, task=parsed(TaskSpec, task))
    found = backup_job(order)
    assert isinstance(found, tuple)
    assert [str(problem) for problem in found] == [
        (
            "Task mine spec.volumes[0].name: drey-secret is a volume of the operator: "
            "choose another name"
        )
    ]


@pytest.mark.parametrize("volume", ["drey-secret", "drey-restore", "stash-local", "stash-tmp-dir"])
def test_a_function_cannot_mount_our_volumes(volume: str) -> None:
    """No param and no name gives a third party's container the Secret or the repository (D26)."""
    prepare = {
        "image": "busybox:1.36",
        "command": ["sh"],
        "volumeMounts": [{"name": "${targetVolume}", "mountPath": "/data"}],
    }
    task = parsed(TaskSpec, {"steps": [{"name": "prepare"}, {"name": "update-status"}]})
    params = [
        {"name": "targetVolume", "value": volume},
        {"name": "outputDir", "value": "/stash-tmp/output"},
    ]
    order = backup_order(
        spec={"task": {"name": "mine", "params": params}},
        task=task,
        functions=functions({"prepare": prepare}),
    )
    found = backup_job(order)
    assert isinstance(found, tuple)
    assert [str(problem) for problem in found] == [
        (
            f"Function prepare spec.volumeMounts[0].name: {volume} is a volume of the operator: "
            "name a volume of the Task, also in the params that the name is made of"
        )
    ]


@pytest.mark.parametrize("build", [backup_job, restore_job])
def test_a_repository_on_its_own_target_is_refused(build: Any) -> None:
    """A local repository on the claim that it saves would be lost with it."""
    local = {"persistentVolumeClaim": {"claimName": "data"}, "mountPath": "/safe"}
    order = backup_order if build is backup_job else restore_order
    found = build(order(backend={"storageSecretName": "s", "local": local}))
    assert isinstance(found, tuple)
    assert [problem.path for problem in found] == [
        "Repository demo/repo spec.backend.local.persistentVolumeClaim.claimName"
    ]
    local["persistentVolumeClaim"] = {"claimName": "another"}
    elsewhere = order(backend={"storageSecretName": "s", "local": local})
    place = place_hash(elsewhere.repository_spec, "demo")
    built(build(elsewhere), built_for=BUILT_FOR | {"drey.dev/repository-place": place})


def test_more_paths_than_the_report_of_a_long_task_holds() -> None:
    """Many steps share 12 KiB: what could not be reported is not begun (D11)."""
    steps = [{"name": "prepare"}] * 8 + [{"name": "pvc-backup"}, {"name": "update-status"}]
    params = [
        {"name": "targetVolume", "value": "source"},
        {"name": "outputDir", "value": "/stash-tmp/output"},
    ]
    paths = [f"/stash-data/{number}" for number in range(4)]

    def order(count: int) -> JobOrder:
        return dataclasses.replace(
            third_party_order(
                task={"name": "mine", "params": params},
                target={**TARGET, "paths": paths[:count]},
            ),
            task=parsed(TaskSpec, {"steps": steps, "volumes": [{**SOURCE, "name": "source"}]}),
        )

    built(backup_job(order(3)))
    found = backup_job(order(4))
    assert isinstance(found, tuple)
    (problem,) = found
    assert problem.path == "BackupConfiguration demo/nightly spec.target.paths"
    assert problem.message.startswith("at most 3 paths with a Task of 10 steps: ")


def test_flags_of_restic_in_a_task_of_somebody_else() -> None:
    """Where a step of ours runs restic no Job is made for a forbidden flag; else it is no flag."""
    target = {**TARGET, "args": ["--all-databases"]}
    found = backup_job(third_party_order(target=target))
    assert isinstance(found, tuple)
    (problem,) = found
    assert problem.path == "BackupConfiguration demo/nightly spec.target.args"
    assert "'--all-databases' is not allowed for restic backup" in problem.message
    order = third_party_order(target=target)
    steps = tuple(step for step in order.task.steps if step.name != "pvc-backup")
    task = order.task.model_copy(update={"steps": steps})
    built(backup_job(dataclasses.replace(order, task=task)))


@pytest.mark.parametrize(
    "settings",
    [
        {"livenessProbe": {"exec": {"command": ["cat", "/drey/secret/RESTIC_PASSWORD"]}}},
        {"readinessProbe": {"exec": {"command": ["true"]}}},
        {"lifecycle": {"postStart": {"exec": {"command": ["true"]}}}},
        {"lifecycle": {"preStop": {"exec": {"command": ["true"]}}}},
    ],
)
def test_commands_in_our_containers_are_refused(settings: dict[str, Any]) -> None:
    """A probe or a lifecycle handler of the user runs no command beside the Secret (D26)."""
    found = backup_job(backup_order(spec={"runtimeSettings": {"container": settings}}))
    assert isinstance(found, tuple)
    (problem,) = found
    place = "BackupConfiguration demo/nightly spec.runtimeSettings.container."
    assert problem.path.startswith(place + next(iter(settings)))
    assert problem.path.endswith(".exec")


def test_an_env_from_cannot_set_what_our_programs_trust() -> None:
    """`env` beats `envFrom`: what a ConfigMap may hold is pinned in ours, and only there."""
    order = third_party_order(
        runtimeSettings={"container": {"envFrom": [{"configMapRef": {"name": "any"}}]}}
    )
    pod = built(backup_job(order))["spec"]["template"]["spec"]
    unlock = built(unlock_job(order))["spec"]["template"]["spec"]
    prepare, backup = pod["initContainers"]
    assert "PATH" not in {variable["name"] for variable in prepare["env"]}
    for container in (backup, *pod["containers"], *unlock["containers"]):
        values = {variable["name"]: variable["value"] for variable in container["env"]}
        assert values["LD_PRELOAD"] == values["SSLKEYLOGFILE"] == ""
        assert "KUBECONFIG" not in values, "it has no token"
        assert values["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        assert dataclasses.replace(Settings.read(values), outer={}) == dataclasses.replace(
            Settings.read({}), outer={}
        )
        trusted = set(re.findall(r'"(DREY_[A-Z_]+)"', inspect.getsource(settings_module)))
        assert trusted <= values.keys()


@pytest.mark.parametrize("prefix", ["DREY_", "LD_", "DREY_SECRET_"])
def test_prefixes_of_an_env_from(prefix: str) -> None:
    """A prefix may not make variables of ours out of any keys."""
    sources = [{"prefix": "MINE_"}, {"prefix": prefix, "configMapRef": {"name": "x"}}]
    order = backup_order(spec={"runtimeSettings": {"container": {"envFrom": sources}}})
    found = backup_job(order)
    assert isinstance(found, tuple)
    (problem,) = found
    assert problem.path.endswith("spec.runtimeSettings.container.envFrom[1].prefix")


@pytest.mark.parametrize(
    "name",
    [
        "DREY_INPUT",
        "LD_PRELOAD",
        "PATH",
        "GLIBC_TUNABLES",
        "GCONV_PATH",
        "OPENSSL_CONF",
        "SSLKEYLOGFILE",
    ],
)
def test_environment_that_would_change_our_programs_is_refused(name: str) -> None:
    """Neither the input nor the loader can be changed by the user's environment."""
    settings = {"container": {"env": [{"name": "FINE"}, {"name": name, "value": "x"}]}}
    order = backup_order(spec={"runtimeSettings": settings})
    for found in (backup_job(order), unlock_job(order)):
        assert isinstance(found, tuple)
        (problem,) = found
        assert problem.path == (
            "BackupConfiguration demo/nightly spec.runtimeSettings.container.env[1].name"
        )
        assert name in problem.message


def test_problems_of_the_task_reach_the_caller() -> None:
    """A Task that cannot be resolved gives no Job."""
    assert isinstance(backup_job(backup_order(functions={})), tuple)
    assert isinstance(restore_job(restore_order(functions={})), tuple)


def test_temp_dir() -> None:
    """The scratch volume takes medium and size from tempDir."""
    order = backup_order(spec={"tempDir": {"medium": "Memory", "sizeLimit": "1Gi"}})
    volumes = built(backup_job(order))["spec"]["template"]["spec"]["volumes"]
    assert {
        "name": "stash-tmp-dir",
        "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"},
    } in volumes


def test_own_mount_path() -> None:
    """The volume is mounted where the user says, in snapshots and below the restore root."""
    target = {**TARGET, "volumeMounts": [{"name": "x", "mountPath": "/source/data"}]}
    backup = built(backup_job(backup_order(spec={"target": target})))
    restore = built(restore_job(restore_order(spec={"target": target})))
    paths = [
        job["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][-1]["mountPath"]
        for job in (backup, restore)
    ]
    assert paths == ["/source/data", "/drey/restore/source/data"]


def test_node_of_a_volume_in_use() -> None:
    """A claim that one node holds is mounted there (D18)."""
    pod = built(backup_job(backup_order(node_name="node-1")))["spec"]["template"]["spec"]
    required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required["nodeSelectorTerms"][0]["matchFields"][0]["values"] == ["node-1"]


def test_unlock_job() -> None:
    """The lock of a dead pod is removed by a pod with its host name, and with nothing else (D8)."""
    job = built(unlock_job(backup_order()))
    pod = job["spec"]["template"]["spec"]
    dead = built(backup_job(backup_order()))["spec"]["template"]["spec"]
    assert job["metadata"]["name"] == "stash-unlock-backup-nightly-1700000000-0"
    assert job["spec"]["activeDeadlineSeconds"] == 600
    assert pod["hostname"] == dead["hostname"]
    (container,) = pod["containers"]
    found = take_input(container)
    assert (found.backup, found.restore) == (None, None)
    assert container == {
        **OURS,
        "name": "unlock",
        "args": ["unlock"],
        "volumeMounts": [SECRET_MOUNT, SCRATCH_MOUNT],
        "securityContext": {**HARD, "runAsNonRoot": True},
    }
    assert pod["volumes"] == [SCRATCH, SECRET]


def test_unlock_job_of_a_named_pod() -> None:
    """The caller may name the host that it read from the dead pod."""
    job = built(unlock_job(restore_order(), hostname="dead"))
    assert job["metadata"]["name"] == "stash-unlock-restore-bring-back-0"
    assert job["spec"]["template"]["spec"]["hostname"] == "dead"


def test_no_two_pods_share_a_host_name() -> None:
    """Namesakes in other namespaces and clusters differ by their uid (D8)."""
    other = backup_order(session=obj("BackupSession", "nightly-1700000000", uid="another"))
    names = {
        built(backup_job(order))["spec"]["template"]["spec"]["hostname"]
        for order in (backup_order(), other)
    }
    assert len(names) == 2


def test_equal_orders_give_equal_jobs() -> None:
    """Acting twice on a stale view gives the same Job."""
    assert backup_job(third_party_order()) == backup_job(third_party_order())


def test_our_image_in_a_users_function_mounts_the_source_read_only() -> None:
    """A Function that says nothing of readOnly cannot make a backup write to its source (D18)."""
    function = {
        "image": "registry.example/drey:1.2.3",
        "args": ["backup"],
        "volumeMounts": [{"name": "stash-volume", "mountPath": "${TARGET_MOUNT_PATH}"}],
    }
    task = {"steps": [{"name": "mine"}], "volumes": [SOURCE]}
    order = backup_order(task=parsed(TaskSpec, task), functions=functions({"mine": function}))
    (container,) = built(backup_job(order))["spec"]["template"]["spec"]["containers"]
    assert container["volumeMounts"][-1] == {
        "name": "stash-volume",
        "mountPath": "/stash-data",
        "readOnly": True,
    }
