"""restic's environment, built from nothing (D25). Pure.

Keys of the storage Secret: reference/stash.md section 5.2. Values are bytes: the password counts
byte for byte (D27). From the container's own environment only what cloud identity, proxies and
Go's runtime need is passed on.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from controller.api.job_input import RepositoryInput

PASSWORD_KEY = "RESTIC_PASSWORD"  # noqa: S105 - the key's name, not a password
CA_KEY = "CA_CERT_DATA"
CA_FILE = "ca.crt"
GCS_KEY = "GOOGLE_SERVICE_ACCOUNT_JSON_KEY"

_KEYS: Mapping[str, tuple[str, ...]] = {
    "local": (),
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    "gcs": ("GOOGLE_PROJECT_ID",),
    "azure": ("AZURE_ACCOUNT_NAME", "AZURE_ACCOUNT_KEY", "AZURE_ACCOUNT_SAS"),
    "swift": (
        "ST_AUTH", "ST_USER", "ST_KEY",
        "OS_AUTH_URL", "OS_REGION_NAME", "OS_USERNAME", "OS_PASSWORD", "OS_TENANT_ID",
        "OS_TENANT_NAME", "OS_USER_DOMAIN_NAME", "OS_PROJECT_NAME", "OS_PROJECT_DOMAIN_NAME",
        "OS_APPLICATION_CREDENTIAL_ID", "OS_APPLICATION_CREDENTIAL_SECRET",
        "OS_APPLICATION_CREDENTIAL_NAME", "OS_STORAGE_URL", "OS_AUTH_TOKEN",
    ),
    "b2": ("B2_ACCOUNT_ID", "B2_ACCOUNT_KEY"),
    "rest": (),
}  # fmt: skip
_RENAMED: Mapping[str, Mapping[str, str]] = {
    "rest": {
        "REST_SERVER_USERNAME": "RESTIC_REST_USERNAME",
        "REST_SERVER_PASSWORD": "RESTIC_REST_PASSWORD",
    },
}
_REQUIRED: Mapping[str, tuple[str, ...]] = {"b2": ("B2_ACCOUNT_ID", "B2_ACCOUNT_KEY")}
PASSED_ON = (
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "GOMAXPROCS", "GOMEMLIMIT", "GOGC",
    "RESTIC_COMPRESSION", "RESTIC_PACK_SIZE", "RESTIC_READ_CONCURRENCY", "RESTIC_KEY_HINT",
    # Workload identity: an admission webhook of the cloud puts these into the pod.
    "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_REGION", "AWS_DEFAULT_REGION",
    "AWS_STS_REGIONAL_ENDPOINTS", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST",
)  # fmt: skip
PROGRESS_FPS = "0.1"


@dataclass(frozen=True, slots=True)
class Environment:
    """Variables, and files that must exist in `tmp_dir` under these names."""

    variables: Mapping[str, bytes]
    files: Mapping[str, bytes]


def environment(
    repository: RepositoryInput,
    secret: Mapping[str, bytes],
    *,
    home_dir: str,
    tmp_dir: str,
    outer: Mapping[str, str],
) -> Environment:
    """Return restic's environment.

    Raises:
        ValueError: the Secret lacks a key, or a value cannot be an environment variable; or the
            provider is unknown. The text names the key and the fix.
    """
    if repository.provider not in _KEYS:
        raise ValueError(
            f"provider {repository.provider!r} is unknown; {', '.join(_KEYS)} are known"
        )
    variables = {
        name: outer[name].encode("utf-8", "surrogateescape") for name in PASSED_ON if name in outer
    }
    variables |= {
        "HOME": home_dir.encode(),
        "XDG_CACHE_HOME": home_dir.encode(),
        "TMPDIR": tmp_dir.encode(),
        # `backup --time` is read in this zone.
        "TZ": b"UTC",
        "RESTIC_REPOSITORY": repository.url.encode("utf-8", "surrogateescape"),
        "RESTIC_PROGRESS_FPS": PROGRESS_FPS.encode(),
        PASSWORD_KEY: _password(secret),
    }
    for key in _REQUIRED.get(repository.provider, ()):
        if not secret.get(key):
            raise ValueError(
                f"key {key} is missing or empty; the {repository.provider} backend needs it"
            )
    names = {key: key for key in _KEYS[repository.provider]}
    for key, name in (names | dict(_RENAMED.get(repository.provider, {}))).items():
        if key in secret:
            variables[name] = _credential(key, secret[key])
    if repository.provider == "s3" and repository.region:
        variables["AWS_DEFAULT_REGION"] = repository.region.encode()
    files = {}
    if secret.get(CA_KEY):
        files[CA_FILE] = secret[CA_KEY]
    if repository.provider == "gcs" and secret.get(GCS_KEY):
        files[GCS_KEY] = secret[GCS_KEY]
        variables["GOOGLE_APPLICATION_CREDENTIALS"] = f"{tmp_dir}/{GCS_KEY}".encode()
    return Environment(variables, files)


def _password(secret: Mapping[str, bytes]) -> bytes:
    password = secret.get(PASSWORD_KEY)
    if password is None:
        raise ValueError(f"key {PASSWORD_KEY} is missing; add it: it encrypts the repository")
    if not password:
        raise ValueError(f"key {PASSWORD_KEY} is empty; restic needs a password")
    if b"\0" in password:
        raise ValueError(f"key {PASSWORD_KEY} contains a NUL byte, which restic cannot be given")
    return password


def _credential(key: str, value: bytes) -> bytes:
    """Drop the newline that `echo` puts into a file: no credential can end with one."""
    value = value.rstrip(b"\r\n")
    if b"\0" in value or b"\n" in value:
        raise ValueError(f"key {key} contains a NUL byte or a line break; write the bare value")
    return value
