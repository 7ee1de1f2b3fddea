"""Token → account and its sealed provider keys, from a short-lived cache kept honest by NOTIFY.

Rules, so that a revoked token is refused by every process as soon as the change is committed:

1. A cached answer counts for up to `TRUST_SECONDS`, and only while the listener is provably alive;
   without it, the database is asked for every request.
2. A change of an account drops what is cached of it. When the listener was or may have been away,
   nothing that is cached counts before the database was asked again.
3. An answer that was read before an invalidation arrived serves the request that asked for it,
   but is not kept.
4. If the database cannot be asked, an answer that nothing spoke against serves for up to
   `OFFLINE_SECONDS` more: no change can be committed to a database that is away. (The price: a
   proxy that alone is cut off from a living database trusts its last answers for that long.)
"""

import hashlib
import math
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from addons.outcome import Refused
from storage.callers import Caller
from storage.errors import DatabaseUnavailable

TRUST_SECONDS = 60.0
UNKNOWN_SECONDS = 2.0
OFFLINE_SECONDS = 2 * 3600.0
# After a look-up failed, how long the database counts as away without being asked: a black hole
# would cost every request its connect timeout.
AWAY_SECONDS = 1.0
MAX_CALLERS = 10_000
MAX_UNKNOWN = 1_000


@dataclass(slots=True)
class _Entry:
    """A caller and when the database last confirmed it (seconds of the keyring's clock)."""

    caller: Caller
    confirmed_at: float
    expires_at: float


class Keyring:
    """The callers that this process knows.

    Args:
        find_caller: asks the database for the account of a token; None if there is none. Raises
            `DatabaseUnavailable`.
        is_listening: whether invalidations are provably arriving.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        find_caller: Callable[[str], Awaitable[Caller | None]],
        is_listening: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._find_caller = find_caller
        self._is_listening = is_listening
        self._clock = clock
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        self._generation = 0
        self._away_until = -math.inf
        # Tokens are not kept in clear, not even as keys of this cache.
        self._cache_key = secrets.token_bytes(32)

    async def identify(self, token: str) -> Caller:
        """The account of a well-formed token.

        Raises:
            Refused: 401 `invalid_token`; 503 `unavailable` if the database is away and the token
                is not in the cache.
        """
        # a keyed hash like HMAC, in a fifth of its time
        digest = hashlib.blake2b(token.encode(), key=self._cache_key, digest_size=32).digest()
        entry = self._entries.get(digest)
        now = self._clock()
        if entry is not None and now < entry.confirmed_at + TRUST_SECONDS and self._is_listening():
            self._entries.move_to_end(digest)
            return entry.caller
        if now < self._unknown.get(digest, -math.inf):
            raise _invalid_token()
        return await self._look_up(token, digest)

    async def _look_up(self, token: str, digest: bytes) -> Caller:
        if self._clock() < self._away_until:
            return self._offline(digest)
        generation = self._generation
        try:
            caller = await self._find_caller(token)
        except DatabaseUnavailable:
            self._away_until = self._clock() + AWAY_SECONDS
            return self._offline(digest)
        is_current = generation == self._generation
        if caller is None:
            # Whatever was read: an answer that the database has spoken against is never used again.
            self._entries.pop(digest, None)
            if is_current:
                self._remember_unknown(digest)
            raise _invalid_token()
        if is_current:
            self._keep(digest, caller)
        return caller

    def _offline(self, digest: bytes) -> Caller:
        # Looked for again: it may have been dropped while the database was asked.
        entry = self._entries.get(digest)
        if entry is None or self._clock() >= entry.expires_at:
            raise _unavailable()
        return entry.caller

    def _keep(self, digest: bytes, caller: Caller) -> None:
        now = self._clock()
        self._unknown.pop(digest, None)
        self._entries[digest] = _Entry(caller, now, now + OFFLINE_SECONDS)
        self._entries.move_to_end(digest)
        if len(self._entries) > MAX_CALLERS:
            self._entries.popitem(last=False)

    def _remember_unknown(self, digest: bytes) -> None:
        # Unknown tokens have a small store of their own: guessing pushes no caller out.
        self._unknown[digest] = self._clock() + UNKNOWN_SECONDS
        if len(self._unknown) > MAX_UNKNOWN:
            self._unknown.popitem(last=False)

    def invalidate(self, account_id: UUID | None) -> None:
        """Forget what may have changed.

        Args:
            account_id: whose token, keys or plan changed; None if invalidations may have been
                missed: then everything is asked for again before it counts.
        """
        self._generation += 1
        self._unknown.clear()
        if account_id is None:
            for entry in self._entries.values():
                entry.confirmed_at = -math.inf
            return
        stale = [
            digest
            for digest, entry in self._entries.items()
            if entry.caller.account_id == account_id
        ]
        for digest in stale:
            del self._entries[digest]


def _invalid_token() -> Refused:
    return Refused(
        401,
        "invalid_token",
        "This Metrion token is not known: it is mistyped or was regenerated. "
        "Copy the current one from Integrate.",
    )


def _unavailable() -> Refused:
    return Refused(
        503,
        "unavailable",
        "Metrion cannot check this token at the moment. Try again shortly.",
        retry_after=1,
    )
