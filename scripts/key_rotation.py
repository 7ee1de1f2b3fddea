"""`metrion rotate-master-key`: what it does to ring and database, and what it says meanwhile."""

import asyncio
import time

from storage import roles
from storage.database import Database
from storage.database_url import administrator_url
from storage.rotation import Progress, Report, Tell, retire, rotate
from storage.settings import Settings

_SAY_EVERY_SECONDS = 1.0


def rotate_master_key(settings: Settings, *, retire_old_keys: bool) -> bool:
    """Rotate, or drop the old keys; print progress and a report. Returns whether nothing is left.

    Raises:
        MasterKeyError, DatabaseUnavailable: see `storage.rotation`; the same command goes on.
    """
    report = asyncio.run(_run(settings, retire_old_keys=retire_old_keys))
    for line in describe(
        report, in_file=settings.master_keys_are_in_a_file, retiring=retire_old_keys
    ):
        print(line)
    return report.is_complete


async def _run(settings: Settings, *, retire_old_keys: bool) -> Report:
    database = Database(administrator_url(settings), act_as=roles.DEFINER, pool_size=1)
    try:
        work = retire if retire_old_keys else rotate
        return await work(database, settings, progress_printer())
    finally:
        await database.close()


def progress_printer() -> Tell:
    """Return what prints progress: the beginning and the end of a column, and once a second."""
    last_said = 0.0

    def tell(progress: Progress) -> None:
        nonlocal last_said
        now = time.monotonic()
        if progress.done not in (0, progress.total) and now - last_said < _SAY_EVERY_SECONDS:
            return
        last_said = now
        print(f"{progress.column}: {progress.done} of {progress.total}", flush=True)

    return tell


def describe(report: Report, *, in_file: bool, retiring: bool) -> list[str]:
    """Return what a person should know of a run, in lines."""
    lines = [
        f"master key {report.active} is active" + (" and new" if report.added else ""),
        f"sealed again: {sum(report.resealed.values())} values",
    ]
    lines += [f"does not open: {where}: {why}" for where, why in report.unreadable.items()]
    lines += [
        f"{count} values are still under master key {key_id}, which must stay"
        for key_id, count in sorted(report.needed.items())
    ]
    if report.unreadable:
        lines.append(
            "regenerate such a token, set such a key again or delete it; then run this again"
        )
    elif report.needed:
        lines.append("they were in use all the time: run this again")
    elif report.retired:
        dropped = ", ".join(map(str, report.retired))
        lines.append(f"dropped for good: master key {dropped}; backups from before still need it")
    elif not in_file:
        lines.append("no value needs another key: take the others out of METRION_MASTER_KEYS")
    elif retiring:
        lines.append("there was no old key to drop")
    else:
        lines.append("no value needs an older key: --retire drops them")
    return lines
