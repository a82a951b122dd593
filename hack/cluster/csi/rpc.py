"""gRPC services on unix sockets. Each call is printed, may suffer a fault, and gets a status."""

import socket as sockets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import grpc  # type: ignore[import-untyped]  # publishes no types
from google.protobuf import message_factory  # type: ignore[import-untyped]  # publishes no types

from hack.cluster.csi.faults import Effect
from hack.cluster.csi.refusal import Code, Refusal

_SHOWN = ("name", "volume_id", "source_volume_id", "snapshot_id", "target_path")
"""The fields of a request that are printed: none of them can hold a secret."""

_SOCKET_PATH_BYTES = 105
"""gRPC's own limit, found by trying; the kernel's is 107."""

_QUIET = frozenset({"Probe", "GetPluginInfo"})

Suffer = Callable[[str, Any], Effect | None]
"""From a call's name and request to the fault that it has to suffer."""


class SocketUnusable(Exception):
    """A socket cannot be served; the message names the path and the fix."""


@dataclass(frozen=True)
class Service:
    """A service's descriptor and the objects that have its calls as methods.

    A call that none of them has is answered with UNIMPLEMENTED.
    """

    descriptor: Any
    objects: Sequence[object]

    def calls(self) -> dict[str, Callable[[Any], Any]]:
        """Return the methods by the names of the calls."""
        return {
            method.name: getattr(each, method.name)
            for method in self.descriptor.methods
            for each in self.objects
            if hasattr(each, method.name)
        }


class Server:
    """Serves services at one socket, each call in a thread."""

    def __init__(self, path: Path, services: Sequence[Service], suffer: Suffer) -> None:
        self._path = path
        self._suffer = suffer
        self._stopped = threading.Event()
        self._server = grpc.server(futures.ThreadPoolExecutor(16, thread_name_prefix="call"))
        self._server.add_generic_rpc_handlers([self._handler(service) for service in services])

    def start(self) -> None:
        """Listen.

        Raises:
            SocketUnusable: the path is too long, or another process listens there.
        """
        if len(str(self._path).encode()) > _SOCKET_PATH_BYTES:
            raise SocketUnusable(
                f"{self._path}: a socket's path may have {_SOCKET_PATH_BYTES} bytes: use a "
                "shorter folder"
            )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if _is_served(self._path):
            raise SocketUnusable(f"{self._path}: another process listens there: end it first")
        self._path.unlink(missing_ok=True)
        try:
            self._server.add_insecure_port(f"unix://{self._path}")
        except RuntimeError as err:
            raise SocketUnusable(f"{self._path}: {err}") from err
        self._server.start()

    def stop(self) -> None:
        """Let calls end for two seconds, cut short those that wait, remove the socket."""
        self._stopped.set()
        self._server.stop(2).wait()
        self._path.unlink(missing_ok=True)

    def _handler(self, service: Service) -> Any:
        methods = {method.name: method for method in service.descriptor.methods}
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._behaviour(name, call),
                request_deserializer=message_factory.GetMessageClass(
                    methods[name].input_type
                ).FromString,
                response_serializer=lambda response: response.SerializeToString(),
            )
            for name, call in service.calls().items()
        }
        return grpc.method_handlers_generic_handler(service.descriptor.full_name, handlers)

    def _behaviour(self, name: str, call: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
        def behave(request: Any, context: Any) -> Any:
            started = time.monotonic()
            try:
                self._wait_or_fail(name, request)
                response = call(request)
            except Refusal as refusal:
                _print(name, request, started, str(refusal))
                _abort(context, refusal)
            except Exception as err:  # noqa: BLE001  # thread boundary: gRPC would hide it
                _print(name, request, started, repr(err))
                _abort(context, Refusal(Code.INTERNAL, repr(err)))
            if name not in _QUIET:
                _print(name, request, started, "OK")
            return response

        return behave

    def _wait_or_fail(self, name: str, request: Any) -> None:
        effect = self._suffer(name, request)
        if effect is None:
            return
        if self._stopped.wait(effect.delay_s):
            raise Refusal(Code.UNAVAILABLE, "the driver is stopping")
        if effect.code is not None:
            raise Refusal(effect.code, effect.message)


def _abort(context: Any, refusal: Refusal) -> NoReturn:
    context.abort(grpc.StatusCode[refusal.code], refusal.message)
    raise AssertionError("abort raises")


def _print(name: str, request: Any, started: float, outcome: str) -> None:
    shown = [
        f"{field}={getattr(request, field)}"
        for field in _SHOWN
        if field in request.DESCRIPTOR.fields_by_name and getattr(request, field)
    ]
    spent_ms = round((time.monotonic() - started) * 1000)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(" ".join([stamp, name, *shown, f"{spent_ms}ms", outcome]), flush=True)


def _is_served(path: Path) -> bool:
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
