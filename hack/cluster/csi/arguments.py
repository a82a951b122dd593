"""Checks of a call's arguments, pure: sizes, access modes, ids, pages.

The codes are those of the CSI specification's error tables.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from hack.cluster.csi.refusal import Code, Refusal

MIB = 1 << 20
DEFAULT_BYTES = 1 << 30
MINIMUM_BYTES = MIB
"""Below this, btrfs' own metadata would fill the quota."""

OWN_PARAMETERS = "csi.storage.k8s.io/"
"""The prefix of what the sidecars add; the driver itself has no StorageClass parameters."""

MODES = (
    "SINGLE_NODE_WRITER",
    "SINGLE_NODE_READER_ONLY",
    "SINGLE_NODE_SINGLE_WRITER",
    "SINGLE_NODE_MULTI_WRITER",
    "MULTI_NODE_READER_ONLY",
    "MULTI_NODE_SINGLE_WRITER",
    "MULTI_NODE_MULTI_WRITER",
)
"""There is one node, so all of them can be kept."""

MOUNT_FLAGS = ("ro", "rw", "noexec", "nosuid", "nodev", "noatime", "nodiratime", "relatime")
"""What a bind mount can have of its own; the kernel would silently drop any other option."""

_TOKEN = "after:"  # noqa: S105  # a page's position, not a secret

Record = TypeVar("Record", bound=Any)


def required(request: Any, *fields: str) -> None:
    """Refuse a call that lacks one of these fields (strings, messages or lists)."""
    for field in fields:
        has_presence = request.DESCRIPTOR.fields_by_name[field].has_presence
        if not (request.HasField(field) if has_presence else getattr(request, field)):
            raise Refusal(Code.INVALID_ARGUMENT, f"{field} is required")


def known_parameters(parameters: Mapping[str, str]) -> None:
    """Refuse StorageClass or VolumeSnapshotClass parameters that the driver does not know."""
    unknown = sorted(key for key in parameters if not key.startswith(OWN_PARAMETERS))
    if unknown:
        raise Refusal(
            Code.INVALID_ARGUMENT,
            f"parameters: {', '.join(unknown)}: not known, this driver takes none: remove them "
            "from the class",
        )


def capacity_bytes(
    *, required_bytes: int, limit_bytes: int, source_bytes: int, pool_bytes: int
) -> int:
    """Choose a new volume's size; 0 means not stated, as in `CapacityRange`.

    Raises:
        Refusal: OUT_OF_RANGE when no size fits the range and the source, RESOURCE_EXHAUSTED when
            the whole pool is smaller.
    """
    _check_range(required_bytes, limit_bytes)
    if source_bytes and required_bytes and required_bytes < source_bytes:
        raise Refusal(
            Code.OUT_OF_RANGE,
            f"{required_bytes} bytes are requested but the source has {source_bytes}: "
            "request at least that",
        )
    least = max(required_bytes, source_bytes, MINIMUM_BYTES)
    if limit_bytes and least > limit_bytes:
        raise Refusal(
            Code.OUT_OF_RANGE, f"limit of {limit_bytes} bytes is below the {least} that are needed"
        )
    chosen = least
    if not required_bytes and not source_bytes:
        chosen = max(least, min(DEFAULT_BYTES, limit_bytes or DEFAULT_BYTES, pool_bytes))
    if chosen > pool_bytes:
        raise Refusal(
            Code.RESOURCE_EXHAUSTED,
            f"{chosen} bytes are requested but the whole pool has {pool_bytes}",
        )
    return chosen


def in_range(size_bytes: int, *, required_bytes: int, limit_bytes: int) -> bool:
    """Tell whether an existing size satisfies a `CapacityRange`."""
    return size_bytes >= required_bytes and (not limit_bytes or size_bytes <= limit_bytes)


def _check_range(required_bytes: int, limit_bytes: int) -> None:
    if required_bytes < 0 or limit_bytes < 0:
        raise Refusal(Code.OUT_OF_RANGE, "capacity_range: a size is negative")
    if limit_bytes and required_bytes > limit_bytes:
        raise Refusal(
            Code.OUT_OF_RANGE,
            f"capacity_range: required {required_bytes} bytes exceed the limit of {limit_bytes}",
        )


def mode_name(capability: Any) -> str:
    """Return the access mode of a `VolumeCapability` by its published name, "" if unset."""
    kind = capability.access_mode.DESCRIPTOR.fields_by_name["mode"].enum_type
    value = kind.values_by_number.get(capability.access_mode.mode)
    return "" if value is None or value.number == 0 else value.name


def capability_problem(capability: Any) -> str:
    """Return why a `VolumeCapability` cannot be kept, or "" if it can."""
    if capability.HasField("block"):
        return "volumeMode Block is not supported by this driver: use volumeMode Filesystem"
    if not capability.HasField("mount"):
        return "volume_capability: access type is required: mount"
    return _mount_problem(capability.mount) or _mode_problem(mode_name(capability))


def _mount_problem(mount: Any) -> str:
    if mount.fs_type not in ("", "btrfs"):
        return f"fsType {mount.fs_type} is not supported by this driver: leave it out"
    for flag in mount.mount_flags:
        if flag not in MOUNT_FLAGS:
            known = ", ".join(MOUNT_FLAGS)
            return f"mountOptions: {flag} is not supported by this driver: use of {known}"
    return ""


def _mode_problem(mode: str) -> str:
    if not mode:
        return "volume_capability: access_mode is required"
    if mode not in MODES:
        return f"access mode {mode} is not supported: use one of {', '.join(MODES)}"
    return ""


def check_capabilities(capabilities: Sequence[Any]) -> None:
    """Refuse a call with a capability that cannot be kept."""
    for capability in capabilities:
        if problem := capability_problem(capability):
            raise Refusal(Code.INVALID_ARGUMENT, problem)


def page(
    records: Sequence[Record], *, max_entries: int, starting_token: str
) -> tuple[list[Record], str]:
    """Return one page of records (ordered by id) and the token of the next, "" at the end.

    A token names the last id that was seen, so it stays good when that one is deleted.

    Raises:
        Refusal: ABORTED for a token that is not ours, INVALID_ARGUMENT for a negative size.
    """
    if max_entries < 0:
        raise Refusal(Code.INVALID_ARGUMENT, f"max_entries is negative: {max_entries}")
    if starting_token and not starting_token.startswith(_TOKEN):
        raise Refusal(Code.ABORTED, f"starting_token {starting_token!r} is not valid: start again")
    after = starting_token.removeprefix(_TOKEN)
    rest = [record for record in records if record.id > after]
    if not max_entries or len(rest) <= max_entries:
        return rest, ""
    shown = rest[:max_entries]
    return shown, f"{_TOKEN}{shown[-1].id}"
