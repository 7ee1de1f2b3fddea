"""Codes sent by mail: six digits that prove who reads an address's mail, once.

The database keeps one live code per purpose and address, as keyed digests of both, and holds the
limits (10 minutes, 5 tries, 5 codes an hour, 20 a day): they hold over all processes. With them
somebody who guesses has a chance of 1 in 10,000 a day. Addresses without an account are treated
alike, so that nothing can be learned from an answer.
"""

import secrets
import uuid
from dataclasses import dataclass, field
from typing import Final, Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.addresses import folded
from storage.errors import TooManyCodes
from storage.sealing import MasterKeys

type Purpose = Literal["sign_in", "deletion"]

CODE_MINUTES: Final = 10
CODE_DIGITS: Final = 6

_ISSUE = text("""
    SELECT account_id, wait_seconds FROM metrion.issue_code(:purpose, :email, :address, :digest)
""")
_TRY = text("SELECT metrion.try_code(:purpose, :addresses, :digests)")


@dataclass(frozen=True, slots=True)
class IssuedCode:
    """A code that is good from now on."""

    code: str = field(repr=False)
    account_id: uuid.UUID | None
    """Whose address it is; None: there is no such account."""


async def issue_code(
    connection: AsyncConnection, keys: MasterKeys, purpose: Purpose, email: str
) -> IssuedCode:
    """Make a new code for an address; the one before no longer works (`Database.system`, as API).

    Raises:
        TooManyCodes: the address was sent enough for now; the code before still works.
    """
    code = f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}}"
    row = await connection.execute(
        _ISSUE,
        {
            "purpose": purpose,
            "email": email,
            "address": _address_digests(keys, email)[0],
            "digest": _code_digests(keys, purpose, email, code)[0],
        },
    )
    account_id, wait_seconds = row.one()
    if wait_seconds:
        raise TooManyCodes(wait_seconds)
    return IssuedCode(code, account_id)


async def try_code(
    connection: AsyncConnection, keys: MasterKeys, purpose: Purpose, email: str, code: str
) -> bool:
    """Say whether `code` is the address's live one, and use it up (`Database.system`, as API).

    A wrong one costs a try, but only if the transaction is committed: raise after it.
    """
    result = await connection.execute(
        _TRY,
        {
            "purpose": purpose,
            "addresses": _address_digests(keys, email),
            "digests": _code_digests(keys, purpose, email, code),
        },
    )
    return result.scalar_one()


def _address_digests(keys: MasterKeys, email: str) -> list[bytes]:
    return keys.digests("address", folded(email))


def _code_digests(keys: MasterKeys, purpose: Purpose, email: str, code: str) -> list[bytes]:
    return keys.digests(f"code {purpose}", f"{code} {folded(email)}")
