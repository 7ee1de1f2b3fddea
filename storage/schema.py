"""Which revision the database's schema is at, and whether this program can work with it."""

from functools import cache

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.errors import SchemaError

_REVISION = text("SELECT version_num FROM metrion.alembic_version")


def alembic_config() -> Config:
    """Return Alembic's configuration: where the revisions are."""
    config = Config()
    config.set_main_option("script_location", "storage:migrations")
    return config


@cache
def known_revisions() -> tuple[str, ...]:
    """Return the revisions this program knows, the newest first."""
    scripts = ScriptDirectory.from_config(alembic_config())
    return tuple(script.revision for script in scripts.walk_revisions())


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
