"""What a hook's words may disclose."""

import pytest

from controller.api.hook_input import HookInput, HttpInput
from runner.disclosure import HookRedactor

HOOK = HookInput(
    hostname="app",
    namespace="demo",
    command=("sh", "-c", "PGPASSWORD=hunter22 psql --token", "t0ken-1", "--password=pass-w0rd"),
    http_get=HttpInput(
        port="80",
        path="/freeze?token=query-1",
        headers=(
            ("Authorization", "Bearer abcdefgh123"),
            ("X-Api-Key", "key-9999"),
            ("A", "plain"),
        ),
    ),
    http_post=HttpInput(
        port="80", path="/", is_post=True, form={"secret": ("form-1",), "mode": ("fast",)}
    ),
)


@pytest.mark.parametrize(
    "secret",
    ["hunter22", "pass-w0rd", "query-1", "abcdefgh123", "key-9999", "form-1"],
)
def test_what_it_was_told(secret: str) -> None:
    """Values that the hook was given as secrets are masked wherever they turn up."""
    assert HookRedactor(HOOK)(f"cannot use {secret} here") == "cannot use *** here"


@pytest.mark.parametrize("word", ["plain", "fast", "sh", "demo", "psql"])
def test_ordinary_words_stay(word: str) -> None:
    """What is no secret stays readable."""
    assert HookRedactor(HOOK)(f"cannot use {word} here") == f"cannot use {word} here"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("password=abc rest", "password=*** rest"),
        ('{"password": "abc", "a": 1}', '{"password": "***", "a": 1}'),
        ("MYSQL_PASSWD: abc", "MYSQL_PASSWD: ***"),
        ("Authorization: Bearer abcdefgh1", "Authorization: Bearer ***"),
        ("postgres://me:abc@host/db", "postgres://***@host/db"),
        ("the password is wrong", "the password is wrong"),
        ("token expired", "token expired"),
    ],
)
def test_what_an_application_prints(text: str, clean: str) -> None:
    """Assignments of secrets are masked though nobody told them to us."""
    assert HookRedactor(HookInput(hostname="h", namespace="n"))(text) == clean


def test_option_with_its_value_behind() -> None:
    """The word behind an option that names a secret is one."""
    hook = HookInput(hostname="h", namespace="n", command=("db", "--db-password", "abcd1", "-v"))
    assert HookRedactor(hook)("abcd1 -v") == "*** -v"
