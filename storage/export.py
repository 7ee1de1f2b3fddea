"""All that is kept of an account as one JSON document, written while it is read.

PostgreSQL writes the rows as JSON and hands them out some at a time, so the memory and work that it
takes here do not grow with their number. Everything is of one moment (a snapshot), and of log rows
what the account may see: row-level security and retention hold as everywhere. What the document has
in it is said by `api/static/export-schema.json`.

No key is in it, nor any secret: neither a provider's, nor the Metrion Key, nor a session's.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, fields
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.accounts import Account, get_account
from storage.alert_rules import Rule
from storage.alerts import list_rules
from storage.billing import Billing, get_billing
from storage.database import Database
from storage.errors import ExportUnderWay
from storage.keys import list_keys
from storage.logs import RequestLog
from storage.plans import PLANS
from storage.sessions import list_sessions

SCHEMA_VERSION: Final = "1"
MOST_AT_ONCE: Final = 2
"""Exports of a process at the same moment; each holds a connection and a snapshot."""
_ROWS_AT_A_TIME: Final = 500

_AS_JSON: Final = "to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24\\:MI\\:SS.US\"Z\"')"
_SPECIAL: Final = {
    "created_at": _AS_JSON.format("created_at"),
    "cost_usd": "trim_scale(cost_usd)",
}
_LOG_COLUMNS: Final = ", ".join(
    f"{_SPECIAL[each.name]} AS {each.name}" if each.name in _SPECIAL else each.name
    for each in fields(RequestLog)
)
# account_id and created_at begin the log's key: read in order, not sorted
_LOGS: Final = f"""
    SELECT CAST(row_to_json(r) AS text) FROM (
        SELECT {_LOG_COLUMNS} FROM metrion.request_logs AS l
        WHERE l.account_id = (SELECT metrion.account()) ORDER BY l.created_at, l.id
    ) AS r
"""  # noqa: S608 - the names of a class's fields
_USAGE: Final = f"""
    SELECT CAST(row_to_json(r) AS text) FROM (
        SELECT day, provider, nullif(model, '') AS model, nullif(requester, '') AS requester,
            nullif(status, 0) AS status, from_cache AS cached, requests, errors, refused, left_out,
            forwarded, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens,
            reasoning_tokens, total_tokens, trim_scale(cost_usd) AS cost_usd,
            trim_scale(saved_usd) AS saved_usd, unreported, unpriced, timed, latency_ms_sum,
            {_AS_JSON.format("last_at")} AS last_at
        FROM metrion.usage_days AS u WHERE u.account_id = (SELECT metrion.account())
        ORDER BY u.day, u.provider, u.model, u.requester, u.status, u.from_cache
    ) AS r
"""  # noqa: S608 - no value from outside
_QUERIES: Final = {"usage_records": _USAGE, "request_logs": _LOGS}
# not the driver's cursors: these end with their transaction, whatever ends that
_DECLARE: Final = {
    name: text(f"DECLARE {name} NO SCROLL CURSOR FOR {query}") for name, query in _QUERIES.items()
}
_FETCH: Final = {name: text(f"FETCH {_ROWS_AT_A_TIME} FROM {name}") for name in _QUERIES}


class Exports:
    """The exports of a process: few at once, one to an account."""

    def __init__(self, database: Database, region: str) -> None:
        """Use a database as `metrion_api`, best a pool of its own of `MOST_AT_ONCE` connections."""
        self._database = database
        self._region = region
        self._under_way: set[uuid.UUID] = set()

    @asynccontextmanager
    async def document(self, account_id: uuid.UUID) -> AsyncGenerator[AsyncGenerator[bytes]]:
        """Give an account's document in parts; to be read inside.

        Raises:
            ExportUnderWay: one of the account is, or too many others are.
            DatabaseUnavailable: also in the middle of it.
        """
        if account_id in self._under_way or len(self._under_way) >= MOST_AT_ONCE:
            raise ExportUnderWay(
                "an export is under way already: wait until it has arrived, then try again"
            )
        self._under_way.add(account_id)
        try:
            async with self._database.snapshot(account_id) as connection:
                parts = write_document(connection, self._region)
                try:
                    yield parts
                finally:
                    await asyncio.shield(parts.aclose())
        finally:
            self._under_way.discard(account_id)

    async def close(self) -> None:
        """Close the database."""
        await self._database.close()


async def write_document(connection: AsyncConnection, region: str) -> AsyncGenerator[bytes]:
    """Write the document of the transaction's account.

    Raises:
        NotFound: there is no such account.
    """
    account = await get_account(connection)
    beginning = {
        "schema_version": SCHEMA_VERSION,
        "exported_at": datetime.now(UTC),
        "region": region,
        "account": _only(account, "id", "email", "plan", "created_at"),
        "settings": {
            "currency": account.currency,
            "retention_days": PLANS[account.plan].retention_days,
        },
        "providers": [_only(key, "provider", "created_at") for key in await list_keys(connection)],
        "alert_rules": [_rule(rule) for rule in await list_rules(connection)],
    }
    end = {
        "sessions": [asdict(session) for session in await list_sessions(connection)],
        "billing": _billing(account, await get_billing(connection)),
    }
    yield f"{{\n{_members(beginning)}".encode()
    for name in _DECLARE:
        yield f',\n"{name}": ['.encode()
        async for rows in _rows(connection, name):
            yield rows
        yield b"\n]"
    yield f",\n{_members(end)}\n}}\n".encode()


async def _rows(connection: AsyncConnection, name: str) -> AsyncGenerator[bytes]:
    """Read rows some at a time, joined by commas; each time is a statement of its own."""
    await connection.execute(_DECLARE[name])
    before = "\n"
    while rows := (await connection.execute(_FETCH[name])).scalars().all():
        yield (before + ",\n".join(rows)).encode()
        before = ",\n"


def _members(members: Mapping[str, Any]) -> str:
    return ",\n".join(f"{json.dumps(name)}: {_json(value)}" for name, value in members.items())


def _only(thing: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(thing, name) for name in names}


def _rule(rule: Rule) -> dict[str, Any]:
    definition = rule.definition
    return _only(rule, "id", "paused", "created_at") | asdict(definition)


def _billing(account: Account, found: Billing | None) -> dict[str, Any]:
    names = ("customer_id", "subscription_id", "status", "current_period_end")
    known = _only(found, *names, "cancel_at_period_end") if found else {}
    return {"plan": account.plan, **dict.fromkeys(names), "cancel_at_period_end": False, **known}


def _json(value: Any) -> str:
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> str | float:
    """Write what JSON has no form for, as the REST API does."""
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case Decimal():
            return float(value)
        case uuid.UUID():
            return str(value)
        case _:
            raise TypeError(f"{type(value).__name__} is not for an export")
