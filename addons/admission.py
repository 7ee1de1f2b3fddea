"""Who may send how much: the one function that every forwarded request passes.

Two limits (SPEC section 6): requests per minute and token, and requests per calendar month (UTC)
and account. The minute is a moving window; requests that were refused for it do not count.
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime

from limits import RateLimitItemPerMinute
from limits.aio.storage import Storage
from limits.aio.strategies import MovingWindowRateLimiter

from addons.exchange import Exchange, Refused

WINDOW_SECONDS = 60


class Admission:
    """Limits of all callers of this process, or of all processes that share a store.

    Args:
        store: where the window is kept: memory of this process, or Valkey for several.
        rate_per_minute: requests per 60 seconds and token.
        monthly_requests_free: requests per calendar month of an account on the Free plan.
        now: wall clock in seconds since 1970, the clock that `limits` uses.
    """

    def __init__(
        self,
        store: Storage,
        *,
        rate_per_minute: int,
        monthly_requests_free: int,
        now: Callable[[], float],
    ) -> None:
        self._window = MovingWindowRateLimiter(store)
        self._rate = RateLimitItemPerMinute(rate_per_minute)
        self._monthly_requests_free = monthly_requests_free
        self._now = now

    async def admit(self, exchange: Exchange) -> None:
        """Count the request, or refuse it.

        Raises:
            Refused: 429 `rate_limited` or `monthly_limit`, with the seconds to wait.
        """
        caller = exchange.caller
        if caller is None:
            message = "admission before authentication"
            raise RuntimeError(message)
        account = str(caller.account_id)
        if not await self._window.hit(self._rate, account):
            stats = await self._window.get_window_stats(self._rate, account)
            wait = max(1, math.ceil(stats.reset_time - self._now()))
            message = (
                f"More than {self._rate.amount} requests in {WINDOW_SECONDS} seconds. "
                f"Try again in {wait} seconds."
            )
            raise Refused(429, "rate_limited", message, retry_after=min(wait, WINDOW_SECONDS))


def seconds_to_next_month(now: float) -> int:
    """Whole seconds until the first of the next month, 00:00 UTC."""
    today = datetime.fromtimestamp(now, UTC)
    year, month = divmod(today.year * 12 + today.month, 12)
    return math.ceil(datetime(year, month + 1, 1, tzinfo=UTC).timestamp() - now)
