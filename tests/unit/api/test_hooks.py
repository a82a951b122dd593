"""What is wrong with a hook, and what its Job is told."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.backup import BackupConfigurationSpec
from controller.api.hook_input import HookInput, HttpInput, TcpInput
from controller.api.hooks import (
    Exec,
    FormField,
    Handler,
    Header,
    HttpGet,
    HttpPost,
    PostHandler,
    TcpSocket,
    hook_input,
    hook_problems,
)
from controller.api.model import parse_spec
from controller.api.restore import RestoreSessionSpec

PATH = "spec.hooks.preBackup"
WHERE = {"hostname": "pre", "namespace": "demo", "claim": "", "label_selector": "a=b"}


def problems(handler: Handler) -> list[str]:
    """Return the paths of the problems, below the hook."""
    found = hook_problems(PATH, handler)
    assert all(problem.message and problem.path.startswith(PATH) for problem in found)
    return [problem.path.removeprefix(PATH) for problem in found]


def get(**changes: Any) -> Handler:
    """Return a hook that sends a GET."""
    return Handler(http_get=HttpGet(**{"port": 80, **changes}))


@pytest.mark.parametrize(
    ("handler", "paths"),
    [
        (Handler(exec=Exec(command=("sync",))), []),
        (Handler(exec=Exec(command=("sh", "-c", ""))), []),
        (Handler(exec=Exec()), [".exec.command"]),
        (Handler(exec=Exec(command=("", "x"))), [".exec.command"]),
        (Handler(), [""]),
        (Handler(container_name="db"), [""]),
        (get(), []),
        (get(port="http"), []),
        (get(port="8080"), []),
        (get(port=65_535, scheme="https", host="db.demo.svc", path="/a?b=%20"), []),
        (get(host="::1"), []),
        (get(host="http://db"), [".httpGet.host"]),
        (get(host="db/x"), [".httpGet.host"]),
        (get(host="d" * 254), [".httpGet.host"]),
        (get(scheme="ftp"), [".httpGet.scheme"]),
        (get(path="/a b?ä"), []),  # the runner escapes it
        *((get(port=port), [".httpGet.port"]) for port in (0, -1, 65_536, 10**30, "", "0", "-1")),
        *((get(port=port), [".httpGet.port"]) for port in ("a--b", "http-", "x" * 16, "HTTP", "٣")),
        (get(port="a\n"), [".httpGet.port"]),
        (get(http_headers=(Header(name="X-A", value="b c"),)), []),
        (get(http_headers=(Header(name="X A", value=""),)), [".httpGet.httpHeaders[0].name"]),
        (
            get(http_headers=(Header(name="a", value=""), Header(name="b", value="c\r\nd: e"))),
            [".httpGet.httpHeaders[1].value"],
        ),
        (get(http_headers=(Header(name="a", value="€"),)), [".httpGet.httpHeaders[0].value"]),
        (
            Handler(http_post=HttpPost(port=0, form=(FormField(key="a"), FormField()))),
            [".httpPost.port", ".httpPost.form[1].key"],
        ),
        (Handler(tcp_socket=TcpSocket(port="db")), []),
        (
            Handler(tcp_socket=TcpSocket(port=0, host="a b")),
            [".tcpSocket.host", ".tcpSocket.port"],
        ),
        (
            Handler(exec=Exec(), http_get=HttpGet(port=80), tcp_socket=TcpSocket(port=70_000)),
            [".exec.command", ".tcpSocket.port"],
        ),
    ],
)
def test_problems(handler: Handler, paths: list[str]) -> None:
    """Each mistake is found at its path, and a right hook has none."""
    assert problems(handler) == paths


def test_a_policy_alone_is_a_problem_that_says_so() -> None:
    """Stash waits for ever for such a hook."""
    (problem,) = hook_problems("spec.hooks.postBackup", PostHandler(execution_policy="OnFailure"))
    assert problem.path == "spec.hooks.postBackup"
    assert problem.message.startswith("an executionPolicy alone runs nothing: give one of exec")


def test_hooks_are_read_from_manifests() -> None:
    """All published fields, with their names there."""
    http = {
        "scheme": "HTTPS",
        "host": "db",
        "port": "https",
        "path": "/flush",
        "httpHeaders": [{"name": "A", "value": "b"}],
    }
    pre = {
        "containerName": "db",
        "exec": {"command": ["sh", "-c", "sync"]},
        "httpGet": http,
        "httpPost": {**http, "form": [{"key": "k", "values": ["v", "w"]}], "body": "text"},
        "tcpSocket": {"host": "db", "port": 5432},
    }
    spec = {"retentionPolicy": {"name": "a", "prune": True}}
    found = parse_spec(BackupConfigurationSpec, {"spec": {**spec, "hooks": {"preBackup": pre}}})
    assert isinstance(found, BackupConfigurationSpec), found
    assert found.hooks is not None
    handler = found.hooks.pre_backup
    assert handler is not None
    assert hook_problems(PATH, handler) == []
    told = hook_input(
        handler, hostname="data", namespace="demo", label_selector="a=b", claim="", timeout_s=7
    )
    request = HttpInput(
        port="https", path="/flush", scheme="HTTPS", host="db", headers=(("A", "b"),)
    )
    assert told == HookInput(
        hostname="data",
        namespace="demo",
        label_selector="a=b",
        container="db",
        command=("sh", "-c", "sync"),
        http_get=request,
        http_post=HttpInput(
            port="https",
            path="/flush",
            scheme="HTTPS",
            host="db",
            headers=(("A", "b"),),
            is_post=True,
            body="text",
            form={"k": ("v", "w")},
        ),
        tcp=TcpInput(port="5432", host="db"),
        timeout_s=7,
    )


@pytest.mark.parametrize(
    ("hooks", "path"),
    [
        ({"postBackup": {"executionPolicy": "Sometimes"}}, "spec.hooks.postBackup.executionPolicy"),
        ({"preBackup": {"httpGet": {}}}, "spec.hooks.preBackup.httpGet.port"),
        ({"preBackup": {"exec": {"command": "sync"}}}, "spec.hooks.preBackup.exec.command"),
    ],
)
def test_what_the_schema_refuses_is_refused(hooks: Any, path: str) -> None:
    """An object of an older schema may hold anything."""
    spec = {"retentionPolicy": {"name": "a", "prune": True}, "hooks": hooks}
    found = parse_spec(BackupConfigurationSpec, {"spec": spec})
    assert isinstance(found, tuple)
    assert [problem.path for problem in found] == [path]


def test_hooks_of_a_restore() -> None:
    """They have names of their own; the policy of the second defaults to Always."""
    raw = {"hooks": {"preRestore": {}, "postRestore": {"tcpSocket": {"port": 1}}}}
    found = parse_spec(RestoreSessionSpec, {"spec": raw})
    assert isinstance(found, RestoreSessionSpec), found
    assert found.hooks is not None
    assert found.hooks.pre_restore == Handler()
    assert found.hooks.post_restore == PostHandler(tcp_socket=TcpSocket(port=1))
    assert found.hooks.post_restore.execution_policy == "Always"


def test_only_what_runs_afterwards_takes_pods_that_are_not_ready() -> None:
    """What was frozen may fail its probe; what is about to be frozen must be in order."""
    command = Exec(command=("sync",))
    before = hook_input(Handler(exec=command), **WHERE, timeout_s=1)
    after = hook_input(PostHandler(exec=command), **WHERE, timeout_s=1)
    assert (before.also_unready, after.also_unready) == (False, True)


def test_defaults_of_a_request() -> None:
    """HTTP to the root; one field given twice has all its values."""
    form = tuple(FormField(key=key, values=(value,)) for key, value in ("ax", "by", "az"))
    told = hook_input(
        Handler(http_post=HttpPost(port=80, path="a/b", form=form)), **WHERE, timeout_s=1
    ).http_post
    assert told is not None
    assert (told.scheme, told.path, told.port) == ("HTTP", "/a/b", "80")
    assert told.form == {"a": ("x", "z"), "b": ("y",)}


_TEXTS = st.text(max_size=8)
_HTTP = {
    "scheme": st.sampled_from(["", "http", "HTTPS"]),
    "host": _TEXTS,
    "port": st.integers() | _TEXTS,
    "path": _TEXTS,
    "http_headers": st.lists(st.builds(Header, name=_TEXTS, value=_TEXTS), max_size=2).map(tuple),
}
_FORMS = st.builds(FormField, key=_TEXTS, values=st.lists(_TEXTS, max_size=2).map(tuple))
HANDLERS = st.builds(
    Handler,
    container_name=_TEXTS,
    exec=st.none() | st.builds(Exec, command=st.lists(_TEXTS, max_size=3).map(tuple)),
    http_get=st.none() | st.builds(HttpGet, **_HTTP),
    http_post=st.none()
    | st.builds(HttpPost, **_HTTP, body=_TEXTS, form=st.lists(_FORMS, max_size=3).map(tuple)),
    tcp_socket=st.none() | st.builds(TcpSocket, host=_TEXTS, port=st.integers() | _TEXTS),
)


@given(HANDLERS)
def test_the_document_says_all_of_a_hook(handler: Handler) -> None:
    """It survives its encoding, and has just the actions that were given."""
    told = hook_input(handler, **WHERE, timeout_s=300)
    assert HookInput.decode(told.encode()) == told
    assert bool(told.command) is bool(handler.exec and handler.exec.command)
    for one, other in (
        (told.http_get, handler.http_get),
        (told.http_post, handler.http_post),
        (told.tcp, handler.tcp_socket),
    ):
        assert (one is None) is (other is None)


@given(HANDLERS)
def test_a_hook_without_problems_can_be_sent(handler: Handler) -> None:
    """Nothing that breaks out of a header or a host name gets past the check."""
    if problems(handler):
        return
    told = hook_input(handler, **WHERE, timeout_s=300)
    for request in (told.http_get, told.http_post):
        if request is not None:
            assert not any(letter.isspace() for letter in request.host)
            assert not any(
                "\n" in text or "\r" in text for pair in request.headers for text in pair
            )
