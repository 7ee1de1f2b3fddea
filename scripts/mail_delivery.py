"""The outbox's other end: sends what waits in it, again and again, a little later after a failure.

Several jobs processes may do this side by side: a mail is one's own for as long as a try may last.
"""

import asyncio
import contextlib
import logging
from datetime import UTC, datetime
from typing import Final

from api.mail import Mail, MailError, Transport
from storage.database import Database
from storage.errors import StorageError
from storage.outbox import LONGEST_WAIT, WaitingMail, finish, put_off, take_mails

SWEEP_SECONDS: Final = 1.0
"""How often the outbox is looked at without being told that there is something in it."""
_AT_ONCE = 4
_RETRY_SECONDS = 2.0

logger = logging.getLogger("metrion.mail")


async def deliver(database: Database, transport: Transport, news: asyncio.Event) -> None:
    """Send mails for ever; `news` is set when there may be one."""
    while True:
        try:
            sent = await deliver_some(database, transport)
        except StorageError as error:
            logger.warning("mails wait", extra={"reason": str(error)})
            await asyncio.sleep(_RETRY_SECONDS)
            continue
        if not sent:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_SECONDS):
                    await news.wait()
            news.clear()


async def deliver_some(database: Database, transport: Transport) -> int:
    """Send some of the mails that are due; return how many were tried.

    Raises:
        StorageError: the database is away; what was taken is due again when its lease ends.
    """
    mails = await take_mails(database, _AT_ONCE)
    # each to its end, also when another one's end cannot be noted
    done = await asyncio.gather(
        *(_deliver(database, transport, mail) for mail in mails), return_exceptions=True
    )
    for error in done:
        if error is not None:
            raise error
    return len(mails)


async def _deliver(database: Database, transport: Transport, mail: WaitingMail) -> None:
    try:
        await transport.send(
            Mail(
                mail.recipient,
                mail.subject,
                mail.text,
                html=mail.html,
                id=mail.id,
                written_at=mail.created_at,
            )
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, other people's mails go on
        reason = str(error) if isinstance(error, MailError) else type(error).__name__
        if datetime.now(UTC) - mail.created_at >= LONGEST_WAIT:
            logger.error("mail given up", extra={"reason": reason})  # noqa: TRY400 - no bug
            await finish(database, mail, was_sent=False)
        else:
            logger.warning("mail not sent", extra={"reason": reason})
            await put_off(database, mail, reason)
    else:
        await finish(database, mail, was_sent=True)
