"""Who is calling: from a token's digests to the account and its sealed provider keys.

For the proxy, which does without SQLAlchemy (see `storage.database_url`); the API asks
`storage.accounts`.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from storage.sealing import Binding
from storage.single_statements import SingleStatements

_LOOKUP = """
    SELECT account_id, plan, providers, sealed, month, month_requests
    FROM metrion.lookup_token(%s::bytea[])
"""


@dataclass(frozen=True, slots=True)
class Caller:
    """The account behind a token, as the proxy knows it."""

    account_id: uuid.UUID
    plan: str
    sealed_keys: Mapping[str, bytes] = field(repr=False)
    """Provider → sealed key; see `key_binding`."""
    month: date
    """The first day of the month (UTC, the database's clock) that `month_requests` is about."""
    month_requests: int
    """Requests recorded this month that were forwarded, or answered from the cache.

    0 in a plan without a limit.
    """


def key_binding(account_id: uuid.UUID, provider: str) -> Binding:
    """Return the one place where a provider's sealed key opens."""
    return Binding("provider_keys", "sealed", account_id, provider)


async def find_caller(statements: SingleStatements, digests: Sequence[bytes]) -> Caller | None:
    """Return the caller whose live token has one of the digests, or None.

    Args:
        statements: as `metrion_proxy`, the one role that may do this.
        digests: `MasterKeys.token_digests(token)`.

    Raises:
        DatabaseUnavailable: the next try may work.
    """
    row = await statements.look_up(_LOOKUP, [list(digests)])
    if row is None:
        return None
    account_id, plan, providers, sealed, month, month_requests = row
    keys = dict(zip(providers, map(bytes, sealed), strict=True))
    return Caller(account_id, plan, keys, month, month_requests)
