"""Hooks of a BackupConfiguration or RestoreSession: what runs before and after (stash.md 3.9)."""

import re
from typing import Any, Literal

from controller.api.hook_input import HookInput, HttpInput, TcpInput
from controller.api.model import Model, Problem

MAX_PORT = 65_535
_PORT_NAME = re.compile(r"(?=.{1,15}\Z)(?=.*[a-z])(?!.*--)[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_SCHEMES = ("HTTP", "HTTPS")
_HOST = re.compile(r"(?!.{254})[A-Za-z0-9._:-]*")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")

ExecutionPolicy = Literal["Always", "OnFailure", "OnSuccess", "OnFinalRetryFailure"]


class Exec(Model):
    """A command in a container of the application."""

    command: tuple[str, ...] = ()


class Header(Model):
    """A header of a request."""

    name: str
    value: str


class HttpGet(Model):
    """A GET request."""

    scheme: str = ""
    host: str = ""
    port: int | str
    path: str = ""
    http_headers: tuple[Header, ...] = ()


class FormField(Model):
    """A field of a form, with its values."""

    key: str = ""
    values: tuple[str, ...] = ()


class HttpPost(HttpGet):
    """A POST request. A form wins over a body."""

    form: tuple[FormField, ...] = ()
    body: str = ""


class TcpSocket(Model):
    """A connection that must be possible."""

    host: str = ""
    port: int | str


class Handler(Model):
    """What a hook does: all that is given, in this order, until something fails."""

    container_name: str = ""
    exec: Exec | None = None
    http_get: HttpGet | None = None
    http_post: HttpPost | None = None
    tcp_socket: TcpSocket | None = None


class PostHandler(Handler):
    """A hook that runs afterwards, or not, depending on the outcome."""

    execution_policy: ExecutionPolicy = "Always"


class BackupHooks(Model):
    """`spec.hooks` of a BackupConfiguration."""

    pre_backup: Handler | None = None
    post_backup: PostHandler | None = None


class RestoreHooks(Model):
    """`spec.hooks` of a RestoreSession."""

    pre_restore: Handler | None = None
    post_restore: PostHandler | None = None


def hook_problems(path: str, handler: Handler) -> list[Problem]:
    """Return what is wrong with a hook; `path` is where it stands.

    A hook without a handler would run nothing, and what its author meant it to do would be left
    undone. Stash waits for ever for one that has an executionPolicy only.
    """
    problems: list[Problem] = []
    if handler.exec is not None and not (handler.exec.command and handler.exec.command[0]):
        problems.append(Problem(f"{path}.exec.command", "give the command to run"))
    if handler.http_get is not None:
        problems += _http_problems(f"{path}.httpGet", handler.http_get)
    if handler.http_post is not None:
        problems += _http_problems(f"{path}.httpPost", handler.http_post)
        problems += [
            Problem(f"{path}.httpPost.form[{index}].key", "give the name of the field")
            for index, field in enumerate(handler.http_post.form)
            if not field.key
        ]
    if handler.tcp_socket is not None:
        problems += _address_problems(f"{path}.tcpSocket", handler.tcp_socket)
    given = (handler.exec, handler.http_get, handler.http_post, handler.tcp_socket)
    if all(action is None for action in given):
        what = "an executionPolicy alone" if isinstance(handler, PostHandler) else "it"
        problems.append(
            Problem(
                path,
                f"{what} runs nothing: give one of exec, httpGet, httpPost and tcpSocket, or "
                "remove it",
            )
        )
    return problems


def _http_problems(path: str, action: HttpGet) -> list[Problem]:
    problems = _address_problems(path, action)
    if action.scheme and action.scheme.upper() not in _SCHEMES:
        problems.append(Problem(f"{path}.scheme", f"give HTTP or HTTPS, not {action.scheme!r}"))
    for index, header in enumerate(action.http_headers):
        where = f"{path}.httpHeaders[{index}]"
        if not _HEADER.fullmatch(header.name):
            problems.append(Problem(f"{where}.name", f"{header.name!r} is no name of a header"))
        if not _HEADER_VALUE.fullmatch(header.value):
            problems.append(Problem(f"{where}.value", "a header has one line of Latin-1"))
    return problems


def _address_problems(path: str, action: HttpGet | TcpSocket) -> list[Problem]:
    problems = []
    if not _HOST.fullmatch(action.host):
        problems.append(
            Problem(f"{path}.host", f"give a name or an IP address, not {action.host[:64]!r}")
        )
    port = str(action.port)
    is_number = port.isascii() and port.isdigit()
    if not (1 <= int(port[:6]) <= MAX_PORT if is_number else _PORT_NAME.fullmatch(port)):
        problems.append(
            Problem(
                f"{path}.port",
                f"give a number up to {MAX_PORT}, or the name of a port, not {port[:64]!r}",
            )
        )
    return problems


def hook_input(
    handler: Handler,
    *,
    hostname: str,
    namespace: str,
    label_selector: str,
    claim: str,
    timeout_s: int,
) -> HookInput:
    """Return what the Job of a hook is told. The pods are those of the selector or the claim.

    A hook that runs afterwards takes pods too that are not Ready: frozen ones may not be.
    """
    tcp = handler.tcp_socket
    return HookInput(
        hostname=hostname,
        namespace=namespace,
        label_selector=label_selector,
        claim=claim,
        container=handler.container_name,
        command=handler.exec.command if handler.exec else (),
        http_get=_http_input(handler.http_get) if handler.http_get else None,
        http_post=_http_input(handler.http_post) if handler.http_post else None,
        tcp=TcpInput(port=str(tcp.port), host=tcp.host) if tcp else None,
        also_unready=isinstance(handler, PostHandler),
        timeout_s=timeout_s,
    )


def _http_input(action: HttpGet) -> HttpInput:
    post: dict[str, Any] = {}
    if isinstance(action, HttpPost):
        form: dict[str, tuple[str, ...]] = {}
        for field in action.form:
            form[field.key] = (*form.get(field.key, ()), *field.values)
        post = {"is_post": True, "body": action.body, "form": form}
    return HttpInput(
        port=str(action.port),
        path=f"/{action.path.removeprefix('/')}",
        scheme=action.scheme.upper() or _SCHEMES[0],
        host=action.host,
        headers=tuple((header.name, header.value) for header in action.http_headers),
        **post,
    )
