"""The jobs process, `python -m scripts.jobs`: what has to be done by itself, again and again.

Every job has a task of its own in one group: none outlives the others, none waits for another.
SIGTERM and SIGINT end it, with exit code 0; what is under way is rolled back, for the next time.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from api.billing import StripeBilling
from api.subscriptions import check_subscriptions
from scripts import heartbeat
from scripts.alerting import Alerting
from scripts.erasing import Erasing
from storage import roles
from storage.billing import forget_events
from storage.core_dumps import forbid_core_dumps
from storage.database import Database
from storage.database_url import service_url
from storage.errors import StorageError
from storage.json_logs import log_as_json
from storage.retention import (
    delete_expired_answers,
    delete_expired_rows,
    drop_expired_partitions,
    ensure_partitions,
)
from storage.sessions import delete_expired
from storage.settings import Settings

_CANNOT_START = 2
_HOUR_SECONDS = 3600.0
# Whoever went to pay is looked after every minute, even if no webhook comes.
_SUBSCRIPTIONS_SECONDS = 30.0
_FIRST_RETRY_SECONDS: Final = 1.0
_LAST_RETRY_SECONDS: Final = 60.0

logger = logging.getLogger("metrion.jobs")


@dataclass(frozen=True, slots=True)
class Job:
    """Something that is done once at the start, and then every so often."""

    name: str
    run: Callable[[Database], Awaitable[object]]
    every_seconds: float


JOBS: Final = (
    # Partitions are needed by the day; hourly, because a machine that slept has missed its hour.
    Job("ensure partitions", ensure_partitions, _HOUR_SECONDS),
    Job("drop expired partitions", drop_expired_partitions, _HOUR_SECONDS),
    Job("delete expired rows", delete_expired_rows, _HOUR_SECONDS),
    Job("delete expired sign-ins", delete_expired, _HOUR_SECONDS),
    Job("delete expired answers", delete_expired_answers, _HOUR_SECONDS),
    Job("forget billing events", forget_events, _HOUR_SECONDS),
)


async def repeat(job: Job, database: Database) -> None:
    """Do a job for ever; when it fails, again after a second, then less and less often."""
    retry = _FIRST_RETRY_SECONDS
    while True:
        try:
            result = await job.run(database)
        except StorageError as error:
            logger.warning("%s failed, again in %.0f s: %s", job.name, retry, error)
            await asyncio.sleep(retry)
            retry = min(2 * retry, _LAST_RETRY_SECONDS)
        else:
            logger.info("%s: %s", job.name, result)
            retry = _FIRST_RETRY_SECONDS
            await asyncio.sleep(job.every_seconds)


async def work(jobs: Sequence[Job], settings: Settings) -> None:
    """Do all jobs until a signal comes.

    Raises:
        StorageError: it cannot begin: the database's address or password is missing.
    """
    database = Database(service_url(settings, roles.JOBS))
    alerting = Alerting.open(settings)
    stripe = StripeBilling.open(settings)
    if stripe is not None:
        check = partial(check_subscriptions, stripe=stripe)
        jobs = [*jobs, Job("check subscriptions", check, _SUBSCRIPTIONS_SECONDS)]
    erasing = Erasing.open(settings, stripe)
    told_to_end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told_to_end.set)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(repeat(job, database)) for job in jobs]
            tasks.append(group.create_task(alerting.run()))
            tasks.append(group.create_task(erasing.run()))
            alive = settings.data_dir / heartbeat.FILE_NAME
            tasks.append(group.create_task(heartbeat.beat(alive)))
            await told_to_end.wait()
            for task in tasks:
                task.cancel()
    finally:
        if stripe is not None:
            stripe.close()
        await database.close()


def main() -> int:
    """Work until told to end. Returns the exit code."""
    log_as_json(sys.stderr)
    forbid_core_dumps()
    try:
        asyncio.run(work(JOBS, Settings.load()))
    except StorageError as error:
        print(f"metrion jobs: {error}", file=sys.stderr)
        return _CANNOT_START
    return 0


if __name__ == "__main__":
    sys.exit(main())
