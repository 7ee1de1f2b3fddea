"""What the tests of stored things share: connections as each role, accounts, log rows."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from storage import accounts, roles
from storage.accounts import NewAccount
from storage.database import Database
from storage.identifiers import uuid7
from storage.ingest import LogWriter
from storage.single_statements import SingleStatements


@pytest.fixture
async def api(database) -> AsyncIterator[Database]:
    """The database as the API service sees it."""
    opened = Database(database.url(roles.API))
    yield opened
    await opened.close()


@pytest.fixture
async def proxy(database) -> AsyncIterator[SingleStatements]:
    """The database as a proxy process asks it."""
    opened = SingleStatements(database.url(roles.PROXY))
    yield opened
    await opened.close()


@pytest.fixture
async def lookups(database) -> AsyncIterator[SingleStatements]:
    """The database as the API asks it who is calling."""
    opened = SingleStatements(database.url(roles.API))
    yield opened
    await opened.close()


@pytest.fixture
def writer(database) -> Iterator[LogWriter]:
    opened = LogWriter(database.url(roles.PROXY))
    yield opened
    opened.close()


@pytest.fixture
def administrator(database) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """A superuser's connection, with rows as dictionaries: sees everything, past all policies."""
    with psycopg.connect(
        database.administrator_url.get_secret_value(), autocommit=True, row_factory=dict_row
    ) as connection:
        connection.execute("SET timezone = 'UTC'")
        yield connection


@pytest.fixture
def jobs(database) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A connection as the jobs process."""
    with psycopg.connect(
        database.url(roles.JOBS).get_secret_value(), autocommit=True
    ) as connection:
        yield connection


@pytest.fixture
def new_account(api, database) -> Callable[..., Awaitable[NewAccount]]:
    """Make an account; the address does not matter."""

    async def make(plan: str = "free", email: str | None = None) -> NewAccount:
        address = email or f"{uuid.uuid4()}@example.com"
        return await accounts.create_account(api, database.keys, address, plan)

    return make


@pytest.fixture(scope="session")
def log_row() -> Callable[..., dict[str, Any]]:
    """Make a row as the journal has it: of this moment, or of `at`; keywords change its fields."""

    def make(
        account_id: uuid.UUID, at: datetime | None = None, **changes: object
    ) -> dict[str, Any]:
        moment = at or datetime.now(UTC)
        return {
            "account_id": str(account_id),
            "id": str(uuid7(moment.timestamp())),
            "created_at": moment.isoformat(),
            "provider": "openai",
            "endpoint": "chat/completions",
            "model": "gpt-5",
            "requester": None,
            "mode": "stored",
            "status": 200,
            "outcome": "ok",
            "streamed": False,
            "cached": False,
            "input_tokens": 100,
            "cache_read_tokens": 20,
            "cache_write_tokens": 0,
            "output_tokens": 50,
            "reasoning_tokens": 10,
            "total_tokens": 150,
            "cost_usd": "0.001250",
            "price_source": "genai-prices",
            "latency_ms": 250.5,
            "ttfb_ms": 80.25,
            "overhead_ms": 0.75,
            "error": None,
            "left_out": 0,
        } | changes

    return make


@dataclass(frozen=True)
class Place:
    """A table, and the column that says whose a row is (None: the table has no account data)."""

    name: str
    key: str | None
    is_partition: bool
    columns: tuple[str, ...]


@pytest.fixture(scope="session")
def read_places() -> Callable[[psycopg.Connection[Any]], list[Place]]:
    """Find every table and partition of the schema in the catalogue."""

    def read(connection: psycopg.Connection[Any]) -> list[Place]:
        rows = connection.execute("""
            SELECT c.relname, c.relispartition, array_agg(a.attname::text ORDER BY a.attnum)
            FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
            WHERE c.relnamespace = 'metrion'::regnamespace AND c.relkind IN ('r', 'p')
              AND NOT a.attisdropped
            GROUP BY 1, 2 ORDER BY 1
        """).fetchall()
        return [
            Place(
                name,
                "id" if name == "accounts" else "account_id" if "account_id" in columns else None,
                partition,
                tuple(columns),
            )
            for name, partition, columns in rows
        ]

    return read
