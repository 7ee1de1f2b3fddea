"""Sessions of people who signed in: a random secret in a cookie, its keyed digest at rest."""

import re
import secrets
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, func, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.accounts import AccountCaller
from storage.chunked_deletion import delete_in_chunks
from storage.database import Database
from storage.errors import NotFound
from storage.identifiers import uuid7
from storage.models import sessions, this_account
from storage.sealing import MasterKeys
from storage.single_statements import SingleStatements

LIFE: Final = timedelta(days=30)
MOST_SESSIONS: Final = 50
"""Per account; one more ends the oldest."""
_LONGEST_USER_AGENT: Final = 300
_SECRET_BYTES = 32
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
_CHUNK = 5000

_FIND = "SELECT account_id, plan, session_id FROM metrion.session_by_digest(%s::bytea[])"
_DELETE_EXPIRED = text("SELECT metrion.delete_expired_sign_ins(:chunk)")


@dataclass(frozen=True, slots=True)
class Session:
    """A session, as its owner sees it."""

    id: uuid.UUID
    user_agent: str | None
    """The browser, as it named itself."""
    created_at: datetime
    last_seen_at: datetime
    """To the minute."""


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session that was just made, and the secret that is it."""

    id: uuid.UUID
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignedIn(AccountCaller):
    """The account behind a session."""

    session_id: uuid.UUID


async def create_session(
    connection: AsyncConnection, keys: MasterKeys, account_id: uuid.UUID, user_agent: str | None
) -> NewSession:
    """Make a session of the transaction's account, and end its oldest above `MOST_SESSIONS`.

    Raises:
        NotFound: the account is gone, or being erased.
    """
    new = NewSession(uuid7(), secrets.token_urlsafe(_SECRET_BYTES))
    too_many = (
        select(sessions.c.id)
        .where(sessions.c.account_id == this_account)
        .order_by(sessions.c.created_at.desc(), sessions.c.id.desc())
        .offset(MOST_SESSIONS - 1)
    )
    await connection.execute(delete(sessions).where(sessions.c.id.in_(too_many)))
    session = insert(sessions).values(
        id=new.id,
        account_id=account_id,
        digest=_digests(keys, new.secret)[0],
        user_agent=user_agent and user_agent[:_LONGEST_USER_AGENT].replace("\0", ""),
        expires_at=func.now() + LIFE,
    )
    try:
        await connection.execute(session)
    except IntegrityError:  # see metrion.refuse_erased
        raise NotFound("the account is deleted, or being deleted") from None
    return new


async def find_session(
    statements: SingleStatements, keys: MasterKeys, secret: str
) -> SignedIn | None:
    """Return whose session has this secret, or None; as `metrion_api`.

    What cannot be a secret is not looked up.

    Raises:
        DatabaseUnavailable: the next try may work.
    """
    if _SECRET.fullmatch(secret) is None:
        return None
    row = await statements.look_up(_FIND, [_digests(keys, secret)])
    return None if row is None else SignedIn(*row)


async def list_sessions(connection: AsyncConnection) -> list[Session]:
    """Return the account's live sessions, the newest first."""
    columns = sessions.c
    rows = await connection.execute(
        select(columns.id, columns.user_agent, columns.created_at, columns.last_seen_at)
        .where(columns.account_id == this_account, columns.expires_at > func.now())
        .order_by(columns.created_at.desc(), columns.id.desc())
        .limit(MOST_SESSIONS)
    )
    return [Session(**row) for row in rows.mappings()]


async def delete_session(connection: AsyncConnection, session_id: uuid.UUID) -> None:
    """End a session of the account, at once.

    Raises:
        NotFound: it has no such session.
    """
    done = await connection.execute(
        delete(sessions).where(sessions.c.account_id == this_account, sessions.c.id == session_id)
    )
    if done.rowcount == 0:
        raise NotFound("there is no such session")


async def delete_expired(database: Database) -> int:
    """Delete sessions and codes that nobody can use any more, as `metrion_jobs`; return how many.

    Raises:
        DatabaseUnavailable: what was deleted before stays deleted.
    """
    return await delete_in_chunks(database, _DELETE_EXPIRED, _CHUNK)


def _digests(keys: MasterKeys, secret: str) -> list[bytes]:
    return keys.digests("session", secret)
