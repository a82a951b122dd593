"""Secrets in texts (D32)."""

import base64
import json
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from controller.api.report import ConditionReport, HostReport, RunReport, StepReport, StepState
from runner.redaction import Redactor
from runner.report import redacted

VALUES = st.text(st.characters(exclude_categories=["Cs"]), min_size=4).filter(
    lambda text: len(text.strip()) >= 4 and "\0" not in text and "*" not in text
)


@given(VALUES, st.text(max_size=10), st.text(max_size=10))
def test_no_form_of_a_value_survives(value: str, before: str, after: str) -> None:
    """A value is masked as it is, in JSON, in base64 and in a URL."""
    redact = Redactor({"KEY": value.encode()})
    encoded = base64.b64encode(value.encode()).decode().rstrip("=")
    for form in (value, json.dumps(value)[1:-1], encoded, quote(value, safe="")):
        assert form not in redact(f"{before}{form}{after}").replace("***", "\0")


def test_trailing_newline() -> None:
    """A password with a newline is masked without it, too."""
    assert Redactor({"KEY": b"open sesame\n"})("said open sesame.") == "said ***."


def test_lines_of_a_key_file() -> None:
    """Each line of a value of several lines is masked; a CA certificate is public."""
    redact = Redactor({"JSON": b'{\n  "private_key": "abcdef"\n}', "CA_CERT_DATA": b"PEM PEM PEM"})
    assert "abcdef" not in redact('near "private_key": "abcdef"')
    assert redact("PEM PEM PEM") == "PEM PEM PEM"


def test_parameters_of_a_signature() -> None:
    """A shared access signature comes back with its parameters sorted, and encoded anew."""
    redact = Redactor({"AZURE_ACCOUNT_SAS": b"sv=2024-11-04&sig=AbC%2fdefghijkl%3D&se=2027-01-01"})
    for sig in ("AbC%2Fdefghijkl%3D", "AbC/defghijkl=", "AbC%2fdefghijkl%3D"):
        assert sig not in redact(
            f'Head "https://a.example/x?se=2027-01-01&sig={sig}&sv=2024-11-04"'
        )


def test_user_names_in_urls() -> None:
    """Credentials in a URL are masked even if the Secret does not hold them."""
    assert Redactor({})("rest:https://me:pw@host/x") == "rest:https://***@host/x"


def test_short_values_are_masked_as_words() -> None:
    """A value of three characters is masked where it stands alone, not inside of other words."""
    redact = Redactor({"KEY": b"not\n", "BLANK": b" "})
    assert redact('nothing was "not" found, not=a knot') == 'nothing was "***" found, ***=a knot'


def test_every_sentence_of_a_report_is_masked() -> None:
    """What other programs said, and what users named, may hold a secret."""
    text = "it said open sesame"
    step = StepReport(StepState.FAILED, text)
    host = HostReport("h", False, error=text, unreadable=(text,), incomplete=text)
    condition = ConditionReport("Ready", "True", "Done", text)
    report = RunReport(
        (host,), retention=step, verification=step, metrics=step, conditions=(condition,)
    )
    clean = redacted(report, Redactor({"KEY": b"open sesame"}))
    assert "sesame" not in repr(clean)
    assert repr(clean).count("it said ***") == 7
