"""What an error of a storage backend means, from its text: restic hands no code on. Pure.

Two questions that must not be mixed up: whether the backend refused or was away, so that what was
asked for may be there all the same, and whether something is known to be lost.
"""

import re

_LONGEST = 2000
"""Of a text that somebody else wrote no more is looked at: some patterns take their time."""
_CODE = r"(?:^|[\s(]){}(?=[\s):,]|$)"
"""A status code as restic's backends print one; not a port, a size or a part of a name."""
_DENIED = re.compile(
    r"access ?denied|forbidden|signaturedoesnotmatch|invalidaccesskeyid|unauthorized"
    r"|signature we calculated|access key id you provided|no credentials|authentication ?failed"
    r"|authorization ?failure|authorization failed|invalid_grant|permission denied"
    r"|operation not permitted|not authorized|token\b.{0,40}\b(?:expired|invalid|malformed)"
    r"|" + _CODE.format("40[137]"),
    re.IGNORECASE,
)
_UNREACHABLE = re.compile(
    r"dial tcp|connection re(?:fused|set)|no such host|i/o timeout|network is unreachable"
    r"|no route to host|tls: |x509: |certificate|client\.timeout|unexpected eof|server misbehaving"
    r"|" + _CODE.format("50[0234]"),
    re.IGNORECASE,
)
_BUSY = re.compile(_CODE.format("(?:408|429|5[0-9][0-9])"))
_LOST = re.compile(
    r"no such file or directory|does not exist|not found|too short|not satisfiable|out of bounds"
    r"|input/output error|bad message|structure needs cleaning|" + _CODE.format("(?:404|416)"),
    re.IGNORECASE,
)
_SPOILT = re.compile(
    r"ciphertext verification failed|invalid data returned|hash mismatch"
    r"|not found in (?:index|repository)$"
)
_LOST_PACK = re.compile(r"^pack [0-9a-f]{64}: (?:does not exist|unexpected file size)")
_PLACE = re.compile(
    r'"?\bhttps?://[^\s"]*"?|\b(?:open|l?stat|fstatat|read|readdirent|remove) /[^:]*:'
    r"|\b(?:Load|List|Stat|Save|Remove)\([^)]*\)"
)
"""Names that a user chose may contain any word, and sizes may look like codes."""
_RETRYING = re.compile(r"returned error, retrying after [^ ]+: (.*)", re.DOTALL)
_GIVEN_UP = re.compile(r"^(?:Load|List|Stat)\((?!<?lock\b)[^)]*\) failed: (.*)", re.DOTALL)
"""Last word on a request: `Load(<index/2dfeeb2b57>, 0, 0) failed: …` (restic 0.19.1).

Only of what reads, and not of locks, which come and go: they hide nothing and prove nothing.
"""


def is_denied(text: str) -> bool:
    """Tell whether the backend refused access."""
    return bool(_DENIED.search(_plain(text)))


def is_unreachable(text: str) -> bool:
    """Tell whether the backend was not reached, or could not do its work."""
    return bool(_UNREACHABLE.search(_plain(text)))


def is_lasting(text: str) -> bool:
    """Tell whether trying again cannot mend it: refused keys, or a certificate not trusted."""
    return is_denied(text) or "x509: " in text


def retried(line: str) -> str:
    """Return the error of a request that restic tries again, empty when the line tells of none."""
    found = _RETRYING.search(line)
    return found[1] if found else ""


def is_outage(line: str) -> bool:
    """Tell of a read that restic gave up: nothing shows that what it was to read is lost.

    So it is with any error that is not known: those of clouds and networks are without number.
    """
    found = _GIVEN_UP.search(line)
    return found is not None and not _is_lost(found[1])


def is_unlisted(line: str) -> bool:
    """Tell whether the packs could not be listed: restic then calls each one missing."""
    return line.startswith("List(data) failed: ")


def is_lost_pack(line: str) -> bool:
    """Tell whether `check` misses a pack of its list, or found one that was cut."""
    return bool(_LOST_PACK.search(line))


def is_loss(line: str) -> bool:
    """Tell whether a line proves by itself that something is lost or spoilt."""
    found = _GIVEN_UP.search(line)
    return (found is not None and _is_lost(found[1])) or bool(_SPOILT.search(line.rstrip()))


def _is_lost(error: str) -> bool:
    plain = _plain(error)
    excused = _DENIED.search(plain) or _BUSY.search(plain)
    return not excused and bool(_LOST.search(plain) or _SPOILT.search(plain))


def _plain(text: str) -> str:
    return _PLACE.sub("", text[:_LONGEST])
