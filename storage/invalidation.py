"""News that what is known of an account is old: PostgreSQL's NOTIFY, and a lease on silence.

Every change of an account's token, provider keys or plan is announced at commit on the channel
`metrion_invalidate`. A process that keeps answers may trust them only while `listening` is true: a
heartbeat over the same connection showed less than LEASE_SECONDS ago that nothing was missed. The
lease ends by itself, also when the event loop hangs or the network swallows packets, so an answer
is never trusted for longer than that after a change, heard of or not.

LISTEN needs a session of its own, which a pooler in transaction mode does not give: it would answer
heartbeats over one connection and lose the news on another. A pooler is known by this: the server
process behind the connection is not the one that was announced when it was opened. Behind one the
listener does not listen, says so once, and its lease never runs: the database is then asked about
the caller of every request, which is slower (a look-up each) and needs no news.
"""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
from pydantic import SecretStr

from storage.database_url import conninfo

CHANNEL: Final = "metrion_invalidate"
HEARTBEAT_SECONDS: Final = 0.5
ANSWER_SECONDS: Final = 1.0
"""How long a heartbeat's answer may take."""
LEASE_SECONDS: Final = HEARTBEAT_SECONDS + ANSWER_SECONDS
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 2.0

_log = logging.getLogger(__name__)


async def until_known() -> None:
    """Wait until no process trusts what was true before a change that has just been committed.

    Most have heard of it within milliseconds. One that cannot hear stops trusting what it knows
    when its lease ends, and this waits for it: what is said after it is true everywhere.
    """
    await asyncio.sleep(LEASE_SECONDS)


class InvalidationListener:
    """Listens as a task of its own (`run`), for ever, through restarts of the database."""

    def __init__(self, url: SecretStr, on_invalidate: Callable[[uuid.UUID | None], None]) -> None:
        """Prepare to listen.

        `on_invalidate` is called with the account that changed, or with None when any may have:
        after each LISTEN took effect (what was read before it may be old) and when it was lost. It
        runs in the event loop and must not block.
        """
        self._url = url
        self._on_invalidate = on_invalidate
        self._lease_ends = 0.0

    @property
    def listening(self) -> bool:
        """Whether every change up to LEASE_SECONDS ago has been heard of."""
        return time.monotonic() < self._lease_ends

    async def run(self) -> None:
        """Listen until cancelled."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(
                    conninfo(self._url), autocommit=True
                )
                try:
                    await self._listen(connection)
                finally:
                    await connection.close()
            except (psycopg.Error, OSError) as error:
                if self._lease_ends:
                    pause = _FIRST_PAUSE_SECONDS
                if pause == _FIRST_PAUSE_SECONDS:
                    reason = str(error).partition("\n")[0] or type(error).__name__
                    _log.warning("no news of changed accounts: %s", reason)
            finally:
                self._lease_ends = 0.0
                self._on_invalidate(None)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _listen(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Listen on a new connection until it fails."""
        async with _bounded(connection):
            await _refuse_pooler(connection)
            await connection.execute(f"LISTEN {CHANNEL}".encode())
        # only now: what was read before the LISTEN may be old without a word
        self._on_invalidate(None)
        while True:
            # The lease counts from the question: of a later change nothing may have come yet.  The
            # server answers a session only after it has sent the news that session waits for.
            asked = time.monotonic()
            async with _bounded(connection):
                await connection.execute(b"SELECT 1")
            self._lease_ends = asked + LEASE_SECONDS
            async for notify in connection.notifies(timeout=HEARTBEAT_SECONDS):
                self._on_invalidate(_account_in(notify.payload))


async def _refuse_pooler(connection: psycopg.AsyncConnection[Any]) -> None:
    """Raise unless the connection goes to a server process of its own."""
    row = await (await connection.execute(b"SELECT pg_backend_pid()")).fetchone()
    if row != (connection.info.backend_pid,):
        raise psycopg.NotSupportedError(
            "the database's address is a pooler's, which keeps no session for LISTEN: the database "
            "is asked about every request (give the proxy the server's own address to spare that)"
        )


@asynccontextmanager
async def _bounded(connection: psycopg.AsyncConnection[Any]) -> AsyncGenerator[None]:
    """Give what is inside ANSWER_SECONDS; then close the connection and raise TimeoutError.

    Closed first: psycopg would spend seconds on asking a server that is gone to cancel.
    """
    loop = asyncio.get_running_loop()
    closing = loop.call_later(ANSWER_SECONDS, connection.pgconn.finish)
    try:
        async with asyncio.timeout(ANSWER_SECONDS + 0.01):
            yield
    finally:
        closing.cancel()


def _account_in(payload: str) -> uuid.UUID | None:
    """Read an announcement; None, so any account, for one that is not ours (anyone may NOTIFY)."""
    try:
        return uuid.UUID(json.loads(payload)["account"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
