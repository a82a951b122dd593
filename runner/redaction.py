"""Masks secrets in every text that leaves the process (D32)."""

import binascii
import json
import re
from collections.abc import Iterator, Mapping

MASK = "***"
SHORTEST = 4
"""Shorter values are masked as whole words only: they turn up in ordinary ones."""
_SHORTEST_LINE = 8
_PUBLIC = {"CA_CERT_DATA"}
_URL_USER = re.compile(r"(\w://)[^/\s@]+@")
_SAS = "AZURE_ACCOUNT_SAS"
_SIGNATURE = re.compile(rb"(?:^|[?&])sig=([^&\s]+)")
_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"


class Redactor:
    """Knows the values of one Secret, in the forms in which they can turn up in a text."""

    def __init__(self, secret: Mapping[str, bytes]) -> None:
        forms = {
            form
            for key, value in secret.items()
            if key not in _PUBLIC
            for part in (value, *(_signatures(value) if key == _SAS else ()))
            for form in _forms(part)
        }
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(map(_expression, longest_first))) if forms else None

    def __call__(self, text: str) -> str:
        """Return the text without secrets and without user names in URLs."""
        if self._pattern is not None:
            text = self._pattern.sub(MASK, text)
        return _URL_USER.sub(rf"\g<1>{MASK}@", text)


def _expression(form: str) -> str:
    exact = re.escape(form)
    return exact if len(form) >= SHORTEST else rf"(?<!\w){exact}(?!\w)"


def _signatures(value: bytes) -> Iterator[bytes]:
    """Return a query's signature: it comes back with the parameters in another order."""
    for encoded in _SIGNATURE.findall(value):
        yield encoded
        yield _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), encoded)


def _forms(value: bytes) -> Iterator[str]:
    parts = {value, value.strip()}
    parts |= {line.strip() for line in value.splitlines() if len(line.strip()) >= _SHORTEST_LINE}
    for part in parts:
        text = part.decode("utf-8", "replace")
        if len(text.strip()) < SHORTEST:
            if text.strip():
                yield text.strip()
            continue
        yield text
        yield json.dumps(text)[1:-1]
        yield json.dumps(text, ensure_ascii=False)[1:-1]
        yield binascii.b2a_base64(part, newline=False).decode().rstrip("=")
        yield "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in part)
        yield "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02x}" for byte in part)
