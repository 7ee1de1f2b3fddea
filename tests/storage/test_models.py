import psycopg
import pytest
from sqlalchemy import create_engine, inspect
from sqlalchemy.dialects import postgresql
from sqlalchemy.pool import NullPool

from storage.models import metadata

DIALECT = postgresql.dialect()


@pytest.fixture
def inspector(database):
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(database.administrator_url.get_secret_value()),
        poolclass=NullPool,
    )
    return inspect(engine)


def test_the_tables_are_those_of_the_migrated_database(inspector):
    made = {
        name
        for name in inspector.get_table_names(schema="metrion")
        if name != "alembic_version" and not name.startswith(("request_logs_", "usage_sums_"))
    }
    assert {table.name for table in metadata.tables.values()} == made


def test_columns_have_the_names_types_and_keys_of_the_migrated_database(inspector):
    for table in metadata.tables.values():
        made = [
            (column["name"], column["type"].compile(DIALECT), column["nullable"])
            for column in inspector.get_columns(table.name, schema="metrion")
        ]
        described = [
            (column.name, column.type.compile(DIALECT), column.nullable) for column in table.columns
        ]
        assert described == made, table.name
        key = inspector.get_pk_constraint(table.name, schema="metrion")["constrained_columns"]
        assert [column.name for column in table.primary_key] == key, table.name
