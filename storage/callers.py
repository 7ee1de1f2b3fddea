"""Who is calling: from a token's digests to the account and its sealed provider keys."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_LOOKUP = text("""
    SELECT account_id, plan, providers, sealed, month, month_requests
    FROM metrion.lookup_token(:digests)
""")
_LOOKUP_ACCOUNT = text("SELECT account_id, plan FROM metrion.account_by_token(:digests)")


@dataclass(frozen=True, slots=True)
class Caller:
    """The account behind a token, as the proxy knows it."""

    account_id: uuid.UUID
    plan: str
    sealed_keys: Mapping[str, bytes] = field(repr=False)
    """Provider → sealed key; see `storage.keys.key_binding`."""
    month: date
    """The first day of the month (UTC, the database's clock) that `month_requests` is about."""
    month_requests: int
    """Requests recorded this month that were forwarded, or answered from the cache.

    0 in a plan without a limit.
    """


@dataclass(frozen=True, slots=True)
class AccountCaller:
    """The account behind a token, as the API knows it."""

    account_id: uuid.UUID
    plan: str


async def find_caller(connection: AsyncConnection, digests: Sequence[bytes]) -> Caller | None:
    """Return the caller whose live token has one of the digests, or None.

    `digests` are `MasterKeys.token_digests(token)`; `connection` is `Database.system()` as
    `metrion_proxy`, the one role that may do this.
    """
    row = (await connection.execute(_LOOKUP, {"digests": list(digests)})).one_or_none()
    if row is None:
        return None
    keys = dict(zip(row.providers, map(bytes, row.sealed), strict=True))
    return Caller(row.account_id, row.plan, keys, row.month, row.month_requests)


async def account_by_token(
    connection: AsyncConnection, digests: Sequence[bytes]
) -> AccountCaller | None:
    """Return the account whose live token has one of the digests, or None; as `metrion_api`."""
    row = (await connection.execute(_LOOKUP_ACCOUNT, {"digests": list(digests)})).one_or_none()
    return None if row is None else AccountCaller(row.account_id, row.plan)
