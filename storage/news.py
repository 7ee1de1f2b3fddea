"""News by PostgreSQL's NOTIFY, for who would find out anyway, only later.

Nothing depends on hearing: after every (re)connection, and behind a pooler, where nothing is heard,
those who listen look for themselves from time to time. (Where a missed word does harm there is
storage.invalidation.)
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

import psycopg
from psycopg import sql
from pydantic import SecretStr

from storage.database_url import conninfo

USAGE_CHANNEL: Final = "metrion_usage"
"""Where it is announced, at commit, that requests were recorded."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 5.0

_log = logging.getLogger(__name__)


async def listen(url: SecretStr, channels: Sequence[str], on_news: Callable[[], None]) -> None:
    """Call `on_news` whenever something is announced, or may have been; for ever."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(
                conninfo(url), autocommit=True
            ) as connection:
                for channel in channels:
                    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                on_news()  # what was announced before nobody has heard
                pause = _FIRST_PAUSE_SECONDS
                async for _ in connection.notifies():
                    on_news()
        except (psycopg.Error, OSError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            _log.warning("no news from the database", extra={"reason": reason})
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
