"""What restic's exit code means (restic's documentation, "Exit codes")."""

from enum import IntEnum


class Exit(IntEnum):
    """restic's exit codes. `UNKNOWN` stands for every other one, signals (< 0) among them."""

    OK = 0
    FATAL = 1
    GO_RUNTIME = 2
    INCOMPLETE = 3
    NO_REPOSITORY = 10
    LOCKED = 11
    WRONG_PASSWORD = 12
    INTERRUPTED = 130
    UNKNOWN = -1

    @classmethod
    def of(cls, code: int) -> "Exit":
        """Return the meaning of a process's exit code."""
        known = code >= 0 and code in cls._value2member_map_
        return cls(code) if known else cls.UNKNOWN
