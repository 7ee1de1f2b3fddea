"""Mails on their way: put here by the transaction that decides on one, sent by the jobs process.

The decision and its mail are committed together, so neither is there without the other. A mail is
taken for `LEASE_SECONDS`, longer than a try may last: whoever dies while sending it leaves it to
the next. It is deleted when it was handed over; its id is in the Message-ID and in the name of a
kept file, so that what is sent a second time, because the first time's end was not seen, can be
told to be the same.
"""

import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database import Database
from storage.identifiers import uuid7

CHANNEL: Final = "metrion_outbox"
"""Where it is announced, at commit, that there is a mail."""
LEASE_SECONDS: Final = 60
LONGEST_WAIT: Final = timedelta(days=4)
"""After this a mail that cannot be sent is given up: what it says is no news any more."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 2, 600
_LONGEST_REASON = 500

_PUT = text("""
    SELECT metrion.put_mail(:id, :account_id, :key, :recipient, :subject, :text, :html)
""")
_TAKE = text("""
    SELECT id, recipient, subject, text_body, html_body, created_at, attempts
    FROM metrion.take_mails(:most, :seconds) ORDER BY created_at, id
""")
_PUT_OFF = text("SELECT metrion.put_mail_off(:id, :attempt, :reason, :seconds)")
_FINISH = text("SELECT metrion.finish_mail(:id, :was_sent)")


@dataclass(frozen=True, slots=True)
class WaitingMail:
    """A mail that was taken, to be sent now."""

    id: uuid.UUID
    recipient: str
    subject: str
    text: str = field(repr=False)
    html: str | None = field(repr=False)
    created_at: datetime
    attempt: int
    """Counts from 1."""

    @property
    def pause_seconds(self) -> int:
        """How long to wait for the next try if this one fails: 2 s, then twice as long each."""
        doublings = min(self.attempt - 1, 10)
        return min(_FIRST_PAUSE_SECONDS * 2**doublings, _LONGEST_PAUSE_SECONDS)


async def put_mail(
    connection: AsyncConnection,
    *,
    account_id: uuid.UUID | None,
    key: str,
    recipient: str,
    subject: str,
    text: str,
    html: str | None = None,
    mail_id: uuid.UUID | None = None,
) -> bool:
    """Put a mail into the outbox, as part of the transaction; say whether it is a new one.

    As `metrion_api` or `metrion_jobs`. An account's mail goes with the account; without one it
    stays until it is sent.

    Args:
        connection: of `Database.account` or `Database.system`.
        account_id: whose mail it is; None: of nobody who still has an account.
        key: what the mail is about. While a mail with this key is waiting, no other is taken.
        recipient: the address.
        subject: one line.
        text: the whole mail in plain text.
        html: the same for who wants to see it so.
        mail_id: an id that is known elsewhere, too.
    """
    values = {
        "id": mail_id or uuid7(),
        "account_id": account_id,
        "key": key,
        "recipient": recipient,
        "subject": subject,
        "text": text,
        "html": html,
    }
    return (await connection.execute(_PUT, values)).scalar_one()


async def take_mails(database: Database, most: int) -> list[WaitingMail]:
    """Take up to `most` mails that are due, for `LEASE_SECONDS`, as `metrion_jobs`.

    Raises:
        DatabaseUnavailable: the next try may work.
    """
    async with database.system() as connection:
        rows = await connection.execute(_TAKE, {"most": most, "seconds": LEASE_SECONDS})
        return [WaitingMail(*row) for row in rows]


async def put_off(database: Database, mail: WaitingMail, reason: str) -> None:
    """Leave a mail that could not be sent for later; `reason` names no person.

    Raises:
        DatabaseUnavailable: it stays taken, and is due again when its lease ends.
    """
    values = {
        "id": mail.id,
        "attempt": mail.attempt,
        "reason": reason[:_LONGEST_REASON],
        "seconds": mail.pause_seconds,
    }
    async with database.system() as connection:
        await connection.execute(_PUT_OFF, values)


async def finish(database: Database, mail: WaitingMail, *, was_sent: bool) -> None:
    """Forget a mail: it was handed over, or is given up.

    Raises:
        DatabaseUnavailable: it stays taken, and is sent again when its lease ends.
    """
    async with database.system() as connection:
        await connection.execute(_FINISH, {"id": mail.id, "was_sent": was_sent})
