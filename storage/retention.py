"""What is too old: the request log's partitions and rows, and answers of the response cache.

Partitions are made before they are needed, and dropped when nobody may see them. What an account
sees is limited by the SELECT policy alone, and nobody is given an answer whose time is over; this
only keeps the disk from filling. For `metrion_jobs`.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import text

from storage.chunked_deletion import delete_in_chunks
from storage.database import Database

AHEAD: Final = timedelta(days=14)
"""How far ahead partitions are there: so long the jobs process may be away unnoticed."""

_ENSURE = text("SELECT metrion.ensure_partitions(:from_day, :to_day)")
_DELETE = text("SELECT metrion.delete_expired_logs(:chunk)")
_CHUNK_ROWS = 5000
_DROP = text("SELECT metrion.drop_expired_partition()")
_DELETE_ANSWERS = text("SELECT metrion.delete_expired_answers(:chunk)")
_CHUNK_ANSWERS = 1000


async def ensure_partitions(database: Database) -> int:
    """Make the partitions of today and the days `AHEAD`; return how many were missing.

    Raises:
        DatabaseUnavailable: the next try may work.
    """
    today = datetime.now(UTC).date()
    async with database.system() as connection:
        days = {"from_day": today, "to_day": today + AHEAD}
        return (await connection.execute(_ENSURE, days)).scalar_one()


async def drop_expired_partitions(database: Database) -> list[str]:
    """Drop the partitions in which every row is too old for its account's plan; return their names.

    Raises:
        DatabaseUnavailable: also when readers hold the log's lock for long: the next try may work.
    """
    dropped: list[str] = []
    while True:
        async with database.system() as connection:  # one each: it locks the log until it commits
            name = (await connection.execute(_DROP)).scalar_one()
        if name is None:
            return dropped
        dropped.append(name)


async def delete_expired_rows(database: Database) -> int:
    """Delete the rows too old for their account's plan in partitions that stay; return how many.

    Those of a partition's first days, and all that a downgrade made too old.

    Raises:
        DatabaseUnavailable: what was deleted before stays deleted.
    """
    return await delete_in_chunks(database, _DELETE, _CHUNK_ROWS)


async def delete_expired_answers(database: Database) -> int:
    """Delete the stored answers whose time is over; return how many.

    Raises:
        DatabaseUnavailable: what was deleted before stays deleted.
    """
    return await delete_in_chunks(database, _DELETE_ANSWERS, _CHUNK_ANSWERS)
