"""controller.settings: the waits that can be set."""

import pytest

from controller.settings import parse_settings

IMAGE = {"DREY_IMAGE": "drey:1"}


def test_waits_have_defaults_and_are_go_durations() -> None:
    """As everywhere in the Stash API."""
    usual = parse_settings([], IMAGE)
    assert (usual.start_timeout_s, usual.verify_interval_s) == (600.0, 86_400.0)
    assert usual.snapshot_timeout_s == 7_200.0
    assert parse_settings(["--snapshot-timeout=90s"], IMAGE).snapshot_timeout_s == 90.0


@pytest.mark.parametrize("text", ["0s", "-1h", "2", "2d", ""])
def test_a_wait_without_an_end_or_a_meaning_is_refused(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the flag and what it may look like."""
    with pytest.raises(SystemExit):
        parse_settings([f"--snapshot-timeout={text}"], IMAGE)
    assert "--snapshot-timeout" in capsys.readouterr().err
