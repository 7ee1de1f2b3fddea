"""Deleting what is too old, so many rows at a time: nobody who writes waits for long."""

from sqlalchemy import TextClause

from storage.database import Database


async def delete_in_chunks(database: Database, statement: TextClause, chunk: int) -> int:
    """Delete, in a transaction for each chunk, until nothing is left; return how many rows.

    Args:
        database: as `metrion_jobs`.
        statement: deletes up to `:chunk` rows and gives how many.
        chunk: rows.

    Raises:
        DatabaseUnavailable: what was deleted before stays deleted.
    """
    deleted = 0
    while True:
        async with database.system() as connection:
            rows = (await connection.execute(statement, {"chunk": chunk})).scalar_one()
        deleted += rows
        if rows < chunk:
            return deleted
