"""What an error of a storage backend means, from its text: restic hands no code on. Pure."""

import re

_DENIED = re.compile(
    r"access ?denied|forbidden|signaturedoesnotmatch|invalidaccesskeyid|unauthorized|\b40[13]\b"
    r"|signature we calculated|access key id you provided|no credentials|authenticationfailed"
    r"|authorizationfailure|invalid_grant|permission denied",
    re.IGNORECASE,
)
_UNREACHABLE = re.compile(
    r"dial tcp|connection refused|connection reset|no such host|i/o timeout|network is unreachable"
    r"|no route to host|tls: |x509: |certificate|client\.timeout|unexpected eof|server misbehaving"
    r"|\b50[0234]\b",
    re.IGNORECASE,
)
_RETRYING = re.compile(r"returned error, retrying after [^ ]+: (.*)", re.DOTALL)
_GIVEN_UP = re.compile(r"^[A-Z]\w+\(.*?\) failed: (.*)", re.DOTALL)
"""Last word on a request: `Load(<index/2dfeeb2b57>, 0, 0) failed: …` (restic 0.19.1)."""


def is_denied(text: str) -> bool:
    """Tell whether the backend refused access."""
    return bool(_DENIED.search(text))


def is_outage(text: str) -> bool:
    """Tell whether the backend refused access or was not reached.

    What was asked for may be there all the same.
    """
    return is_denied(text) or bool(_UNREACHABLE.search(text))


def is_lasting(text: str) -> bool:
    """Tell whether trying again cannot mend it: refused keys, or a certificate not trusted."""
    return is_denied(text) or "x509: " in text


def retried(line: str) -> str:
    """Return the error of a request that restic tries again, empty when the line tells of none."""
    found = _RETRYING.search(line)
    return found[1] if found else ""


def given_up(line: str) -> str:
    """Return the error of a request that restic gave up, empty when the line tells of none."""
    found = _GIVEN_UP.search(line)
    return found[1] if found else ""
