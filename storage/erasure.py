"""Erasure: everything of an account goes, in steps that can be gone on with after any crash.

A request (`request_erasure`) shuts the account at once: token, sessions and codes are gone, and its
address is free. What follows is done by the jobs process, or by whoever calls `Eraser.carry_on`:

1. `requested` → `cancelled`: the subscription is cancelled. Until that has worked it is tried
   again, and nothing else is deleted.
2. `cancelled` → `purged`: rows go in chunks, so that nobody waits for them; the last of them and
   the account itself in one transaction, after which no row that is still under way finds an
   account. What is in a proxy's journal is dropped when it arrives at the database, and is off the
   disk seconds later (`storage.journal`); what was put aside too (`storage.rejected`).
3. `purged` → `receipt`: kept mails are deleted, and the receipt is put into the outbox.
4. `receipt` → `done`: it was sent. Counts, times and a keyed digest of the address are kept for
   `KEEP_DAYS`, to answer for it; then they go, and with them a receipt that was kept as a file.

Each step is noted in the transaction that does it; those that are no transaction (Stripe, files)
may be done twice. One process works at a time: it holds a lock that ends with its connection.
"""

import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.accounts import get_account
from storage.addresses import folded
from storage.database import Database
from storage.erasure_receipt import write_receipt
from storage.errors import NotFound, StorageError
from storage.identifiers import uuid7
from storage.kept_mails import delete_mails, find_mails
from storage.outbox import put_mail
from storage.sealing import MasterKeys

KEEP_DAYS: Final = 90
"""How long the numbers of an erasure are kept, and a receipt that was written into a file."""
CHUNK_ROWS: Final = 5000
"""Of the log; of other tables a tenth: their rows may be long, and ingest waits for them."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 2, 600
_RECEIPT_PAUSE_SECONDS: Final = 5  # between looks whether the receipt was sent
_MOST_DOUBLINGS = 12

_REQUEST = text("SELECT metrion.request_erasure(:id, :addresses, :region)")
_COLUMNS: Final = (
    "id, account_id, email, state, region, requested_at, purged_at, deleted, failures, last_error"
)
_CLAIM = text(f"SELECT {_COLUMNS} FROM metrion.claim_erasure(:wanted)")  # noqa: S608 - constants
_STAY = text(
    "SELECT set_config(name, '0', true) FROM pg_settings"
    # the latter since PostgreSQL 17
    " WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"
)
_LOOK = text(f"SELECT {_COLUMNS} FROM metrion.look_at_erasure(:id)")  # noqa: S608 - constants
_REACH = text("SELECT metrion.reach_erasure_state(:id, :before, :reached)")
_POSTPONE = text("SELECT metrion.postpone_erasure(:id, :seconds, :reason)")
_TABLES = text("SELECT metrion.account_tables()")
_PURGE_CHUNK = text("SELECT metrion.purge_chunk(:id, :place, :chunk)")
_FINISH_PURGE = text("SELECT metrion.finish_purge(:id)")
_NOTE_MAILS = text("SELECT metrion.note_erased_mails(:id, :found)")
_FORGET = text("SELECT * FROM metrion.forget_erasures(:days)")

_log = logging.getLogger("metrion.erasure")


class Subscriptions(Protocol):
    """What accounts pay for."""

    async def cancel_subscription(self, account_id: uuid.UUID) -> None:
        """Return when nothing is paid for this account any more; also if it never was.

        May be called again after it has worked.

        Raises:
            StorageError: it must be tried again.
        """
        ...


class NoSubscriptions:
    """Nobody pays: there is no Stripe here."""

    async def cancel_subscription(self, account_id: uuid.UUID) -> None:
        """Do nothing: there is nothing to cancel."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """An erasure, as the database has it."""

    id: uuid.UUID
    account_id: uuid.UUID | None
    """None: it is done."""
    email: str | None
    state: str
    region: str
    requested_at: datetime
    purged_at: datetime | None
    deleted: Mapping[str, int]
    failures: int
    last_error: str | None

    @property
    def pause_seconds(self) -> int:
        """How long to wait after one more failure: 2 s, then twice as long each time."""
        return min(
            _FIRST_PAUSE_SECONDS * 2 ** min(self.failures, _MOST_DOUBLINGS), _LONGEST_PAUSE_SECONDS
        )


async def request_erasure(connection: AsyncConnection, keys: MasterKeys, region: str) -> uuid.UUID:
    """Begin the erasure of the transaction's account, as `metrion_api`; return its id.

    When the transaction is committed nobody gets in any more, and it will be carried through.

    Raises:
        NotFound: there is no such account.
    """
    account = await get_account(connection)
    addresses = keys.digests("address", folded(account.email))
    values = {"id": uuid7(), "addresses": addresses, "region": region}
    erasure_id = (await connection.execute(_REQUEST, values)).scalar_one()
    if erasure_id is None:
        raise NotFound("there is no such account")
    return erasure_id


async def look_at_erasure(database: Database, erasure_id: uuid.UUID) -> Erasure | None:
    """Return an erasure, whoever works on it, as `metrion_jobs`; None: it was long ago.

    Raises:
        DatabaseUnavailable: the next try may work.
    """
    async with database.system() as connection:
        row = (await connection.execute(_LOOK, {"id": erasure_id})).mappings().one_or_none()
    return None if row is None else Erasure(**row)


class Eraser:
    """Carries erasures through, as `metrion_jobs`."""

    def __init__(self, subscriptions: Subscriptions, mail_folder: Path) -> None:
        """Prepare.

        Args:
            subscriptions: where they are cancelled.
            mail_folder: where mails are kept that no SMTP server takes.
        """
        self._subscriptions = subscriptions
        self._mail_folder = mail_folder

    async def carry_on(self, database: Database) -> int:
        """Take every erasure that is due as far as it goes; return how many were looked at.

        One that fails is noted and left for later; the others go on. Done ones are forgotten when
        their time is over.

        Raises:
            DatabaseUnavailable: the next try goes on where this one stopped.
        """
        seen = 0
        while await self._work_on_one(database, None) is not None:
            seen += 1
        await self._forget(database)
        return seen

    async def erase(self, database: Database, erasure_id: uuid.UUID) -> bool:
        """Take one erasure as far as it goes now, due or not; say whether everything is deleted.

        If not, another process works on it, or it has to be tried again: the jobs process does.

        Raises:
            DatabaseUnavailable: as `carry_on`.
        """
        await self._work_on_one(database, erasure_id)
        erasure = await look_at_erasure(database, erasure_id)
        return erasure is None or erasure.state in {"purged", "receipt", "done"}

    async def _work_on_one(self, database: Database, wanted: uuid.UUID | None) -> str | None:
        """Work on the next erasure and return the state that it reached; None: there is none.

        The lock is held by a transaction that does nothing else: it ends with this process.
        """
        async with database.system() as guard:
            erasure = await _claim(guard, wanted)
            if erasure is None:
                return None
            await guard.execute(_STAY)  # a step may take longer than the server lets others be idle
            while True:
                try:
                    is_over = await self._take_step(database, erasure)
                except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
                    await _postpone_failed(database, erasure, error)
                    return erasure.state
                if is_over:
                    return erasure.state
                # with what the step has counted
                erasure = await _claim(guard, erasure.id) or erasure

    async def _take_step(self, database: Database, erasure: Erasure) -> bool:
        """Do what leads to the next state; say whether nothing more can be done now."""
        match erasure.state:
            case "requested":
                if erasure.account_id is not None:  # so it always is, in this state
                    await self._subscriptions.cancel_subscription(erasure.account_id)
                await _reach(database, erasure, "cancelled")
            case "cancelled":
                await _purge(database, erasure)
            case "purged":
                deleted = await self._delete_mails(database, erasure)
                await _put_receipt(database, erasure, deleted)
            case _:
                # again: one may have been on its way when the others were deleted
                await self._delete_mails(database, erasure)
                if not await _reach(database, erasure, "done"):
                    await _postpone(database, erasure, _RECEIPT_PAUSE_SECONDS, None)
                return True
        return False

    async def _delete_mails(self, database: Database, erasure: Erasure) -> Mapping[str, int]:
        """Delete the kept mails of before the request; return all that is deleted by now.

        Later ones are of a new account with the same address, and the receipt, which stays
        whatever the clocks say.
        """
        mails = [
            mail
            for mail in await find_mails(self._mail_folder, erasure.email or "")
            if mail.written_at <= erasure.requested_at and mail.id != str(erasure.id)
        ]
        async with database.system() as connection:
            noted = await connection.execute(_NOTE_MAILS, {"id": erasure.id, "found": len(mails)})
            deleted = noted.scalar_one()
        await delete_mails(mails)
        return deleted

    async def _forget(self, database: Database) -> None:
        async with database.system() as connection:
            rows = await connection.execute(_FORGET, {"days": KEEP_DAYS})
            for (erasure_id,) in rows:
                # before it is forgotten that there is one
                for receipt in self._mail_folder.glob(f"*{erasure_id}.eml"):
                    receipt.unlink(missing_ok=True)


async def _claim(guard: AsyncConnection, wanted: uuid.UUID | None) -> Erasure | None:
    row = (await guard.execute(_CLAIM, {"wanted": wanted})).mappings().one_or_none()
    return None if row is None else Erasure(**row)


async def _reach(database: Database, erasure: Erasure, state: str) -> bool:
    values = {"id": erasure.id, "before": erasure.state, "reached": state}
    async with database.system() as connection:
        return (await connection.execute(_REACH, values)).scalar_one()


async def _purge(database: Database, erasure: Erasure) -> None:
    """Delete everything but the account in chunks, then what came meanwhile and the account."""
    async with database.system() as connection:
        places = (await connection.execute(_TABLES)).scalars().all()
    for place in places:
        most = CHUNK_ROWS if place == "request_logs" else CHUNK_ROWS // 10
        chunk = {"id": erasure.id, "place": place, "chunk": most}
        deleted = most
        while deleted >= most:
            async with database.system() as connection:
                deleted = (await connection.execute(_PURGE_CHUNK, chunk)).scalar_one()
    async with database.system() as connection:
        await connection.execute(_FINISH_PURGE, {"id": erasure.id})


async def _put_receipt(database: Database, erasure: Erasure, deleted: Mapping[str, int]) -> None:
    if erasure.email is None or erasure.purged_at is None:
        raise StorageError("the erasure has no address to send its receipt to")
    subject, body = write_receipt(
        erasure_id=erasure.id,
        region=erasure.region,
        requested_at=erasure.requested_at,
        purged_at=erasure.purged_at,
        deleted=deleted,
        kept_days=KEEP_DAYS,
    )
    reach = {"id": erasure.id, "before": erasure.state, "reached": "receipt"}
    async with database.system() as connection:
        await put_mail(
            connection,
            account_id=None,
            key=f"erasure:{erasure.id}",
            recipient=erasure.email,
            subject=subject,
            text=body,
            mail_id=erasure.id,
        )
        await connection.execute(_REACH, reach)


async def _postpone(
    database: Database, erasure: Erasure, seconds: float, reason: str | None
) -> None:
    values = {"id": erasure.id, "seconds": seconds, "reason": reason}
    async with database.system() as connection:
        await connection.execute(_POSTPONE, values)


async def _postpone_failed(database: Database, erasure: Erasure, error: Exception) -> None:
    """Leave an erasure for later; only what is made to be shown is written down of the reason."""
    is_expected = isinstance(error, StorageError)
    reason = str(error) if is_expected else type(error).__name__
    _log.warning(
        "erasure waits",
        extra={"reason": f"{erasure.id}, {erasure.state}: {reason}"},
        exc_info=None if is_expected else error,
    )
    await _postpone(database, erasure, erasure.pause_seconds, reason)
