"""restic's environment for each provider (stash.md 5.2, 5.3)."""

from collections.abc import Mapping

import pytest

from controller.api.job_input import RepositoryInput
from runner.restic.environment import Environment, environment

ALWAYS = {
    "HOME": b"/home", "XDG_CACHE_HOME": b"/home", "TMPDIR": b"/scratch", "TZ": b"UTC",
    "RESTIC_REPOSITORY": b"url", "RESTIC_PROGRESS_FPS": b"0.1", "RESTIC_PASSWORD": b"pw\n",
}  # fmt: skip


def build(
    provider: str, secret: Mapping[str, bytes], outer: Mapping[str, str] | None = None
) -> Environment:
    """Return the environment for a Secret that also has a password and a foreign key."""
    repository = RepositoryInput("r", "ns", provider, "url", region="eu-1")
    whole = {"RESTIC_PASSWORD": b"pw\n", "LD_PRELOAD": b"/evil.so", **secret}
    return environment(
        repository, whole, home_dir="/home", tmp_dir="/scratch", outer=outer or {"PATH": "/bin"}
    )


@pytest.mark.parametrize(
    ("provider", "secret", "variables"),
    [
        ("local", {"AWS_ACCESS_KEY_ID": b"k"}, {}),
        (
            "s3",
            {"AWS_ACCESS_KEY_ID": b"k\n", "AWS_SECRET_ACCESS_KEY": b"s"},
            {
                "AWS_ACCESS_KEY_ID": b"k",
                "AWS_SECRET_ACCESS_KEY": b"s",
                "AWS_DEFAULT_REGION": b"eu-1",
            },
        ),
        (
            "gcs",
            {"GOOGLE_PROJECT_ID": b"p", "GOOGLE_SERVICE_ACCOUNT_JSON_KEY": b"{}"},
            {
                "GOOGLE_PROJECT_ID": b"p",
                "GOOGLE_APPLICATION_CREDENTIALS": b"/scratch/GOOGLE_SERVICE_ACCOUNT_JSON_KEY",
            },
        ),
        (
            "azure",
            {"AZURE_ACCOUNT_NAME": b"n", "AZURE_ACCOUNT_KEY": b"k"},
            {"AZURE_ACCOUNT_NAME": b"n", "AZURE_ACCOUNT_KEY": b"k"},
        ),
        (
            "swift",
            {"OS_AUTH_URL": b"u", "ST_KEY": b"k", "OS_NONSENSE": b"x"},
            {"OS_AUTH_URL": b"u", "ST_KEY": b"k"},
        ),
        (
            "b2",
            {"B2_ACCOUNT_ID": b"i", "B2_ACCOUNT_KEY": b"k"},
            {"B2_ACCOUNT_ID": b"i", "B2_ACCOUNT_KEY": b"k"},
        ),
        (
            "rest",
            {"REST_SERVER_USERNAME": b"u", "REST_SERVER_PASSWORD": b"p"},
            {"RESTIC_REST_USERNAME": b"u", "RESTIC_REST_PASSWORD": b"p"},
        ),
    ],
)
def test_providers(
    provider: str, secret: Mapping[str, bytes], variables: Mapping[str, bytes]
) -> None:
    """Each provider gets its own keys and no other key of the Secret or of the container."""
    assert build(provider, secret).variables == ALWAYS | dict(variables)


def test_files() -> None:
    """A custom CA and Google's key become files, unchanged."""
    made = build("gcs", {"CA_CERT_DATA": b"PEM\n", "GOOGLE_SERVICE_ACCOUNT_JSON_KEY": b"{}\n"})
    assert made.files == {"ca.crt": b"PEM\n", "GOOGLE_SERVICE_ACCOUNT_JSON_KEY": b"{}\n"}


def test_passed_on() -> None:
    """Cloud identity and proxies of the pod pass, anything else does not (D25)."""
    outer = {"AWS_ROLE_ARN": "arn", "HTTPS_PROXY": "p", "LD_PRELOAD": "x", "RESTIC_REPOSITORY": "y"}
    outer["TZ"] = "Asia/Tokyo"
    made = build("local", {}, outer).variables
    assert made == ALWAYS | {"AWS_ROLE_ARN": b"arn", "HTTPS_PROXY": b"p"}


@pytest.mark.parametrize(
    ("provider", "secret", "said"),
    [
        ("s3", {"RESTIC_PASSWORD": b""}, "RESTIC_PASSWORD is empty"),
        ("s3", {"RESTIC_PASSWORD": b"a\0b"}, "RESTIC_PASSWORD contains a NUL"),
        ("s3", {"AWS_ACCESS_KEY_ID": b"a\nb"}, "AWS_ACCESS_KEY_ID contains"),
        ("b2", {"B2_ACCOUNT_ID": b"i"}, "B2_ACCOUNT_KEY is missing"),
        ("ftp", {}, "provider 'ftp' is unknown"),
    ],
)
def test_refused(provider: str, secret: Mapping[str, bytes], said: str) -> None:
    """A key that is missing or impossible is named."""
    with pytest.raises(ValueError, match=said):
        build(provider, secret)
