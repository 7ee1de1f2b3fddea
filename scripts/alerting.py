"""The jobs process's part in alerts: looks at rules when requests were recorded, and sends mails.

A word on PostgreSQL's channels only wakes it. What has to be looked at is found out from the
database each time, by the number of the last change that was seen: a word that was lost costs
`SWEEP_SECONDS`, no alert, and a sweep of 10,000 accounts in which nothing changed is one cheap
query. Up to which change all was looked at is noted, so a process that starts goes on from there,
with the last changes first; what changes meanwhile goes before them.
"""

import asyncio
import contextlib
import logging
import uuid
from dataclasses import dataclass
from itertools import islice
from typing import Final, Self

from api.alert_letter import alerts_url, letters
from api.mail import Transport, open_transport
from scripts.mail_delivery import deliver
from storage import outbox, roles
from storage.alert_readings import PerUsd, per_usd
from storage.alert_rows import Write
from storage.alert_watch import accounts_to_judge, judge_account, judged_up_to
from storage.database import Database
from storage.database_url import service_url
from storage.errors import StorageError
from storage.news import USAGE_CHANNEL, listen
from storage.settings import Settings

SWEEP_SECONDS: Final = 2.0
"""How often it is looked without being told."""
_BREATH_SECONDS = 0.25  # between two looks: requests come in batches
_RETRY_SECONDS = 2.0
_AT_ONCE = 4
_BATCH = 64

logger = logging.getLogger("metrion.alerts")


@dataclass(frozen=True, slots=True)
class Alerting:
    """All that is needed to watch and to mail."""

    settings: Settings
    database: Database
    rates: PerUsd
    write: Write
    transport: Transport

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Prepare; nothing is connected yet.

        Raises:
            SettingsError: METRION_SMTP_URL has not the form of one.
            RightsMissing: the jobs role's password is not there.
            EmbeddedDatabaseError: the embedded server is not running.
        """
        return cls(
            settings,
            Database(service_url(settings, roles.JOBS), pool_size=_AT_ONCE + 2),
            per_usd(settings),
            letters(alerts_url(settings.dashboard_url)),
            open_transport(settings),
        )

    async def run(self) -> None:
        """Watch and mail until cancelled."""
        recorded, mailed = asyncio.Event(), asyncio.Event()
        url = service_url(self.settings, roles.JOBS)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(listen(url, [USAGE_CHANNEL], recorded.set))
                group.create_task(listen(url, [outbox.CHANNEL], mailed.set))
                group.create_task(self.watch(recorded))
                group.create_task(deliver(self.database, self.transport, mailed))
        finally:
            await self.database.close()

    async def watch(self, news: asyncio.Event) -> None:
        """Look at rules for ever; `news` is set when requests were recorded."""
        seen, noted, waiting = 0, 0, dict[uuid.UUID, None]()
        while True:
            try:
                if not noted:
                    seen = max(seen, await judged_up_to(self.database))
                changed = await accounts_to_judge(self.database, seen)
                seen = max([seen, *(number for _, number in changed)])
                waiting = {account_id: None for account_id, _ in changed} | waiting
                for account_id in await self._look_at(list(islice(waiting, _BATCH))):
                    del waiting[account_id]
                if not waiting and seen > noted:
                    noted = await judged_up_to(self.database, seen)
            except StorageError as error:
                logger.warning("rules wait", extra={"reason": str(error)})
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if not waiting:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SWEEP_SECONDS):
                        await news.wait()
                news.clear()
            await asyncio.sleep(0 if waiting else _BREATH_SECONDS)

    async def _look_at(self, accounts: list[uuid.UUID]) -> list[uuid.UUID]:
        """Look at the accounts' rules; return those that need no other look.

        Raises:
            StorageError: the database is away.
        """
        free = asyncio.Semaphore(_AT_ONCE)

        async def look(account_id: uuid.UUID) -> None:
            async with free:
                await judge_account(self.database, account_id, rates=self.rates, write=self.write)

        done = await asyncio.gather(*map(look, accounts), return_exceptions=True)
        for error in done:
            if isinstance(error, StorageError):
                raise error
            if error is not None:  # one account's rules must not silence all others'
                logger.error("rules not judged", exc_info=error)
        return accounts
