"""Kubernetes quantities such as `10Gi`, as far as sizes need them: to be compared."""

import re
from decimal import Decimal

_QUANTITY = re.compile(
    r"(?P<number>[+-]?([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30}))"
    r"([eE](?P<exponent>[+-]?[0-9]{1,2})|(?P<suffix>[numkMGTPE]|[KMGTPE]i))?"
)
_THOUSANDS = {"n": -3, "u": -2, "m": -1, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_KIBI = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


def parse_quantity(text: str) -> Decimal | None:
    """Return the value of a quantity, None when it is none; exact, also for `0.1Gi`."""
    found = _QUANTITY.fullmatch(text)
    if found is None:
        return None
    number, suffix = Decimal(found["number"]), found["suffix"] or ""
    if found["exponent"]:
        return number.scaleb(int(found["exponent"]))
    if suffix in _KIBI:
        return number * Decimal(1024) ** _KIBI[suffix]
    return number.scaleb(3 * _THOUSANDS.get(suffix, 0))
