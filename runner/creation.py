"""Creates all objects of a session at once and ends: VolumeSnapshots, or claims (flow B).

It never waits for them: whether they become ready is the controller's to watch. It may be started
again after any end, since an object that carries the session's uid is its own.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.api.creation import SESSION_UID, CreationInput, NewObject
from controller.api.objects import Obj, is_deleting, labels_of
from controller.api.report import ExitCode, HostReport, Reason
from controller.api.resources import Resource
from controller.api.text import parse_time
from controller.kube.config import connect
from controller.kube.errors import (
    AlreadyExists,
    KubeError,
    NotFound,
    Verdict,
    classify,
)
from controller.kube.interface import KubeClient
from runner import api_verb
from runner.failure import RunError
from runner.log import Log, now_s
from runner.parallel import spread
from runner.retry import DOUBT_S, is_doubtful, remedy, until_answered

THREADS = 4
"""Each has a connection of its own, whose TLS handshake costs as much as a few POSTs: with more,
twenty objects take longer (measured)."""
REQUEST_S = 15.0
PATIENCE_S = 3600.0
"""For so long an API server may be away that answers nothing, when there is no `timeOut`."""
GRACE_S = 2.0
"""What a request that hangs at the deadline gets, so that its own error is told."""
_pause = threading.Event()  # never set: its `wait` ends by time


@dataclass(frozen=True, slots=True)
class _Made:
    """An object that exists; `name` is not the wanted one when a foreign namesake had that."""

    name: str
    was_there: bool


class Creation:
    """All objects of one input."""

    def __init__(
        self,
        client: KubeClient,
        order: CreationInput,
        log: Log,
        *,
        wait: Callable[[float], object] = _pause.wait,
        now: Callable[[], float] = now_s,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._order = order
        self._log = log
        self._wait = wait
        self._monotonic = monotonic
        self._resource = Resource(order.group, order.version, order.kind, order.plural)
        self._ends_s = monotonic() + _limit_s(order, now())
        self._doubt_s = DOUBT_S

    def run(self) -> tuple[HostReport, ...]:
        """Return what could not be created."""
        started_s = self._monotonic()
        done: dict[int, _Made | HostReport] = {}
        reason, text = Reason.DEADLINE_EXCEEDED, f"not created by {self._order.deadline}"
        if self._left_s() > 0.0:
            try:
                spread(
                    self._try,
                    self._order.objects,
                    done,
                    threads=THREADS,
                    limit_s=self._left_s() + GRACE_S,
                )
            except KeyboardInterrupt:
                reason, text = Reason.INTERRUPTED, "the pod was told to stop before it was created"
        outcomes = [
            done.get(index) or api_verb.failed(item.host, reason, f"{self._title(item)}: {text}")
            for index, item in enumerate(self._order.objects)
        ]
        failures = tuple(one for one in outcomes if isinstance(one, HostReport))
        self._log.info(
            "objects_created",
            kind=self._order.kind,
            namespace=self._order.namespace,
            wanted=len(outcomes),
            created=sum(isinstance(one, _Made) and not one.was_there for one in outcomes),
            existed=sum(isinstance(one, _Made) and one.was_there for one in outcomes),
            failed=len(failures),
            seconds=round(self._monotonic() - started_s, 3),
        )
        return failures

    def _try(self, item: NewObject) -> _Made | HostReport:
        body = self._body(item)
        name = body["metadata"]["name"]
        fields = {"kind": self._order.kind, "namespace": self._order.namespace, "name": name}
        try:
            made = until_answered(
                lambda: self._create(body),
                self._log,
                fields,
                limit_s=self._left_s(),
                doubt_s=self._doubt_s,
                wait=self._wait,
                monotonic=self._monotonic,
            )
        except KubeError as err:
            if is_doubtful(err):
                self._doubt_s = 0.0  # the others have had the same time
            return self._failure(item, err)
        if made.name != name:
            self._log.warning("name_taken", **fields, used=made.name)
        return made

    def _create(self, body: Mapping[str, Any]) -> _Made:
        """Create one object, under its other name if somebody else has the first.

        Raises:
            KubeError: it was not created; AlreadyExists when all its names are taken.
        """
        name, suffix = body["metadata"]["name"], self._order.fallback_suffix
        names = (name, f"{name}-{suffix}") if suffix else (name,)
        foreign: list[Obj] = []
        for each in names:
            named = {**body, "metadata": {**body["metadata"], "name": each}}
            namespace = self._order.namespace
            try:
                self._client.create(self._resource, namespace, named, timeout_s=REQUEST_S)
            except AlreadyExists:
                present = self._client.get(self._resource, namespace, each, timeout_s=REQUEST_S)
                if labels_of(present).get(SESSION_UID) == self._order.session_uid:
                    return _Made(each, was_there=True)
                foreign.append(present)
            else:
                return _Made(each, was_there=False)
        raise AlreadyExists(_taken(names, foreign))

    def _body(self, item: NewObject) -> dict[str, Any]:
        body = _merged(self._order.common, item.body)
        metadata = body["metadata"]
        labels = {**(metadata.get("labels") or {}), SESSION_UID: self._order.session_uid}
        return {
            **body,
            "apiVersion": self._resource.api_version,
            "kind": self._resource.kind,
            "metadata": {**metadata, "namespace": self._order.namespace, "labels": labels},
        }

    def _failure(self, item: NewObject, err: KubeError) -> HostReport:
        title = self._title(item)
        if isinstance(err, AlreadyExists):
            return api_verb.failed(item.host, Reason.ALREADY_EXISTS, f"{title}: {err.message}")
        if classify(err) is Verdict.REFUSED or isinstance(err, NotFound):
            # The server's words, which name the object, come first: what is cut is the end.
            text = f"{title}: {err.message}" if isinstance(err, NotFound) else err.message
            return api_verb.failed(item.host, Reason.CREATION_REFUSED, text + remedy(err))
        text = f"{title}: the API server did not create it"
        if self._order.deadline:
            text = f"{text} by {self._order.deadline}"
            return api_verb.failed(item.host, Reason.DEADLINE_EXCEEDED, f"{text}: {err}")
        return api_verb.failed(item.host, Reason.NOT_CREATED, f"{text}: {err}")

    def _title(self, item: NewObject) -> str:
        name = item.body["metadata"]["name"]
        return f"{self._order.kind} {self._order.namespace}/{name}"

    def _left_s(self) -> float:
        return self._ends_s - self._monotonic()


def _limit_s(order: CreationInput, unix_s: float) -> float:
    if not order.deadline:
        return PATIENCE_S
    try:
        return parse_time(order.deadline).timestamp() - unix_s
    except ValueError as err:
        raise RunError(Reason.INPUT_INVALID, f"deadline: {err}") from err


def _merged(common: Any, own: Any) -> Any:
    """Return `own` over `common`; maps within maps, anything else replaces."""
    if not (isinstance(common, Mapping) and isinstance(own, Mapping)):
        return own
    merged = {
        key: _merged(common[key], value) if key in common else value for key, value in own.items()
    }
    return {**common, **merged}


def _taken(names: Sequence[str], foreign: Sequence[Obj]) -> str:
    """Return that objects of somebody else have all names, and what to do."""
    if len(names) > 1:
        text = f"{' and '.join(names)} exist already and are not of this session; they are left"
        return f"{text} as they are: delete one of them"
    if any(is_deleting(obj) for obj in foreign):
        text = f"{names[0]} is being deleted, and is not of this session"
        return f"{text}: wait until it is gone, or choose another name"
    text = f"{names[0]} exists already and is not of this session; it is left as it is"
    return f"{text}: delete it, or choose another name"


def main(environ: Mapping[str, str] = os.environ) -> ExitCode:
    """Create what the environment describes."""

    def act(order: CreationInput, log: Log) -> tuple[HostReport, ...]:
        threads = min(THREADS, max(1, len(order.objects)))
        client = connect(environ.get("KUBECONFIG"), pool_size=threads, environ=environ)
        return Creation(client, order, log).run()

    return api_verb.run(CreationInput.decode, act, environ=environ)
