"""What is wrong with single fields that several specs have."""

import re
from typing import Any

from controller.api.model import Problem
from controller.api.names import NAME_LIMIT
from controller.api.repository import mount_path_problem
from controller.api.text import parse_go_duration_s

_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_OBJECT_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
# A DNS name; upper case and underscores, which restic and Stash allow, are left alone.
_ALIAS = re.compile(r"(?!.{254})[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?", re.DOTALL)


def name_problems(path: str, name: str) -> list[Problem]:
    """Return what is wrong with the name of an object, as the API server sees it."""
    if len(name) <= NAME_LIMIT and _OBJECT_NAME.fullmatch(name):
        return []
    message = (
        f"{name[:64]!r} is no name: at most {NAME_LIMIT} small letters, digits, dashes and dots, "
        "a letter or digit on either side of each dot and at both ends"
    )
    return [Problem(path, message)]


def alias_problems(alias: str) -> list[Problem]:
    """Return what is wrong with an alias, which becomes restic's host name."""
    if not alias or _ALIAS.fullmatch(alias):
        return []
    message = f"give a host name of at most 253 characters, such as db-0, not {alias[:64]!r}"
    return [Problem("spec.target.alias", message)]


def mount_problems(volume_mounts: tuple[dict[str, Any], ...]) -> list[Problem]:
    """Return what is wrong with the target's volume mounts."""
    problems = []
    for index, mount in enumerate(volume_mounts):
        path = f"spec.target.volumeMounts[{index}]"
        if index:
            problems.append(Problem(path, "a claim is mounted once: remove it"))
            continue
        folder = str(mount.get("mountPath") or "")
        if problem := mount_path_problem(f"{path}.mountPath", folder):
            problems.append(problem)
        problems += [
            Problem(
                f"{path}.{field}",
                f"the whole claim is mounted: remove it; for a part of it name a folder below "
                f"{folder} in paths",
            )
            for field in ("subPath", "subPathExpr")
            if mount.get(field)
        ]
    return problems


def duration_problems(path: str, text: str) -> list[Problem]:
    """Return what is wrong with a Go duration."""
    if not text:
        return []
    seconds = parse_go_duration_s(text)
    if seconds is None or seconds <= 0:
        return [Problem(path, f"give a positive duration such as 30m or 1h30m, not {text!r}")]
    return []


def replicas_problems(path: str, replicas: int | None, *, most: int) -> list[Problem]:
    """Return what is wrong with a number of ordinals."""
    if replicas is None or 1 <= replicas <= most:
        return []
    return [Problem(path, f"give a number from 1 to {most}, or leave it out, not {replicas}")]
