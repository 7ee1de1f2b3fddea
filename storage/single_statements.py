"""Single statements, each a transaction of its own: for what a request waits for.

`storage.database` begins, says whose transaction it is, asks and commits: four exchanges with the
server, and SQLAlchemy between them. A function of the database that is told its account needs but
one; measured, that takes an eighth of the time. Nothing lasts for a session, so this also works
behind a pooler in transaction mode.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, LiteralString

import psycopg
from psycopg.errors import ReadOnlySqlTransaction
from pydantic import SecretStr

from storage.database_url import AWAY, conninfo
from storage.errors import DatabaseUnavailable

_Connection = psycopg.AsyncConnection[tuple[Any, ...]]
LOOK_UP_SECONDS = 5.0
"""A database that takes longer to say who is calling is away."""


class SingleStatements:
    """A pool of connections as one role, for one event loop; `close()` it."""

    def __init__(self, url: SecretStr, *, pool_size: int = 5) -> None:
        """Prepare a pool of at most `pool_size` connections; nothing is connected yet."""
        self._url = url
        self._turns = asyncio.Semaphore(pool_size)
        self._idle: list[_Connection] = []

    async def fetch(
        self, statement: LiteralString, values: Sequence[Any]
    ) -> tuple[Any, ...] | None:
        """Return the first row of a statement's result; waits for a connection for as long as told.

        Whoever wants to wait for less long cancels it: then it is not known whether it was done.

        Raises:
            DatabaseUnavailable: the database cannot be reached, its answer was lost, or it only
                reads.
        """
        async with self._turns:
            try:
                return await self._fetch(statement, values)
            except AWAY as error:
                reason = str(error).partition("\n")[0]
                raise DatabaseUnavailable(f"the database is not available: {reason}") from error

    async def look_up(
        self, statement: LiteralString, values: Sequence[Any]
    ) -> tuple[Any, ...] | None:
        """As `fetch`, for what no request can do without: within `LOOK_UP_SECONDS`.

        Raises:
            DatabaseUnavailable: as `fetch`, or it took longer.
        """
        try:
            async with asyncio.timeout(LOOK_UP_SECONDS):
                return await self.fetch(statement, values)
        except TimeoutError:
            raise DatabaseUnavailable("the database is not available: it does not answer") from None

    async def _fetch(
        self, statement: LiteralString, values: Sequence[Any]
    ) -> tuple[Any, ...] | None:
        """Ask on an idle connection. If it is dead, or leads to a former primary: once more."""
        if self._idle:
            connection = self._idle.pop()
            try:
                return await self._run(connection, statement, values)
            except AWAY:
                if not connection.closed:
                    raise
                await self.close()
        return await self._run(await self._connect(), statement, values)

    async def _run(
        self, connection: _Connection, statement: LiteralString, values: Sequence[Any]
    ) -> tuple[Any, ...] | None:
        is_good = False
        try:
            cursor = await connection.execute(statement, values, binary=True)
            row = await cursor.fetchone()
            is_good = True
        except psycopg.Error as error:
            # where a server only reads, another may write: a new connection may lead to it
            is_good = not (connection.closed or isinstance(error, ReadOnlySqlTransaction))
            raise
        finally:
            # in the middle of a statement (cancelled) it is of no use to anybody
            if is_good:
                self._idle.append(connection)
            else:
                await connection.close()
        return row

    async def _connect(self) -> _Connection:
        return await psycopg.AsyncConnection.connect(
            conninfo(self._url), autocommit=True, prepare_threshold=None
        )

    async def close(self) -> None:
        """Close all idle connections; those in use are closed by a later call."""
        while self._idle:
            await self._idle.pop().close()
