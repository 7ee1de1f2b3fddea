"""The only way to a database connection: a transaction that says whose it is.

`Database.account(id)` opens a transaction that sees one account, `Database.system()` one that sees
none (for functions like `metrion.lookup_token` that work without). The account is set for the
transaction only and by every transaction, so a pooled connection carries nothing over; this also
works behind a pooler in transaction mode (pgbouncer).
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.errors import ReadOnlySqlTransaction
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from storage.database_url import AWAY, conninfo
from storage.errors import DatabaseUnavailable

Transaction = AsyncConnection
"""What `Database.account` and `Database.system` give, for those who only pass it on."""

_BEGIN = text("""
    SELECT set_config('metrion.account_id', :account, true),
        set_config('statement_timeout', :milliseconds, true),
        -- what is asked here is small: workers take longer to start than it does
        set_config('max_parallel_workers_per_gather', '0', true),
        CASE WHEN :role <> '' THEN set_config('role', :role, true) END
""")


class Database:
    """A pool of connections as one role. Make one per process and event loop; `close()` it."""

    def __init__(
        self,
        url: SecretStr,
        *,
        act_as: str = "",
        pool_size: int = 5,
        pool_seconds: float = 5.0,
        statement_seconds: float = 30.0,
    ) -> None:
        """Prepare a pool; nothing is connected yet.

        Args:
            url: where, and as whom.
            act_as: a role to take in every transaction (an administrator acting as another).
            pool_size: most connections at once.
            pool_seconds: longest wait for one of them.
            statement_seconds: longest time for one statement.
        """
        self._begin = {
            "role": act_as,
            "milliseconds": str(round(statement_seconds * 1000)),
        }

        async def connect() -> psycopg.AsyncConnection[Any]:
            # a pooler in transaction mode knows no prepared statements
            return await psycopg.AsyncConnection.connect(conninfo(url), prepare_threshold=None)

        self._engine = create_async_engine(
            "postgresql+psycopg://",
            async_creator=connect,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=pool_seconds,
            hide_parameters=True,  # errors go to logs; parameters are digests and sealed values
        )
        self._snapshots = self._engine.execution_options(isolation_level="REPEATABLE READ")

    @asynccontextmanager
    async def account(self, account_id: uuid.UUID) -> AsyncGenerator[AsyncConnection]:
        """Open a transaction that sees this account; committed at the end, rolled back on error.

        Raises:
            DatabaseUnavailable: it cannot be reached, is starting or stopping, only reads, or did
                not answer in time; also in the middle of the transaction, or while it is committed.
        """
        async with self._transaction(str(account_id)) as connection:
            yield connection

    @asynccontextmanager
    async def system(self) -> AsyncGenerator[AsyncConnection]:
        """Open a transaction that sees no account.

        Raises:
            DatabaseUnavailable: as `account`.
        """
        async with self._transaction("") as connection:
            yield connection

    @asynccontextmanager
    async def snapshot(self, account_id: uuid.UUID) -> AsyncGenerator[AsyncConnection]:
        """Open a transaction that sees this account as it was at one moment, however long it reads.

        Raises:
            DatabaseUnavailable: as `account`.
        """
        async with self._transaction(str(account_id), self._snapshots) as connection:
            yield connection

    async def close(self) -> None:
        """Close all connections of the pool."""
        await self._engine.dispose()

    @asynccontextmanager
    async def _transaction(
        self, account: str, engine: AsyncEngine | None = None
    ) -> AsyncGenerator[AsyncConnection]:
        try:
            connection = await self._open(account, engine or self._engine)
            try:
                yield connection
                await connection.commit()
            except DBAPIError as error:
                if isinstance(error.orig, ReadOnlySqlTransaction):
                    # another server may write: a new connection may lead to it
                    await connection.invalidate(error)
                raise
            finally:
                # rolls back what is not committed; shielded, so that a cancelled request does not
                # keep its connection out of the pool
                await asyncio.shield(connection.close())
        except DBAPIError as error:
            if not isinstance(error.orig, AWAY):
                raise
            reason = str(error.orig).partition("\n")[0]
            raise DatabaseUnavailable(f"the database is not available: {reason}") from error
        except PoolTimeoutError as error:
            raise DatabaseUnavailable("all connections to the database are in use") from error

    async def _open(self, account: str, engine: AsyncEngine) -> AsyncConnection:
        """Connect and begin. A pooled connection may be dead since the server was restarted.

        What sets the account also shows whether the connection is alive, so no ping is spent on it:
        the first failure throws all pooled connections away, and the second try gets a new one.
        """
        try:
            return await self._try_to_open(account, engine)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        return await self._try_to_open(account, engine)

    async def _try_to_open(self, account: str, engine: AsyncEngine) -> AsyncConnection:
        connection = await engine.connect()
        try:
            await connection.execute(_BEGIN, {"account": account, **self._begin})
        except BaseException:
            await asyncio.shield(connection.close())
            raise
        return connection
