"""Debian packages: what is missing is found, installed at once by root, or named in one line."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from hack.cluster import packages
from hack.cluster.errors import ClusterError

NEEDED = {"/nowhere/a": "package-a", "no-such-program-b": "package-b", "/nowhere/c": "package-a"}


def test_missing_packages_are_named_once_in_order() -> None:
    """What is there, by path or on PATH, asks for nothing; two files of a package ask once."""
    assert packages.missing({"/": "base", "sh": "dash"}) == []
    assert packages.missing({**NEEDED, "sh": "dash"}) == ["package-a", "package-b"]


def test_programs_in_sbin_are_found_without_it_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`su` keeps a user's PATH, which has no sbin on Debian."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert packages.missing({"ldconfig": "libc-bin"}) == []


def test_who_cannot_install_is_told_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root or apt-get there is one line with the names, and nothing is tried."""
    monkeypatch.setattr(packages, "installable", lambda: False)
    with pytest.raises(ClusterError, match=r"^missing on this machine: package-a package-b \("):
        packages.ensure(NEEDED)


def test_one_call_installs_all_and_fresh_lists_are_fetched_when_it_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fresh machine has no package lists: they are fetched after the first refusal."""
    calls: list[list[str]] = []

    def answer(argv: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        calls.append(argv)
        return subprocess.CompletedProcess(argv, 100 if len(calls) == 1 else 0, "", "no lists")

    monkeypatch.setattr(packages, "installable", lambda: True)
    monkeypatch.setattr(subprocess, "run", answer)
    packages.ensure(NEEDED)
    assert [argv[1] for argv in calls] == ["install", "update", "install"]
    assert calls[2] == calls[0]
    assert calls[0][-2:] == ["package-a", "package-b"]
    assert capsys.readouterr().out == "installing Debian packages: package-a package-b\n"


def test_a_failing_apt_get_is_told_with_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the second try fails too the error has the end of what apt-get said."""

    def refuse(argv: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(argv, 100, "", "E: no network\n")

    monkeypatch.setattr(packages, "installable", lambda: True)
    monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(ClusterError, match=r"package-a package-b failed:\nE: no network"):
        packages.ensure(NEEDED)
