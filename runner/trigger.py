"""Creates the BackupSession of one slot; the CronJob's pod runs it (stash.md 3.3, D20).

Its Job has no second pod (`backoffLimit: 0`), and the next slot may be a day away: this process
does not give up while the API server is away for a moment. The session's name is derived from the
slot, so that asking twice makes one session.
"""

import json
import os
import re
import signal
import sys
from collections.abc import Mapping
from typing import Any

from controller.api.names import session_name
from controller.api.report import ExitCode
from controller.api.resources import BACKUP_SESSION
from controller.kube.config import NotConfigured, connect
from controller.kube.errors import AlreadyExists, Forbidden, KubeError
from controller.kube.interface import KubeClient
from runner.log import Log, now_s
from runner.redaction import Redactor
from runner.retry import is_refusal, until_answered

TRIGGER_VARIABLE = "DREY_TRIGGER"
JOB_NAME_VARIABLE = "JOB_NAME"
_SLOT = re.compile(r".+-([0-9]{7,9})")
"""A CronJob names its Jobs `<CronJob>-<minutes since 1970>` (Kubernetes, cronjob controller)."""
REQUEST_S = 15.0
_MINUTE_S = 60
_SLOT_TOLERANCE_S = 7 * 86400
"""A suffix that is no slot of these days is a part of a name that somebody chose."""


def slot_s(job_name: str, now_unix_s: float) -> int:
    """Return the Unix seconds of the slot that the Job stands for, else the current ones."""
    match = _SLOT.fullmatch(job_name)
    if match is not None:
        slot = int(match[1]) * _MINUTE_S
        if abs(now_unix_s - slot) <= _SLOT_TOLERANCE_S:
            return slot
    return int(now_unix_s)


def parse_trigger(text: str) -> Mapping[str, Any]:
    """Parse what the controller put into the CronJob.

    Raises:
        ValueError: a field is missing or of another type; the text names it.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise ValueError(f"{TRIGGER_VARIABLE} is no JSON: {err}") from err
    if not isinstance(raw, dict):
        raise ValueError(f"{TRIGGER_VARIABLE}: an object is wanted")  # noqa: TRY004 - as json's
    wanted = {
        "apiVersion": str, "kind": str, "name": str, "namespace": str, "uid": str,
        "retryLeft": int, "labels": dict,
    }  # fmt: skip
    for key, kind in wanted.items():
        if not isinstance(raw.get(key), kind):
            raise ValueError(  # noqa: TRY004 - as json's
                f"{TRIGGER_VARIABLE}.{key}: {kind.__name__} is wanted"
            )
    return raw


def backup_session(trigger: Mapping[str, Any], unix_s: int) -> dict[str, Any]:
    """Return the session of a slot."""
    return {
        "apiVersion": BACKUP_SESSION.api_version,
        "kind": BACKUP_SESSION.kind,
        "metadata": {
            "name": session_name(trigger["name"], unix_s),
            "namespace": trigger["namespace"],
            "labels": dict(trigger["labels"]),
            "ownerReferences": [
                {
                    "apiVersion": trigger["apiVersion"],
                    "kind": trigger["kind"],
                    "name": trigger["name"],
                    "uid": trigger["uid"],
                    "controller": True,
                    # True would take a right on the owner's finalizers, which the role lacks (D26)
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": {
            "invoker": {
                "apiGroup": trigger["apiVersion"].partition("/")[0],
                "kind": trigger["kind"],
                "name": trigger["name"],
            },
            "retryLeft": trigger["retryLeft"],
        },
    }


def create(client: KubeClient, session: dict[str, Any]) -> bool:
    """Create the session; return False when this very slot already has it.

    Raises:
        KubeError: it was not created; AlreadyExists when another owner's object has the name.
    """
    metadata = session["metadata"]
    try:
        client.create(BACKUP_SESSION, metadata["namespace"], session, timeout_s=REQUEST_S)
    except AlreadyExists:
        try:
            present = client.get(BACKUP_SESSION, metadata["namespace"], metadata["name"])
        except Forbidden:
            # Our own role allows create only (D26): then the name, which is derived, must do.
            return False
        uids = {owner["uid"] for owner in present["metadata"].get("ownerReferences") or ()}
        if metadata["ownerReferences"][0]["uid"] not in uids:
            raise
        return False
    return True


def main(environ: Mapping[str, str] = os.environ) -> ExitCode:
    """Create the session that the environment describes; SIGTERM and SIGINT end it at once."""
    log = Log(Redactor({}))
    try:
        trigger = parse_trigger(environ.get(TRIGGER_VARIABLE, ""))
    except ValueError as err:
        sys.stderr.write(f"runner trigger: {err}; the controller's CronJob sets it\n")
        return ExitCode.USAGE
    session = backup_session(trigger, slot_s(environ.get(JOB_NAME_VARIABLE, ""), now_s()))
    fields = {"namespace": trigger["namespace"], "name": session["metadata"]["name"]}
    # Process 1 of a container ignores signals without a handler. One that raises also ends a
    # request that hangs: the pod has 10 s.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        client = connect(environ.get("KUBECONFIG"), pool_size=1, environ=environ)
        # Whatever refuses the session, a full quota or a webhook, may let it pass in a minute; the
        # next slot may be a day away.
        created = until_answered(lambda: create(client, session), log, fields, doubts=is_refusal)
    except (KubeError, NotConfigured) as err:
        log.error("session_not_created", **fields, error=str(err))  # noqa: TRY400 - our own log
        return ExitCode.FAILED
    except KeyboardInterrupt:
        log.error("session_not_created", **fields, error="told to stop")  # noqa: TRY400 - as above
        return ExitCode.INTERRUPTED
    log.info("session_created" if created else "session_exists", **fields)
    return ExitCode.OK
