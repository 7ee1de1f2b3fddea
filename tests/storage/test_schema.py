import pytest
from alembic.script import ScriptDirectory

from storage import schema
from storage.database import Database
from storage.errors import SchemaError
from storage.migrate import alembic_config


async def test_a_migrated_database_fits(api):
    async with api.system() as connection:
        await schema.check_schema(connection)


async def test_a_newer_schema_does_not(api, administrator):
    administrator.execute("UPDATE metrion.alembic_version SET version_num = 'r9999'")
    async with api.system() as connection:
        with pytest.raises(SchemaError, match=r"r9999.*newer Metrion"):
            await schema.check_schema(connection)


async def test_an_older_schema_does_not(api, monkeypatch):
    known = schema.known_revisions()
    monkeypatch.setattr(schema, "known_revisions", lambda: ("r8888", *known))
    async with api.system() as connection:
        with pytest.raises(SchemaError, match=r"older than r8888.*metrion migrate"):
            await schema.check_schema(connection)


async def test_a_database_that_is_not_migrated_does_not(postgres):
    empty = Database(postgres.url_of("template1"))
    with pytest.raises(SchemaError, match="metrion migrate"):
        async with empty.system() as connection:
            await schema.check_schema(connection)
    await empty.close()


async def test_an_unfinished_migration_does_not(api, administrator):
    administrator.execute("DELETE FROM metrion.alembic_version")
    async with api.system() as connection:
        with pytest.raises(SchemaError, match="metrion migrate"):
            await schema.check_schema(connection)


def test_the_revisions_are_alembics_the_newest_first():
    scripts = ScriptDirectory.from_config(alembic_config())
    revisions = tuple(script.revision for script in scripts.walk_revisions())
    assert schema.known_revisions() == revisions
    assert revisions[-1] == "r0001"
