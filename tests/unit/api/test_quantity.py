"""Quantities: what Kubernetes takes, and nothing else."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.quantity import parse_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("1", 1),
        ("+1", 1),
        ("-1Gi", -(2**30)),
        ("10Gi", 10 * 2**30),
        ("0.1Ki", Decimal("102.4")),
        (".5k", 500),
        ("5.", 5),
        ("1e3", 1000),
        ("1E3", 1000),
        ("1E", 10**18),
        ("1Ei", 2**60),
        ("1500m", Decimal("1.5")),
        ("12e-1", Decimal("1.2")),
        ("", None),
        ("Gi", None),
        ("1GB", None),
        ("1 Gi", None),
        ("1gi", None),
        ("1K", None),
        ("1Gi\n", None),
        ("٣Gi", None),
        ("1e999", None),
        ("NaN", None),
        ("1.2.3", None),
    ],
)
def test_quantities(text: str, value: object) -> None:
    """Exact; anything else is None."""
    assert parse_quantity(text) == value


@given(st.text(alphabet="0123456789.eEkKiMGmnu+- \n", max_size=12))
def test_no_text_is_an_error(text: str) -> None:
    """A number, or None."""
    found = parse_quantity(text)
    assert found is None or found.is_finite()
