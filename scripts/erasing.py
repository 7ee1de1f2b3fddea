"""The jobs process's part in erasures: carries on with what was asked for, until it is done."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final, Self

from api.billing import StripeBilling
from api.mail import mail_folder
from api.subscriptions import Subscriptions
from storage import roles
from storage.database import Database
from storage.database_url import service_url
from storage.erasure import Eraser
from storage.errors import StorageError
from storage.settings import Settings

LOOK_SECONDS: Final = 2.0
"""How often it is looked whether there is something to erase."""
_RETRY_SECONDS: Final = 5.0

logger = logging.getLogger("metrion.erasure")


@dataclass(frozen=True, slots=True)
class Erasing:
    """What erases; to be run beside the other jobs."""

    eraser: Eraser
    database: Database

    @classmethod
    def open(cls, settings: Settings, stripe: StripeBilling | None) -> Self:
        """Prepare; nothing is connected yet.

        Raises:
            StorageError: the database's address or password is missing.
        """
        # one holds the lock while the other works
        database = Database(service_url(settings, roles.JOBS), pool_size=2)
        return cls(open_eraser(settings, database, stripe), database)

    async def run(self) -> None:
        """Erase what is due, for ever; what fails is tried again later."""
        try:
            while True:
                pause = await self._look()
                await asyncio.sleep(pause)
        finally:
            await asyncio.shield(self.database.close())

    async def _look(self) -> float:
        try:
            worked_on = await self.eraser.carry_on(self.database)
        except (StorageError, OSError) as error:
            reason = str(error) if isinstance(error, StorageError) else error.strerror
            logger.warning("erasures wait", extra={"reason": reason})
            return _RETRY_SECONDS
        if worked_on:
            logger.info("erasures: %d worked on", worked_on)
        return LOOK_SECONDS


def open_eraser(settings: Settings, database: Database, stripe: StripeBilling | None) -> Eraser:
    """Return what erases accounts of this deployment; `database` is as `metrion_jobs`."""
    return Eraser(Subscriptions(database, stripe), mail_folder(settings))
