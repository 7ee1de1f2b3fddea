"""Who may send how much: the one place that every forwarded request passes, twice.

Two limits (SPEC section 6): requests per minute, and requests per calendar month (UTC). `admit`
decides on the head and counts for the minute. The month counts what is forwarded, so its count is
in `count_forwarded`, at the very moment when nothing can refuse the request any more: there is no
reservation that somebody could forget to give back, and check and count are one step.

What is shared with other processes is named by the account's id: no secret, and the same for all of
them whatever master keys they have, so that no rotation begins a second window. Only nobody's
requests go by digests, of their own key and their address, under a key that is made of the master
key: a rotation begins their windows anew, once.
"""

import math
import time
from collections.abc import Callable

from addons.exchange import Exchange
from addons.monthly_allowance import MonthlyAllowance
from addons.outcome import Refused
from addons.rate_window import WINDOW_SECONDS, MemoryWindow, RateWindow, SharedWindow
from addons.shared_store import SharedStore
from storage.callers import Caller


class Admission:
    """Limits of all callers of this process, or of all processes that share a store.

    Args:
        store: counts for all processes that share it; None: this one counts alone.
        rate_per_minute: requests per 60 seconds and account.
        monthly_requests_free: requests per calendar month of an account on the Free plan.
        now: wall clock in seconds since 1970.
        digest: makes of what must not be kept in clear what may be; the same in all processes that
            share a store.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        store: SharedStore | None,
        *,
        rate_per_minute: int,
        monthly_requests_free: int,
        now: Callable[[], float],
        digest: Callable[[str], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate_per_minute = rate_per_minute
        self._window: RateWindow = (
            MemoryWindow(rate_per_minute, clock)
            if store is None
            else SharedWindow(store, rate_per_minute, clock)
        )
        self._allowance = MonthlyAllowance(monthly_requests_free, now, store)
        # Keys of others are not kept in clear, not even as keys of the window.
        self._digest = digest

    async def admit(self, exchange: Exchange) -> None:
        """Decide on the head; counts for the minute. A request refused here counts for neither.

        Raises:
            Refused: 429 `rate_limited` or `monthly_limit`, with the seconds to wait.
        """
        if exchange.is_anonymous:
            await self._admit_anonymous(exchange)
            return
        caller = _caller_of(exchange)
        self._allowance.check(caller)
        await self._hit(str(caller.account_id))

    async def _admit_anonymous(self, exchange: Exchange) -> None:
        """Nobody's requests are limited by their key's digest and by their client's address."""
        if exchange.own_key is None:
            raise RuntimeError("an anonymous request without a key")
        await self._hit(self._digest(f"key {exchange.own_key}"))
        await self._hit(self._digest(f"address {exchange.client}"))

    async def _hit(self, key: str) -> None:
        wait = await self._window.hit(key)
        if wait > 0:
            seconds = math.ceil(wait)
            message = (
                f"More than {self._rate_per_minute} requests in {WINDOW_SECONDS:g} seconds. "
                f"Try again in {seconds} second{'' if seconds == 1 else 's'}."
            )
            raise Refused(429, "rate_limited", message, retry_after=seconds)

    async def count_forwarded(self, exchange: Exchange) -> None:
        """Count a request for the month: the last thing before it is forwarded or replayed.

        Raises:
            Refused: 429 `monthly_limit`, if others have used the allowance up since `admit`.
        """
        if not exchange.is_anonymous:
            await self._allowance.spend(_caller_of(exchange))


def _caller_of(exchange: Exchange) -> Caller:
    if exchange.caller is None:
        raise RuntimeError("admission before authentication")
    return exchange.caller
