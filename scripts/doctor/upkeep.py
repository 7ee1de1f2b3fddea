"""What the jobs process has to have done: partitions ahead, old ones gone, mails sent."""

from collections.abc import Generator
from datetime import timedelta

from scripts.doctor.result import Result, finding, ok
from storage.diagnostics import Diagnosis, today
from storage.retention import AHEAD

_OVERDUE_DAYS = 2
_ADVICE = "see that the jobs process runs (`python -m scripts.jobs`), and what its log says"


def check_upkeep(diagnosis: Diagnosis) -> Generator[Result]:
    """Look whether somebody does the jobs."""
    faults: list[Result] = []
    # made hourly: a day less than the full time ahead means that nobody did it for a day
    needed = today() + AHEAD - timedelta(days=1)
    last_days = diagnosis.last_partition_days()
    short = [days for days in (7, 90) if (last_days.get(days) or today()) < needed]
    if short:
        faults.append(
            finding(
                "jobs", f"no partitions of the log were made for a day ({short} days' log)", _ADVICE
            )
        )
    if expired := diagnosis.expired_partitions(_OVERDUE_DAYS):
        faults.append(
            finding("jobs", f"{expired} partitions should have been dropped long ago", _ADVICE)
        )
    if late := diagnosis.late_mails():
        faults.append(finding("jobs", f"{late} mails should have been sent long ago", _ADVICE))
    yield from faults
    if not faults:
        yield ok("jobs", f"partitions are there until {min(last_days.values())}, nothing is late")
