"""The Job of a hook."""

import json
from dataclasses import replace
from typing import Any

from controller.api.creation import MAX_BYTES
from controller.api.hook_input import HookInput
from controller.api.resources import BACKUP_SESSION, RESTORE_SESSION
from controller.build.hook import HookOrder, hook_job, job_of_hook
from controller.reconcile.owed_hook import owed_annotations
from tests.support.snapshot_orders import RESTORE, SESSION, hook_order, settings


def built(order: HookOrder) -> dict[str, Any]:
    """Return a Job as the API server gets it."""
    found = hook_job(order)
    assert not isinstance(found, tuple), [str(problem) for problem in found]
    job: dict[str, Any] = json.loads(json.dumps(found))
    return job


def test_hook_job() -> None:
    """One try, whatever becomes of the pod: not even a disruption starts a second one (D17).

    It may last as long as its pod may take to start, its own time, and then some.
    """
    job = built(hook_order())
    spec = job["spec"]
    pod = spec.pop("template")["spec"]
    assert spec == {
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "activeDeadlineSeconds": 1020,
    }
    assert job["metadata"]["name"] == "stash-hook-pre-nightly-1767323045"
    assert job["metadata"]["ownerReferences"][0]["kind"] == "BackupSession"
    assert list(job["metadata"]["annotations"]) == ["drey.dev/spec-hash"]
    (container,) = pod["containers"]
    assert (container["name"], container["args"]) == ("hook", ["hook"])
    assert HookInput.decode(container["env"][-1]["value"]) == hook_order().document
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["serviceAccountName"] == "stash-hook-identity-nightly-1767323045"
    assert pod["automountServiceAccountToken"] is True
    assert pod["terminationGracePeriodSeconds"] == 10
    assert "volumes" not in pod


def test_timeout_of_the_document_bounds_the_job() -> None:
    """The runner keeps the time, the Job is the backstop."""
    order = hook_order(document=replace(hook_order().document, timeout_s=5))
    assert built(order)["spec"]["activeDeadlineSeconds"] == 600 + 5 + 120
    assert built(replace(order, start_s=60.0))["spec"]["activeDeadlineSeconds"] == 185


def test_what_sets_an_application_going_again_is_tried_again() -> None:
    """A killed pod is replaced; one that says itself that it failed is the end (D17)."""
    spec = built(hook_order(hook="post"))["spec"]
    assert spec["backoffLimit"] == 3
    own, disruption = spec["podFailurePolicy"]["rules"]
    assert own["action"] == "FailJob"
    assert own["onExitCodes"] == {"containerName": "hook", "operator": "In", "values": [1]}
    assert disruption["action"] == "Ignore"
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_names_of_both_kinds_of_sessions_differ() -> None:
    """A namespace may hold a BackupSession and a RestoreSession of one name."""
    names = {
        job_of_hook(resource, "x", hook)
        for resource in (BACKUP_SESSION, RESTORE_SESSION)
        for hook in ("pre", "post")
    }
    assert names == {
        "stash-hook-pre-x",
        "stash-hook-post-x",
        "stash-hook-pre-restore-x",
        "stash-hook-post-restore-x",
    }
    order = hook_order(
        session=RESTORE,
        session_resource=RESTORE_SESSION,
        invoker=RESTORE,
        invoker_resource=RESTORE_SESSION,
        hook="post",
    )
    assert built(order)["metadata"]["name"] == "stash-hook-post-restore-bring-back"


def test_the_longest_document_fits_into_the_annotation_of_its_session_too() -> None:
    """A document of the worst characters at the limit does not exceed that of annotations."""
    empty = hook_order(hook="post", document=HookInput("h", "demo", command=("",)))
    room = MAX_BYTES - len(empty.document.encode())
    longest = replace(empty, document=HookInput("h", "demo", command=('"' * (room // 2),)))
    owed = owed_annotations(SESSION, built(longest), "OnFinalRetryFailure")
    assert not isinstance(owed, str)


def test_what_the_cluster_would_refuse_is_a_problem() -> None:
    """It names the hook, and where a long script belongs."""
    document = HookInput("h", "demo", command=("x" * MAX_BYTES,))
    found = hook_job(hook_order(document=document))
    assert isinstance(found, tuple)
    (problem,) = found
    assert problem.path == "BackupConfiguration demo/nightly spec.hooks.preBackup"
    told = int(problem.message.split("told ")[1].split()[0])
    assert MAX_BYTES < told <= MAX_BYTES + 300
    assert problem.message.endswith(
        f"of at most {MAX_BYTES}: put a long script or body into the application's image or a "
        "ConfigMap, and name it in the hook"
    )


def test_settings_that_would_change_our_program_are_problems() -> None:
    """A hook's pod may run commands in every pod: nothing else runs beside its token."""
    wanted = settings(container={"livenessProbe": {"exec": {"command": ["true"]}}})
    found = hook_job(hook_order(runtime_settings=wanted))
    assert isinstance(found, tuple)
    assert "beside the pod's token" in found[0].message
