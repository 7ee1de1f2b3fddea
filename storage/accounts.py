"""Accounts and their Metrion Key: one person, one account, one live token."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Final

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.addresses import checked_email
from storage.database import Database
from storage.errors import AlreadyExists, InvalidValue, NotFound
from storage.identifiers import uuid7
from storage.models import accounts, this_account, tokens
from storage.plans import PlanName, get_plan
from storage.sealing import Binding, MasterKeys
from storage.single_statements import SingleStatements
from storage.tokens import new_token

CURRENCIES: Final = ("USD", "EUR", "CHF")

_LIST = text("SELECT id, email, plan, currency, created_at FROM metrion.list_accounts(:most)")
_FIND = text("SELECT metrion.account_id_by_email(:email)")
_BY_TOKEN = "SELECT account_id, plan FROM metrion.account_by_token(%s::bytea[])"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Account:
    """An account's own data."""

    id: uuid.UUID
    email: str
    plan: PlanName
    currency: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account that was just made, and its token."""

    id: uuid.UUID
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AccountCaller:
    """The account behind a token or a session, as the API knows it."""

    account_id: uuid.UUID
    plan: str


@dataclass(frozen=True, slots=True)
class LiveToken:
    """An account's token, and since when it is the one."""

    token: str = field(repr=False)
    created_at: datetime


_FIELDS: Final = [accounts.c[each.name] for each in fields(Account)]


async def create_account(
    database: Database, keys: MasterKeys, email: str, plan: str = "free"
) -> NewAccount:
    """Make an account and its token, as `metrion_api`.

    Raises:
        AlreadyExists: there is an account with this address (upper and lower case are the same).
        InvalidValue: `email` is no address or `plan` no plan.
    """
    email = checked_email(email)
    get_plan(plan)
    account_id = uuid7()
    try:
        async with database.account(account_id) as connection:
            await connection.execute(insert(accounts).values(id=account_id, email=email, plan=plan))
            token_id, token, digest, sealed = _new_token(keys, account_id)
            await connection.execute(
                insert(tokens).values(
                    account_id=account_id, id=token_id, digest=digest, sealed=sealed
                )
            )
    except IntegrityError:
        raise AlreadyExists(f"there is an account for {email} already") from None
    return NewAccount(account_id, token)


async def find_account(connection: AsyncConnection, email: str) -> uuid.UUID | None:
    """Return the id of the account with this address, or None (`Database.system`, as the API)."""
    return (await connection.execute(_FIND, {"email": email.strip()})).scalar_one()


async def account_by_token(
    statements: SingleStatements, digests: Sequence[bytes]
) -> AccountCaller | None:
    """Return the account whose live token has one of the digests, or None; as `metrion_api`.

    Raises:
        DatabaseUnavailable: the next try may work.
    """
    row = await statements.look_up(_BY_TOKEN, [list(digests)])
    return None if row is None else AccountCaller(*row)


async def get_account(connection: AsyncConnection) -> Account:
    """Return the transaction's account.

    Raises:
        NotFound: it does not exist.
    """
    query = select(*_FIELDS).where(accounts.c.id == this_account)
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        raise NotFound("there is no such account")
    return Account(**row)


async def list_accounts(connection: AsyncConnection, *, limit: int | None = None) -> list[Account]:
    """Return accounts, the oldest first: `limit` of them, or all.

    For the administrator only: `Database(administrator_url, act_as=roles.OWNER).system()`. No
    service role has the right.
    """
    rows = await connection.execute(_LIST, {"most": limit})
    return [Account(**row) for row in rows.mappings()]


async def set_plan(connection: AsyncConnection, plan: str) -> None:
    """Change the transaction's account to another plan, at once in all it decides.

    Log rows that the old plan still showed stay for the new plan's time; rows older than the new
    plan's time are invisible from now on, also after another change.

    Raises:
        NotFound: the account does not exist.
        InvalidValue: `plan` is no plan.
    """
    get_plan(plan)
    done = await connection.execute(
        update(accounts).where(accounts.c.id == this_account).values(plan=plan)
    )
    if done.rowcount == 0:
        raise NotFound("there is no such account")


async def set_currency(connection: AsyncConnection, currency: str) -> None:
    """Choose what the account's pages show money in; the log stays in USD.

    Raises:
        NotFound: the account does not exist.
        InvalidValue: `currency` is none of `CURRENCIES`.
    """
    if currency not in CURRENCIES:
        raise InvalidValue(f"a currency is one of: {', '.join(CURRENCIES)}")
    done = await connection.execute(
        update(accounts).where(accounts.c.id == this_account).values(currency=currency)
    )
    if done.rowcount == 0:
        raise NotFound("there is no such account")


async def regenerate_token(
    connection: AsyncConnection, keys: MasterKeys, account_id: uuid.UUID
) -> str:
    """Replace the account's token and return the new one.

    The old one is dead when the transaction commits: a proxy process that hears of it then stops
    trusting it at once, one that cannot hear within `storage.invalidation.LEASE_SECONDS`.

    Raises:
        NotFound: the account does not exist.
    """
    token_id, token, digest, sealed = _new_token(keys, account_id)
    done = await connection.execute(
        update(tokens)
        .where(tokens.c.account_id == this_account)
        .values(id=token_id, digest=digest, sealed=sealed, created_at=func.now())
    )
    if done.rowcount == 0:
        raise NotFound("there is no such account")
    return token


async def reveal_token(connection: AsyncConnection, keys: MasterKeys, account_id: uuid.UUID) -> str:
    """Return the account's token in clear.

    Raises:
        NotFound: the account does not exist.
        SealingError: its master key is not on the ring, or the row was tampered with.
    """
    return (await get_token(connection, keys, account_id)).token


async def get_token(
    connection: AsyncConnection, keys: MasterKeys, account_id: uuid.UUID
) -> LiveToken:
    """Return the account's token in clear, and since when it is good.

    Raises:
        NotFound, SealingError: as `reveal_token`.
    """
    columns = tokens.c
    query = select(columns.id, columns.sealed, columns.created_at).where(
        columns.account_id == this_account
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound("there is no such account")
    token = keys.open(row.sealed, token_binding(account_id, row.id)).decode()
    return LiveToken(token, row.created_at)


def token_binding(account_id: uuid.UUID, token_id: uuid.UUID) -> Binding:
    """Return the one place where a sealed token opens."""
    return Binding("tokens", "sealed", account_id, str(token_id))


def _new_token(keys: MasterKeys, account_id: uuid.UUID) -> tuple[uuid.UUID, str, bytes, bytes]:
    """Return a new token's id, itself, its digest and its sealed copy."""
    token_id, token = uuid7(), new_token()
    sealed = keys.seal(token.encode(), token_binding(account_id, token_id))
    return token_id, token, keys.token_digests(token)[0], sealed
