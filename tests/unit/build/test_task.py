"""From a Task and its Functions to steps."""

import dataclasses
from typing import Any

import pytest

from controller.api.catalog import TaskSpec
from controller.build.order import JobOrder
from controller.build.task import ResolvedTask, has_third_party, resolve, uses_secret_name
from tests.support.orders import (
    INSTALLATION,
    TARGET,
    backup_order,
    functions,
    parsed,
    restore_order,
)

CLAIM = {"persistentVolumeClaim": {"claimName": "${TARGET_NAME}"}}
SHELL = {
    "image": "busybox:1.36",
    "command": ["sh", "-c"],
    "args": ["echo ${WHAT:=nothing} > ${outputDir}/x"],
}


def third_party(step: dict[str, Any] | None = None, **function: Any) -> JobOrder:
    """Return an order whose Task runs a shell, then our update-status."""
    task = {
        "steps": [
            {"name": "shell", "params": [{"name": "outputDir", "value": "/stash-tmp/o"}]}
            | (step or {}),
            {"name": "update-status", "params": [{"name": "outputDir", "value": "/stash-tmp/o"}]},
        ],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "${TARGET_NAME}"}}],
    }
    return backup_order(
        spec={"task": {"name": "mine"}},
        task=parsed(TaskSpec, task),
        functions=functions({"shell": {**SHELL, **function}}),
    )


def resolved(order: JobOrder) -> ResolvedTask:
    """Return the resolved Task of an order without mistakes."""
    found = resolve(order)
    assert isinstance(found, ResolvedTask), found
    return found


def problems(order: JobOrder) -> list[str]:
    """Return the problems of an order as text."""
    found = resolve(order)
    assert isinstance(found, tuple)
    return [str(problem) for problem in found]


def test_steps_keep_their_order_and_know_whose_they_are() -> None:
    """A step is ours by its image; params and Task volumes are expanded."""
    task = resolved(third_party())
    assert [(step.container, step.own) for step in task.steps] == [
        ("shell-0", False),
        ("update-status-1", True),
    ]
    assert task.steps[0].args == ("echo nothing > /stash-tmp/o/x",)
    assert task.steps[1].args == ("update-status", "--output-dir=/stash-tmp/o")
    assert task.volumes == ({"name": "v", "persistentVolumeClaim": {"claimName": "data"}},)


def test_our_image_with_another_command_is_not_ours() -> None:
    """Only our entrypoint may see the storage Secret, not whatever a command starts (D26)."""
    task = resolved(third_party(image=INSTALLATION.image))
    assert [step.own for step in task.steps] == [False, True]


def test_our_image_may_come_from_a_param_or_variables() -> None:
    """The image counts after expansion."""
    image = "${STASH_DOCKER_REGISTRY}/${STASH_DOCKER_IMAGE}:${STASH_IMAGE_TAG}"
    task = resolved(third_party(image=image, command=[], args=["update-status"]))
    assert [step.own for step in task.steps] == [True, True]


def test_addon_image_is_the_functions_own_image() -> None:
    """ADDON_IMAGE is set for each Function, last of all."""
    task = resolved(third_party(image="${IMG:=busybox:1}", args=["${ADDON_IMAGE}"]))
    assert task.steps[0].image == "busybox:1"
    assert task.steps[0].args == ("busybox:1",)


def test_every_mistake_is_named_at_once() -> None:
    """Unknown Function, missing variable and forbidden param come with object, path and fix."""
    task = {
        "steps": [{"name": "gone"}, {"name": "shell"}, {"name": "update-status"}],
        "volumes": [{"name": "${VOLUME}"}],
    }
    params = [{"name": "NAMESPACE", "value": "kube-system"}]
    order = backup_order(
        spec={"task": {"name": "mine", "params": params}},
        task=parsed(TaskSpec, task),
        functions=functions({"shell": SHELL}),
    )
    assert problems(order) == [
        (
            "BackupConfiguration demo/nightly spec.task.params[0].name: NAMESPACE is set by the "
            "operator and cannot be overridden: remove the param"
        ),
        (
            "Task mine spec.volumes[0].name: variable VOLUME has neither a value nor a default: "
            "add a param VOLUME to the Task, or write ${VOLUME:=default}"
        ),
        "Task mine spec.steps[0].name: Function gone does not exist: create it, or name another",
        (
            "Function shell spec.args[0]: variable outputDir has neither a value nor a default: "
            "add a param outputDir to the Task, or write ${outputDir:=default}"
        ),
    ]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "Task mine spec.steps: name at least one Function"),
        (
            [{"name": "update-status"}, {"name": "noop"}],
            (
                "Task mine spec.steps[1].name: the last step must report the outcome: end with "
                "Function update-status, or one of image registry.example/drey:1.2.3 without a "
                "command"
            ),
        ),
        (
            [{"name": "noop"}] * 10 + [{"name": "update-status"}],
            "Task mine spec.steps: at most 10 steps: their reports share 12 KiB",
        ),
        ([{"name": "blank"}], "Function blank spec.image: name the image"),
    ],
)
def test_a_task_that_could_never_report(steps: list[dict[str, Any]], message: str) -> None:
    """A Task whose end nobody would hear of is refused before it runs."""
    order = backup_order(
        spec={"task": {"name": "mine"}},
        task=parsed(TaskSpec, {"steps": steps}),
        functions=functions({"noop": {"image": "busybox"}, "blank": {}}),
    )
    assert problems(order) == [message]


@pytest.mark.parametrize("mount_path", ["/elsewhere", "/stash-data/below"])
def test_a_backup_beside_the_target_is_refused(mount_path: str) -> None:
    """A backup of an empty folder of the image must not pass for one of the volume."""
    function = {
        "image": INSTALLATION.image,
        "args": ["backup"],
        "volumeMounts": [{"name": "v", "mountPath": mount_path}],
    }
    task = parsed(TaskSpec, {"steps": [{"name": "mine"}]})
    order = backup_order(task=task, functions=functions({"mine": function}))
    assert problems(order) == [
        "Function mine spec.volumeMounts: mount the target's volume at ${TARGET_MOUNT_PATH}"
    ]


def test_a_restore_beside_the_target_is_refused() -> None:
    """A Function that mounts as Stash's did would restore into a folder that dies with the pod."""
    function = {
        "image": INSTALLATION.image,
        "args": ["restore"],
        "volumeMounts": [{"name": "v", "mountPath": "${TARGET_MOUNT_PATH}"}],
    }
    task = parsed(TaskSpec, {"steps": [{"name": "mine"}]})
    order = restore_order(task=task, functions=functions({"mine": function}))
    assert problems(order) == [
        (
            "Function mine spec.volumeMounts: mount the target's volume at "
            "/drey/restore${TARGET_MOUNT_PATH}"
        )
    ]


def own_step(verb: str, *mounts: dict[str, Any], volume: Any = CLAIM) -> JobOrder:
    """Return an order whose only step is one of ours, with a Task volume `v` and another `w`."""
    function = {"image": INSTALLATION.image, "args": [verb], "volumeMounts": list(mounts)}
    volumes = [{"name": "v", **volume}, {"name": "w", "emptyDir": {}}]
    task = parsed(TaskSpec, {"steps": [{"name": "mine"}], "volumes": volumes})
    order = backup_order if verb == "backup" else restore_order
    return order(task=task, functions=functions({"mine": function}))


@pytest.mark.parametrize(
    ("verb", "place"), [("backup", ""), ("backup", "/"), ("restore", "/drey/restore")]
)
@pytest.mark.parametrize(
    "volume",
    [
        {"emptyDir": {}},
        {"secret": {"secretName": "s3-secret"}},
        {"persistentVolumeClaim": {"claimName": "another"}},
    ],
)
def test_another_volume_in_the_place_of_the_target_is_refused(
    verb: str, place: str, volume: dict[str, Any]
) -> None:
    """Neither is another volume backed up in the target's name, nor overwritten in it."""
    mount = {"name": "v", "mountPath": place + "${TARGET_MOUNT_PATH}"}
    resolved(own_step(verb, mount))
    (problem,) = problems(own_step(verb, mount, volume=volume))
    assert problem.endswith("v is no volume of the Task with persistentVolumeClaim.claimName data")


@pytest.mark.parametrize("name", ["drey-secret", "stash-tmp-dir", "stash-local", "gone"])
@pytest.mark.parametrize("order", [backup_order, restore_order])
def test_a_param_cannot_replace_the_target(order: Any, name: str) -> None:
    """`targetVolume` in an invoker's params names no volume but the target's (D26)."""
    params = [{"name": "targetVolume", "value": name}]
    task = {"name": "pvc-backup" if order is backup_order else "pvc-restore", "params": params}
    (problem,) = problems(order(spec={"task": task}))
    assert f"{name} is no volume of the Task" in problem


@pytest.mark.parametrize(("verb", "root"), [("backup", ""), ("restore", "/drey/restore")])
def test_a_volume_inside_the_target_is_refused(verb: str, root: str) -> None:
    """What is backed up, or restored into, is the whole volume and nothing else."""
    order = own_step(
        verb,
        {"name": "v", "mountPath": root + "${TARGET_MOUNT_PATH}"},
        {"name": "w", "mountPath": root + "${TARGET_MOUNT_PATH}/below"},
        {"name": "w", "mountPath": "/other"},
    )
    assert problems(order) == [
        (
            f"Function mine spec.volumeMounts: {root}/stash-data/below would hide a part of the "
            "target's volume: mount it elsewhere"
        )
    ]


def test_the_innermost_mount_counts() -> None:
    """A mount above the target's does not stand for the one at its place."""
    outer, inner = {"name": "v", "mountPath": "/a"}, {"name": "w", "mountPath": "/a/b"}
    target = {**TARGET, "volumeMounts": [{"name": "x", "mountPath": "/a/b"}]}
    spec = backup_order(spec={"target": target}).spec
    resolved(dataclasses.replace(own_step("backup", outer), spec=spec))
    (problem,) = problems(dataclasses.replace(own_step("backup", outer, inner), spec=spec))
    assert "w is no volume of the Task" in problem


def test_third_parties_mount_the_target_where_they_like() -> None:
    """A Function of somebody else may mount the target's volume, by a param or by name."""
    for name in ("${targetVolume:=v}", "v"):
        task = resolved(third_party(volumeMounts=[{"name": name, "mountPath": "/data"}]))
        assert task.steps[0].volume_mounts == ({"name": "v", "mountPath": "/data"},)


@pytest.mark.parametrize("order", [backup_order, restore_order])
def test_a_last_step_that_hands_over_is_refused(order: Any) -> None:
    """With outputDir our one-step Task would report nothing."""
    name = "pvc-backup" if order is backup_order else "pvc-restore"

    def with_param(value: str) -> Any:
        return order(
            spec={"task": {"name": name, "params": [{"name": "outputDir", "value": value}]}}
        )

    resolved(with_param(""))
    (problem,) = problems(with_param("/stash-tmp/output"))
    assert problem.startswith(f"Task {name} spec.steps[0]: with outputDir")
    assert problem.endswith("end with Function update-status, or remove the param outputDir")


@pytest.mark.parametrize(
    ("args", "hands_over"),
    [
        ([], False),
        (["--output-dir="], False),
        (["--output-dir", ""], False),
        (["--output-dir"], False),
        (["--output-dir=", "--out=/x"], True),
        (["--output-dir", "/x"], True),
        (["--o=/x", "--output-dir="], False),
    ],
)
def test_every_form_of_the_flag_counts(
    args: list[str],
    hands_over: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """The flag may be abbreviated or be two words, and the last one wins, as in argparse."""
    order = own_step("backup", {"name": "v", "mountPath": "/stash-data"})
    function = order.functions["mine"].model_copy(update={"args": ("backup", *args)})
    order = dataclasses.replace(order, functions={"mine": function})
    assert isinstance(resolve(order), tuple) is hands_over


def test_who_asks_for_the_secret() -> None:
    """Only a Function of a third party that names the Secret's variable needs the API (D26)."""
    assert not uses_secret_name(backup_order())
    assert not has_third_party(backup_order())
    assert has_third_party(third_party())
    assert not uses_secret_name(third_party())
    assert uses_secret_name(third_party(args=["--secret=${REPOSITORY_SECRET_NAME:=}"]))
    environment = {"env": [{"name": "S", "value": "${REPOSITORY_SECRET_NAME}"}]}
    assert uses_secret_name(third_party(args=[], runtimeSettings=environment))
    own: dict[str, Any] = {
        "image": INSTALLATION.image,
        "command": [],
        "args": ["x", "${REPOSITORY_SECRET_NAME}"],
    }
    assert not uses_secret_name(third_party(**own))
    assert not uses_secret_name(third_party(args=["${MISSING}"]))
    assert not has_third_party(third_party(args=["${MISSING}"]))
