"""An account's provider keys: set, listed by their last four characters, deleted; never read back.

The API's role cannot read the sealed column. Only the proxy gets it, by `storage.callers`, which
also says where a sealed key opens.
"""

import re
import uuid
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.callers import key_binding
from storage.errors import InvalidValue, NotFound
from storage.models import provider_keys, this_account
from storage.sealing import MasterKeys
from storage.tokens import TOKEN_PREFIX

SHOWN_CHARACTERS = 4
_SHORTEST_KEY, _LONGEST_KEY = 8, 1000
_KEY = re.compile(r"[\x21-\x7e]+")  # it travels in a header
_PROVIDER = re.compile(r"[a-z0-9_-]{1,32}")


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """What may be shown of a stored key."""

    provider: str
    last_four: str
    created_at: datetime


async def set_key(
    connection: AsyncConnection,
    keys: MasterKeys,
    account_id: uuid.UUID,
    provider: str,
    key: str,
) -> ProviderKey:
    """Seal and store the account's key for a provider, in place of one that may be there.

    Every proxy process forgets the old one when the transaction (`Database.account`) commits.

    Raises:
        InvalidValue: `provider` or `key` cannot be one, by its form; the key is not repeated.
    """
    _check(provider, key)
    # of a key too short to hide anything nothing is shown
    new = {
        "sealed": keys.seal(key.encode(), key_binding(account_id, provider)),
        "last_four": key[-SHOWN_CHARACTERS:] if len(key) > 4 * SHOWN_CHARACTERS else "",
        "created_at": func.now(),
    }
    statement = (
        insert(provider_keys)
        .values(account_id=account_id, provider=provider, **new)
        .on_conflict_do_update(index_elements=["account_id", "provider"], set_=new)
        .returning(provider_keys.c.last_four, provider_keys.c.created_at)
    )
    row = (await connection.execute(statement)).one()
    return ProviderKey(provider, row.last_four, row.created_at)


async def list_keys(connection: AsyncConnection) -> list[ProviderKey]:
    """Return what may be shown of the account's keys, by provider."""
    columns = provider_keys.c
    rows = await connection.execute(
        select(columns.provider, columns.last_four, columns.created_at)
        .where(columns.account_id == this_account)
        .order_by(columns.provider)
    )
    return [ProviderKey(row.provider, row.last_four, row.created_at) for row in rows]


async def delete_key(connection: AsyncConnection, provider: str) -> None:
    """Delete the account's key for a provider.

    Raises:
        NotFound: there is none.
    """
    done = await connection.execute(
        delete(provider_keys).where(
            provider_keys.c.account_id == this_account, provider_keys.c.provider == provider
        )
    )
    if done.rowcount == 0:
        raise NotFound(f"there is no key for {provider}")


def _check(provider: str, key: str) -> None:
    if _PROVIDER.fullmatch(provider) is None:
        raise InvalidValue("a provider's name has lower-case letters, digits, _ and -")
    if not _SHORTEST_KEY <= len(key) <= _LONGEST_KEY or _KEY.fullmatch(key) is None:
        raise InvalidValue(
            f"a provider key has {_SHORTEST_KEY} to {_LONGEST_KEY} printable ASCII characters "
            "and no spaces"
        )
    if TOKEN_PREFIX in key.lower():
        # pasted into the wrong field; a provider must not get it
        raise InvalidValue("this is a Metrion Key; what is stored is a key that the provider gave")
