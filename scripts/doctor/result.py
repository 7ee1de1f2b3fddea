"""What a check says."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How it stands."""

    OK = "ok"
    FINDING = "finding"
    """Something is wrong: somebody has to do something."""
    SKIPPED = "skipped"
    """It could not be looked at, or there is nothing to look at."""


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the report; never holds a secret."""

    check: str
    status: Status
    message: str
    advice: str = ""
    """What to do about a finding."""


def ok(check: str, message: str) -> Result:
    """All is well."""
    return Result(check, Status.OK, message)


def finding(check: str, message: str, advice: str) -> Result:
    """Something is wrong."""
    return Result(check, Status.FINDING, message, advice)


def skipped(check: str, message: str) -> Result:
    """Nothing was looked at."""
    return Result(check, Status.SKIPPED, message)
