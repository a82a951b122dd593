"""What an error of a storage backend means, from its text: restic hands no code on. Pure.

Two questions that must not be mixed up: whether the backend refused or was away, so that what was
asked for may be there all the same, and whether something is known to be lost.
"""

import re

_CODE = r"(?:^|[\s(]){}(?=[\s):,]|$)"
"""A status code as restic's backends print one; not a port, a size or a part of a name."""
_DENIED = re.compile(
    r"access ?denied|forbidden|signaturedoesnotmatch|invalidaccesskeyid|unauthorized"
    r"|signature we calculated|access key id you provided|no credentials|authentication ?failed"
    r"|authorization ?failure|authorization failed|invalid_grant|permission denied"
    r"|token\b.{0,20}\bexpired|requesttimetooskewed|" + _CODE.format("40[137]"),
    re.IGNORECASE,
)
_UNREACHABLE = re.compile(
    r"dial tcp|connection re(?:fused|set)|no such host|network is unreachable|no route to host"
    r"|tls: |x509: |certificate|server misbehaving|proxy authentication"
    r"|time(?:d )?out|deadline exceeded|broken pipe|closed network connection|connection lost"
    r"|goaway|stream error|closed idle connection|unexpected eof|(?:^|: )eof$"
    r"|internal error|reduce your request rate|not initialized yet|too ?many ?requests"
    r"|stale (?:nfs )?file handle|endpoint is not connected|host is down|too many open files"
    r"|no space left on device|" + _CODE.format("(?:408|429|5[0-9][0-9])"),
    re.IGNORECASE,
)
_GONE = re.compile(
    r"no such file or directory|does not exist|not found|too short|not satisfiable|out of bounds"
    r"|" + _CODE.format("(?:404|416)"),
    re.IGNORECASE,
)
_PLACE = re.compile(r'"?\bhttps?://[^\s"]*"?|\b(?:open|stat|lstat|read|readdirent|remove) /[^:]*:')
"""Names that a user chose may contain any word."""
_RETRYING = re.compile(r"returned error, retrying after [^ ]+: (.*)", re.DOTALL)
_GIVEN_UP = re.compile(r"^(Load|List|Stat)\((?!<?lock\b)[^)]*\) failed: (.*)", re.DOTALL)
"""Last word on a request: `Load(<index/2dfeeb2b57>, 0, 0) failed: …` (restic 0.19.1).

Only of what reads, and not of locks, which come and go: they hide nothing and prove nothing.
"""
_CORRUPT = re.compile(r"ciphertext verification failed|invalid data returned|hash mismatch")
_LOST_PACK = re.compile(r"^pack [0-9a-f]{64}: (?:does not exist|unexpected file size)")


def is_denied(text: str) -> bool:
    """Tell whether the backend refused access."""
    return bool(_DENIED.search(_PLACE.sub("", text)))


def is_outage(text: str) -> bool:
    """Tell whether the backend refused access or was not reached.

    What was asked for may be there all the same.
    """
    if is_denied(text):
        return True
    error = _PLACE.sub("", text)
    return bool(_UNREACHABLE.search(error)) and not _GONE.search(error)


def is_lasting(text: str) -> bool:
    """Tell whether trying again cannot mend it: refused keys, or a certificate not trusted."""
    return is_denied(text) or "x509: " in text


def retried(line: str) -> str:
    """Return the error of a request that restic tries again, empty when the line tells of none."""
    found = _RETRYING.search(line)
    return found[1] if found else ""


def given_up(line: str) -> str:
    """Return the error of a read that restic gave up, empty when the line tells of none."""
    found = _GIVEN_UP.search(line)
    return found[2] if found else ""


def is_unlisted(line: str) -> bool:
    """Tell whether the packs could not be listed: restic then calls each one missing."""
    found = _GIVEN_UP.search(line)
    return found is not None and found[1] == "List"


def is_lost_pack(line: str) -> bool:
    """Tell whether `check` misses a pack of its list, or found one that was cut."""
    return bool(_LOST_PACK.search(line))


def is_loss(line: str) -> bool:
    """Tell whether a line proves by itself that something is lost or spoilt."""
    error = given_up(line)
    gone = bool(error) and not is_denied(error) and bool(_GONE.search(_PLACE.sub("", error)))
    return gone or bool(_CORRUPT.search(line))
