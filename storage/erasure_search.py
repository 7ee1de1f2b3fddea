"""The proof of an erasure: everything is searched for what may be left of an address or account.

Every table and column is found in the catalogue, so a table that comes later is searched too:

- all that can be written as text, for the address (upper and lower case are the same);
- keyed digests of the address;
- rows that belong to the account, if its id is known, and in any case to one that does not exist;

and in the data directory the journal, what was put aside of it, and kept mails, for the same.
"""

import asyncio
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import text

from storage.addresses import folded
from storage.database import Database, Transaction
from storage.kept_mails import find_mails
from storage.sealing import MasterKeys
from storage.settings import Settings

_OVERLAP: Final = 512
_PART_BYTES: Final = 1024 * 1024
_OWNER: Final = re.compile(rb'account_id\\*"\s*:\s*\\*"([0-9a-f-]{36})', re.IGNORECASE)

_TABLES: Final = text("""
    SELECT c.relname AS name,
        array_agg(a.attname::text) FILTER (WHERE a.attname = 'account_id') IS NOT NULL AS owned,
        coalesce(array_agg(a.attname::text) FILTER (
            WHERE t.typname IN ('text', 'varchar', '_text', 'json', 'jsonb')), '{}') AS texts,
        coalesce(array_agg(a.attname::text) FILTER (
            WHERE a.attname = 'address' AND t.typname = 'bytea'), '{}') AS digests
    FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE c.relnamespace = 'metrion'::regnamespace AND c.relkind IN ('r', 'p')
        AND NOT c.relispartition AND c.relname <> 'alembic_version'
    GROUP BY c.relname ORDER BY c.relname
""")
_ERASURES: Final = text("""
    SELECT id, account_id, state, requested_at, done_at, last_error FROM metrion.erasures
    WHERE address = ANY (:addresses) OR account_id = :account
        OR lower(email COLLATE "C") = :written
    ORDER BY requested_at
""")
_ACCOUNTS: Final = text("""
    SELECT id, created_at FROM metrion.accounts
    WHERE id = :account OR lower(email COLLATE "C") = :written
""")


@dataclass(frozen=True, slots=True)
class Trace:
    """A place that has something of what was searched for.

    Attributes:
        place: a table and column, or a file of the data directory.
        count: how many rows or records; of a file how many places.
        is_left: whether it should not be there; False: it is worth telling.
        note: what it is.
    """

    place: str
    count: int
    is_left: bool
    note: str


async def search_for_erased(
    database: Database, settings: Settings, keys: MasterKeys | None, subject: str
) -> list[Trace]:
    """Search everything for an address or an account's id; return what is there.

    Args:
        database: the administrator's, acting as `roles.DEFINER`, with time for long statements.
        settings: of this deployment; its data directory is searched.
        keys: for digests of the address; None: they are not searched.
        subject: an e-mail address, or an account's id.

    Raises:
        DatabaseUnavailable, OSError: the search is not complete.
    """
    account = _as_id(subject)
    needle = subject.strip().lower()
    written = folded(subject.strip())
    addresses = keys.digests("address", written) if keys and account is None else []
    async with database.system() as connection:
        known = {"account": account, "written": written, "addresses": addresses}
        erasures = (await connection.execute(_ERASURES, known)).all()
        accounts = (await connection.execute(_ACCOUNTS, known)).all()
        traces = [_of_erasure(row) for row in erasures] + [
            _of_account(row, is_erased=bool(erasures)) for row in accounts
        ]
        # one that signed up again after an erasure is nobody's remains
        own = [] if erasures else [row.id for row in accounts]
        search = _Search(connection, needle, addresses, own, was_known=bool(erasures or accounts))
        for table in (await connection.execute(_TABLES)).all():
            traces += await search.table(table)
        owners = await asyncio.to_thread(_owners_in_files, settings.data_dir / "journal")
        gone = await search.gone({*owners, *([account] if account else [])})
    traces += await asyncio.to_thread(_search_journal, settings.data_dir, needle, gone)
    if account is None:
        traces += await _search_mails(settings.data_dir, needle, {str(row.id) for row in erasures})
    return traces


class _Search:
    """A search of tables, in one transaction."""

    def __init__(
        self,
        connection: Transaction,
        needle: str,
        addresses: Sequence[bytes],
        own: Sequence[uuid.UUID],
        *,
        was_known: bool,
    ) -> None:
        self._connection = connection
        self._needle = needle
        self._addresses = addresses
        self._own = own
        self._was_known = was_known

    async def table(self, table: Any) -> list[Trace]:
        """Search one table; `accounts` and `erasures` are told of by themselves."""
        name = table.name
        found: list[Trace] = []
        if name in {"accounts", "erasures"}:
            return found
        owned = "account_id" if table.owned else "NULL::uuid"
        for column in table.texts:
            count, others = await self._count(name, f"lower({column}::text)", owned)
            if others:
                note = "another account uses it, in its own data"
                found.append(Trace(f"{name}.{column}", others, is_left=False, note=note))
            if count:
                found.append(_of_text(name, column, count))
        for column in table.digests:
            query = f"SELECT count(*) FROM metrion.{name} WHERE {column} = ANY (:addresses)"  # noqa: S608
            if count := await self._scalar(query, addresses=self._addresses):
                # an erasure deletes those that there are: these are younger
                note = "a code was asked for with this address; it is forgotten in a day"
                left = not self._was_known
                found.append(Trace(f"{name}.{column}", count, is_left=left, note=note))
        if table.owned:
            orphans = (
                f"SELECT count(*) FROM metrion.{name} AS t WHERE t.account_id IS NOT NULL"  # noqa: S608
                " AND NOT EXISTS (SELECT FROM metrion.accounts AS a WHERE a.id = t.account_id)"
            )
            if count := await self._scalar(orphans):
                note = "rows of accounts that do not exist"
                found.append(Trace(name, count, is_left=True, note=note))
        return found

    async def gone(self, ids: Iterable[uuid.UUID]) -> set[uuid.UUID]:
        """Return which of these accounts do not exist."""
        query = text("SELECT metrion.gone_accounts(CAST(:ids AS uuid[]))")
        return set((await self._connection.execute(query, {"ids": list(ids)})).scalar_one())

    async def _count(self, table: str, value: str, owner: str) -> tuple[int, int]:
        """Return in how many rows a text is: nobody's or the searched account's, and of others.

        A label that another, living account gave its own requests is that account's data.
        """
        query = text(f"""
            SELECT count(*) FILTER (WHERE NOT is_others), count(*) FILTER (WHERE is_others) FROM (
                SELECT coalesce({owner} <> ALL (CAST(:own AS uuid[])) AND EXISTS (
                    SELECT FROM metrion.accounts AS a WHERE a.id = {owner}), false) AS is_others
                FROM metrion.{table} WHERE strpos({value}, :needle) > 0
            ) AS hits
        """)  # noqa: S608 - names from the catalogue
        row = await self._connection.execute(
            query, {"needle": self._needle, "own": list(self._own)}
        )
        mine, others = row.one()
        return mine, others

    async def _scalar(self, query: str, **values: Any) -> int:
        return (await self._connection.execute(text(query), values)).scalar_one()


def _of_erasure(row: Any) -> Trace:
    if row.state == "done":
        note = f"was erased, done at {row.done_at:%Y-%m-%d %H:%M} UTC; only counts are kept"
        return Trace("erasures", 1, is_left=False, note=note)
    reason = f" ({row.last_error})" if row.last_error else ""
    note = f"is being erased since {row.requested_at:%Y-%m-%d %H:%M} UTC: {row.state}{reason}"
    return Trace("erasures", 1, is_left=True, note=note)


def _of_account(row: Any, *, is_erased: bool) -> Trace:
    note = f"an account since {row.created_at:%Y-%m-%d %H:%M} UTC"
    if is_erased:
        note += ": signed up again"
    return Trace("accounts", 1, is_left=not is_erased, note=note)


def _of_text(table: str, column: str, count: int) -> Trace:
    note = "a mail that waits to be sent" if table == "outbox" else "the address is in it"
    return Trace(f"{table}.{column}", count, is_left=True, note=note)


def _as_id(subject: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(subject.strip())
    except ValueError:
        return None


def _owners_in_files(journal: Path) -> set[uuid.UUID]:
    """Return the accounts that the journal and what was put aside name."""
    owners: set[uuid.UUID] = set()
    for path in _files(journal):
        for part in _parts(path):
            for found in _OWNER.findall(part):
                try:
                    owners.add(uuid.UUID(found.decode()))
                except ValueError:
                    continue
    return owners


def _search_journal(data_dir: Path, needle: str, gone: set[uuid.UUID]) -> list[Trace]:
    wanted = {needle.encode(): "the address is in it"} | {
        str(account).encode(): "of an account that does not exist" for account in gone
    }
    traces: list[Trace] = []
    for path in _files(data_dir / "journal"):
        counts = dict.fromkeys(wanted.values(), 0)
        for part in _parts(path):
            for each, note in wanted.items():
                counts[note] += part.lower().count(each)
        traces += [
            Trace(str(path.relative_to(data_dir)), count, is_left=True, note=note)
            for note, count in counts.items()
            if count
        ]
    return traces


async def _search_mails(data_dir: Path, needle: str, erasures: set[str]) -> list[Trace]:
    traces: list[Trace] = []
    for mail in await find_mails(data_dir / "mail", needle):
        is_receipt = any(erasure in mail.path.name for erasure in erasures)
        note = "the receipt itself" if is_receipt else "a mail that was kept"
        place = str(mail.path.relative_to(data_dir))
        traces.append(Trace(place, 1, is_left=not is_receipt, note=note))
    return traces


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _parts(path: Path) -> Iterator[bytes]:
    """Read a file in parts that overlap: what is cut in one is whole in the next."""
    try:
        with path.open("rb") as file:
            end = b""
            while read := file.read(_PART_BYTES):
                yield end + read
                end = read[-_OVERLAP:]
    except FileNotFoundError:  # sent and removed meanwhile
        return
