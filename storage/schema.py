"""Which revision the database's schema is at, and whether this program can work with it."""

from functools import cache
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.errors import SchemaError

_REVISION = text("SELECT version_num FROM metrion.alembic_version")


@cache
def known_revisions() -> tuple[str, ...]:
    """Return the revisions this program knows, the newest first.

    By the names of their modules: Alembic, which only migrations need, would import all of them,
    and itself a tenth of what the API imports.
    """
    modules = (Path(__file__).parent / "migrations" / "versions").glob("r[0-9]*.py")
    return tuple(sorted((module.name.partition("_")[0] for module in modules), reverse=True))


async def check_schema(connection: AsyncConnection) -> None:
    """Make sure that the schema is the one this program was written for; as `metrion_api`.

    Raises:
        SchemaError: it is not there, older, or newer; says what to do.
    """
    try:
        revision = (await connection.execute(_REVISION)).scalar_one_or_none()
    except ProgrammingError:
        revision = None
    if revision is None:
        raise SchemaError("the database has no Metrion schema yet: run `metrion migrate`")
    refuse_newer(revision)
    newest = known_revisions()[0]
    if revision != newest:
        raise SchemaError(
            f"the database's schema is at revision {revision}, older than {newest} which this "
            "Metrion needs: run `metrion migrate`"
        )


def refuse_newer(revision: str) -> None:
    """Raise SchemaError for a revision that this program does not know."""
    if revision not in known_revisions():
        raise SchemaError(
            f"the database's schema is at revision {revision}, made by a newer Metrion than this "
            f"one, which knows up to {known_revisions()[0]}: run the newer version, or restore a "
            "backup from before it"
        )
